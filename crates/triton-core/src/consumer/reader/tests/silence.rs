//! Ends of shards that the stream never tells.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::backend::StreamAdmin;
use crate::memory::Memory;
use crate::model::hash_key::HashKey;

/// A stream whose closed shards go on without records for ever.
#[derive(Debug)]
struct NeverEnding {
    inner: Arc<dyn StreamClient>,
    listings: Arc<AtomicU64>,
}

#[derive(Debug)]
struct NeverEndingShard {
    inner: Box<dyn ShardReader>,
    has_ended: bool,
}

#[async_trait]
impl StreamClient for NeverEnding {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn created_at(&self) -> Result<Timestamp> {
        self.inner.created_at().await
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        self.listings.fetch_add(1, Ordering::Relaxed);
        self.inner.shards().await
    }

    async fn put_batch(&self, entries: Entries) -> Result<Vec<Result<PutReceipt>>> {
        self.inner.put_batch(entries).await
    }

    async fn open_shard(&self, shard: &ShardId, position: Position) -> Result<Box<dyn ShardReader>> {
        let inner = self.inner.open_shard(shard, position).await?;
        Ok(Box::new(NeverEndingShard { inner, has_ended: false }))
    }

    async fn limits(&self) -> Result<Limits> {
        Ok(self.inner.limits().await?.with_idle_poll(Duration::from_secs(1)))
    }
}

#[async_trait]
impl ShardReader for NeverEndingShard {
    async fn next_batch(&mut self, max_records: usize) -> Result<Option<Batch>> {
        let batch = self.inner.next_batch(max_records).await?;
        self.has_ended = batch.is_none();
        Ok(Some(batch.unwrap_or_else(Batch::caught_up)))
    }

    fn position(&self) -> Position {
        self.inner.position()
    }

    async fn is_drained(&mut self) -> Result<bool> {
        Ok(self.has_ended)
    }
}

/// Whenever the shard is closed: a list from before that does not hide it.
#[tokio::test(start_paused = true)]
async fn an_end_that_is_never_told_is_found_within_40_seconds() {
    for closed_after in [1, 10, 26, 28, 35, 50] {
        let memory = Memory::new();
        let stream = memory.stream("clicks", 8).unwrap();
        let listings = Arc::new(AtomicU64::new(0));
        let client = NeverEnding { inner: Arc::new(stream.clone()), listings: Arc::clone(&listings) };
        let options = ReaderOptions::default().with_seed(closed_after);
        let mut reader = Reader::start(Arc::new(client), Start::All, options).await.unwrap();
        let fetching = tokio::spawn(async move { reader.next().await.unwrap().unwrap() });
        tokio::time::sleep(Duration::from_secs(closed_after)).await;
        memory.split("clicks", &ShardId::numbered(0), HashKey(1 << 120)).await.unwrap();
        let closed_at = Instant::now();
        let in_first_shard = (0..).map(|key| PutEntry::new(PartitionKey::new(format!("key-{key}")).unwrap(), "x"));
        let entry = in_first_shard.into_iter().find(|entry| entry.hash_key() < HashKey(1 << 120)).unwrap();
        stream.put_batch([entry].into()).await.unwrap().remove(0).unwrap();
        let record = fetching.await.unwrap();
        assert_eq!(record.shard_id, ShardId::numbered(8));
        assert!(
            closed_at.elapsed() < Duration::from_secs(40),
            "closed after {closed_after} s: {:?}",
            closed_at.elapsed()
        );
        let seconds = closed_after + closed_at.elapsed().as_secs();
        assert!(listings.load(Ordering::Relaxed) <= 3 + seconds / 6, "8 shards share their lists");
    }
}
