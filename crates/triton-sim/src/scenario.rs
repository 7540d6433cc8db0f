//! The scenario of a seed: a stream, the faults injected into it, the puts, the reshards and the readers.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use triton_core::{HashKey, Limits, PartitionKey, PutEntry, Quota, ShardMap};

use crate::model::ModelOptions;
use crate::model::fault::{Faults, Latency};
use crate::model::limiter::{Limit, Neighbours, Shape};
use crate::model::shard_list::ListLag;
use crate::payload::{PutId, payload};

/// A planned put.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// Time since the start of the run.
    pub(crate) at: Duration,
    pub(crate) key: u32,
    pub(crate) producer: u32,
    pub(crate) entry: PutEntry,
}

/// The options of the run's producers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Producing {
    pub(crate) seed: u64,
    pub(crate) producers: u32,
    pub(crate) is_ordered: bool,
    pub(crate) is_aggregated: bool,
    pub(crate) linger: Duration,
    pub(crate) budget: usize,
    pub(crate) deadline: Duration,
}

/// A split or a merge. `which` chooses the shard and `cut` the hash key, both between 0 and 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reshard {
    pub(crate) at: Duration,
    pub(crate) is_split: bool,
    pub(crate) which: f64,
    pub(crate) cut: f64,
}

/// How long the readers of a pass run, and how they are stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) lasts: Duration,
    /// Whether they discard what they have fetched and not delivered.
    pub(crate) discards: bool,
}

/// Where the next readers of a pass go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// Behind the last record of each shard, with a reader for each.
    Records,
    /// At the checkpoints of the readers before. Several readers divide the shards that are there at the start, or the hash
    /// keys.
    Checkpoints { by_hash_keys: bool },
}

/// What a reader hands out at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Record,
    Batch,
    Event,
}

/// One pass over the stream.
#[derive(Clone, Debug)]
pub(crate) struct PassPlan {
    pub(crate) seed: u64,
    pub(crate) begins_at: Duration,
    pub(crate) from_latest: bool,
    /// Number of readers that share the shards.
    pub(crate) readers: usize,
    pub(crate) max_records: usize,
    /// Bytes of the budget of each reader.
    pub(crate) budget: usize,
    pub(crate) item: Item,
    /// The generations of readers that are stopped before the last one takes over.
    pub(crate) lives: Vec<Life>,
    pub(crate) resume: Resume,
    /// The probability that a consumer pauses after an item, and the longest pause.
    pub(crate) pauses: f64,
    pub(crate) pause: Duration,
    /// Whether the last generation ends by itself once it has caught up.
    pub(crate) until_caught_up: bool,
}

/// Everything that a seed decides.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) model: ModelOptions,
    pub(crate) plan: Arc<[Planned]>,
    pub(crate) keys: usize,
    pub(crate) producing: Producing,
    pub(crate) reshards: Vec<Reshard>,
    pub(crate) passes: Vec<PassPlan>,
}

impl Scenario {
    /// The scenario of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let random = &mut StdRng::seed_from_u64(seed);
        let span = Duration::from_millis(log_uniform(random, 10, 30_000));
        let keys = log_uniform(random, 1, 300) as usize;
        let producing = producing(random);
        let plan = plan(random, span, keys, &producing);
        let mut model = model(random);
        // Some come after the last put, while the stream is only read.
        let mut reshards: Vec<Reshard> = (0..few(random, 4)).map(|_| reshard(random, span)).collect();
        let passes = (0..1 + usize::from(random.random_bool(0.3))).map(|_| pass_plan(random, span)).collect();
        if random.random_bool(0.05) {
            model.faults.denied = random.random_range(0.0..0.05);
        }
        if random.random_bool(0.05) {
            let begins_at = span.mul_f64(random.random());
            model.outage = begins_at..begins_at + Duration::from_millis(log_uniform(random, 100, 400_000));
        }
        // Records fail for good while an earlier attempt may still be written: those queued behind them must fail as
        // well.
        if random.random_bool(0.05) {
            model.faults.denied = random.random_range(0.05..0.3);
            model.faults.late = random.random_range(0.1..0.5);
        }
        model.list_lag = list_lag(random);
        if !model.list_lag.longest().is_zero() {
            // Only one split or merge after another shows what a list that lags does.
            let more = random.random_range(0..4);
            reshards.extend((0..more).map(|_| reshard(random, span)));
        }
        (model.faults.untold_end, model.faults.unnamed_children) = (often(random), often(random));
        Self { model, plan: plan.into(), keys, producing, reshards, passes }
    }
}

