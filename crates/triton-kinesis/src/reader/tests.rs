//! Tests of responses that no test server gives: what a reader makes of times, lists and continuations.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::ErrorMetadata;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::operation::get_records::builders::GetRecordsOutputBuilder;
use aws_sdk_kinesis::operation::get_shard_iterator::GetShardIteratorError;
use aws_sdk_kinesis::operation::list_shards::ListShardsOutput;
use aws_sdk_kinesis::types::{
    ChildShard as SdkChild, HashKeyRange as SdkRange, SequenceNumberRange, Shard as SdkShard, ShardIteratorType,
};
use aws_smithy_mocks::{Rule, mock};
use triton_core::{HashKey, HashKeyRange, StreamClient as _};

use super::source::NextPage;
use super::*;
use crate::tests::{described, opened, page, record, shard, stream, summary};

fn id() -> ShardId {
    ShardId::numbered(0)
}

/// Returns each output once, and the last one ever after.
fn in_turn<T: Clone>(outputs: Vec<T>) -> impl Fn() -> T {
    let next = AtomicUsize::new(0);
    move || outputs[next.fetch_add(1, Ordering::Relaxed).min(outputs.len() - 1)].clone()
}

fn pages(pages: impl IntoIterator<Item = GetRecordsOutputBuilder>) -> Rule {
    let pages: Vec<GetRecordsOutput> = pages.into_iter().map(|page| page.build().expect("a page")).collect();
    mock!(Client::get_records).then_output(in_turn(pages))
}

fn lists(lists: impl IntoIterator<Item = SdkShard>) -> Rule {
    let lists: Vec<_> = lists.into_iter().map(|shard| ListShardsOutput::builder().shards(shard).build()).collect();
    mock!(Client::list_shards).then_output(in_turn(lists))
}

