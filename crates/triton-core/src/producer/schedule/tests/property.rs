//! Whatever happens in whatever order, each record ends once, and the records of a key are stored in order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::timestamp::Timestamp;
use crate::record::aggregate::unpack_all;
use crate::record::{Entries, Record};

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Submit {
        key: u8,
        count: usize,
    },
    Advance(Duration),
    /// A batch in flight is answered: by an error of the call, or with one result per entry, in turns.
    Answer {
        batch: usize,
        call: Option<Fault>,
        entries: Vec<Option<Fault>>,
    },
    Split {
        shard: usize,
    },
    Merge {
        shard: usize,
    },
    List(List),
}

/// What a listing is answered.
#[derive(Clone, Copy, Debug)]
enum List {
    Current,
    /// The list of some reshards ago.
    Old(usize),
    /// The list without one of its shards.
    Partial(usize),
    Failed,
}

fn list() -> impl Strategy<Value = List> {
    prop_oneof![
        Just(List::Current),
        (1..4usize).prop_map(List::Old),
        any::<usize>().prop_map(List::Partial),
        Just(List::Failed),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Throttled,
    /// No answer, whether it was written or not.
    Lost {
        was_written: bool,
    },
    /// Not worth another attempt, whether it was written or not.
    Torn {
        was_written: bool,
    },
    /// Not worth another attempt, and not written.
    Refused,
}

impl Fault {
    fn was_written(self) -> bool {
        matches!(self, Fault::Lost { was_written: true } | Fault::Torn { was_written: true })
    }

    fn error(self) -> Error {
        match self {
            Fault::Throttled => throttled(),
            Fault::Lost { .. } => lost(),
            Fault::Torn { .. } => torn(),
            Fault::Refused => Error::Invalid { problem: "no".into() },
        }
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::Throttled),
        3 => any::<bool>().prop_map(|was_written| Fault::Lost { was_written }),
        1 => any::<bool>().prop_map(|was_written| Fault::Torn { was_written }),
        1 => Just(Fault::Refused),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6u8, 1..5usize).prop_map(|(key, count)| Step::Submit { key, count }),
        3 => (1..500u64).prop_map(|millis| Step::Advance(Duration::from_millis(millis))),
        6 => (any::<usize>(), prop::option::weighted(0.2, fault()), prop::collection::vec(prop::option::weighted(0.3, fault()), 1..5))
            .prop_map(|(batch, call, entries)| Step::Answer { batch, call, entries }),
        1 => any::<usize>().prop_map(|shard| Step::Split { shard }),
        1 => any::<usize>().prop_map(|shard| Step::Merge { shard }),
        2 => list().prop_map(Step::List),
    ]
}

/// How the producer under test works.
#[derive(Clone, Copy, Debug)]
enum Mode {
    Relaxed,
    PerKey,
    Aggregated,
    OrderedCalls,
}

/// A stream that remembers what was written, and a schedule that puts into it.
struct World {
    mode: Mode,
    driven: Driven,
    shards: ShardMap,
    sequence: u64,
    in_flight: Vec<(BatchId, Entries)>,
    is_listing: bool,
    /// Payloads, in the order in which they were written.
    written: Vec<String>,
    /// Those of them that a reader gets which drops each aggregate with a record of another shard.
    filtered: Vec<String>,
    /// The shard list after each reshard.
    lists: Vec<Vec<Shard>>,
    submitted: Vec<String>,
    counts: BTreeMap<u8, usize>,
}

impl World {
    fn new(mode: Mode) -> Self {
        let limits = if matches!(mode, Mode::OrderedCalls) { ordered() } else { unordered() };
        let ordering = if matches!(mode, Mode::Relaxed) { KeyOrder::Relaxed } else { KeyOrder::PerKey };
        let options = ProducerOptions::default()
            .with_linger(Duration::from_millis(20))
            .with_retry(RetryPolicy::default().with_deadline(Duration::from_secs(3)))
            .with_ordering(ordering)
            .with_aggregation(matches!(mode, Mode::Aggregated));
        let shards = ShardMap::uniform("clicks", 2, 0).unwrap();
        let driven = Driven::new(limits.with_max_entries(4), &options, Some(shards.shards()));
        Self {
            mode,
            driven,
            lists: vec![shards.shards().to_vec()],
            shards,
            sequence: 1,
            in_flight: Vec::new(),
            is_listing: false,
            written: Vec::new(),
            filtered: Vec::new(),
            submitted: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Submit { key, count } => {
                for _ in 0..count {
                    let number = self.counts.entry(key).or_default();
                    let text = format!("{key}/{number:03}");
                    *number += 1;
                    self.driven.submit(&[&text]);
                    self.submitted.push(text);
                }
            }
            Step::Advance(time) => self.driven.advance(time),
            Step::Answer { batch, call, entries } => {
                if !self.in_flight.is_empty() {
                    let (id, batch) = self.in_flight.swap_remove(batch % self.in_flight.len());
                    let answer = self.put(&batch, call, &entries);
                    drop(batch);
                    self.driven.answer(id, answer);
                }
            }
            Step::Split { shard } => self.split(shard),
            Step::Merge { shard } => self.merge(shard),
            Step::List(list) => self.list(list),
        }
        let poll = self.driven.schedule.poll(self.driven.now);
        self.in_flight.extend(poll.batches);
        self.is_listing |= poll.list_shards.is_some();
    }

