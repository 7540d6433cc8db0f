use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use triton_test_server::{PastRetention, Server, ServerOptions};

use crate::client::*;

const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/events";

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

fn at(server: &Server, seconds: f64) -> Value {
    iterator(server, SHARD, json!({"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": seconds}))
}

#[test]
fn arrivals_are_milliseconds_and_do_not_go_back() {
    let server = server(1);
    let before = now();
    for data in ["a", "b", "c"] {
        put_one(&server, data);
        pause();
    }
    ok(&server, "PutRecord", json!({"StreamName": STREAM, "Data": "ZA==", "PartitionKey": "d"}));
    let page = page(&server, &iterator(&server, SHARD, json!({"ShardIteratorType": "TRIM_HORIZON"})));
    let arrivals: Vec<f64> = page["Records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["ApproximateArrivalTimestamp"].as_f64().unwrap())
        .collect();
    assert_eq!(arrivals.len(), 4);
    assert!(arrivals.windows(2).all(|pair| pair[0] + 0.004 < pair[1]), "{arrivals:?}");
    assert!(before - 0.001 <= arrivals[0] && arrivals[3] <= now(), "{before} {arrivals:?}");
}

#[test]
fn a_timestamp_is_the_position_of_the_next_record() {
    let server = server(1);
    let empty = now();
    assert_eq!(read(&server, at(&server, empty)), Vec::<String>::new());
    pause();
    put_one(&server, "a");
    pause();
    let between = now();
    pause();
    put_one(&server, "b");
    pause();
    let after = at(&server, now());
    put_one(&server, "c");
    assert_eq!(read(&server, at(&server, empty)), ["a", "b", "c"]);
    assert_eq!(read(&server, at(&server, between)), ["b", "c"]);
    assert_eq!(read(&server, after), ["c"]);
    // The arrival time itself is included.
    let first = page(&server, &iterator(&server, SHARD, json!({"ShardIteratorType": "TRIM_HORIZON"})));
    let came = first["Records"][1]["ApproximateArrivalTimestamp"].as_f64().unwrap();
    assert_eq!(read(&server, at(&server, came)), ["b", "c"]);
    assert_eq!(read(&server, at(&server, came + 0.001)), ["c"]);
    let future =
        json!({"StreamName": STREAM, "ShardId": SHARD, "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": now() + 60.0});
    assert_eq!(refused(&server, "GetShardIterator", future), "InvalidArgumentException");
}

#[test]
fn a_page_reports_how_far_behind_it_is() {
    let server = server(1);
    put(&server, &["a", "b", "c"]);
    pause();
    let start = iterator(&server, SHARD, json!({"ShardIteratorType": "TRIM_HORIZON"}));
    let first = ok(&server, "GetRecords", json!({"ShardIterator": start, "Limit": 2}));
    assert_eq!(data(&first), ["a", "b"]);
    assert!(first["MillisBehindLatest"].as_u64().unwrap() >= 5, "{first}");
    let last = page(&server, &first["NextShardIterator"]);
    assert_eq!((data(&last), &last["MillisBehindLatest"]), (vec!["c".to_owned()], &json!(0)));
    let none = page(&server, &last["NextShardIterator"]);
    assert_eq!((data(&none).len(), &none["MillisBehindLatest"]), (0, &json!(0)));
    put_one(&server, "d");
    assert_eq!(read(&server, none["NextShardIterator"].clone()), ["d"]);
}

#[test]
fn a_closed_shard_ends_from_every_position() {
    let server = server(1);
    let last = put_one(&server, "a");
    let open = iterator(&server, SHARD, json!({"ShardIteratorType": "LATEST"}));
    let whole = page(&server, &iterator(&server, SHARD, json!({"ShardIteratorType": "TRIM_HORIZON"})));
    assert!(whole["NextShardIterator"].is_string());
    split(&server, SHARD);
    let kinds = [
        json!({"ShardIteratorType": "LATEST"}),
        json!({"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": last}),
        json!({"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": now()}),
    ];
    for iterator in kinds.into_iter().map(|kind| iterator(&server, SHARD, kind)).chain([open]) {
        let page = page(&server, &iterator);
        assert_eq!((data(&page).len(), &page["MillisBehindLatest"]), (0, &json!(0)));
        assert!(page.get("NextShardIterator").is_none(), "{page}");
    }
    let page = page(&server, &iterator(&server, SHARD, json!({"ShardIteratorType": "TRIM_HORIZON"})));
    assert_eq!(data(&page), ["a"]);
    assert!(page.get("NextShardIterator").is_none(), "{page}");
    // The children go on.
    assert_eq!(shards(&server).len(), 3);
    put(&server, &["b", "c", "d", "e"]);
    let mut children = read_all(&server, "shardId-000000000001");
    children.extend(read_all(&server, "shardId-000000000002"));
    children.sort();
    assert_eq!(children, ["b", "c", "d", "e"]);
    let again = json!({"StreamName": STREAM, "ShardToSplit": SHARD, "NewStartingHashKey": "12345"});
    assert_eq!(refused(&server, "SplitShard", again), "InvalidArgumentException");
}

#[test]
fn an_empty_closed_shard_ends() {
    let server = server(1);
    split(&server, SHARD);
    assert_eq!(read_all(&server, SHARD), Vec::<String>::new());
    let page = page(&server, &iterator(&server, SHARD, json!({"ShardIteratorType": "TRIM_HORIZON"})));
    assert!(page.get("NextShardIterator").is_none(), "{page}");
}

#[test]
fn shards_are_listed_in_pages() {
    let server = server(25);
    let mut seen = Vec::new();
    let mut request = json!({"StreamName": STREAM, "MaxResults": 10});
    loop {
        let page = ok(&server, "ListShards", request);
        seen.extend(page["Shards"].as_array().unwrap().iter().map(|shard| text(&shard["ShardId"])));
        let Some(token) = page.get("NextToken") else { break };
        request = json!({"NextToken": token, "MaxResults": 10});
    }
    assert_eq!(seen.len(), 25);
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 25);
    server.faults().set_page(7);
    let page = ok(&server, "ListShards", json!({"StreamARN": ARN}));
    assert_eq!(page["Shards"].as_array().unwrap().len(), 7);
    let token = &page["NextToken"];
    let both = json!({"StreamName": STREAM, "NextToken": token});
    assert_eq!(refused(&server, "ListShards", both), "InvalidArgumentException");
    assert_eq!(refused(&server, "ListShards", json!({"NextToken": "x"})), "InvalidArgumentException");
    assert_eq!(refused(&server, "ListShards", json!({})), "InvalidArgumentException");
    let rest = ok(&server, "ListShards", json!({"NextToken": token}));
    assert_eq!(rest["Shards"][0]["ShardId"], "shardId-000000000007");
    let after =
        ok(&server, "ListShards", json!({"StreamName": STREAM, "ExclusiveStartShardId": "shardId-000000000023"}));
    assert_eq!(after["Shards"].as_array().unwrap().len(), 1);
    assert!(after.get("NextToken").is_none());
}

