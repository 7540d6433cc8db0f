//! Streams in memory: the reference backend, for documentation and tests.
//!
//! Its clock is tokio's, starting at a fixed date, so that tests on a paused clock are deterministic.

mod backend;
mod shard_records;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::backend::{Batch, Limits, ShardReader, StreamClient};
use crate::backend::{CreateOptions, StreamAdmin};
use crate::error::{Error, Result};
use crate::model::hash_key::HashKey;
use crate::model::position::Position;
use crate::model::sequence_number::SequenceNumber;
use crate::model::shard::{ChildShard, Shard, ShardId};
use crate::model::shard_map::ShardMap;
use crate::model::shard_router::ShardRouter;
use crate::model::timestamp::Timestamp;
use crate::record::{Entries, PutEntry, PutReceipt, Record};

use self::shard_records::ShardRecords;

pub use self::backend::MemoryBackend;

/// Kinesis' limits without quotas, with ordered batches and a poll every 5 ms.
const LIMITS: Limits = Limits::KINESIS
    .with_idle_poll(Duration::from_millis(5))
    .with_ordered_batches(true)
    .with_write_quota(None)
    .with_read_quota(None);

/// Start of a [`Memory`]'s clock: 2015-06-10 20:47:56 UTC.
const EPOCH_MILLIS: i64 = 1_433_969_276_000;

/// Streams in memory. Clones share them; they are dropped with the last clone and client.
#[derive(Clone, Debug)]
pub struct Memory {
    streams: Arc<Mutex<BTreeMap<String, MemoryStream>>>,
    started: Instant,
    /// Number of streams created. Part of the creation time, so that no two streams have the same.
    created: Arc<AtomicU64>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// Creates a backend without streams.
    pub fn new() -> Self {
        Self { streams: Arc::default(), started: Instant::now(), created: Arc::default() }
    }

    /// Creates a stream with this number of shards.
    ///
    /// # Errors
    /// [`Error::StreamExists`]; [`Error::Invalid`] for no shards or too many.
    pub fn stream(&self, name: &str, shards: usize) -> Result<MemoryStream> {
        self.create_stream(name, CreateOptions::default().with_shards(shards))
    }

    fn create_stream(&self, name: &str, options: CreateOptions) -> Result<MemoryStream> {
        let mut streams = self.lock();
        if streams.contains_key(name) {
            return Err(Error::StreamExists { stream: name.into(), location: NAME.into() });
        }
        let map = ShardMap::uniform(name, options.fixed_shards()?, 1)?;
        let content = Content {
            router: router(&map)?,
            map,
            records: BTreeMap::new(),
            next_sequence: 1,
            retention: options.retention,
            created_at: self.next_creation(),
        };
        let stream = MemoryStream { name: name.into(), started: self.started, content: Arc::new(Mutex::new(content)) };
        streams.insert(name.into(), stream.clone());
        Ok(stream)
    }

    fn next_creation(&self) -> Timestamp {
        let number = self.created.fetch_add(1, Ordering::Relaxed);
        Timestamp::from_millis(EPOCH_MILLIS) + self.started.elapsed() + Duration::from_millis(number)
    }

