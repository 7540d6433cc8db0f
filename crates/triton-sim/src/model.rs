//! A model of Kinesis: shards that split and merge, a shard list that lags behind them, quotas, latency, and injected
//! faults.
//!
//! It uses tokio's clock and a seeded random source, so that its behaviour depends only on the calls it receives.

mod client;
pub(crate) mod fault;
pub(crate) mod limiter;
pub(crate) mod shard_list;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;
use triton_core::ShardMap;
use triton_core::{
    ChildShard, Error, HashKey, Limits, PutEntry, PutReceipt, Record, Result, Shard, ShardId, Timestamp,
};

pub(crate) use self::client::Handle;

use self::fault::{FaultCounts, Faults, InjectedFault, Latency};
use self::limiter::{Granted, Limit, Limiter};
use self::shard_list::{ListLag, ShardLists};
use crate::check::{Checker, Log, Puts, StreamView};
use crate::payload::each_inner;
use crate::trace::Event;

/// The stream of a model, its quotas, and the faults injected into it.
#[derive(Clone, Debug)]
pub(crate) struct ModelOptions {
    pub(crate) seed: u64,
    pub(crate) shards: usize,
    pub(crate) limits: Limits,
    pub(crate) write: Limit,
    pub(crate) read: Limit,
    /// Maximum size of one page of a fetch, in bytes.
    pub(crate) page_bytes: usize,
    pub(crate) faults: Faults,
    pub(crate) latency: Latency,
    pub(crate) list_lag: ListLag,
    /// The period in which no put arrives, counted from the start of the run.
    pub(crate) outage: Range<Duration>,
    /// Whether records are stored. A benchmark of puts would run out of memory.
    pub(crate) keeps_records: bool,
}

/// The date at which the model's clock starts: 2015-06-10 20:47:56 UTC.
const EPOCH_MILLIS: i64 = 1_433_969_276_000;
/// Lifetime of a shard iterator, in milliseconds.
const ITERATOR_LIFE: u64 = 300_000;
/// How long a shard throttles fetches after a full page, in milliseconds.
const AFTER_FULL_PAGE: u64 = 5_000;

/// One stream of the model.
#[derive(Debug)]
pub(crate) struct Kinesis {
    options: ModelOptions,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    map: ShardMap,
    lists: ShardLists,
    /// The records of each shard, by shard number.
    records: Vec<Vec<Record>>,
    quotas: Vec<Quotas>,
    /// The first hash key and the number of each open shard, sorted.
    routes: Vec<(HashKey, usize)>,
    next_sequence: u64,
    next_call: u32,
    random: StdRng,
    injected: FaultCounts,
    /// Number of puts that are still to be applied after their callers were given an error.
    late: u32,
    accepted: Accepted,
    fetched: Fetched,
    checker: Option<Checker>,
}

#[derive(Debug)]
struct Quotas {
    write: Limiter,
    read: Limiter,
    refused_until: u64,
}

/// Totals of puts: what was stored, and what exceeded the write quota.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Accepted {
    pub(crate) bytes: u64,
    /// As sent: an aggregate counts as one.
    pub(crate) records: u64,
    pub(crate) throttled: u64,
    /// Calls that returned results, and the sum of their durations.
    pub(crate) calls: u64,
    pub(crate) time: Duration,
}

/// Totals of fetches: what was read, and what exceeded the read quota.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Fetched {
    pub(crate) bytes: u64,
    pub(crate) calls: u64,
    pub(crate) throttled: u64,
}

impl Kinesis {
    pub(crate) fn new(options: ModelOptions, checker: Option<Checker>) -> Result<Arc<Self>> {
        let map = ShardMap::uniform(NAME, options.shards, 1)?;
        let mut state = State {
            map,
            lists: ShardLists::default(),
            records: Vec::new(),
            quotas: Vec::new(),
            routes: Vec::new(),
            next_sequence: 2,
            next_call: 0,
            random: StdRng::seed_from_u64(options.seed),
            injected: FaultCounts::default(),
            late: 0,
            accepted: Accepted::default(),
            fetched: Fetched::default(),
            checker,
        };
        state.add_shards(&options, 0);
        Ok(Arc::new(Self { options, started: Instant::now(), state: Mutex::new(state) }))
    }

