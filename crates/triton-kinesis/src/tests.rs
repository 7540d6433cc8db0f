//! Tests of responses that no test server gives, with mocked SDK clients.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::ErrorMetadata;
use aws_sdk_kinesis::operation::describe_stream_summary::DescribeStreamSummaryOutput;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::operation::get_records::builders::GetRecordsOutputBuilder;
use aws_sdk_kinesis::operation::get_shard_iterator::GetShardIteratorOutput;
use aws_sdk_kinesis::operation::list_shards::ListShardsOutput;
use aws_sdk_kinesis::operation::put_records::{PutRecordsError, PutRecordsOutput};
use aws_sdk_kinesis::primitives::{Blob, DateTime};
use aws_sdk_kinesis::types::builders::StreamDescriptionSummaryBuilder;
use aws_sdk_kinesis::types::error::{KmsAccessDeniedException, KmsThrottlingException};
use aws_sdk_kinesis::types::{
    HashKeyRange, PutRecordsResultEntry, Record, RecordDistributionStrategy, SequenceNumberRange, Shard,
    ShardIteratorType, StreamDescriptionSummary, StreamMode, StreamModeDetails, StreamStatus,
};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use aws_smithy_types::body::SdkBody;
use triton_core::{Error, ErrorKind, PartitionKey, Position, PutEntry, ShardId, StreamClient as _};

use crate::connection::Kinesis;
use crate::stream::KinesisStream;

pub(crate) fn summary() -> StreamDescriptionSummaryBuilder {
    StreamDescriptionSummary::builder()
        .stream_name("clicks")
        .stream_arn("arn:aws:kinesis:us-east-1:123456789012:stream/clicks")
        .stream_status(StreamStatus::Active)
        .stream_creation_timestamp(DateTime::from_secs(1))
        .retention_period_hours(48)
        .set_enhanced_monitoring(Some(Vec::new()))
        .open_shard_count(1)
}

pub(crate) fn described(summary: StreamDescriptionSummaryBuilder) -> Rule {
    let summary = summary.build().expect("a summary");
    mock!(Client::describe_stream_summary)
        .then_output(move || DescribeStreamSummaryOutput::builder().stream_description_summary(summary.clone()).build())
}

pub(crate) fn stream(rules: &[&Rule]) -> KinesisStream {
    let client = mock_client!(aws_sdk_kinesis, RuleMode::MatchAny, rules);
    Kinesis::of_client(client).stream("clicks").expect("a name")
}

fn entry(bytes: usize) -> PutEntry {
    PutEntry::new(PartitionKey::new("k").expect("a key"), vec![b'x'; bytes])
}

fn acknowledged(number: &str) -> PutRecordsResultEntry {
    PutRecordsResultEntry::builder().shard_id("shardId-000000000000").sequence_number(number).build()
}

#[tokio::test]
async fn a_streams_own_record_limit_applies_and_is_read_once() {
    let described = described(summary().max_record_size_in_kib(3 * 1024));
    let put = mock!(Client::put_records)
        .then_output(|| PutRecordsOutput::builder().records(acknowledged("1")).build().expect("a response"));
    let stream = stream(&[&described, &put]);
    assert_eq!(stream.limits().await.expect("limits").max_record_bytes, 3 << 20);
    let receipt = stream.put_batch([entry((3 << 20) - 1)].into()).await.expect("sent").remove(0).expect("acknowledged");
    assert_eq!(receipt.sequence_number, 1.into());
    let error = stream.put_batch([entry(3 << 20)].into()).await.expect_err("too large");
    assert_eq!(error.to_string(), "record of 3.1 MiB is over the stream's limit of 3 MiB");
    assert_eq!((put.num_calls(), described.num_calls()), (1, 1), "a record that is too large is not sent");
}

#[tokio::test]
async fn a_stream_that_distributes_records_itself_is_read_without_keys() {
    let mode = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand).build().expect("a mode");
    let described =
        described(summary().record_distribution_strategy(RecordDistributionStrategy::Auto).stream_mode_details(mode));
    let opened = mock!(Client::get_shard_iterator)
        .then_output(|| GetShardIteratorOutput::builder().shard_iterator("iterator").build());
    let fetched = mock!(Client::get_records).then_output(|| {
        let record = Record::builder().sequence_number("7").data(Blob::new("hi")).build().expect("a record");
        GetRecordsOutput::builder()
            .records(record)
            .next_shard_iterator("next")
            .millis_behind_latest(0)
            .build()
            .expect("a page")
    });
    let stream = stream(&[&described, &opened, &fetched]);
    let summary = stream.describe().await.expect("a summary");
    assert!(summary.distributes_records && summary.is_on_demand);
    let mut reader = stream.open_shard(&ShardId::numbered(0), Position::TrimHorizon).await.expect("open");
    let batch = reader.next_batch(10).await.expect("fetch").expect("no end");
    assert_eq!(batch.records[0].partition_key.as_str(), "");
    assert_eq!(&batch.records[0].data[..], b"hi");
}

