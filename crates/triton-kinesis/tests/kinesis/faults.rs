//! Each fault of the server or the connection, and its effect on a call, a producer and a reader.
//! The table in docs/reliability.md follows this file.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use triton_core::{
    Error, ErrorKind, Position, Producer, ProducerOptions, Reader, ReaderOptions, RetryPolicy, Start, StreamAdmin as _,
    StreamClient,
};
use triton_test_server::{Fault, Operation, ServerOptions};

use crate::fixture::{
    Fixture, PATIENCE, connect, entry, eventually, is_silent, next, numbered, only_shard, put, read_from, texts,
};

/// A fault of PutRecords: the error of the call, and whether it was applied.
struct Put {
    fault: Fault,
    kind: ErrorKind,
    may_have_written: bool,
    was_written: bool,
}

const fn lost_put(fault: Fault, was_written: bool) -> Put {
    Put { fault, kind: ErrorKind::Unavailable, may_have_written: true, was_written }
}

const PUTS_THAT_MAY_SUCCEED_LATER: [Put; 13] = [
    Put { fault: Fault::ThrottleCall, kind: ErrorKind::Throttled, may_have_written: false, was_written: false },
    Put { fault: Fault::ResourceInUse, kind: ErrorKind::Unavailable, may_have_written: false, was_written: false },
    Put { fault: Fault::LimitExceeded, kind: ErrorKind::Throttled, may_have_written: false, was_written: false },
    lost_put(Fault::InternalErrorBefore, false),
    lost_put(Fault::InternalErrorAfter, true),
    lost_put(Fault::UnavailableBefore, false),
    lost_put(Fault::SilenceBefore, false),
    lost_put(Fault::SilenceAfter, true),
    lost_put(Fault::ResetBefore, false),
    lost_put(Fault::ResetAfter, true),
    lost_put(Fault::TruncatedAfter, true),
    lost_put(Fault::EmptyAfter, true),
    lost_put(Fault::GarbageAfter, true),
];

const CALLS_THAT_ARE_REFUSED: [(Fault, ErrorKind); 5] = [
    (Fault::AccessDenied, ErrorKind::AccessDenied),
    (Fault::KmsDisabled, ErrorKind::EncryptionKey),
    (Fault::ExpiredCredentials, ErrorKind::Credentials),
    (Fault::InvalidSignature, ErrorKind::Credentials),
    (Fault::NotFound, ErrorKind::NotFound),
];

fn producer(client: &Arc<dyn StreamClient>) -> Producer {
    let retry = RetryPolicy::default().with_first(Duration::from_millis(5));
    Producer::new(Arc::clone(client), ProducerOptions::default().with_seed(1).with_retry(retry))
}

async fn stored(client: &dyn StreamClient) -> Vec<String> {
    read_from(client, &only_shard(client).await, Position::TrimHorizon).await.expect("read")
}

#[tokio::test]
async fn a_retryable_put_error_says_whether_records_may_have_been_written() {
    for case in PUTS_THAT_MAY_SUCCEED_LATER {
        let fixture = Fixture::new().await;
        let client = fixture.stream(1).await;
        let caller = fixture.kinesis_for(case.fault).open("clicks").await.expect("open");
        fixture.server.faults().inject(Operation::PutRecords, case.fault, 1);
        let error = caller.put_batch(numbered(3).into()).await.expect_err("the fault is injected");
        assert_eq!(error.kind(), case.kind, "{:?}: {error:?}", case.fault);
        assert!(error.is_retryable(), "{:?}: {error:?}", case.fault);
        assert_eq!(error.may_have_written(), case.may_have_written, "{:?}: {error:?}", case.fault);
        // One attempt, not the SDK's three.
        fixture.was_injected(case.fault, 1).await;
        let is_as_said = async || stored(&*client).await.is_empty() != case.was_written;
        eventually(&format!("{:?}: written or not", case.fault), is_as_said).await;
    }
}