    /// Milliseconds since the run began.
    pub(crate) fn millis(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(checker) = &mut state.checker {
            checker.log.now = self.millis();
        }
        state
    }

    /// Calls the checker with the current state of the stream, if the run has a checker.
    pub(crate) fn check<T: Default>(&self, look: impl FnOnce(&mut Checker, StreamView<'_>) -> T) -> T {
        let mut state = self.state();
        let State { map, records, checker, .. } = &mut *state;
        let view = StreamView { shards: map.shards(), records };
        checker.as_mut().map_or_else(T::default, |checker| look(checker, view))
    }

    /// Removes the checker at the end of the run.
    pub(crate) fn take_checker(&self) -> Option<(Checker, FaultCounts)> {
        let mut state = self.state();
        Some((state.checker.take()?, state.injected.clone()))
    }

    pub(crate) fn inject(&self, fault: InjectedFault) {
        self.state().injected.add(fault);
    }

    /// Whether a put that failed for its caller is still to be applied.
    pub(crate) fn has_late_puts(&self) -> bool {
        self.state().late > 0
    }

    /// Splits an open shard, or merges it with its neighbour: the shard and the hash key of the cut are chosen by
    /// numbers between 0 and 1.
    pub(crate) fn reshard(&self, is_split: bool, which: f64, at: f64) -> Result<()> {
        let now = self.millis();
        let mut state = self.state();
        let mut open: Vec<_> = state.map.open().cloned().collect();
        open.sort_by_key(|shard| shard.hash_key_range.first);
        let index = ((open.len() as f64 * which) as usize).min(open.len() - 1);
        let (id, range) = (open[index].id.clone(), open[index].hash_key_range);
        let mut sequence = state.next_sequence;
        let event = if is_split || open.len() == 1 {
            let length = range.last.0 - range.first.0;
            let at = HashKey(range.first.0 + 1 + (length as f64 * at * 0.98) as u128);
            state.map.split(&id, at, &mut sequence)?;
            state.injected.add(InjectedFault::Split);
            Event::Split { shard: number(&id) as u64 }
        } else {
            let beside = if index + 1 < open.len() { index + 1 } else { index - 1 };
            let adjacent = open[beside].id.clone();
            state.map.merge(&id, &adjacent, &mut sequence)?;
            state.injected.add(InjectedFault::Merge);
            Event::Merge { shard: number(&id) as u64, adjacent: number(&adjacent) as u64 }
        };
        state.next_sequence = sequence;
        state.add_shards(&self.options, now);
        state.event(event);
        Ok(())
    }

    /// How long it takes until every list is current and complete, unless the shards change again.
    pub(crate) fn lists_settle_in(&self) -> Duration {
        let settled_at = Duration::from_millis(self.state().lists.changed_at()) + self.options.list_lag.longest();
        settled_at.saturating_sub(Duration::from_millis(self.millis()))
    }

    /// The open shard that contains this hash key.
    pub(crate) fn shard_of(&self, hash_key: HashKey) -> usize {
        self.state().route(hash_key)
    }

    /// Stores a backlog in a shard without using its quota, with the start of the run as the arrival time.
    pub(crate) fn fill(&self, shard: usize, entry: &PutEntry, count: usize) {
        let mut state = self.state();
        let shard_id = state.map.shards()[shard].id.clone();
        for _ in 0..count {
            let sequence = state.next_sequence;
            state.next_sequence += 1;
            let (key, data) = (entry.partition_key.clone(), entry.data.clone());
            state.records[shard].push(Record::new(shard_id.clone(), sequence.into(), key, timestamp(0), data));
        }
    }

    /// The read quota that each shard has granted so far, and the totals of fetches.
    pub(crate) fn read_quota(&self) -> (Vec<Granted>, Fetched) {
        let now = self.millis();
        let mut state = self.state();
        let State { quotas, random, fetched, .. } = &mut *state;
        (quotas.iter_mut().map(|quota| quota.read.granted(now, random)).collect(), *fetched)
    }

    /// The write quota that each shard has granted so far, and the totals of puts.
    pub(crate) fn write_quota(&self) -> (Vec<Granted>, Accepted) {
        let now = self.millis();
        let mut state = self.state();
        let State { quotas, random, accepted, .. } = &mut *state;
        (quotas.iter_mut().map(|quota| quota.write.granted(now, random)).collect(), *accepted)
    }
}

const NAME: &str = "clicks";

/// Whether a put is served, or the fault injected into it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Served,
    Outage,
    Unsent,
    Throttled,
    Denied,
    RequestLost,
    ReplyLost,
    /// Applied this long after its caller was given an error.
    Late(Duration),
}