#[tokio::test]
async fn kms_errors_are_distinguished() {
    let described = described(summary());
    let refused = mock!(Client::put_records).then_error(|| {
        let cause =
            KmsAccessDeniedException::builder().meta(said("KMSAccessDeniedException", "no kms:Decrypt on key/1"));
        PutRecordsError::KmsAccessDeniedException(cause.build())
    });
    let error = stream(&[&described, &refused]).put_batch([entry(1)].into()).await.expect_err("refused");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::AccessDenied, false));
    assert!(error.to_string().contains("no kms:Decrypt"), "{error}");

    let throttled = mock!(Client::put_records).then_error(|| {
        PutRecordsError::KmsThrottlingException(
            KmsThrottlingException::builder().meta(code("KMSThrottlingException")).build(),
        )
    });
    let error = stream(&[&described, &throttled]).put_batch([entry(1)].into()).await.expect_err("refused");
    assert!(matches!(error, Error::Throttled { .. }), "{error:?}");
}

#[tokio::test]
async fn credentials_that_expire_between_calls_fail_the_later_call() {
    let described = described(summary());
    let put = mock!(Client::put_records)
        .sequence()
        .output(|| PutRecordsOutput::builder().records(acknowledged("1")).build().expect("a response"))
        .error(|| PutRecordsError::generic(code("ExpiredTokenException")))
        .build();
    let client = mock_client!(aws_sdk_kinesis, RuleMode::MatchAny, [&described, &put]);
    let stream = Kinesis::of_client(client).stream("clicks").expect("a name");
    assert!(stream.put_batch([entry(1)].into()).await.expect("sent")[0].is_ok());
    let error = stream.put_batch([entry(1)].into()).await.expect_err("refused");
    assert_eq!((error.kind(), error.is_retryable(), error.may_have_written()), (ErrorKind::Credentials, false, false));
    assert_eq!(
        error.to_string(),
        "Kinesis in us-east-1 does not take the AWS credentials found (environment, profile 'default', instance role)"
    );
}

#[tokio::test]
async fn an_entrys_own_code_decides_its_error() {
    let described = described(summary());
    let put = mock!(Client::put_records).then_output(|| {
        let failed = |code: &str| PutRecordsResultEntry::builder().error_code(code).error_message("words").build();
        let results = ["ProvisionedThroughputExceededException", "InternalFailure", "KMSDisabledException"];
        let results = results.into_iter().map(failed).chain([PutRecordsResultEntry::builder().build()]);
        PutRecordsOutput::builder().set_records(Some(results.collect())).build().expect("a response")
    });
    let results = stream(&[&described, &put]).put_batch(vec![entry(1); 4].into()).await.expect("a response");
    let kinds: Vec<_> = results.iter().map(|result| result.as_ref().expect_err("failed").kind()).collect();
    assert_eq!(kinds, [ErrorKind::Throttled, ErrorKind::Unavailable, ErrorKind::EncryptionKey, ErrorKind::Contract]);
}

pub(crate) fn page() -> GetRecordsOutputBuilder {
    GetRecordsOutput::builder().set_records(Some(Vec::new())).next_shard_iterator("next")
}

pub(crate) fn record(number: &str) -> Record {
    Record::builder().sequence_number(number).partition_key("k").data(Blob::new(number)).build().expect("a record")
}

pub(crate) fn opened() -> Rule {
    mock!(Client::get_shard_iterator)
        .then_output(|| GetShardIteratorOutput::builder().shard_iterator("iterator").build())
}

/// A list of one shard, with sequence numbers from 1.
pub(crate) fn listed() -> Rule {
    mock!(Client::list_shards).then_output(|| ListShardsOutput::builder().shards(shard("shardId-000000000000")).build())
}

pub(crate) fn shard(id: &str) -> Shard {
    let keys = HashKeyRange::builder().starting_hash_key("0").ending_hash_key("9").build().expect("a range");
    let numbers = SequenceNumberRange::builder().starting_sequence_number("1").build().expect("a range");
    Shard::builder().shard_id(id).hash_key_range(keys).sequence_number_range(numbers).build().expect("a shard")
}