#[test]
fn streams_can_be_named_by_arn() {
    let server = server(2);
    let mut records = ok(&server, "PutRecords", json!({"StreamARN": ARN, "Records": [entry("a")]}));
    let first = records["Records"][0].take();
    assert_eq!(
        ok(&server, "DescribeStreamSummary", json!({"StreamARN": ARN}))["StreamDescriptionSummary"]["StreamName"],
        STREAM
    );
    assert_eq!(ok(&server, "DescribeStream", json!({"StreamARN": ARN}))["StreamDescription"]["StreamName"], STREAM);
    let start = json!({"StreamARN": ARN, "ShardId": first["ShardId"], "ShardIteratorType": "TRIM_HORIZON"});
    let start = ok(&server, "GetShardIterator", start)["ShardIterator"].take();
    assert_eq!(data(&ok(&server, "GetRecords", json!({"StreamARN": ARN, "ShardIterator": start}))), ["a"]);
    let split = json!({"StreamARN": ARN, "ShardToSplit": SHARD, "NewStartingHashKey": "1000000"});
    ok(&server, "SplitShard", split);
    wait_active(&server, STREAM);
    let (left, right) = ("shardId-000000000002", "shardId-000000000003");
    let merge = json!({"StreamARN": ARN, "ShardToMerge": left, "AdjacentShardToMerge": right});
    ok(&server, "MergeShards", merge);
    wait_active(&server, STREAM);
    ok(&server, "UpdateShardCount", json!({"StreamARN": ARN, "TargetShardCount": 3, "ScalingType": "UNIFORM_SCALING"}));
    wait_active(&server, STREAM);
    ok(&server, "IncreaseStreamRetentionPeriod", json!({"StreamARN": ARN, "RetentionPeriodHours": 48}));
    ok(&server, "DeleteStream", json!({"StreamARN": ARN}));
}

