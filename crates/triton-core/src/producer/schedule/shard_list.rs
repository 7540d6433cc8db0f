//! What is known of the stream's shards, and whether the list by which records are routed is old.
//!
//! A shard list lags behind splits and merges, an answer may be older than the one before it, and one that is given during a
//! reshard may miss shards. So a shard's absence from a list decides nothing. A list is old at a hash key if a shard that is
//! newer than the one it shows there has been seen, in a receipt or in another list.

use std::collections::BTreeMap;

use crate::model::hash_key::{HashKey, HashKeyRange};
use crate::model::shard::{Shard, ShardId};
use crate::producer::routing::Routing;

/// The shards that lists and receipts have shown.
#[derive(Debug, Default)]
pub(super) struct ShardList {
    /// The hash keys of each listed shard. A shard never changes them.
    ranges: BTreeMap<ShardId, HashKeyRange>,
    /// Shards that are newer than the routing, each at one of its hash keys.
    newer: BTreeMap<ShardId, HashKey>,
    /// Whether a record was stored in an older shard than it is routed to.
    is_refuted: bool,
}

impl ShardList {
    /// The hash keys of a shard, if a list has shown it.
    pub(super) fn range(&self, shard: &ShardId) -> Option<HashKeyRange> {
        self.ranges.get(shard).copied()
    }

    /// Whether the routing is known to be older than the stream's shards.
    pub(super) fn is_old(&self) -> bool {
        self.is_refuted || !self.newer.is_empty()
    }

    /// A shard that is newer than the routing, if there is one.
    pub(super) fn newer(&self) -> Option<&ShardId> {
        self.newer.last_key_value().map(|(shard, _)| shard)
    }

    /// A record of this hash key was stored in this shard. `is_current`: it was sent by this routing, not by an older one.
    pub(super) fn stored(&mut self, key: HashKey, shard: &ShardId, routing: &Routing, is_current: bool) {
        match routing.shard_of(key) {
            Some(routed) if shard > routed => drop(self.newer.insert(shard.clone(), key)),
            // Splits and merges only create newer shards: the stream was deleted, and made again under its name. What is
            // known is of the old one.
            Some(routed) if shard < routed && is_current => *self = Self { is_refuted: true, ..Self::default() },
            _ => {}
        }
    }

    /// Whether records may be routed by a list, instead of by `routing`.
    pub(super) fn is_replaced_by(&self, listed: &[Shard], routing: &Routing) -> bool {
        self.is_refuted || !routing.is_newer_than(listed)
    }

    /// Records are routed by another list now: shards that it does not show any more were removed by retention.
    pub(super) fn replaced(&mut self) {
        self.ranges.clear();
    }

    /// The shards were listed. `routing` is what records are routed by now, `is_confirmed` whether that is this list.
    pub(super) fn listed(&mut self, shards: &[Shard], routing: &Routing, is_confirmed: bool) {
        self.is_refuted &= !is_confirmed;
        self.ranges.extend(shards.iter().map(|shard| (shard.id.clone(), shard.hash_key_range)));
        self.newer.extend(shards.iter().map(|shard| (shard.id.clone(), shard.hash_key_range.first)));
        self.newer.retain(|shard, key| routing.shard_of(*key).is_some_and(|routed| shard > routed));
    }
}
