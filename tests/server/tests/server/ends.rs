//! How far behind pages are, and how the ends of closed shards are reported.

use std::time::Duration;

use serde_json::{Value, json};
use triton_test_server::EndMode;

use crate::client::*;

const HALF: u128 = 1 << 127;

fn oldest() -> Value {
    json!({"ShardIteratorType": "TRIM_HORIZON"})
}

fn children() -> Value {
    json!([
        {
            "ShardId": "shardId-000000000001",
            "ParentShards": [SHARD],
            "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": (HALF - 1).to_string()},
        },
        {
            "ShardId": "shardId-000000000002",
            "ParentShards": [SHARD],
            "HashKeyRange": {"StartingHashKey": HALF.to_string(), "EndingHashKey": u128::MAX.to_string()},
        },
    ])
}

fn merged() -> Value {
    json!([{
        "ShardId": "shardId-000000000003",
        "ParentShards": ["shardId-000000000001", "shardId-000000000002"],
        "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": u128::MAX.to_string()},
    }])
}

#[test]
fn the_last_page_names_the_children() {
    let server = server(1);
    put(&server, &["a", "b"]);
    split(&server, SHARD);
    let first = ok(&server, "GetRecords", json!({"ShardIterator": iterator(&server, SHARD, oldest()), "Limit": 1}));
    assert!(first["NextShardIterator"].is_string() && first.get("ChildShards").is_none(), "{first}");
    let last = page(&server, &first["NextShardIterator"]);
    assert_eq!((data(&last), &last["ChildShards"]), (vec!["b".to_owned()], &children()));
    assert!(last.get("NextShardIterator").is_none(), "{last}");
    let empty = page(&server, &iterator(&server, SHARD, json!({"ShardIteratorType": "LATEST"})));
    assert_eq!((data(&empty).len(), &empty["ChildShards"]), (0, &children()));
    merge(&server);
    for parent in ["shardId-000000000001", "shardId-000000000002"] {
        assert_eq!(page(&server, &iterator(&server, parent, oldest()))["ChildShards"], merged());
    }
    let open = page(&server, &iterator(&server, "shardId-000000000003", oldest()));
    assert!(open["NextShardIterator"].is_string() && open.get("ChildShards").is_none(), "{open}");
}

#[test]
fn the_last_event_names_the_children() {
    let (server, consumer) = server_with_consumer(1, PATIENCE);
    put_one(&server, "a");
    let mut events = subscribe(&server, &consumer, SHARD, json!({"Type": "TRIM_HORIZON"}));
    let first = events.next().unwrap();
    assert!(first["ContinuationSequenceNumber"].is_string() && first.get("ChildShards").is_none(), "{first}");
    split(&server, SHARD);
    let last = events.next().unwrap();
    assert_eq!((data(&last).len(), &last["ChildShards"]), (0, &children()));
    assert!(last.get("ContinuationSequenceNumber").is_none(), "{last}");
    assert_eq!(events.next(), None);
    // A subscription that begins after the end.
    let mut events = subscribe(&server, &consumer, SHARD, json!({"Type": "TRIM_HORIZON"}));
    let only = events.next().unwrap();
    assert_eq!((data(&only), &only["ChildShards"]), (vec!["a".to_owned()], &children()));
    assert_eq!(events.next(), None);
    merge(&server);
    let mut events = subscribe(&server, &consumer, "shardId-000000000002", json!({"Type": "LATEST"}));
    assert_eq!(events.next().unwrap()["ChildShards"], merged());
}

#[test]
fn an_end_can_be_without_children() {
    let (server, consumer) = server_with_consumer(1, PATIENCE);
    put_one(&server, "a");
    split(&server, SHARD);
    server.faults().set_end_mode(EndMode::WithoutChildren);
    let last = page(&server, &iterator(&server, SHARD, oldest()));
    assert_eq!(data(&last), ["a"]);
    assert!(last.get("NextShardIterator").is_none() && last.get("ChildShards").is_none(), "{last}");
    let mut events = subscribe(&server, &consumer, SHARD, json!({"Type": "TRIM_HORIZON"}));
    let last = events.next().unwrap();
    assert_eq!((data(&last), &last["MillisBehindLatest"]), (vec!["a".to_owned()], &json!(0)));
    assert!(last.get("ContinuationSequenceNumber").is_none() && last.get("ChildShards").is_none(), "{last}");
    assert_eq!(events.next(), None);
}

