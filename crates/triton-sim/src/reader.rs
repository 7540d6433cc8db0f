//! Drives the readers of a run: they start, pause, are stopped, and others go on where they stood.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use triton_core::{
    Budget, Checkpoints, Error, HashKey, HashKeyRange, Reader, ReaderEvent, ReaderOptions, Record, Result, Shard,
    ShardId, Start,
};

use crate::check::{PassId, ReaderId, Share};
use crate::connect::Connect;
use crate::model::fault::InjectedFault;
use crate::model::{Handle, Kinesis};
use crate::scenario::{Item, PassPlan, Resume};

/// Interval of checking whether everything was delivered.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum time for a stopped reader to end, excluding the pauses of its consumer. One that starts waits for a complete
/// shard list first.
const MAX_STOP_TIME: Duration = Duration::from_secs(120);

/// What one reader reads, and where it starts.
#[derive(Clone, Debug)]
struct Part {
    share: Share,
    start: Start,
    /// Where the reader before stood, as it was stored.
    checkpoints: Option<String>,
}

impl Part {
    fn new(share: Share, start: Start) -> Self {
        Self { share, start, checkpoints: None }
    }
}

/// The readers that run at the same time in one pass, until they are stopped together.
#[derive(Clone)]
struct Generation {
    kinesis: Arc<Kinesis>,
    connect: Connect,
    plan: Arc<PassPlan>,
    pass: PassId,
    /// Whether its readers discard what they have fetched and not delivered when they are stopped.
    discards: bool,
    until_caught_up: bool,
}

/// Makes one pass over the stream, until every record is delivered.
pub(crate) async fn read(kinesis: Arc<Kinesis>, connect: Connect, plan: PassPlan, is_written: CancellationToken) {
    sleep(plan.begins_at).await;
    let mut random = StdRng::seed_from_u64(plan.seed);
    let pass = kinesis.check(|checker, _| checker.reads.begin(plan.from_latest));
    let plan = Arc::new(plan);
    let generation = Generation {
        kinesis: Arc::clone(&kinesis),
        connect,
        plan: Arc::clone(&plan),
        pass,
        discards: false,
        until_caught_up: false,
    };
    let mut parts = generation.first_parts(&mut random);
    for life in &plan.lives {
        let until = Instant::now() + life.lasts;
        let stop = CancellationToken::new();
        let generation = Generation { discards: life.discards, ..generation.clone() };
        let mut readers = generation.start(parts, &mut random, &stop);
        let mut ended = Vec::new();
        tokio::select! {
            biased;
            () = sleep_until(until) => {}
            () = join(&mut readers, &mut ended) => {}
        }
        kinesis.inject(if life.discards { InjectedFault::StoppedNow } else { InjectedFault::Stopped });
        stop.cancel();
        generation.finish(&mut readers, &mut ended).await;
        parts = match plan.resume {
            Resume::Records => generation.rest(&mut random),
            Resume::Checkpoints { .. } => ended,
        };
    }
    let stop = CancellationToken::new();
    let mut ended = Vec::new();
    if plan.until_caught_up {
        // All puts have ended by then, so that a reader that has caught up has read everything. Whether an end that is not
        // told is one, only a current list shows.
        is_written.cancelled().await;
        sleep(kinesis.lists_settle_in()).await;
        let generation = Generation { until_caught_up: true, ..generation };
        let mut readers = generation.start(parts, &mut random, &stop);
        join(&mut readers, &mut ended).await;
    } else {
        let mut readers = generation.start(parts, &mut random, &stop);
        is_written.cancelled().await;
        while !kinesis.check(|checker, view| checker.reads.is_complete(pass, view)) && !readers.is_empty() {
            sleep(CHECK_INTERVAL).await;
            while readers.try_join_next().is_some() {}
        }
        stop.cancel();
        generation.finish(&mut readers, &mut ended).await;
    }
    kinesis.check(|checker, view| checker.reads.finish(pass, view, &mut checker.log));
}

/// Waits for readers, and collects where they stood at their ends.
async fn join(readers: &mut JoinSet<Part>, ended: &mut Vec<Part>) {
    while let Some(part) = readers.join_next().await {
        ended.extend(part);
    }
}

