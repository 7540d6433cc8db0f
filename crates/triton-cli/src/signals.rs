//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second for an immediate one.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::FutureExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit::{self, Code, Failure};

/// `timeout`, `make` and shells send a signal to a process and to its group: signals within this time count as one.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// Number of signals received.
#[derive(Clone, Debug)]
pub(crate) struct Signals(watch::Receiver<usize>);

impl Signals {
    /// Handles the signals from here on: a task counts them until the process ends.
    pub(crate) fn listen() -> Result<Self> {
        let cannot = "signal handlers cannot be installed";
        let mut interrupt = signal(SignalKind::interrupt()).context(cannot)?;
        let mut terminate = signal(SignalKind::terminate()).context(cannot)?;
        let (count, signals) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    Some(()) = interrupt.recv() => {}
                    Some(()) = terminate.recv() => {}
                    else => return,
                }
                count.send_modify(|count| *count += 1);
                tokio::time::sleep(SAME_SIGNAL).await;
                while interrupt.recv().now_or_never().is_some() || terminate.recv().now_or_never().is_some() {}
            }
        });
        Ok(Self(signals))
    }

    /// Waits for the first signal.
    pub(crate) async fn first(&mut self) {
        self.at_least(1).await;
    }

    /// Runs work that ends by itself after the first signal. Returns `None` if a second signal cancels it.
    ///
    /// On `None` the caller ends the process by [`leave`], since a thread may still be blocked.
    pub(crate) async fn or_second<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut signals = self.clone();
        tokio::select! {
            biased;
            () = signals.at_least(2) => None,
            outcome = work => Some(outcome),
        }
    }

    async fn at_least(&mut self, wanted: usize) {
        if self.0.wait_for(|count| *count >= wanted).await.is_err() {
            // No more signals will be counted.
            std::future::pending().await
        }
    }
}

/// Ends the process after a second signal, even if a thread is blocked.
pub(crate) fn leave(message: String) -> ! {
    exit::report(&Failure::new(Code::Interrupted, message).into());
    std::process::exit(Code::Interrupted as i32)
}