#[tokio::test]
async fn a_producer_duplicates_records_only_after_a_lost_response() {
    for case in PUTS_THAT_MAY_SUCCEED_LATER {
        let fixture = Fixture::new().await;
        let client = fixture.stream(1).await;
        let entries: Vec<_> =
            (0..20).map(|number| entry(&format!("key-{}", number % 10), &number.to_string())).collect();
        let caller = fixture.kinesis_for(case.fault).open("clicks").await.expect("open");
        fixture.server.faults().inject(Operation::PutRecords, case.fault, 2);
        let outcomes = producer(&caller).put_all(entries).await;
        assert!(outcomes.iter().all(Result::is_ok), "{:?}: {outcomes:?}", case.fault);
        let stored = stored(&*client).await;
        let mut seen = BTreeSet::new();
        let firsts: Vec<u64> =
            stored.iter().filter(|text| seen.insert(*text)).map(|text| text.parse().expect("a number")).collect();
        assert_eq!(firsts.len(), 20, "{:?}: every record is there", case.fault);
        for key in 0..10 {
            let of_key: Vec<&u64> = firsts.iter().filter(|number| *number % 10 == key).collect();
            assert!(of_key.is_sorted(), "{:?}: first occurrences are in order: {stored:?}", case.fault);
        }
        // A timeout on a busy machine duplicates records too.
        let may_be_twice = case.was_written || is_silent(case.fault);
        assert!(stored.len() == 20 || may_be_twice, "{:?}: {stored:?}", case.fault);
        assert!(stored.len() > 20 || !case.was_written, "{:?}: {stored:?}", case.fault);
    }
}

#[tokio::test]
async fn a_rejected_call_is_not_retried() {
    for (fault, kind) in CALLS_THAT_ARE_REFUSED {
        let fixture = Fixture::new().await;
        let client = fixture.stream(1).await;
        let shard = only_shard(&*client).await;
        fixture.server.faults().inject(Operation::PutRecords, fault, 9);
        let outcomes = producer(&client).put_all(numbered(2)).await;
        for outcome in outcomes {
            let error = outcome.expect_err("refused");
            assert_eq!(error.kind(), kind, "{fault:?}: {error:?}");
            assert!(!error.is_retryable() && !error.may_have_written(), "{fault:?}: {error:?}");
        }
        assert_eq!(fixture.server.faults().injected(fault), 1, "{fault:?}");

        let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
        fixture.server.faults().clear();
        fixture.server.faults().inject(Operation::GetRecords, fault, 1);
        let error = reader.next_batch(10).await.expect_err("refused");
        assert_eq!(error.kind(), kind, "{fault:?}: {error:?}");
        assert!(reader.next_batch(10).await.is_ok(), "{fault:?}: the reader stands where it stood");
    }
}

#[tokio::test]
async fn failed_entries_are_reported_by_position_and_retried_alone() {
    for (fault, kind, may_have_written) in
        [(Fault::ThrottleEntries, ErrorKind::Throttled, false), (Fault::FailEntries, ErrorKind::Unavailable, true)]
    {
        let fixture = Fixture::new().await;
        let client = fixture.stream(1).await;
        fixture.server.faults().inject(Operation::PutRecords, fault, 1);
        let results = client.put_batch(numbered(10).into()).await.expect("an answer");
        let failed: Vec<usize> = (0..10).filter(|index| results[*index].is_err()).collect();
        assert_eq!(failed.len(), 5, "{fault:?}: {results:?}");
        for index in &failed {
            let error = results[*index].as_ref().expect_err("failed");
            assert_eq!((error.kind(), error.may_have_written()), (kind, may_have_written), "{error:?}");
        }
        let mut stored_now = stored(&*client).await;
        stored_now.sort();
        let taken: Vec<String> =
            (0..10).filter(|index| !failed.contains(index)).map(|index| index.to_string()).collect();
        assert_eq!(stored_now, taken, "{fault:?}: what was acknowledged is what is there");

        let fixture = Fixture::new().await;
        let client = fixture.stream(1).await;
        fixture.server.faults().inject(Operation::PutRecords, fault, 3);
        let outcomes = producer(&client).put_all(numbered(10)).await;
        assert!(outcomes.iter().all(Result::is_ok), "{fault:?}");
        assert_eq!(stored(&*client).await.len(), 10, "{fault:?}: none twice");
    }
}

