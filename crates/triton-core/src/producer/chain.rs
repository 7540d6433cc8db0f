//! One record of a key at a time: those behind it wait until it has its outcome.

use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::record::PartitionKey;
use crate::sequence::SequenceNumber;

use super::lane::Pending;

/// Which chain a record belongs to: a hash of its partition key. Keys that share one wait for each other, which costs a
/// little time and no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ChainId(u64);

impl ChainId {
    /// The same in every run.
    pub(super) fn of(key: &PartitionKey) -> Self {
        Self(BuildHasherDefault::<DefaultHasher>::default().hash_one(key))
    }
}

/// Takes a chain's id, which is a hash, for its hash.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
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

/// The keys that have a record ready or on its way, and what waits behind it. Only ever asked for one key, so that the
/// order inside cannot matter.
#[derive(Default)]
pub(super) struct Chains(HashMap<ChainId, Chain, BuildHasherDefault<AsItIs>>);

#[derive(Default)]
struct Chain {
    waiting: VecDeque<Pending>,
    /// Where the key's last record was stored.
    last: Option<SequenceNumber>,
}

impl Chains {
    /// Puts a record at the end of its chain; gives it back if nothing is before it.
    pub(super) fn join(&mut self, pending: Pending) -> Option<Pending> {
        match self.0.entry(pending.chain) {
            Entry::Occupied(mut chain) => {
                chain.get_mut().waiting.push_back(pending);
                None
            }
            Entry::Vacant(chain) => {
                chain.insert(Chain::default());
                Some(pending)
            }
        }
    }

    /// The chain's first record was stored. Tells whether that was before the one in front of it.
    pub(super) fn is_inverted(&mut self, chain: ChainId, number: SequenceNumber) -> bool {
        let Some(chain) = self.0.get_mut(&chain) else { return false };
        let before = chain.last.replace(number);
        before.is_some_and(|before| before > number)
    }

    /// The chain's first record has its outcome: the next one, which now is the first.
    pub(super) fn next(&mut self, chain: ChainId) -> Option<Pending> {
        let next = self.0.get_mut(&chain).and_then(|chain| chain.waiting.pop_front());
        if next.is_none() {
            self.0.remove(&chain);
        }
        next
    }

    /// Takes out what waits in a chain of this key; the others of the chain stay.
    pub(super) fn take(&mut self, chain: ChainId, key: &PartitionKey) -> VecDeque<Pending> {
        let Some(chain) = self.0.get_mut(&chain) else { return VecDeque::new() };
        let (taken, kept) =
            std::mem::take(&mut chain.waiting).into_iter().partition(|it| it.entry.partition_key == *key);
        chain.waiting = kept;
        taken
    }
}
