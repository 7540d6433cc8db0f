//! One record of a key at a time: its successors wait until it has its outcome.

use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::model::sequence_number::SequenceNumber;
use crate::record::PartitionKey;

use super::record::QueuedRecord;

/// Id of a key queue: a hash of the partition key. Keys with the same hash share a queue, which delays their records
/// and keeps their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct KeyId(u64);

impl KeyId {
    /// The same in every run.
    pub(super) fn of(key: &PartitionKey) -> Self {
        Self(BuildHasherDefault::<DefaultHasher>::default().hash_one(key))
    }
}

/// Hashes a key id, which is a hash already, to itself.
#[derive(Default)]
struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The keys that have a record ready or in flight, and the records behind it. Mostly there are none, so that a key takes
/// little memory. The order of the map decides nothing but the order in which abandoned keys are reported.
#[derive(Default)]
pub(super) struct KeyQueues(HashMap<KeyId, Option<Box<KeyQueue>>, BuildHasherDefault<IdentityHasher>>);

#[derive(Default)]
struct KeyQueue {
    waiting: VecDeque<QueuedRecord>,
    /// Where the key's last record was stored.
    last: Option<SequenceNumber>,
}

impl KeyQueues {
    /// Appends a record to its key's queue; gives it back if it is the first.
    pub(super) fn push(&mut self, record: QueuedRecord) -> Option<QueuedRecord> {
        match self.0.entry(record.state.key) {
            Entry::Occupied(mut queue) => {
                queue.get_mut().get_or_insert_default().waiting.push_back(record);
                None
            }
            Entry::Vacant(queue) => {
                queue.insert(None);
                Some(record)
            }
        }
    }

    /// The first record of the queue was stored. Returns whether that was before its predecessor, and the next record,
    /// which is the first now.
    pub(super) fn stored(&mut self, key: KeyId, number: SequenceNumber) -> (bool, Option<QueuedRecord>) {
        self.advance(key, |queue| queue.last.replace(number).is_some_and(|before| before > number))
    }

    /// The first record of the queue has failed. Returns the next record, which is the first now.
    pub(super) fn failed(&mut self, key: KeyId) -> Option<QueuedRecord> {
        self.advance(key, |_| false).1
    }

    fn advance(&mut self, key: KeyId, inspect: impl FnOnce(&mut KeyQueue) -> bool) -> (bool, Option<QueuedRecord>) {
        let Entry::Occupied(mut entry) = self.0.entry(key) else { return (false, None) };
        let (is_inverted, next) = match entry.get_mut() {
            Some(queue) => (inspect(queue), queue.waiting.pop_front()),
            None => (false, None),
        };
        if next.is_none() {
            entry.remove();
        }
        (is_inverted, next)
    }

    /// Removes the waiting records of one partition key; those of others that share its queue stay.
    pub(super) fn take_waiting(&mut self, id: KeyId, key: &PartitionKey) -> VecDeque<QueuedRecord> {
        let Some(Some(queue)) = self.0.get_mut(&id) else { return VecDeque::new() };
        let (taken, kept) =
            std::mem::take(&mut queue.waiting).into_iter().partition(|it| it.entry.partition_key == *key);
        queue.waiting = kept;
        taken
    }

    /// Removes every waiting record.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = QueuedRecord> {
        self.0.drain().filter_map(|(_, queue)| queue).flat_map(|queue| queue.waiting)
    }
}