#[tokio::test]
async fn results_match_their_entries_in_any_storage_order() {
    let fixture = Fixture::new().await;
    let client = fixture.stream(1).await;
    fixture.server.faults().inject(Operation::PutRecords, Fault::ReorderEntries, 1);
    let results = client.put_batch(numbered(5).into()).await.expect("an answer");
    let shard = only_shard(&*client).await;
    for (index, result) in results.into_iter().enumerate() {
        let receipt = result.expect("taken");
        let from = Position::At(receipt.sequence_number);
        let mut reader = client.open_shard(&shard, from).await.expect("open");
        let batch = reader.next_batch(1).await.expect("fetch").expect("an open shard");
        assert_eq!(texts(&batch.records), [index.to_string()]);
    }
}

#[tokio::test]
async fn a_missing_result_is_a_contract_violation_for_the_whole_call() {
    let fixture = Fixture::new().await;
    let client = fixture.stream(1).await;
    fixture.server.faults().inject(Operation::PutRecords, Fault::DropResult, 1);
    let error = client.put_batch(numbered(3).into()).await.expect_err("two results for three records");
    assert_eq!(error.to_string(), "Kinesis broke its contract: PutRecords gave 2 results for 3 records");
    assert!(error.may_have_written());
}

#[tokio::test]
async fn a_slow_response_succeeds() {
    let fixture = Fixture::new().await;
    let client = fixture.stream(1).await;
    fixture.server.faults().inject(Operation::Any, Fault::SlowAfter, 2);
    assert!(client.put_batch(numbered(3).into()).await.expect("an answer").iter().all(Result::is_ok));
    assert_eq!(stored(&*client).await.len(), 3);
}

const FETCHES_THAT_MAY_SUCCEED_LATER: [(Fault, ErrorKind); 10] = [
    (Fault::ThrottleCall, ErrorKind::Throttled),
    (Fault::InternalErrorBefore, ErrorKind::Unavailable),
    (Fault::InternalErrorAfter, ErrorKind::Unavailable),
    (Fault::UnavailableBefore, ErrorKind::Unavailable),
    (Fault::SilenceBefore, ErrorKind::Unavailable),
    (Fault::ResetBefore, ErrorKind::Unavailable),
    (Fault::ResetAfter, ErrorKind::Unavailable),
    (Fault::TruncatedAfter, ErrorKind::Unavailable),
    (Fault::EmptyAfter, ErrorKind::Unavailable),
    (Fault::GarbageAfter, ErrorKind::Unavailable),
];

#[tokio::test]
async fn a_failed_fetch_loses_nothing_and_is_not_retried_by_the_client() {
    for (fault, kind) in FETCHES_THAT_MAY_SUCCEED_LATER {
        let fixture = Fixture::new().await;
        let client = fixture.stream(1).await;
        put(&*client, &["0", "1", "2"]).await;
        let shard = only_shard(&*client).await;
        let caller = fixture.kinesis_for(fault).open("clicks").await.expect("open");
        let mut reader = caller.open_shard(&shard, Position::TrimHorizon).await.expect("open");
        assert_eq!(texts(&next(&mut *reader, 1).await.records), ["0"]);
        fixture.server.faults().inject(Operation::GetRecords, fault, 1);
        let error = reader.next_batch(1).await.expect_err("the fault is injected");
        assert_eq!(error.kind(), kind, "{fault:?}: {error:?}");
        assert!(error.is_retryable() && !error.may_have_written(), "{fault:?}: {error:?}");
        assert_eq!(texts(&next(&mut *reader, 10).await.records), ["1", "2"], "{fault:?}");
    }
}

#[tokio::test]
async fn empty_pages_mean_neither_the_end_nor_caught_up() {
    let fixture = Fixture::new().await;
    let client = fixture.stream(1).await;
    put(&*client, &["0", "1"]).await;
    let shard = only_shard(&*client).await;
    fixture.server.faults().inject(Operation::GetRecords, Fault::EmptyPage, 3);
    let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
    for _ in 0..3 {
        let page = reader.next_batch(10).await.expect("fetch").expect("no end");
        assert!(page.records.is_empty() && page.behind > Some(Duration::ZERO) && !page.is_caught_up());
    }
    assert_eq!(texts(&reader.next_batch(10).await.expect("fetch").expect("no end").records), ["0", "1"]);
}

