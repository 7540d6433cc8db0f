//! The records that wait for one shard, and the rate at which they may be sent.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::flow::Backoff;
use crate::flow::rate_limiter::RateLimiter;
use crate::record::PutReceipt;

use super::record::QueuedRecord;

/// The records that wait for one shard.
pub(super) struct ShardQueue {
    /// May be sent, oldest first.
    records: VecDeque<QueuedRecord>,
    /// Bytes of their payloads and keys.
    bytes: usize,
    /// When the oldest was submitted, or one that was sent since the queue was last empty: a record that had to wait for its
    /// predecessor stands behind younger ones.
    oldest: Option<Instant>,
    limiter: Option<RateLimiter>,
    /// Batches with records of this queue that have no answer yet, and how many there may be.
    in_flight: usize,
    max_in_flight: usize,
    /// Whether its records have to wait for the outcome of others of their keys, whatever is in flight.
    is_held: bool,
    backoff: Backoff,
    /// Nothing is sent before.
    blocked_until: Option<Instant>,
    /// Since when nothing has succeeded.
    failing_since: Option<Instant>,
    last_error: Option<Error>,
    /// Whether it is among the queues that wait for their turn.
    pub(super) has_turn: bool,
}

/// The results of a queue's items in a batch.
#[derive(Debug, Default)]
pub(super) struct Tally {
    bytes: usize,
    stored: usize,
    throttled: usize,
    failure: Option<Error>,
}

impl Tally {
    /// Adds the result of a batch item of `bytes` bytes.
    pub(super) fn add(&mut self, result: &Result<PutReceipt>, bytes: usize) {
        match result {
            Ok(_) => {
                self.bytes += bytes;
                self.stored += 1;
            }
            Err(error) => {
                self.throttled += usize::from(error.kind() == ErrorKind::Throttled);
                self.failure = Some(error.clone());
            }
        }
    }

    /// Items that were refused for the shard's quota.
    pub(super) fn throttled(&self) -> usize {
        self.throttled
    }
}

impl ShardQueue {
    /// An empty queue.
    pub(super) fn new(limiter: Option<RateLimiter>, backoff: Backoff, max_in_flight: usize) -> Self {
        Self {
            records: VecDeque::new(),
            bytes: 0,
            oldest: None,
            limiter,
            in_flight: 0,
            max_in_flight,
            is_held: false,
            backoff,
            blocked_until: None,
            failing_since: None,
            last_error: None,
            has_turn: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn front(&self) -> Option<&QueuedRecord> {
        self.records.front()
    }

    /// When the first record to be sent was submitted; `None` if the queue is empty.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.oldest
    }

    fn entered(&mut self, record: &QueuedRecord) {
        self.bytes += record.entry.size();
        let submitted_at = record.state.submitted_at;
        self.oldest = Some(self.oldest.map_or(submitted_at, |oldest| oldest.min(submitted_at)));
    }

    pub(super) fn push_back(&mut self, record: QueuedRecord) {
        self.entered(&record);
        self.records.push_back(record);
    }

    pub(super) fn push_front(&mut self, record: QueuedRecord) {
        self.entered(&record);
        self.records.push_front(record);
    }

    pub(super) fn pop_front(&mut self) -> Option<QueuedRecord> {
        let record = self.records.pop_front()?;
        self.bytes -= record.entry.size();
        if self.records.is_empty() {
            self.oldest = None;
        }
        Some(record)
    }

    /// Removes every record.
    pub(super) fn take_all(&mut self) -> VecDeque<QueuedRecord> {
        (self.bytes, self.oldest) = (0, None);
        std::mem::take(&mut self.records)
    }

    /// Removes the records for which `take` is true.
    pub(super) fn extract(&mut self, mut take: impl FnMut(&QueuedRecord) -> bool) -> VecDeque<QueuedRecord> {
        // Usually there are none, and nothing is moved.
        if !self.records.iter().any(&mut take) {
            return VecDeque::new();
        }
        let (taken, kept): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.records).into_iter().partition(|record| take(record));
        self.oldest = kept.iter().map(|record| record.state.submitted_at).min();
        self.records = kept;
        self.bytes -= taken.iter().map(|record| record.entry.size()).sum::<usize>();
        taken
    }