/// A number between the bounds, drawn uniformly on a logarithmic scale: many small ones and some large ones.
fn log_uniform(random: &mut StdRng, least: u64, most: u64) -> u64 {
    let (low, high) = ((least as f64).ln(), (most as f64 + 1.0).ln());
    (random.random_range(low..high).exp() as u64).clamp(least, most)
}

/// A number up to `most`; zero half of the time.
fn few(random: &mut StdRng, most: usize) -> usize {
    random.random_range(0..=2 * most).saturating_sub(most)
}

fn reshard(random: &mut StdRng, span: Duration) -> Reshard {
    Reshard {
        at: span.mul_f64(random.random_range(0.0..1.5)),
        is_split: random.random_bool(0.6),
        which: random.random(),
        cut: random.random(),
    }
}

fn producing(random: &mut StdRng) -> Producing {
    Producing {
        seed: random.random(),
        producers: if random.random_bool(0.2) { 2 } else { 1 },
        is_ordered: random.random_bool(0.75),
        is_aggregated: random.random_bool(0.5),
        linger: Duration::from_millis(if random.random_bool(0.3) { 0 } else { log_uniform(random, 1, 300) }),
        budget: log_uniform(random, 2_000, 4 << 20) as usize,
        deadline: Duration::from_millis(match random.random_bool(0.2) {
            true => log_uniform(random, 200, 10_000),
            false => 120_000,
        }),
    }
}

fn plan(random: &mut StdRng, span: Duration, keys: usize, producing: &Producing) -> Vec<Planned> {
    let count = log_uniform(random, 50, 600) as usize;
    let skew = if random.random_bool(0.5) { 1.0 } else { random.random_range(1.0..4.0) };
    let largest = log_uniform(random, 16, 5_000);
    let has_giants = random.random_bool(0.05);
    let bursts = log_uniform(random, 1, 50) as usize;
    let mut at: Vec<Duration> = (0..bursts).map(|_| span.mul_f64(random.random())).collect();
    at.sort();
    let keyed: Vec<(PartitionKey, Option<HashKey>)> = (0..keys).map(|key| key_of(random, key)).collect();
    let mut plan: Vec<Planned> = (0..count)
        .map(|id| {
            let key = ((keys as f64 * random.random::<f64>().powf(skew)) as usize).min(keys - 1);
            let size = match has_giants && random.random_bool(0.02) {
                true => random.random_range(50_000..300_000),
                false => log_uniform(random, 4, largest) as usize,
            };
            let (partition_key, hash_key) = &keyed[key];
            let mut entry = PutEntry::new(partition_key.clone(), payload(id as PutId, size));
            entry.explicit_hash_key = *hash_key;
            // All records of a key go through one producer, since producers keep no order among each other.
            let producer = key as u32 % producing.producers;
            Planned { at: at[id * bursts / count], key: key as u32, producer, entry }
        })
        .collect();
    plan.shrink_to_fit();
    plan
}

fn key_of(random: &mut StdRng, key: usize) -> (PartitionKey, Option<HashKey>) {
    let hash_key = random.random_bool(0.1).then(|| match random.random_bool(0.5) {
        true => HashKey(random.random()),
        false => edge(random),
    });
    (PartitionKey::stored(format!("key-{key}")), hash_key)
}

/// The first or the last hash key of a shard, if the stream has the drawn number of shards.
fn edge(random: &mut StdRng) -> HashKey {
    let count = random.random_range(1..=4);
    let (shard, is_first) = (random.random_range(0..count), random.random());
    let Ok(map) = ShardMap::uniform("edges", count, 1) else { return HashKey::MIN };
    let range = map.shards()[shard].hash_key_range;
    if is_first { range.first } else { range.last }
}

/// Draws the probabilities of the faults. Most are zero in most runs, so that each fault also occurs alone.
fn faults(random: &mut StdRng) -> Faults {
    let intensity = if random.random_bool(0.1) { 0.0 } else { random.random_range(0.2..1.0) };
    let mut rate = |most: f64| match random.random_bool(0.45 * intensity) {
        true => random.random_range(0.0..most),
        false => 0.0,
    };
    Faults {
        slow: rate(0.05),
        unsent: rate(0.2),
        throttled_call: rate(0.2),
        denied: 0.0,
        request_lost: rate(0.15),
        reply_lost: rate(0.2),
        late: rate(0.1),
        internal: rate(0.1),
        throttled_entry: rate(0.3),
        reordered: rate(2.0).min(1.0),
        listing: rate(0.3),
        unread: rate(0.2),
        throttled_fetch: rate(0.3),
        expired: rate(0.2),
        empty_page: rate(0.5),
        untold_end: 0.0,
        unnamed_children: 0.0,
    }
}

