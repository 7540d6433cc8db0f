//! Stops a reader. Fetching stops at once. Records that were fetched are delivered, or discarded at a deadline.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Longest time to a deadline, so that adding it to a time does not overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Stops a [`Reader`](crate::Reader), from any task and at any time. Of several calls, the earliest deadline holds.
#[derive(Clone, Debug)]
pub struct StopHandle {
    stop: CancellationToken,
    /// When records that were fetched and not delivered are discarded.
    discard_at: Arc<watch::Sender<Option<Instant>>>,
}

impl StopHandle {
    pub(super) fn new() -> Self {
        Self { stop: CancellationToken::new(), discard_at: Arc::new(watch::Sender::new(None)) }
    }

    /// Stops fetching. Records that were fetched are still delivered; then the reader ends.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops fetching, and discards the records that were fetched and not delivered. The reader ends at once; its
    /// [checkpoints](crate::Reader::checkpoints) cover only what was delivered.
    pub fn stop_now(&self) {
        self.stop_within(Duration::ZERO);
    }

    /// Stops fetching, delivers what was fetched for this long, and discards the rest.
    pub fn stop_within(&self, duration: Duration) {
        self.stop.cancel();
        let deadline = Instant::now() + duration.min(LONGEST);
        self.discard_at.send_if_modified(|discard_at| {
            let is_earlier = discard_at.is_none_or(|discard_at| deadline < discard_at);
            if is_earlier {
                *discard_at = Some(deadline);
            }
            is_earlier
        });
    }

    /// Cancelled when fetching stops.
    pub(super) fn stopped(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// The future of the deadline.
    pub(super) fn deadline(&self) -> Deadline {
        let mut discard_at = self.discard_at.subscribe();
        let waiting = async move {
            loop {
                let deadline = *discard_at.borrow_and_update();
                tokio::select! {
                    biased;
                    () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => return,
                    // The reader itself holds a handle, so the channel stays open.
                    _ = discard_at.changed() => {}
                }
            }
        };
        Deadline { stop: self.stop.clone(), waiting: Some(Box::pin(waiting)) }
    }
}

/// The time at which records that were fetched and not delivered are discarded.
pub(super) struct Deadline {
    stop: CancellationToken,
    /// `None` once it has passed.
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Deadline {
    /// Whether the deadline has passed, where it may have: costs little before the reader is stopped.
    pub(super) fn has_passed(&mut self, context: &mut Context<'_>) -> bool {
        if self.waiting.is_some() && self.stop.is_cancelled() { self.poll(context) } else { self.waiting.is_none() }
    }

    /// Whether the deadline has passed. Otherwise the task is woken when it does.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> bool {
        if let Some(waiting) = &mut self.waiting
            && let Poll::Ready(()) = waiting.as_mut().poll(context)
        {
            self.waiting = None;
        }
        self.waiting.is_none()
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.waiting.is_some() { "waiting" } else { "passed" })
    }
}
