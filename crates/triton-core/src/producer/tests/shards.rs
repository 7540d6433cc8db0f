//! What a producer makes of several shards: lanes that do not wait for each other, and aggregates.

use super::*;
use crate::Timestamp;
use crate::backend::Quota;
use crate::backend::StreamAdmin as _;
use crate::consumer::reader::Reader;
use crate::consumer::{ReaderOptions, Start};
use crate::memory::{Memory, MemoryStream};
use crate::model::hash_key::HashKey;
use crate::record::Entries;
use crate::record::Record;
use crate::record::aggregate::unpack;

/// A stream in memory with Kinesis' limits, of which a shard may refuse everything.
#[derive(Debug)]
pub(super) struct Sharded {
    pub(super) stream: MemoryStream,
    limits: Limits,
    refusing: Option<ShardId>,
    /// The error of listing the shards, if it is refused.
    unlisted: Mutex<Option<Error>>,
    /// Number of entries of each put.
    pub(super) calls: Mutex<Vec<usize>>,
    /// Number of listings.
    pub(super) listings: Mutex<usize>,
}

impl Sharded {
    pub(super) fn new(memory: &Memory, shards: usize) -> Self {
        Self {
            stream: memory.stream("clicks", shards).unwrap(),
            limits: Limits::KINESIS,
            refusing: None,
            unlisted: Mutex::default(),
            calls: Mutex::default(),
            listings: Mutex::default(),
        }
    }
}

#[async_trait::async_trait]
impl StreamClient for Sharded {
    fn name(&self) -> &str {
        "clicks"
    }

    async fn created_at(&self) -> Result<Timestamp> {
        Ok(Timestamp::default())
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        *self.listings.lock().unwrap() += 1;
        let unlisted = self.unlisted.lock().unwrap().clone();
        match unlisted {
            Some(error) => Err(error),
            None => self.stream.shards().await,
        }
    }

