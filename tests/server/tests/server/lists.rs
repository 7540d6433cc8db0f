//! Shard lists that are old, alternate or are partial.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use triton_test_server::{ListMode, MissingShards, Server};

use crate::client::*;

const LONG_AGO: Duration = Duration::from_secs(3600);

/// The numbers of the listed shards, with `*` for the open ones.
fn listed(server: &Server) -> String {
    let name = |shard: &Value| {
        let number = text(&shard["ShardId"]).trim_start_matches("shardId-").parse::<u32>().unwrap();
        let is_open = shard["SequenceNumberRange"].get("EndingSequenceNumber").is_none();
        format!("{number}{}", if is_open { "*" } else { "" })
    };
    shards(server).iter().map(name).collect::<Vec<_>>().join(" ")
}

/// The numbers of listed shards by the pages of one listing.
fn listed_in_pages(server: &Server) -> Vec<String> {
    let (mut ids, mut request) = (Vec::new(), json!({"StreamName": STREAM}));
    loop {
        let page = ok(server, "ListShards", request);
        ids.extend(page["Shards"].as_array().unwrap().iter().map(|shard| text(&shard["ShardId"])));
        let Some(token) = page.get("NextToken") else { return ids };
        request = json!({"NextToken": token});
    }
}

#[test]
fn an_old_list_is_that_of_some_time_ago() {
    let server = server(1);
    split(&server, SHARD);
    let between = Instant::now();
    std::thread::sleep(Duration::from_millis(200));
    merge(&server);
    assert_eq!(listed(&server), "0 1 2 3*");
    let old = |age| {
        server.faults().set_list_mode(ListMode::Old(age));
        listed(&server)
    };
    assert_eq!(old(LONG_AGO), "0*");
    assert_eq!(old(LONG_AGO), "0*");
    assert_eq!(server.faults().changed_lists(), 2);
    // On a busy machine the list may be asked for so late that it is that after the merge.
    eventually("the list between split and merge", || old(between.elapsed()) == "0 1* 2*");
    eventually("the newest list becomes old", || old(Duration::from_millis(1)) == "0 1 2 3*");
    server.faults().set_list_mode(ListMode::Old(LONG_AGO));
    server.faults().clear();
    assert_eq!(listed(&server), "0 1 2 3*");
}

#[test]
fn a_list_stays_old_for_as_long_as_it_is_asked_to() {
    let server = server(1);
    let age = Duration::from_millis(300);
    server.faults().set_list_mode(ListMode::Old(age));
    let before = Instant::now();
    split(&server, SHARD);
    eventually("the split is listed", || listed(&server) == "0 1* 2*");
    assert!(before.elapsed() >= age, "{:?}", before.elapsed());
    assert!(server.faults().changed_lists() > 0);
}

#[test]
fn an_old_list_knows_no_change_of_the_shard_count() {
    let server = server(2);
    ok(
        &server,
        "UpdateShardCount",
        json!({"StreamName": STREAM, "TargetShardCount": 4, "ScalingType": "UNIFORM_SCALING"}),
    );
    wait_active(&server, STREAM);
    let after = Instant::now();
    std::thread::sleep(Duration::from_millis(20));
    // The change is that of its time, although nobody has listed the shards since.
    eventually("the list after the change", || {
        server.faults().set_list_mode(ListMode::Old(after.elapsed()));
        listed(&server) == "0 1 2* 3* 4* 5*"
    });
    server.faults().set_list_mode(ListMode::Old(LONG_AGO));
    assert_eq!(listed(&server), "0* 1*");
    let open = json!({"StreamName": STREAM, "ShardFilter": {"Type": "AT_LATEST"}});
    assert_eq!(ok(&server, "ListShards", open)["Shards"].as_array().unwrap().len(), 2);
    // Only the list is old.
    let summary = ok(&server, "DescribeStreamSummary", json!({"StreamName": STREAM}));
    assert_eq!(summary["StreamDescriptionSummary"]["OpenShardCount"], 4);
}

#[test]
fn a_flapping_list_is_old_and_current_in_turn() {
    let server = server(1);
    split(&server, SHARD);
    server.faults().set_list_mode(ListMode::Flapping(LONG_AGO));
    for _ in 0..2 {
        assert_eq!(listed(&server), "0*");
        assert_eq!(listed(&server), "0 1* 2*");
    }
    assert_eq!(server.faults().changed_lists(), 2);
}

#[test]
fn a_partial_list_lacks_parents_or_second_children_in_turn() {
    let server = server(1);
    split(&server, SHARD);
    let partial = |missing| {
        server.faults().set_list_mode(ListMode::Partial(missing));
        (listed(&server), listed(&server), listed(&server))
    };
    let (parents, children) = (MissingShards::Parents, MissingShards::SecondChildren);
    assert_eq!(partial(parents), ("1* 2*".into(), "0 1* 2*".into(), "1* 2*".into()));
    assert_eq!(partial(children), ("0 1*".into(), "0 1* 2*".into(), "0 1*".into()));
    merge(&server);
    assert_eq!(partial(parents).0, "3*");
    // A merge has one child.
    assert_eq!(partial(children).0, "0 1 3*");
    assert_eq!(server.faults().changed_lists(), 8);
}

#[test]
fn the_pages_of_a_listing_are_of_one_list() {
    let server = server(1);
    split(&server, SHARD);
    server.faults().set_page(1);
    let [first, second, third] = [0, 1, 2].map(|number| format!("shardId-{number:012}"));
    for (mode, changed) in [
        (ListMode::Flapping(LONG_AGO), vec![&first]),
        (ListMode::Partial(MissingShards::Parents), vec![&second, &third]),
        (ListMode::Partial(MissingShards::SecondChildren), vec![&first, &second]),
    ] {
        server.faults().set_list_mode(mode);
        for _ in 0..2 {
            assert_eq!(listed_in_pages(&server).iter().collect::<Vec<_>>(), changed, "{mode:?}");
            assert_eq!(listed_in_pages(&server), [&*first, &second, &third], "{mode:?}");
        }
    }
}

#[test]
fn a_stream_that_was_made_again_has_no_old_list() {
    let server = server(1);
    split(&server, SHARD);
    ok(&server, "DeleteStream", json!({"StreamName": STREAM}));
    eventually("the stream is gone", || {
        call(&server, "DescribeStreamSummary", json!({"StreamName": STREAM})).unwrap().status != 200
    });
    create(&server, STREAM, 3);
    server.faults().set_list_mode(ListMode::Old(LONG_AGO));
    assert_eq!(listed(&server), "0* 1* 2*");
}
