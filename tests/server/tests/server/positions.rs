//! Positions that are not of the shard. GetShardIterator and SubscribeToShard answer alike.

use std::time::Duration;

use serde_json::{Value, json};
use triton_test_server::Server;

use crate::client::*;

const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/events";
const OTHER_SHARD: &str = "shardId-000000000001";

/// Puts a record into the first or second shard of a stream and returns its sequence number.
fn put_into(server: &Server, stream: &str, shard: &str) -> String {
    let key = if shard == SHARD { 0 } else { u128::MAX };
    let record = json!({"StreamName": stream, "Data": "YQ==", "PartitionKey": "a", "ExplicitHashKey": key.to_string()});
    let result = ok(server, "PutRecord", record);
    assert_eq!(result["ShardId"], shard);
    text(&result["SequenceNumber"])
}

/// The requests for a position at and after a sequence number.
fn requests(consumer: &str, shard: &str, number: &str) -> Vec<(&'static str, Value)> {
    let requests = ["AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"].map(|kind| {
        let position = json!({"Type": kind, "SequenceNumber": number});
        let iterator = json!({
            "StreamName": STREAM, "ShardId": shard, "ShardIteratorType": kind, "StartingSequenceNumber": number,
        });
        [
            ("GetShardIterator", iterator),
            ("SubscribeToShard", json!({"ConsumerARN": consumer, "ShardId": shard, "StartingPosition": position})),
        ]
    });
    requests.into_iter().flatten().collect()
}

/// The status, code and message with which the server rejects a position at or after a sequence number.
fn rejection(server: &Server, consumer: &str, shard: &str, number: &str) -> (u16, String, String) {
    let rejections = requests(consumer, shard, number).into_iter().map(|(operation, request)| {
        let raw = call(server, operation, request).unwrap();
        let field = |name: &str| raw.json()[name].as_str().unwrap_or_default().to_owned();
        (raw.status, field("__type"), field("message"))
    });
    let mut rejections: Vec<_> = rejections.collect();
    rejections.dedup();
    assert_eq!(rejections.len(), 1, "{rejections:?}");
    rejections.remove(0)
}

fn invalid(message: String) -> (u16, String, String) {
    (400, "InvalidArgumentException".to_owned(), message)
}

fn encodes(number: u32, used: &str) -> (u16, String, String) {
    invalid(format!(
        "Invalid StartingSequenceNumber. It encodes shardId-{number:012}, while it was used in a call to a shard with \
         {used}"
    ))
}

fn used(number: &str, why: &str) -> (u16, String, String) {
    invalid(format!(
        "StartingSequenceNumber {number} used in GetShardIterator on shard {SHARD} in stream {STREAM} under account \
         000000000000 is invalid{why}"
    ))
}

#[test]
fn a_number_of_another_shard_is_rejected() {
    let (server, consumer) = server_with_consumer(2, PATIENCE);
    let other = put_into(&server, STREAM, OTHER_SHARD);
    assert_eq!(rejection(&server, &consumer, SHARD, &other), encodes(1, SHARD));
    // Also that of a parent.
    let parent = put_into(&server, STREAM, SHARD);
    split_at(&server, SHARD, 1 << 126);
    let child = "shardId-000000000002";
    assert_eq!(rejection(&server, &consumer, child, &parent), encodes(0, child));
}

#[test]
fn a_number_of_another_stream_is_rejected() {
    let (server, consumer) = server_with_consumer(2, PATIENCE);
    // Numbers name the second in which their shard was created: those of two streams of the same second are the same.
    std::thread::sleep(Duration::from_millis(1_100));
    create(&server, "other", 2);
    let other = put_into(&server, "other", SHARD);
    let why = " because it did not come from this stream.";
    assert_eq!(rejection(&server, &consumer, SHARD, &other), used(&other, why));
    // The same stream after it was deleted and created again.
    let number = put_into(&server, STREAM, SHARD);
    ok(&server, "DeregisterStreamConsumer", json!({"ConsumerARN": consumer}));
    ok(&server, "DeleteStream", json!({"StreamName": STREAM}));
    eventually("the stream is gone", || {
        call(&server, "DescribeStreamSummary", json!({"StreamARN": ARN})).unwrap().status != 200
    });
    create(&server, STREAM, 2);
    assert_eq!(rejection(&server, &register(&server), SHARD, &number), used(&number, why));
}

#[test]
fn a_number_of_no_stream_is_rejected() {
    let (server, consumer) = server_with_consumer(2, PATIENCE);
    // A short number is read as one of an old form, which ends in the shard's number.
    assert_eq!(rejection(&server, &consumer, SHARD, "7"), encodes(7, SHARD));
    assert_eq!(rejection(&server, &consumer, OTHER_SHARD, "7"), encodes(7, OTHER_SHARD));
    assert_eq!(rejection(&server, &consumer, SHARD, "1764045843000001"), encodes(0xeac1, SHARD));
    // Of the old form, one that ends in the right shard is a failure of the server.
    for (shard, number) in [(SHARD, "0"), (OTHER_SHARD, "1")] {
        let (status, code, _) = rejection(&server, &consumer, shard, number);
        assert_eq!((status, &*code), (500, "InternalFailure"));
    }
    let huge = "9".repeat(60);
    assert_eq!(rejection(&server, &consumer, SHARD, &huge), used(&huge, "."));
    let (status, code, _) = rejection(&server, &consumer, SHARD, "x");
    assert_eq!((status, &*code), (400, "ValidationException"));
}

#[test]
fn a_number_ahead_of_the_end_is_a_position_without_records_or_rejected() {
    let (server, consumer) = server_with_consumer(2, PATIENCE);
    let last = put_into(&server, STREAM, SHARD);
    // The number of a later record: the record's index comes before its time, its shard and the version.
    let (head, tail) = last.split_at(last.len() - 36);
    let ahead = format!("{head}{:036}", tail.parse::<u128>().unwrap() + (5 << 80));
    let start = || json!({"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": ahead});
    put_into(&server, STREAM, SHARD);
    let empty = page(&server, &iterator(&server, SHARD, start()));
    assert_eq!((data(&empty).len(), &empty["MillisBehindLatest"]), (0, &json!(0)));
    let position = |number: &str| json!({"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": number});
    let event = subscribe(&server, &consumer, SHARD, position(&ahead)).next().unwrap();
    assert_eq!((data(&event).len(), &event["MillisBehindLatest"]), (0, &json!(0)));

    server.faults().set_rejects_ahead(true);
    assert_eq!(
        rejection(&server, &consumer, SHARD, &ahead),
        used(&ahead, " because it did not come from this stream.")
    );
    assert_eq!(data(&subscribe(&server, &consumer, SHARD, position(&last)).next().unwrap()), ["a"]);
    let other = put_into(&server, STREAM, OTHER_SHARD);
    assert_eq!(rejection(&server, &consumer, SHARD, &other), encodes(1, SHARD));
    // Both ends of a shard are positions.
    split_at(&server, SHARD, 1 << 126);
    let range = &shards(&server)[0]["SequenceNumberRange"];
    for (end, count) in [("StartingSequenceNumber", 2), ("EndingSequenceNumber", 0)] {
        let start = json!({"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": range[end]});
        assert_eq!(read(&server, iterator(&server, SHARD, start)).len(), count, "{end}");
    }
    // The first event of an empty shard continues at its start.
    let empty = &shards(&server)[2]["SequenceNumberRange"]["StartingSequenceNumber"];
    subscribe(&server, &consumer, "shardId-000000000002", position(&text(empty))).next().unwrap();
}
