//! The children of shards: whether all of a drained shard's are known, so that its end can be told.

use std::collections::BTreeSet;

use crate::model::checkpoint::Checkpoint;
use crate::model::hash_key::HashKeyRange;
use crate::model::shard::ShardId;

use super::{Info, Lineage, Node, Outcome, State};

impl Lineage {
    pub(super) fn children_of(&self, shard: &ShardId) -> &[ShardId] {
        self.children.get(shard).map_or(&[], Vec::as_slice)
    }

    /// Tells the ends of drained shards whose children are known by now.
    pub(super) fn settle(&mut self) {
        if self.unsettled.is_empty() {
            return;
        }
        self.confirm_parents_beside_unsettled();
        let is_gone = |parent: &ShardId| matches!(self.state(parent), Some(State::Gone { .. }));
        let infos = self.nodes.values().filter_map(|node| node.info.as_ref());
        let orphans: Vec<HashKeyRange> =
            infos.filter(|info| info.parents.iter().any(is_gone)).map(|info| info.range).collect();
        let settled: Vec<ShardId> =
            self.unsettled.iter().filter(|id| self.knows_children(id, &orphans)).cloned().collect();
        for id in settled {
            self.unsettled.remove(&id);
            // An end by checkpoint was told before.
            if self.state(&id) == Some(State::Drained) && !self.checkpoints.get(&id).is_some_and(Checkpoint::is_ended) {
                self.tell_end(&id);
            }
        }
    }

    /// A shard that no list has shown may be a child that is awaited, or one that retention has removed.
    fn confirm_parents_beside_unsettled(&mut self) {
        let range = |id: &ShardId| self.nodes.get(id)?.info.as_ref().map(|info| info.range);
        let unsettled: Vec<HashKeyRange> = self.unsettled.iter().filter_map(range).collect();
        let infos = self.nodes.values().filter_map(|node| node.info.as_ref());
        let beside = infos.filter(|info| unsettled.iter().any(|range| range.overlaps(info.range)));
        let unknown: BTreeSet<ShardId> = beside
            .flat_map(|info| &info.parents)
            .filter(|parent| !self.nodes.contains_key(*parent) && !self.ancestry.begun.contains(*parent))
            .cloned()
            .collect();
        unknown.into_iter().for_each(|parent| self.confirm(parent));
    }

    pub(super) fn tell_end(&mut self, shard: &ShardId) {
        self.outcomes.push(Outcome::Ended(shard.clone(), self.children_of(shard).to_vec()));
    }

    /// Whether all children of the shard are known: together they hold all its hash keys. Where retention has removed a child,
    /// the orphans take its place: shards whose parents are gone.
    pub(super) fn knows_children(&self, shard: &ShardId, orphans: &[HashKeyRange]) -> bool {
        let children = self.children_of(shard);
        let Some(Node { info: Some(Info { range, .. }), .. }) = self.nodes.get(shard) else {
            return !children.is_empty();
        };
        let range_of = |id: &ShardId| self.nodes.get(id)?.info.as_ref().map(|info| info.range);
        range.is_covered_by(children.iter().filter_map(range_of).chain(orphans.iter().copied()))
    }
}
