//! What the producer and the reader promise over any backend.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{STREAM, Suite, entry, texts, within_bounds};
use crate::backend::StreamClient;
use crate::consumer::reader::Reader;
use crate::consumer::{ReaderOptions, Start};
use crate::error::Error;
use crate::flow::RetryPolicy;
use crate::model::hash_key::HashKey;
use crate::model::shard::ShardId;
use crate::producer::{Producer, ProducerOptions};
use crate::record::{PutEntry, Record};

fn retry() -> RetryPolicy {
    RetryPolicy::default().with_first(Duration::from_millis(2))
}

fn producer(client: &Arc<dyn StreamClient>) -> Producer {
    Producer::new(Arc::clone(client), ProducerOptions::default().with_retry(retry()).with_seed(1))
}

fn options() -> ReaderOptions {
    ReaderOptions::default().with_retry(retry()).with_seed(1).with_max_records(17)
}

/// Entries of `keys` keys in turns; the payload is the key and the key's own count.
fn interleaved(keys: usize, numbers: std::ops::Range<usize>) -> Vec<PutEntry> {
    numbers
        .flat_map(|number| (0..keys).map(move |key| entry(&format!("key-{key}"), format!("key-{key}/{number}"))))
        .collect()
}

async fn put_all(client: &Arc<dyn StreamClient>, entries: &[PutEntry]) {
    for outcome in within_bounds(producer(client).put_all(entries.to_vec())).await {
        outcome.expect("acknowledged");
    }
}

async fn to_the_end(client: &Arc<dyn StreamClient>, start: Start, options: ReaderOptions) -> Vec<Record> {
    let reader = Reader::start(Arc::clone(client), start, options.with_until_caught_up(true)).await;
    rest(&mut reader.expect("start")).await
}

async fn rest(reader: &mut Reader) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some(record) = within_bounds(reader.next()).await {
        records.push(record.expect("a record"));
    }
    records
}

/// Reads until `records` holds `count` different payloads: copies of what came before may still come.
async fn read_until(suite: &Suite, reader: &mut Reader, records: &mut Vec<Record>, count: usize) {
    while suite.first_occurrences(records.clone()).len() < count {
        let record = within_bounds(reader.next()).await.expect("a stream that goes on");
        records.push(record.expect("a record"));
    }
}

