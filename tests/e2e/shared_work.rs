//! Two programs that divide the shards of a stream by their ids, and are stopped and started again.

use std::collections::BTreeMap;

use crate::home::{Home, Running, eventually};
use crate::keyed::{assert_in_order_per_key, lines, number};

/// Number of records before, and after, the programs are stopped.
const PART: usize = 150;
const SHARES: [[&str; 2]; 2] =
    [["shardId-000000000000", "shardId-000000000001"], ["shardId-000000000002", "shardId-000000000003"]];

/// Puts records. Returns how many each shard has received, and the command, which goes on.
fn put(home: &Home, part: usize) -> (BTreeMap<String, usize>, Running) {
    let mut put = home.start(&["put", "-q", "-s", "a", "--json", "--ack"]);
    put.write(&lines(part * PART..(part + 1) * PART));
    let mut counts = BTreeMap::new();
    for _ in 0..PART {
        *counts.entry(put.line().split_once(':').unwrap().0.to_owned()).or_default() += 1;
    }
    (counts, put)
}

fn start(home: &Home, share: [&str; 2], further: &[&str]) -> Running {
    let arguments = ["get", "-q", "-s", "a", "-d", share[0], share[1], "--from", "all", "-o", r"%s\n"];
    home.start(&[&arguments[..], further].concat())
}

/// Makes the records that are there, and the shards that are closed, older than their retention.
fn age(home: &Home) {
    let file = rusqlite::Connection::open(home.stream_file("a")).unwrap();
    let two_days = 2 * 24 * 60 * 60 * 1000;
    file.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         UPDATE record SET arrival = arrival - {two_days};
         UPDATE shard SET closed_at = closed_at - {two_days};
         UPDATE stream SET last_arrival = last_arrival - {two_days};
         COMMIT"
    ))
    .unwrap();
}

/// Retention removes the split shard from the list, so that each number means another shard. The ids mean the same shards, and
/// those split from them.
#[test]
fn two_programs_read_everything_after_a_split_and_retention() {
    let home = Home::with_config("a: {name: a, partition_key: user, backend: local, shards: 4}\n");
    let (counts, put_before) = put(&home, 0);
    assert!(put_before.end().0.success());
    assert_eq!(counts.len(), 4, "every shard has records");
    let mut numbers: Vec<usize> = Vec::new();
    for share in SHARES {
        let mut program = start(&home, share, &[]);
        for _ in 0..counts[share[0]] + counts[share[1]] {
            numbers.push(number(&program.line()));
        }
        program.signal("INT");
        let (status, rest, stderr) = program.end();
        assert_eq!((status.code(), rest.as_str(), stderr.as_str()), (Some(0), "", ""));
    }

    home.run(&["streams", "split", "-q", "-s", "a", "-d", SHARES[0][0]]).ok();
    age(&home);
    // The writer of the stream removes what is past retention, soon after its first put.
    let (counts, putting) = put(&home, 1);
    assert!(counts.contains_key("shardId-000000000004") && counts.contains_key("shardId-000000000005"), "{counts:?}");
    eventually("the split shard leaves the list", || {
        let listed = home.run(&["shards", "-q", "-s", "a", "-o", "json"]).ok().stdout;
        !listed.contains(&format!("\"shard\":\"{}\"", SHARES[0][0]))
    });
    assert!(putting.end().0.success());
    let noted = home.run(&["get", "-s", "a", "-d", "0", "--from", "all", "-e", "-o", "%s"]).ok().stderr;
    assert_eq!(noted, "note: shard 0 is shardId-000000000001\n");

    for share in SHARES {
        let (status, read, stderr) = start(&home, share, &["-e"]).end();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
        numbers.extend(read.lines().map(number));
    }
    assert_in_order_per_key(numbers, 2 * PART, "read by both programs together");
}