    async fn put_batch(&self, entries: Entries) -> Result<Vec<Result<PutReceipt>>> {
        self.calls.lock().unwrap().push(entries.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
        let shards = self.stream.shards().await?;
        let mut outcomes = Vec::new();
        for entry in &entries {
            let holds = |shard: &&Shard| shard.is_open() && shard.hash_key_range.contains(entry.hash_key());
            let is_refused = shards.iter().find(holds).is_some_and(|shard| Some(&shard.id) == self.refusing.as_ref());
            outcomes.push(if is_refused {
                Err(throttled())
            } else {
                self.stream.put_batch([entry.clone()].into()).await?.remove(0)
            });
        }
        Ok(outcomes)
    }

    async fn open_shard(&self, shard: &ShardId, position: Position) -> Result<Box<dyn ShardReader>> {
        self.stream.open_shard(shard, position).await
    }

    async fn limits(&self) -> Result<Limits> {
        Ok(self.limits)
    }
}

fn numbered(count: usize, keys: usize) -> Vec<PutEntry> {
    (0..count).map(|n| entry(&format!("key-{}/{n:05}", n % keys))).collect()
}

async fn all(client: &Arc<Sharded>) -> Vec<Record> {
    let options = ReaderOptions::default().with_until_caught_up(true).with_seed(1);
    let mut reader = Reader::start(Arc::clone(client) as Arc<dyn StreamClient>, Start::All, options).await.unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next().await {
        records.push(record.unwrap());
    }
    records
}

/// Every record that a reader gets which drops a whole aggregate if one of its records belongs to another shard, as those of the
/// Kinesis Client Library do; children after their parents.
pub(super) async fn filtered(stream: &MemoryStream) -> Vec<Record> {
    let mut filtered = Vec::new();
    for shard in stream.shards().await.unwrap() {
        let mut reader = stream.open_shard(&shard.id, Position::TrimHorizon).await.unwrap();
        let belongs = |records: &Vec<Record>| {
            records.iter().all(|record| shard.hash_key_range.contains(record.partition_key.hash_key()))
        };
        while let Some(page) = reader.next_batch(10_000).await.unwrap()
            && !page.records.is_empty()
        {
            let inner = page.records.iter().map(|record| unpack(record).unwrap_or_else(|| vec![record.clone()]));
            filtered.extend(inner.filter(belongs).flatten());
        }
    }
    filtered
}

fn producer(client: &Arc<Sharded>, options: ProducerOptions) -> Producer {
    Producer::new(Arc::clone(client) as Arc<dyn StreamClient>, options.with_seed(1))
}

/// Each key's records, once each and in the order of their puts.
fn assert_in_order(records: &[Record], count: usize) {
    let mut seen = std::collections::BTreeMap::new();
    for record in records {
        let text = std::str::from_utf8(&record.data).unwrap().to_owned();
        let before = seen.insert(record.partition_key.to_string(), text.clone());
        assert!(before < Some(text.clone()), "{before:?} before {text}");
    }
    assert_eq!(records.len(), count);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_refuses_everything_delays_no_other_shard() {
    let memory = Memory::new();
    let client = Arc::new(Sharded { refusing: Some(ShardId::numbered(2)), ..Sharded::new(&memory, 4) });
    let producer = producer(&client, ProducerOptions::default());
    let started = Instant::now();
    let (mut stuck, mut through) = (Vec::new(), Vec::new());
    let shards = client.stream.shards().await.unwrap();
    for entry in numbered(400, 100) {
        let is_stuck = shards[2].hash_key_range.contains(entry.hash_key());
        let ticket = producer.submit(entry).await.unwrap();
        if is_stuck { stuck.push(ticket) } else { through.push(ticket) }
    }
    assert!(!stuck.is_empty());
    for ticket in through {
        ticket.await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    for ticket in stuck {
        assert!(matches!(ticket.await, Err(Error::Throttled { .. })));
    }
    assert!((110..=121).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn aggregates_hold_records_of_one_shard_and_are_read_one_by_one() {
    let memory = Memory::new();
    let client = Arc::new(Sharded::new(&memory, 3));
    let producer = producer(&client, ProducerOptions::default().with_aggregation(true));
    let outcomes = producer.put_all(numbered(3_000, 50)).await;
    let records = all(&client).await;
    assert_in_order(&records, 3_000);
    for (entry, outcome) in numbered(3_000, 50).iter().zip(outcomes) {
        let id = outcome.unwrap().id();
        let record = records.iter().find(|record| record.id() == id).expect("a record where it was acknowledged");
        assert_eq!(record.data, entry.data, "{id}");
    }
    assert!(records.iter().any(|record| record.sub_sequence_number.is_some_and(|sub| sub > 100)));
    let wires: usize = client.calls.lock().unwrap().iter().sum();
    assert!(wires < 30, "{wires} wire records");
    for shard in client.stream.shards().await.unwrap() {
        let of_shard = |record: &&Record| record.shard_id == shard.id;
        assert!(records.iter().filter(of_shard).all(|it| shard.hash_key_range.contains(it.partition_key.hash_key())));
    }
}

#[tokio::test(start_paused = true)]
async fn an_aggregate_that_a_split_has_overtaken_is_put_again_where_it_belongs() {
    let memory = Memory::new();
    let client = Arc::new(Sharded::new(&memory, 1));
    let producer = producer(&client, ProducerOptions::default().with_aggregation(true));
    assert!(producer.put_all(numbered(100, 10)).await.iter().all(Result::is_ok));
    memory.split("clicks", &ShardId::numbered(0), HashKey(1 << 127)).await.unwrap();
    let outcomes = producer.put_all(numbered(200, 10).split_off(100)).await;
    let records = filtered(&client.stream).await;
    assert_in_order(&records, 200);
    for (entry, outcome) in numbered(200, 10).split_off(100).iter().zip(outcomes) {
        let id = outcome.unwrap().id();
        let record = records.iter().find(|record| record.id() == id).expect("a record where its readers look");
        assert_eq!(record.data, entry.data, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_distributes_its_records_takes_no_aggregates() {
    let memory = Memory::new();
    let limits = Limits::KINESIS.with_key_routed(false);
    let client = Arc::new(Sharded { limits, ..Sharded::new(&memory, 2) });
    let refusing = producer(&client, ProducerOptions::default().with_aggregation(true));
    let error = refusing.put_all(numbered(1, 1)).await.remove(0).unwrap_err();
    assert!(error.to_string().starts_with("stream 'clicks' distributes its records itself (AUTO)"), "{error}");
    let plain = producer(&client, ProducerOptions::default());
    assert!(plain.put_all(numbered(10, 3)).await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn who_may_not_list_the_shards_puts_without_knowing_them() {
    let memory = Memory::new();
    let unlisted = Mutex::new(Some(Error::AccessDenied { problem: "ListShards".into() }));
    let client = Arc::new(Sharded { unlisted, ..Sharded::new(&memory, 2) });
    let producer = producer(&client, ProducerOptions::default().with_aggregation(true));
    assert!(producer.put_all(numbered(2_000, 700)).await.iter().all(Result::is_ok));
    assert!(client.calls.lock().unwrap().iter().sum::<usize>() >= 2_000, "no aggregates");
}

#[tokio::test(start_paused = true)]
async fn relaxed_records_of_one_key_share_calls() {
    let memory = Memory::new();
    for (ordering, least, most) in [(KeyOrder::Relaxed, 1, 4), (KeyOrder::PerKey, 100, 100)] {
        let client = Arc::new(Sharded::new(&memory, 1));
        let producer = producer(&client, ProducerOptions::default().with_ordering(ordering));
        assert!(producer.put_all(numbered(100, 1)).await.iter().all(Result::is_ok));
        let calls = client.calls.lock().unwrap().len();
        assert!((least..=most).contains(&calls), "{ordering:?}: {calls} calls");
        memory.delete("clicks").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_shards_quota_is_kept_to() {
    let memory = Memory::new();
    let client = Arc::new(Sharded::new(&memory, 2));
    let producer = producer(&client, ProducerOptions::default());
    let started = Instant::now();
    assert!(producer.put_all(numbered(10_200, 9_000)).await.iter().all(Result::is_ok));
    // 2,000 records a second, and 100 that each shard has saved up.
    assert!((5_000..5_400).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_record_lingers_no_longer_for_what_another_shard_refuses() {
    let memory = Memory::new();
    let client = Arc::new(Sharded { refusing: Some(ShardId::numbered(2)), ..Sharded::new(&memory, 4) });
    let shards = client.stream.shards().await.unwrap();
    let (stuck, free): (Vec<_>, Vec<_>) =
        numbered(100, 100).into_iter().partition(|entry| shards[2].hash_key_range.contains(entry.hash_key()));
    let producer = producer(&client, ProducerOptions::default());
    drop(producer.submit(stuck[0].clone()).await.unwrap());
    for entry in free {
        // At whatever point of the other one's wait.
        tokio::time::sleep(Duration::from_millis(713)).await;
        let started = Instant::now();
        producer.submit(entry).await.unwrap().await.unwrap();
        assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_with_many_records_fills_not_every_call() {
    let memory = Memory::new();
    let limits = Limits::KINESIS.with_max_entries(10).with_write_quota(Some(Quota::new(1 << 30, 1 << 30)));
    let client = Arc::new(Sharded { limits, ..Sharded::new(&memory, 2) });
    let shards = client.stream.shards().await.unwrap();
    let (hot, cold): (Vec<_>, Vec<_>) =
        numbered(20_000, 20_000).into_iter().partition(|entry| shards[0].hash_key_range.contains(entry.hash_key()));
    let producer = Arc::new(producer(&client, ProducerOptions::default()));
    let putting = tokio::spawn({
        let producer = Arc::clone(&producer);
        async move { producer.put_all(hot).await }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    let started = Instant::now();
    producer.put_all(cold.into_iter().take(10)).await;
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    assert!(!putting.is_finished());
    putting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn shards_that_cannot_be_listed_do_not_block_forever() {
    let memory = Memory::new();
    let client = Arc::new(Sharded::new(&memory, 1));
    let producer = producer(&client, ProducerOptions::default().with_aggregation(true));
    assert!(producer.put_all(numbered(10, 10)).await.iter().all(Result::is_ok));
    *client.unlisted.lock().unwrap() = Some(throttled());
    memory.split("clicks", &ShardId::numbered(0), HashKey(1 << 127)).await.unwrap();
    let put = tokio::time::timeout(Duration::from_secs(300), producer.put_all(numbered(100, 10)));
    let outcomes = put.await.expect("an outcome in time");
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(Error::may_have_written)), "{outcomes:?}");
    assert!(producer.put_all(numbered(100, 10)).await.iter().all(Result::is_ok), "without aggregates");
}

#[tokio::test(start_paused = true)]
async fn records_of_a_throttled_shard_end_no_other_shards_linger() {
    let memory = Memory::new();
    let client = Arc::new(Sharded { refusing: Some(ShardId::numbered(2)), ..Sharded::new(&memory, 4) });
    let shards = client.stream.shards().await.unwrap();
    let (stuck, free): (Vec<_>, Vec<_>) =
        numbered(8000, 8000).into_iter().partition(|entry| shards[2].hash_key_range.contains(entry.hash_key()));
    let producer = producer(&client, ProducerOptions::default());
    for entry in stuck {
        drop(producer.submit(entry).await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = client.calls.lock().unwrap().len();
    for entry in free.into_iter().take(200) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(producer.submit(entry).await.unwrap());
    }
    let calls = client.calls.lock().unwrap().len() - before;
    assert!((15..40).contains(&calls), "{calls} calls in a second");
}
