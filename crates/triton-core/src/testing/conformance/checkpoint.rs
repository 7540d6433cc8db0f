//! Behaviours of checkpoints: a reader goes on where another one stood, whatever happened to the stream meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::pipeline::{
    assert_in_order_per_key, change_shards, interleaved, options, put_all, read_until_caught_up, read_until_end, retry,
};
use super::position::key_of;
use super::{STREAM, Suite, entry, texts, within_timeout};
use crate::backend::StreamClient;
use crate::consumer::Start;
use crate::consumer::reader::{Reader, ReaderEvent};
use crate::error::Error;
use crate::model::checkpoint::{Checkpoints, Progress};
use crate::model::hash_key::HashKey;
use crate::model::record_id::RecordId;
use crate::model::shard::Shard;
use crate::producer::{Producer, ProducerOptions};
use crate::record::Record;

/// The checkpoints of a reader, as a program stores them and finds them again.
fn stored(reader: &Reader) -> Checkpoints {
    let stored = serde_json::to_string(&reader.checkpoints()).expect("JSON");
    serde_json::from_str(&stored).expect("checkpoints")
}

/// Asserts that no record was read twice. A record that was put twice is two records.
fn assert_read_once(records: &[Record]) {
    let mut ids = BTreeSet::new();
    for record in records {
        assert!(ids.insert(record.id()), "{} was read twice", record.id());
    }
}

/// Reads a few records at a time, each time with a new reader, which goes on where the one before stood. Ends once `count`
/// distinct payloads were read.
async fn read_with_restarts(
    suite: &Suite,
    client: &Arc<dyn StreamClient>,
    checkpoints: &mut Checkpoints,
    records: &mut Vec<Record>,
    count: usize,
) {
    for life in 0.. {
        if suite.first_occurrences(records.clone()).len() >= count {
            return;
        }
        // Some lives take turns between the pages of several shards.
        let options = options().with_max_records(5).with_checkpoints(checkpoints.clone());
        // Where every shard has a checkpoint, or descends from one that has, the start matters to none.
        let start = if checkpoints.shards.is_empty() { Start::All } else { Start::Latest };
        let mut reader = Reader::start(Arc::clone(client), start, options).await.expect("start");
        // Lives of different lengths, so that they end inside of pages, aggregates and shards.
        for _ in 0..3 + life % 11 {
            if suite.first_occurrences(records.clone()).len() < count {
                records.push(within_timeout(reader.next()).await.expect("the reader does not end").expect("a record"));
            }
        }
        *checkpoints = stored(&reader);
    }
}

/// Each record is read once and in order per key by readers that go on from checkpoints, through splits and merges.
pub async fn a_reader_goes_on_from_checkpoints_through_splits_and_merges(suite: &Suite) {
    let client = suite.stream(2).await;
    let (mut checkpoints, mut records) = (Checkpoints::default(), Vec::new());
    for step in 0..3 {
        put_all(&client, &interleaved(5, 10 * step..10 * step + 10)).await;
        // The reader is behind the change, and passes it in one of its lives.
        change_shards(suite, &client, step).await;
        put_all(&client, &interleaved(5, 100 + 10 * step..100 + 10 * step + 2)).await;
        read_with_restarts(suite, &client, &mut checkpoints, &mut records, 60 * (step + 1) - 7).await;
    }
    read_with_restarts(suite, &client, &mut checkpoints, &mut records, 180).await;
    assert_read_once(&records);
    let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in suite.first_occurrences(records) {
        let text = String::from_utf8_lossy(&record.data).into_owned();
        by_key.entry(record.partition_key.to_string()).or_default().push(text);
    }
    let put = |step| (10 * step..10 * step + 10).chain(100 + 10 * step..100 + 10 * step + 2);
    for (key, texts) in by_key {
        assert_eq!(texts, (0..3).flat_map(put).map(|number| format!("{key}/{number}")).collect::<Vec<_>>());
    }
}

/// Readers that go on from checkpoints inside of aggregates skip and repeat no record.
pub async fn a_reader_goes_on_inside_an_aggregate(suite: &Suite) {
    let client = suite.stream(1).await;
    let options = ProducerOptions::default().with_retry(retry()).with_seed(1).with_aggregation(true);
    let aggregating = Producer::new(Arc::clone(&client), options);
    for outcome in within_timeout(aggregating.put_all(interleaved(3, 0..20))).await {
        outcome.expect("acknowledged");
    }
    let (mut checkpoints, mut records) = (Checkpoints::default(), Vec::new());
    read_with_restarts(suite, &client, &mut checkpoints, &mut records, 60).await;
    assert!(records.iter().any(|record| record.sub_sequence_number.is_some()), "there are aggregates");
    assert_read_once(&records);
    assert_in_order_per_key(suite, records, 3, 0..20);
}

