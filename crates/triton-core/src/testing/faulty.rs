//! A backend that misbehaves on purpose: a wrapper that injects faults into any other.
//!
//! What it does follows from its seed and the order of the calls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::backend::{Batch, Limits, ShardReader, StreamClient};
use crate::error::{Error, Result};
use crate::model::position::Position;
use crate::model::shard::{Shard, ShardId};
use crate::model::timestamp::Timestamp;
use crate::record::{Entries, PutReceipt};

/// How often each fault strikes: probabilities from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Faults {
    /// An entry of a put is refused as throttled, while others of its call are written.
    pub throttle_entry: f64,
    /// A call fails before it is applied.
    pub fail_before: f64,
    /// A call is applied and its answer lost.
    pub fail_after: f64,
    /// A shard iterator expires.
    pub expire_iterator: f64,
    /// The entries of a put are stored in another order.
    pub reorder: f64,
    /// The longest time that a call takes; each takes a random part of it.
    pub delay: Duration,
}

impl Faults {
    /// Every fault now and then.
    pub fn all() -> Self {
        Self {
            throttle_entry: 0.1,
            fail_before: 0.1,
            fail_after: 0.1,
            expire_iterator: 0.1,
            reorder: 0.5,
            delay: Duration::from_millis(2),
        }
    }

    /// With entries throttled so often.
    pub fn with_throttle_entry(self, throttle_entry: f64) -> Self {
        Self { throttle_entry, ..self }
    }

    /// With calls failing so often before they are applied.
    pub fn with_fail_before(self, fail_before: f64) -> Self {
        Self { fail_before, ..self }
    }

    /// With answers lost so often after calls are applied.
    pub fn with_fail_after(self, fail_after: f64) -> Self {
        Self { fail_after, ..self }
    }

    /// With iterators expiring so often.
    pub fn with_expire_iterator(self, expire_iterator: f64) -> Self {
        Self { expire_iterator, ..self }
    }

    /// With the entries of a call stored in another order so often.
    pub fn with_reorder(self, reorder: f64) -> Self {
        Self { reorder, ..self }
    }

    /// With calls that take up to so long.
    pub fn with_delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

/// How often each fault has struck.
#[derive(Debug, Default)]
pub struct Strikes {
    throttled_entries: AtomicU64,
    failed_before: AtomicU64,
    failed_after: AtomicU64,
    expired_iterators: AtomicU64,
    reordered: AtomicU64,
}

impl Strikes {
    /// Entries that were refused as throttled.
    pub fn throttled_entries(&self) -> u64 {
        self.throttled_entries.load(Ordering::Relaxed)
    }

    /// Calls that failed before they were applied.
    pub fn failed_before(&self) -> u64 {
        self.failed_before.load(Ordering::Relaxed)
    }

    /// Calls whose answers were lost.
    pub fn failed_after(&self) -> u64 {
        self.failed_after.load(Ordering::Relaxed)
    }

    /// Iterators that expired.
    pub fn expired_iterators(&self) -> u64 {
        self.expired_iterators.load(Ordering::Relaxed)
    }

    /// Puts whose entries were stored in another order.
    pub fn reordered(&self) -> u64 {
        self.reordered.load(Ordering::Relaxed)
    }
}

/// A stream whose calls fail as [`Faults`] says.
///
/// ```
/// use triton_core::testing::faulty::{Faults, Faulty};
/// use triton_core::memory::Memory;
/// use triton_core::{Producer, ProducerOptions, PutEntry, PartitionKey, StreamClient};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> triton_core::Result<()> {
/// let client = Faulty::new(Memory::new().stream("clicks", 1)?, Faults::default().with_throttle_entry(0.5), 1);
/// let producer = Producer::new(std::sync::Arc::new(client), ProducerOptions::default().with_seed(1));
/// let entries = vec![PutEntry::new(PartitionKey::new("user-1")?, "hi"); 100];
/// // The producer sends again what was throttled.
/// assert!(producer.put_all(entries).await.iter().all(Result::is_ok));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Faulty<C> {
    inner: Arc<C>,
    chance: Arc<Chance>,
}

