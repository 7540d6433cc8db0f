//! Tests of the reader with scripted shards, on a paused clock.

mod budget;
mod delivery;
mod hash_keys;
mod lists;
mod metric;
mod pacing;
mod silence;
mod source;
mod stop;
mod typed;
mod warning;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::Budget;
use crate::backend::{Batch, Limits, ShardReader};
use crate::error::Error;
use crate::model::hash_key::HashKeyRange;
use crate::model::position::Position;
use crate::model::shard::{ChildShard, Shard};
use crate::model::shard_map::ShardMap;
use crate::record::Entries;
use crate::record::{PartitionKey, PutEntry, PutReceipt};

/// Outcome of one fetch.
#[derive(Clone, Debug)]
enum Fetch {
    Records(std::ops::Range<u64>),
    /// Records of this many bytes each.
    Large(std::ops::Range<u64>, usize),
    /// No records, and this many milliseconds behind the newest record.
    Empty(u64),
    Fails(Error),
    Hangs,
    End,
}

/// A stream whose shards follow a script of fetches, and are caught up after it.
#[derive(Debug, Default)]
struct Scripted {
    shards: Vec<Shard>,
    script: Mutex<BTreeMap<ShardId, Vec<Fetch>>>,
    opened: Arc<Mutex<Vec<(ShardId, Position)>>>,
    fetches: Arc<Mutex<Vec<Instant>>>,
}

#[derive(Debug)]
struct ScriptedShard {
    /// Whether its children are in the list, and nowhere else.
    lists_children: bool,
    shard: ShardId,
    script: std::vec::IntoIter<Fetch>,
    after: u64,
    fetches: Arc<Mutex<Vec<Instant>>>,
}

impl Scripted {
    fn new(scripts: Vec<Vec<Fetch>>) -> Arc<Self> {
        let shards = ShardMap::uniform("scripted", scripts.len(), 1).unwrap().shards().to_vec();
        let script = scripts.into_iter().enumerate().map(|(n, fetches)| (ShardId::numbered(n as u64), fetches));
        Arc::new(Self { shards, script: Mutex::new(script.collect()), ..Self::default() })
    }

    async fn read(self: &Arc<Self>, options: ReaderOptions) -> Reader {
        let client: Arc<dyn StreamClient> = Arc::<Self>::clone(self);
        Reader::start(client, Start::All, options.with_seed(1)).await.unwrap()
    }

    /// The same, within a budget.
    async fn read_within(self: &Arc<Self>, budget: &Budget, options: ReaderOptions) -> Reader {
        let client: Arc<dyn StreamClient> = Arc::<Self>::clone(self);
        let builder = Reader::builder(client).options(options.with_seed(1)).budget(budget.clone());
        builder.start(Start::All).await.unwrap()
    }
}

#[async_trait]
impl StreamClient for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    async fn created_at(&self) -> Result<Timestamp> {
        Ok(Timestamp::default())
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        Ok(self.shards.clone())
    }

    async fn put_batch(&self, _: Entries) -> Result<Vec<Result<PutReceipt>>> {
        Ok(Vec::new())
    }

    async fn open_shard(&self, shard: &ShardId, position: Position) -> Result<Box<dyn ShardReader>> {
        self.opened.lock().unwrap().push((shard.clone(), position));
        // A shard that is opened again after an expired iterator continues its script.
        let script = self.script.lock().unwrap().remove(shard).unwrap_or_default();
        let (mut until_expiry, mut after_expiry) = (Vec::new(), Vec::new());
        for fetch in script {
            let expired = matches!(until_expiry.last(), Some(Fetch::Fails(Error::IteratorExpired { .. })));
            if expired { after_expiry.push(fetch) } else { until_expiry.push(fetch) }
        }
        self.script.lock().unwrap().insert(shard.clone(), after_expiry);
        let after =
            if let Position::After { sequence_number: number, .. } = position { u64::try_from(number)? } else { 0 };
        let fetches = Arc::clone(&self.fetches);
        let script = until_expiry.into_iter();
        Ok(Box::new(ScriptedShard { lists_children: false, shard: shard.clone(), script, after, fetches }))
    }

    async fn limits(&self) -> Result<Limits> {
        Ok(Limits::KINESIS)
    }
}

