//! A record that the schedule has accepted.

use tokio::time::Instant;

use crate::producer::record::FlushId;
use crate::producer::ticket::AckSlot;
use crate::record::PutEntry;

use super::key_queue::KeyId;

/// A record that waits to be sent.
pub(super) struct QueuedRecord {
    pub(super) entry: PutEntry,
    pub(super) state: RecordState,
}

/// The state of a record, without its entry: that is held by the batch while it is in flight.
pub(super) struct RecordState {
    /// Where its outcome goes.
    pub(super) slot: AckSlot,
    pub(super) submitted_at: Instant,
    /// When it failed first.
    pub(super) failing_since: Option<Instant>,
    /// Whether an earlier attempt may have been written.
    pub(super) is_uncertain: bool,
    /// Its key queue, if the schedule has key queues.
    pub(super) key: KeyId,
    pub(super) flush: FlushId,
}
