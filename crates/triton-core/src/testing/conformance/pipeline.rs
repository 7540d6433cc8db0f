//! Behaviours of producers and readers on any backend.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{STREAM, Suite, entry, texts, within_timeout};
use crate::backend::StreamClient;
use crate::consumer::reader::Reader;
use crate::consumer::{ReaderOptions, Start};
use crate::error::Error;
use crate::flow::RetryPolicy;
use crate::model::hash_key::HashKey;
use crate::model::shard::ShardId;
use crate::producer::{Producer, ProducerOptions};
use crate::record::{PutEntry, Record};

pub(super) fn retry() -> RetryPolicy {
    RetryPolicy::default().with_first(Duration::from_millis(2))
}

pub(super) fn producer(client: &Arc<dyn StreamClient>) -> Producer {
    Producer::new(Arc::clone(client), ProducerOptions::default().with_retry(retry()).with_seed(1))
}

pub(super) fn options() -> ReaderOptions {
    ReaderOptions::default().with_retry(retry()).with_seed(1).with_max_records(17)
}

/// Entries of `keys` keys in turn, with `KEY/NUMBER` as payload.
pub(super) fn interleaved(keys: usize, numbers: std::ops::Range<usize>) -> Vec<PutEntry> {
    numbers
        .flat_map(|number| (0..keys).map(move |key| entry(&format!("key-{key}"), format!("key-{key}/{number}"))))
        .collect()
}

pub(super) async fn put_all(client: &Arc<dyn StreamClient>, entries: &[PutEntry]) {
    for outcome in within_timeout(producer(client).put_all(entries.to_vec())).await {
        outcome.expect("acknowledged");
    }
}

pub(super) async fn read_until_caught_up(
    client: &Arc<dyn StreamClient>,
    start: Start,
    options: ReaderOptions,
) -> Vec<Record> {
    let reader = Reader::start(Arc::clone(client), start, options.with_until_caught_up(true)).await;
    read_until_end(&mut reader.expect("start")).await
}

pub(super) async fn read_until_end(reader: &mut Reader) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some(record) = within_timeout(reader.next()).await {
        records.push(record.expect("a record"));
    }
    records
}

/// Reads until `records` holds `count` distinct payloads. Duplicates of them may follow.
async fn read_until(suite: &Suite, reader: &mut Reader, records: &mut Vec<Record>, count: usize) {
    while suite.first_occurrences(records.clone()).len() < count {
        let record = within_timeout(reader.next()).await.expect("the reader does not end");
        records.push(record.expect("a record"));
    }
}

/// Asserts that every record of every key was read, in the order of the puts.
pub(super) fn assert_in_order_per_key(
    suite: &Suite,
    records: Vec<Record>,
    keys: usize,
    numbers: std::ops::Range<usize>,
) {
    let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in suite.first_occurrences(records) {
        let text = String::from_utf8_lossy(&record.data).into_owned();
        by_key.entry(record.partition_key.to_string()).or_default().push(text);
    }
    assert_eq!(by_key.len(), keys);
    for (key, texts) in by_key {
        assert_eq!(texts, numbers.clone().map(|number| format!("{key}/{number}")).collect::<Vec<_>>());
    }
}

/// Invariants 1 to 4: every record is acknowledged and read, in order per key, despite faults.
pub async fn every_record_is_acknowledged_and_read_in_order_per_key(suite: &Suite) {
    let client = suite.stream(3).await;
    put_all(&client, &interleaved(7, 0..40)).await;
    let records = read_until_caught_up(&client, Start::All, options()).await;
    assert_in_order_per_key(suite, records, 7, 0..40);
}

/// Many tasks put at the same time.
pub async fn concurrent_puts_are_all_read(suite: &Suite) {
    let client = suite.stream(2).await;
    let producer = Arc::new(producer(&client));
    let puts = (0..50).map(|n| {
        let producer = Arc::clone(&producer);
        tokio::spawn(
            async move { producer.put_all([entry(&format!("key-{n}"), format!("key-{n}/0"))]).await.remove(0) },
        )
    });
    for put in puts.collect::<Vec<_>>() {
        within_timeout(put).await.expect("no panic").expect("acknowledged");
    }
    let records = read_until_caught_up(&client, Start::All, options()).await;
    assert_in_order_per_key(suite, records, 50, 0..1);
}

/// The other records of the call are written.
pub async fn a_record_too_large_fails_alone(suite: &Suite) {
    let client = suite.stream(1).await;
    let limit = super::retrying(|| client.limits()).await.expect("limits").max_record_bytes;
    let entries = [entry("a", "a"), entry("b", "x".repeat(limit)), entry("c", "c")];
    let outcomes = within_timeout(producer(&client).put_all(entries)).await;
    assert!(matches!(outcomes[1], Err(Error::RecordTooLarge { .. })));
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    let records = read_until_caught_up(&client, Start::All, options()).await;
    assert_eq!(texts(&suite.first_occurrences(records)), ["a", "c"]);
}

pub(super) async fn change_shards(suite: &Suite, client: &Arc<dyn StreamClient>, step: usize) {
    let open: Vec<ShardId> =
        suite.shards(&**client).await.into_iter().filter(|shard| shard.is_open()).map(|shard| shard.id).collect();
    match step {
        0 => suite.admin().split(STREAM, &open[0], HashKey(1 << 120)).await.expect("split"),
        1 => suite.admin().reshard(STREAM, 4).await.expect("reshard"),
        _ => suite.admin().reshard(STREAM, 1).await.expect("reshard"),
    }
}

