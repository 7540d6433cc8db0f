//! A wrapper that injects faults into any backend.
//!
//! Random faults follow from the seed and the order of the calls, so that a test replays.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use crate::backend::{Batch, Limits, ShardReader, StreamClient};
use crate::error::{Error, Result};
use crate::model::position::Position;
use crate::model::shard::{ChildShard, Shard, ShardId};
use crate::model::timestamp::Timestamp;
use crate::record::{Entries, PutReceipt};

use super::fault::{Call, Fault, Faults, InjectedFaults};
use super::list_fault::{FaultyLists, ListFault};

/// A stream whose calls fail at random by [`Faults`], or exactly by a [`Fault`], and whose shard list may be old by a
/// [`ListFault`].
///
/// ```
/// use triton_core::memory::Memory;
/// use triton_core::testing::{Call, Fault, FaultyClient, Faults};
/// use triton_core::{Error, PartitionKey, Producer, ProducerOptions, PutEntry, StreamClient};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> triton_core::Result<()> {
/// let client = FaultyClient::new(Memory::new().stream("clicks", 1)?, Faults::default().with_throttle_entry(0.5), 1);
/// // And the first call does not even arrive.
/// let unreachable = Error::Unavailable { problem: "no route".into(), may_have_written: false, source: None };
/// client.inject(Fault::new(Call::PutBatch, unreachable));
/// let injected = client.injected();
///
/// let producer = Producer::new(std::sync::Arc::new(client), ProducerOptions::default().with_seed(1));
/// let entries = vec![PutEntry::new(PartitionKey::new("user-1")?, "hi"); 100];
/// // The producer retries what was refused.
/// assert!(producer.put_all(entries).await.iter().all(Result::is_ok));
/// assert_eq!(injected.exact(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FaultyClient<C> {
    inner: Arc<C>,
    injector: Arc<Injector>,
}

#[derive(Debug)]
struct Injector {
    faults: Faults,
    random: Mutex<StdRng>,
    exact: Mutex<Vec<Fault>>,
    lists: Mutex<FaultyLists>,
    injected: Arc<InjectedFaults>,
}

impl<C: StreamClient + 'static> FaultyClient<C> {
    /// Wraps a stream; `seed` decides which calls the random faults strike.
    pub fn new(inner: C, faults: Faults, seed: u64) -> Self {
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        let (exact, lists) = (Mutex::default(), Mutex::default());
        let injector = Injector { faults, random, exact, lists, injected: Arc::default() };
        Self { inner: Arc::new(inner), injector: Arc::new(injector) }
    }

    /// Adds an exact fault, behind those that were added before.
    pub fn inject(&self, fault: Fault) {
        self.injector.exact().push(fault);
    }

    /// Adds a fault of the shard list, behind those that were added before. From then on, every call looks at the list first, to
    /// remember it.
    ///
    /// # Errors
    /// The inner client's, if it cannot list the shards.
    pub async fn inject_list(&self, fault: ListFault) -> Result<()> {
        self.injector.lists().inject(fault);
        self.injector.look(&*self.inner).await
    }

    /// The counts of injected faults.
    pub fn injected(&self) -> Arc<InjectedFaults> {
        Arc::clone(&self.injector.injected)
    }

    /// Applies a call between the faults before and after it.
    async fn call<T>(
        &self,
        call: Call,
        shard: Option<&ShardId>,
        apply: impl AsyncFnOnce(&C) -> Result<T>,
    ) -> Result<T> {
        let exact = self.injector.before(call, shard.as_slice()).await?;
        let reply = apply(&self.inner).await?;
        match exact {
            Some(fault) => Err(fault.error()),
            None => Ok(reply),
        }
    }
}