/// Checkpoints of a stream that was deleted and created again are refused.
pub async fn checkpoints_of_another_stream_of_the_name_are_refused(suite: &Suite) {
    let client = suite.stream(1).await;
    put_all(&client, &interleaved(1, 0..1)).await;
    let mut reader = Reader::start(Arc::clone(&client), Start::All, options()).await.expect("start");
    within_timeout(reader.next()).await.expect("a record").expect("a record");
    let checkpoints = reader.checkpoints();
    suite.admin().delete(STREAM).await.expect("delete");
    // The creation time is only as accurate as the backend's clock.
    tokio::time::sleep(suite.clock_grain).await;
    let replacement = suite.stream(1).await;
    let started = Reader::start(replacement, Start::All, options().with_checkpoints(checkpoints)).await;
    assert!(matches!(started, Err(Error::AnotherStream { .. })), "{started:?}");
}

/// Two consumers share a stream, and one of them is slow. Their shards are merged while neither runs. One reader goes on from
/// the checkpoints of both: the merged shard is read after the rest of the slow one's.
pub async fn a_reader_goes_on_over_a_merge_far_behind_in_one_parent(suite: &Suite) {
    let client = suite.stream(2).await;
    put_all(&client, &interleaved(8, 0..25)).await;
    let options_of = |shard| options().with_shards([shard]);
    let mut fast =
        Reader::start(Arc::clone(&client), Start::All, options_of(0).with_until_caught_up(true)).await.expect("start");
    let mut records = read_until_end(&mut fast).await;
    let mut slow = Reader::start(Arc::clone(&client), Start::All, options_of(1)).await.expect("start");
    for _ in 0..3 {
        records.push(within_timeout(slow.next()).await.expect("the reader does not end").expect("a record"));
    }
    let mut checkpoints = stored(&fast);
    checkpoints.shards.extend(stored(&slow).shards);
    drop((fast, slow));
    assert!(suite.first_occurrences(records.clone()).len() < 150, "the slow one is far behind");

    let shards = suite.shards(&*client).await;
    suite.admin().merge(STREAM, &shards[0].id, &shards[1].id).await.expect("merge");
    put_all(&client, &interleaved(8, 25..40)).await;
    read_with_restarts(suite, &client, &mut checkpoints, &mut records, 320).await;
    assert_read_once(&records);
    assert_in_order_per_key(suite, records, 8, 0..40);
}

/// A consumer stops on idle shards. Retention removes every record that it has read, and one shard is split: nothing is lost
/// by that, so the next reader goes on without an error, and reads what was put since.
pub async fn a_reader_goes_on_after_an_idle_time_past_retention(suite: &Suite) {
    let client = suite.stream(3).await;
    let shards = suite.shards(&*client).await;
    let put = async |shards: &[Shard], numbers: std::ops::Range<usize>| {
        let entries = numbers.flat_map(|number| {
            shards.iter().map(move |shard| entry(&key_of(shard), format!("{} {number}", key_of(shard))))
        });
        put_all(&client, &entries.collect::<Vec<_>>()).await;
    };
    // The last shard stays empty.
    put(&shards[..2], 0..3).await;
    let mut reader = Reader::start(Arc::clone(&client), Start::All, options()).await.expect("start");
    let mut records = Vec::new();
    let is_idle = |checkpoints: &Checkpoints| checkpoints.shards.values().all(|shard| shard.caught_up_at.is_some());
    while suite.first_occurrences(records.clone()).len() < 6 || !is_idle(&reader.checkpoints()) {
        if let ReaderEvent::Batch(batch) =
            within_timeout(reader.next_event()).await.expect("the reader does not end").expect("an event")
        {
            records.extend(batch.records);
        }
    }
    let checkpoints = stored(&reader);
    drop(reader);
    assert_eq!(checkpoints.shards.len(), 3);

    let newest = checkpoints.shards.iter().filter_map(|(shard, checkpoint)| match checkpoint.progress {
        Progress::After { sequence_number, .. } => Some(RecordId::new(shard.clone(), sequence_number)),
        Progress::NotStarted | Progress::Ended => None,
    });
    suite.expire(&newest.collect::<Vec<_>>()).await;
    assert!(
        read_until_caught_up(&client, Start::All, options()).await.is_empty(),
        "retention has removed every record"
    );
    suite.admin().split(STREAM, &shards[0].id, HashKey(1 << 120)).await.expect("split");
    put(&shards, 3..6).await;
    let records = read_until_caught_up(&client, Start::Latest, options().with_checkpoints(checkpoints)).await;
    assert_read_once(&records);
    let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in suite.first_occurrences(records) {
        by_key.entry(record.partition_key.to_string()).or_default().extend(texts(&[record]));
    }
    assert_eq!(by_key.len(), 3);
    for (key, texts) in by_key {
        assert_eq!(texts, [3, 4, 5].map(|number| format!("{key} {number}")));
    }
}
