//! Kinesis: the CPU time that a record costs the client, beside a plain loop over the AWS SDK and beside boto3. The
//! server is a process of its own, and its time is not counted.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use triton_core::{
    Config, CreateOptions, Error, PartitionKey, PutEntry, ReaderOptions, Start, Stream, StreamAdmin as _,
};
use triton_kinesis::{ConnectOptions, Kinesis};
use triton_test_server::{Server, ServerOptions};

use crate::measure::{Measured, interleave, median};

const STREAM: &str = "bench";
/// What a MessagePack map of the event takes beside its text.
const AROUND_TEXT: usize = 38;
/// Records that a program hands to the library at once.
const CALL: usize = 5_000;
/// Records in a PutRecords of the plain loop.
const BATCH: usize = 500;

/// So many records of so many bytes, key not counted.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    records: usize,
    bytes: usize,
}

const SMALL: Load = Load { name: "100 B", records: 400_000, bytes: 100 };
const LARGE: Load = Load { name: "1 KiB", records: 150_000, bytes: 1024 };

#[derive(Deserialize, Serialize)]
struct Event<'a> {
    user: &'a str,
    msg: &'a str,
    ts: f64,
}

fn user(number: usize) -> String {
    format!("user-{number:012}")
}

/// The process that this one was started as, if it is a part of this benchmark.
pub(crate) fn child(arguments: &[String]) -> Option<Result<()>> {
    let arguments: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match arguments[..] {
        ["--kinesis-server"] => Some(serve()),
        ["--kinesis", job, records, bytes] => Some(run(job, records, bytes)),
        _ => None,
    }
}

fn serve() -> Result<()> {
    let server = Server::start(ServerOptions::default().with_mends(false))?;
    println!("{}", server.endpoint_url());
    // Until the parent ends, and the pipe with it.
    std::io::stdin().lock().lines().for_each(drop);
    Ok(())
}