impl ScriptedShard {
    fn page(&mut self, numbers: std::ops::Range<u64>, bytes: usize) -> Batch {
        self.after = numbers.end - 1;
        // The records share one payload, so that large pages cost little memory.
        let data = Bytes::from(vec![0; bytes]);
        let record = |n: u64| {
            let key = PartitionKey::stored("k");
            Record::new(self.shard.clone(), n.into(), key, Timestamp::default(), data.clone())
        };
        // The last page of the script has the newest records.
        let behind = Duration::from_millis(self.script.len().min(1) as u64);
        Batch::new(numbers.map(record).collect(), Some(behind))
    }
}

#[async_trait]
impl ShardReader for ScriptedShard {
    async fn next_batch(&mut self, _: usize) -> Result<Option<Batch>> {
        self.fetches.lock().unwrap().push(Instant::now());
        match self.script.next() {
            Some(Fetch::Records(numbers)) => Ok(Some(self.page(numbers, 0))),
            Some(Fetch::Large(numbers, bytes)) => Ok(Some(self.page(numbers, bytes))),
            Some(Fetch::Empty(behind)) => Ok(Some(Batch::new(Vec::new(), Some(Duration::from_millis(behind))))),
            Some(Fetch::Fails(error)) => Err(error),
            Some(Fetch::Hangs) => std::future::pending().await,
            Some(Fetch::End) => Ok(None),
            None => Ok(Some(Batch::caught_up())),
        }
    }

    fn position(&self) -> Position {
        Position::after(self.after)
    }

    /// A child that stays empty; none of shard 0 of a stream that lists its children.
    fn children(&self) -> Vec<ChildShard> {
        if self.lists_children {
            return Vec::new();
        }
        let number = 100 + self.shard.number().unwrap_or_default();
        let (id, parents) = (ShardId::numbered(number), vec![self.shard.clone()]);
        vec![ChildShard { id, parents, hash_key_range: HashKeyRange::ALL }]
    }
}

fn expired() -> Fetch {
    Fetch::Fails(Error::IteratorExpired { shard: ShardId::numbered(0) })
}

fn unreachable() -> Fetch {
    Fetch::Fails(Error::Unavailable { problem: "no answer".into(), may_have_written: false, source: None })
}

fn broken() -> Fetch {
    Fetch::Fails(Error::Invalid { problem: "broken".into() })
}

fn numbers(records: &[Result<Record>]) -> Vec<u64> {
    records.iter().flatten().map(|record| u64::try_from(record.sequence_number).unwrap()).collect()
}

async fn read_all(mut reader: Reader) -> Vec<Result<Record>> {
    let mut items = Vec::new();
    while let Some(item) = reader.next().await {
        items.push(item);
    }
    items
}

fn until_caught_up() -> ReaderOptions {
    ReaderOptions::default().with_until_caught_up(true)
}