impl State {
    /// Adds the state of new shards, and routes hash keys to the open ones.
    fn add_shards(&mut self, options: &ModelOptions, now: u64) {
        for _ in self.records.len()..self.map.shards().len() {
            self.records.push(Vec::new());
            let write = Limiter::new(options.write, now, &mut self.random);
            let read = Limiter::new(options.read, now, &mut self.random);
            self.quotas.push(Quotas { write, read, refused_until: 0 });
        }
        self.routes = self.map.open().map(|shard| (shard.hash_key_range.first, number(&shard.id))).collect();
        self.routes.sort();
        self.lists.push(now, self.map.shards());
    }

    fn event(&mut self, event: Event) {
        if let Some(checker) = &mut self.checker {
            checker.log.add(event);
        }
    }

    fn with_checks(&mut self, look: impl FnOnce(&mut Puts, &mut Log)) {
        if let Some(Checker { puts, log, .. }) = &mut self.checker {
            look(puts, log);
        }
    }

    /// Whether the hash key of every record of an aggregate belongs to the shard that stores it. Consumers built on the
    /// Kinesis Client Library drop records of which this is false, so that the producer has to put the aggregate again.
    fn belongs(&self, entry: &PutEntry, shard: &ShardId) -> bool {
        let Ok(shard) = self.map.get(shard) else { return false };
        let mut belongs = true;
        each_inner(&entry.partition_key, &entry.data, |inner, place| {
            belongs &= place.is_none() || shard.hash_key_range.contains(inner.hash_key());
        });
        belongs
    }

    /// Draws an event of this probability. Draws nothing for a probability of zero.
    fn draw(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.random.random_bool(probability)
    }

    /// Whether to inject a fault.
    fn injects(&mut self, probability: f64, fault: InjectedFault) -> bool {
        let is_injected = self.draw(probability);
        if is_injected {
            self.injected.add(fault);
        }
        is_injected
    }

    /// What a listing returns.
    fn list(&mut self, options: &ModelOptions, now: u64) -> Vec<Shard> {
        self.lists.draw(now, options.list_lag, &mut self.random, &mut self.injected)
    }

    /// Whether a shard is closed, and has no record of this index or a higher one.
    fn is_drained(&self, shard: usize, next: usize) -> bool {
        !self.map.shards()[shard].is_open() && next >= self.records[shard].len()
    }

    /// The shards that a shard was split or merged into.
    fn children(&self, shard: usize) -> Vec<ChildShard> {
        let is_child = |child: &&Shard| child.parents().any(|parent| number(parent) == shard);
        self.map.shards().iter().filter(is_child).map(ChildShard::from).collect()
    }

    /// Draws the latency of one direction of a call.
    fn one_way_latency(&mut self, latency: Latency, faults: &Faults) -> Duration {
        let mut round_trip = self.random.random_range(latency.least..=latency.most);
        if latency.tail > 0.0 && self.random.random_bool(latency.tail) {
            round_trip *= self.random.random_range(2..=5);
        }
        if self.injects(faults.slow, InjectedFault::Slow) {
            round_trip += Duration::from_millis(self.random.random_range(500..5_000));
        }
        round_trip / 2
    }

    fn fate(&mut self, options: &ModelOptions, now: u64) -> Fate {
        let faults = &options.faults;
        if options.outage.contains(&Duration::from_millis(now)) {
            self.injected.add(InjectedFault::Outage);
            Fate::Outage
        } else if self.injects(faults.denied, InjectedFault::Denied) {
            Fate::Denied
        } else if self.injects(faults.unsent, InjectedFault::Unsent) {
            Fate::Unsent
        } else if self.injects(faults.throttled_call, InjectedFault::ThrottledCall) {
            Fate::Throttled
        } else if self.injects(faults.request_lost, InjectedFault::RequestLost) {
            Fate::RequestLost
        } else if self.injects(faults.reply_lost, InjectedFault::ReplyLost) {
            Fate::ReplyLost
        } else if self.injects(faults.late, InjectedFault::Late) {
            Fate::Late(Duration::from_millis(self.random.random_range(1..10_000)))
        } else {
            Fate::Served
        }
    }

