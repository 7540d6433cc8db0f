//! Which shard queue a record belongs to.

use crate::model::hash_key::HashKey;
use crate::model::shard::{Shard, ShardId};
use crate::model::shard_router::ShardRouter;
use crate::record::PutEntry;

/// One queue per open shard, or a single queue where the shards are not known.
#[derive(Debug)]
pub(super) struct Routing(Option<ShardRouter>);

impl Routing {
    /// One queue for every record.
    pub(super) fn single() -> Self {
        Self(None)
    }

    /// One queue per open shard; `None` unless the open shards hold each hash key exactly once.
    pub(super) fn of_shards(shards: &[Shard]) -> Option<Self> {
        ShardRouter::new(shards).map(|router| Self(Some(router)))
    }

    /// Number of queues.
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(1, |router| router.shards().len())
    }

    /// The shard that a queue's records go to, where it is known.
    pub(super) fn shard(&self, queue: usize) -> Option<&ShardId> {
        self.0.as_ref()?.shards().get(queue)
    }

    /// Index of the queue that an entry belongs to.
    pub(super) fn route(&self, entry: &PutEntry) -> usize {
        self.0.as_ref().map_or(0, |router| router.route(|| entry.hash_key()))
    }

    /// The shard that a hash key is routed to, where it is known.
    pub(super) fn shard_of(&self, key: HashKey) -> Option<&ShardId> {
        let router = self.0.as_ref()?;
        router.shards().get(router.route(|| key))
    }

    /// Whether the shards are known.
    pub(super) fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// Whether both route to the same shards.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0.as_ref().map(ShardRouter::shards) == other.0.as_ref().map(ShardRouter::shards)
    }

    /// Whether one of these shards is listed as open although a newer shard is known to hold some of its hash keys: the list
    /// is older than this routing, at least in part.
    pub(super) fn is_newer_than(&self, listed: &[Shard]) -> bool {
        let Some(router) = &self.0 else { return false };
        listed.iter().filter(|shard| shard.is_open()).any(|listed| {
            let range = listed.hash_key_range;
            let overlapping = router.route(|| range.first)..=router.route(|| range.last);
            // Ids sort in the order of their creation.
            router.shards()[overlapping].iter().any(|known| *known > listed.id)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hash_key::HashKey;
    use crate::model::shard_map::ShardMap;
    use crate::record::PartitionKey;

    #[test]
    fn an_explicit_hash_key_chooses_the_queue() {
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
    fn a_list_is_older_if_it_shows_a_replaced_shard_as_open() {
        let before = ShardMap::uniform("clicks", 2, 0).unwrap();
        let mut after = before.clone();
        after.split(&ShardId::numbered(1), HashKey(3 << 126), &mut 1).unwrap();
        let routing = |map: &ShardMap| Routing::of_shards(map.shards()).unwrap();
        assert!(routing(&after).is_newer_than(before.shards()));
        assert!(!routing(&before).is_newer_than(after.shards()));
        assert!(!routing(&after).is_newer_than(after.shards()));
        let mut merged = after.clone();
        merged.merge(&ShardId::numbered(0), &ShardId::numbered(2), &mut 2).unwrap();
        assert!(routing(&merged).is_newer_than(after.shards()));
        assert!(!Routing::single().is_newer_than(before.shards()));
    }

    #[test]
    fn without_known_shards_every_record_has_the_one_queue() {
        let single = Routing::single();
        let entry = PutEntry::new(PartitionKey::new("k").unwrap(), "");
        assert_eq!((single.len(), single.shard(0), single.route(&entry)), (1, None, 0));
    }
}