#[tokio::test]
async fn a_position_with_only_empty_pages_is_past_retention() {
    // The trim horizon has a record. The position has only empty pages that are never the last.
    let at_trim_horizon = mock!(Client::get_shard_iterator)
        .match_requests(|request| request.shard_iterator_type() == Some(&ShardIteratorType::TrimHorizon))
        .then_output(|| GetShardIteratorOutput::builder().shard_iterator("oldest").build());
    let oldest = mock!(Client::get_records)
        .match_requests(|request| request.shard_iterator() == Some("oldest"))
        .then_output(|| page().records(record("70")).millis_behind_latest(5).build().expect("a page"));
    let empty = mock!(Client::get_records).then_output(|| page().millis_behind_latest(5).build().expect("a page"));
    let (opened, listed) = (opened(), listed());
    let stream = stream(&[&at_trim_horizon, &opened, &oldest, &empty, &listed]);
    let mut reader = stream.open_shard(&ShardId::numbered(0), Position::after(50)).await.expect("open");
    let mut fetches = 0;
    let error = loop {
        match reader.next_batch(10).await {
            Ok(page) => assert!(page.expect("no end").records.is_empty()),
            Err(error) => break error,
        }
        fetches += 1;
        assert!(fetches < 20, "it is never reported");
    };
    assert!(matches!(error, Error::PastRetention { .. }), "{error:?}");
}

#[tokio::test]
async fn an_old_record_is_not_a_loss() {
    let old = || record("10").clone();
    let fetched = mock!(Client::get_records)
        .sequence()
        .output(move || page().records(old()).millis_behind_latest(5).build().expect("a page"))
        .output(|| page().records(record("11")).millis_behind_latest(0).build().expect("a page"))
        .build();
    let opened = opened();
    let stream = stream(&[&opened, &fetched]);
    let mut reader = stream.open_shard(&ShardId::numbered(0), Position::TrimHorizon).await.expect("open");
    for number in [10, 11] {
        let batch = reader.next_batch(10).await.expect("nothing is lost").expect("no end");
        assert_eq!(batch.records[0].sequence_number, number.into());
    }
}

#[tokio::test]
async fn a_server_that_does_not_send_how_far_behind_pages_are_is_read_to_its_end() {
    let fetched = mock!(Client::get_records)
        .sequence()
        .output(|| page().build().expect("a page"))
        .output(|| page().records(record("1")).build().expect("a page"))
        .output(|| page().build().expect("a page"))
        .times(9)
        .build();
    let opened = opened();
    let stream = stream(&[&opened, &fetched]);
    let mut reader = stream.open_shard(&ShardId::numbered(0), Position::TrimHorizon).await.expect("open");
    let mut numbers = Vec::new();
    loop {
        let batch = reader.next_batch(10).await.expect("fetch").expect("no end");
        if batch.records.is_empty() && batch.is_caught_up() {
            break;
        }
        numbers.extend(batch.records.iter().map(|record| record.sequence_number));
    }
    assert_eq!(numbers, [1.into()]);
}

#[tokio::test]
async fn an_empty_page_without_times_does_not_move_the_position() {
    let fetched = mock!(Client::get_records).then_output(|| page().build().expect("a page"));
    let opened = opened();
    let stream = stream(&[&opened, &fetched]);
    let mut reader = stream.open_shard(&ShardId::numbered(0), Position::TrimHorizon).await.expect("open");
    for _ in 0..9 {
        reader.next_batch(10).await.expect("fetch");
        assert_eq!(reader.position(), Position::TrimHorizon);
    }
}

#[tokio::test]
async fn a_last_page_may_lack_how_far_behind_it_is() {
    let fetched = mock!(Client::get_records)
        .then_output(|| GetRecordsOutput::builder().records(record("1")).build().expect("a page"));
    let opened = opened();
    let stream = stream(&[&opened, &fetched]);
    let mut reader = stream.open_shard(&ShardId::numbered(0), Position::TrimHorizon).await.expect("open");
    assert_eq!(reader.next_batch(10).await.expect("fetch").expect("a record").records.len(), 1);
    assert_eq!(reader.next_batch(10).await.expect("fetch"), None);
}

