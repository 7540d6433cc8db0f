//! The measured jobs: the library on Kinesis, and the plain loops over the AWS SDK that it is compared with.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};
use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use triton_core::{
    Config, KeyOrder, PartitionKey, ProducerOptions, PutEntry, Reader, ReaderOptions, Start, Stream, StreamClient,
};
use triton_kinesis::{ConnectOptions, Kinesis};

/// Bytes of an encoded event besides its text.
const AROUND_TEXT: usize = 38;
/// Records per `put_many` or `put_all`.
const CALL: usize = 5_000;
/// Records per PutRecords of the plain loop.
const BATCH: usize = 500;
/// How long idle shards are measured.
const IDLE: Duration = Duration::from_secs(20);

/// Number and size of the records, partition keys excluded.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// Puts payloads that are already encoded, as the plain loop does.
    PutOrdered,
    PutRelaxed,
    PutAggregated,
    /// The same without a producer: one call after the other, as the plain loop does.
    PutBatch,
    /// Encodes a struct for each record.
    PutTyped,
    PutTypedAggregated,
    PutPlain,
    GetTyped,
    GetPlain,
    /// Prints the key of each record on arrival.
    Tail,
    /// The same with enhanced fan-out.
    TailFanOut,
    /// Tails every shard, measures the idle CPU time, then waits for a record from each.
    Idle,
}

const JOBS: [(Job, &str); 12] = [
    (Job::PutOrdered, "put-ordered"),
    (Job::PutRelaxed, "put-relaxed"),
    (Job::PutAggregated, "put-aggregated"),
    (Job::PutBatch, "put-batch"),
    (Job::PutTyped, "put-typed"),
    (Job::PutTypedAggregated, "put-typed-aggregated"),
    (Job::PutPlain, "put-plain"),
    (Job::GetTyped, "get-typed"),
    (Job::GetPlain, "get-plain"),
    (Job::Tail, "tail"),
    (Job::TailFanOut, "tail-fan-out"),
    (Job::Idle, "idle"),
];

impl Job {
    pub(super) fn name(self) -> &'static str {
        JOBS.iter().find(|(job, _)| *job == self).map_or("", |(_, name)| name)
    }

    fn producer_options(self) -> ProducerOptions {
        let options = ProducerOptions::default();
        match self {
            Job::PutRelaxed => options.with_ordering(KeyOrder::Relaxed),
            Job::PutAggregated | Job::PutTypedAggregated => options.with_aggregation(true),
            _ => options,
        }
    }
}

#[derive(Deserialize, Serialize)]
struct Event<'a> {
    user: &'a str,
    msg: &'a str,
    ts: f64,
}

fn user(number: usize) -> String {
    format!("user-{number:012}")
}

pub(super) fn run(job: &str, stream: &str, records: &str, bytes: &str) -> Result<()> {
    let (job, _) = JOBS.into_iter().find(|(_, name)| *name == job).context("no such job")?;
    let load = Load { name: "", records: records.parse()?, bytes: bytes.parse()? };
    crate::runtime()?.block_on(async {
        match job {
            Job::PutOrdered | Job::PutRelaxed => put_payloads(&connect(stream, job).await?, load, CALL).await,
            // All at once, so that aggregates are full.
            Job::PutAggregated => put_payloads(&connect(stream, job).await?, load, load.records).await,
            Job::PutBatch => put_batch(&connect(stream, job).await?, load).await,
            Job::PutTyped | Job::PutTypedAggregated => put_typed(&connect(stream, job).await?, load).await,
            Job::PutPlain => put_plain(stream, load).await,
            Job::GetTyped => get_typed(&connect(stream, job).await?, load).await,
            Job::GetPlain => get_plain(stream, load).await,
            Job::Tail | Job::TailFanOut => tail(&connect(stream, job).await?).await,
            Job::Idle => idle(&connect(stream, job).await?).await,
        }
    })
}

async fn connect(stream: &str, job: Job) -> Result<Stream> {
    let kinesis = Kinesis::connect(ConnectOptions::default()).await?;
    let client = kinesis.stream(stream)?;
    let client = if matches!(job, Job::TailFanOut) { client.fan_out("bench").await? } else { client };
    stream_over(Arc::new(client), job.producer_options())
}

/// A stream with the user as the partition key.
pub(crate) fn stream_over(client: Arc<dyn StreamClient>, options: ProducerOptions) -> Result<Stream> {
    let config = Config::parse("bench: {name: bench, partition_key: user}", "bench")?;
    Ok(Stream::with_options(config.stream("bench")?, client, options))
}

async fn put_payloads(stream: &Stream, load: Load, call: usize) -> Result<()> {
    let payload = Bytes::from(vec![b'x'; load.bytes]);
    let entry = |row| PutEntry::new(PartitionKey::stored(user(row)), payload.clone());
    for first in (0..load.records).step_by(call) {
        for outcome in stream.producer().put_all((first..load.records.min(first + call)).map(entry)).await {
            outcome?;
        }
    }
    Ok(())
}

