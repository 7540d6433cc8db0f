//! The two traits over a stream's file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::watch;
use triton_core::{
    Batch, Entries, Limits, Position, PutReceipt, Result, Shard, ShardId, ShardReader, StreamClient, Timestamp,
};

use crate::file::StreamFile;
use crate::read_thread::Cursor;
use crate::write_thread::{GROUP_BYTES, GROUP_RECORDS};

/// How long a fetch waits for another process's commit.
const WAIT: Duration = Duration::from_secs(1);

/// A call is a transaction: as much as one may hold, in order. A record is as large as Kinesis' default allows.
const LIMITS: Limits = Limits::KINESIS
    .with_max_entries(GROUP_RECORDS)
    .with_max_call_bytes(GROUP_BYTES)
    .with_idle_poll(Duration::from_millis(5))
    .with_ordered_batches(true)
    .with_pushes(true)
    .with_write_quota(None)
    .with_read_quota(None);

#[derive(Clone, Debug)]
pub(crate) struct LocalStream(pub(crate) Arc<StreamFile>);

#[async_trait]
impl StreamClient for LocalStream {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn created_at(&self) -> Result<Timestamp> {
        self.0.fetcher().created_at().await
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        self.0.fetcher().shards().await
    }

    async fn put_batch(&self, entries: Entries) -> Result<Vec<Result<PutReceipt>>> {
        LIMITS.check(&entries)?;
        self.0.writer()?.put(entries).await
    }

    async fn open_shard(&self, shard: &ShardId, position: Position) -> Result<Box<dyn ShardReader>> {
        let cursor = self.0.fetcher().open(shard.clone(), position).await?;
        let changes = self.0.fetcher().changes();
        Ok(Box::new(LocalShardReader { file: Arc::clone(&self.0), cursor, changes, is_caught_up: false }))
    }

    async fn limits(&self) -> Result<Limits> {
        Ok(LIMITS)
    }
}

#[derive(Debug)]
struct LocalShardReader {
    file: Arc<StreamFile>,
    cursor: Cursor,
    changes: watch::Receiver<u64>,
    is_caught_up: bool,
}

#[async_trait]
impl ShardReader for LocalShardReader {
    async fn next_batch(&mut self, max_records: usize) -> Result<Option<Batch>> {
        if self.is_caught_up && !self.changes.has_changed().unwrap_or(true) {
            self.file.fetcher().watch(Instant::now() + WAIT)?;
            // Woken or not, the fetch decides: a change that nobody was woken for would cost a second, not the record.
            drop(tokio::time::timeout(WAIT, self.changes.changed()).await);
        }
        // Seen before the fetch: what is committed during it is another change.
        self.changes.mark_unchanged();
        let fetched = self.file.fetcher().fetch(self.cursor.clone(), max_records).await?;
        // Nothing moves before the answer is here, so that a dropped future loses nothing.
        Ok(fetched.map(|(batch, cursor)| {
            self.cursor = cursor;
            self.is_caught_up = batch.is_caught_up();
            batch
        }))
    }

    fn position(&self) -> Position {
        self.cursor.position()
    }
}