#[tokio::test]
async fn a_reader_hides_throttling_and_the_read_quota() {
    let fixture = Fixture::new().await;
    let client = fixture.stream(2).await;
    assert!(producer(&client).put_all(numbered(60)).await.iter().all(Result::is_ok));
    fixture.server.faults().set_read_quota(true);
    fixture.server.faults().inject(Operation::GetRecords, Fault::ThrottleCall, 4);
    // Pages small enough to exceed the read quota.
    let options = ReaderOptions::default().with_max_records(3).with_until_caught_up(true).with_seed(1);
    let mut reader = Reader::start(client, Start::All, options).await.expect("start");
    let mut read = BTreeSet::new();
    while let Some(record) = reader.next().await {
        assert!(read.insert(record.expect("no error is told").data), "none twice");
    }
    assert_eq!(read.len(), 60);
}

#[tokio::test]
async fn without_permission_to_ask_for_limits_the_defaults_apply() {
    for fault in [Fault::AccessDenied, Fault::LimitExceeded] {
        let fixture = Fixture::new().await;
        drop(fixture.stream(1).await);
        let client = fixture.kinesis.stream("clicks").expect("a client");
        fixture.server.faults().inject(Operation::DescribeStreamSummary, fault, 100);
        assert!(client.put_batch(numbered(2).into()).await.expect("an answer").iter().all(Result::is_ok), "{fault:?}");
        let asked = fixture.server.faults().requests(Operation::DescribeStreamSummary);
        assert!(client.put_batch(numbered(2).into()).await.expect("an answer").iter().all(Result::is_ok), "{fault:?}");
        assert_eq!(fixture.server.faults().requests(Operation::DescribeStreamSummary), asked, "{fault:?}: asked once");
        assert_eq!(client.limits().await.expect("limits"), triton_core::Limits::KINESIS);
        assert_eq!(stored(&client).await.len(), 4, "{fault:?}");
    }
}

