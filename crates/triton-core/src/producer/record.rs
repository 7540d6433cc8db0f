//! A record from its submission to its outcome.

use tokio::time::Instant;

use crate::flow::Budget;
use crate::record::PutEntry;

use super::ticket::AckSlot;

/// A record that was submitted, and that the schedule has not accepted yet.
pub(super) struct SubmittedRecord {
    pub(super) entry: PutEntry,
    pub(super) slot: AckSlot,
    pub(super) submitted_at: Instant,
    pub(super) flush: FlushId,
}

/// Number of flushes that were requested before a record was submitted. A flush waits for the records whose id is at most
/// its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FlushId(u32);

impl FlushId {
    /// Returns the id of this flush; what is submitted from now on belongs to the next.
    pub(super) fn advance(&mut self) -> Self {
        let this = *self;
        self.0 += 1;
        this
    }
}

/// Bytes that an entry counts against the budget.
pub(super) fn cost(entry: &PutEntry) -> usize {
    entry.size() + Budget::RECORD_OVERHEAD
}
