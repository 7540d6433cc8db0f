use std::time::{Duration, Instant};

use serde_json::{Value, json};
use triton_test_server::{Fault, Operation, Server, ServerOptions};

use crate::client::*;

fn records(data: &[&str]) -> Value {
    let records: Vec<Value> = data.iter().map(|data| entry(data)).collect();
    json!({"StreamName": STREAM, "Records": records})
}

fn put_with(server: &Server, fault: Fault, data: &[&str]) -> Option<Raw> {
    server.faults().inject(Operation::PutRecords, fault, 1);
    let raw = call(server, "PutRecords", records(data));
    assert_eq!(server.faults().injected(fault), 1);
    raw
}

#[test]
fn single_entries_can_be_rejected() {
    for (fault, code) in
        [(Fault::ThrottleEntries, "ProvisionedThroughputExceededException"), (Fault::FailEntries, "InternalFailure")]
    {
        let server = server(1);
        let answer = put_with(&server, fault, &["a", "b", "c", "d", "e"]).unwrap().json();
        assert_eq!(answer["FailedRecordCount"], 2);
        for (place, result) in answer["Records"].as_array().unwrap().iter().enumerate() {
            assert_eq!(result["ErrorCode"] == code, place % 2 == 1, "{answer}");
            assert_eq!(result["SequenceNumber"].is_string(), place % 2 == 0, "{answer}");
        }
        assert_eq!(read_all(&server, SHARD), ["a", "c", "e"]);
        server.faults().inject(Operation::Any, fault, 1);
        let alone = put(&server, &["f"]);
        assert_eq!((&alone["FailedRecordCount"], &alone["Records"][0]["ErrorCode"]), (&json!(1), &json!(code)));
        assert_eq!(read_all(&server, SHARD), ["a", "c", "e"]);
    }
}

#[test]
fn entries_can_be_written_in_another_order() {
    let server = server(1);
    let answer = put_with(&server, Fault::ReorderEntries, &["a", "b", "c"]).unwrap().json();
    let numbers: Vec<String> =
        answer["Records"].as_array().unwrap().iter().map(|result| text(&result["SequenceNumber"])).collect();
    assert!(numbers[0] > numbers[1] && numbers[1] > numbers[2], "{answer}");
    assert_eq!(read_all(&server, SHARD), ["c", "b", "a"]);
}

#[test]
fn a_result_can_be_missing() {
    let server = server(1);
    let answer = put_with(&server, Fault::DropResult, &["a", "b"]).unwrap().json();
    assert_eq!(answer["Records"].as_array().unwrap().len(), 1);
    assert_eq!(read_all(&server, SHARD), ["a", "b"]);
}

#[test]
fn a_fault_before_the_call_leaves_it_unapplied() {
    let server = server(1);
    let status = |fault| put_with(&server, fault, &["a"]).map(|raw| (raw.status, raw.json()["__type"].clone()));
    assert_eq!(status(Fault::InternalErrorBefore), Some((500, json!("InternalFailure"))));
    assert_eq!(status(Fault::UnavailableBefore), Some((503, Value::Null)));
    assert_eq!(status(Fault::ResetBefore), None);
    assert_eq!(status(Fault::ThrottleCall), Some((400, json!("ProvisionedThroughputExceededException"))));
    for (fault, code) in [
        (Fault::ExpiredIterator, "ExpiredIteratorException"),
        (Fault::AccessDenied, "AccessDeniedException"),
        (Fault::ResourceInUse, "ResourceInUseException"),
        (Fault::NotFound, "ResourceNotFoundException"),
        (Fault::LimitExceeded, "LimitExceededException"),
        (Fault::KmsDisabled, "KMSDisabledException"),
        (Fault::ExpiredCredentials, "ExpiredTokenException"),
        (Fault::InvalidSignature, "UnrecognizedClientException"),
    ] {
        assert_eq!(status(fault), Some((400, json!(code))));
    }
    assert_eq!(read_all(&server, SHARD), Vec::<String>::new());
}

#[test]
fn a_fault_after_the_call_leaves_it_applied() {
    let server = server(1);
    assert_eq!(put_with(&server, Fault::InternalErrorAfter, &["a"]).unwrap().status, 500);
    assert!(put_with(&server, Fault::ResetAfter, &["b"]).is_none());
    let half = put_with(&server, Fault::TruncatedAfter, &["c"]).unwrap();
    let length: usize = half.header("content-length").unwrap().parse().unwrap();
    assert_eq!((half.status, half.body.len()), (200, length / 2));
    let empty = put_with(&server, Fault::EmptyAfter, &["d"]).unwrap();
    assert_eq!((empty.status, empty.body.len(), empty.header("content-length")), (200, 0, Some("0")));
    let garbage = put_with(&server, Fault::GarbageAfter, &["e"]).unwrap();
    assert_eq!((garbage.status, garbage.json()), (200, Value::Null));
    let began = Instant::now();
    let slow = put_with(&server, Fault::SlowAfter, &["f"]).unwrap();
    assert_eq!((slow.status, &slow.json()["FailedRecordCount"]), (200, &json!(0)));
    assert!(began.elapsed() > Duration::from_millis(300));
    assert_eq!(read_all(&server, SHARD), ["a", "b", "c", "d", "e", "f"]);
}

