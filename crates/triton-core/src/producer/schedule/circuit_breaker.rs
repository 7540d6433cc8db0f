//! Stops sending while calls fail, whichever shards they are for.

use tokio::time::Instant;

use crate::flow::Backoff;

/// Failed calls in a row that open the breaker: then not one shard fails, but the whole stream.
const OPENS_AFTER: u32 = 3;

/// Stops all sending after several failed calls in a row, for one backoff at a time.
#[derive(Debug)]
pub(super) struct CircuitBreaker {
    failures: u32,
    open_until: Option<Instant>,
    backoff: Backoff,
}

impl CircuitBreaker {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { failures: 0, open_until: None, backoff }
    }

    /// Nothing is sent before; `None` while calls succeed.
    pub(super) fn open_until(&self) -> Option<Instant> {
        self.open_until
    }

    /// A call had no answer.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures += 1;
        if self.failures >= OPENS_AFTER && self.open_until.is_none_or(|until| until <= now) {
            self.open_until = Some(now + self.backoff.next_wait());
        }
    }

    /// A call was answered.
    pub(super) fn answered(&mut self) {
        if self.failures > 0 {
            (self.failures, self.open_until) = (0, None);
            self.backoff.reset();
        }
    }
}
