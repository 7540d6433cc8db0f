//! The shard list of the model, which may lag behind splits and merges.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use triton_core::Shard;

use super::fault::{FaultCounts, InjectedFault};

/// How the shard list lags behind splits and merges.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ListLag {
    /// The two ages that a list may have. A list is current if both are zero, lags if both are the same, and flaps if they
    /// differ.
    pub(crate) ages: [Duration; 2],
    /// How long after a split or merge lists may lack shards.
    pub(crate) partial_for: Duration,
    /// The probability that a list lacks a shard then, for each shard.
    pub(crate) missing: f64,
}

impl ListLag {
    /// The time after a split or merge from which on every list is current and complete.
    pub(crate) fn longest(&self) -> Duration {
        let [one, other] = self.ages;
        one.max(other).max(self.partial_for)
    }
}

/// Every list that the stream has had. Times are milliseconds since the start of the run.
#[derive(Debug, Default)]
pub(super) struct ShardLists {
    /// Each list, and since when it is right.
    lists: Vec<(u64, Vec<Shard>)>,
    /// Index of the newest list that was returned.
    newest_returned: usize,
}

impl ShardLists {
    /// The shards have changed.
    pub(super) fn push(&mut self, now: u64, shards: &[Shard]) {
        self.lists.push((now, shards.to_vec()));
    }

    /// When the shards have changed for the last time.
    pub(super) fn changed_at(&self) -> u64 {
        self.lists.last().map_or(0, |(since, _)| *since)
    }

    /// What a listing returns.
    pub(super) fn draw(
        &mut self,
        now: u64,
        lag: ListLag,
        random: &mut StdRng,
        injected: &mut FaultCounts,
    ) -> Vec<Shard> {
        let age = lag.ages[random.random_range(0..2)].as_millis() as u64;
        let index = self.lists.iter().rposition(|(since, _)| since + age <= now).unwrap_or(0);
        let Some((_, list)) = self.lists.get(index) else { return Vec::new() };
        if index + 1 < self.lists.len() {
            injected.add(InjectedFault::OldList);
        }
        if index < self.newest_returned {
            injected.add(InjectedFault::FlappingList);
        }
        self.newest_returned = self.newest_returned.max(index);
        let partial_until = self.changed_at() + lag.partial_for.as_millis() as u64;
        let is_partial = self.lists.len() > 1 && now < partial_until;
        let mut shown = list.clone();
        if is_partial {
            shown.retain(|_| !random.random_bool(lag.missing));
            if shown.len() < list.len() {
                injected.add(InjectedFault::PartialList);
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use triton_core::ShardMap;

    const AGE: Duration = Duration::from_millis(300);
    const CHANGED_AT: u64 = 1_000;

    /// Numbers of shards in many lists that are drawn at this time. The stream has one shard, which is split at a time.
    fn shown(now: u64, lag: ListLag) -> (Vec<usize>, FaultCounts) {
        let mut map = ShardMap::uniform("clicks", 1, 1).unwrap();
        let (mut lists, mut injected) = (ShardLists::default(), FaultCounts::default());
        lists.push(0, map.shards());
        let shard = map.shards()[0].clone();
        map.split(&shard.id, shard.hash_key_range.middle().unwrap(), &mut 2).unwrap();
        lists.push(CHANGED_AT, map.shards());
        let mut random = StdRng::seed_from_u64(1);
        let mut shown: Vec<usize> = (0..100).map(|_| lists.draw(now, lag, &mut random, &mut injected).len()).collect();
        shown.sort_unstable();
        shown.dedup();
        (shown, injected)
    }

    #[test]
    fn a_list_is_old_flaps_or_lacks_shards_until_it_settles() {
        let old = ListLag { ages: [AGE; 2], ..ListLag::default() };
        let flapping = ListLag { ages: [Duration::ZERO, AGE], ..ListLag::default() };
        let partial = ListLag { partial_for: AGE, missing: 0.5, ..ListLag::default() };
        let cases = [
            (old, vec![1], [InjectedFault::OldList].as_slice()),
            (flapping, vec![1, 3], &[InjectedFault::OldList, InjectedFault::FlappingList]),
            (partial, vec![0, 1, 2, 3], &[InjectedFault::PartialList]),
        ];
        for (lag, sizes, faults) in cases {
            let (shown_before, injected) = shown(CHANGED_AT + 299, lag);
            assert_eq!(shown_before, sizes);
            for fault in [InjectedFault::OldList, InjectedFault::FlappingList, InjectedFault::PartialList] {
                assert_eq!(injected.of(fault) > 0, faults.contains(&fault), "{fault:?}");
            }
            assert_eq!((lag.longest(), shown(CHANGED_AT + 300, lag).0), (AGE, vec![3]));
        }
    }
}
