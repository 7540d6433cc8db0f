//! Clients that lie to the producer or the reader. Each lie violates an invariant, and the check of that invariant has
//! to find it. This tests the checks without the code that they check.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use triton_core::{
    Batch, ChildShard, Entries, Error, HashKey, HashKeyRange, Limits, Position, PutReceipt, Result, Shard, ShardId,
    ShardReader, StreamClient, Timestamp,
};

use super::run_with;
use crate::connect::Connect;
use crate::model::Handle;

/// What a client does wrong once in [`EVERY`] opportunities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// A put never returns.
    NeverAnswers,
    /// A put is acknowledged and not stored.
    StoresNothing,
    /// A put is stored twice and acknowledged once.
    StoresTwice,
    /// The results of a put are returned for other entries.
    SwapsReceipts,
    /// A put is reported as throttled, and is stored.
    ThrottlesAndStores,
    /// The limits claim ordered batches, but entries are stored in any order.
    PromisesOrder,
    /// A page lacks a record.
    DropsRecord,
    /// A page is returned twice.
    RepeatsPage,
    /// Two records of a page are swapped.
    SwapsRecords,
    /// A shard is reported as drained too early, so that its children are read.
    EndsEarly,
    /// The end of a shard names one child of two.
    NamesOneChild,
    /// Pages claim that later records were returned, too.
    CaughtUpTooFar,
    /// The list shows other hash keys than the shards hold.
    ShiftsHashKeys,
}

/// One lie per this many opportunities.
const EVERY: u32 = 5;

/// By how much hash keys are shifted.
const SHIFT: u128 = 1 << 124;

/// Later than any run.
const FAR: Duration = Duration::from_secs(1_000_000);

#[derive(Debug)]
struct Liar {
    inner: Handle,
    lie: Lie,
    opportunities: Arc<AtomicU32>,
}

fn is_due(opportunities: &AtomicU32) -> bool {
    opportunities.fetch_add(1, Ordering::Relaxed) % EVERY == EVERY - 1
}

#[async_trait]
impl StreamClient for Liar {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn created_at(&self) -> Result<Timestamp> {
        self.inner.created_at().await
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        let mut shards = self.inner.shards().await?;
        if self.lie == Lie::ShiftsHashKeys {
            for shard in &mut shards {
                let HashKeyRange { first, last } = &mut shard.hash_key_range;
                *first = if *first == HashKey::MIN { *first } else { HashKey(first.0 - SHIFT) };
                *last = if *last == HashKey::MAX { *last } else { HashKey(last.0 - SHIFT) };
            }
        }
        Ok(shards)
    }

    async fn put_batch(&self, entries: Entries) -> Result<Vec<Result<PutReceipt>>> {
        let is_about_puts = match self.lie {
            Lie::SwapsReceipts => entries.len() > 1,
            Lie::NeverAnswers | Lie::StoresNothing | Lie::StoresTwice | Lie::ThrottlesAndStores => true,
            _ => false,
        };
        if !is_about_puts || !is_due(&self.opportunities) {
            return self.inner.put_batch(entries).await;
        }
        match self.lie {
            Lie::NeverAnswers => std::future::pending().await,
            Lie::StoresNothing => {
                let receipt = PutReceipt::new(ShardId::numbered(0), 1);
                Ok(vec![Ok(receipt); entries.len()])
            }
            Lie::StoresTwice => {
                drop(self.inner.put_batch(entries.clone()).await);
                self.inner.put_batch(entries).await
            }
            Lie::SwapsReceipts => {
                let mut results = self.inner.put_batch(entries).await?;
                results.rotate_left(1);
                Ok(results)
            }
            _ => {
                drop(self.inner.put_batch(entries).await);
                Err(Error::Throttled { problem: "a lie".into() })
            }
        }
    }