#[tokio::test]
async fn shards_are_sorted_across_pages_and_a_repeated_page_token_is_an_error() {
    let pages = mock!(Client::list_shards)
        .sequence()
        .output(|| ListShardsOutput::builder().shards(shard("shardId-000000000002")).next_token("a").build())
        .output(|| ListShardsOutput::builder().shards(shard("shardId-000000000001")).build())
        .build();
    let ids: Vec<String> =
        stream(&[&pages]).shards().await.expect("shards").iter().map(|shard| shard.id.to_string()).collect();
    assert_eq!(ids, ["shardId-000000000001", "shardId-000000000002"]);

    let circle = mock!(Client::list_shards)
        .then_output(|| ListShardsOutput::builder().shards(shard("shardId-000000000000")).next_token("again").build());
    let error = stream(&[&circle]).shards().await.expect_err("no end");
    assert!(matches!(error, Error::Contract { .. }), "{error:?}");
}

#[tokio::test]
async fn another_accounts_stream_is_named_by_its_arn_in_every_request() {
    const ARN: &str = "arn:aws:kinesis:us-east-1:123456789012:stream/theirs";
    let opened = mock!(Client::get_shard_iterator)
        .match_requests(|request| request.stream_arn() == Some(ARN) && request.stream_name().is_none())
        .then_output(|| GetShardIteratorOutput::builder().shard_iterator("iterator").build());
    let fetched = mock!(Client::get_records)
        .match_requests(|request| request.stream_arn() == Some(ARN))
        .then_output(|| page().millis_behind_latest(0).build().expect("a page"));
    let put = mock!(Client::put_records)
        .match_requests(|request| request.stream_arn() == Some(ARN) && request.stream_name().is_none())
        .then_output(|| PutRecordsOutput::builder().records(acknowledged("1")).build().expect("a response"));
    let summary = summary().build().expect("a summary");
    let described =
        mock!(Client::describe_stream_summary).match_requests(|request| request.stream_arn() == Some(ARN)).then_output(
            move || DescribeStreamSummaryOutput::builder().stream_description_summary(summary.clone()).build(),
        );
    let listed = mock!(Client::list_shards)
        .match_requests(|request| request.stream_arn() == Some(ARN))
        .then_output(|| ListShardsOutput::builder().shards(shard("shardId-000000000000")).build());
    let client = mock_client!(aws_sdk_kinesis, RuleMode::MatchAny, [&opened, &fetched, &put, &described, &listed]);
    let stream = Kinesis::of_client(client).stream(ARN).expect("an ARN");
    let mut reader = stream.open_shard(&ShardId::numbered(0), Position::Latest).await.expect("open");
    assert!(reader.next_batch(1).await.expect("fetch").expect("no end").is_caught_up());
    assert!(stream.put_batch([entry(1)].into()).await.expect("sent")[0].is_ok());
    assert_eq!(stream.shards().await.expect("shards").len(), 1);
}

#[tokio::test]
async fn a_response_that_is_not_from_kinesis_is_mapped_by_its_status() {
    for (status, kind, may_have_written) in
        [(413, ErrorKind::Invalid, false), (429, ErrorKind::Throttled, false), (502, ErrorKind::Unavailable, true)]
    {
        let described = described(summary());
        let put = mock!(Client::put_records).then_http_response(move || {
            HttpResponse::new(status.try_into().expect("a status"), SdkBody::from("<html>a proxy</html>"))
        });
        let error = stream(&[&described, &put]).put_batch([entry(1)].into()).await.expect_err("refused");
        assert_eq!((error.kind(), error.may_have_written()), (kind, may_have_written), "{status}: {error:?}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
    // For an unknown code, the status decides.
    let described = described(summary());
    let put = mock!(Client::put_records).then_http_response(|| {
        let body = r#"{"__type": "MysteryException", "message": "hm"}"#;
        HttpResponse::new(500.try_into().expect("a status"), SdkBody::from(body))
    });
    let error = stream(&[&described, &put]).put_batch([entry(1)].into()).await.expect_err("refused");
    assert!(error.is_retryable() && error.may_have_written(), "{error:?}");
}

#[tokio::test]
async fn a_malformed_receipt_may_have_written() {
    let described = described(summary());
    let put = mock!(Client::put_records)
        .then_output(|| PutRecordsOutput::builder().records(acknowledged("0x7")).build().expect("a response"));
    let error = stream(&[&described, &put])
        .put_batch([entry(1)].into())
        .await
        .expect("a response")
        .remove(0)
        .expect_err("unread");
    assert!(matches!(error, Error::Contract { .. }) && error.may_have_written(), "{error:?}");
}

fn code(code: &str) -> ErrorMetadata {
    said(code, "words")
}

fn said(code: &str, message: &str) -> ErrorMetadata {
    ErrorMetadata::builder().code(code).message(message).build()
}
