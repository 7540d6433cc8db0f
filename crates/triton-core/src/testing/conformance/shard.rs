//! Behaviours of single calls of a [`StreamClient`] and its shard readers.

use std::sync::Arc;
use std::time::Duration;

use super::{STREAM, Suite, entry, numbered, only_shard, retrying, texts, within_timeout};
use crate::Entries;
use crate::backend::CreateOptions;
use crate::backend::StreamClient;
use crate::error::Error;
use crate::model::hash_key::HashKey;
use crate::model::position::Position;
use crate::model::sequence_number::SequenceNumber;
use crate::model::shard::{ChildShard, Shard, ShardId};
use crate::record::PutEntry;

/// Asserts that each hash key belongs to exactly one open shard, and that the list is sorted by id.
fn assert_covered(shards: &[Shard]) {
    assert!(shards.is_sorted_by(|a, b| a.id < b.id), "sorted by id");
    let mut open: Vec<&Shard> = shards.iter().filter(|shard| shard.is_open()).collect();
    open.sort_by_key(|shard| shard.hash_key_range.first);
    assert_eq!(open[0].hash_key_range.first, HashKey::MIN);
    assert_eq!(open[open.len() - 1].hash_key_range.last, HashKey::MAX);
    for pair in open.windows(2) {
        assert_eq!(pair[0].hash_key_range.last.0 + 1, pair[1].hash_key_range.first.0);
    }
}

/// The shards of a new stream are open, have equal size and no parents.
pub async fn the_shards_of_a_new_stream_cover_every_hash_key_once(suite: &Suite) {
    let client = suite.stream(3).await;
    let shards = suite.shards(&*client).await;
    assert_eq!(shards.len(), 3);
    assert_covered(&shards);
    assert!(shards.iter().all(|shard| shard.is_open() && shard.parents().next().is_none()));
    let starts: Vec<HashKey> = shards.iter().map(|shard| shard.hash_key_range.first).collect();
    assert_eq!(starts[1].to_string(), "113427455640312821154458202477256070485");
}

/// Every client returns the same creation time. A stream that is deleted and created again has another.
pub async fn a_recreated_stream_has_another_creation_time(suite: &Suite) {
    let client = suite.stream(1).await;
    let created_at = retrying(|| client.created_at()).await.expect("a creation time");
    let again = suite.client().await;
    assert_eq!(retrying(|| again.created_at()).await.expect("a creation time"), created_at);
    suite.admin().delete(STREAM).await.expect("delete");
    // The creation time is only as accurate as the backend's clock.
    tokio::time::sleep(suite.clock_grain).await;
    let replacement = suite.stream(1).await;
    assert_ne!(retrying(|| replacement.created_at()).await.expect("a creation time"), created_at);
}

/// The MD5 of the partition key selects the shard.
pub async fn a_record_is_written_to_the_shard_of_its_key(suite: &Suite) {
    let client = suite.stream(4).await;
    let shards = suite.shards(&*client).await;
    let entries: Vec<PutEntry> = (0..40).map(|n| entry(&format!("käy-{n}"), n.to_string())).collect();
    let receipts = suite.put(&*client, &entries).await;
    for (entry, receipt) in entries.iter().zip(&receipts) {
        let shard = shards.iter().find(|shard| shard.id == receipt.shard_id).expect("a listed shard");
        assert!(shard.hash_key_range.contains(entry.partition_key.hash_key()));
    }
    for shard in &shards {
        let keys = suite.read(&*client, &shard.id, Position::TrimHorizon).await.0;
        assert!(keys.iter().all(|record| shard.hash_key_range.contains(record.partition_key.hash_key())));
        assert!(!keys.is_empty(), "40 keys are distributed over 4 shards");
    }
}

