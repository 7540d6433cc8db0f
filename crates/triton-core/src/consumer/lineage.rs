//! Lineage: which shards a reader owns, when each may be read, and where it starts. A state machine without I/O.
//!
//! A child shard may be read once all its parents are drained; a parent that retention has removed counts as drained.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::model::position::Position;
use crate::model::shard::{Shard, ShardId};

use super::options::Start;

/// The state of every shard that a reader has seen listed.
#[derive(Debug)]
pub(super) struct Lineage {
    start: Start,
    /// The shards that the caller chose; `None` for all.
    chosen: Option<BTreeSet<ShardId>>,
    states: BTreeMap<ShardId, State>,
    /// Whether the first listing was applied: shards of later listings were created after the start.
    has_started: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Left to another reader.
    NotOwned,
    /// Waits until its parents are drained.
    Waiting { position: Position },
    /// Being read, or failed: its children wait.
    Reading,
    /// Read to its end, or closed before the start.
    Drained,
}

impl Lineage {
    /// The lineage of a reader that starts now; `shards` is the current listing, sorted by id.
    pub(super) fn new(stream: &str, shards: &[Shard], start: Start, numbers: Option<&[usize]>) -> Result<Self> {
        let id_of = |number: usize| match shards.get(number) {
            Some(shard) => Ok(shard.id.clone()),
            None => Err(Error::ShardOutOfRange { number, stream: stream.into(), count: shards.len() }),
        };
        let mut chosen =
            numbers.map(|numbers| numbers.iter().copied().map(id_of).collect::<Result<BTreeSet<_>>>()).transpose()?;
        if let Start::At { shard, .. } | Start::After { shard, .. } = start {
            let id = id_of(shard)?;
            if chosen.as_ref().is_some_and(|chosen| !chosen.contains(&id)) {
                let problem = format!("the start is in shard {shard}, which is not among the chosen shards");
                return Err(Error::Invalid { problem });
            }
            chosen = Some(BTreeSet::from([id]));
        }
        Ok(Self { start, chosen, states: BTreeMap::new(), has_started: false })
    }

    /// Applies a listing. Returns the shards that can be read now, and where each starts.
    pub(super) fn apply(&mut self, shards: &[Shard]) -> Vec<(ShardId, Position)> {
        // Sorted by id, so that parents come before their children.
        for shard in shards {
            if !self.states.contains_key(&shard.id) {
                let state = self.initial_state(shard);
                self.states.insert(shard.id.clone(), state);
            }
        }
        self.has_started = true;
        self.drain_removed(shards);
        let mut ready = Vec::new();
        for shard in shards {
            if let Some(&State::Waiting { position }) = self.states.get(&shard.id)
                && shard.parents().all(|parent| self.is_drained(parent))
            {
                self.states.insert(shard.id.clone(), State::Reading);
                ready.push((shard.id.clone(), position));
            }
        }
        ready
    }

    /// Every record of the shard was delivered.
    pub(super) fn drained(&mut self, shard: &ShardId) {
        self.states.insert(shard.clone(), State::Drained);
    }

    /// A waiting shard that is no longer listed was removed by retention: it counts as drained.
    fn drain_removed(&mut self, shards: &[Shard]) {
        for (id, state) in &mut self.states {
            if matches!(state, State::Waiting { .. }) && shards.binary_search_by(|shard| shard.id.cmp(id)).is_err() {
                tracing::warn!(shard = %id, "removed by retention before it could be read");
                *state = State::Drained;
            }
        }
    }

    fn initial_state(&self, shard: &Shard) -> State {
        if !self.owns(shard) {
            return State::NotOwned;
        }
        let is_chosen = self.chosen.as_ref().is_some_and(|chosen| chosen.contains(&shard.id));
        match self.start {
            Start::Latest if self.has_started => State::Waiting { position: Position::TrimHorizon },
            Start::Latest if shard.is_open() => State::Waiting { position: Position::Latest },
            Start::Latest => State::Drained,
            Start::Time(time) => State::Waiting { position: Position::AtTime(time) },
            Start::At { sequence_number, .. } if is_chosen => {
                State::Waiting { position: Position::At(sequence_number) }
            }
            Start::After { sequence_number, .. } if is_chosen => {
                State::Waiting { position: Position::after(sequence_number) }
            }
            Start::All | Start::At { .. } | Start::After { .. } => State::Waiting { position: Position::TrimHorizon },
        }
    }