/// A probability that is 0 or 1 in most runs.
fn often(random: &mut StdRng) -> f64 {
    match random.random_range(0..4) {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => random.random(),
    }
}

fn list_lag(random: &mut StdRng) -> ListLag {
    let mut span = || Duration::from_millis(log_uniform(random, 100, 30_000));
    let (age, partial_for) = (span(), span());
    let ages = match random.random_range(0..4) {
        0 | 1 => [Duration::ZERO; 2],
        2 => [age; 2],
        _ => [age.mul_f64(random.random_range(0.0..0.5)), age],
    };
    let is_partial = random.random_bool(0.3);
    let partial_for = if is_partial { partial_for } else { Duration::ZERO };
    ListLag { ages, partial_for, missing: random.random_range(0.05..0.5) }
}

fn model(random: &mut StdRng) -> ModelOptions {
    // The quotas are scaled down, so that small records reach them.
    let scale = match random.random_range(0..4) {
        0 => 1.0,
        _ => 1.0 / log_uniform(random, 2, 200) as f64,
    };
    let is_binary = random.random_bool(0.5);
    let neighbours = |random: &mut StdRng| match random.random_range(0..4) {
        0 => Neighbours::Constant(random.random_range(0.0..0.5)),
        1 => Neighbours::Changing(0.5),
        _ => Neighbours::Constant(0.0),
    };
    let shape = Shape::ALL[random.random_range(0..Shape::ALL.len())];
    let megabyte = if is_binary { 1_048_576.0 } else { 1e6 };
    let write =
        Limit { shape, bytes: megabyte * scale, count: (1_000.0 * scale).max(20.0), neighbours: neighbours(random) };
    let read =
        Limit { shape: Shape::Bucket, bytes: 2.0 * megabyte * scale, count: 5.0, neighbours: neighbours(random) };
    let known = |bytes: f64, count: f64| {
        Quota::new((bytes * scale) as u32, count as u32).with_max_bytes((bytes * scale * 1.048_576) as u32)
    };
    let limits =
        Limits::KINESIS.with_write_quota(Some(known(1e6, write.count))).with_read_quota(Some(known(2e6, read.count)));
    let least = Duration::from_millis(random.random_range(1..20));
    ModelOptions {
        seed: random.random(),
        shards: random.random_range(1..=4),
        limits,
        write,
        read,
        page_bytes: (10_485_760.0 * scale) as usize,
        faults: faults(random),
        latency: Latency { least, most: least + Duration::from_millis(random.random_range(0..40)), tail: 0.01 },
        list_lag: ListLag::default(),
        outage: Duration::ZERO..Duration::ZERO,
        keeps_records: true,
    }
}

fn pass_plan(random: &mut StdRng, span: Duration) -> PassPlan {
    let begins_at = if random.random_bool(0.7) { Duration::ZERO } else { span.mul_f64(random.random()) };
    let lives = (0..few(random, 3))
        .map(|_| Life { lasts: span.mul_f64(random.random_range(0.01..0.8)), discards: random.random_bool(0.3) })
        .collect();
    let (pauses, pause) = match random.random_range(0..20) {
        0 => (0.02, Duration::from_secs(400)),
        1..8 => (0.2, Duration::from_millis(log_uniform(random, 100, 5_000))),
        _ => (0.0, Duration::ZERO),
    };
    PassPlan {
        seed: random.random(),
        begins_at,
        from_latest: random.random_bool(0.2),
        readers: if random.random_bool(0.3) { random.random_range(2..=3) } else { 1 },
        max_records: if random.random_bool(0.5) { 10_000 } else { log_uniform(random, 1, 500) as usize },
        item: [Item::Record, Item::Batch, Item::Event][random.random_range(0..3)],
        lives,
        resume: match random.random_range(0..3) {
            0 => Resume::Records,
            1 => Resume::Checkpoints { by_hash_keys: false },
            _ => Resume::Checkpoints { by_hash_keys: true },
        },
        pauses,
        pause,
        until_caught_up: random.random_bool(0.3),
        budget: if random.random_bool(0.5) { 64 << 20 } else { log_uniform(random, 1_000, 4 << 20) as usize },
    }
}
