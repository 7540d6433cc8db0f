//! The one router of keys: from a hash key to the open shard that holds it.

use super::hash_key::HashKey;
use super::shard::{Shard, ShardId};

/// The open shards of a stream, in the order of their hash keys.
#[derive(Clone, Debug)]
pub struct ShardRouter {
    /// The highest hash key of each shard.
    last_keys: Vec<HashKey>,
    shards: Vec<ShardId>,
}

impl ShardRouter {
    /// A router over the open ones of these shards; `None` if they do not cover each hash key exactly once, as in a listing
    /// made during a reshard.
    pub fn new<'a>(shards: impl IntoIterator<Item = &'a Shard>) -> Option<Self> {
        let mut open: Vec<&Shard> = shards.into_iter().filter(|shard| shard.is_open()).collect();
        open.sort_unstable_by_key(|shard| shard.hash_key_range.first);
        let mut next = Some(HashKey::MIN);
        for shard in &open {
            if next != Some(shard.hash_key_range.first) {
                return None;
            }
            next = shard.hash_key_range.last.0.checked_add(1).map(HashKey);
        }
        // After the last hash key there is no next one.
        if open.is_empty() || next.is_some() {
            return None;
        }
        Some(Self {
            last_keys: open.iter().map(|shard| shard.hash_key_range.last).collect(),
            shards: open.iter().map(|shard| shard.id.clone()).collect(),
        })
    }

    /// The index in [`shards`](Self::shards) of the shard that holds this hash key, which is computed only if there is more
    /// than one shard.
    pub fn route(&self, key: impl FnOnce() -> HashKey) -> usize {
        if self.last_keys.len() == 1 {
            return 0;
        }
        let key = key();
        self.last_keys.partition_point(|last| *last < key)
    }

    /// The open shards, in the order of their hash keys; at least one.
    pub fn shards(&self) -> &[ShardId] {
        &self.shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::shard_map::ShardMap;
    use proptest::prelude::*;

    #[test]
    fn a_listing_that_does_not_cover_each_key_once_has_no_router() {
        let map = ShardMap::uniform("clicks", 3, 1).unwrap();
        let shards = map.shards();
        assert!(ShardRouter::new(shards).is_some());
        assert!(ShardRouter::new(&shards[..2]).is_none(), "the end is missing");
        assert!(ShardRouter::new(&shards[1..]).is_none(), "the start is missing");
        assert!(ShardRouter::new([&shards[0], &shards[2]]).is_none(), "the middle is missing");
        assert!(ShardRouter::new(shards.iter().chain(&shards[1..2])).is_none(), "a shard is there twice");
        assert!(ShardRouter::new([]).is_none());
    }

    proptest! {
        #[test]
        fn a_key_is_routed_to_the_shard_whose_range_contains_it(count in 1usize..50, reshard in 1usize..50, key: u128) {
            let mut map = ShardMap::uniform("clicks", count, 1).unwrap();
            map.reshard(reshard, &mut 1).unwrap();
            let router = ShardRouter::new(map.shards()).unwrap();
            let ends = map.open().flat_map(|shard| [shard.hash_key_range.first, shard.hash_key_range.last]);
            for key in ends.chain([HashKey(key)]) {
                let shard = map.get(&router.shards()[router.route(|| key)]).unwrap();
                prop_assert!(shard.hash_key_range.contains(key));
            }
        }
    }
}
