//! Outcomes of records, which the schedule decides and the task reports to tickets, hook and metrics.

use crate::error::{Error, Result};
use crate::record::{PutEntry, PutReceipt};

use super::record::cost;
use super::ticket::AckSlot;

/// The end of one record.
pub(super) enum Outcome {
    /// The stream has stored it.
    Acknowledged {
        /// Where the receipt goes.
        slot: AckSlot,
        /// Where the stream has stored it.
        receipt: PutReceipt,
    },
    /// It could not be put. Boxed: failures are rare and large.
    Failed(Box<Failure>),
}

/// A record that could not be put.
pub(super) struct Failure {
    pub(super) slot: AckSlot,
    pub(super) entry: PutEntry,
    pub(super) error: Error,
}

/// The outcomes since the last report, and the counts that go with them.
#[derive(Default)]
pub(super) struct Report {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) acknowledged: u64,
    /// Bytes of payloads and keys that were acknowledged.
    pub(super) acknowledged_bytes: u64,
    /// Records that failed and were not written.
    pub(super) failed: u64,
    /// Records that failed and may have been written.
    pub(super) unknown: u64,
    /// Bytes of the budget that are free again.
    pub(super) freed: usize,
    /// Batch items that the stream refused for its quota.
    pub(super) throttled: u64,
    /// Records that are put again, because their aggregate was stored in a shard where some of its records do not
    /// belong.
    pub(super) duplicates: u64,
    /// Records that were stored before an earlier one of their key.
    pub(super) inversions: u64,
}

impl Report {
    /// Adds the outcome of a record.
    pub(super) fn add(&mut self, entry: PutEntry, slot: AckSlot, result: Result<PutReceipt>) {
        self.freed += cost(&entry);
        self.outcomes.push(match result {
            Ok(receipt) => {
                self.acknowledged += 1;
                self.acknowledged_bytes += entry.size() as u64;
                Outcome::Acknowledged { slot, receipt }
            }
            Err(error) => {
                if error.may_have_written() {
                    self.unknown += 1;
                } else {
                    self.failed += 1;
                }
                Outcome::Failed(Box::new(Failure { slot, entry, error }))
            }
        });
    }

    /// Adds a record that had no outcome when the producer was closed.
    pub(super) fn add_closed(&mut self, entry: PutEntry, slot: AckSlot) {
        let may_have_written = slot.may_have_written;
        self.add(entry, slot, Err(Error::Closed { may_have_written }));
    }
}
