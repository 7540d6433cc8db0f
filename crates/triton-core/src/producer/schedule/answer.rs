//! Handles the answer to a batch: each record gets its outcome, or another attempt.

use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::record::{PutEntry, PutReceipt};

use super::batch::{Batch, BatchId, BatchItem, ItemRecords};
use super::record::{QueuedRecord, RecordState};
use super::reshard::Misrouted;
use super::shard_queue::Tally;
use super::{InFlightRule, Schedule};

/// A batch item that was not stored.
pub(super) struct FailedItem {
    pub(super) records: ItemRecords,
    pub(super) entry: PutEntry,
    pub(super) error: Error,
}

impl Schedule {
    /// A batch was answered: gives each of its records its outcome, or queues it again.
    pub(in crate::producer) fn answered(
        &mut self,
        batch: BatchId,
        answer: Result<Vec<Result<PutReceipt>>>,
        now: Instant,
    ) {
        let Some(Batch { entries, items, version }) = self.in_flight.remove(batch) else { return };
        match &answer {
            Err(error) if error.kind() == ErrorKind::Unavailable => self.breaker.failed(now),
            _ => self.breaker.answered(),
        }
        let results = self.results(answer, items.len());
        let is_current = version == self.queues.version();
        let mut tallies: Vec<(usize, Tally)> = Vec::new();
        let mut failed = Vec::new();
        let misrouted_before = self.misrouted.len();
        // The call has ended, and with it the other hold on the entries.
        let entries = entries.into_vec();
        for ((item, entry), result) in items.into_iter().zip(entries).zip(results) {
            if is_current {
                // The items of a queue stand together.
                if tallies.last().is_none_or(|(queue, _)| *queue != item.queue) {
                    tallies.push((item.queue, Tally::default()));
                }
                if let Some((_, tally)) = tallies.last_mut() {
                    tally.add(&result, entry.size());
                }
            }
            match result {
                Ok(receipt) => self.stored(item, entry, receipt, is_current),
                Err(error) => failed.push(FailedItem { records: item.records, entry, error }),
            }
        }
        let has_misrouted = self.misrouted.len() > misrouted_before;
        for (queue, tally) in tallies {
            self.report.throttled += tally.throttled() as u64;
            self.queues.change(queue, |queue| queue.answered(&tally, now));
        }
        self.failed(failed, now);
        if has_misrouted {
            self.settle_misrouted();
        }
        if self.is_list_old() {
            self.listing.request();
        }
        self.expire(now);
    }

    /// One result per item, whatever the answer was.
    fn results(&self, answer: Result<Vec<Result<PutReceipt>>>, count: usize) -> Vec<Result<PutReceipt>> {
        match answer {
            Ok(results) if results.len() == count => results,
            Ok(results) => {
                let problem = format!("{} results for {count} entries", results.len());
                vec![Err(Error::Contract { backend: self.settings.stream.clone(), problem }); count]
            }
            Err(error) => vec![Err(error); count],
        }
    }

    fn stored(&mut self, item: BatchItem, entry: PutEntry, receipt: PutReceipt, is_current: bool) {
        let is_expected = is_current && self.queues.shard(item.queue) == Some(&receipt.shard_id);
        if !is_expected && self.settings.is_routed {
            self.shard_list.stored(entry.hash_key(), &receipt.shard_id, self.queues.routing(), is_current);
        }
        match item.records {
            ItemRecords::One(state) => self.acknowledge(entry, state, receipt),
            // The shard's hash keys tell whether all of its records belong there.
            ItemRecords::Packed(records) if !is_expected => self.misrouted.push(Misrouted { receipt, records }),
            ItemRecords::Packed(records) => self.acknowledge_packed(records, &receipt),
        }
    }

    /// The aggregate of these records is stored.
    pub(super) fn acknowledge_packed(&mut self, records: Vec<QueuedRecord>, receipt: &PutReceipt) {
        for (number, QueuedRecord { entry, state }) in (0..).zip(records) {
            self.acknowledge(entry, state, receipt.clone().with_sub_sequence_number(number));
        }
    }

    fn acknowledge(&mut self, entry: PutEntry, state: RecordState, receipt: PutReceipt) {
        if self.settings.rule == InFlightRule::OneRecordPerKey {
            let (is_inverted, next) = self.keys.stored(state.key, receipt.sequence_number);
            if is_inverted {
                self.report.inversions += 1;
                tracing::warn!(
                    key = %entry.partition_key, sequence_number = %receipt.sequence_number,
                    "stored before an earlier record of its key"
                );
            }
            if let Some(next) = next {
                self.queues.push_back(next);
            }
        }
        self.conclude(entry, state, Ok(receipt));
    }
}
