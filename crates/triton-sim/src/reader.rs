//! Drives the readers of a run: they start, pause, are stopped, and others continue.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use triton_core::{Budget, Error, Reader, ReaderOptions, Record, Result, ShardRef, Start};

use crate::check::{PassId, ReaderId, Root};
use crate::connect::Connect;
use crate::model::fault::InjectedFault;
use crate::model::{Handle, Kinesis};
use crate::scenario::PassPlan;

/// Interval of checking whether everything was delivered.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum time for a stopped reader to end, excluding the pauses of its consumer.
const MAX_STOP_TIME: Duration = Duration::from_secs(60);

/// The readers that run at the same time in one pass, until they are stopped together.
#[derive(Clone)]
struct Generation {
    kinesis: Arc<Kinesis>,
    connect: Connect,
    plan: Arc<PassPlan>,
    until_caught_up: bool,
}

/// Makes one pass over the stream, until every record is delivered.
pub(crate) async fn read(kinesis: Arc<Kinesis>, connect: Connect, plan: PassPlan, is_written: CancellationToken) {
    sleep(plan.begins_at).await;
    let mut random = StdRng::seed_from_u64(plan.seed);
    let pass = kinesis.check(|checker, _| checker.reads.begin(plan.from_latest));
    let plan = Arc::new(plan);
    let generation =
        Generation { kinesis: Arc::clone(&kinesis), connect, plan: Arc::clone(&plan), until_caught_up: false };
    let mut is_first = true;
    for lives in &plan.stops_after {
        let until = Instant::now() + *lives;
        let stop = CancellationToken::new();
        let mut readers = generation.start(pass, is_first, &mut random, &stop);
        is_first = false;
        tokio::select! {
            biased;
            () = sleep_until(until) => {}
            () = ended(&mut readers) => {}
        }
        kinesis.inject(InjectedFault::Stopped);
        stop.cancel();
        finish(&kinesis, &plan, &mut readers).await;
    }
    let stop = CancellationToken::new();
    if plan.until_caught_up {
        // All puts have ended by then, so that a reader that has caught up has read everything.
        is_written.cancelled().await;
        let generation = Generation { until_caught_up: true, ..generation };
        let mut readers = generation.start(pass, is_first, &mut random, &stop);
        ended(&mut readers).await;
    } else {
        let mut readers = generation.start(pass, is_first, &mut random, &stop);
        is_written.cancelled().await;
        while !kinesis.check(|checker, view| checker.reads.is_complete(pass, view)) && !readers.is_empty() {
            sleep(CHECK_INTERVAL).await;
            while readers.try_join_next().is_some() {}
        }
        stop.cancel();
        finish(&kinesis, &plan, &mut readers).await;
    }
    kinesis.check(|checker, view| checker.reads.finish(pass, view, &mut checker.log));
}

async fn ended(readers: &mut JoinSet<()>) {
    while readers.join_next().await.is_some() {}
}

async fn finish(kinesis: &Kinesis, plan: &PassPlan, readers: &mut JoinSet<()>) {
    // A consumer may pause after each of its queued items.
    if timeout(MAX_STOP_TIME + plan.pause * 1_000, ended(readers)).await.is_err() {
        kinesis.check(|checker, _| checker.log.violated(6, || "a reader that was stopped did not end".into()));
    }
}

impl Generation {
    /// Starts readers that continue a pass.
    fn start(&self, pass: PassId, is_first: bool, random: &mut StdRng, stopped: &CancellationToken) -> JoinSet<()> {
        let mut readers = JoinSet::new();
        let roots = self.kinesis.check(|checker, view| checker.reads.roots(pass, view));
        if is_first && (self.plan.readers == 1 || self.plan.from_latest) {
            let start = if self.plan.from_latest { Start::Latest } else { Start::All };
            readers.spawn(self.clone().consume(pass, start, None, random.random(), stopped.clone()));
            return readers;
        }
        // Shards without progress are shared among readers; a shard with progress gets a reader of its own.
        let (fresh, begun): (Vec<Root>, Vec<Root>) = roots.into_iter().partition(|root| root.start == Start::All);
        let mut shares: Vec<Vec<usize>> = vec![Vec::new(); self.plan.readers];
        for root in fresh {
            shares[random.random_range(0..self.plan.readers)].push(root.shard);
        }
        for shards in shares.into_iter().filter(|shards| !shards.is_empty()) {
            readers.spawn(self.clone().consume(pass, Start::All, Some(shards), random.random(), stopped.clone()));
        }
        for root in begun {
            let shards = Some(vec![root.shard]);
            readers.spawn(self.clone().consume(pass, root.start, shards, random.random(), stopped.clone()));
        }
        readers
    }

    /// Runs one reader from its start to its end.
    async fn consume(
        self,
        pass: PassId,
        start: Start,
        shards: Option<Vec<usize>>,
        seed: u64,
        stopped: CancellationToken,
    ) {
        let kinesis = &self.kinesis;
        let budget = Budget::new(self.plan.budget);
        let id = kinesis
            .check(|checker, view| checker.reads.reader(pass, shards.as_deref(), &budget, view, &mut checker.log));
        let mut random = StdRng::seed_from_u64(seed);
        let mut options = ReaderOptions::default()
            .with_max_records(self.plan.max_records)
            .with_until_caught_up(self.until_caught_up)
            .with_seed(seed);
        options.shards = shards.map(|shards| shards.into_iter().map(ShardRef::Number).collect());
        let client = self.connect.client(Handle::reader(kinesis, id));
        match Reader::builder(client).options(options).budget(budget).start(start).await {
            Ok(mut reader) => {
                let stop = reader.stop_handle();
                let mut is_stopped = false;
                loop {
                    let taken = tokio::select! {
                        biased;
                        () = stopped.cancelled(), if !is_stopped => {
                            is_stopped = true;
                            stop.stop();
                            kinesis.check(|checker, _| checker.reads.stopped(id, &mut checker.log));
                            continue;
                        }
                        taken = take(&mut reader, self.plan.by_batch) => taken,
                    };
                    match taken {
                        None => break,
                        Some(Err(error)) => self.failed(id, &error),
                        Some(Ok(records)) => self.delivered(id, &records),
                    }
                    if self.plan.pauses > 0.0 && random.random_bool(self.plan.pauses) {
                        kinesis.inject(InjectedFault::Paused);
                        sleep(self.plan.pause.mul_f64(random.random())).await;
                    }
                }
            }
            Err(error) => self.failed(id, &error),
        }
        kinesis.check(|checker, _| checker.reads.reader_ended(id, &mut checker.log));
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

async fn take(reader: &mut Reader, by_batch: bool) -> Option<Result<Vec<Record>>> {
    match by_batch {
        true => Some(reader.next_batch().await?.map(|batch| batch.records)),
        false => Some(reader.next().await?.map(|record| vec![record])),
    }
}