/// There is one result per entry, in order. Within a shard, later puts have higher sequence numbers.
pub async fn results_are_in_the_order_of_the_entries_and_sequence_numbers_increase(suite: &Suite) {
    let client = suite.stream(2).await;
    let entries: Vec<PutEntry> = (0..30).map(|n| entry(&format!("key-{n}"), n.to_string())).collect();
    let mut pending: Vec<usize> = (0..entries.len()).collect();
    let mut receipts = vec![None; entries.len()];
    while !pending.is_empty() {
        let batch: Vec<PutEntry> = pending.iter().map(|&index| entries[index].clone()).collect();
        let Ok(outcomes) = client.put_batch(batch.clone().into()).await else { continue };
        assert_eq!(outcomes.len(), batch.len());
        for (&index, outcome) in pending.iter().zip(outcomes) {
            receipts[index] = outcome.ok();
        }
        pending.retain(|&index| receipts[index].is_none());
    }
    for shard in suite.shards(&*client).await {
        let (records, _) = suite.read_pages_of(&*client, &shard.id, Position::TrimHorizon, 100).await;
        for record in records {
            let index: usize = String::from_utf8_lossy(&record.data).parse().expect("a number");
            let receipt = receipts[index].clone().expect("acknowledged");
            assert_eq!(receipt.shard_id, shard.id);
            assert_eq!(record.partition_key, entries[index].partition_key);
            // A lost reply may leave an earlier duplicate, never a later one.
            assert!(record.sequence_number == receipt.sequence_number || !suite.is_exact());
            assert!(record.sequence_number <= receipt.sequence_number);
        }
    }
    let later = suite.put(&*client, &[entry("key-0", "later")]).await.remove(0);
    let earlier = receipts.into_iter().flatten().filter(|receipt| receipt.shard_id == later.shard_id);
    assert!(earlier.map(|receipt| receipt.sequence_number).max() < Some(later.sequence_number));
}

/// A put without entries succeeds.
pub async fn an_empty_put_returns_no_results(suite: &Suite) {
    let client = suite.stream(1).await;
    let outcomes = retrying(|| client.put_batch(Entries::default())).await.expect("an empty put succeeds");
    assert!(outcomes.is_empty());
}

/// A put over the limits fails as a whole, and a record of the maximum size can be put.
pub async fn a_put_over_the_limits_writes_nothing(suite: &Suite) {
    let client = suite.stream(1).await;
    let limits = retrying(|| client.limits()).await.expect("limits");
    assert!(limits.max_entries >= 1 && limits.max_record_bytes <= limits.max_call_bytes);

    let many = vec![entry("k", "x"); limits.max_entries + 1];
    let error = retrying(|| client.put_batch(many.clone().into())).await.expect_err("too many entries");
    assert!(matches!(error, Error::CallTooLarge { .. }), "{error:?}");

    let large = [entry("k", "x"), entry("k", "y".repeat(limits.max_record_bytes))];
    let error = retrying(|| client.put_batch(large.clone().into())).await.expect_err("a record too large");
    assert!(matches!(error, Error::RecordTooLarge { .. }), "{error:?}");
    assert!(!error.is_retryable() && !error.may_have_written());

    let shard = only_shard(suite, &*client).await;
    assert!(suite.texts(&*client, &shard, Position::TrimHorizon).await.is_empty());

    let largest = entry("k", "z".repeat(limits.max_record_bytes - 1));
    suite.put(&*client, &[largest]).await;
    assert_eq!(suite.texts(&*client, &shard, Position::TrimHorizon).await.len(), 1);
}

/// Payloads are any bytes, and keys any text of up to 256 characters.
pub async fn payloads_and_keys_are_read_as_they_were_put(suite: &Suite) {
    let client = suite.stream(1).await;
    let shard = only_shard(suite, &*client).await;
    let mut entries = vec![
        entry("k", ""),
        entry("日本語 🙂\n\u{0}", "text"),
        entry(&"ß".repeat(256), "a long key"),
        entry("k", "x".repeat(300_000)),
    ];
    entries.push(PutEntry::new(entries[0].partition_key.clone(), (0..=255).collect::<Vec<u8>>()));
    suite.put(&*client, &entries).await;
    let (records, _) = suite.read(&*client, &shard, Position::TrimHorizon).await;
    let read: Vec<_> = records.into_iter().map(|record| PutEntry::new(record.partition_key, record.data)).collect();
    assert_eq!(read, entries);
}

/// Within a shard, arrival times never decrease.
pub async fn arrival_times_never_decrease(suite: &Suite) {
    let client = suite.stream(1).await;
    let shard = only_shard(suite, &*client).await;
    suite.put(&*client, &numbered("k", 0..20)).await;
    let (records, _) = suite.read(&*client, &shard, Position::TrimHorizon).await;
    assert!(records.is_sorted_by_key(|record| record.arrival));
}