    async fn open_shard(&self, shard: &ShardId, position: Position) -> Result<Box<dyn ShardReader>> {
        let inner = self.inner.open_shard(shard, position).await?;
        let is_closed = self.inner.shards().await?.iter().any(|listed| listed.id == *shard && !listed.is_open());
        let opportunities = Arc::clone(&self.opportunities);
        Ok(Box::new(LyingReader { inner, lie: self.lie, is_closed, opportunities, last: None }))
    }

    async fn limits(&self) -> Result<Limits> {
        let mut limits = self.inner.limits().await?;
        limits.ordered_batches |= self.lie == Lie::PromisesOrder;
        Ok(limits)
    }
}

#[derive(Debug)]
struct LyingReader {
    inner: Box<dyn ShardReader>,
    lie: Lie,
    is_closed: bool,
    opportunities: Arc<AtomicU32>,
    /// The page to be returned again.
    last: Option<Batch>,
}

#[async_trait]
impl ShardReader for LyingReader {
    async fn next_batch(&mut self, max_records: usize) -> Result<Option<Batch>> {
        if let Some(last) = self.last.take() {
            return Ok(Some(last));
        }
        let Some(mut batch) = self.inner.next_batch(max_records).await? else { return Ok(None) };
        let records = batch.records.len();
        let is_about_pages = match self.lie {
            Lie::DropsRecord | Lie::RepeatsPage => records > 0,
            Lie::SwapsRecords => records > 1,
            Lie::EndsEarly => self.is_closed && records > 0,
            _ => false,
        };
        if self.lie == Lie::CaughtUpTooFar {
            batch.caught_up_at = batch.caught_up_at.map(|time| time + FAR);
        }
        if is_about_pages && is_due(&self.opportunities) {
            match self.lie {
                Lie::DropsRecord => drop(batch.records.remove(records / 2)),
                Lie::RepeatsPage => self.last = Some(batch.clone()),
                Lie::SwapsRecords => batch.records.swap(0, 1),
                _ => return Ok(None),
            }
        }
        Ok(Some(batch))
    }

    fn position(&self) -> Position {
        self.inner.position()
    }

    fn children(&self) -> Vec<ChildShard> {
        let mut children = self.inner.children();
        if self.lie == Lie::NamesOneChild {
            children.truncate(1);
        }
        children
    }

    async fn is_drained(&mut self) -> Result<bool> {
        self.inner.is_drained().await
    }
}

/// The first violated invariant of each seed, until the expected one is among them.
fn first_broken(lie: Lie, expected: u8) -> Vec<u8> {
    let mut broken = Vec::new();
    for seed in 1..=MAX_SEEDS {
        let opportunities = Arc::new(AtomicU32::new(0));
        let lying = move |inner| -> Arc<dyn StreamClient> {
            Arc::new(Liar { inner, lie, opportunities: Arc::clone(&opportunities) })
        };
        let outcome = run_with(seed, Connect::with(lying)).unwrap();
        broken.extend(outcome.violations.first().map(|violation| violation.invariant));
        if broken.contains(&expected) {
            break;
        }
    }
    broken
}

const MAX_SEEDS: u64 = 300;

#[test]
fn every_lie_is_found_by_the_check_of_its_invariant() {
    let lies = [
        (Lie::NeverAnswers, 1),
        (Lie::StoresNothing, 2),
        (Lie::StoresTwice, 2),
        (Lie::SwapsReceipts, 2),
        (Lie::ThrottlesAndStores, 2),
        (Lie::PromisesOrder, 3),
        (Lie::DropsRecord, 4),
        (Lie::RepeatsPage, 4),
        (Lie::SwapsRecords, 4),
        (Lie::EndsEarly, 5),
        (Lie::NamesOneChild, 4),
        (Lie::CaughtUpTooFar, 4),
        (Lie::ShiftsHashKeys, 2),
    ];
    for (lie, invariant) in lies {
        let broken = first_broken(lie, invariant);
        assert!(broken.contains(&invariant), "{lie:?} is to break {invariant}, and breaks {broken:?}");
    }
}