impl Generation {
    async fn finish(&self, readers: &mut JoinSet<Part>, ended: &mut Vec<Part>) {
        // A consumer may pause after each of its queued items.
        if timeout(MAX_STOP_TIME + self.plan.pause * 1_000, join(readers, ended)).await.is_err() {
            self.kinesis.check(|checker, _| checker.log.violated(6, || "a reader that was stopped did not end".into()));
        }
    }

    /// The parts that the first readers of a pass read.
    fn first_parts(&self, random: &mut StdRng) -> Vec<Part> {
        let count = self.plan.readers;
        if self.plan.from_latest {
            return vec![Part::new(Share::All, Start::Latest)];
        }
        match self.plan.resume {
            _ if count == 1 => vec![Part::new(Share::All, Start::All)],
            Resume::Checkpoints { by_hash_keys: true } => {
                let ranges = ranges(random, count).into_iter();
                ranges.map(|range| Part::new(Share::HashKeys(range), Start::All)).collect()
            }
            Resume::Records | Resume::Checkpoints { .. } => self.rest(random),
        }
    }

    /// The parts that are left of a pass. Shards without progress are shared among readers; a shard with progress gets a
    /// reader of its own.
    fn rest(&self, random: &mut StdRng) -> Vec<Part> {
        let roots = self.kinesis.check(|checker, view| checker.reads.roots(self.pass, view));
        let mut shares: Vec<Vec<usize>> = vec![Vec::new(); self.plan.readers];
        let mut begun = Vec::new();
        for root in roots {
            match root.start {
                Start::All => shares[random.random_range(0..self.plan.readers)].push(root.shard),
                start => begun.push(Part::new(Share::Shards(vec![root.shard]), start)),
            }
        }
        let fresh = shares.into_iter().filter(|shards| !shards.is_empty());
        fresh.map(|shards| Part::new(Share::Shards(shards), Start::All)).chain(begun).collect()
    }

    /// Starts readers that go on with a pass.
    fn start(&self, parts: Vec<Part>, random: &mut StdRng, stopped: &CancellationToken) -> JoinSet<Part> {
        let mut readers = JoinSet::new();
        for part in parts {
            readers.spawn(self.clone().consume(part, random.random(), stopped.clone()));
        }
        readers
    }

    /// Runs one reader from its start to its end. Returns where it stood then.
    async fn consume(self, mut part: Part, seed: u64, stopped: CancellationToken) -> Part {
        let kinesis = &self.kinesis;
        let budget = Budget::new(self.plan.budget);
        let id = kinesis
            .check(|checker, view| checker.reads.reader(self.pass, &part.share, &budget, view, &mut checker.log));
        let client = self.connect.client(Handle::reader(kinesis, id));
        let reader = Reader::builder(client).options(self.options(&part, seed)).budget(budget);
        match reader.start(part.start.clone()).await {
            Ok(mut reader) => {
                self.deliver(id, &mut reader, seed, stopped).await;
                if self.plan.resume != Resume::Records {
                    let mut checkpoints = reader.checkpoints();
                    if seed.is_multiple_of(2) {
                        kinesis.check(|_, view| prune(&mut checkpoints, view.shards));
                    }
                    part.checkpoints = serde_json::to_string(&checkpoints).ok();
                }
            }
            Err(error) => self.failed(id, &error),
        }
        kinesis.check(|checker, _| checker.reads.reader_ended(id, &mut checker.log));
        part
    }

    fn options(&self, part: &Part, seed: u64) -> ReaderOptions {
        let options = ReaderOptions::default()
            .with_max_records(self.plan.max_records)
            .with_until_caught_up(self.until_caught_up)
            .with_seed(seed);
        let options = match &part.share {
            Share::All => options,
            Share::Shards(shards) => options.with_shards(shards.iter().map(|shard| ShardId::numbered(*shard as u64))),
            Share::HashKeys(range) => options.with_hash_keys(*range),
        };
        match part.checkpoints.as_deref().map(serde_json::from_str::<Checkpoints>) {
            None => options,
            Some(Ok(checkpoints)) => options.with_checkpoints(checkpoints),
            Some(Err(error)) => {
                self.kinesis.check(|checker, _| checker.log.violated(4, || format!("stored checkpoints: {error}")));
                options
            }
        }
    }

