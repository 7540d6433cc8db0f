//! Enhanced fan-out: the faults of a subscription and how the client handles them.

use std::sync::Arc;
use std::time::Duration;

use triton_core::{
    CreateOptions, Error, ErrorKind, HashKey, Position, ShardId, ShardReader, StreamAdmin, StreamClient,
};
use triton_kinesis::{Kinesis, KinesisStream};
use triton_test_server::{Fault, Operation, PastRetention, ServerOptions};

use crate::fixture::{Fixture, IMPATIENCE, PATIENCE, entry, only_shard, pushing, put, read, read_from, texts};

async fn stream(fixture: &Fixture) -> KinesisStream {
    fixture.kinesis.create("clicks", CreateOptions::default()).await.expect("create");
    fixture.kinesis.stream("clicks").expect("a name")
}

async fn pushed(fixture: &Fixture) -> (KinesisStream, ShardId) {
    pushed_over(fixture, &fixture.kinesis).await
}

/// The stream with fan-out, over this connection.
async fn pushed_over(fixture: &Fixture, kinesis: &Kinesis) -> (KinesisStream, ShardId) {
    let shard = only_shard(&stream(fixture).await).await;
    let client = kinesis.stream("clicks").expect("a name").fan_out("audit").await.expect("a consumer");
    (client, shard)
}

/// Reads until there are `count` records.
async fn take(reader: &mut dyn ShardReader, count: usize) -> Vec<String> {
    let mut records = Vec::new();
    let taking = async {
        while records.len() < count {
            let batch = reader.next_batch(100).await.expect("what passes is hidden").expect("no end");
            records.extend(batch.records);
        }
    };
    tokio::time::timeout(PATIENCE, taking).await.expect("records");
    texts(&records)
}

const BREAKS: [Fault; 7] = [
    Fault::ResetMidStream,
    Fault::SilenceMidStream,
    Fault::FailureMidStream,
    Fault::TakenMidStream,
    Fault::GarbageMidStream,
    Fault::BareMidStream,
    Fault::EndMidStream,
];

#[tokio::test]
async fn a_broken_subscription_is_resumed_without_loss_or_duplicates() {
    for fault in BREAKS {
        let fixture = Fixture::pushing().await;
        let (client, shard) = pushed_over(&fixture, fixture.kinesis_for(fault)).await;
        let writer = fixture.kinesis.stream("clicks").expect("a name");
        fixture.server.faults().inject(Operation::SubscribeToShard, fault, 2);
        put(&writer, &["0", "1"]).await;
        let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
        assert_eq!(take(&mut *reader, 2).await, ["0", "1"], "{fault:?}");
        put(&writer, &["2", "3"]).await;
        assert_eq!(take(&mut *reader, 2).await, ["2", "3"], "{fault:?}");
        put(&writer, &["4"]).await;
        assert_eq!(take(&mut *reader, 1).await, ["4"], "{fault:?}");
        assert!(fixture.server.faults().injected(fault) >= 1, "{fault:?}");
    }
}

