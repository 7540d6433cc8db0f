//! A server of its own for each test, and a connection to it.

use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_kinesis::config::Credentials;
use triton_core::{
    CreateOptions, PartitionKey, Position, PutEntry, PutReceipt, Record, ShardId, ShardReader, StreamAdmin,
    StreamClient,
};
use triton_kinesis::{ConnectOptions, Kinesis};
use triton_test_server::{Server, ServerOptions};

/// A request that is not answered by then is lost.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(800);

pub(crate) struct Place {
    pub(crate) server: Server,
    pub(crate) kinesis: Kinesis,
}

impl Place {
    pub(crate) async fn new() -> Self {
        Self::with(ServerOptions::default()).await
    }

    pub(crate) async fn with(options: ServerOptions) -> Self {
        let server = Server::start(options).expect("a server");
        let options = ConnectOptions::default()
            .with_region("us-east-1")
            .with_endpoint_url(server.endpoint_url())
            .with_request_timeout(REQUEST_TIMEOUT);
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
        let mut results = client.put_batch(&[entry("k", text)]).await.expect("put");
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
