//! Behaviours of positions: where a shard reader starts, and where another one continues.

use std::time::Duration;

use super::{STREAM, Suite, entry, numbered, only_shard, retrying, texts};
use crate::backend::{Batch, StreamClient};
use crate::error::{Error, Result};
use crate::model::hash_key::HashKey;
use crate::model::position::Position;
use crate::model::sequence_number::SequenceNumber;
use crate::model::shard::{Shard, ShardId};

/// From the trim horizon, all records are read in order, for any size of a fetch.
pub async fn the_trim_horizon_is_before_every_record(suite: &Suite) {
    let client = suite.stream(1).await;
    let shard = only_shard(suite, &*client).await;
    assert_eq!(suite.read(&*client, &shard, Position::TrimHorizon).await, (vec![], false), "an empty shard");
    let entries = numbered("k", 0..25);
    suite.put(&*client, &entries).await;
    for max_records in [1, 3, 25, 10_000] {
        let (records, ended) = suite.read_pages_of(&*client, &shard, Position::TrimHorizon, max_records).await;
        assert_eq!(texts(&records), (0..25).map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(!ended, "an open shard does not end");
    }
}

/// A reader from the latest record reads only records that are put after it was opened.
pub async fn latest_is_after_every_record(suite: &Suite) {
    let client = suite.stream(1).await;
    let shard = only_shard(suite, &*client).await;
    suite.put(&*client, &numbered("k", 0..3)).await;
    let position = suite.latest(&*client, &shard).await;
    suite.put(&*client, &numbered("k", 3..5)).await;
    // The position is valid for another reader, although nothing has been fetched.
    assert_eq!(suite.texts(&*client, &shard, position).await, ["3", "4"]);
    assert!(suite.texts(&*client, &shard, Position::Latest).await.is_empty());
}

/// `At` a sequence number includes its record, `After` does not, even for the last record.
pub async fn at_includes_the_record_and_after_excludes_it(suite: &Suite) {
    let client = suite.stream(1).await;
    let receipts = suite.put(&*client, &numbered("k", 0..5)).await;
    let shard = &receipts[0].shard_id;
    let texts = |position| suite.texts(&*client, shard, position);
    for (index, receipt) in receipts.iter().enumerate() {
        let expected: Vec<String> = (index..5).map(|n| n.to_string()).collect();
        assert_eq!(texts(Position::At(receipt.sequence_number)).await, expected);
        assert_eq!(texts(Position::after(receipt.sequence_number)).await, expected[1..]);
    }
}

/// `AtTime` accepts times before, between and after the records.
pub async fn at_a_time_starts_with_the_first_record_that_arrived_then_or_later(suite: &Suite) {
    let client = suite.stream(1).await;
    let shard = only_shard(suite, &*client).await;
    suite.put(&*client, &numbered("k", 0..2)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    suite.put(&*client, &numbered("k", 2..4)).await;
    let (records, _) = suite.read(&*client, &shard, Position::TrimHorizon).await;
    let at = |arrival| suite.texts(&*client, &shard, Position::AtTime(arrival));
    let (first, second, third) = (records[0].arrival, records[1].arrival, records[2].arrival);
    let records = suite.read_with_duplicates(&*client, &shard, Position::TrimHorizon, 100).await.0;
    let last = records[records.len() - 1].arrival;
    assert!(second < third, "the puts are 20 ms apart");
    assert_eq!(at(first - Duration::from_secs(60)).await, ["0", "1", "2", "3"]);
    assert_eq!(at(third).await, ["2", "3"]);
    assert_eq!(at(third - Duration::from_millis(1)).await, ["2", "3"]);
    assert_eq!(at(last + Duration::from_millis(1)).await, Vec::<String>::new(), "after {last:?} of {records:?}");

    // With a time after the last record, the next record is read.
    let after_last = Position::AtTime(last + Duration::from_millis(1));
    let reader = retrying(|| client.open_shard(&shard, after_last)).await.expect("open");
    tokio::time::sleep(Duration::from_millis(5)).await;
    suite.put(&*client, &[entry("k", "next")]).await;
    assert_eq!(suite.texts(&*client, &shard, reader.position()).await, ["next"]);
}

/// At every point of a shard, a new reader from the `position` of the last one skips and repeats no record.
pub async fn a_new_reader_resumes_from_the_position_of_another(suite: &Suite) {
    let client = suite.stream(1).await;
    let shard = only_shard(suite, &*client).await;
    suite.put(&*client, &numbered("k", 0..9)).await;
    let mut position = Position::TrimHorizon;
    let mut records = Vec::new();
    loop {
        let mut reader = retrying(|| client.open_shard(&shard, position)).await.expect("open");
        match reader.next_batch(2).await {
            Ok(batch) => {
                let batch = batch.expect("an open shard does not end");
                if batch.records.is_empty() && batch.is_caught_up() {
                    break;
                }
                records.extend(batch.records);
            }
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
        position = reader.position();
    }
    assert!(records.is_sorted_by(|a, b| a.sequence_number < b.sequence_number));
    assert_eq!(texts(&suite.first_occurrences(records)), (0..9).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// At every step of a shard, from its first moment to its end, the position of a reader can be opened, and nothing is lost or
/// repeated there.
pub async fn the_position_of_a_reader_is_valid_at_every_step(suite: &Suite) {
    let client = suite.stream(2).await;
    let shards = suite.shards(&*client).await;
    let (shard, key, other_key) = (&shards[0].id, key_of(&shards[0]), key_of(&shards[1]));
    // The newest record of the stream is always the other shard's.
    let put = async |text: &str| {
        let entries = [entry(&key, text), entry(&other_key, format!("other {text}"))];
        suite.put(&*client, &entries).await.swap_remove(0)
    };
    let read = |position| suite.texts(&*client, shard, position);

    suite.put(&*client, &[entry(&other_key, "other")]).await;
    let unread = suite.latest(&*client, shard).await;
    let of_empty_shard = [
        unread,
        position_after_an_empty_page(suite, &*client, shard, unread).await,
        position_after_an_empty_page(suite, &*client, shard, Position::TrimHorizon).await,
    ];
    let first = put("0").await;
    for position in of_empty_shard {
        assert_eq!(read(position).await, ["0"], "{position:?}");
    }
    let unread = suite.latest(&*client, shard).await;
    let of_latest = [unread, position_after_an_empty_page(suite, &*client, shard, unread).await];
    tokio::time::sleep(Duration::from_millis(20)).await;
    put("1").await;
    for position in of_latest {
        assert_eq!(read(position).await, ["1"], "{position:?}");
    }

    let second_arrival = suite.read(&*client, shard, Position::TrimHorizon).await.0[1].arrival;
    for (position, expected) in [
        (Position::TrimHorizon, &["0", "1"][..]),
        (Position::At(first.sequence_number), &["0", "1"]),
        (Position::after(first.sequence_number), &["1"]),
        (Position::AtTime(second_arrival - Duration::from_secs(60)), &["0", "1"]),
        (Position::AtTime(second_arrival), &["1"]),
    ] {
        let reader = retrying(|| client.open_shard(shard, position)).await.expect("open");
        assert_eq!(read(reader.position()).await, expected, "{position:?}");
    }

    let mut position = Position::TrimHorizon;
    let mut records = Vec::new();
    while let Some(batch) = page(&*client, shard, &mut position, 1).await {
        let is_last = batch.records.is_empty() && batch.is_caught_up();
        records.extend(batch.records);
        let rest = suite.read_with_duplicates(&*client, shard, position, 7).await.0;
        let all = suite.first_occurrences([records.clone(), rest].concat());
        assert_eq!(texts(&all), ["0", "1"], "{position:?}");
        if is_last {
            break;
        }
    }
    let latest = suite.latest(&*client, shard).await;
    suite.admin().split(STREAM, shard, HashKey(1 << 126)).await.expect("split");
    while page(&*client, shard, &mut position, 1).await.is_some() {}
    for position in [position, latest, suite.latest(&*client, shard).await] {
        assert_eq!(suite.read(&*client, shard, position).await, (vec![], true), "{position:?}");
    }
}

/// The sequence number of another shard's record, and one that no record has yet, are errors.
pub async fn a_position_of_another_shard_or_ahead_of_the_end_is_refused(suite: &Suite) {
    let client = suite.stream(2).await;
    let shards = suite.shards(&*client).await;
    let mut receipts = Vec::new();
    for number in 0..2 {
        for shard in &shards {
            let key = key_of(shard);
            receipts.extend(suite.put(&*client, &[entry(&key, format!("{key} {number}"))]).await);
        }
    }
    let [first, second, .., last_of_first, last_of_second] = &receipts[..] else { panic!("four receipts") };
    for (shard, of_another) in [(&shards[0].id, [second, last_of_second]), (&shards[1].id, [first, last_of_first])] {
        for receipt in of_another {
            assert_refused(&*client, shard, receipt.sequence_number).await;
        }
    }
    let larger_than_any = "9".repeat(77).parse().expect("a number");
    for last in [last_of_first, last_of_second] {
        for number in [successor(last.sequence_number), u64::MAX.into(), larger_than_any] {
            assert_refused(&*client, &last.shard_id, number).await;
        }
    }

    suite.admin().split(STREAM, &shards[0].id, HashKey(1 << 126)).await.expect("split");
    for child in suite.shards(&*client).await.iter().filter(|shard| shard.parents().next().is_some()) {
        assert_refused(&*client, &child.id, first.sequence_number).await;
    }
    // The parent's own positions are still valid.
    assert_eq!(suite.texts(&*client, &shards[0].id, Position::At(last_of_first.sequence_number)).await.len(), 1);
    assert_eq!(suite.texts(&*client, &shards[0].id, Position::after(first.sequence_number)).await.len(), 1);
}

async fn assert_refused(client: &dyn StreamClient, shard: &ShardId, number: SequenceNumber) {
    for position in [Position::At(number), Position::after(number)] {
        match refusal(client, shard, position).await {
            Error::InvalidPosition { shard: refused, position, .. } => {
                assert_eq!((&refused, position), (shard, number.to_string()));
            }
            other => panic!("{shard}, {position:?}: {other:?}"),
        }
    }
}

/// The error of reading from a position, which a backend may report at the first fetch.
async fn refusal(client: &dyn StreamClient, shard: &ShardId, mut position: Position) -> Error {
    loop {
        match try_page(client, shard, &mut position, 7).await {
            Err(error) => return error,
            Ok(Some(batch)) if batch.records.is_empty() && !batch.is_caught_up() => {}
            Ok(page) => panic!("{shard} was read from {position:?}: {page:?}"),
        }
    }
}

/// The position of a reader that has found no record.
async fn position_after_an_empty_page(
    suite: &Suite,
    client: &dyn StreamClient,
    shard: &ShardId,
    mut position: Position,
) -> Position {
    while !page(client, shard, &mut position, 7).await.expect("an open shard does not end").is_caught_up() {}
    tokio::time::sleep(suite.clock_grain).await;
    position
}

/// Fetches a page from a position with a reader of its own, and moves the position to that of the reader.
async fn page(
    client: &dyn StreamClient,
    shard: &ShardId,
    position: &mut Position,
    max_records: usize,
) -> Option<Batch> {
    try_page(client, shard, position, max_records).await.expect("a valid position")
}

/// Fetches a page as [`page`] does, or returns the error that is not of a fault.
async fn try_page(
    client: &dyn StreamClient,
    shard: &ShardId,
    position: &mut Position,
    max_records: usize,
) -> Result<Option<Batch>> {
    retrying(|| async {
        let mut reader = client.open_shard(shard, *position).await?;
        let page = reader.next_batch(max_records).await?;
        Ok((page, reader.position()))
    })
    .await
    .map(|(page, after)| {
        *position = after;
        page
    })
}

/// A partition key whose records are written to this shard.
pub(super) fn key_of(shard: &Shard) -> String {
    let is_written = |key: &String| shard.hash_key_range.contains(entry(key, "").hash_key());
    (0..).map(|number| format!("key-{number}")).find(is_written).expect("a key")
}

fn successor(number: SequenceNumber) -> SequenceNumber {
    let mut digits = format!("0{number}").into_bytes();
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            break;
        }
        *digit = b'0';
    }
    String::from_utf8(digits).expect("digits").trim_start_matches('0').parse().expect("a number")
}