/// Each key's records are all there, and their first occurrences in the order of their puts.
fn assert_in_order_per_key(suite: &Suite, records: Vec<Record>, keys: usize, numbers: std::ops::Range<usize>) {
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

/// Invariants 1 to 4: acknowledged, there, and in order, whatever fails meanwhile.
pub async fn every_record_is_acknowledged_and_read_in_the_order_of_its_key(suite: &Suite) {
    let client = suite.stream(3).await;
    put_all(&client, &interleaved(7, 0..40)).await;
    let records = to_the_end(&client, Start::All, options()).await;
    assert_in_order_per_key(suite, records, 7, 0..40);
}

/// Puts of many tasks at once.
pub async fn many_small_puts_at_once_all_arrive(suite: &Suite) {
    let client = suite.stream(2).await;
    let producer = Arc::new(producer(&client));
    let puts = (0..50).map(|n| {
        let producer = Arc::clone(&producer);
        tokio::spawn(
            async move { producer.put_all([entry(&format!("key-{n}"), format!("key-{n}/0"))]).await.remove(0) },
        )
    });
    for put in puts.collect::<Vec<_>>() {
        within_bounds(put).await.expect("no panic").expect("acknowledged");
    }
    let records = to_the_end(&client, Start::All, options()).await;
    assert_in_order_per_key(suite, records, 50, 0..1);
}

/// One record over the limit does not keep its neighbours from being put.
pub async fn a_record_too_large_fails_alone(suite: &Suite) {
    let client = suite.stream(1).await;
    let limit = super::retrying(|| client.limits()).await.expect("limits").max_record_bytes;
    let entries = [entry("a", "a"), entry("b", "x".repeat(limit)), entry("c", "c")];
    let outcomes = within_bounds(producer(&client).put_all(entries)).await;
    assert!(matches!(outcomes[1], Err(Error::RecordTooLarge { .. })));
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    let records = to_the_end(&client, Start::All, options()).await;
    assert_eq!(texts(&suite.first_occurrences(records)), ["a", "c"]);
}

async fn reshape(suite: &Suite, client: &Arc<dyn StreamClient>, step: usize) {
    let open: Vec<ShardId> =
        suite.shards(&**client).await.into_iter().filter(|shard| shard.is_open()).map(|shard| shard.id).collect();
    match step {
        0 => suite.admin().split(STREAM, &open[0], HashKey(1 << 120)).await.expect("split"),
        1 => suite.admin().reshard(STREAM, 4).await.expect("reshard"),
        _ => suite.admin().reshard(STREAM, 1).await.expect("reshard"),
    }
}

/// Invariants 4 and 5, with the splits and merges before the reader starts and while it reads.
pub async fn a_reader_follows_splits_and_merges(suite: &Suite) {
    let client = suite.stream(2).await;
    put_all(&client, &interleaved(5, 0..10)).await;
    reshape(suite, &client, 0).await;
    put_all(&client, &interleaved(5, 10..20)).await;
    let mut reader = Reader::start(Arc::clone(&client), Start::All, options()).await.expect("start");
    let mut records = Vec::new();
    read_until(suite, &mut reader, &mut records, 100).await;
    for step in 1..4 {
        reshape(suite, &client, step).await;
        put_all(&client, &interleaved(5, 10 + 10 * step..20 + 10 * step)).await;
        read_until(suite, &mut reader, &mut records, 100 + 50 * step).await;
    }
    reader.stop_handle().stop();
    records.extend(rest(&mut reader).await);
    assert_in_order_per_key(suite, records, 5, 0..50);
}

/// Invariant 5: a child's first record comes after the last of each parent.
pub async fn a_reader_of_all_reads_parents_before_their_children(suite: &Suite) {
    let client = suite.stream(2).await;
    for step in 0..3 {
        put_all(&client, &interleaved(9, 10 * step..10 * step + 10)).await;
        reshape(suite, &client, step).await;
    }
    put_all(&client, &interleaved(9, 30..40)).await;
    let records = to_the_end(&client, Start::All, options().with_max_records(3)).await;
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

/// From latest: nothing old, everything new, and of a new shard everything.
pub async fn latest_reads_what_comes_and_children_from_their_start(suite: &Suite) {
    let client = suite.stream(2).await;
    put_all(&client, &[entry("k", "old")]).await;
    tokio::time::sleep(suite.clock_grain).await;
    let mut reader = Reader::start(Arc::clone(&client), Start::Latest, options()).await.expect("start");
    put_all(&client, &interleaved(6, 0..5)).await;
    reshape(suite, &client, 0).await;
    put_all(&client, &interleaved(6, 5..10)).await;
    let mut records = Vec::new();
    read_until(suite, &mut reader, &mut records, 60).await;
    assert_in_order_per_key(suite, records, 6, 0..10);
}

/// Readers of disjoint shards read everything once between them, through a split.
pub async fn chosen_shards_are_shared_out_between_readers(suite: &Suite) {
    let client = suite.stream(3).await;
    put_all(&client, &interleaved(12, 0..5)).await;
    reshape(suite, &client, 0).await;
    put_all(&client, &interleaved(12, 5..10)).await;
    let mut records = to_the_end(&client, Start::All, options().with_shards([0])).await;
    records.extend(to_the_end(&client, Start::All, options().with_shards([1, 2])).await);
    assert_in_order_per_key(suite, records, 12, 0..10);
}

/// Invariant 6.
pub async fn a_stopped_reader_delivers_what_it_fetched_and_ends(suite: &Suite) {
    let client = suite.stream(1).await;
    put_all(&client, &interleaved(3, 0..100)).await;
    let mut reader = Reader::start(Arc::clone(&client), Start::All, options()).await.expect("start");
    let mut records = vec![within_bounds(reader.next()).await.expect("more").expect("a record")];
    let handle = reader.stop_handle();
    handle.clone().stop();
    put_all(&client, &interleaved(3, 100..101)).await;
    records.extend(rest(&mut reader).await);
    // A prefix of whole fetches: nothing in the middle is missing, and what was put after the stop is not there.
    let (all, _) = suite.read(&*client, &records[0].shard_id.clone(), crate::Position::TrimHorizon).await;
    let read = texts(&suite.first_occurrences(records));
    assert_eq!(read, texts(&all)[..read.len()]);
    assert!(!read.is_empty() && read.len() <= 300, "{} records", read.len());
    assert!(within_bounds(reader.next()).await.is_none(), "it stays ended");
}

/// It ends by itself, with all that was there.
pub async fn a_reader_until_caught_up_ends(suite: &Suite) {
    let client = suite.stream(4).await;
    assert!(to_the_end(&client, Start::All, options()).await.is_empty());
    put_all(&client, &interleaved(8, 0..30)).await;
    tokio::time::sleep(suite.clock_grain).await;
    assert!(to_the_end(&client, Start::Latest, options()).await.is_empty());
    let records = to_the_end(&client, Start::All, options()).await;
    assert_in_order_per_key(suite, records, 8, 0..30);
}

/// A shard number is an index into the list.
pub async fn a_number_past_the_list_is_out_of_range(suite: &Suite) {
    let client = suite.stream(2).await;
    let error =
        Reader::start(Arc::clone(&client), Start::All, options().with_shards([1, 2])).await.expect_err("2 shards");
    assert_eq!(error.to_string(), format!("shard 2 out of range: '{STREAM}' has 2 shards (0-1)"));
}
