//! The client and the shard reader of a local stream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::watch;
use triton_core::{
    Batch, ChildShard, Entries, Limits, Position, PutReceipt, Result, Shard, ShardId, ShardReader, StreamClient,
    Timestamp,
};

use crate::cursor::Cursor;
use crate::file::StreamFile;
use crate::read_thread::Fetched;
use crate::write_thread::{GROUP_BYTES, GROUP_RECORDS};

/// Longest time that a fetch waits for new records.
const LONG_POLL: Duration = Duration::from_secs(1);

/// A call is one transaction, in order, so its limits are those of a transaction. The limit of a record is Kinesis'
/// default.
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
        self.0.reader().created_at().await
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        self.0.reader().shards().await
    }

    async fn put_batch(&self, entries: Entries) -> Result<Vec<Result<PutReceipt>>> {
        LIMITS.check(&entries)?;
        self.0.writer()?.put(entries).await
    }

    async fn open_shard(&self, shard: &ShardId, position: Position) -> Result<Box<dyn ShardReader>> {
        let cursor = self.0.reader().open(shard.clone(), position).await?;
        let commits = self.0.reader().commits();
        let file = Arc::clone(&self.0);
        Ok(Box::new(LocalShardReader { file, cursor, commits, is_idle: false, children: Vec::new() }))
    }

    async fn limits(&self) -> Result<Limits> {
        Ok(LIMITS)
    }
}

#[derive(Debug)]
struct LocalShardReader {
    file: Arc<StreamFile>,
    cursor: Cursor,
    commits: watch::Receiver<u64>,
    /// Whether the last fetch found nothing. Only then does the next one wait.
    is_idle: bool,
    /// Known at the end.
    children: Vec<ChildShard>,
}

#[async_trait]
impl ShardReader for LocalShardReader {
    async fn next_batch(&mut self, max_records: usize) -> Result<Option<Batch>> {
        if self.is_idle && !self.commits.has_changed().unwrap_or(true) {
            self.file.reader().poll_until(Instant::now() + LONG_POLL)?;
            // Fetches after a timeout too, so that a missed commit delays a record and does not lose it.
            drop(tokio::time::timeout(LONG_POLL, self.commits.changed()).await);
        }
        // Before the fetch, so that a commit during the fetch wakes the next one.
        self.commits.mark_unchanged();
        let fetched = self.file.reader().fetch(self.cursor.clone(), max_records).await?;
        // The cursor moves only once the records are here, so that dropping the future loses none.
        match fetched {
            Fetched::Batch(batch, cursor) => {
                self.cursor = cursor;
                self.is_idle = batch.records.is_empty() && batch.is_caught_up();
                Ok(Some(batch))
            }
            Fetched::End(children) => {
                self.children = children;
                Ok(None)
            }
        }
    }

    fn position(&self) -> Position {
        self.cursor.position()
    }

    fn children(&self) -> Vec<ChildShard> {
        self.children.clone()
    }
}