async fn put_batch(stream: &Stream, load: Load) -> Result<()> {
    let payload = Bytes::from(vec![b'x'; load.bytes]);
    for batch in 0..load.records / BATCH {
        let entry = |row| PutEntry::new(PartitionKey::stored(user(batch * BATCH + row)), payload.clone());
        for outcome in stream.client().put_batch((0..BATCH).map(entry).collect()).await? {
            outcome?;
        }
    }
    Ok(())
}

async fn put_typed(stream: &Stream, load: Load) -> Result<()> {
    let text = "x".repeat(load.bytes - AROUND_TEXT);
    for call in 0..load.records / CALL {
        let users: Vec<String> = (0..CALL).map(|row| user(call * CALL + row)).collect();
        let events: Vec<Event<'_>> =
            users.iter().map(|user| Event { user, msg: &text, ts: 1_433_969_276.172_019 }).collect();
        for outcome in stream.put_many(&events).await {
            outcome?;
        }
    }
    Ok(())
}

async fn get_typed(stream: &Stream, load: Load) -> Result<()> {
    let mut reader = stream.reader(Start::All, ReaderOptions::default().with_until_caught_up(true)).await?;
    let (mut count, mut bytes) = (0, 0);
    while let Some(batch) = reader.next_batch().await {
        for record in batch?.records {
            let event: Event<'_> = record.decode()?;
            bytes += event.msg.len() + event.user.len();
            count += 1;
        }
    }
    ensure!(count == load.records && bytes > count, "{count} records");
    Ok(())
}

async fn plain_client() -> Client {
    let config = aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12())
        .retry_config(RetryConfig::disabled())
        .load()
        .await;
    Client::new(&config)
}

/// Puts ready-made blobs in batches of 500, one request after the other.
async fn put_plain(stream: &str, load: Load) -> Result<()> {
    let client = plain_client().await;
    let blob = Blob::new(vec![b'x'; load.bytes]);
    for batch in 0..load.records / BATCH {
        let entry =
            |row| PutRecordsRequestEntry::builder().data(blob.clone()).partition_key(user(batch * BATCH + row)).build();
        let entries = (0..BATCH).map(entry).collect::<Result<Vec<_>, _>>()?;
        let response = client.put_records().stream_name(stream).set_records(Some(entries)).send().await?;
        ensure!(response.failed_record_count().unwrap_or(0) == 0, "records were refused");
    }
    Ok(())
}

/// Fetches pages of the maximum size and drops them, one shard after the other.
async fn get_plain(stream: &str, load: Load) -> Result<()> {
    let client = plain_client().await;
    let listed = client.list_shards().stream_name(stream).send().await?;
    let mut count = 0;
    for shard in listed.shards() {
        let opened = client
            .get_shard_iterator()
            .stream_name(stream)
            .shard_id(shard.shard_id())
            .shard_iterator_type(ShardIteratorType::TrimHorizon)
            .send()
            .await?;
        let mut iterator = opened.shard_iterator;
        loop {
            let page = client.get_records().set_shard_iterator(iterator).limit(10_000).send().await?;
            if page.records.is_empty() {
                break;
            }
            count += page.records.len();
            iterator = page.next_shard_iterator;
        }
    }
    ensure!(count == load.records, "{count} records");
    Ok(())
}

async fn tail(stream: &Stream) -> Result<()> {
    let options = ReaderOptions::default().with_poll_interval(Duration::from_millis(200));
    let mut reader = stream.reader(Start::All, options).await?;
    while let Some(record) = reader.next().await {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", record?.partition_key)?;
        out.flush()?;
    }
    Ok(())
}

/// Prints, in seconds: the time and the CPU time of the start, the CPU time per second while idle, and the time until one
/// record put to every shard has arrived.
async fn idle(stream: &Stream) -> Result<()> {
    let started = Instant::now();
    let mut reader = stream.read_from(Start::Latest).await?;
    let (start, start_cpu) = (started.elapsed(), cpu());
    // So that the first poll of each shard is over.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = cpu();
    tokio::time::sleep(IDLE).await;
    let idle_cpu = (cpu() - before).as_secs_f64() / IDLE.as_secs_f64();
    let arrived = arrive(stream, &mut reader).await?;
    println!("{} {} {} {}", start.as_secs_f64(), start_cpu.as_secs_f64(), idle_cpu, arrived.as_secs_f64());
    Ok(())
}

async fn arrive(stream: &Stream, reader: &mut Reader) -> Result<Duration> {
    let shards = stream.client().shards().await?;
    let entry = |shard: &triton_core::Shard| {
        PutEntry::new(PartitionKey::stored("k"), "x").with_explicit_hash_key(shard.hash_key_range.first)
    };
    let started = Instant::now();
    // The records have one key but different shards, so that their order does not matter.
    let relaxed = triton_core::Producer::new(
        Arc::clone(stream.client()),
        ProducerOptions::default().with_ordering(KeyOrder::Relaxed),
    );
    for outcome in relaxed.put_all(shards.iter().map(entry).collect::<Vec<_>>()).await {
        outcome?;
    }
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < shards.len() {
        seen.insert(reader.next().await.context("the reader has ended")??.shard_id);
    }
    Ok(started.elapsed())
}

/// The CPU time of this process so far.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
