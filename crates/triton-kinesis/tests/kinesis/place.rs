//! A server of its own for each test, and a connection to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_sdk_kinesis::config::Credentials;
use triton_core::{
    CreateOptions, HashKey, PartitionKey, Position, PutEntry, PutReceipt, Record, ShardId, ShardReader, StreamAdmin,
    StreamClient,
};
use triton_kinesis::{ConnectOptions, Kinesis};
use triton_test_server::{Server, ServerOptions};

/// A request that is not answered by then is lost.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(800);
/// A subscription that says nothing for so long is lost; it says something more often.
const IDLE_TIMEOUT: Duration = Duration::from_millis(700);
const HEARTBEAT: Duration = Duration::from_millis(30);
/// New subscriptions are refused for so long, instead of five seconds.
const SUBSCRIPTION_INTERVAL: Duration = Duration::from_millis(20);

pub(crate) struct Place {
    pub(crate) server: Server,
    pub(crate) kinesis: Kinesis,
}

impl Place {
    pub(crate) async fn new() -> Self {
        Self::with(ServerOptions::default()).await
    }

    /// With a server on which little time passes between subscriptions, and between signs of life.
    pub(crate) async fn pushing() -> Self {
        Self::with(pushing()).await
    }

    pub(crate) async fn with(options: ServerOptions) -> Self {
        let server = Server::start(options).expect("a server");
        let options = ConnectOptions::default()
            .with_region("us-east-1")
            .with_endpoint_url(server.endpoint_url())
            .with_request_timeout(REQUEST_TIMEOUT)
            .with_idle_timeout(IDLE_TIMEOUT);
        let credentials = Credentials::new("key", "secret", None, None, "a test");
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .credentials_provider(credentials)
            .region("us-east-1")
            .load()
            .await;
        let kinesis = Kinesis::over(config, options).expect("a connection");
        Self { server, kinesis }
    }

    /// A stream of so many shards, and its client.
    pub(crate) async fn stream(&self, shards: usize) -> Arc<dyn StreamClient> {
        self.kinesis.create("clicks", CreateOptions::default().with_shards(shards)).await.expect("create");
        self.kinesis.open("clicks").await.expect("open")
    }
}

pub(crate) fn pushing() -> ServerOptions {
    ServerOptions::default().with_heartbeat(HEARTBEAT).with_subscription_interval(SUBSCRIPTION_INTERVAL)
}

/// Kinesis whose streams are read by fan-out, each client by a consumer of its own: readers of one consumer take a shard
/// from each other.
#[derive(Debug)]
pub(crate) struct FanOut {
    kinesis: Kinesis,
    consumers: AtomicUsize,
}

impl FanOut {
    pub(crate) fn new(place: &Place) -> Self {
        Self { kinesis: place.kinesis.clone(), consumers: AtomicUsize::new(0) }
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

/// Puts records one call each, so that they are in this order.
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

/// Everything up to the end, or to where the reader is caught up.
pub(crate) async fn read(reader: &mut dyn ShardReader) -> triton_core::Result<Vec<String>> {
    let mut records = Vec::new();
    while let Some(batch) = reader.next_batch(100).await? {
        if batch.is_caught_up() {
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