    fn get(&self, name: &str) -> Result<MemoryStream> {
        self.lock()
            .get(name)
            .cloned()
            .ok_or_else(|| Error::StreamNotFound { stream: name.into(), location: NAME.into() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, MemoryStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const NAME: &str = "memory";

#[async_trait]
impl StreamAdmin for Memory {
    async fn open(&self, stream: &str) -> Result<Arc<dyn StreamClient>> {
        Ok(Arc::new(self.get(stream)?))
    }

    async fn create(&self, stream: &str, options: CreateOptions) -> Result<()> {
        self.create_stream(stream, options).map(drop)
    }

    async fn delete(&self, stream: &str) -> Result<()> {
        self.get(stream)?;
        self.lock().remove(stream);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<String>> {
        Ok(self.lock().keys().cloned().collect())
    }

    async fn split(&self, stream: &str, shard: &ShardId, at: HashKey) -> Result<()> {
        self.get(stream)?.content().change(|map, sequence| map.split(shard, at, sequence).map(drop))
    }

    async fn merge(&self, stream: &str, shard: &ShardId, adjacent: &ShardId) -> Result<()> {
        self.get(stream)?.content().change(|map, sequence| map.merge(shard, adjacent, sequence).map(drop))
    }

    async fn reshard(&self, stream: &str, shards: usize) -> Result<()> {
        self.get(stream)?.content().change(|map, sequence| map.reshard(shards, sequence))
    }
}

/// One stream in memory.
#[derive(Clone, Debug)]
pub struct MemoryStream {
    name: String,
    started: Instant,
    content: Arc<Mutex<Content>>,
}

#[derive(Debug)]
struct Content {
    map: ShardMap,
    router: ShardRouter,
    records: BTreeMap<ShardId, ShardRecords>,
    next_sequence: u64,
    retention: Duration,
    created_at: Timestamp,
}

impl MemoryStream {
    /// Current time by the stream's clock.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(EPOCH_MILLIS) + self.started.elapsed()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // A panic cannot leave the content inconsistent: a change is checked before it is applied.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn change<T>(&mut self, change: impl FnOnce(&mut ShardMap, &mut u64) -> Result<T>) -> Result<T> {
        let (mut map, mut sequence) = (self.map.clone(), self.next_sequence);
        let changed = change(&mut map, &mut sequence)?;
        self.router = router(&map)?;
        (self.map, self.next_sequence) = (map, sequence);
        Ok(changed)
    }

    fn put(&mut self, entry: &PutEntry, now: Timestamp) -> PutReceipt {
        let shard_id = self.router.shards()[self.router.route(|| entry.hash_key())].clone();
        let sequence_number = SequenceNumber::from(self.next_sequence);
        self.next_sequence += 1;
        let record =
            Record::new(shard_id.clone(), sequence_number, entry.partition_key.clone(), now, entry.data.clone());
        self.records.entry(shard_id.clone()).or_default().push(record);
        PutReceipt::new(shard_id, sequence_number)
    }

    /// The shard's records, after removing those past retention.
    fn retained(&mut self, shard: &ShardId, now: Timestamp) -> &ShardRecords {
        let retained = self.records.entry(shard.clone()).or_default();
        retained.expire(now - self.retention);
        retained
    }

    /// The shards that this one was split or merged into.
    fn children(&self, shard: &ShardId) -> Vec<ChildShard> {
        let is_child = |listed: &&Shard| listed.parents().any(|parent| parent == shard);
        self.map.shards().iter().filter(is_child).map(ChildShard::from).collect()
    }
}

fn router(map: &ShardMap) -> Result<ShardRouter> {
    let uncovered = || Error::Contract { backend: NAME.into(), problem: "its shards do not cover every key".into() };
    ShardRouter::new(map.shards()).ok_or_else(uncovered)
}

#[async_trait]
impl StreamClient for MemoryStream {
    fn name(&self) -> &str {
        &self.name
    }

    async fn created_at(&self) -> Result<Timestamp> {
        Ok(self.content().created_at)
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        Ok(self.content().map.shards().to_vec())
    }

    async fn put_batch(&self, entries: Entries) -> Result<Vec<Result<PutReceipt>>> {
        LIMITS.check(&entries)?;
        let mut content = self.content();
        // With the content locked, so that no record arrives before one that a reader has returned.
        let now = self.now();
        Ok(entries.iter().map(|entry| Ok(content.put(entry, now))).collect())
    }

    async fn open_shard(&self, shard: &ShardId, position: Position) -> Result<Box<dyn ShardReader>> {
        let mut content = self.content();
        let now = self.now();
        let (listed, next_sequence) = (content.map.get(shard)?.clone(), content.next_sequence);
        let after = content.retained(shard, now).before(position, &listed, next_sequence)?;
        let caught_up_at = if let Position::After { caught_up_at, .. } = position { caught_up_at } else { None };
        let (stream, shard) = (self.clone(), listed.id);
        Ok(Box::new(MemoryShardReader { stream, shard, after, caught_up_at, children: Vec::new() }))
    }

    async fn limits(&self) -> Result<Limits> {
        Ok(LIMITS)
    }
}

#[derive(Debug)]
struct MemoryShardReader {
    stream: MemoryStream,
    shard: ShardId,
    /// Of the last record of the shard before those to read; zero if there is none.
    after: SequenceNumber,
    /// Of the latest page that had one.
    caught_up_at: Option<Timestamp>,
    /// Known at the end.
    children: Vec<ChildShard>,
}

#[async_trait]
impl ShardReader for MemoryShardReader {
    async fn next_batch(&mut self, max_records: usize) -> Result<Option<Batch>> {
        let mut content = self.stream.content();
        let now = self.stream.now();
        let is_open = content.map.get(&self.shard)?.is_open();
        let retained = content.retained(&self.shard, now);
        if self.after < retained.removed_through() {
            return Err(Error::PastRetention { shard: self.shard.clone(), position: self.after });
        }
        let rest = retained.after(self.after);
        let records: Vec<Record> = rest.iter().take(max_records).cloned().collect();
        let has_more = records.len() < rest.len();
        if records.is_empty() && !is_open {
            self.children = content.children(&self.shard);
            return Ok(None);
        }
        let last = records.last().map(|last| (last.sequence_number, last.arrival));
        if let Some((sequence_number, _)) = last {
            self.after = sequence_number;
        }
        Ok(Some(match last {
            // Not caught up, even if the next record arrived in the same millisecond.
            Some((_, arrival)) if has_more => {
                Batch::new(records, Some(now.since(arrival).max(Duration::from_millis(1))))
            }
            _ => {
                self.caught_up_at = Some(now);
                Batch::new(records, Some(Duration::ZERO)).with_caught_up_at(now)
            }
        }))
    }

    fn position(&self) -> Position {
        match self.after {
            SequenceNumber::ZERO => Position::TrimHorizon,
            sequence_number => Position::After { sequence_number, caught_up_at: self.caught_up_at },
        }
    }

    fn children(&self) -> Vec<ChildShard> {
        self.children.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::PartitionKey;

    fn entry(text: &'static str) -> PutEntry {
        PutEntry::new(PartitionKey::new("k").unwrap(), text.as_bytes())
    }

    #[tokio::test(start_paused = true)]
    async fn retention_removes_old_records_and_reports_positions_before_them() {
        let memory = Memory::new();
        let options = CreateOptions::default().with_retention(Duration::from_secs(60));
        memory.create("clicks", options).await.unwrap();
        let stream = memory.get("clicks").unwrap();
        let first = stream.put_batch([entry("a"), entry("b")].into()).await.unwrap().remove(0).unwrap();
        let shard = first.shard_id;
        let mut reader = stream.open_shard(&shard, Position::TrimHorizon).await.unwrap();
        tokio::time::advance(Duration::from_secs(61)).await;
        stream.put_batch([entry("c")].into()).await.unwrap();

        assert!(matches!(reader.next_batch(1).await, Err(Error::PastRetention { .. })));
        let at = |position| stream.open_shard(&shard, position);
        assert!(matches!(at(Position::after(first.sequence_number)).await, Err(Error::PastRetention { .. })));
        assert!(matches!(at(Position::At(2.into())).await, Err(Error::PastRetention { .. })));
        // No record is missing after the last removed one.
        let mut reader = at(Position::after(2)).await.unwrap();
        assert_eq!(reader.next_batch(9).await.unwrap().unwrap().records[0].data, "c");
        let mut oldest = at(Position::TrimHorizon).await.unwrap();
        assert_eq!(oldest.next_batch(9).await.unwrap().unwrap().records.len(), 1);
    }
}
