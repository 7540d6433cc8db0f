//! Positions of readers: iterators that expire, and positions past retention.

use std::time::{Duration, SystemTime};

use triton_core::{Error, Position, StreamAdmin as _, StreamClient as _, Timestamp};
use triton_test_server::{Fault, Operation, PastRetention};

use crate::fixture::{FanOut, Fixture, PATIENCE, only_shard, put, read, read_from, texts};

const FORMS: [PastRetention; 3] = [PastRetention::InvalidArgument, PastRetention::Jump, PastRetention::EmptyPages];

#[tokio::test]
async fn an_expired_iterator_is_replaced_after_the_last_record() {
    let fixture = Fixture::new().await;
    let client = fixture.stream(1).await;
    put(&*client, &["0", "1", "2", "3"]).await;
    let shard = only_shard(&*client).await;
    let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
    let mut records = Vec::new();
    for _ in 0..4 {
        fixture.server.faults().inject(Operation::GetRecords, Fault::ExpiredIterator, 1);
        let batch = reader.next_batch(1).await.expect("the expiry is hidden").expect("no end");
        records.extend(batch.records);
    }
    assert_eq!(texts(&records), ["0", "1", "2", "3"]);
    assert_eq!(fixture.server.faults().injected(Fault::ExpiredIterator), 4);
    assert!(reader.next_batch(1).await.expect("fetch").expect("no end").is_caught_up());
}

#[tokio::test]
async fn an_iterator_that_expires_twice_in_a_row_is_an_error() {
    let fixture = Fixture::new().await;
    let client = fixture.stream(1).await;
    let shard = only_shard(&*client).await;
    let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
    fixture.server.faults().inject(Operation::GetRecords, Fault::ExpiredIterator, 2);
    let error = reader.next_batch(1).await.expect_err("twice");
    assert!(matches!(error, Error::IteratorExpired { .. }), "{error:?}");
}

#[tokio::test]
async fn a_reader_from_latest_that_returned_nothing_resumes_where_it_started() {
    let fixture = Fixture::new().await;
    let client = fixture.stream(1).await;
    put(&*client, &["before"]).await;
    let shard = only_shard(&*client).await;
    // The client knows the server's time to the second.
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    let mut reader = client.open_shard(&shard, Position::Latest).await.expect("open");
    put(&*client, &["after"]).await;
    fixture.server.faults().inject(Operation::GetRecords, Fault::ExpiredIterator, 1);
    assert_eq!(
        read(&mut *reader).await.expect("read"),
        ["after"],
        "neither at the latest of then, nor before the start"
    );
}

#[tokio::test]
async fn a_caught_up_reader_never_resumes_before_where_it_caught_up() {
    let fixture = Fixture::new().await;
    let client = fixture.stream(1).await;
    put(&*client, &["before"]).await;
    let shard = only_shard(&*client).await;
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    let mut reader = client.open_shard(&shard, Position::Latest).await.expect("open");
    let opened = reader.position();
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert!(reader.next_batch(1).await.expect("fetch").expect("no end").is_caught_up());
    let (Position::AtTime(opened), Position::AtTime(caught_up)) = (opened, reader.position()) else {
        panic!("{opened:?}, {:?}", reader.position());
    };
    assert!(caught_up >= opened);
    fixture.server.faults().inject(Operation::GetRecords, Fault::ExpiredIterator, 1);
    put(&*client, &["after"]).await;
    assert_eq!(read(&mut *reader).await.expect("read"), ["after"]);
}

#[tokio::test]
async fn a_position_past_retention_is_an_error_in_every_form() {
    for form in FORMS {
        let fixture = Fixture::new().await;
        let client = fixture.stream(1).await;
        let receipts = put(&*client, &["0", "1", "2", "3"]).await;
        let shard = only_shard(&*client).await;
        fixture.server.faults().trim("clicks", shard.as_str(), &receipts[1].sequence_number.to_string(), form);
        for position in [
            Position::after(receipts[0].sequence_number),
            Position::At(receipts[0].sequence_number),
            Position::At(receipts[1].sequence_number),
        ] {
            let error = read_from(&*client, &shard, position).await.expect_err("records are gone");
            assert!(matches!(error, Error::PastRetention { .. }), "{form:?}: {error:?}");
            assert!(!error.is_retryable());
        }
        // The remaining records can be read.
        let rest = read_from(&*client, &shard, Position::TrimHorizon).await.expect("read");
        assert_eq!(rest, ["2", "3"], "{form:?}");
        let from_the_oldest = Position::At(receipts[2].sequence_number);
        assert_eq!(read_from(&*client, &shard, from_the_oldest).await.expect("read"), ["2", "3"], "{form:?}");
    }
}

