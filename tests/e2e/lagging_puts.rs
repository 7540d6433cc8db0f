//! Aggregates that are put while the shard list is old, read as the Kinesis Client Library reads them: of each aggregate, it drops
//! the records whose hash key the shard does not cover.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use triton_core::{HashKey, PartitionKey};
use triton_test_server::{ListMode, Server, ServerOptions};

use crate::direct::Direct;
use crate::home::Home;
use crate::keyed::lines;

/// Number of records of an aggregate. Their hash keys lie on both sides of a split, so that every aggregate that is put by the
/// old list is misrouted in part.
const HANDFUL: usize = 100;
/// Number of handfuls before the split, and after it.
const HANDFULS: usize = 15;
/// The list stays old for many of them.
const PAUSE: Duration = Duration::from_millis(100);

/// How often a case is repeated in which the machine was slower than the list.
const TRIES: usize = 10;

/// Checks that no record is missing. Returns whether the producer was shown a list that was not the current one.
fn loses_nothing(list: ListMode, shards: usize) -> bool {
    let server = Server::start(ServerOptions::default()).unwrap();
    let home = Home::on_kinesis("w: {name: w, partition_key: user}\n", &server);
    home.run(&["streams", "create", "-q", "-s", "w", "--shards", &shards.to_string()]).ok();
    let direct = Direct::to("w", &server);
    server.faults().set_list_mode(list);
    let mut put = home.start(&["put", "-q", "-s", "w", "--json", "--aggregate"]);
    for handful in 0..2 * HANDFULS {
        if handful == HANDFULS {
            // A flapping list begins with the old one.
            server.faults().set_list_mode(list);
            direct.split_first();
        }
        put.write(&lines(handful * HANDFUL..(handful + 1) * HANDFUL));
        std::thread::sleep(PAUSE);
    }
    let (status, _, stderr) = put.end();
    assert!(status.success(), "{list:?}, {shards} shards: every record is acknowledged: {stderr}");
    let count = 2 * HANDFULS * HANDFUL;

    let was_shown = server.faults().changed_lists() > 0;
    server.faults().set_list_mode(ListMode::Current);
    let ranges = hash_keys_of_shards(&home);
    let read = home.run(&["get", "-q", "-s", "w", "--from", "all", "-e", "-o", "json"]).ok().stdout;
    let records: Vec<Value> = read.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(records.iter().any(|record| record["sub"].as_u64() > Some(9)), "there are aggregates");
    let is_kept = |record: &&Value| {
        let key = PartitionKey::new(record["key"].as_str().unwrap().to_owned()).unwrap().hash_key();
        let (first, last) = ranges[record["shard"].as_str().unwrap()];
        record.get("sub").is_none() || (first..=last).contains(&key)
    };
    let kept: BTreeSet<u64> =
        records.iter().filter(is_kept).map(|record| record["data"]["n"].as_u64().unwrap()).collect();
    let missing: Vec<u64> = (0..count as u64).filter(|number| !kept.contains(number)).collect();
    assert!(missing.is_empty(), "{list:?}, {shards} shards: {} of {count} records are missing", missing.len());
    was_shown
}

/// The first and the last hash key of every shard.
fn hash_keys_of_shards(home: &Home) -> BTreeMap<String, (HashKey, HashKey)> {
    let listed = home.run(&["shards", "-q", "-s", "w", "-o", "json"]).ok().stdout;
    let shards = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let key = |key: &Value| key.as_str().unwrap().parse::<HashKey>().unwrap();
    shards
        .map(|shard| {
            (shard["shard"].as_str().unwrap().into(), (key(&shard["first_hash_key"]), key(&shard["last_hash_key"])))
        })
        .collect()
}

#[test]
fn aggregates_that_are_put_by_an_old_list_lose_nothing() {
    let seconds = [1, 3, 10].map(|seconds| ListMode::Old(Duration::from_secs(seconds)));
    std::thread::scope(|scope| {
        for list in seconds.into_iter().chain([ListMode::Flapping(Duration::from_secs(3))]) {
            for shards in [1, 2] {
                scope.spawn(move || {
                    let has_lagged = (0..TRIES).any(|_| loses_nothing(list, shards));
                    assert!(has_lagged, "{list:?}, {shards} shards: the producer was never shown a list that lags");
                });
            }
        }
    });
}