    fn route(&self, hash_key: HashKey) -> usize {
        let after = self.routes.partition_point(|(first, _)| *first <= hash_key);
        self.routes[after.saturating_sub(1)].1
    }

    /// Applies a put that has arrived: each entry is stored or fails.
    fn apply(&mut self, call: u32, entries: &[PutEntry], options: &ModelOptions, now: u64) -> Vec<Result<PutReceipt>> {
        let faults = &options.faults;
        let throttled = || Error::Throttled { problem: "the shard's write quota".into() };
        let mut results: Vec<Result<PutReceipt>> = Vec::with_capacity(entries.len());
        if entries.len() > 1 && self.injects(faults.reordered, InjectedFault::Reordered) {
            let mut order: Vec<usize> = (0..entries.len()).collect();
            order.shuffle(&mut self.random);
            results.resize_with(entries.len(), || Err(throttled()));
            for index in order {
                results[index] = self.put(call, &entries[index], options, now);
            }
        } else {
            results.extend(entries.iter().map(|entry| self.put(call, entry, options, now)));
        }
        results
    }

    fn put(&mut self, call: u32, entry: &PutEntry, options: &ModelOptions, now: u64) -> Result<PutReceipt> {
        let faults = &options.faults;
        let shard = self.route(entry.hash_key());
        let throttle = if self.injects(faults.throttled_entry, InjectedFault::ThrottledEntry) {
            Some(InjectedFault::ThrottledEntry)
        } else if !self.quotas[shard].write.admit(now, entry.size(), &mut self.random) {
            self.injected.add(InjectedFault::ThrottledByQuota);
            self.accepted.throttled += 1;
            Some(InjectedFault::ThrottledByQuota)
        } else {
            None
        };
        if let Some(why) = throttle {
            self.refused(call, entry, why);
            return Err(Error::Throttled { problem: "the shard's write quota".into() });
        }
        if faults.internal > 0.0 && self.random.random_bool(faults.internal) {
            let is_written = self.random.random();
            let why = if is_written { InjectedFault::InternalWritten } else { InjectedFault::InternalUnwritten };
            self.injected.add(why);
            if is_written {
                self.store(call, entry, shard, options, now);
            }
            self.refused(call, entry, why);
            return Err(unavailable("InternalFailure", true));
        }
        Ok(self.store(call, entry, shard, options, now))
    }

    fn refused(&mut self, call: u32, entry: &PutEntry, why: InjectedFault) {
        self.with_checks(|_, log| {
            Puts::ids(entry, |id| log.add(Event::Refused { call, id: id.unwrap_or_default(), why }));
        });
    }

    fn store(&mut self, call: u32, entry: &PutEntry, shard: usize, options: &ModelOptions, now: u64) -> PutReceipt {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.accepted.bytes += entry.size() as u64;
        self.accepted.records += 1;
        let shard_id = self.map.shards()[shard].id.clone();
        if options.keeps_records {
            let (key, data) = (entry.partition_key.clone(), entry.data.clone());
            self.records[shard].push(Record::new(shard_id.clone(), sequence.into(), key, timestamp(now), data));
        }
        self.with_checks(|puts, log| puts.stored(entry, shard as u64, sequence, call, log));
        PutReceipt::new(shard_id, sequence)
    }
}

fn timestamp(millis: u64) -> Timestamp {
    Timestamp::from_millis(EPOCH_MILLIS) + Duration::from_millis(millis)
}

fn unavailable(problem: &str, may_have_written: bool) -> Error {
    Error::Unavailable { problem: problem.into(), may_have_written, source: None }
}

/// A shard's number is its index, since the model numbers them like Kinesis and removes none.
fn number(shard: &ShardId) -> usize {
    shard.number().map_or(usize::MAX, |number| number as usize)
}