fn run(job: &str, records: &str, bytes: &str) -> Result<()> {
    let load = Load { name: "", records: records.parse()?, bytes: bytes.parse()? };
    let runtime = runtime()?;
    match job {
        "put-library" => runtime.block_on(put_library(load)),
        "put-payloads" => runtime.block_on(put_payloads(load)),
        "put-plain" => runtime.block_on(put_plain(load)),
        "get-library" => runtime.block_on(get_library(load)),
        _ => runtime.block_on(get_plain(load)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

async fn stream() -> Result<Stream> {
    let kinesis = Kinesis::connect(ConnectOptions::default()).await?;
    let config = Config::parse("bench: {name: bench, partition_key: user}", "bench")?;
    Ok(Stream::new(config.stream(STREAM)?, Arc::new(kinesis.stream(STREAM)?)))
}

async fn put_library(load: Load) -> Result<()> {
    let stream = stream().await?;
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

/// Payloads that are encoded already, as the plain loop's are.
async fn put_payloads(load: Load) -> Result<()> {
    let stream = stream().await?;
    let payload = Bytes::from(vec![b'x'; load.bytes]);
    for call in 0..load.records / CALL {
        let entry = |row| Ok(PutEntry::new(PartitionKey::new(user(call * CALL + row))?, payload.clone()));
        let entries = (0..CALL).map(entry).collect::<Result<Vec<_>>>()?;
        for outcome in stream.producer().put_all(&entries).await {
            outcome?;
        }
    }
    Ok(())
}

async fn get_library(load: Load) -> Result<()> {
    let stream = stream().await?;
    let mut reader = stream.reader(Start::All, ReaderOptions::default().with_until_caught_up(true)).await?;
    let (mut count, mut bytes) = (0, 0);
    while let Some(batch) = reader.next_batch().await {
        for record in batch? {
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

/// Ready-made blobs in batches of 500, one request after the other.
async fn put_plain(load: Load) -> Result<()> {
    let client = plain_client().await;
    let blob = Blob::new(vec![b'x'; load.bytes]);
    for batch in 0..load.records / BATCH {
        let entry =
            |row| PutRecordsRequestEntry::builder().data(blob.clone()).partition_key(user(batch * BATCH + row)).build();
        let entries = (0..BATCH).map(entry).collect::<Result<Vec<_>, _>>()?;
        let answer = client.put_records().stream_name(STREAM).set_records(Some(entries)).send().await?;
        ensure!(answer.failed_record_count().unwrap_or(0) == 0, "records were refused");
    }
    Ok(())
}

/// Pages of as many records as Kinesis gives, dropped.
async fn get_plain(load: Load) -> Result<()> {
    let client = plain_client().await;
    let opened = client
        .get_shard_iterator()
        .stream_name(STREAM)
        .shard_id("shardId-000000000000")
        .shard_iterator_type(ShardIteratorType::TrimHorizon)
        .send()
        .await?;
    let (mut iterator, mut count) = (opened.shard_iterator, 0);
    loop {
        let page = client.get_records().set_shard_iterator(iterator).limit(10_000).send().await?;
        if page.records.is_empty() {
            break;
        }
        count += page.records.len();
        iterator = page.next_shard_iterator;
    }
    ensure!(count == load.records, "{count} records");
    Ok(())
}

/// The server's process and how others reach it.
struct Place {
    server: Child,
    url: String,
}

impl Place {
    fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut server = command.arg("--kinesis-server").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut url = String::new();
        BufReader::new(server.stdout.take().context("a pipe")?).read_line(&mut url)?;
        Ok(Self { server, url: url.trim_end().to_owned() })
    }

    fn environment(&self, command: &mut Command) {
        command.env_clear().envs([
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &self.url),
        ]);
    }

    fn job(&self, job: &str, load: Load) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--kinesis", job, &load.records.to_string(), &load.bytes.to_string()]);
        self.environment(&mut command);
        Ok(command)
    }

    fn boto3(&self, job: &str, arguments: &[usize]) -> Result<Command> {
        let python = std::env::var("TRITON_PYTHON").context("$TRITON_PYTHON: run 'make bench'")?;
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/services/client.py")).args([job, STREAM]);
        command.args(arguments.iter().map(usize::to_string));
        self.environment(&mut command);
        Ok(command)
    }

    /// An empty stream of one shard.
    fn fresh_stream(&self) -> Result<()> {
        runtime()?.block_on(async {
            let credentials = aws_sdk_kinesis::config::Credentials::new("key", "secret", None, None, "bench");
            let config = aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12())
                .credentials_provider(credentials)
                .region("us-east-1")
                .load()
                .await;
            let kinesis = Kinesis::over(config, ConnectOptions::default().with_endpoint_url(&self.url))?;
            match kinesis.delete(STREAM).await {
                Ok(()) | Err(Error::StreamNotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(kinesis.create(STREAM, CreateOptions::default()).await?)
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// Prints the rows.
pub(crate) fn bench(triton: &Path, runs: usize) -> Result<()> {
    let place = Place::start()?;
    println!("\nKinesis, client CPU a record, medians of {runs} runs taking turns; one shard, one request at a time\n");
    println!("{:<42} {:>12} {:>12} {:>7}  goal", "row", "triton", "peer", "ratio");
    for load in [LARGE, SMALL] {
        for (job, what, goal) in [("put-payloads", "put", "<= 1.10"), ("put-library", "put typed", "")] {
            let (ours, peer) = interleave(
                runs,
                || place.fresh_stream().and_then(|()| place.job(job, load)),
                || place.fresh_stream().and_then(|()| place.job("put-plain", load)),
            )?;
            // The goal is for the larger records; what the smaller ones cost is worth knowing.
            let goal = if load.bytes == LARGE.bytes { goal } else { "" };
            row(&format!("{what}, {} / SDK loop of blobs", load.name), load, &ours, &peer, goal);
        }
        let (ours, peer) = interleave(
            runs,
            || place.fresh_stream().and_then(|()| place.job("put-library", load)),
            || place.fresh_stream().and_then(|()| place.boto3("put-many", &[load.records, load.bytes])),
        )?;
        row(&format!("put typed, {} / boto3 and msgpack", load.name), load, &ours, &peer, "");

        place.fresh_stream()?;
        ensure!(place.job("put-library", load)?.status()?.success(), "the stream cannot be filled");
        let (ours, peer) = interleave(runs, || place.job("get-library", load), || place.job("get-plain", load))?;
        row(&format!("get typed, {} / SDK loop that drops", load.name), load, &ours, &peer, "<= 1.20");
        let (ours, peer) =
            interleave(runs, || place.job("get-library", load), || place.boto3("get-many", &[load.records]))?;
        row(&format!("get typed, {} / boto3 and msgpack", load.name), load, &ours, &peer, "");
    }
    let size = std::fs::metadata(triton)?.len() as f64 / 1e6;
    println!("{:<42} {size:>9.1} MB  goal < 25 MB", "the command, stripped");
    Ok(())
}

fn row(name: &str, load: Load, ours: &[Measured], peer: &[Measured], goal: &str) {
    let each = |runs: &[Measured]| median(runs.iter().map(|run| run.cpu.as_secs_f64() * 1e6 / load.records as f64));
    let ratio = median(ours.iter().zip(peer).map(|(ours, peer)| ours.cpu.as_secs_f64() / peer.cpu.as_secs_f64()));
    println!("{name:<42} {:>9.2} us {:>9.2} us {ratio:>7.2}  {goal}", each(ours), each(peer));
}
