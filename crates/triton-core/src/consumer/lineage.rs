//! Lineage: which shards a reader owns, when each may be read, and where it starts. A state machine without I/O.
//!
//! A child shard may be read once all its parents are drained. A parent that retention has removed counts as drained.
//!
//! A shard list may be older than what the reader knows, and may lack shards. So nothing is decided by absence from a list:
//! everything that was ever listed is remembered; a parent that no list has shown is confirmed to be gone before its child is
//! read; and a drained shard awaits lists until its children are known.

mod ancestry;
mod children;
mod share;

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::model::checkpoint::Checkpoint;
use crate::model::hash_key::HashKeyRange;
use crate::model::position::Position;
use crate::model::shard::{ChildShard, Shard, ShardId};

use super::options::Start;
use super::shard::start::ShardStart;

use self::ancestry::Ancestry;
pub(super) use self::share::Share;

/// Every shard that a reader knows of, and how far it is.
#[derive(Debug)]
pub(super) struct Lineage {
    stream: String,
    start: Start,
    share: Share,
    checkpoints: BTreeMap<ShardId, Checkpoint>,
    ancestry: Ancestry,
    nodes: BTreeMap<ShardId, Node>,
    /// The known children of each shard.
    children: BTreeMap<ShardId, Vec<ShardId>>,
    /// Drained shards whose children are not all known yet.
    unsettled: BTreeSet<ShardId>,
    /// Whether the first list was applied: other shards were created after the start.
    has_started: bool,
    outcomes: Vec<Outcome>,
}

/// What the caller is told, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The shard can be read now.
    Ready(ShardId, ShardStart),
    /// A shard names this one as its parent, and no list has shown it: the caller has to find out whether it exists.
    Confirm(ShardId),
    /// The shard was read to its end; these are its children.
    Ended(ShardId, Vec<ShardId>),
    /// The shard is not read, or not to its end.
    Failed(ShardId, Lost),
}

/// Why a shard is not read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Retention has removed it.
    Removed,
    /// Its parents are gone, and so is this chosen shard, so that it cannot be told whether the one descends from the other.
    Orphaned { chosen: ShardId },
}

#[derive(Debug)]
struct Node {
    /// `None` while no list has shown the shard.
    info: Option<Info>,
    state: State,
    /// Whether it has a checkpoint, or descends from a shard that has one.
    is_resumed: bool,
}

#[derive(Debug)]
struct Info {
    parents: Vec<ShardId>,
    range: HashKeyRange,
    is_open: bool,
    /// Whether it was there at the start of the reader.
    was_there: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No list has shown it.
    Unlisted(Unlisted),
    /// It descends from a shard that no list has shown, so that its owner is not known yet.
    Undecided,
    /// Closed, and its descendants are not all listed: it is not known yet whether it was read, or closed before the start.
    Unclear,
    /// Left to another reader.
    NotOwned,
    /// Waits until its parents are drained.
    Waiting(ShardStart),
    Reading,
    /// Read up to its newest record, where the reader ends.
    CaughtUp,
    /// Read to its end, or closed before the start.
    Drained,
    /// Removed by retention: counts as drained.
    Gone {
        is_owned: bool,
        /// Whether records of it may be lost.
        is_lost: bool,
    },
    /// Its children wait for ever.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unlisted {
    /// The caller is finding out whether it exists.
    Unconfirmed,
    /// It exists: the next lists will show it.
    Exists,
}

impl Lineage {
    /// The lineage of a reader that starts now. `shards` is the first list, sorted by id. `gone` are the shards of the
    /// checkpoints and of the share that do not exist any more.
    ///
    /// # Errors
    /// [`Error::ShardNotFound`] for a chosen shard that neither exists nor has children.
    pub(super) fn new(
        stream: &str,
        shards: &[Shard],
        gone: &BTreeSet<ShardId>,
        start: Start,
        share: Share,
        checkpoints: BTreeMap<ShardId, Checkpoint>,
    ) -> Result<Self> {
        let mut lineage = Self {
            stream: stream.into(),
            start,
            share,
            checkpoints,
            ancestry: Ancestry::default(),
            nodes: BTreeMap::new(),
            children: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            has_started: false,
            outcomes: Vec::new(),
        };
        let names = |shard: &ShardId| match &lineage.share {
            Share::Shards(chosen) => chosen.contains(shard),
            Share::All | Share::HashKeys(_) => true,
        };
        let mut nodes = BTreeMap::new();
        for (shard, checkpoint) in &lineage.checkpoints {
            if checkpoint.is_ended() && names(shard) {
                nodes.insert(shard.clone(), Node { info: None, state: State::Drained, is_resumed: true });
            }
        }
        for shard in gone.iter().filter(|shard| names(shard)) {
            let is_resumed = lineage.checkpoints.contains_key(shard);
            if is_resumed {
                lineage.outcomes.push(Outcome::Failed(shard.clone(), Lost::Removed));
            }
            let state = State::Gone { is_owned: true, is_lost: is_resumed };
            nodes.insert(shard.clone(), Node { info: None, state, is_resumed });
        }
        lineage.nodes = nodes;
        lineage.apply(shards);
        if let Some(chosen) =
            lineage.share.chosen().find(|id| gone.contains(*id) && !lineage.children.contains_key(*id))
        {
            return Err(Error::ShardNotFound { shard: chosen.clone(), stream: lineage.stream });
        }
        Ok(lineage)
    }

