use std::collections::HashMap;

use serde_json::{Value, json};
use triton_test_server::Server;

use crate::client::*;

fn update(target: u32) -> Value {
    json!({"StreamName": STREAM, "TargetShardCount": target, "ScalingType": "UNIFORM_SCALING"})
}

/// Checks that the open shards cover all hash keys and know their parents. Returns their first hash keys.
fn open(server: &Server) -> Vec<u128> {
    let shards = shards(server);
    let by_id: HashMap<String, &Value> = shards.iter().map(|shard| (text(&shard["ShardId"]), shard)).collect();
    let key = |shard: &Value, end: &str| text(&shard["HashKeyRange"][end]).parse::<u128>().unwrap();
    let mut open = Vec::new();
    for shard in &shards {
        let (first, last) = (key(shard, "StartingHashKey"), key(shard, "EndingHashKey"));
        if shard["SequenceNumberRange"].get("EndingSequenceNumber").is_none() {
            open.push((first, last));
        }
        if let Some(parent) = shard["ParentShardId"].as_str() {
            let parent = by_id[parent];
            assert!(parent["SequenceNumberRange"]["EndingSequenceNumber"].is_string());
            assert!(key(parent, "StartingHashKey") <= first, "{shard}");
            match shard["AdjacentParentShardId"].as_str() {
                Some(adjacent) => assert_eq!(key(by_id[adjacent], "EndingHashKey"), last, "{shard}"),
                None => assert!(last <= key(parent, "EndingHashKey"), "{shard}"),
            }
        }
    }
    open.sort_unstable();
    assert_eq!((open[0].0, open[open.len() - 1].1), (0, u128::MAX));
    assert!(open.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0), "{open:?}");
    open.into_iter().map(|(first, _)| first).collect()
}

#[test]
fn the_shard_count_changes_by_splits_and_merges() {
    let server = server(4);
    let mut roots = 4;
    for target in [8, 5, 3, 6, 4, 2, 1, 2] {
        server.faults().hold_resharding(true);
        let answer = ok(&server, "UpdateShardCount", update(target));
        assert_eq!(answer["TargetShardCount"], target);
        let summary = ok(&server, "DescribeStreamSummary", json!({"StreamName": STREAM}));
        assert_eq!(summary["StreamDescriptionSummary"]["StreamStatus"], "UPDATING");
        assert_eq!(refused(&server, "UpdateShardCount", update(target)), "ResourceInUseException");
        put(&server, &["before", "it"]);
        server.faults().hold_resharding(false);
        put(&server, &["while", "it", "runs"]);
        wait_active(&server, STREAM);
        let firsts = open(&server);
        assert_eq!(firsts.len(), target as usize);
        for (place, first) in firsts.iter().enumerate() {
            let exact = u128::MAX / u128::from(target) * place as u128;
            assert!(first.abs_diff(exact) < 1000, "{target}: {firsts:?}");
        }
        let parentless = shards(&server).iter().filter(|shard| shard.get("ParentShardId").is_none()).count();
        assert_eq!(std::mem::replace(&mut roots, parentless), 4);
    }
    // Nothing was lost on the way.
    let all: usize = shards(&server).iter().map(|shard| read_all(&server, &text(&shard["ShardId"])).len()).sum();
    assert_eq!(all, 8 * 5);
}

#[test]
fn the_shard_count_at_most_doubles_and_at_least_halves() {
    let server = server(3);
    for target in [7, 1] {
        assert_eq!(refused(&server, "UpdateShardCount", update(target)), "InvalidArgumentException");
    }
    let missing = json!({"StreamName": "none", "TargetShardCount": 1, "ScalingType": "UNIFORM_SCALING"});
    assert_eq!(refused(&server, "UpdateShardCount", missing), "ResourceNotFoundException");
    ok(&server, "UpdateShardCount", update(6));
    wait_active(&server, STREAM);
    ok(&server, "UpdateShardCount", update(12));
    wait_active(&server, STREAM);
    // Doubling splits every shard once: no slivers, no merges.
    assert_eq!((open(&server).len(), shards(&server).len()), (12, 3 + 6 + 12));
}