#[test]
fn silence_lasts_until_the_client_hangs_up() {
    let server = server(1);
    for (fault, data) in [(Fault::SilenceBefore, "a"), (Fault::SilenceAfter, "b")] {
        server.faults().inject(Operation::PutRecords, fault, 1);
        let stream = send(&server, "PutRecords", "application/x-amz-json-1.1", records(&[data]).to_string().as_bytes());
        eventually("the fault is injected", || server.faults().injected(fault) == 1);
        // The absence of a response can only be observed for a while.
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(receive(stream).is_none());
    }
    eventually("the second call is applied", || read_all(&server, SHARD) == ["b"]);
    // A silent request does not keep the server from stopping.
    server.faults().inject(Operation::Any, Fault::SilenceBefore, 1);
    let _stream = send(&server, "ListShards", "application/x-amz-json-1.1", b"{}");
    eventually("the fault is injected", || server.faults().injected(Fault::SilenceBefore) == 2);
    let began = Instant::now();
    drop(server);
    assert!(began.elapsed() < PATIENCE, "the silence lasts longer than that");
}

#[test]
fn a_fault_waits_for_a_request_that_it_applies_to() {
    let server = server(2);
    put_one(&server, "a");
    let faults = server.faults();
    faults.inject(Operation::Any, Fault::EmptyPage, 1);
    faults.inject(Operation::Any, Fault::ExpiredToken, 1);
    faults.set_page(1);
    let first = ok(&server, "ListShards", json!({"StreamName": STREAM}));
    let next = json!({"NextToken": first["NextToken"]});
    assert_eq!(refused(&server, "ListShards", next.clone()), "ExpiredNextTokenException");
    assert_eq!(ok(&server, "ListShards", next)["Shards"].as_array().unwrap().len(), 1);
    let start = iterator(&server, SHARD, json!({"ShardIteratorType": "TRIM_HORIZON"}));
    let empty = page(&server, &start);
    assert_eq!((&empty["Records"], &empty["NextShardIterator"]), (&json!([]), &start));
    assert!(empty["MillisBehindLatest"].as_u64().unwrap() > 0);
    assert_eq!((faults.injected(Fault::EmptyPage), faults.injected(Fault::ExpiredToken)), (1, 1));
    assert_eq!((faults.requests(Operation::GetRecords), faults.requests(Operation::ListShards)), (1, 3));
    assert!(faults.requests(Operation::Any) >= 7);
}

#[test]
fn faults_are_injected_in_turn_and_then_no_more() {
    let server = server(1);
    server.faults().inject(Operation::PutRecords, Fault::ThrottleCall, 2);
    server.faults().inject(Operation::PutRecords, Fault::InternalErrorBefore, 1);
    let statuses: Vec<u16> = (0..4).map(|_| call(&server, "PutRecords", records(&["a"])).unwrap().status).collect();
    assert_eq!(statuses, [400, 400, 500, 200]);
    server.faults().inject(Operation::PutRecords, Fault::ThrottleCall, 9);
    server.faults().clear();
    put_one(&server, "b");
}

#[test]
fn random_faults_follow_the_seed() {
    let run = |seed| {
        let server = server(1);
        server.faults().inject_randomly(
            seed,
            vec![(Operation::PutRecords, Fault::ThrottleCall, 0.3), (Operation::Any, Fault::ReorderEntries, 1.0)],
        );
        let statuses: Vec<u16> =
            (0..30).map(|_| call(&server, "PutRecords", records(&["a", "b", "c", "d"])).unwrap().status).collect();
        assert_eq!(server.faults().injected(Fault::ThrottleCall) + server.faults().injected(Fault::ReorderEntries), 30);
        (statuses, read_all(&server, SHARD))
    };
    let (once, again, other) = (run(1), run(1), run(2));
    assert_eq!(once, again);
    assert_ne!(once, other);
    assert!(once.0.contains(&400) && once.0.contains(&200));
}

#[test]
fn reads_have_a_quota() {
    let server = server(2);
    server.faults().set_read_quota(true);
    let start = iterator(&server, SHARD, json!({"ShardIteratorType": "TRIM_HORIZON"}));
    let get = || call(&server, "GetRecords", json!({"ShardIterator": start})).unwrap();
    let (mut taken, mut refusal) = (0, Value::Null);
    // On a busy machine the first calls may be more than a second old by the sixth.
    eventually("a call is refused", || {
        let answer = get();
        taken += usize::from(answer.status == 200);
        refusal = answer.json()["__type"].clone();
        answer.status != 200
    });
    assert!(taken >= 5, "{taken}");
    assert_eq!(refusal, "ProvisionedThroughputExceededException");
    page(&server, &iterator(&server, "shardId-000000000001", json!({"ShardIteratorType": "LATEST"})));
    eventually("the shard is read again", || get().status == 200);
}

#[test]
fn the_write_quota_is_optional() {
    let server = Server::start(ServerOptions::default().with_write_quota(true)).unwrap();
    create(&server, STREAM, 1);
    // One call over the quota of a second, so that the machine's speed does not matter.
    let record = json!({"Data": "QUJD".repeat(150_000), "PartitionKey": "k"});
    let body = json!({"StreamName": STREAM, "Records": vec![record; 10]});
    let answer = call(&server, "PutRecords", body).unwrap().json();
    let failed = answer["FailedRecordCount"].as_u64().unwrap();
    assert!((1..10).contains(&failed), "{failed} of 10 records of 450 kB are refused");
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_does_not_stop_it() {
    let server = server(1);
    put_one(&server, "a");
    assert_eq!(read_all(&server, SHARD), ["a"]);
}