/// Invariants 4 and 5, for splits and merges before the reader starts and while it reads.
pub async fn a_reader_follows_splits_and_merges(suite: &Suite) {
    let client = suite.stream(2).await;
    put_all(&client, &interleaved(5, 0..10)).await;
    change_shards(suite, &client, 0).await;
    put_all(&client, &interleaved(5, 10..20)).await;
    let mut reader = Reader::start(Arc::clone(&client), Start::All, options()).await.expect("start");
    let mut records = Vec::new();
    read_until(suite, &mut reader, &mut records, 100).await;
    for step in 1..4 {
        change_shards(suite, &client, step).await;
        put_all(&client, &interleaved(5, 10 + 10 * step..20 + 10 * step)).await;
        read_until(suite, &mut reader, &mut records, 100 + 50 * step).await;
    }
    reader.stop_handle().stop();
    records.extend(read_until_end(&mut reader).await);
    assert_in_order_per_key(suite, records, 5, 0..50);
}

/// Invariant 5: the first record of a child is read after the last record of each parent.
pub async fn parents_are_read_before_their_children(suite: &Suite) {
    let client = suite.stream(2).await;
    for step in 0..3 {
        put_all(&client, &interleaved(9, 10 * step..10 * step + 10)).await;
        change_shards(suite, &client, step).await;
    }
    put_all(&client, &interleaved(9, 30..40)).await;
    let records = read_until_caught_up(&client, Start::All, options().with_max_records(3)).await;
    let (mut first, mut last) = (BTreeMap::new(), BTreeMap::new());
    for (index, record) in records.iter().enumerate() {
        first.entry(record.shard_id.clone()).or_insert(index);
        last.insert(record.shard_id.clone(), index);
    }
    for shard in suite.shards(&*client).await {
        for parent in shard.parents() {
            if let (Some(last), Some(first)) = (last.get(parent), first.get(&shard.id)) {
                assert!(last < first, "{} was read before {parent} ended", shard.id);
            }
        }
    }
    assert_in_order_per_key(suite, records, 9, 0..40);
}

/// Shards that a split opens after the start are read from their beginning.
pub async fn a_reader_from_latest_reads_only_new_records_and_all_of_new_shards(suite: &Suite) {
    let client = suite.stream(2).await;
    put_all(&client, &[entry("k", "old")]).await;
    tokio::time::sleep(suite.clock_grain).await;
    let mut reader = Reader::start(Arc::clone(&client), Start::Latest, options()).await.expect("start");
    put_all(&client, &interleaved(6, 0..5)).await;
    change_shards(suite, &client, 0).await;
    put_all(&client, &interleaved(6, 5..10)).await;
    let mut records = Vec::new();
    read_until(suite, &mut reader, &mut records, 60).await;
    assert_in_order_per_key(suite, records, 6, 0..10);
}

/// A reader of a shard reads its children too.
pub async fn readers_of_disjoint_shards_read_every_record_once(suite: &Suite) {
    let client = suite.stream(3).await;
    put_all(&client, &interleaved(12, 0..5)).await;
    change_shards(suite, &client, 0).await;
    put_all(&client, &interleaved(12, 5..10)).await;
    let mut records = read_until_caught_up(&client, Start::All, options().with_shards([0])).await;
    records.extend(read_until_caught_up(&client, Start::All, options().with_shards([1, 2])).await);
    assert_in_order_per_key(suite, records, 12, 0..10);
}

/// Invariant 6: after a stop, no new records are fetched and all fetched records are delivered.
pub async fn a_stopped_reader_delivers_its_fetched_records_and_ends(suite: &Suite) {
    let client = suite.stream(1).await;
    put_all(&client, &interleaved(3, 0..100)).await;
    let mut reader = Reader::start(Arc::clone(&client), Start::All, options()).await.expect("start");
    let mut records = vec![within_timeout(reader.next()).await.expect("more").expect("a record")];
    let handle = reader.stop_handle();
    handle.clone().stop();
    put_all(&client, &interleaved(3, 100..101)).await;
    records.extend(read_until_end(&mut reader).await);
    // The records are a prefix of the shard: none is missing in between, and none was put after the stop.
    let (all, _) = suite.read(&*client, &records[0].shard_id.clone(), crate::Position::TrimHorizon).await;
    let read = texts(&suite.first_occurrences(records));
    assert_eq!(read, texts(&all)[..read.len()]);
    assert!(!read.is_empty() && read.len() <= 300, "{} records", read.len());
    assert!(within_timeout(reader.next()).await.is_none(), "the reader stays ended");
}

/// A reader until caught up delivers all records and ends.
pub async fn a_reader_until_caught_up_ends(suite: &Suite) {
    let client = suite.stream(4).await;
    assert!(read_until_caught_up(&client, Start::All, options()).await.is_empty());
    put_all(&client, &interleaved(8, 0..30)).await;
    tokio::time::sleep(suite.clock_grain).await;
    assert!(read_until_caught_up(&client, Start::Latest, options()).await.is_empty());
    let records = read_until_caught_up(&client, Start::All, options()).await;
    assert_in_order_per_key(suite, records, 8, 0..30);
}

/// A shard number is an index into the list of shards, so it must be below their count.
pub async fn an_unknown_shard_number_is_out_of_range(suite: &Suite) {
    let client = suite.stream(2).await;
    let error =
        Reader::start(Arc::clone(&client), Start::All, options().with_shards([1, 2])).await.expect_err("2 shards");
    assert_eq!(error.to_string(), format!("shard 2 out of range: '{STREAM}' has 2 shards (0-1)"));
}