/// Only an empty batch that is not behind means that a reader has caught up.
pub async fn a_batch_reports_whether_its_reader_has_caught_up(suite: &Suite) {
    let client = suite.stream(1).await;
    let shard = only_shard(suite, &*client).await;
    suite.put(&*client, &numbered("k", 0..3)).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let open = || client.open_shard(&shard, Position::TrimHorizon);
    let mut reader = retrying(open).await.expect("open");
    let mut read = 0;
    loop {
        match reader.next_batch(1).await {
            Ok(batch) => {
                let batch = batch.expect("an open shard does not end");
                if batch.records.is_empty() && batch.is_caught_up() {
                    break;
                }
                read += batch.records.len();
                assert!(read >= 3 || batch.behind > Some(Duration::ZERO), "{read} of 3 read");
            }
            // A fault: start over.
            Err(_) => (reader, read) = (retrying(open).await.expect("open"), 0),
        }
    }
    assert!(read >= 3);
}

/// A page that holds the newest record says that nothing is newer, so that a reader knows its end without an empty page. The
/// backend may miss one that has just arrived.
pub async fn a_page_with_the_newest_record_says_that_nothing_is_newer(suite: &Suite) {
    const ATTEMPTS: usize = 20;
    let client = suite.stream(1).await;
    let shard = only_shard(suite, &*client).await;
    let mut reader = retrying(|| client.open_shard(&shard, Position::TrimHorizon)).await.expect("open");
    let mut records = Vec::new();
    for number in 0..ATTEMPTS {
        suite.put(&*client, &numbered("k", number..number + 1)).await;
        let has_records = loop {
            match within_timeout(reader.next_batch(10)).await {
                Ok(batch) => {
                    let batch = batch.expect("an open shard does not end");
                    let (has_records, is_caught_up) = (!batch.records.is_empty(), batch.is_caught_up());
                    records.extend(batch.records);
                    if is_caught_up {
                        break has_records;
                    }
                }
                Err(Error::IteratorExpired { .. }) => {
                    let position = reader.position();
                    reader = retrying(|| client.open_shard(&shard, position)).await.expect("open again");
                }
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        };
        if has_records {
            // A backend that pushes may have made the page before the last puts.
            let read = texts(&suite.first_occurrences(records));
            let expected: Vec<String> = (0..read.len()).map(|n| n.to_string()).collect();
            assert!(read == expected && read.len() <= number + 1, "{read:?} after {number}");
            return;
        }
    }
    panic!("none of {ATTEMPTS} pages says so");
}

/// A fetch that is dropped before it completes has no effect on the reader.
pub async fn a_dropped_fetch_loses_no_records(suite: &Suite) {
    let client = suite.stream(1).await;
    let shard = only_shard(suite, &*client).await;
    suite.put(&*client, &numbered("k", 0..50)).await;
    let mut reader = retrying(|| client.open_shard(&shard, Position::TrimHorizon)).await.expect("open");
    let mut records = Vec::new();
    let mut attempts = 0;
    while suite.first_occurrences(records.clone()).len() < 50 {
        // Drops the fetch at any moment, from its first poll to its completion; later the more attempts it takes, so that a
        // slow backend completes some.
        let wait = Duration::from_micros(50 * (attempts % 100) * (1 + attempts / 200));
        attempts += 1;
        match tokio::time::timeout(wait, reader.next_batch(4)).await {
            Ok(Ok(batch)) => records.extend(batch.expect("an open shard does not end").records),
            Ok(Err(Error::IteratorExpired { .. })) => {
                let position = reader.position();
                reader = retrying(|| client.open_shard(&shard, position)).await.expect("open");
            }
            Ok(Err(error)) => assert!(error.is_retryable(), "{error:?}"),
            Err(_) => {}
        }
        assert!(attempts < 5_000, "{} of 50 records", records.len());
    }
    let expected: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(texts(&suite.first_occurrences(records)), expected);
}

/// After its last record, a closed shard returns `None` on every fetch, from every position.
pub async fn a_closed_shard_ends_after_its_last_record_and_stays_ended(suite: &Suite) {
    let client = suite.stream(1).await;
    let receipts = suite.put(&*client, &numbered("k", 0..5)).await;
    let shard = receipts[0].shard_id.clone();
    let latest = suite.latest(&*client, &shard).await;
    suite.admin().split(STREAM, &shard, HashKey(1 << 127)).await.expect("split");
    let (records, ended) = suite.read(&*client, &shard, Position::TrimHorizon).await;
    assert_eq!((records.len(), ended), (5, true));
    for position in [latest, Position::Latest, Position::after(receipts[4].sequence_number)] {
        assert_eq!(suite.read(&*client, &shard, position).await, (vec![], true), "{position:?}");
    }
    let mut reader = retrying(|| client.open_shard(&shard, latest)).await.expect("open");
    let mut ends = 0;
    while ends < 3 {
        match reader.next_batch(1).await {
            Ok(batch) => {
                assert_eq!(batch, None);
                ends += 1;
            }
            Err(Error::IteratorExpired { .. }) => {
                reader = retrying(|| client.open_shard(&shard, latest)).await.expect("open");
            }
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
}

/// The children of a split divide the parent's hash keys, and their records have higher sequence numbers.
pub async fn a_split_closes_the_parent_and_opens_two_children(suite: &Suite) {
    let client = suite.stream(1).await;
    let before = suite.put(&*client, &numbered("k", 0..3)).await;
    let parent = &before[0].shard_id;
    let at = HashKey(1 << 126);
    suite.admin().split(STREAM, parent, at).await.expect("split");

    let shards = suite.shards(&*client).await;
    assert_covered(&shards);
    assert_eq!(shards.len(), 3);
    assert!(!shards[0].is_open());
    for child in &shards[1..] {
        assert!(child.is_open() && child.parents().eq([parent]));
    }
    assert_eq!(shards[2].hash_key_range.first, at);
    let after = suite.put(&*client, &numbered("k", 3..5)).await;
    assert!(after.iter().all(|receipt| receipt.shard_id != *parent));
    assert!(after[0].sequence_number > before[2].sequence_number);
    assert_eq!(suite.texts(&*client, &after[0].shard_id, Position::TrimHorizon).await, ["3", "4"]);

    let again = suite.admin().split(STREAM, parent, at).await;
    assert!(matches!(again, Err(Error::Invalid { .. })), "{again:?}");
}

/// The child of a merge has the hash keys of both parents.
pub async fn a_merge_closes_both_parents_and_opens_one_child(suite: &Suite) {
    let client = suite.stream(3).await;
    let ids: Vec<ShardId> = suite.shards(&*client).await.into_iter().map(|shard| shard.id).collect();
    let apart = suite.admin().merge(STREAM, &ids[0], &ids[2]).await;
    assert!(matches!(apart, Err(Error::Invalid { .. })), "{apart:?}");
    suite.admin().merge(STREAM, &ids[1], &ids[0]).await.expect("merge");

    let shards = suite.shards(&*client).await;
    assert_covered(&shards);
    let child = &shards[3];
    let mut parents: Vec<&ShardId> = child.parents().collect();
    parents.sort();
    assert_eq!(parents, [&ids[0], &ids[1]]);
    assert_eq!(child.hash_key_range.first, HashKey::MIN);
    for parent in &ids[..2] {
        assert!(suite.read(&*client, parent, Position::TrimHorizon).await.1, "both parents have ended");
    }
}

/// At the end of a closed shard, its reader names its children as the stream lists them, or names none.
pub async fn a_closed_shard_names_its_children_or_lists_them(suite: &Suite) {
    let client = suite.stream(2).await;
    let ids: Vec<ShardId> = suite.shards(&*client).await.into_iter().map(|shard| shard.id).collect();
    suite.put(&*client, &[entry("k", "0")]).await;
    suite.admin().split(STREAM, &ids[0], HashKey(1 << 126)).await.expect("split");
    let upper_child = suite.shards(&*client).await[3].id.clone();
    suite.admin().merge(STREAM, &upper_child, &ids[1]).await.expect("merge");

    let shards = suite.shards(&*client).await;
    for closed in shards.iter().filter(|shard| !shard.is_open()) {
        let is_child = |shard: &&Shard| shard.parents().any(|parent| *parent == closed.id);
        let listed: Vec<ChildShard> = shards.iter().filter(is_child).map(ChildShard::from).map(sorted).collect();
        assert_eq!(listed.len(), if closed.id == ids[0] { 2 } else { 1 });
        for position in [Position::TrimHorizon, Position::Latest] {
            let mut named = children(&*client, &closed.id, position).await;
            named.sort_by(|a, b| a.id.cmp(&b.id));
            let named: Vec<ChildShard> = named.into_iter().map(sorted).collect();
            assert!(named.is_empty() || named == listed, "{named:?} of {}, listed: {listed:?}", closed.id);
        }
    }
}

/// The children that a reader names at the end of a shard.
async fn children(client: &dyn StreamClient, shard: &ShardId, position: Position) -> Vec<ChildShard> {
    let mut reader = retrying(|| client.open_shard(shard, position)).await.expect("open");
    loop {
        match within_timeout(reader.next_batch(7)).await {
            Ok(Some(_)) => {}
            Ok(None) => return reader.children(),
            Err(Error::IteratorExpired { .. }) => {
                let position = reader.position();
                reader = retrying(|| client.open_shard(shard, position)).await.expect("open again");
            }
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
}

/// With its parents in the order of their ids.
fn sorted(mut child: ChildShard) -> ChildShard {
    child.parents.sort();
    child
}

/// A reshard increases or decreases the number of open shards.
pub async fn a_reshard_gives_shards_of_equal_size(suite: &Suite) {
    let client = suite.stream(2).await;
    for count in [5, 2] {
        suite.admin().reshard(STREAM, count).await.expect("reshard");
        let shards = suite.shards(&*client).await;
        assert_covered(&shards);
        assert_eq!(shards.iter().filter(|shard| shard.is_open()).count(), count);
    }
}

/// Unknown shards and streams are reported as such.
pub async fn an_unknown_shard_or_stream_is_not_found(suite: &Suite) {
    let client = suite.stream(1).await;
    let unknown = ShardId::numbered(77);
    for id in [unknown.clone(), ShardId::numbered(u64::MAX), ShardId::from("")] {
        let opened = retrying(|| client.open_shard(&id, Position::TrimHorizon)).await;
        assert!(matches!(opened, Err(Error::ShardNotFound { .. })), "{opened:?}");
    }
    let split = suite.admin().split(STREAM, &unknown, HashKey(1)).await;
    assert!(matches!(split, Err(Error::ShardNotFound { .. })), "{split:?}");
    let client = suite.admin().open("no-such-stream").await;
    assert!(matches!(client, Err(Error::StreamNotFound { .. })), "{client:?}");
}

/// A name belongs to at most one stream.
pub async fn streams_are_created_once_listed_and_deleted(suite: &Suite) {
    let admin = suite.admin();
    assert!(admin.list().await.expect("list").is_empty());
    admin.create("b", CreateOptions::default()).await.expect("create");
    admin.create("a", CreateOptions::default()).await.expect("create");
    assert_eq!(admin.list().await.expect("list"), ["a", "b"]);
    let again = admin.create("a", CreateOptions::default()).await;
    assert!(matches!(again, Err(Error::StreamExists { .. })), "{again:?}");
    let none = admin.create("c", CreateOptions::default().with_shards(0)).await;
    assert!(matches!(none, Err(Error::Invalid { .. })), "{none:?}");
    admin.delete("a").await.expect("delete");
    assert_eq!(admin.list().await.expect("list"), ["b"]);
    let again = admin.delete("a").await;
    assert!(matches!(again, Err(Error::StreamNotFound { .. })), "{again:?}");
}

/// A client reads the records that another client has put.
pub async fn two_clients_share_a_stream(suite: &Suite) {
    let (first, second) = (suite.stream(1).await, suite.client().await);
    let receipts = suite.put(&*first, &numbered("k", 0..3)).await;
    let from = Position::At(SequenceNumber::min(receipts[0].sequence_number, receipts[1].sequence_number));
    assert_eq!(suite.texts(&*second, &receipts[0].shard_id, from).await, ["0", "1", "2"]);
    let names = [Arc::clone(&first), second].map(|client| client.name().to_owned());
    assert_eq!(names, [STREAM, STREAM]);
}