#[tokio::test]
async fn a_listing_starts_over_when_its_token_expires() {
    let fixture = Fixture::new().await;
    let client = fixture.stream(7).await;
    fixture.server.faults().set_page(2);
    let before = fixture.server.faults().requests(Operation::ListShards);
    assert_eq!(client.shards().await.expect("shards").len(), 7);
    assert_eq!(fixture.server.faults().requests(Operation::ListShards) - before, 4, "four pages of two");

    fixture.server.faults().inject(Operation::ListShards, Fault::ExpiredToken, 2);
    let shards = client.shards().await.expect("shards");
    assert_eq!(fixture.server.faults().injected(Fault::ExpiredToken), 2);
    assert_eq!(shards.len(), 7, "none twice, none missing");
    fixture.server.faults().inject(Operation::ListShards, Fault::ExpiredToken, 99);
    let error = client.shards().await.expect_err("never ends");
    assert!(error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn ten_thousand_shards_are_listed_in_order() {
    let fixture = Fixture::with(ServerOptions::default().with_shard_limit(20_000)).await;
    let client = fixture.stream(10_000).await;
    let shards = client.shards().await.expect("shards");
    assert_eq!(shards.len(), 10_000);
    assert!(shards.is_sorted_by(|a, b| a.id < b.id));
    assert_eq!(shards[9_999].id.number(), Some(9_999));
}

#[tokio::test]
async fn a_deleted_stream_is_not_found() {
    let fixture = Fixture::new().await;
    let client = fixture.stream(1).await;
    let shard = only_shard(&*client).await;
    let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
    fixture.kinesis.delete("clicks").await.expect("delete");
    for error in [
        reader.next_batch(1).await.expect_err("gone"),
        client.put_batch(numbered(1).into()).await.expect_err("gone"),
        client.shards().await.expect_err("gone"),
        client.open_shard(&shard, Position::Latest).await.expect_err("gone"),
    ] {
        assert!(matches!(error, Error::StreamNotFound { .. }), "{error:?}");
    }
    let error = client.shards().await.expect_err("gone");
    assert!(error.to_string().starts_with("stream 'clicks' not found in us-east-1"), "{error}");
}

#[tokio::test]
async fn an_unreachable_server_has_written_nothing() {
    // Below 1024: never assigned to a test that binds port 0.
    let kinesis = connect("http://127.0.0.1:9", PATIENCE).await;
    let client = kinesis.stream("clicks").expect("a name");
    let error = client.put_batch(numbered(1).into()).await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_retryable() && !error.may_have_written(), "{error:?}");
    assert!(error.to_string().contains("cannot be reached"), "{error}");
}

#[tokio::test]
async fn calls_other_than_put_and_fetch_are_retried_at_once() {
    let fixture = Fixture::new().await;
    let client = fixture.stream(1).await;
    let shard = only_shard(&*client).await;
    for operation in [Operation::ListShards, Operation::GetShardIterator, Operation::DescribeStreamSummary] {
        fixture.server.faults().inject(operation, Fault::InternalErrorBefore, 1);
    }
    assert_eq!(client.shards().await.expect("asked again").len(), 1);
    assert!(client.open_shard(&shard, Position::TrimHorizon).await.is_ok());
    assert!(fixture.kinesis.stream("clicks").expect("a name").describe().await.is_ok());
    assert_eq!(fixture.server.faults().injected(Fault::InternalErrorBefore), 3);
}

#[tokio::test]
async fn a_call_to_a_silent_server_times_out() {
    let fixture = Fixture::new().await;
    let shard = only_shard(&*fixture.stream(1).await).await;
    let client = fixture.impatient.open("clicks").await.expect("open");
    let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
    fixture.server.faults().inject(Operation::Any, Fault::SilenceBefore, 99);
    let error = reader.next_batch(1).await.expect_err("silence");
    assert!(error.to_string().ends_with("did not answer in time"), "{error}");
    // One attempt.
    fixture.was_injected(Fault::SilenceBefore, 1).await;
    let error = client.shards().await.expect_err("silence");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn every_stream_of_an_account_is_listed() {
    let fixture = Fixture::new().await;
    for number in 0..25 {
        let name = format!("stream-{number:02}");
        fixture.kinesis.create(&name, triton_core::CreateOptions::default()).await.expect("create");
    }
    let names = fixture.kinesis.list().await.expect("list");
    assert_eq!(names.len(), 25, "{names:?}");
    assert!(names.is_sorted());
}

#[tokio::test]
async fn a_reshard_to_the_same_count_evens_out_uneven_shards() {
    let fixture = Fixture::new().await;
    let client = fixture.stream(1).await;
    let shard = only_shard(&*client).await;
    fixture.kinesis.split("clicks", &shard, triton_core::HashKey(1 << 100)).await.expect("split");
    fixture.kinesis.reshard("clicks", 2).await.expect("reshard");
    let shards = client.shards().await.expect("shards");
    let mut starts: Vec<u128> =
        shards.iter().filter(|shard| shard.is_open()).map(|shard| shard.hash_key_range.first.0).collect();
    starts.sort_unstable();
    assert_eq!(starts, [0, 1 << 127]);
    let asked = fixture.server.faults().requests(Operation::Any);
    fixture.kinesis.reshard("clicks", 2).await.expect("nothing to do");
    assert!(fixture.server.faults().requests(Operation::Any) - asked <= 3, "a look, and no change");
}

#[tokio::test]
async fn a_stream_cannot_be_created_by_arn() {
    let fixture = Fixture::new().await;
    let arn = "arn:aws:kinesis:us-east-1:123456789012:stream/theirs";
    let made = fixture.kinesis.create(arn, triton_core::CreateOptions::default()).await;
    assert!(matches!(made, Err(Error::Invalid { .. })), "{made:?}");
    assert!(fixture.kinesis.list().await.expect("list").is_empty());
}