    fn owns(&self, shard: &Shard) -> bool {
        let Some(chosen) = &self.chosen else { return true };
        if chosen.contains(&shard.id) {
            return true;
        }
        // A parent that retention has removed has no owner, so that the other parent decides.
        let Some(first) = shard.parents().find(|parent| self.states.contains_key(*parent)) else { return false };
        let owned = self.is_owned(first);
        // A parent that retention has removed is nobody's.
        let is_listed = |parent: &&ShardId| self.states.contains_key(*parent);
        if let (Some(parent), Some(adjacent)) =
            (shard.parent.as_ref().filter(is_listed), shard.adjacent_parent.as_ref().filter(is_listed))
        {
            match (self.is_owned(parent), self.is_owned(adjacent)) {
                (true, false) => tracing::info!(
                    shard = %shard.id,
                    "merged from {parent} and {adjacent}; read here after {parent} alone, since another reader owns {adjacent}"
                ),
                (false, true) => tracing::info!(
                    shard = %shard.id,
                    "merged from {parent} and {adjacent}; left to the reader that owns {parent}"
                ),
                _ => {}
            }
        }
        owned
    }

    fn is_owned(&self, shard: &ShardId) -> bool {
        !matches!(self.states.get(shard), None | Some(State::NotOwned))
    }

    fn is_drained(&self, parent: &ShardId) -> bool {
        matches!(self.states.get(parent), None | Some(State::NotOwned | State::Drained))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hash_key::HashKey;
    use crate::model::shard_map::ShardMap;

    fn id(number: u64) -> ShardId {
        ShardId::numbered(number)
    }

    fn map(count: usize) -> ShardMap {
        ShardMap::uniform("clicks", count, 1).unwrap()
    }

    fn split(map: &mut ShardMap, number: u64) {
        let at = map.get(&id(number)).unwrap().hash_key_range.middle().unwrap();
        map.split(&id(number), at, &mut 10).unwrap();
    }

    fn merge(map: &mut ShardMap, a: u64, b: u64) {
        map.merge(&id(a), &id(b), &mut 10).unwrap();
    }

    fn lineage(map: &ShardMap, start: Start, numbers: Option<&[usize]>) -> Lineage {
        Lineage::new("clicks", map.shards(), start, numbers).unwrap()
    }

    #[test]
    fn a_child_waits_for_every_parent() {
        let mut map = map(2);
        merge(&mut map, 0, 1);
        let mut all = lineage(&map, Start::All, None);
        let roots = all.apply(map.shards());
        assert_eq!(roots, [(id(0), Position::TrimHorizon), (id(1), Position::TrimHorizon)]);
        all.drained(&id(0));
        assert_eq!(all.apply(map.shards()), []);
        all.drained(&id(1));
        assert_eq!(all.apply(map.shards()), [(id(2), Position::TrimHorizon)]);
        assert_eq!(all.apply(map.shards()), [], "once");
    }

    #[test]
    fn a_parent_that_retention_removed_counts_as_drained() {
        let mut map = map(1);
        split(&mut map, 0);
        let listed = &map.shards()[1..];
        let mut all = Lineage::new("clicks", listed, Start::All, None).unwrap();
        assert_eq!(all.apply(listed).len(), 2);
    }

    #[test]
    fn a_waiting_shard_that_retention_removes_counts_as_drained() {
        let mut map = map(1);
        split(&mut map, 0);
        split(&mut map, 1);
        let mut all = lineage(&map, Start::All, None);
        assert_eq!(all.apply(map.shards()), [(id(0), Position::TrimHorizon)]);
        // While 0 was read, retention removed it, and 1 that waited for it.
        all.drained(&id(0));
        let children = all.apply(&map.shards()[2..]);
        assert_eq!(children.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), [id(2), id(3), id(4)]);
    }

