//! Shard lists that are not the stream's at the moment: old, flapping or partial.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::shard::{Shard, ShardId};

/// An exact fault of the shard list: what [`StreamClient::shards`](crate::StreamClient::shards) returns in place of the list.
///
/// ```
/// use std::time::Duration;
/// use triton_core::ShardId;
/// use triton_core::testing::ListFault;
///
/// // A list that lags by three seconds.
/// let old = ListFault::old(Duration::from_secs(3));
/// // A list that flaps: every second answer is ten seconds old.
/// let flapping = ListFault::old(Duration::from_secs(10)).every(2);
/// // The next answer misses a shard.
/// let partial = ListFault::partial([ShardId::numbered(1)]).times(1);
/// # drop((old, flapping, partial));
/// ```
#[derive(Clone, Debug)]
pub struct ListFault {
    answer: Answer,
    every: usize,
    skip: usize,
    times: usize,
    /// Calls since the skipped ones.
    calls: usize,
}

#[derive(Clone, Debug)]
enum Answer {
    Old(Duration),
    Partial(Vec<ShardId>),
}

impl ListFault {
    /// Every list is the one of this long ago, or the first one since the first fault was added. A change counts from the first
    /// call after it: a client knows only the lists that it has seen.
    pub fn old(age: Duration) -> Self {
        Self::new(Answer::Old(age))
    }

    /// Every list misses these shards.
    pub fn partial(missing: impl IntoIterator<Item = ShardId>) -> Self {
        Self::new(Answer::Partial(missing.into_iter().collect()))
    }

    fn new(answer: Answer) -> Self {
        Self { answer, every: 1, skip: 0, times: usize::MAX, calls: 0 }
    }

    /// Only every n-th list: the others are as they should be.
    pub fn every(self, n: usize) -> Self {
        Self { every: n.max(1), ..self }
    }

    /// Only after this many calls have passed.
    pub fn skip(self, calls: usize) -> Self {
        Self { skip: calls, ..self }
    }

    /// For this many lists.
    pub fn times(self, lists: usize) -> Self {
        Self { times: lists, ..self }
    }

    /// Whether the fault is injected into this call; counts the call.
    fn strikes(&mut self) -> bool {
        if self.times == 0 {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.calls += 1;
        let strikes = self.calls.is_multiple_of(self.every);
        self.times -= usize::from(strikes);
        strikes
    }
}

/// The faults of a stream's shard list, and the lists that were seen since the first of them.
#[derive(Debug, Default)]
pub(super) struct FaultyLists {
    faults: Vec<ListFault>,
    /// Each list that differs from the one before, and when it was seen first.
    seen: Vec<(Instant, Vec<Shard>)>,
}

impl FaultyLists {
    pub(super) fn inject(&mut self, fault: ListFault) {
        self.faults.push(fault);
    }

    /// Whether there are faults, and lists have to be remembered.
    pub(super) fn is_active(&self) -> bool {
        !self.faults.is_empty()
    }

    /// Remembers a list.
    pub(super) fn saw(&mut self, shards: &[Shard], now: Instant) {
        if self.seen.last().is_none_or(|(_, last)| last != shards) {
            self.seen.push((now, shards.to_vec()));
        }
    }

    /// What a call returns while the stream has these shards.
    pub(super) fn answer(&mut self, shards: Vec<Shard>, now: Instant) -> Vec<Shard> {
        let fault = self.faults.iter_mut().find_map(|fault| fault.strikes().then(|| fault.answer.clone()));
        match fault {
            None => shards,
            Some(Answer::Partial(missing)) => shards.into_iter().filter(|shard| !missing.contains(&shard.id)).collect(),
            Some(Answer::Old(age)) => {
                let is_old_enough = |seen_at: Instant| now.saturating_duration_since(seen_at) >= age;
                let old = self.seen.iter().rev().find(|(seen_at, _)| is_old_enough(*seen_at));
                old.or(self.seen.first()).map_or(shards, |(_, list)| list.clone())
            }
        }
    }
}