    /// Takes everything that a reader hands out, and stops it when that is due.
    async fn deliver(&self, id: ReaderId, reader: &mut Reader, seed: u64, stopped: CancellationToken) {
        let kinesis = &self.kinesis;
        let mut random = StdRng::seed_from_u64(seed);
        let stop = reader.stop_handle();
        let mut is_stopped = false;
        loop {
            let taken = tokio::select! {
                biased;
                () = stopped.cancelled(), if !is_stopped => {
                    is_stopped = true;
                    if self.discards { stop.stop_now() } else { stop.stop() }
                    kinesis.check(|checker, _| checker.reads.stopped(id, self.discards, &mut checker.log));
                    continue;
                }
                taken = take(reader, self.plan.item) => taken,
            };
            match taken {
                None => break,
                Some(Err(error)) => self.failed(id, &error),
                Some(Ok(Taken::Records(records))) => self.delivered(id, &records),
                Some(Ok(Taken::End(shard, children))) => kinesis.check(|checker, view| {
                    checker.reads.shard_ended(id, &shard, &children, view, &mut checker.log);
                }),
            }
            if self.plan.pauses > 0.0 && random.random_bool(self.plan.pauses) {
                kinesis.inject(InjectedFault::Paused);
                sleep(self.plan.pause.mul_f64(random.random())).await;
            }
        }
    }

    fn delivered(&self, reader: ReaderId, records: &[Record]) {
        self.kinesis.check(|checker, view| {
            for record in records {
                checker.reads.delivered(reader, record, view, &mut checker.log);
            }
        });
    }

    fn failed(&self, reader: ReaderId, error: &Error) {
        self.kinesis.check(|checker, _| {
            checker.log.add(crate::trace::Event::ReaderFailed { reader });
            // A retryable error is reported, and the reader continues. No other error is injected into readers.
            if !error.is_retryable() {
                let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                checker.log.violated(4, || format!("reader {reader} fails: {error}: {source}"));
            }
        });
    }
}

/// Removes the checkpoints of ended shards of which a child has one, since nobody needs them any more.
fn prune(checkpoints: &mut Checkpoints, shards: &[Shard]) {
    let begun = shards.iter().filter(|shard| checkpoints.shards.contains_key(&shard.id));
    let parents: BTreeSet<ShardId> = begun.flat_map(|shard| shard.parents().cloned()).collect();
    checkpoints.shards.retain(|shard, checkpoint| !checkpoint.is_ended() || !parents.contains(shard));
}

/// Ranges that hold every hash key once.
fn ranges(random: &mut StdRng, count: usize) -> Vec<HashKeyRange> {
    let mut firsts: Vec<u128> = (1..count).map(|_| random.random_range(1..=u128::MAX)).chain([0]).collect();
    firsts.sort_unstable();
    firsts.dedup();
    let lasts = firsts.iter().skip(1).map(|next| next - 1).chain([u128::MAX]);
    firsts.iter().zip(lasts).map(|(first, last)| HashKeyRange { first: HashKey(*first), last: HashKey(last) }).collect()
}

/// What a reader has handed out.
enum Taken {
    Records(Vec<Record>),
    /// The end of a shard, and its children.
    End(ShardId, Vec<ShardId>),
}

async fn take(reader: &mut Reader, item: Item) -> Option<Result<Taken>> {
    let taken = match item {
        Item::Record => reader.next().await?.map(|record| Taken::Records(vec![record])),
        Item::Batch => reader.next_batch().await?.map(|batch| Taken::Records(batch.records)),
        Item::Event => match reader.next_event().await? {
            Ok(ReaderEvent::Batch(batch)) => Ok(Taken::Records(batch.records)),
            Ok(ReaderEvent::Ended { shard, children }) => Ok(Taken::End(shard, children)),
            Ok(ReaderEvent::Retrying { error, .. } | ReaderEvent::Failed { error, .. }) => Err(error),
            Ok(_) => Ok(Taken::Records(Vec::new())),
            Err(error) => Err(error),
        },
    };
    Some(taken)
}