    #[test]
    fn latest_skips_closed_shards_and_reads_later_ones_from_their_start() {
        let mut map = map(1);
        split(&mut map, 0);
        let mut latest = lineage(&map, Start::Latest, None);
        assert_eq!(latest.apply(map.shards()), [(id(1), Position::Latest), (id(2), Position::Latest)]);
        split(&mut map, 2);
        latest.drained(&id(2));
        let children = latest.apply(map.shards());
        assert_eq!(children, [(id(3), Position::TrimHorizon), (id(4), Position::TrimHorizon)]);
    }

    #[test]
    fn a_start_time_applies_to_every_shard() {
        let mut map = map(1);
        split(&mut map, 0);
        let time = Timestamp::from_millis(5);
        let mut reader = lineage(&map, Start::Time(time), None);
        assert_eq!(reader.apply(map.shards()), [(id(0), Position::AtTime(time))]);
        reader.drained(&id(0));
        let at = Position::AtTime(time);
        assert_eq!(reader.apply(map.shards()), [(id(1), at), (id(2), at)]);
    }

    #[test]
    fn a_sequence_number_starts_one_shard_and_its_descendants_are_read_whole() {
        let mut map = map(2);
        split(&mut map, 0);
        let start = Start::After { shard: 0, sequence_number: 7.into() };
        let mut reader = lineage(&map, start, None);
        assert_eq!(reader.apply(map.shards()), [(id(0), Position::after(7))]);
        reader.drained(&id(0));
        let whole = Position::TrimHorizon;
        assert_eq!(reader.apply(map.shards()), [(id(2), whole), (id(3), whole)]);
        assert!(Lineage::new("clicks", map.shards(), start, Some(&[1])).is_err());
    }

    #[test]
    fn chosen_shards_are_followed_to_their_descendants() {
        let mut map = map(2);
        split(&mut map, 0);
        split(&mut map, 1);
        let mut first = lineage(&map, Start::Latest, Some(&[0]));
        assert_eq!(first.apply(map.shards()), [(id(2), Position::Latest), (id(3), Position::Latest)]);
    }

    #[test]
    fn a_merged_child_belongs_to_its_first_parents_reader() {
        let mut map = map(2);
        let mut first = lineage(&map, Start::All, Some(&[1]));
        let mut second = lineage(&map, Start::All, Some(&[0]));
        assert_eq!((first.apply(map.shards()).len(), second.apply(map.shards()).len()), (1, 1));
        merge(&mut map, 1, 0);
        first.drained(&id(1));
        assert_eq!(first.apply(map.shards()), [(id(2), Position::TrimHorizon)], "waits only for parents that it owns");
        second.drained(&id(0));
        assert_eq!(second.apply(map.shards()), [], "left to the other reader");
    }

    #[test]
    fn a_merged_child_whose_first_parent_was_removed_belongs_to_the_other_parents_reader() {
        let mut map = map(2);
        merge(&mut map, 0, 1);
        let listed = &map.shards()[1..];
        let mut reader = Lineage::new("clicks", listed, Start::All, Some(&[0])).unwrap();
        assert_eq!(reader.apply(listed), [(id(1), Position::TrimHorizon)]);
        reader.drained(&id(1));
        assert_eq!(reader.apply(listed), [(id(2), Position::TrimHorizon)]);
    }

    #[test]
    fn a_shard_number_out_of_range_is_an_error() {
        let error = Lineage::new("clicks", map(4).shards(), Start::All, Some(&[4])).unwrap_err();
        assert_eq!(error.to_string(), "shard 4 out of range: 'clicks' has 4 shards (0-3)");
    }

    #[test]
    fn a_deep_reshard_is_read_from_its_root() {
        let mut map = map(1);
        map.reshard(16, &mut 10).unwrap();
        let mut reader = lineage(&map, Start::All, None);
        let mut read = Vec::new();
        let mut ready = reader.apply(map.shards());
        while !ready.is_empty() {
            for (shard, _) in ready {
                reader.drained(&shard);
                read.push(shard);
            }
            ready = reader.apply(map.shards());
        }
        assert_eq!(read.len(), map.shards().len());
        assert!(map.get(&id(30)).unwrap().hash_key_range.contains(HashKey::MAX));
    }

    use crate::model::timestamp::Timestamp;
}