    /// Applies a list, sorted by id. It may be old, and may lack shards.
    pub(super) fn apply(&mut self, shards: &[Shard]) {
        self.trace_ancestors(shards);
        // Sorted by id, parents come before their children.
        for shard in shards {
            self.learn(ChildShard::from(shard), shard.is_open());
        }
        self.has_started = true;
        self.decide();
        self.settle();
        let waiting = self.nodes.iter().filter(|(_, node)| matches!(node.state, State::Waiting(_)));
        let waiting = waiting.map(|(id, _)| id.clone()).collect();
        self.advance(waiting);
    }

    /// Every record of the shard was delivered; the backend named these children, or none.
    pub(super) fn drained(&mut self, shard: &ShardId, children: Vec<ChildShard>) {
        self.set_state(shard, State::Drained);
        let mut changed: Vec<ShardId> = children.iter().map(|child| child.id.clone()).collect();
        children.into_iter().for_each(|child| self.learn(child, true));
        let is_told = !changed.is_empty();
        if is_told || self.knows_children(shard, &[]) {
            self.tell_end(shard);
        } else {
            self.unsettled.insert(shard.clone());
        }
        changed.push(shard.clone());
        self.changed(changed);
    }

    /// The shard does not exist any more.
    pub(super) fn gone(&mut self, shard: &ShardId) {
        // Nothing was owed of a shard that was removed before the start.
        let was_owed = !matches!(self.state(shard), None | Some(State::Unlisted(_)));
        self.set_state(shard, State::Gone { is_owned: was_owed, is_lost: was_owed });
        if was_owed {
            self.outcomes.push(Outcome::Failed(shard.clone(), Lost::Removed));
            if !self.knows_children(shard, &[]) {
                self.unsettled.insert(shard.clone());
            }
        }
        self.settle();
        self.changed(vec![shard.clone()]);
    }

    /// These shards have another state: others may wait for that.
    fn changed(&mut self, mut changed: Vec<ShardId>) {
        changed.extend(self.decide());
        let children = changed.iter().flat_map(|id| self.children_of(id)).cloned();
        let waiting = children.chain(changed.iter().cloned()).collect();
        self.advance(waiting);
    }

    /// A shard that was to be [confirmed](Outcome::Confirm) exists.
    pub(super) fn exists(&mut self, shard: &ShardId) {
        if let Some(Node { state: state @ State::Unlisted(_), .. }) = self.nodes.get_mut(shard) {
            *state = State::Unlisted(Unlisted::Exists);
        }
    }

    /// The newest record of the shard was delivered, and the reader ends there.
    pub(super) fn caught_up(&mut self, shard: &ShardId) {
        self.set_state(shard, State::CaughtUp);
    }

    /// The shard cannot be read any further.
    pub(super) fn failed(&mut self, shard: &ShardId) {
        self.set_state(shard, State::Failed);
        self.unsettled.remove(shard);
    }