#[tokio::test]
async fn a_position_past_retention_of_an_empty_shard_is_an_error() {
    for form in FORMS {
        let fixture = Fixture::new().await;
        let client = fixture.stream(1).await;
        let receipts = put(&*client, &["0", "1"]).await;
        let shard = only_shard(&*client).await;
        fixture.server.faults().trim("clicks", shard.as_str(), &receipts[1].sequence_number.to_string(), form);
        let error = read_from(&*client, &shard, Position::after(receipts[0].sequence_number)).await.expect_err("gone");
        assert!(matches!(error, Error::PastRetention { .. }), "{form:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_caught_up_reader_continues_when_retention_passes_it() {
    for form in FORMS {
        let fixture = Fixture::new().await;
        let client = fixture.stream(1).await;
        let receipts = put(&*client, &["0", "1"]).await;
        let shard = only_shard(&*client).await;
        let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
        assert_eq!(read(&mut *reader).await.expect("read"), ["0", "1"]);
        fixture.server.faults().trim("clicks", shard.as_str(), &receipts[1].sequence_number.to_string(), form);
        // Its iterator expires and its last record is gone, but no unread record was lost.
        fixture.server.faults().inject(Operation::GetRecords, Fault::ExpiredIterator, 1);
        put(&*client, &["2"]).await;
        let mut records = Vec::new();
        while records.is_empty() {
            records = reader.next_batch(10).await.expect("nothing was lost").expect("no end").records;
        }
        assert_eq!(texts(&records), ["2"], "{form:?}");
    }
}

#[tokio::test]
async fn a_reader_that_was_idle_past_retention_is_followed_by_another_without_a_loss() {
    for form in FORMS {
        for pushes in [false, true] {
            let fixture = Fixture::pushing().await;
            let mut client = fixture.stream(1).await;
            let receipts = put(&*client, &["0", "1"]).await;
            if pushes {
                client = FanOut::over(&fixture.kinesis).open("clicks").await.expect("open");
            }
            let shard = only_shard(&*client).await;
            let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
            assert_eq!(read(&mut *reader).await.expect("read"), ["0", "1"]);
            let position = reader.position();
            drop(reader);
            let Position::After { sequence_number, caught_up_at: Some(caught_up_at) } = position else {
                panic!("{position:?}");
            };
            assert_eq!(sequence_number, receipts[1].sequence_number);
            fixture.server.faults().trim("clicks", shard.as_str(), &sequence_number.to_string(), form);
            put(&*client, &["2"]).await;
            assert_eq!(read_from(&*client, &shard, position).await.expect("read"), ["2"], "{form:?}, {pushes}");

            // Caught up before all that is left: records in between may be lost.
            let two_days = Duration::from_secs(2 * 24 * 60 * 60);
            let long_ago = Position::After { sequence_number, caught_up_at: Some(caught_up_at - two_days) };
            let error = read_from(&*client, &shard, long_ago).await.expect_err("records may be gone");
            assert!(matches!(error, Error::PastRetention { .. }), "{form:?}, {pushes}: {error:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_named_by_its_arn_is_the_same_stream() {
    let fixture = Fixture::new().await;
    let named = fixture.stream(1).await;
    put(&*named, &["0"]).await;
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/clicks";
    let client = fixture.kinesis.open(arn).await.expect("open");
    assert_eq!(client.name(), "clicks");
    put(&*client, &["1"]).await;
    let shard = only_shard(&*client).await;
    assert_eq!(read_from(&*client, &shard, Position::TrimHorizon).await.expect("read"), ["0", "1"]);
    let elsewhere = fixture.kinesis.open("arn:aws:kinesis:eu-west-1:000000000000:stream/clicks").await;
    assert!(matches!(elsewhere, Err(Error::Invalid { .. })), "{elsewhere:?}");
}

#[tokio::test]
async fn a_future_time_skips_earlier_records() {
    let fixture = Fixture::new().await;
    let client = fixture.stream(1).await;
    put(&*client, &["now"]).await;
    let shard = only_shard(&*client).await;
    let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
    drop(reader.next_batch(1).await.expect("fetch").expect("no end"));
    let mut ahead = Duration::from_millis(1_500);
    let (mut reader, time) = loop {
        let time = Timestamp::from(SystemTime::now()) + ahead;
        let mut reader = client.open_shard(&shard, Position::AtTime(time)).await.expect("open");
        put(&*client, &["too early"]).await;
        fixture.server.faults().inject(Operation::GetRecords, Fault::ExpiredIterator, 1);
        let records = read(&mut *reader).await.expect("read");
        if Timestamp::from(SystemTime::now()) < time {
            assert!(records.is_empty(), "{records:?}");
            break (reader, time);
        }
        // On a busy machine the time may have passed.
        assert!(ahead < PATIENCE, "a put and a fetch take too long");
        ahead *= 2;
    };
    assert_eq!(reader.position(), Position::AtTime(time), "never further back");
    while Timestamp::from(SystemTime::now()) <= time {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    put(&*client, &["then"]).await;
    let mut records = Vec::new();
    while records.is_empty() {
        records = reader.next_batch(10).await.expect("fetch").expect("no end").records;
    }
    assert_eq!(texts(&records), ["then"]);
}

#[tokio::test]
async fn a_sequence_number_before_the_first_is_the_start_of_the_shard() {
    let fixture = Fixture::new().await;
    let client = fixture.stream(1).await;
    put(&*client, &["0"]).await;
    let shard = client.shards().await.expect("shards").remove(0);
    let from_the_first = Position::At(shard.first_sequence_number);
    assert_eq!(read_from(&*client, &shard.id, from_the_first).await.expect("nothing is lost"), ["0"]);
}