/// The shard, closed at 100.
fn closed() -> SdkShard {
    let numbers = SequenceNumberRange::builder().starting_sequence_number("1").ending_sequence_number("100");
    let mut shard = shard("shardId-000000000000");
    shard.sequence_number_range = Some(numbers.build().expect("a range"));
    shard
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

async fn batch(reader: &mut dyn ShardReader, max_records: usize) -> Batch {
    reader.next_batch(max_records).await.expect("fetch").expect("no end")
}

const HOUR: Duration = Duration::from_secs(60 * 60);

#[tokio::test]
async fn a_batch_is_as_far_behind_as_the_server_says() {
    let opened = opened();
    let fetched = pages([
        page().records(record("1")),
        page().records(record("2")).millis_behind_latest(7),
        page().millis_behind_latest(5),
        page().records(record("3")).records(record("4")).millis_behind_latest(0),
        page().millis_behind_latest(0),
    ]);
    let mut reader = stream(&[&opened, &fetched]).open_shard(&id(), Position::TrimHorizon).await.expect("open");
    let millis = Duration::from_millis;
    for (records, behind) in [(1, None), (1, Some(millis(7))), (0, Some(millis(5))), (1, Some(millis(1)))] {
        let batch = batch(&mut *reader, 1).await;
        assert_eq!((batch.records.len(), batch.behind, batch.caught_up_at), (records, behind, None));
    }
    // The last records are there: nothing is newer.
    let last = batch(&mut *reader, 1).await;
    assert_eq!((last.records.len(), last.behind, last.is_caught_up()), (1, Some(Duration::ZERO), true));
    let caught_up_at = last.caught_up_at.expect("a time");
    // Without a date of the server, its clock is taken to be ten seconds behind.
    let server_time = now() - Duration::from_secs(10);
    assert!(caught_up_at <= server_time - MARGIN && caught_up_at > now() - HOUR, "{caught_up_at:?}");
    let after_last = Position::After { sequence_number: 4.into(), caught_up_at: Some(caught_up_at) };
    assert_eq!(reader.position(), after_last);
    tokio::time::sleep(millis(5)).await;
    assert!(batch(&mut *reader, 1).await.caught_up_at > Some(caught_up_at));
}

#[tokio::test]
async fn a_start_by_time_is_never_passed_backwards() {
    let (opened, fetched) = (opened(), pages([page().millis_behind_latest(0)]));
    let start = now() - Duration::from_secs(5);
    let mut reader = stream(&[&opened, &fetched]).open_shard(&id(), Position::AtTime(start)).await.expect("open");
    assert_eq!(batch(&mut *reader, 1).await.caught_up_at, Some(start));
    assert_eq!(reader.position(), Position::AtTime(start));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_readable_late_is_waited_for() {
    let opened = opened();
    let empty = || page().millis_behind_latest(0);
    let fetched = pages([empty(), empty(), page().records(record("5")).millis_behind_latest(0)]);
    let mut reader = stream(&[&opened, &fetched]).open_shard(&id(), Position::At(5.into())).await.expect("open");
    for _ in 0..2 {
        let batch = batch(&mut *reader, 10).await;
        assert_eq!((batch.records.len(), batch.behind, batch.caught_up_at), (0, None, None));
        tokio::time::sleep(READABLE_WITHIN / 3).await;
    }
    assert_eq!(batch(&mut *reader, 10).await.records.len(), 1);
}

/// A shard of which record 70 is the oldest that is left. Positions at numbers are refused.
fn trimmed() -> [Rule; 4] {
    let refused = mock!(Client::get_shard_iterator)
        .match_requests(|request| request.shard_iterator_type() == Some(&ShardIteratorType::AtSequenceNumber))
        .then_error(|| {
            let message = "StartingSequenceNumber 50 is invalid because it did not come from this stream.";
            let error = ErrorMetadata::builder().code("InvalidArgumentException").message(message);
            GetShardIteratorError::generic(error.build())
        });
    let fetched = mock!(Client::get_records)
        .then_output(|| page().records(record("70")).millis_behind_latest(0).build().expect("a page"));
    [refused, opened(), fetched, lists([shard("shardId-000000000000")])]
}

#[tokio::test]
async fn a_shard_that_was_idle_past_retention_has_lost_nothing() {
    // The stream keeps records for 48 hours.
    let described = described(summary());
    for (ago, is_lost) in [(1, false), (25, false), (47, false), (49, true)] {
        let [refused, opened, fetched, listed] = trimmed();
        let stream = stream(&[&refused, &opened, &fetched, &listed, &described]);
        let caught_up_at = now() - HOUR * ago;
        let position = Position::After { sequence_number: 50.into(), caught_up_at: Some(caught_up_at) };
        let opened = stream.open_shard(&id(), position).await;
        if is_lost {
            assert!(matches!(opened, Err(Error::PastRetention { .. })), "{ago} h: {opened:?}");
        } else {
            let mut reader = opened.expect("nothing is lost");
            assert_eq!(reader.position(), position);
            assert_eq!(batch(&mut *reader, 10).await.records.len(), 1);
        }
    }
    let [refused, opened, fetched, listed] = trimmed();
    let opened = stream(&[&refused, &opened, &fetched, &listed]).open_shard(&id(), Position::after(50)).await;
    assert!(matches!(opened, Err(Error::PastRetention { .. })), "no time: {opened:?}");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_lacks_the_shard_is_read_again() {
    let [refused, opened, fetched, _] = trimmed();
    let (other, this) = (shard("shardId-000000000007"), shard("shardId-000000000000"));
    let listed = lists([other.clone(), other.clone(), this]);
    let outcome = stream(&[&refused, &opened, &fetched, &listed]).open_shard(&id(), Position::after(50)).await;
    assert!(matches!(outcome, Err(Error::PastRetention { .. })), "{outcome:?}");

    let listed = lists([other]);
    let error = stream(&[&refused, &opened, &fetched, &listed])
        .open_shard(&id(), Position::after(50))
        .await
        .expect_err("it is not decided");
    assert_eq!(error.to_string(), "shardId-000000000000 can be read, but the shard list of stream 'clicks' lacks it");
    assert!(error.is_retryable() && !error.may_have_written());
}

#[tokio::test]
async fn children_are_named_if_all_of_them_are_complete() {
    let keys =
        |first, last| SdkRange::builder().starting_hash_key(first).ending_hash_key(last).build().expect("a range");
    let child = |id| SdkChild::builder().shard_id(id).parent_shards("shardId-000000000000");
    let first = child("shardId-000000000001").hash_key_range(keys("0", "4")).build().expect("a child");
    let second = child("shardId-000000000002").hash_key_range(keys("5", "9")).build().expect("a child");
    let (mut rangeless, mut malformed, mut orphaned) = (second.clone(), second.clone(), second.clone());
    rangeless.hash_key_range = None;
    malformed.hash_key_range = Some(keys("5", "x"));
    orphaned.parent_shards.clear();
    for (second, count) in [(second.clone(), 2), (rangeless, 0), (malformed, 0), (orphaned, 0)] {
        let last = GetRecordsOutput::builder().set_records(Some(Vec::new())).millis_behind_latest(0);
        let (opened, fetched) = (opened(), pages([last.child_shards(first.clone()).child_shards(second)]));
        let mut reader = stream(&[&opened, &fetched]).open_shard(&id(), Position::TrimHorizon).await.expect("open");
        assert_eq!(reader.next_batch(10).await.expect("fetch"), None);
        assert_eq!(reader.children().len(), count);
    }
    let expected = ChildShard {
        id: ShardId::numbered(2),
        parents: vec![id()],
        hash_key_range: HashKeyRange { first: HashKey(5), last: HashKey(9) },
    };
    assert_eq!(crate::shard_list::to_children(&[second]), [expected]);
}

/// A source that sends no page.
#[derive(Debug)]
struct Silent {
    continuation: u64,
    starts: usize,
}

#[async_trait]
impl PageSource for Silent {
    fn start(&mut self, _: Position) {
        self.starts += 1;
    }

    fn resume(&mut self, _: &ShardRequests) -> bool {
        false
    }

    fn continuation(&self) -> Option<SequenceNumber> {
        Some(self.continuation.into())
    }

    async fn is_ready(&mut self, _: &ShardRequests, _: Instant) -> Result<bool> {
        Ok(true)
    }

    async fn next(&mut self, _: &ShardRequests, _: usize, _: Instant) -> Result<NextPage> {
        Ok(NextPage::Pending)
    }
}

async fn silent(continuation: u64, rules: &[&Rule]) -> KinesisReader<Silent> {
    let source = Silent { continuation, starts: 0 };
    let mut reader = KinesisReader::open(stream(rules), id(), Position::TrimHorizon, source).await.expect("open");
    let batch = batch(&mut reader, 1).await;
    assert_eq!((batch.records.len(), batch.behind, batch.caught_up_at), (0, None, None), "nothing is known");
    reader
}

#[tokio::test]
async fn a_continuation_past_the_end_of_the_shard_is_its_end() {
    let listed = lists([shard("shardId-000000000000"), closed()]);
    let mut reader = silent(100, &[&listed]).await;
    assert!(!reader.is_drained().await.expect("an open shard"));
    assert!(reader.is_drained().await.expect("no other request is sent"));
    assert_eq!(reader.next_batch(1).await.expect("no fetch"), None);
}

#[tokio::test(start_paused = true)]
async fn a_closed_shard_is_drained_if_nothing_is_found_twice() {
    let (listed, opened) = (lists([closed()]), opened());
    let fetched = pages([page().millis_behind_latest(9), page().millis_behind_latest(0)]);
    let mut reader = silent(99, &[&listed, &opened, &fetched]).await;
    assert!(reader.is_drained().await.expect("known"));
    assert_eq!(fetched.num_calls(), 3);

    // A record may be readable later than the end is listed.
    let fetched = pages([page().millis_behind_latest(0), page().records(record("99")).millis_behind_latest(0)]);
    let mut reader = silent(99, &[&listed, &opened, &fetched]).await;
    assert!(!reader.is_drained().await.expect("known"));
    assert_eq!(reader.source.starts, 2, "the source is started again for it");
}

#[tokio::test(start_paused = true)]
async fn pages_that_stay_empty_and_behind_do_not_drain_a_shard() {
    let (listed, opened, fetched) = (lists([closed()]), opened(), pages([page().millis_behind_latest(9)]));
    let mut reader = silent(99, &[&listed, &opened, &fetched]).await;
    assert!(!reader.is_drained().await.expect("not known"));
}