    /// The earliest time at which the queue may send its next batch item; `None` if that depends on an answer, or if it is
    /// empty. This is the one rule for when a queue may send.
    pub(super) fn sends_at(&mut self, now: Instant) -> Option<Instant> {
        if self.records.is_empty() || self.is_held || self.in_flight >= self.max_in_flight {
            return None;
        }
        Some(self.unblocked_at(now))
    }

    /// The earliest time at which the shard accepts another batch item.
    fn unblocked_at(&mut self, now: Instant) -> Instant {
        let limited = self.limiter.as_mut().map_or(now, |limiter| limiter.ready_at(now));
        limited.max(self.blocked_until.unwrap_or(now))
    }

    /// Whether the queue may send a batch item now.
    pub(super) fn may_send(&mut self, now: Instant) -> bool {
        self.sends_at(now).is_some_and(|at| at <= now)
    }

    /// Whether the shard accepts another batch item now.
    pub(super) fn is_unblocked(&mut self, now: Instant) -> bool {
        self.unblocked_at(now) <= now
    }

    /// Sends nothing until it is released.
    pub(super) fn hold(&mut self) {
        self.is_held = true;
    }

    /// Ends a hold.
    pub(super) fn release(&mut self) {
        self.is_held = false;
    }

    /// Bytes that the shard's quota has left at the moment.
    pub(super) fn quota_left(&mut self, now: Instant) -> usize {
        self.limiter.as_mut().map_or(0, |limiter| limiter.available_bytes(now))
    }

    /// Uses the shard's quota for a batch item of `bytes` bytes.
    pub(super) fn acquire(&mut self, bytes: usize, now: Instant) {
        if let Some(limiter) = &mut self.limiter {
            limiter.acquire(now, bytes, 1);
        }
    }

    /// Notes that a batch with records of this queue is sent.
    pub(super) fn sent(&mut self) {
        self.in_flight += 1;
    }

    /// A batch has its answers: learns the shard's rate from them, and whether to wait before the next attempt.
    pub(super) fn answered(&mut self, tally: &Tally, now: Instant) {
        self.in_flight -= 1;
        if let Some(limiter) = &mut self.limiter {
            limiter.accepted(now, tally.bytes, tally.stored);
            if tally.throttled > 0 {
                limiter.refused(now, tally.throttled);
            }
        }
        if tally.stored > 0 {
            self.backoff.reset();
            (self.failing_since, self.last_error, self.blocked_until) = (None, None, None);
        }
        if let Some(error) = &tally.failure {
            tracing::debug!(%error, "sending again");
            // A batch that was sent before the queue was blocked does not extend the wait.
            if self.blocked_until.is_none_or(|until| until <= now) {
                self.blocked_until = Some(now + self.backoff.next_wait());
            }
            if tally.stored == 0 {
                self.failing_since.get_or_insert(now);
            }
            self.last_error = Some(error.clone());
        }
    }

    /// Removes the records whose next attempt would come later than `deadline` after their first failure, or after the
    /// shard's. Nothing is sent before `resumes_at`, whatever the shard.
    pub(super) fn take_expired(
        &mut self,
        deadline: Duration,
        resumes_at: Option<Instant>,
        now: Instant,
    ) -> Option<(VecDeque<QueuedRecord>, Error)> {
        let error = self.last_error.as_ref()?;
        let next_attempt = self.blocked_until.max(resumes_at).unwrap_or(now);
        let wait = next_attempt.saturating_duration_since(now);
        let is_late = |since: Instant| now.saturating_duration_since(since).saturating_add(wait) >= deadline;
        let queue_since = self.failing_since;
        // Records that have failed stand in front.
        let mut failing = self.records.iter().map_while(|record| record.state.failing_since);
        if !queue_since.is_some_and(is_late) && !failing.any(is_late) {
            return None;
        }
        let error = error.clone();
        let expired = self.extract(|record| {
            record.state.failing_since.is_some_and(is_late)
                || queue_since.is_some_and(|since| is_late(since.max(record.state.submitted_at)))
        });
        (!expired.is_empty()).then_some((expired, error))
    }

    /// The learned rate of the shard, for the queue that replaces this one.
    pub(super) fn take_limiter(&mut self) -> Option<RateLimiter> {
        self.limiter.take()
    }
}
