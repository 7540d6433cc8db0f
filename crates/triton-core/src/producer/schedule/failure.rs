//! Handles failures: another attempt, or the failure of a record and its dependents.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::error::Error;
use crate::record::PartitionKey;

use super::answer::FailedItem;
use super::record::QueuedRecord;
use super::{InFlightRule, Schedule};

/// Keys with a failed record that may still be written, and its error.
pub(super) type UncertainKeys = BTreeMap<PartitionKey, Error>;

impl Schedule {
    /// Batch items were not stored: each of their records is queued again in its place, or fails.
    pub(super) fn failed(&mut self, items: Vec<FailedItem>, now: Instant) {
        let mut uncertain = UncertainKeys::new();
        let mut again = Vec::new();
        for FailedItem { records, entry, error } in items {
            for mut record in records.into_records(entry) {
                record.state.is_uncertain |= error.may_have_written();
                record.state.slot.may_have_written = record.state.is_uncertain;
                if !error.is_retryable() {
                    self.fail(record, &error, &mut uncertain);
                } else if let Some(cause) = uncertain.get(&record.entry.partition_key).cloned() {
                    self.fail_dependent(record, &cause);
                } else {
                    record.state.failing_since.get_or_insert(now);
                    again.push(record);
                }
            }
        }
        // Before the retried records are queued: they precede the failed one, and are not its dependents.
        self.fail_dependents(&uncertain);
        // In reverse, so that the queue keeps their order.
        for record in again.into_iter().rev() {
            self.queues.push_front(record);
        }
    }

    /// Fails the records whose next attempt would come after their deadline.
    pub(super) fn expire(&mut self, now: Instant) {
        loop {
            let (deadline, resumes_at) = (self.settings.deadline, self.breaker.open_until());
            let mut uncertain = UncertainKeys::new();
            let mut is_over = true;
            for queue in 0..self.queues.len() {
                let expired = self.queues.change(queue, |queue| queue.take_expired(deadline, resumes_at, now));
                let Some((expired, error)) = expired else { continue };
                is_over = false;
                for record in expired {
                    self.fail(record, &error, &mut uncertain);
                }
            }
            self.fail_dependents(&uncertain);
            // The successor of an expired record is queued now, and may have expired as well.
            if is_over {
                return;
            }
        }
    }

    /// Fails a record. Its dependents fail with it, or are noted in `uncertain`, for one pass over the queues.
    pub(super) fn fail(&mut self, record: QueuedRecord, error: &Error, uncertain: &mut UncertainKeys) {
        let fails_dependents = record.state.is_uncertain && self.settings.fail_dependents;
        let (id, key) = (record.state.key, record.entry.partition_key.clone());
        self.conclude_failed(record, error.clone());
        match self.settings.rule {
            InFlightRule::OneRecordPerKey => {
                if fails_dependents {
                    for dependent in self.keys.take_waiting(id, &key) {
                        self.fail_dependent(dependent, error);
                    }
                }
                if let Some(next) = self.keys.failed(id) {
                    self.queues.push_back(next);
                }
            }
            InFlightRule::OneBatch | InFlightRule::OneAggregatePerShard if fails_dependents => {
                uncertain.insert(key, error.clone());
            }
            _ => {}
        }
    }

    /// Fails the queued records of these keys.
    pub(super) fn fail_dependents(&mut self, uncertain: &UncertainKeys) {
        if uncertain.is_empty() {
            return;
        }
        for queue in 0..self.queues.len() {
            let is_dependent = |record: &QueuedRecord| uncertain.contains_key(&record.entry.partition_key);
            let dependents = self.queues.change(queue, |queue| queue.extract(is_dependent));
            for dependent in dependents {
                if let Some(error) = uncertain.get(&dependent.entry.partition_key) {
                    self.fail_dependent(dependent, error);
                }
            }
        }
    }

    /// Fails a record whose predecessor may still be written.
    fn fail_dependent(&mut self, record: QueuedRecord, error: &Error) {
        if record.state.is_uncertain {
            // It was sent itself, in the same batch.
            self.conclude_failed(record, error.clone());
        } else {
            let error = Error::PredecessorFailed { source: Box::new(error.clone()) };
            self.conclude(record.entry, record.state, Err(error));
        }
    }

    /// Fails a record with an error that says that the record may have been written if, and only if, one of its own
    /// attempts may have been.
    fn conclude_failed(&mut self, record: QueuedRecord, error: Error) {
        let error = match (record.state.is_uncertain, error.may_have_written()) {
            (true, false) => {
                let problem = "an earlier attempt had no answer, the last one failed".to_owned();
                Error::Unavailable { problem, may_have_written: true, source: Some(Arc::new(error)) }
            }
            (false, true) => {
                let problem = "not sent: the stream accepted nothing until the deadline".to_owned();
                Error::Unavailable { problem, may_have_written: false, source: Some(Arc::new(error)) }
            }
            _ => error,
        };
        self.conclude(record.entry, record.state, Err(error));
    }
}