#[tokio::test(start_paused = true)]
async fn an_expired_iterator_is_renewed_at_the_readers_position() {
    let client = Scripted::new(vec![vec![Fetch::Records(1..4), expired(), Fetch::Records(4..6)]]);
    let items = read_all(client.read(until_caught_up()).await).await;
    assert_eq!(numbers(&items), [1, 2, 3, 4, 5]);
    let opened = client.opened.lock().unwrap().clone();
    let shard = ShardId::numbered(0);
    assert_eq!(opened, [(shard.clone(), Position::TrimHorizon), (shard, Position::after(3))]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_behind_the_newest_record_continues_after_an_empty_page_without_a_pause() {
    let client =
        Scripted::new(vec![vec![Fetch::Empty(5000), Fetch::Records(1..3), Fetch::Empty(1), Fetch::Records(3..4)]]);
    let started = Instant::now();
    assert_eq!(numbers(&read_all(client.read(until_caught_up()).await).await), [1, 2, 3]);
    assert!(started.elapsed() < Limits::KINESIS.idle_poll, "only a reader that has caught up pauses");
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_a_shard_is_one_item_and_the_other_shards_are_still_read() {
    let client =
        Scripted::new(vec![vec![broken(), Fetch::Records(1..9)], vec![Fetch::Empty(9), Fetch::Records(11..13)]]);
    let items = read_all(client.read(until_caught_up()).await).await;
    assert_eq!(numbers(&items), [11, 12]);
    let errors: Vec<String> = items.iter().filter_map(|item| item.as_ref().err()).map(ToString::to_string).collect();
    let incomplete = "not read to the end: shardId-000000000000";
    assert_eq!(errors, ["shardId-000000000000 cannot be read", incomplete]);
}

#[tokio::test(start_paused = true)]
async fn a_retryable_failure_is_retried_and_not_reported() {
    let client = Scripted::new(vec![vec![
        unreachable(),
        unreachable(),
        Fetch::Records(1..3),
        unreachable(),
        Fetch::Records(3..4),
    ]]);
    let items = read_all(client.read(until_caught_up()).await).await;
    assert!(items.iter().all(Result::is_ok));
    assert_eq!(numbers(&items), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_retryable_failure_is_reported_at_the_deadline_and_reading_continues() {
    let mut script = vec![unreachable(); 60];
    script.push(Fetch::Records(1..3));
    let client = Scripted::new(vec![script]);
    let started = Instant::now();
    let mut reader = client.read(until_caught_up()).await;
    let error = reader.next().await.unwrap().unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert!((110..=121).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    let rest = read_all(reader).await;
    assert_eq!(numbers(&rest), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_has_caught_up_polls_at_the_interval() {
    let client = Scripted::new(vec![vec![Fetch::Records(1..2)]]);
    let mut reader = client.read(ReaderOptions::default()).await;
    reader.next().await.unwrap().unwrap();
    let idle = tokio::time::timeout(Duration::from_secs(60), reader.next()).await;
    assert!(idle.is_err(), "there are no more records");
    let fetches = client.fetches.lock().unwrap().len();
    assert!((60..=63).contains(&fetches), "{fetches} fetches in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_a_pending_fetch_and_a_pause() {
    for script in [
        vec![Fetch::Records(1..3), Fetch::Hangs],
        vec![Fetch::Records(1..3)],
        vec![Fetch::Records(1..3), unreachable()],
    ] {
        let client = Scripted::new(vec![script]);
        let mut reader = client.read(ReaderOptions::default()).await;
        reader.next().await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        reader.stop_handle().stop();
        let rest = tokio::time::timeout(Duration::from_millis(5), read_all(reader)).await.unwrap();
        assert_eq!(numbers(&rest), [2], "fetched records are delivered");
    }
}

#[tokio::test(start_paused = true)]
async fn queued_batches_are_delivered_after_a_stop() {
    let page = |first| Fetch::Large(first..first + 2, 1 << 20);
    let client = Scripted::new(vec![vec![page(1), page(3), page(5), page(7), page(9), Fetch::End]]);
    // Nothing is consumed. With the overhead of their records, three pages of 2 MiB fit into 8 MiB and four do not.
    let reader = client.read_within(&Budget::new(8 << 20), ReaderOptions::default()).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let fetched = client.fetches.lock().unwrap().len();
    assert_eq!(fetched, 3, "a slow consumer slows fetching");
    reader.stop_handle().stop();
    assert_eq!(numbers(&read_all(reader).await), [1, 2, 3, 4, 5, 6]);
    assert_eq!(client.fetches.lock().unwrap().len(), fetched, "nothing new was fetched");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_reader_stops_fetching() {
    let client = Scripted::new(vec![vec![]]);
    let reader = client.read(ReaderOptions::default()).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(reader);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let fetches = client.fetches.lock().unwrap().len();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(client.fetches.lock().unwrap().len(), fetches);
}

#[tokio::test(start_paused = true)]
async fn a_start_fails_if_a_shard_cannot_be_opened() {
    let mut client = crate::backend::MockStreamClient::new();
    client.expect_name().return_const("mock".to_owned());
    client.expect_limits().returning(|| Ok(Limits::KINESIS));
    client.expect_created_at().returning(|| Ok(Timestamp::default()));
    client.expect_shards().returning(|| Ok(ShardMap::uniform("mock", 2, 1).unwrap().shards().to_vec()));
    client.expect_open_shard().returning(|_, _| {
        Err(Error::Unavailable { problem: "no answer".into(), may_have_written: false, source: None })
    });
    // A reader from latest that opened its shards later would miss the records put in between.
    let started = Reader::start(Arc::new(client), Start::Latest, ReaderOptions::default().with_seed(1)).await;
    assert!(started.unwrap_err().is_retryable());
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_fails_until_the_deadline_is_reported_and_the_children_are_read_afterwards() {
    let mut map = ShardMap::uniform("mock", 1, 1).unwrap();
    let parent = ShardId::numbered(0);
    let middle = map.get(&parent).unwrap().hash_key_range.middle().unwrap();
    let before = map.shards().to_vec();
    map.split(&parent, middle, &mut 10).unwrap();
    let after = map.shards().to_vec();
    let mut client = crate::backend::MockStreamClient::new();
    client.expect_name().return_const("mock".to_owned());
    client.expect_limits().returning(|| Ok(Limits::KINESIS));
    client.expect_created_at().returning(|| Ok(Timestamp::default()));
    let started = Instant::now();
    let calls = std::sync::atomic::AtomicUsize::new(0);
    client.expect_shards().returning(move || {
        if calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
            return Ok(before.clone());
        }
        if started.elapsed() < Duration::from_secs(180) {
            return Err(Error::Throttled { problem: "listing".into() });
        }
        Ok(after.clone())
    });
    client.expect_open_shard().returning(|shard, _| {
        let script = if *shard == ShardId::numbered(0) { vec![Fetch::End] } else { vec![Fetch::Records(20..21)] };
        let (shard, script) = (shard.clone(), script.into_iter());
        Ok(Box::new(ScriptedShard { lists_children: true, shard, script, after: 0, fetches: Arc::default() }))
    });
    let reader = Reader::start(Arc::new(client), Start::All, until_caught_up().with_seed(1)).await.unwrap();
    let items = read_all(reader).await;
    assert_eq!(items.iter().filter(|item| item.is_err()).count(), 1, "{items:?}");
    assert_eq!(numbers(&items), [20, 20], "both children");
}

#[tokio::test(start_paused = true)]
async fn the_children_of_a_failed_parent_are_not_read() {
    let client = Scripted::new(vec![vec![broken()]]);
    let mut map = ShardMap::uniform("scripted", 1, 1).unwrap();
    let middle = map.get(&ShardId::numbered(0)).unwrap().hash_key_range.middle().unwrap();
    map.split(&ShardId::numbered(0), middle, &mut 10).unwrap();
    let client = Arc::new(Scripted { shards: map.shards().to_vec(), ..Arc::into_inner(client).unwrap() });
    let items = read_all(client.read(until_caught_up()).await).await;
    let errors: Vec<String> = items.iter().map(|item| item.as_ref().unwrap_err().to_string()).collect();
    let incomplete = "not read to the end: shardId-000000000000, shardId-000000000001, shardId-000000000002";
    assert_eq!(errors, ["shardId-000000000000 cannot be read", incomplete]);
    assert_eq!(client.opened.lock().unwrap().len(), 1, "only the parent");
}

#[tokio::test(start_paused = true)]
async fn a_fetch_requests_at_least_one_record() {
    let client = crate::memory::Memory::new().stream("clicks", 1).unwrap();
    client.put_batch([PutEntry::new(PartitionKey::new("k").unwrap(), "x")].into()).await.unwrap();
    let options = until_caught_up().with_max_records(0);
    let reader = Reader::start(Arc::new(client), Start::All, options).await.unwrap();
    assert_eq!(read_all(reader).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_panics_is_an_error_and_no_plain_end() {
    let mut map = ShardMap::uniform("mock", 2, 1).unwrap();
    let parent = ShardId::numbered(0);
    let middle = map.get(&parent).unwrap().hash_key_range.middle().unwrap();
    let before = map.shards().to_vec();
    map.split(&parent, middle, &mut 10).unwrap();
    let mut client = crate::backend::MockStreamClient::new();
    client.expect_name().return_const("mock".to_owned());
    client.expect_limits().returning(|| Ok(Limits::KINESIS));
    client.expect_created_at().returning(|| Ok(Timestamp::default()));
    let calls = std::sync::atomic::AtomicUsize::new(0);
    client.expect_shards().returning(move || {
        assert!(calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0, "planted");
        Ok(before.clone())
    });
    client.expect_open_shard().returning(|shard, _| {
        // Shard 1 has records for ever.
        let script = if *shard == ShardId::numbered(0) { vec![Fetch::End] } else { vec![Fetch::Hangs] };
        let (shard, script) = (shard.clone(), script.into_iter());
        Ok(Box::new(ScriptedShard { lists_children: true, shard, script, after: 0, fetches: Arc::default() }))
    });
    let reader = Reader::start(Arc::new(client), Start::All, ReaderOptions::default().with_seed(1)).await.unwrap();
    let mut reader = reader;
    let error =
        tokio::time::timeout(Duration::from_secs(600), reader.next()).await.expect("it is told").unwrap().unwrap_err();
    assert!(matches!(error, Error::Shard { .. }), "{error:?}");
    reader.stop_handle().stop();
    let error = reader.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");
    assert!(reader.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_longest_poll_interval_does_not_panic() {
    let client = crate::memory::Memory::new().stream("clicks", 1).unwrap();
    let options = ReaderOptions::default().with_seed(1).with_poll_interval(Duration::MAX);
    let mut reader = Reader::start(Arc::new(client), Start::All, options).await.unwrap();
    let next = tokio::time::timeout(Duration::from_secs(60), reader.next()).await;
    assert!(next.is_err(), "{next:?}");
}