impl Injector {
    fn exact(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.exact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lists(&self) -> MutexGuard<'_, FaultyLists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the shard list, if it has faults.
    async fn look(&self, client: &dyn StreamClient) -> Result<()> {
        if self.lists().is_active() {
            let shards = client.shards().await?;
            self.lists().saw(&shards, Instant::now());
        }
        Ok(())
    }

    /// What a call returns while the stream has these shards.
    fn list(&self, shards: Vec<Shard>) -> Vec<Shard> {
        let mut lists = self.lists();
        if !lists.is_active() {
            return shards;
        }
        let now = Instant::now();
        lists.saw(&shards, now);
        let answer = lists.answer(shards.clone(), now);
        if answer != shards {
            self.injected.lists.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// The exact fault of this call, if there is one.
    fn exact_fault(&self, call: Call, shards: &[&ShardId]) -> Option<Fault> {
        let fault = self.exact().iter_mut().find_map(|fault| fault.strikes(call, shards).then(|| fault.clone()))?;
        self.injected.exact.fetch_add(1, Ordering::Relaxed);
        Some(fault)
    }

    fn strikes(&self, probability: f64, counter: &AtomicU64) -> bool {
        let strikes = self.with_random(|random| random.random_bool(probability.clamp(0.0, 1.0)));
        if strikes {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        strikes
    }

    fn with_random<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn delay(&self) {
        if !self.faults.delay.is_zero() {
            tokio::time::sleep(self.faults.delay.mul_f64(self.with_random(|random| random.random()))).await;
        }
    }

    /// Delays a call and fails it before it is applied, or returns the exact fault that fails it afterwards.
    async fn before(&self, call: Call, shards: &[&ShardId]) -> Result<Option<Fault>> {
        self.delay().await;
        // First, so that it does not use up an exact one.
        if self.strikes(self.faults.fail_before, &self.injected.failed_before) {
            return Err(failure("the connection was refused", false));
        }
        let exact = self.exact_fault(call, shards);
        if let Some(fault) = exact.as_ref().filter(|fault| !fault.is_applied() && !is_per_entry(call, fault)) {
            return Err(fault.error());
        }
        Ok(exact)
    }

    fn loses_reply(&self) -> bool {
        self.strikes(self.faults.fail_after, &self.injected.failed_after)
    }
}

/// Whether the fault fails entries of a put, and not the whole call.
fn is_per_entry(call: Call, fault: &Fault) -> bool {
    call == Call::PutBatch && fault.shard().is_some()
}

fn failure(problem: &str, may_have_written: bool) -> Error {
    Error::Unavailable { problem: problem.into(), may_have_written, source: None }
}

#[async_trait]
impl<C: StreamClient + 'static> StreamClient for FaultyClient<C> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn created_at(&self) -> Result<Timestamp> {
        self.call(Call::CreatedAt, None, async |inner| inner.created_at().await).await
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        let shards = self.call(Call::Shards, None, async |inner| inner.shards().await).await?;
        Ok(self.injector.list(shards))
    }

    async fn put_batch(&self, entries: Entries) -> Result<Vec<Result<PutReceipt>>> {
        self.inner.limits().await?.check(&entries)?;
        self.injector.look(&*self.inner).await?;
        let listed = if self.injector.exact().iter().any(|fault| fault.shard().is_some()) {
            self.inner.shards().await?
        } else {
            Vec::new()
        };
        let is_put_to = |shard: &&Shard| entries.iter().any(|entry| shard.hash_key_range.contains(entry.hash_key()));
        let shards: Vec<&ShardId> =
            listed.iter().filter(|shard| shard.is_open()).filter(is_put_to).map(|shard| &shard.id).collect();
        let exact = self.injector.before(Call::PutBatch, &shards).await?;
        let mut results: Vec<Option<Result<PutReceipt>>> = vec![None; entries.len()];
        if let Some(fault) = &exact
            && let Some(shard) = fault.shard()
        {
            let range = listed.iter().find(|listed| listed.id == *shard).map(|listed| listed.hash_key_range);
            for (entry, result) in entries.iter().zip(&mut results) {
                if range.is_some_and(|range| range.contains(entry.hash_key())) {
                    *result = Some(Err(fault.error()));
                }
            }
        }
        let is_planned: Vec<bool> = results.iter().map(Option::is_some).collect();
        let (faults, injected) = (&self.injector.faults, &self.injector.injected);
        for result in results.iter_mut().filter(|result| result.is_none()) {
            if self.injector.strikes(faults.throttle_entry, &injected.throttled_entries) {
                *result = Some(Err(Error::Throttled { problem: "the shard's write quota".into() }));
            }
        }
        let is_applied = |index: &usize| match &results[*index] {
            None => true,
            // Written, and reported as failed.
            Some(_) => is_planned[*index] && exact.as_ref().is_some_and(Fault::is_applied),
        };
        let mut applied: Vec<usize> = (0..entries.len()).filter(is_applied).collect();
        if applied.len() > 1 && self.injector.strikes(faults.reorder, &injected.reordered) {
            self.injector.with_random(|random| applied.shuffle(random));
        }
        let batch: Entries = applied.iter().map(|&index| entries[index].clone()).collect();
        let replies = if batch.is_empty() { Vec::new() } else { self.inner.put_batch(batch).await? };
        if let Some(fault) = exact.filter(|fault| fault.shard().is_none()) {
            return Err(fault.error());
        }
        if self.injector.loses_reply() {
            return Err(failure("the reply was lost", true));
        }
        for (index, reply) in applied.into_iter().zip(replies) {
            results[index].get_or_insert(reply);
        }
        let missing = || Err(Error::Contract { backend: self.name().into(), problem: "too few results".into() });
        Ok(results.into_iter().map(|result| result.unwrap_or_else(missing)).collect())
    }

    async fn open_shard(&self, shard: &ShardId, position: Position) -> Result<Box<dyn ShardReader>> {
        self.injector.look(&*self.inner).await?;
        let open = async |inner: &C| inner.open_shard(shard, position).await;
        let reader = self.call(Call::OpenShard, Some(shard), open).await?;
        if self.injector.loses_reply() {
            return Err(failure("the reply was lost", false));
        }
        Ok(Box::new(FaultyShardReader {
            client: Arc::clone(&self.inner),
            injector: Arc::clone(&self.injector),
            shard: shard.clone(),
            reader,
            is_expired: false,
        }))
    }

    async fn limits(&self) -> Result<Limits> {
        let limits = self.call(Call::Limits, None, async |inner| inner.limits().await).await?;
        let faults = &self.injector.faults;
        Ok(limits.with_ordered_batches(limits.ordered_batches && faults.throttle_entry == 0.0 && faults.reorder == 0.0))
    }
}

#[derive(Debug)]
struct FaultyShardReader<C> {
    client: Arc<C>,
    injector: Arc<Injector>,
    shard: ShardId,
    reader: Box<dyn ShardReader>,
    is_expired: bool,
}

#[async_trait]
impl<C: StreamClient + 'static> ShardReader for FaultyShardReader<C> {
    async fn next_batch(&mut self, max_records: usize) -> Result<Option<Batch>> {
        self.injector.look(&*self.client).await?;
        let (faults, injected) = (&self.injector.faults, &self.injector.injected);
        self.is_expired |= self.injector.strikes(faults.expire_iterator, &injected.expired_iterators);
        if self.is_expired {
            return Err(Error::IteratorExpired { shard: self.shard.clone() });
        }
        let lost = match self.injector.before(Call::NextBatch, &[&self.shard]).await? {
            Some(fault) => Some(fault.error()),
            None => self.injector.loses_reply().then(|| failure("the reply was lost", false)),
        };
        if let Some(error) = lost {
            // A lost reply does not move the iterator: the records come again.
            let position = self.reader.position();
            let mut unheard = self.client.open_shard(&self.shard, position).await?;
            unheard.next_batch(max_records).await?;
            return Err(error);
        }
        self.reader.next_batch(max_records).await
    }

    fn position(&self) -> Position {
        self.reader.position()
    }

    fn children(&self) -> Vec<ChildShard> {
        self.reader.children()
    }

    async fn is_drained(&mut self) -> Result<bool> {
        self.reader.is_drained().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::StreamAdmin as _;
    use crate::memory::Memory;
    use crate::model::hash_key::HashKey;
    use crate::record::{PartitionKey, PutEntry};

    async fn open(client: &impl StreamClient, position: Position) -> Box<dyn ShardReader> {
        loop {
            if let Ok(reader) = client.open_shard(&ShardId::numbered(0), position).await {
                return reader;
            }
        }
    }

    /// What a client does through many calls, as text.
    async fn trace(faults: Faults, seed: u64) -> (Vec<String>, Arc<InjectedFaults>) {
        let client = FaultyClient::new(Memory::new().stream("clicks", 1).unwrap(), faults, seed);
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
        (trace, client.injected())
    }

    #[tokio::test(start_paused = true)]
    async fn every_fault_is_injected_and_the_same_seed_injects_the_same() {
        let (first, injected) = trace(Faults::all(), 3).await;
        assert!(injected.throttled_entries() > 10);
        assert!(injected.failed_before() > 5);
        assert!(injected.failed_after() > 5);
        assert!(injected.expired_iterators() > 2);
        assert!(injected.reordered() > 10);
        assert_eq!(first, trace(Faults::all(), 3).await.0);
        assert_ne!(first, trace(Faults::all(), 4).await.0);
    }

    #[tokio::test(start_paused = true)]
    async fn without_faults_every_call_succeeds() {
        let (trace, injected) = trace(Faults::default(), 1).await;
        assert!(trace.iter().all(|line| line.starts_with("Ok(")), "{trace:?}");
        assert_eq!(injected.throttled_entries() + injected.failed_before() + injected.failed_after(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_reply_leaves_the_records_in_the_stream() {
        let stream = Memory::new().stream("clicks", 1).unwrap();
        let client = FaultyClient::new(stream.clone(), Faults::default().with_fail_after(1.0), 1);
        let entry = PutEntry::new(PartitionKey::new("k").unwrap(), "x");
        let error = client.put_batch([entry].into()).await.unwrap_err();
        assert!(error.may_have_written());
        let mut reader = stream.open_shard(&ShardId::numbered(0), Position::TrimHorizon).await.unwrap();
        assert_eq!(reader.next_batch(9).await.unwrap().unwrap().records.len(), 1);
    }

    fn refused() -> Error {
        Error::Throttled { problem: "planned".into() }
    }

    #[tokio::test]
    async fn an_exact_fault_fails_the_planned_calls_and_no_others() {
        let client = FaultyClient::new(Memory::new().stream("clicks", 1).unwrap(), Faults::default(), 1);
        client.inject(Fault::new(Call::Shards, refused()).skip(1).times(2));
        let mut outcomes = Vec::new();
        for _ in 0..5 {
            outcomes.push(client.shards().await.is_ok());
        }
        assert_eq!(outcomes, [true, false, false, true, true]);
        assert_eq!(client.injected().exact(), 2);
        assert!(client.limits().await.is_ok());
    }

    #[tokio::test]
    async fn an_exact_fault_of_a_shard_fails_the_entries_of_that_shard_alone() {
        let stream = Memory::new().stream("clicks", 2).unwrap();
        let client = FaultyClient::new(stream.clone(), Faults::default(), 1);
        client.inject(Fault::new(Call::PutBatch, refused()).of_shard(ShardId::numbered(1)));
        let entries: Entries = (0..20).map(|n| PutEntry::new(PartitionKey::new(n.to_string()).unwrap(), "x")).collect();
        let shards = stream.shards().await.unwrap();
        let results = client.put_batch(entries.clone()).await.unwrap();
        for (entry, result) in entries.iter().zip(results) {
            assert_eq!(result.is_err(), shards[1].hash_key_range.contains(entry.hash_key()));
        }
        assert!(client.put_batch(entries).await.unwrap().iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn an_exact_fault_of_a_shards_fetch_leaves_other_shards_alone() {
        let client = FaultyClient::new(Memory::new().stream("clicks", 2).unwrap(), Faults::default(), 1);
        client.inject(Fault::new(Call::NextBatch, refused()).of_shard(ShardId::numbered(1)));
        let mut first = client.open_shard(&ShardId::numbered(0), Position::TrimHorizon).await.unwrap();
        let mut second = client.open_shard(&ShardId::numbered(1), Position::TrimHorizon).await.unwrap();
        assert!(first.next_batch(1).await.is_ok());
        assert!(second.next_batch(1).await.is_err());
        assert!(second.next_batch(1).await.is_ok());
    }

    #[tokio::test]
    async fn an_exact_fault_after_applying_leaves_the_records_in_the_stream() {
        let stream = Memory::new().stream("clicks", 1).unwrap();
        let client = FaultyClient::new(stream.clone(), Faults::default(), 1);
        let lost = Error::Unavailable { problem: "planned".into(), may_have_written: true, source: None };
        client.inject(Fault::new(Call::PutBatch, lost).after_applying());
        let entry = PutEntry::new(PartitionKey::new("k").unwrap(), "x");
        assert!(client.put_batch([entry].into()).await.unwrap_err().may_have_written());
        let mut reader = stream.open_shard(&ShardId::numbered(0), Position::TrimHorizon).await.unwrap();
        assert_eq!(reader.next_batch(9).await.unwrap().unwrap().records.len(), 1);
    }

    #[tokio::test]
    async fn a_fault_of_a_shard_waits_for_a_put_to_that_shard() {
        let stream = Memory::new().stream("clicks", 2).unwrap();
        let client = FaultyClient::new(stream.clone(), Faults::default(), 1);
        let shards = stream.shards().await.unwrap();
        client.inject(Fault::new(Call::PutBatch, refused()).of_shard(shards[1].id.clone()));
        let to = |shard: &Shard| {
            PutEntry::new(PartitionKey::new("k").unwrap(), "x").with_explicit_hash_key(shard.hash_key_range.first)
        };
        assert!(client.put_batch([to(&shards[0])].into()).await.unwrap()[0].is_ok());
        assert_eq!(client.injected().exact(), 0, "no call failed");
        assert!(client.put_batch([to(&shards[1])].into()).await.unwrap()[0].is_err());
        assert!(client.put_batch([to(&shards[1])].into()).await.unwrap()[0].is_ok());
    }

    #[tokio::test]
    async fn an_entry_throttled_at_random_is_not_written() {
        let stream = Memory::new().stream("clicks", 2).unwrap();
        let client = FaultyClient::new(stream.clone(), Faults::default().with_throttle_entry(1.0), 1);
        let shards = stream.shards().await.unwrap();
        client
            .inject(Fault::new(Call::PutBatch, failure("lost", true)).of_shard(shards[1].id.clone()).after_applying());
        let to = |shard: &Shard| {
            PutEntry::new(PartitionKey::new("k").unwrap(), "x").with_explicit_hash_key(shard.hash_key_range.first)
        };
        let results = client.put_batch([to(&shards[0]), to(&shards[1])].into()).await.unwrap();
        assert!(!results[0].as_ref().unwrap_err().may_have_written());
        let mut reader = stream.open_shard(&shards[0].id, Position::TrimHorizon).await.unwrap();
        assert_eq!(reader.next_batch(9).await.unwrap().unwrap().records.len(), 0, "it was refused");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_old_flaps_or_misses_shards_as_planned() {
        let memory = Memory::new();
        let client = FaultyClient::new(memory.stream("clicks", 1).unwrap(), Faults::default(), 1);
        let open = async || {
            let shards = client.shards().await.unwrap();
            shards.iter().filter(|shard| shard.is_open()).filter_map(|shard| shard.id.number()).collect::<Vec<_>>()
        };
        client.inject_list(ListFault::old(Duration::from_secs(3)).times(3)).await.unwrap();
        client.inject_list(ListFault::old(Duration::MAX).every(2).times(1)).await.unwrap();
        client.inject_list(ListFault::partial([ShardId::numbered(2)]).skip(1).times(1)).await.unwrap();
        memory.split("clicks", &ShardId::numbered(0), HashKey(1 << 127)).await.unwrap();
        assert_eq!(open().await, [0]);
        tokio::time::sleep(Duration::from_millis(2_999)).await;
        assert_eq!(open().await, [0]);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(open().await, [1, 2], "three seconds ago");
        assert_eq!(client.injected().lists(), 2);
        assert_eq!(open().await, [1, 2], "the first of two");
        assert_eq!(open().await, [0], "the second is the first list ever");
        assert_eq!(open().await, [1], "a shard is missing");
        assert_eq!(open().await, [1, 2]);
        assert_eq!(client.injected().lists(), 4);
    }

    #[tokio::test]
    async fn a_random_failure_does_not_use_an_exact_fault_up() {
        let client =
            FaultyClient::new(Memory::new().stream("clicks", 1).unwrap(), Faults::default().with_fail_before(0.5), 1);
        client.inject(Fault::new(Call::Shards, refused()).after_applying().times(20));
        let mut exact = 0;
        for _ in 0..200 {
            exact += u64::from(matches!(client.shards().await, Err(Error::Throttled { .. })));
        }
        assert_eq!(exact, 20);
        assert_eq!(client.injected().exact(), exact);
    }
}
