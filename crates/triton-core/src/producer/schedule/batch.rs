//! A batch in flight: its entries, and the records that each of them carries.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::backend::Limits;
use crate::record::aggregate::Packer;
use crate::record::{Entries, PartitionKey, PutEntry};

use super::InFlightRule;
use super::record::{QueuedRecord, RecordState};
use super::shard_queue::ShardQueue;
use super::shard_queues::ShardQueues;

/// Bytes of an aggregate, where the quota does not allow more at once: what Kinesis bills as one. Larger ones would cost
/// little less, and make the shard's rate coarse.
const AGGREGATE_BYTES: usize = 25 << 10;

/// Id of a batch in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::producer) struct BatchId(u64);

/// Entries that are sent in one call.
pub(super) struct Batch {
    /// Shared with the call.
    pub(super) entries: Entries,
    /// What each entry carries.
    pub(super) items: Vec<BatchItem>,
    /// [Version](ShardQueues::version) of the routing that the items' queues are of.
    pub(super) version: u64,
}

/// What one entry of a batch carries.
pub(super) struct BatchItem {
    /// Index of the shard queue that it was taken from.
    pub(super) queue: usize,
    pub(super) records: ItemRecords,
}

/// The records that an entry carries.
pub(super) enum ItemRecords {
    /// The entry is the record.
    One(RecordState),
    /// The entry is an aggregate of these records.
    Packed(Vec<QueuedRecord>),
}

/// The batches that have no answer yet.
#[derive(Default)]
pub(super) struct InFlight {
    batches: Vec<(BatchId, Batch)>,
    next: u64,
}

impl InFlight {
    pub(super) fn add(&mut self, batch: Batch) -> BatchId {
        let id = BatchId(self.next);
        self.next += 1;
        self.batches.push((id, batch));
        id
    }

    pub(super) fn remove(&mut self, id: BatchId) -> Option<Batch> {
        let index = self.batches.iter().position(|(known, _)| *known == id)?;
        Some(self.batches.swap_remove(index).1)
    }

    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }

    /// Whether a batch was built by an older routing.
    pub(super) fn has_older_than(&self, version: u64) -> bool {
        self.batches.iter().any(|(_, batch)| batch.version < version)
    }

    /// Removes every batch, oldest first.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Batch> {
        self.batches.sort_by_key(|(id, _)| id.0);
        self.batches.drain(..).map(|(_, batch)| batch)
    }
}

/// Takes records from the shard queues until a batch is full.
pub(super) struct BatchBuilder<'a> {
    limits: &'a Limits,
    rule: InFlightRule,
    /// Whether records are packed.
    aggregates: bool,
    now: Instant,
    entries: Vec<PutEntry>,
    items: Vec<BatchItem>,
    bytes: usize,
}

/// Why a queue gives no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exhausted {
    /// The queue may not send more now.
    Queue,
    /// The batch is full.
    Batch,
}

impl<'a> BatchBuilder<'a> {
    pub(super) fn new(limits: &'a Limits, rule: InFlightRule, aggregates: bool, now: Instant) -> Self {
        Self { limits, rule, aggregates, now, entries: Vec::new(), items: Vec::new(), bytes: 0 }
    }

    /// Takes records that may be sent now from the queues in turn, until the batch is full or no queue has any.
    pub(super) fn build(mut self, queues: &mut ShardQueues) -> Option<Batch> {
        for _ in 0..queues.turns() {
            let Some(index) = queues.next_turn() else { break };
            let before = self.items.len();
            let exhausted = queues.change(index, |queue| {
                let exhausted = self.take_from(queue, index);
                if self.items.len() > before {
                    queue.sent();
                }
                exhausted
            });
            if exhausted == Exhausted::Batch && self.items.len() == before {
                queues.keep_turn(index);
                break;
            }
            queues.end_turn(index);
            if exhausted == Exhausted::Batch {
                break;
            }
        }
        let (entries, items, version) = (self.entries.into(), self.items, queues.version());
        (!items.is_empty()).then_some(Batch { entries, items, version })
    }

    fn take_from(&mut self, queue: &mut ShardQueue, index: usize) -> Exhausted {
        if !queue.may_send(self.now) {
            return Exhausted::Queue;
        }
        let (start, mut keys) = (self.items.len(), BTreeSet::new());
        while queue.is_unblocked(self.now) && self.keeps_order(queue, start, &mut keys) {
            let room = self.limits.max_call_bytes.saturating_sub(self.bytes);
            let is_full = self.entries.len() >= self.limits.max_entries
                || queue.front().is_some_and(|first| first.entry.size() > room);
            // A record over the limit of a call is sent alone, and refused.
            if is_full && !self.entries.is_empty() {
                return Exhausted::Batch;
            }
            let item = if self.aggregates { self.pack(queue, room) } else { one(queue) };
            let Some((entry, records)) = item else { return Exhausted::Queue };
            queue.acquire(entry.size(), self.now);
            self.bytes += entry.size();
            self.entries.push(entry);
            self.items.push(BatchItem { queue: index, records });
        }
        Exhausted::Queue
    }

    /// Whether the first record of a queue may be in one call with what was taken from the queue before: the items from
    /// `start`, which hold these keys if they are not packed.
    fn keeps_order(&self, queue: &ShardQueue, start: usize, keys: &mut BTreeSet<PartitionKey>) -> bool {
        let Some(first) = queue.front() else { return false };
        match self.rule {
            InFlightRule::OneAggregatePerShard if self.aggregates => self.items.len() == start,
            InFlightRule::OneAggregatePerShard => keys.insert(first.entry.partition_key.clone()),
            InFlightRule::OneBatch | InFlightRule::OneRecordPerKey | InFlightRule::Any => true,
        }
    }

    /// As many records as an aggregate holds; a single one as it is.
    fn pack(&self, queue: &mut ShardQueue, room: usize) -> Option<(PutEntry, ItemRecords)> {
        let most = queue.quota_left(self.now).max(AGGREGATE_BYTES).min(self.limits.max_record_bytes).min(room);
        let mut packer = Packer::new();
        let mut packed = Vec::new();
        while let Some(next) = queue.front() {
            // The first is packed whatever its size.
            let bytes = if packed.is_empty() { usize::MAX } else { most };
            if !packer.push_within(&next.entry, bytes) {
                break;
            }
            packed.extend(queue.pop_front().map(in_flight));
        }
        let entry = packer.finish()?;
        let records =
            if packed.len() == 1 { ItemRecords::One(packed.pop()?.state) } else { ItemRecords::Packed(packed) };
        Some((entry, records))
    }
}

/// The first record of a queue, by itself.
fn one(queue: &mut ShardQueue) -> Option<(PutEntry, ItemRecords)> {
    let QueuedRecord { entry, state } = queue.pop_front().map(in_flight)?;
    Some((entry, ItemRecords::One(state)))
}

fn in_flight(mut record: QueuedRecord) -> QueuedRecord {
    record.state.slot.may_have_written = true;
    record
}