#[test]
fn a_call_accepts_ten_mebibytes_and_keeps_their_order() {
    let server = server(1);
    let record = |letter: char, size: usize| {
        let data = STANDARD.encode(letter.to_string().repeat(size));
        json!({"Data": data, "PartitionKey": "k"})
    };
    let largest = (1 << 20) - 1;
    let records: Vec<Value> = "abcdefghij".chars().map(|letter| record(letter, largest)).collect();
    let written = ok(&server, "PutRecords", json!({"StreamName": STREAM, "Records": records}));
    assert_eq!((&written["FailedRecordCount"], written["Records"].as_array().unwrap().len()), (&json!(0), 10));
    // A page is also limited to 10 MiB, which these records fill.
    let letters: Vec<String> = read_all(&server, SHARD).iter().map(|data| data[..1].to_owned()).collect();
    assert_eq!(letters.concat(), "abcdefghij");
    put_one(&server, "k");
    let first = page(&server, &iterator(&server, SHARD, json!({"ShardIteratorType": "TRIM_HORIZON"})));
    assert_eq!(data(&first).len(), 10);
    assert_eq!(data(&page(&server, &first["NextShardIterator"])), ["k"]);
    let mut more = records.clone();
    more.push(record('k', 2));
    assert_eq!(
        refused(&server, "PutRecords", json!({"StreamName": STREAM, "Records": more})),
        "InvalidArgumentException"
    );
    let large = json!({"StreamName": STREAM, "Records": [record('l', largest + 1)]});
    assert_eq!(refused(&server, "PutRecords", large), "InvalidArgumentException");
}

#[test]
fn an_invalid_entry_rejects_the_whole_call() {
    let server = server(1);
    let mut records: Vec<Value> =
        (0..6).map(|_| json!({"Data": STANDARD.encode("x".repeat(1_000_000)), "PartitionKey": "k"})).collect();
    records.push(json!({"Data": "eA==", "PartitionKey": ""}));
    assert_eq!(
        refused(&server, "PutRecords", json!({"StreamName": STREAM, "Records": records})),
        "ValidationException"
    );
    assert_eq!(read_all(&server, SHARD), Vec::<String>::new());
}

#[test]
fn summaries_and_headers_match_aws() {
    let server = server(1);
    let raw = call(&server, "DescribeStreamSummary", json!({"StreamName": STREAM})).unwrap();
    assert_eq!(raw.json()["StreamDescriptionSummary"]["MaxRecordSizeInKiB"], 1024);
    assert!(raw.header("date").is_some_and(|date| date.ends_with("GMT")), "{raw:?}");
    assert!(raw.header("x-amzn-requestid").is_some(), "{raw:?}");
    assert_eq!(raw.header("content-type"), Some("application/x-amz-json-1.1"));
}

