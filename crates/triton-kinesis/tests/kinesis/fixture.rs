//! A separate server per test, and connections to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_sdk_kinesis::config::Credentials;
use triton_core::{
    Batch, CreateOptions, HashKey, PartitionKey, Position, PutEntry, PutReceipt, Record, ShardId, ShardReader,
    StreamAdmin, StreamClient,
};
use triton_kinesis::{ConnectOptions, Kinesis};
use triton_test_server::{Fault, Server, ServerOptions};

/// The longest wait for an event, generous enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Timeout of clients that meet a silent server. On a busy machine it may end other calls too: the assertions on such a
/// client allow that.
pub(crate) const IMPATIENCE: Duration = Duration::from_secs(3);
const HEARTBEAT: Duration = Duration::from_millis(30);
/// Instead of five seconds.
const SUBSCRIPTION_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) server: Server,
    /// With a timeout that a busy machine does not reach.
    pub(crate) kinesis: Kinesis,
    /// With a short timeout, for tests in which the server is silent.
    pub(crate) impatient: Kinesis,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(ServerOptions::default()).await
    }

    /// With short intervals between subscriptions and between heartbeats.
    pub(crate) async fn pushing() -> Self {
        Self::with(pushing()).await
    }

    pub(crate) async fn with(options: ServerOptions) -> Self {
        let server = Server::start(options).expect("a server");
        let kinesis = connect(&server.endpoint_url(), PATIENCE).await;
        let impatient = connect(&server.endpoint_url(), IMPATIENCE).await;
        Self { server, kinesis, impatient }
    }

    /// The connection for a call that this fault is injected into.
    pub(crate) fn kinesis_for(&self, fault: Fault) -> &Kinesis {
        if is_silent(fault) { &self.impatient } else { &self.kinesis }
    }

    /// Waits until a fault was injected this many times. A client that times out may be ahead of the server.
    pub(crate) async fn was_injected(&self, fault: Fault, times: u64) {
        eventually("the fault is injected", async || self.server.faults().injected(fault) == times).await;
    }

    /// Creates a stream and returns its client.
    pub(crate) async fn stream(&self, shards: usize) -> Arc<dyn StreamClient> {
        self.kinesis.create("clicks", CreateOptions::default().with_shards(shards)).await.expect("create");
        self.kinesis.open("clicks").await.expect("open")
    }
}

pub(crate) async fn connect(endpoint_url: &str, timeout: Duration) -> Kinesis {
    let options = ConnectOptions::default()
        .with_region("us-east-1")
        .with_endpoint_url(endpoint_url)
        .with_request_timeout(timeout)
        .with_idle_timeout(timeout);
    let credentials = Credentials::new("key", "secret", None, None, "a test");
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .credentials_provider(credentials)
        .region("us-east-1")
        .load()
        .await;
    Kinesis::over(config, options).expect("a connection")
}

/// Whether only the client's timeout ends a call with this fault.
pub(crate) fn is_silent(fault: Fault) -> bool {
    matches!(fault, Fault::SilenceBefore | Fault::SilenceAfter | Fault::SilenceMidStream)
}

/// Waits for an event.
pub(crate) async fn eventually(what: &str, mut has_happened: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !has_happened().await {
        assert!(started.elapsed() < PATIENCE, "{what}: did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The next batch of an open shard, through a client with a short timeout.
pub(crate) async fn next(reader: &mut dyn ShardReader, max_records: usize) -> Batch {
    loop {
        match reader.next_batch(max_records).await {
            Ok(batch) => return batch.expect("an open shard"),
            Err(error) => assert!(error.to_string().ends_with("did not answer in time"), "{error:?}"),
        }
    }
}

pub(crate) fn pushing() -> ServerOptions {
    ServerOptions::default().with_heartbeat(HEARTBEAT).with_subscription_interval(SUBSCRIPTION_INTERVAL)
}

/// Kinesis with fan-out, one consumer per client: readers of one consumer take a shard from each other.
#[derive(Debug)]
pub(crate) struct FanOut {
    kinesis: Kinesis,
    consumers: AtomicUsize,
}

impl FanOut {
    pub(crate) fn over(kinesis: &Kinesis) -> Self {
        Self { kinesis: kinesis.clone(), consumers: AtomicUsize::new(0) }
    }
}

#[async_trait]
impl StreamAdmin for FanOut {
    async fn open(&self, stream: &str) -> triton_core::Result<Arc<dyn StreamClient>> {
        let consumer = format!("consumer-{}", self.consumers.fetch_add(1, Ordering::Relaxed));
        Ok(Arc::new(self.kinesis.stream(stream)?.fan_out(&consumer).await?))
    }

    async fn create(&self, stream: &str, options: CreateOptions) -> triton_core::Result<()> {
        self.kinesis.create(stream, options).await
    }

    async fn delete(&self, stream: &str) -> triton_core::Result<()> {
        self.kinesis.delete(stream).await
    }

    async fn list(&self) -> triton_core::Result<Vec<String>> {
        self.kinesis.list().await
    }

    async fn split(&self, stream: &str, shard: &ShardId, at: HashKey) -> triton_core::Result<()> {
        self.kinesis.split(stream, shard, at).await
    }

    async fn merge(&self, stream: &str, shard: &ShardId, adjacent: &ShardId) -> triton_core::Result<()> {
        self.kinesis.merge(stream, shard, adjacent).await
    }

    async fn reshard(&self, stream: &str, shards: usize) -> triton_core::Result<()> {
        self.kinesis.reshard(stream, shards).await
    }
}

pub(crate) fn entry(key: &str, text: &str) -> PutEntry {
    PutEntry::new(PartitionKey::new(key.to_owned()).expect("a key"), text.to_owned().into_bytes())
}

pub(crate) fn numbered(count: usize) -> Vec<PutEntry> {
    (0..count).map(|number| entry(&format!("key-{number}"), &number.to_string())).collect()
}

/// Puts records in this order, one call per record.
pub(crate) async fn put(client: &dyn StreamClient, texts: &[&str]) -> Vec<PutReceipt> {
    let mut receipts = Vec::new();
    for text in texts {
        let mut results = client.put_batch([entry("k", text)].into()).await.expect("put");
        receipts.push(results.remove(0).expect("taken"));
    }
    receipts
}

pub(crate) async fn only_shard(client: &dyn StreamClient) -> ShardId {
    client.shards().await.expect("shards").remove(0).id
}

/// Reads until the shard ends or the reader is caught up.
pub(crate) async fn read(reader: &mut dyn ShardReader) -> triton_core::Result<Vec<String>> {
    let mut records = Vec::new();
    while let Some(batch) = reader.next_batch(100).await? {
        if batch.records.is_empty() && batch.is_caught_up() {
            break;
        }
        records.extend(batch.records);
    }
    Ok(texts(&records))
}

pub(crate) async fn read_from(
    client: &dyn StreamClient,
    shard: &ShardId,
    position: Position,
) -> triton_core::Result<Vec<String>> {
    let mut reader = client.open_shard(shard, position).await?;
    read(&mut *reader).await
}

pub(crate) fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(&record.data).into_owned()).collect()
}