#[derive(Debug)]
struct Chance {
    faults: Faults,
    random: Mutex<StdRng>,
    strikes: Arc<Strikes>,
}

impl<C: StreamClient + 'static> Faulty<C> {
    /// Wraps a stream; `seed` decides which calls fail.
    pub fn new(inner: C, faults: Faults, seed: u64) -> Self {
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        Self { inner: Arc::new(inner), chance: Arc::new(Chance { faults, random, strikes: Arc::default() }) }
    }

    /// How often each fault has struck so far.
    pub fn strikes(&self) -> Arc<Strikes> {
        Arc::clone(&self.chance.strikes)
    }
}

impl Chance {
    fn strikes(&self, probability: f64, counter: &AtomicU64) -> bool {
        let struck = self.with_random(|random| random.random_bool(probability.clamp(0.0, 1.0)));
        if struck {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        struck
    }

    fn with_random<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn delay(&self) {
        if !self.faults.delay.is_zero() {
            tokio::time::sleep(self.faults.delay.mul_f64(self.with_random(|random| random.random()))).await;
        }
    }

    /// What every call goes through before it is applied.
    async fn before(&self) -> Result<()> {
        self.delay().await;
        match self.strikes(self.faults.fail_before, &self.strikes.failed_before) {
            true => Err(failure("the connection was refused", false)),
            false => Ok(()),
        }
    }

    fn loses_answer(&self) -> bool {
        self.strikes(self.faults.fail_after, &self.strikes.failed_after)
    }
}

fn failure(problem: &str, may_have_written: bool) -> Error {
    Error::Unavailable { problem: problem.into(), may_have_written, source: None }
}

#[async_trait]
impl<C: StreamClient + 'static> StreamClient for Faulty<C> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn created_at(&self) -> Result<Timestamp> {
        self.chance.before().await?;
        self.inner.created_at().await
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        self.chance.before().await?;
        self.inner.shards().await
    }

    async fn put_batch(&self, entries: Entries) -> Result<Vec<Result<PutReceipt>>> {
        self.inner.limits().await?.check(&entries)?;
        self.chance.before().await?;
        let (faults, strikes) = (&self.chance.faults, &self.chance.strikes);
        let mut passed: Vec<usize> = (0..entries.len())
            .filter(|_| !self.chance.strikes(faults.throttle_entry, &strikes.throttled_entries))
            .collect();
        if passed.len() > 1 && self.chance.strikes(faults.reorder, &strikes.reordered) {
            self.chance.with_random(|random| passed.shuffle(random));
        }
        let batch: Entries = passed.iter().map(|&index| entries[index].clone()).collect();
        let answers = if batch.is_empty() { Vec::new() } else { self.inner.put_batch(batch.clone().into()).await? };
        if self.chance.loses_answer() {
            return Err(failure("the answer was lost", true));
        }
        let throttled = || Err(Error::Throttled { problem: "the shard's write quota".into() });
        let mut outcomes: Vec<Result<PutReceipt>> = entries.iter().map(|_| throttled()).collect();
        for (index, answer) in passed.into_iter().zip(answers) {
            outcomes[index] = answer;
        }
        Ok(outcomes)
    }

    async fn open_shard(&self, shard: &ShardId, position: Position) -> Result<Box<dyn ShardReader>> {
        self.chance.before().await?;
        let reader = self.inner.open_shard(shard, position).await?;
        if self.chance.loses_answer() {
            return Err(failure("the answer was lost", false));
        }
        Ok(Box::new(FaultyShardReader {
            client: Arc::clone(&self.inner),
            chance: Arc::clone(&self.chance),
            shard: shard.clone(),
            reader,
            expired: false,
        }))
    }

    async fn limits(&self) -> Result<Limits> {
        self.chance.before().await?;
        let faults = &self.chance.faults;
        let limits = self.inner.limits().await?;
        Ok(limits.with_keeps_order(limits.keeps_order && faults.throttle_entry == 0.0 && faults.reorder == 0.0))
    }
}