#[test]
fn a_recreated_stream_is_empty() {
    let server = server(1);
    put_one(&server, "a");
    ok(&server, "DeleteStream", json!({"StreamName": STREAM}));
    eventually("the stream is gone", || {
        call(&server, "DescribeStreamSummary", json!({"StreamName": STREAM})).unwrap().status != 200
    });
    create(&server, STREAM, 1);
    assert_eq!(read_all(&server, SHARD), Vec::<String>::new());
    put_one(&server, "b");
    assert_eq!(read(&server, at(&server, now() - 3600.0)), ["b"]);
}

#[test]
fn iterators_expire_to_the_millisecond() {
    let life = Duration::from_millis(300);
    let options = ServerOptions::default().with_iterator_ttl(life);
    let server = Server::start(options).unwrap();
    create(&server, STREAM, 1);
    let start = || json!({"ShardIterator": iterator(&server, SHARD, json!({"ShardIteratorType": "TRIM_HORIZON"}))});
    // On a busy machine an iterator may expire before it is used, but not every time.
    eventually("an iterator is used in time", || call(&server, "GetRecords", start()).unwrap().status == 200);
    let expired = start();
    std::thread::sleep(life + Duration::from_millis(20));
    assert_eq!(refused(&server, "GetRecords", expired), "ExpiredIteratorException");
}

#[test]
fn positions_before_the_trim_behave_in_each_form() {
    let server = server(1);
    let numbers: Vec<String> = ["a", "b", "c", "d"].iter().map(|data| put_one(&server, data)).collect();
    let early = iterator(&server, SHARD, json!({"ShardIteratorType": "TRIM_HORIZON"}));
    let after = |number: &str| json!({"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": number});
    let trim = |form| server.faults().trim(STREAM, SHARD, &numbers[1], form);

    trim(PastRetention::InvalidArgument);
    let mut lost = after(&numbers[0]);
    lost["StreamName"] = json!(STREAM);
    lost["ShardId"] = json!(SHARD);
    assert_eq!(refused(&server, "GetShardIterator", lost), "InvalidArgumentException");
    assert_eq!(read(&server, iterator(&server, SHARD, after(&numbers[1]))), ["c", "d"]);
    assert_eq!(read(&server, early.clone()), ["c", "d"]);
    assert_eq!(read_all(&server, SHARD), ["c", "d"]);
    assert_eq!(read(&server, at(&server, now() - 3600.0)), ["c", "d"]);

    trim(PastRetention::Jump);
    assert_eq!(read(&server, iterator(&server, SHARD, after(&numbers[0]))), ["c", "d"]);

    trim(PastRetention::EmptyPages);
    assert_eq!(read(&server, iterator(&server, SHARD, after(&numbers[1]))), ["c", "d"]);
    let mut iterator = iterator(&server, SHARD, after(&numbers[0]));
    for _ in 0..3 {
        let page = page(&server, &iterator);
        assert_eq!(page["Records"], json!([]));
        assert!(page["MillisBehindLatest"].as_u64().unwrap() > 0);
        iterator = page["NextShardIterator"].clone();
    }
    assert_eq!(read(&server, iterator), ["c", "d"]);
}

#[test]
fn cbor_requests_bypass_the_shim() {
    let server = server(1);
    put_one(&server, "a");
    // {"StreamName": "events"}
    let body = [&[0xa1, 0x6a][..], b"StreamName", &[0x66], b"events"].concat();
    let raw = receive(send(&server, "ListShards", "application/x-amz-cbor-1.1", &body)).unwrap();
    assert_eq!((raw.status, raw.header("content-type")), (200, Some("application/x-amz-cbor-1.1")));
    assert!(String::from_utf8_lossy(&raw.body).contains(SHARD));
}

#[test]
fn without_the_shim_ferrokinesis_answers_as_it_is() {
    let server = Server::start(ServerOptions::default().with_shim(false)).unwrap();
    create(&server, STREAM, 1);
    put_one(&server, "a");
    let page = page(&server, &iterator(&server, SHARD, json!({"ShardIteratorType": "TRIM_HORIZON"})));
    assert_eq!(data(&page), ["a"]);
    assert!(page["Records"][0]["ApproximateArrivalTimestamp"].is_u64(), "{page}");
}
