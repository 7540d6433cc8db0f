//! Which shard queue a record belongs to.

use crate::model::hash_key::HashKey;
use crate::model::shard::{Shard, ShardId};
use crate::record::PutEntry;

/// The open shards of a listing, by hash key, or a single queue where they are not known.
#[derive(Debug)]
pub(super) struct Routing {
    /// The last hash key of each queue, ascending.
    ends: Vec<HashKey>,
    /// The shard of each queue; empty where they are not known.
    shards: Vec<ShardId>,
}

impl Routing {
    /// One queue for every record.
    pub(super) fn single() -> Self {
        Self { ends: vec![HashKey::MAX], shards: Vec::new() }
    }

    /// One queue per open shard; `None` unless the open shards hold each hash key exactly once.
    pub(super) fn of_shards(shards: &[Shard]) -> Option<Self> {
        let mut open: Vec<&Shard> = shards.iter().filter(|shard| shard.is_open()).collect();
        open.sort_unstable_by_key(|shard| shard.hash_key_range.first);
        let covers = open.first()?.hash_key_range.first == HashKey::MIN
            && open.last()?.hash_key_range.last == HashKey::MAX
            && open
                .windows(2)
                .all(|pair| pair[0].hash_key_range.last.0.checked_add(1) == Some(pair[1].hash_key_range.first.0));
        covers.then(|| Self {
            ends: open.iter().map(|shard| shard.hash_key_range.last).collect(),
            shards: open.iter().map(|shard| shard.id.clone()).collect(),
        })
    }

    /// Number of queues.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The shard that a queue's records go to, where it is known.
    pub(super) fn shard(&self, queue: usize) -> Option<&ShardId> {
        self.shards.get(queue)
    }

    /// Index of the queue that an entry belongs to.
    pub(super) fn route(&self, entry: &PutEntry) -> usize {
        if self.len() == 1 {
            // Nothing is hashed where there is no choice.
            return 0;
        }
        let key = entry.hash_key();
        self.ends.partition_point(|end| *end < key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::shard_map::ShardMap;
    use crate::record::PartitionKey;

    #[test]
    fn each_hash_key_has_one_queue_by_the_open_shards() {
        let mut map = ShardMap::uniform("clicks", 4, 0).unwrap();
        map.split(&ShardId::numbered(1), HashKey((1 << 126) + 5), &mut 1).unwrap();
        let routing = Routing::of_shards(map.shards()).unwrap();
        assert_eq!(routing.len(), 5);
        for hash_key in [0, 1 << 126, (1 << 126) + 4, (1 << 126) + 5, 1 << 127, u128::MAX] {
            let entry = PutEntry::new(PartitionKey::new("k").unwrap(), "").with_explicit_hash_key(HashKey(hash_key));
            let shard = map.open().find(|shard| shard.hash_key_range.contains(HashKey(hash_key))).unwrap();
            assert_eq!(routing.shard(routing.route(&entry)), Some(&shard.id));
        }
    }

    #[test]
    fn shards_with_a_gap_between_them_are_no_routing() {
        let map = ShardMap::uniform("clicks", 3, 0).unwrap();
        assert!(Routing::of_shards(&map.shards()[..2]).is_none());
        assert!(Routing::of_shards(&[map.shards()[0].clone(), map.shards()[2].clone()]).is_none());
        assert!(Routing::of_shards(&[]).is_none());
        let single = Routing::single();
        assert_eq!((single.len(), single.shard(0)), (1, None));
    }
}