#[tokio::test]
async fn an_expired_subscription_is_followed_by_the_next() {
    let fixture = Fixture::with(pushing().with_subscription_lifetime(Duration::from_millis(100))).await;
    let (client, shard) = pushed(&fixture).await;
    let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
    for number in 0..20 {
        let text = number.to_string();
        put(&client, &[&text]).await;
        assert_eq!(take(&mut *reader, 1).await, [text]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(fixture.server.faults().requests(Operation::SubscribeToShard) > 2);
}

#[tokio::test]
async fn a_shard_without_records_resumes_from_its_continuation() {
    let fixture = Fixture::pushing().await;
    let (client, shard) = pushed_over(&fixture, &fixture.impatient).await;
    let writer = fixture.kinesis.stream("clicks").expect("a name");
    for fault in BREAKS {
        fixture.server.faults().inject(Operation::SubscribeToShard, fault, 1);
        let mut reader = client.open_shard(&shard, Position::Latest).await.expect("open");
        while fixture.server.faults().injected(fault) == 0
            || !reader.next_batch(10).await.expect("what passes is hidden").expect("no end").is_caught_up()
        {
            reader.next_batch(10).await.expect("what passes is hidden");
        }
        put(&writer, &["next"]).await;
        assert_eq!(take(&mut *reader, 1).await, ["next"], "{fault:?}");
    }
}

#[tokio::test]
async fn a_rejected_subscription_is_retried_without_an_error() {
    let fixture = Fixture::pushing().await;
    let (client, shard) = pushed(&fixture).await;
    put(&client, &["0", "1", "2"]).await;
    let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
    assert_eq!(texts(&reader.next_batch(1).await.expect("fetch").expect("no end").records), ["0"]);
    let position = reader.position();
    drop(reader);
    // As AWS does for five seconds after the last subscription.
    fixture.server.faults().inject(Operation::SubscribeToShard, Fault::ResourceInUse, 3);
    let mut reader = client.open_shard(&shard, position).await.expect("open");
    assert_eq!(take(&mut *reader, 2).await, ["1", "2"]);
    assert_eq!(fixture.server.faults().injected(Fault::ResourceInUse), 3);
}

#[tokio::test]
async fn a_subscription_that_stays_in_use_is_reported_in_the_end() {
    let fixture = Fixture::pushing().await;
    let (client, shard) = pushed(&fixture).await;
    fixture.server.faults().inject(Operation::SubscribeToShard, Fault::ResourceInUse, 999);
    let error = client.open_shard(&shard, Position::Latest).await.expect_err("refused for ever");
    assert!(error.is_retryable() && error.kind() == ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test]
async fn a_subscription_error_has_the_kind_of_its_cause() {
    for (fault, kind) in [
        (Fault::AccessDenied, ErrorKind::AccessDenied),
        (Fault::KmsDisabled, ErrorKind::EncryptionKey),
        (Fault::ExpiredCredentials, ErrorKind::Credentials),
        (Fault::LimitExceeded, ErrorKind::Throttled),
        (Fault::InternalErrorBefore, ErrorKind::Unavailable),
        (Fault::SilenceBefore, ErrorKind::Unavailable),
    ] {
        let fixture = Fixture::pushing().await;
        let (client, shard) = pushed_over(&fixture, fixture.kinesis_for(fault)).await;
        fixture.server.faults().inject(Operation::SubscribeToShard, fault, 1);
        let error = client.open_shard(&shard, Position::Latest).await.expect_err("refused");
        assert_eq!(error.kind(), kind, "{fault:?}: {error:?}");
        // One attempt.
        fixture.was_injected(fault, 1).await;
    }
}

#[tokio::test]
async fn an_event_is_split_into_batches_of_the_requested_size() {
    let fixture = Fixture::pushing().await;
    let (client, shard) = pushed(&fixture).await;
    let all: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    let entries: Vec<_> = all.iter().map(|text| entry("k", text)).collect();
    client.put_batch(entries.into()).await.expect("put");
    let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
    let mut read = Vec::new();
    while read.len() < 10 {
        let batch = reader.next_batch(3).await.expect("fetch").expect("no end");
        assert!(batch.records.len() <= 3);
        assert!(read.len() + batch.records.len() == 10 || batch.behind > Some(Duration::ZERO), "more is there already");
        read.extend(texts(&batch.records));
        if let Some(last) = batch.records.last() {
            let position = reader.position();
            let is_after =
                matches!(position, Position::After { sequence_number, .. } if sequence_number == last.sequence_number);
            assert!(is_after, "{position:?}");
        }
    }
    read.sort();
    assert_eq!(read, all);
}

#[tokio::test]
async fn a_waiting_reader_is_woken_and_a_paused_reader_resumes() {
    let fixture = Fixture::with(pushing().with_heartbeat(Duration::from_millis(400))).await;
    let (client, shard) = pushed_over(&fixture, &fixture.impatient).await;
    let writer = fixture.kinesis.stream("clicks").expect("a name");
    let mut reader = client.open_shard(&shard, Position::Latest).await.expect("open");
    assert!(reader.next_batch(1).await.expect("fetch").expect("no end").is_caught_up());
    let putting = async {
        // Gives the reader time to wait; the test passes without.
        tokio::time::sleep(Duration::from_millis(50)).await;
        put(&writer, &["woken"]).await
    };
    let (records, _) = tokio::join!(take(&mut *reader, 1), putting);
    assert_eq!(records, ["woken"]);
    // Longer than the idle timeout: the reader paused, the subscription was not idle.
    put(&writer, &["before"]).await;
    tokio::time::sleep(IMPATIENCE + Duration::from_millis(500)).await;
    put(&writer, &["after"]).await;
    assert_eq!(take(&mut *reader, 2).await, ["before", "after"]);
}

#[tokio::test]
async fn two_readers_of_one_consumer_take_turns_and_both_read_everything() {
    let fixture = Fixture::pushing().await;
    let (client, shard) = pushed(&fixture).await;
    let mut first = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
    let mut second = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
    for text in ["0", "1", "2"] {
        put(&client, &[text]).await;
        assert_eq!(take(&mut *first, 1).await, [text]);
        assert_eq!(take(&mut *second, 1).await, [text]);
    }
}

#[tokio::test]
async fn a_position_past_retention_is_an_error_with_fan_out_too() {
    for form in [PastRetention::InvalidArgument, PastRetention::Jump, PastRetention::EmptyPages] {
        let fixture = Fixture::pushing().await;
        let (client, shard) = pushed(&fixture).await;
        let receipts = put(&client, &["0", "1", "2", "3"]).await;
        fixture.server.faults().trim("clicks", shard.as_str(), &receipts[1].sequence_number.to_string(), form);
        for position in [Position::after(receipts[0].sequence_number), Position::At(receipts[1].sequence_number)] {
            let error = read_from(&client, &shard, position).await.expect_err("records are gone");
            assert!(matches!(error, Error::PastRetention { .. }), "{form:?}: {error:?}");
        }
        assert_eq!(read_from(&client, &shard, Position::TrimHorizon).await.expect("read"), ["2", "3"], "{form:?}");
    }
}

#[tokio::test]
async fn a_caught_up_reader_continues_when_retention_passes_it() {
    for form in [PastRetention::InvalidArgument, PastRetention::Jump, PastRetention::EmptyPages] {
        let fixture = Fixture::pushing().await;
        let (client, shard) = pushed(&fixture).await;
        let receipts = put(&client, &["0", "1"]).await;
        fixture.server.faults().inject(Operation::SubscribeToShard, Fault::EndMidStream, 1);
        let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
        assert_eq!(take(&mut *reader, 2).await, ["0", "1"]);
        fixture.server.faults().trim("clicks", shard.as_str(), &receipts[1].sequence_number.to_string(), form);
        put(&client, &["2"]).await;
        assert_eq!(take(&mut *reader, 1).await, ["2"], "{form:?}");
    }
}

#[tokio::test]
async fn a_closed_shard_ends_after_its_last_record() {
    let fixture = Fixture::pushing().await;
    let (client, shard) = pushed(&fixture).await;
    put(&client, &["0", "1"]).await;
    let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
    assert_eq!(take(&mut *reader, 1).await[0], "0");
    fixture.kinesis.split("clicks", &shard, HashKey(1 << 127)).await.expect("split");
    while let Some(batch) = reader.next_batch(10).await.expect("fetch") {
        assert!(batch.records.iter().all(|record| record.shard_id == shard));
    }
    assert!(reader.next_batch(10).await.expect("fetch").is_none(), "it stays ended");
}

#[tokio::test]
async fn a_deleted_stream_is_not_found_with_fan_out() {
    let fixture = Fixture::pushing().await;
    let (client, shard) = pushed(&fixture).await;
    let mut reader = client.open_shard(&shard, Position::Latest).await.expect("open");
    fixture.kinesis.delete("clicks").await.expect("delete");
    let error = loop {
        match reader.next_batch(1).await {
            Ok(batch) => assert!(batch.expect("no end").records.is_empty()),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::StreamNotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn a_consumer_is_registered_found_listed_and_removed() {
    let fixture = Fixture::with(ServerOptions::default().with_transition(Duration::from_millis(60))).await;
    let stream = stream(&fixture).await;
    assert!(stream.consumers().await.expect("a list").is_empty());
    assert!(stream.fan_out("audit").await.expect("registered").has_new_consumer());
    let again = stream.fan_out("audit").await.expect("found");
    assert!(!again.has_new_consumer() && !stream.has_new_consumer());
    stream.fan_out("all").await.expect("another");
    let names = |consumers: Vec<triton_kinesis::Consumer>| consumers.into_iter().map(|consumer| consumer.name);
    assert!(names(stream.consumers().await.expect("a list")).eq(["all", "audit"]));
    assert_eq!(fixture.server.faults().requests(Operation::RegisterStreamConsumer), 2);
    let limits = again.limits().await.expect("limits");
    assert!(limits.pushes && limits.read_quota.is_none());

    assert!(stream.remove_consumer("audit").await.expect("removed"));
    assert!(!stream.remove_consumer("nobody").await.expect("none of that name"));
    // Waits until it is removed, and registers a new one.
    assert!(stream.fan_out("audit").await.expect("registered").has_new_consumer());
}

#[tokio::test]
async fn a_consumer_registered_concurrently_is_found() {
    let fixture = Fixture::pushing().await;
    let stream = stream(&fixture).await;
    fixture.server.faults().inject(Operation::RegisterStreamConsumer, Fault::ResourceInUse, 1);
    assert!(stream.fan_out("audit").await.is_ok());
    fixture.server.faults().inject(Operation::RegisterStreamConsumer, Fault::AccessDenied, 1);
    let error = stream.fan_out("other").await.expect_err("denied");
    assert_eq!(error.kind(), ErrorKind::AccessDenied);
    assert!(stream.fan_out("audit").await.is_ok(), "who is registered needs no permission to register");
    let missing = fixture.kinesis.stream("missing").expect("a name").fan_out("audit").await;
    assert!(matches!(missing, Err(Error::StreamNotFound { .. })), "{missing:?}");
    let wrong = stream.fan_out("no name!").await;
    assert!(matches!(wrong, Err(Error::Invalid { .. })), "{wrong:?}");
}

#[tokio::test]
async fn subscriptions_do_not_use_up_the_limit_on_concurrent_calls() {
    let fixture = Fixture::with(ServerOptions::default()).await;
    fixture.kinesis.create("clicks", CreateOptions::default().with_shards(260)).await.expect("create");
    let client: Arc<dyn StreamClient> =
        Arc::new(fixture.kinesis.stream("clicks").expect("a name").fan_out("audit").await.expect("a consumer"));
    let mut readers = Vec::new();
    for shard in client.shards().await.expect("shards") {
        readers.push(client.open_shard(&shard.id, Position::TrimHorizon).await.expect("open"));
    }
    let last = readers.last_mut().expect("a reader");
    assert!(read(&mut **last).await.expect("read").is_empty());
    assert!(
        client.put_batch([entry("k", "0")].into()).await.expect("a call")[0].is_ok(),
        "calls still have their turn"
    );
}
