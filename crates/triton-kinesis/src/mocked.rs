//! Tests of what no test server shows, over SDK clients that answer as they are told.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::ErrorMetadata;
use aws_sdk_kinesis::operation::describe_stream_summary::DescribeStreamSummaryOutput;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::operation::get_shard_iterator::GetShardIteratorOutput;
use aws_sdk_kinesis::operation::put_records::{PutRecordsError, PutRecordsOutput};
use aws_sdk_kinesis::primitives::{Blob, DateTime};
use aws_sdk_kinesis::types::builders::StreamDescriptionSummaryBuilder;
use aws_sdk_kinesis::types::error::{KmsAccessDeniedException, KmsThrottlingException};
use aws_sdk_kinesis::types::{
    PutRecordsResultEntry, Record, RecordDistributionStrategy, StreamDescriptionSummary, StreamMode, StreamModeDetails,
    StreamStatus,
};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use triton_core::{Error, ErrorKind, PartitionKey, Position, PutEntry, ShardId, StreamClient as _};

use crate::connect::Kinesis;
use crate::stream::KinesisStream;

fn summary() -> StreamDescriptionSummaryBuilder {
    StreamDescriptionSummary::builder()
        .stream_name("clicks")
        .stream_arn("arn:aws:kinesis:us-east-1:123456789012:stream/clicks")
        .stream_status(StreamStatus::Active)
        .stream_creation_timestamp(DateTime::from_secs(1))
        .retention_period_hours(48)
        .set_enhanced_monitoring(Some(Vec::new()))
        .open_shard_count(1)
}

fn described(summary: StreamDescriptionSummaryBuilder) -> Rule {
    let summary = summary.build().expect("a summary");
    mock!(Client::describe_stream_summary)
        .then_output(move || DescribeStreamSummaryOutput::builder().stream_description_summary(summary.clone()).build())
}

fn stream(rules: &[&Rule]) -> KinesisStream {
    let client = mock_client!(aws_sdk_kinesis, RuleMode::MatchAny, rules);
    Kinesis::of_client(client).stream("clicks").expect("a name")
}

fn entry(bytes: usize) -> PutEntry {
    PutEntry::new(PartitionKey::new("k").expect("a key"), vec![b'x'; bytes])
}

fn taken(number: &str) -> PutRecordsResultEntry {
    PutRecordsResultEntry::builder().shard_id("shardId-000000000000").sequence_number(number).build()
}

#[tokio::test]
async fn a_streams_own_record_cap_counts_and_is_asked_for_once() {
    let described = described(summary().max_record_size_in_kib(3 * 1024));
    let put = mock!(Client::put_records)
        .then_output(|| PutRecordsOutput::builder().records(taken("1")).build().expect("an answer"));
    let stream = stream(&[&described, &put]);
    assert_eq!(stream.limits().await.expect("limits").max_record_bytes, 3 << 20);
    let receipt = stream.put_batch(&[entry((3 << 20) - 1)]).await.expect("sent").remove(0).expect("taken");
    assert_eq!(receipt.sequence_number, 1.into());
    let error = stream.put_batch(&[entry(3 << 20)]).await.expect_err("too large");
    assert_eq!(error.to_string(), "record of 3.1 MiB is over the stream's limit of 3 MiB");
    assert_eq!((put.num_calls(), described.num_calls()), (1, 1), "what is too large is not sent");
}

#[tokio::test]
async fn a_stream_that_distributes_records_itself_is_recognised_and_read_without_keys() {
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
    let summary = stream.summary().await.expect("a summary");
    assert!(summary.distributes_records && summary.is_on_demand);
    let mut reader = stream.open_shard(&ShardId::numbered(0), Position::TrimHorizon).await.expect("open");
    let batch = reader.next_batch(10).await.expect("fetch").expect("no end");
    assert_eq!(batch.records[0].partition_key.as_str(), "");
    assert_eq!(&batch.records[0].data[..], b"hi");
}

#[tokio::test]
async fn kms_errors_are_told_apart() {
    let described = described(summary());
    let refused = mock!(Client::put_records).then_error(|| {
        let cause =
            KmsAccessDeniedException::builder().meta(said("KMSAccessDeniedException", "no kms:Decrypt on key/1"));
        PutRecordsError::KmsAccessDeniedException(cause.build())
    });
    let error = stream(&[&described, &refused]).put_batch(&[entry(1)]).await.expect_err("refused");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::AccessDenied, false));
    assert!(error.to_string().contains("no kms:Decrypt"), "{error}");

    let throttled = mock!(Client::put_records).then_error(|| {
        PutRecordsError::KmsThrottlingException(
            KmsThrottlingException::builder().meta(code("KMSThrottlingException")).build(),
        )
    });
    let error = stream(&[&described, &throttled]).put_batch(&[entry(1)]).await.expect_err("refused");
    assert!(matches!(error, Error::Throttled { .. }), "{error:?}");
}

#[tokio::test]
async fn credentials_that_expire_half_way_end_what_comes_after_and_say_so() {
    let described = described(summary());
    let put = mock!(Client::put_records)
        .sequence()
        .output(|| PutRecordsOutput::builder().records(taken("1")).build().expect("an answer"))
        .error(|| PutRecordsError::generic(code("ExpiredTokenException")))
        .build();
    let client = mock_client!(aws_sdk_kinesis, RuleMode::MatchAny, [&described, &put]);
    let stream = Kinesis::of_client(client).stream("clicks").expect("a name");
    assert!(stream.put_batch(&[entry(1)]).await.expect("sent")[0].is_ok());
    let error = stream.put_batch(&[entry(1)]).await.expect_err("refused");
    assert_eq!((error.kind(), error.is_retryable(), error.may_have_written()), (ErrorKind::Credentials, false, false));
    assert_eq!(
        error.to_string(),
        "Kinesis in us-east-1 does not take the AWS credentials found (environment, profile 'default', instance role)"
    );
}

#[tokio::test]
async fn an_entrys_own_code_decides_what_it_failed_of() {
    let described = described(summary());
    let put = mock!(Client::put_records).then_output(|| {
        let failed = |code: &str| PutRecordsResultEntry::builder().error_code(code).error_message("words").build();
        let results = ["ProvisionedThroughputExceededException", "InternalFailure", "KMSDisabledException"];
        let results = results.into_iter().map(failed).chain([PutRecordsResultEntry::builder().build()]);
        PutRecordsOutput::builder().set_records(Some(results.collect())).build().expect("an answer")
    });
    let results = stream(&[&described, &put]).put_batch(&vec![entry(1); 4]).await.expect("an answer");
    let kinds: Vec<_> = results.iter().map(|result| result.as_ref().expect_err("failed").kind()).collect();
    assert_eq!(kinds, [ErrorKind::Throttled, ErrorKind::Unavailable, ErrorKind::EncryptionKey, ErrorKind::Contract]);
}

fn code(code: &str) -> ErrorMetadata {
    said(code, "words")
}

fn said(code: &str, message: &str) -> ErrorMetadata {
    ErrorMetadata::builder().code(code).message(message).build()
}
