//! What a descendant tells of a shard: that it was read, or that it was closed before the start.
//!
//! A list may show a shard before it shows the descendants that tell. Until then the shard is unclear, and is not read.

use std::collections::{BTreeMap, BTreeSet};

use crate::consumer::options::Start;
use crate::model::hash_key::HashKey;
use crate::model::shard::{Shard, ShardId};

use super::{Info, Lineage, Share};

/// The ancestors that are known, whether or not a list has shown them.
#[derive(Debug, Default)]
pub(super) struct Ancestry {
    /// Of shards with a checkpoint: they were read.
    pub(super) begun: BTreeSet<ShardId>,
    /// Of shards that were there at the start: they were closed by then.
    pub(super) elders: BTreeSet<ShardId>,
}

impl Lineage {
    /// Follows the parents of every shard that is known, and of those of a list.
    ///
    /// Those beyond a shard of another reader were not necessarily read: this reader has not waited for them.
    pub(super) fn trace_ancestors(&mut self, listed: &[Shard]) {
        let mut ancestry = std::mem::take(&mut self.ancestry);
        let mut known: BTreeMap<&ShardId, (Vec<&ShardId>, HashKey)> = BTreeMap::new();
        for (id, node) in &self.nodes {
            if let Some(info) = &node.info {
                known.insert(id, (info.parents.iter().collect(), info.range.first));
            }
        }
        for shard in listed {
            known.insert(&shard.id, (shard.parents().collect(), shard.hash_key_range.first));
        }
        let is_foreign = |first: HashKey| matches!(&self.share, Share::HashKeys(keys) if !keys.contains(first));
        // Children first: sorted by id, they come after their parents.
        for (id, (parents, first)) in known.into_iter().rev() {
            if (self.checkpoints.contains_key(id) || ancestry.begun.contains(id)) && !is_foreign(first) {
                ancestry.begun.extend(parents.iter().copied().cloned());
            }
            if self.was_there(id) || ancestry.elders.contains(id) {
                ancestry.elders.extend(parents.into_iter().cloned());
            }
        }
        self.ancestry = ancestry;
    }

    /// Whether a shard was there at the start: the first list has shown it, or a shard that descends from it.
    pub(super) fn was_there(&self, id: &ShardId) -> bool {
        let known = self.nodes.get(id).and_then(|node| node.info.as_ref());
        !self.has_started || self.ancestry.elders.contains(id) || known.is_some_and(|info| info.was_there)
    }

    /// Whether a shard may be unclear: it is closed, and its descendants can tell something.
    pub(super) fn may_be_unclear(&self, info: &Info) -> bool {
        !info.is_open && (!self.checkpoints.is_empty() || self.start == Start::Latest && !info.was_there)
    }

    /// The shards that are unclear: not all their descendants are known, down to shards that are open or have been begun.
    pub(super) fn unclear(&self) -> BTreeSet<ShardId> {
        let mut unclear = BTreeSet::new();
        // Children first.
        for (id, node) in self.nodes.iter().rev() {
            let is_begun = || self.checkpoints.contains_key(id) || self.ancestry.begun.contains(id);
            let knows_descendants =
                || self.knows_children(id, &[]) && self.children_of(id).iter().all(|child| !unclear.contains(child));
            let may_be_unclear = node.info.as_ref().is_some_and(|info| self.may_be_unclear(info));
            if may_be_unclear && !is_begun() && !knows_descendants() {
                unclear.insert(id.clone());
            }
        }
        unclear
    }
}