    /// What has happened since the last call.
    pub(super) fn outcomes(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes)
    }

    /// A shard for which a newer list is needed: its children are not known, or no list has shown it.
    pub(super) fn awaits_list(&self) -> Option<&ShardId> {
        let is_awaited = |node: &Node| matches!(node.state, State::Unlisted(Unlisted::Exists) | State::Unclear);
        let unlisted = || self.nodes.iter().find(|(_, node)| is_awaited(node)).map(|(id, _)| id);
        self.unsettled.first().or_else(unlisted)
    }

    /// A shard of another reader that may be split or merged into shards of this one. Its end is told to the other reader alone,
    /// so that only a list shows them.
    pub(super) fn watched(&self) -> Option<&ShardId> {
        let Share::HashKeys(share) = &self.share else { return None };
        let is_watched = |id: &ShardId, node: &Node| {
            let range = node.info.as_ref().map(|info| info.range);
            node.state == State::NotOwned
                && range.is_some_and(|range| range.overlaps(*share))
                && !self.knows_children(id, &[])
        };
        self.nodes.iter().find(|(id, node)| is_watched(id, node)).map(|(id, _)| id)
    }

    /// No newer list will come: the shards for which one is needed have failed.
    pub(super) fn give_up_lists(&mut self) -> Vec<ShardId> {
        let unlisted = self.nodes.iter().filter(|(_, node)| matches!(node.state, State::Unlisted(_) | State::Unclear));
        let mut given_up: Vec<ShardId> = unlisted.map(|(id, _)| id.clone()).collect();
        given_up.extend(std::mem::take(&mut self.unsettled));
        given_up.iter().for_each(|shard| self.set_state(shard, State::Failed));
        given_up
    }

    /// The shards that were not read to their end although they had to be: those that failed, and those that wait for them.
    pub(super) fn incomplete(&self) -> Vec<ShardId> {
        let of = |is_wanted: fn(State) -> bool| {
            self.nodes.iter().filter(move |(_, node)| is_wanted(node.state)).map(|(id, _)| id.clone())
        };
        let failed = of(|state| matches!(state, State::Failed | State::Gone { is_lost: true, .. }));
        let waiting =
            of(|state| matches!(state, State::Waiting(_) | State::Undecided | State::Unclear | State::Unlisted(_)));
        failed.chain(waiting).collect()
    }

    fn set_state(&mut self, shard: &ShardId, state: State) {
        if let Some(node) = self.nodes.get_mut(shard) {
            node.state = state;
        }
    }

    fn state(&self, shard: &ShardId) -> Option<State> {
        self.nodes.get(shard).map(|node| node.state)
    }

    /// Learns of a shard, from a list or from the end of its parent.
    fn learn(&mut self, shard: ChildShard, is_open: bool) {
        let ChildShard { id, parents, hash_key_range: range } = shard;
        if self.nodes.get(&id).is_some_and(|node| node.info.is_some()) {
            return;
        }
        for parent in &parents {
            self.children.entry(parent.clone()).or_default().push(id.clone());
        }
        let descends = |parent: &ShardId| {
            self.ancestry.begun.contains(parent) || self.nodes.get(parent).is_some_and(|node| node.is_resumed)
        };
        let has_checkpoint = self.checkpoints.contains_key(&id);
        let is_resumed = has_checkpoint || parents.iter().any(descends);
        let is_open = is_open && !self.ancestry.elders.contains(&id);
        let info = Info { parents, range, is_open, was_there: self.was_there(&id) };
        let state = match self.state(&id) {
            Some(gone @ State::Gone { .. }) => gone,
            _ => self.initial_state(&id, &info, is_resumed, self.may_be_unclear(&info)),
        };
        if state == State::Drained && has_checkpoint {
            self.unsettled.insert(id.clone());
        }
        self.nodes.insert(id, Node { info: Some(info), state, is_resumed });
    }

    fn initial_state(&self, id: &ShardId, info: &Info, is_resumed: bool, is_unclear: bool) -> State {
        match self.is_owned(id, info) {
            None => return State::Undecided,
            Some(false) => return State::NotOwned,
            Some(true) => {}
        }
        if let Some(checkpoint) = self.checkpoints.get(id) {
            return ShardStart::resume(*checkpoint).map_or(State::Drained, State::Waiting);
        }
        if self.ancestry.begun.contains(id) {
            return State::Drained;
        }
        if is_unclear {
            return State::Unclear;
        }
        let position = match &self.start {
            _ if is_resumed => Position::TrimHorizon,
            Start::At(record) if record.shard == *id => return State::Waiting(ShardStart::at(record)),
            Start::After(record) if record.shard == *id => {
                return ShardStart::resume(Checkpoint::after(record)).map_or(State::Drained, State::Waiting);
            }
            Start::Latest if !self.was_there(id) => Position::TrimHorizon,
            Start::Latest if info.is_open => Position::Latest,
            Start::Latest => return State::Drained,
            Start::Time(time) => Position::AtTime(*time),
            Start::All | Start::At(_) | Start::After(_) => Position::TrimHorizon,
        };
        State::Waiting(position.into())
    }

    /// Whether this reader owns the shard; `None` if that is not known yet.
    fn is_owned(&self, id: &ShardId, info: &Info) -> Option<bool> {
        let chosen = match &self.share {
            Share::All => return Some(true),
            Share::HashKeys(range) => return Some(range.contains(info.range.first)),
            Share::Shards(chosen) => chosen,
        };
        if chosen.contains(id) {
            return Some(true);
        }
        let Some(first) = info.parents.first() else { return Some(false) };
        let owned = chosen.contains(first) || self.is_state_owned(self.state(first)?)?;
        if let [parent, adjacent] = &info.parents[..]
            && let Some(Some(is_adjacent_owned)) = self.state(adjacent).map(|state| self.is_state_owned(state))
        {
            match (owned, is_adjacent_owned) {
                (true, false) => tracing::info!(
                    shard = %id,
                    "merged from {parent} and {adjacent}; read here after {parent} alone, since another reader owns {adjacent}"
                ),
                (false, true) => tracing::info!(
                    shard = %id,
                    "merged from {parent} and {adjacent}; left to the reader that owns {parent}"
                ),
                _ => {}
            }
        }
        Some(owned)
    }

    /// Whether this reader owns a shard in this state; `None` if that is not known.
    fn is_state_owned(&self, state: State) -> Option<bool> {
        match state {
            State::Unlisted(_) | State::Undecided => None,
            State::NotOwned => Some(false),
            // It does not descend from a chosen shard that is still there: retention removes parents first.
            State::Gone { is_owned: false, .. } => self.gone_chosen().is_none().then_some(false),
            _ => Some(true),
        }
    }

    fn gone_chosen(&self) -> Option<&ShardId> {
        self.share.chosen().find(|id| matches!(self.state(id), Some(State::Gone { .. })))
    }

    /// Starts those of these shards whose parents are drained.
    fn advance(&mut self, shards: Vec<ShardId>) {
        for id in shards {
            let Some(Node { info: Some(info), state: State::Waiting(start), .. }) = self.nodes.get(&id) else {
                continue;
            };
            let start = *start;
            // The parents of a shard with a checkpoint were drained, and those of one that is read from now on do not matter.
            let matter = !self.checkpoints.contains_key(&id) && start.position != Position::Latest;
            let is_unknown = |parent: &&ShardId| {
                matter && !self.ancestry.begun.contains(*parent) && !self.nodes.contains_key(*parent)
            };
            let unknown: Vec<ShardId> = info.parents.iter().filter(is_unknown).cloned().collect();
            let is_ready = unknown.is_empty() && info.parents.iter().all(|parent| self.is_drained(parent));
            unknown.into_iter().for_each(|parent| self.confirm(parent));
            if is_ready {
                self.set_state(&id, State::Reading);
                self.outcomes.push(Outcome::Ready(id, start));
            }
        }
    }

    fn confirm(&mut self, shard: ShardId) {
        let state = State::Unlisted(Unlisted::Unconfirmed);
        self.nodes.insert(shard.clone(), Node { info: None, state, is_resumed: false });
        self.outcomes.push(Outcome::Confirm(shard));
    }

    /// Decides about shards whose owner, or whose start, was not known. Returns those that have another state now.
    fn decide(&mut self) -> Vec<ShardId> {
        let mut decided = Vec::new();
        // Sorted by id, parents come before their children.
        let is_undecided = |node: &Node| matches!(node.state, State::Undecided | State::Unclear);
        let undecided: Vec<ShardId> =
            self.nodes.iter().filter(|(_, node)| is_undecided(node)).map(|(id, _)| id.clone()).collect();
        let unclear = self.unclear();
        for id in undecided {
            let Some(Node { info: Some(info), is_resumed, .. }) = self.nodes.get(&id) else { continue };
            let state = self.initial_state(&id, info, *is_resumed, unclear.contains(&id));
            let first = info.parents.first().cloned();
            if state != State::Undecided {
                self.set_state(&id, state);
                decided.push(id);
                continue;
            }
            let Some(first) = first else { continue };
            match (self.state(&first), self.gone_chosen().cloned()) {
                (None, _) => self.confirm(first),
                (Some(State::Gone { .. }), Some(chosen)) => {
                    self.set_state(&id, State::Failed);
                    self.outcomes.push(Outcome::Failed(id, Lost::Orphaned { chosen }));
                }
                _ => {}
            }
        }
        decided
    }

    fn is_drained(&self, parent: &ShardId) -> bool {
        matches!(self.state(parent), None | Some(State::NotOwned | State::Drained | State::Gone { .. }))
    }
}

#[cfg(test)]
mod tests;