#[test]
fn pages_can_go_on_after_the_end() {
    let server = server(1);
    put_one(&server, "a");
    let before = iterator(&server, SHARD, json!({"ShardIteratorType": "LATEST"}));
    split(&server, SHARD);
    server.faults().set_end_mode(EndMode::Never);
    for start in [before, iterator(&server, SHARD, json!({"ShardIteratorType": "LATEST"}))] {
        let mut next = start;
        for _ in 0..5 {
            let page = page(&server, &next);
            assert_eq!((data(&page).len(), &page["MillisBehindLatest"]), (0, &json!(0)));
            assert!(page.get("ChildShards").is_none(), "{page}");
            next = page["NextShardIterator"].clone();
            assert!(next.is_string(), "{page}");
        }
    }
    let first = page(&server, &iterator(&server, SHARD, oldest()));
    assert_eq!((data(&first), &first["MillisBehindLatest"]), (vec!["a".to_owned()], &json!(0)));
    // The same iterator reaches the end once it is reported.
    server.faults().clear();
    assert_eq!(page(&server, &first["NextShardIterator"])["ChildShards"], children());
}

#[test]
fn subscriptions_can_stay_open_after_the_end() {
    let (server, consumer) = server_with_consumer(1, Duration::from_millis(5));
    server.faults().set_end_mode(EndMode::Never);
    let number = put_one(&server, "a");
    let mut before = subscribe(&server, &consumer, SHARD, json!({"Type": "TRIM_HORIZON"}));
    assert_eq!(data(&before.next().unwrap()), ["a"]);
    split(&server, SHARD);
    let is_sign = |event: Value| {
        let expected = json!({"Records": [], "MillisBehindLatest": 0, "ContinuationSequenceNumber": number});
        assert_eq!(event, expected);
    };
    // Of these, at least one is sent after the end.
    (0..50).for_each(|_| is_sign(before.next().unwrap()));
    drop(before);
    let mut after = subscribe(&server, &consumer, SHARD, json!({"Type": "TRIM_HORIZON"}));
    assert_eq!(data(&after.next().unwrap()), ["a"]);
    (0..5).for_each(|_| is_sign(after.next().unwrap()));
}

#[test]
fn subscriptions_can_be_silent_after_the_end() {
    let (server, consumer) = server_with_consumer(1, 10 * PATIENCE);
    put_one(&server, "a");
    split(&server, SHARD);
    server.faults().set_end_mode(EndMode::Never);
    let mut events = subscribe(&server, &consumer, SHARD, json!({"Type": "TRIM_HORIZON"}));
    let first = events.next().unwrap();
    assert_eq!(data(&first), ["a"]);
    assert!(first["ContinuationSequenceNumber"].is_string() && first.get("ChildShards").is_none(), "{first}");
    // The absence of events can only be observed for a while.
    std::thread::sleep(Duration::from_millis(100));
    server.faults().set_end_mode(EndMode::WithChildren);
    assert_eq!(events.next().unwrap()["ChildShards"], children(), "there was no event before");
    assert_eq!(events.next(), None);
}

#[test]
fn only_the_last_record_of_a_shard_is_not_behind() {
    let server = server(1);
    put(&server, &["a", "b", "c"]);
    let behind = |limit: u32| {
        let start = iterator(&server, SHARD, oldest());
        let page = ok(&server, "GetRecords", json!({"ShardIterator": start, "Limit": limit}));
        (data(&page).len(), page["MillisBehindLatest"].as_u64().unwrap() > 0)
    };
    assert_eq!([1, 2, 3, 4].map(behind), [(1, true), (2, true), (3, false), (3, false)]);
    // The records of other shards do not count.
    split(&server, SHARD);
    put(&server, &["d", "e", "f"]);
    assert_eq!([2, 3].map(behind), [(2, true), (3, false)]);
}

#[test]
fn an_event_before_later_records_is_behind() {
    let (server, consumer) = server_with_consumer(1, PATIENCE);
    let record = json!({"Data": "QUJD".repeat(300_000), "PartitionKey": "k"});
    // Each call has less than the 10 MiB of an event, both together have more.
    for _ in 0..2 {
        ok(&server, "PutRecords", json!({"StreamName": STREAM, "Records": vec![&record; 10]}));
    }
    let mut events = subscribe(&server, &consumer, SHARD, json!({"Type": "TRIM_HORIZON"}));
    let mut counts = Vec::new();
    while counts.iter().map(|(count, _)| count).sum::<usize>() < 20 {
        let event = events.next().unwrap();
        counts.push((data(&event).len(), event["MillisBehindLatest"].as_u64().unwrap() > 0));
    }
    assert_eq!(counts, [(11, true), (9, false)]);
}