#[derive(Debug)]
struct FaultyShardReader<C> {
    client: Arc<C>,
    chance: Arc<Chance>,
    shard: ShardId,
    reader: Box<dyn ShardReader>,
    expired: bool,
}

#[async_trait]
impl<C: StreamClient + 'static> ShardReader for FaultyShardReader<C> {
    async fn next_batch(&mut self, max_records: usize) -> Result<Option<Batch>> {
        let faults = &self.chance.faults;
        self.expired |= self.chance.strikes(faults.expire_iterator, &self.chance.strikes.expired_iterators);
        if self.expired {
            return Err(Error::IteratorExpired { shard: self.shard.clone() });
        }
        self.chance.before().await?;
        if self.chance.loses_answer() {
            // A lost answer does not move the iterator: the records come again.
            let position = self.reader.position();
            let mut unheard = self.client.open_shard(&self.shard, position).await?;
            unheard.next_batch(max_records).await?;
            return Err(failure("the answer was lost", false));
        }
        self.reader.next_batch(max_records).await
    }

    fn position(&self) -> Position {
        self.reader.position()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use crate::record::{PartitionKey, PutEntry};

    async fn open(client: &impl StreamClient, position: Position) -> Box<dyn ShardReader> {
        loop {
            if let Ok(reader) = client.open_shard(&ShardId::numbered(0), position).await {
                return reader;
            }
        }
    }

    /// What a client does through many calls, as text.
    async fn trace(faults: Faults, seed: u64) -> (Vec<String>, Arc<Strikes>) {
        let client = Faulty::new(Memory::new().stream("clicks", 1).unwrap(), faults, seed);
        let mut trace = Vec::new();
        for n in 0..100 {
            let entries = [0, 1, 2].map(|m| PutEntry::new(PartitionKey::new("k").unwrap(), format!("{n}/{m}")));
            trace.push(format!("{:?}", client.put_batch(entries.into()).await));
        }
        let mut reader = open(&client, Position::TrimHorizon).await;
        for _ in 0..100 {
            let fetched = reader.next_batch(2).await;
            trace.push(format!("{fetched:?}"));
            if matches!(fetched, Err(Error::IteratorExpired { .. })) {
                let position = reader.position();
                reader = open(&client, position).await;
            }
        }
        (trace, client.strikes())
    }

    #[tokio::test(start_paused = true)]
    async fn every_fault_strikes_and_the_same_seed_strikes_the_same() {
        let (first, strikes) = trace(Faults::all(), 3).await;
        assert!(strikes.throttled_entries() > 10);
        assert!(strikes.failed_before() > 5);
        assert!(strikes.failed_after() > 5);
        assert!(strikes.expired_iterators() > 2);
        assert!(strikes.reordered() > 10);
        assert_eq!(first, trace(Faults::all(), 3).await.0);
        assert_ne!(first, trace(Faults::all(), 4).await.0);
    }

    #[tokio::test(start_paused = true)]
    async fn without_faults_nothing_strikes() {
        let (trace, strikes) = trace(Faults::default(), 1).await;
        assert!(trace.iter().all(|line| line.starts_with("Ok(")), "{trace:?}");
        assert_eq!(strikes.throttled_entries() + strikes.failed_before() + strikes.failed_after(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_leaves_the_records_in_the_stream() {
        let stream = Memory::new().stream("clicks", 1).unwrap();
        let client = Faulty::new(stream.clone(), Faults::default().with_fail_after(1.0), 1);
        let entry = PutEntry::new(PartitionKey::new("k").unwrap(), "x");
        let error = client.put_batch([entry].into()).await.unwrap_err();
        assert!(error.may_have_written());
        let mut reader = stream.open_shard(&ShardId::numbered(0), Position::TrimHorizon).await.unwrap();
        assert_eq!(reader.next_batch(9).await.unwrap().unwrap().records.len(), 1);
    }
}
