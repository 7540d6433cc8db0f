//! One record of a key at a time: those behind it wait until it has its outcome.

use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::model::sequence_number::SequenceNumber;
use crate::record::PartitionKey;

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

/// The keys that have a record ready or on its way, and what waits behind it: mostly nothing, so that a key takes little
/// room. Only ever asked for one key, so that the order inside cannot matter.
#[derive(Default)]
pub(super) struct Chains(HashMap<ChainId, Option<Box<Chain>>, BuildHasherDefault<AsItIs>>);

#[derive(Default)]
struct Chain {
    waiting: VecDeque<Pending>,
    /// Where the key's last record was stored.
    last: Option<SequenceNumber>,
}

impl Chains {
    /// Puts a record at the end of its chain; gives it back if nothing is before it.
    pub(super) fn join(&mut self, pending: Pending) -> Option<Pending> {
        match self.0.entry(pending.claim.chain) {
            Entry::Occupied(mut chain) => {
                chain.get_mut().get_or_insert_default().waiting.push_back(pending);
                None
            }
            Entry::Vacant(chain) => {
                chain.insert(None);
                Some(pending)
            }
        }
    }

    /// The chain's first record was stored: whether that was before the one in front of it, and the next one, which now
    /// is the first.
    pub(super) fn stored(&mut self, chain: ChainId, number: SequenceNumber) -> (bool, Option<Pending>) {
        self.advance(chain, |chain| chain.last.replace(number).is_some_and(|before| before > number))
    }

    /// The chain's first record has failed: the next one, which now is the first.
    pub(super) fn next(&mut self, chain: ChainId) -> Option<Pending> {
        self.advance(chain, |_| false).1
    }

    fn advance(&mut self, chain: ChainId, look: impl FnOnce(&mut Chain) -> bool) -> (bool, Option<Pending>) {
        let Entry::Occupied(mut place) = self.0.entry(chain) else { return (false, None) };
        let (seen, next) = match place.get_mut() {
            Some(chain) => (look(chain), chain.waiting.pop_front()),
            None => (false, None),
        };
        if next.is_none() {
            place.remove();
        }
        (seen, next)
    }

    /// Takes out what waits in a chain of this key; the others of the chain stay.
    pub(super) fn take(&mut self, chain: ChainId, key: &PartitionKey) -> VecDeque<Pending> {
        let Some(Some(chain)) = self.0.get_mut(&chain) else { return VecDeque::new() };
        let (taken, kept) =
            std::mem::take(&mut chain.waiting).into_iter().partition(|it| it.entry.partition_key == *key);
        chain.waiting = kept;
        taken
    }
}
