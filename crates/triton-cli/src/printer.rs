//! Stdout on a thread of its own: what is rendered there never blocks the runtime, and a slow reader slows the source.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::signals::{self, Signals};

/// Items that wait to be printed.
const WAITING: usize = 2;

#[derive(Debug)]
pub(crate) struct Printer<T> {
    items: mpsc::Sender<T>,
    thread: JoinHandle<io::Result<()>>,
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Printed {
    /// It is on its way.
    Taken,
    /// Nobody reads the output any more, or it cannot be written; [`Printer::finish`] tells which.
    Closed,
}

impl<T: Send + 'static> Printer<T> {
    /// Prints what `render` makes of each item.
    pub(crate) fn start(mut render: impl FnMut(T, &mut Vec<u8>) + Send + 'static) -> Self {
        let (items, mut waiting) = mpsc::channel(WAITING);
        let thread = tokio::task::spawn_blocking(move || {
            let mut stdout = io::stdout().lock();
            let mut buffer = Vec::new();
            while let Some(item) = waiting.blocking_recv() {
                render(item, &mut buffer);
                stdout.write_all(&buffer)?;
                stdout.flush()?;
                buffer.clear();
                // One large record does not keep its memory for ever.
                buffer.shrink_to(1 << 20);
            }
            Ok(())
        });
        Self { items, thread }
    }

    /// Waits until the item can be taken.
    ///
    /// # Errors
    /// A second signal, which ends waiting for a reader that does not read.
    pub(crate) async fn print(&self, item: T, signals: &mut Signals) -> Result<Printed> {
        tokio::select! {
            biased;
            () = signals.second() => Err(unprinted()),
            sent = self.items.send(item) => Ok(if sent.is_ok() { Printed::Taken } else { Printed::Closed }),
        }
    }

    /// Waits until everything is printed.
    ///
    /// # Errors
    /// What keeps stdout from being written; a second signal.
    pub(crate) async fn finish(self, signals: &mut Signals) -> Result<()> {
        drop(self.items);
        tokio::select! {
            biased;
            () = signals.second() => Err(unprinted()),
            done = self.thread => done.context("the printing thread panicked")?.context("stdout cannot be written"),
        }
    }
}

fn unprinted() -> anyhow::Error {
    signals::interrupted("interrupted before everything was printed".into())
}
