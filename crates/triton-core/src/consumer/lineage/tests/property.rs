//! A reader over a stream that is resharded, whose lists are old, flap and lack shards, that is stopped and goes on: it reads
//! every shard once, after its parents.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// Plays one run; the seed decides everything.
struct Run {
    random: StdRng,
    map: ShardMap,
    /// What the stream looked like after each change.
    history: Vec<Vec<Shard>>,
    checkpoints: BTreeMap<ShardId, Checkpoint>,
    /// Shards that were read to their end, by any of the readers.
    drained: BTreeSet<ShardId>,
    /// Shards that were ever begun.
    begun: BTreeSet<ShardId>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let map = ShardMap::uniform("clicks", random.random_range(1..=3), 1).unwrap();
        let history = vec![map.shards().to_vec()];
        let (checkpoints, drained, begun) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { random, map, history, checkpoints, drained, begun }
    }

    fn reshard(&mut self) {
        let open: Vec<Shard> = self.map.open().cloned().collect();
        let shard = &open[self.random.random_range(0..open.len())];
        let adjacent =
            open.iter().find(|other| other.hash_key_range.first.0.checked_sub(1) == Some(shard.hash_key_range.last.0));
        match (adjacent, shard.hash_key_range.middle()) {
            (Some(adjacent), _) if self.random.random() => {
                let (a, b) = if self.random.random() { (shard, adjacent) } else { (adjacent, shard) };
                self.map.merge(&a.id, &b.id, &mut 10).unwrap();
            }
            (_, Some(middle)) => drop(self.map.split(&shard.id, middle, &mut 10).unwrap()),
            _ => {}
        }
        self.history.push(self.map.shards().to_vec());
    }

    /// A list: the newest, an old one, or one that lacks shards.
    fn list(&mut self) -> Vec<Shard> {
        let newest = self.history.len() - 1;
        let at = if self.random.random_bool(0.5) { newest } else { self.random.random_range(0..=newest) };
        let mut list = self.history[at].clone();
        if self.random.random_bool(0.3) {
            let random = &mut self.random;
            list.retain(|_| random.random_bool(0.8));
        }
        list
    }

    /// A first list as a reader takes it: every hash key is there, and every shard of a checkpoint.
    fn first_list(&mut self) -> Vec<Shard> {
        let mut known: BTreeMap<ShardId, Shard> = BTreeMap::new();
        loop {
            for shard in self.list() {
                if known.get(&shard.id).is_none_or(Shard::is_open) {
                    known.insert(shard.id.clone(), shard);
                }
            }
            let open = known.values().filter(|shard| shard.is_open()).map(|shard| shard.hash_key_range);
            let begun = self.checkpoints.iter().filter(|(_, checkpoint)| !checkpoint.is_ended());
            if HashKeyRange::ALL.is_covered_by(open)
                && begun.map(|(shard, _)| shard).all(|shard| known.contains_key(shard))
            {
                return known.into_values().collect();
            }
        }
    }

    /// One reader, until it has read everything or is stopped.
    fn read(&mut self, is_last: bool) {
        let first = self.first_list();
        let mut lineage = resumed(&first, Start::All, &[], &[]);
        if !self.checkpoints.is_empty() {
            let none = BTreeSet::new();
            let checkpoints = self.checkpoints.clone();
            lineage = Lineage::new("clicks", &first, &none, Start::All, Share::All, checkpoints).unwrap();
        }
        let mut reading: Vec<ShardId> = Vec::new();
        let mut told = BTreeSet::new();
        let mut idle = 0;
        while idle < 200 {
            for outcome in lineage.outcomes() {
                match outcome {
                    Outcome::Ready(shard, start) => {
                        let parents: Vec<ShardId> = self.map.get(&shard).unwrap().parents().cloned().collect();
                        assert!(
                            parents.iter().all(|parent| self.drained.contains(parent)),
                            "{shard} before its parents"
                        );
                        assert!(told.insert(shard.clone()), "{shard} twice");
                        assert!(
                            self.checkpoints.get(&shard).is_none_or(|checkpoint| !checkpoint.is_ended()),
                            "{shard} again"
                        );
                        let expected = if self.begun.contains(&shard) { "after 5" } else { "start" };
                        assert_eq!(short(start.position), expected, "{shard}");
                        reading.push(shard);
                    }
                    Outcome::Confirm(shard) => lineage.exists(&shard),
                    Outcome::Ended(shard, _) => drop(self.checkpoints.insert(shard, Checkpoint::ENDED)),
                    Outcome::Failed(shard, _) => panic!("{shard} failed"),
                }
            }
            idle += 1;
            match self.random.random_range(0..4) {
                0 if !is_last && self.random.random_bool(0.1) => return,
                0 if lineage.awaits_list().is_some() => {
                    let list = self.list();
                    lineage.apply(&list);
                }
                1 if self.history.len() < 8 => self.reshard(),
                _ if reading.is_empty() => {}
                _ => {
                    let shard = reading[self.random.random_range(0..reading.len())].clone();
                    if self.begun.insert(shard.clone()) {
                        self.checkpoints.insert(shard, after(5));
                    } else if !self.map.get(&shard).unwrap().is_open() {
                        reading.retain(|other| *other != shard);
                        self.drained.insert(shard.clone());
                        let children =
                            self.map.shards().iter().filter(|child| child.parents().any(|parent| *parent == shard));
                        let children = children.map(ChildShard::from).collect();
                        lineage.drained(&shard, if self.random.random() { children } else { vec![] });
                    }
                }
            }
        }
        assert!(is_last || !reading.is_empty());
        if is_last {
            let open: Vec<ShardId> = self.map.open().map(|shard| shard.id.clone()).collect();
            for shard in self.map.shards() {
                assert!(
                    self.drained.contains(&shard.id) || shard.is_open() && reading.contains(&shard.id),
                    "{} is missing",
                    shard.id
                );
            }
            assert!(open.len() == reading.len() && lineage.awaits_list().is_none());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_shard_is_read_once_and_after_its_parents(seed: u64) {
        let mut run = Run::new(seed);
        for _ in 0..run.random.random_range(0..4) {
            run.read(false);
        }
        run.read(true);
    }
}