    fn put(
        &mut self,
        batch: &[PutEntry],
        call: Option<Fault>,
        entries: &[Option<Fault>],
    ) -> Result<Vec<Result<PutReceipt>>> {
        // A backend that keeps the order of a call writes all of it or nothing.
        let is_whole = matches!(self.mode, Mode::OrderedCalls);
        let call = call.or(if is_whole { entries[0] } else { None });
        if let Some(fault) = call {
            if fault.was_written() {
                batch.iter().for_each(|entry| drop(self.write(entry)));
            }
            return Err(fault.error());
        }
        let faults: Vec<Option<Fault>> = if is_whole {
            vec![None; batch.len()]
        } else {
            entries.iter().copied().cycle().take(batch.len()).collect()
        };
        let mut results: Vec<(usize, Result<PutReceipt>)> = Vec::new();
        let mut entries: Vec<_> = batch.iter().zip(faults).enumerate().collect();
        if !is_whole {
            // Kinesis promises no order inside a call.
            entries.reverse();
        }
        for (index, (entry, fault)) in entries {
            let was_written = fault.is_none_or(Fault::was_written);
            let receipt = was_written.then(|| self.write(entry));
            results.push((
                index,
                match (fault, receipt) {
                    (None, Some(receipt)) => Ok(receipt),
                    (fault, _) => Err(fault.unwrap_or(Fault::Refused).error()),
                },
            ));
        }
        results.sort_by_key(|(index, _)| *index);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }

    fn write(&mut self, entry: &PutEntry) -> PutReceipt {
        let shard = self.shards.open().find(|shard| shard.hash_key_range.contains(entry.hash_key())).unwrap();
        let (shard_id, range) = (shard.id.clone(), shard.hash_key_range);
        self.sequence += 1;
        let sequence_number = self.sequence.into();
        let (key, data) = (entry.partition_key.clone(), entry.data.clone());
        let record = Record::new(shard_id.clone(), sequence_number, key, Timestamp::default(), data);
        let records = unpack_all(vec![record]);
        let texts = records.iter().map(|record| String::from_utf8_lossy(&record.data).into_owned());
        self.written.extend(texts.clone());
        if records.iter().all(|record| range.contains(record.partition_key.hash_key())) {
            self.filtered.extend(texts);
        }
        PutReceipt::new(shard_id, sequence_number)
    }

    fn split(&mut self, shard: usize) {
        let open: Vec<_> = self.shards.open().cloned().collect();
        let range = open[shard % open.len()].hash_key_range;
        let middle = HashKey(range.first.0 + (range.last.0 - range.first.0) / 2);
        if open.len() < 6 && middle > range.first {
            self.shards.split(&open[shard % open.len()].id, middle, &mut self.sequence).unwrap();
            self.lists.push(self.shards.shards().to_vec());
        }
    }

    fn merge(&mut self, shard: usize) {
        let mut open: Vec<_> = self.shards.open().cloned().collect();
        open.sort_by_key(|shard| shard.hash_key_range.first);
        if open.len() > 1 {
            let first = shard % (open.len() - 1);
            self.shards.merge(&open[first].id, &open[first + 1].id, &mut self.sequence).unwrap();
            self.lists.push(self.shards.shards().to_vec());
        }
    }

    fn list(&mut self, list: List) {
        if !std::mem::take(&mut self.is_listing) {
            return;
        }
        let mut shards = self.shards.shards().to_vec();
        match list {
            List::Current => {}
            List::Old(reshards) => shards = self.lists[self.lists.len().saturating_sub(reshards + 1)].clone(),
            List::Partial(missing) => drop(shards.remove(missing % shards.len())),
            List::Failed => {
                self.driven.schedule.shards_failed(&throttled(), self.driven.now);
                return self.driven.report();
            }
        }
        self.driven.schedule.shards(&shards, self.driven.now);
        self.driven.report();
    }

    /// The stream recovers, and everything comes to its end.
    fn finish(&mut self) {
        for _ in 0..1_000 {
            if self.driven.schedule.is_empty() {
                return;
            }
            self.step(Step::List(List::Current));
            self.step(Step::Answer { batch: 0, call: None, entries: vec![None] });
            self.step(Step::Advance(Duration::from_millis(100)));
        }
        panic!("records without an outcome: {:?}", self.driven.schedule.open_flushes);
    }

    fn check(&mut self) {
        self.driven.report();
        assert_eq!(self.driven.reported, self.submitted.len(), "an outcome per record");
        for (index, text) in self.submitted.iter().enumerate() {
            let outcome = (&mut self.driven.tickets[index]).now_or_never().expect("an outcome");
            let copies = self.written.iter().filter(|written| *written == text).count();
            match outcome {
                Ok(_) => {
                    assert!(copies > 0, "{text} was acknowledged and not written");
                    let is_read = self.filtered.contains(text);
                    assert!(is_read, "{text} was acknowledged, and is in no aggregate that belongs to its shard");
                }
                Err(error) => assert!(copies == 0 || error.may_have_written(), "{text} was written, yet {error}"),
            }
        }
        if matches!(self.mode, Mode::Relaxed) {
            return;
        }
        assert_ordered_by_key(&self.written);
        assert_ordered_by_key(&self.filtered);
    }
}

/// Asserts that the first occurrences of a key's records are in the order of their puts.
fn assert_ordered_by_key(texts: &[String]) {
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    for (index, text) in texts.iter().enumerate() {
        if texts[..index].contains(text) {
            continue;
        }
        let key = text.split('/').next().unwrap();
        if let Some(before) = last.insert(key, text) {
            assert!(before < text.as_str(), "{text} was first written after {before}: {texts:?}");
        }
    }
}

proptest! {
    #[test]
    fn each_record_ends_once_and_keys_keep_their_order(
        mode in prop_oneof![Just(Mode::Relaxed), Just(Mode::PerKey), Just(Mode::Aggregated), Just(Mode::OrderedCalls)],
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut world = World::new(mode);
        for step in steps {
            world.step(step);
        }
        world.finish();
        world.check();
    }
}
