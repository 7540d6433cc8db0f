//! Tails that follow a stream while it is written, split and merged.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Read as _};

use crate::home::Home;

const LINES: usize = 100_000;
const TAILS: usize = 10;

/// Ten tails read every line once, in order per shard, through a split and a merge.
#[test]
fn ten_tails_read_every_record_through_a_split_and_a_merge() {
    let home = Home::with_config("a: {name: a, partition_key: null, backend: local, shards: 2}\n");
    home.run(&["shards", "-s", "a"]).ok();
    let count = LINES.to_string();
    // From all: a tail that starts late reads the same.
    let arguments = ["get", "-s", "a", "--from", "all", "-n", &count, "-o", r"%p %o %s\n"];
    let tails: Vec<_> = (0..TAILS)
        .map(|_| {
            let mut tail = home.start(&arguments);
            std::thread::spawn(move || {
                let mut lines: Vec<String> = Vec::new();
                for line in tail.stdout.by_ref().lines() {
                    lines.push(line.unwrap());
                }
                assert!(tail.wait().success());
                lines
            })
        })
        .collect();

    let mut put = home.start(&["put", "-s", "a"]);
    for part in 0..10 {
        let lines: String = (0..LINES / 10).map(|n| format!("{}\n", part * LINES / 10 + n)).collect();
        put.write(&lines);
        match part {
            3 => drop(home.run(&["streams", "split", "-s", "a", "-d", "0"]).ok()),
            6 => drop(home.run(&["streams", "merge", "-s", "a", "-d", "3", "1"]).ok()),
            _ => {}
        }
    }
    assert!(put.end().0.success());

    for tail in tails {
        let lines = tail.join().unwrap();
        assert_eq!(lines.len(), LINES);
        let mut numbers: Vec<usize> = Vec::new();
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for line in &lines {
            let mut parts = line.splitn(3, ' ');
            let (shard, sequence) = (parts.next().unwrap(), parts.next().unwrap().parse::<u64>().unwrap());
            let before = last.insert(shard.to_owned(), sequence);
            assert!(before < Some(sequence), "{shard} goes back from {before:?} to {sequence}");
            let record: serde_json::Value = serde_json::from_str(parts.next().unwrap()).unwrap();
            numbers.push(record["msg"].as_str().unwrap().trim_end().parse().unwrap());
        }
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..LINES), "each line once");
        assert!(last.len() > 2, "the shards that came of the split and the merge hold records: {last:?}");
    }
}

#[test]
fn a_tail_from_latest_sees_what_is_put_while_it_runs() {
    let home = Home::new();
    home.feed(&["put", "-q", "-s", "a"], "old\n").ok();
    let mut tail = home.start(&["get", "-v", "--local", "-s", "a", "-o", r"%s\n"]);
    // The tail does not report its start, so keep putting until it prints a record.
    let mut put = home.start(&["put", "-q", "-s", "a"]);
    let (seen, enough) = std::sync::mpsc::channel::<()>();
    let feeding = std::thread::spawn(move || {
        let pause = std::time::Duration::from_millis(5);
        let mut numbers = 0..;
        while enough.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            put.write(&format!("{}\n", numbers.next().unwrap()));
        }
    });
    let first = tail.line();
    assert!(!first.contains("old") && first.contains("\"msg\":\""), "{first}");
    let number = |line: &str| -> usize {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["msg"].as_str().unwrap().trim_end().parse().unwrap()
    };
    let mut expected = number(&first);
    for _ in 0..50 {
        expected += 1;
        assert_eq!(number(&tail.line()), expected, "none is missing");
    }
    drop(seen);
    feeding.join().unwrap();
}

#[test]
fn positions_start_where_they_should() {
    let home = Home::new();
    let acks = home.feed(&["put", "-q", "-s", "a", "--ack"], "0\n1\n2\n").ok().stdout;
    let second = acks.lines().nth(1).unwrap().to_owned();
    let get = |from: &str| {
        let ran = home.run(&["get", "-q", "-s", "a", "--from", from, "-e", "-o", "%s"]).ok();
        ran.stdout.matches("msg").count()
    };
    assert_eq!(get("latest"), 0);
    assert_eq!(get("all"), 3);
    assert_eq!(get(&format!("at:{second}")), 2);
    assert_eq!(get(&format!("after:{second}")), 1);
    assert_eq!(get("-10m"), 3);
    assert_eq!(get("2015-06-10T20:47:56Z"), 3);
    let future = home.run(&["get", "-q", "-s", "a", "--from", "2999-01-01T00:00:00Z", "-e"]);
    assert_eq!(future.mistake(), "error: --from: that time is in the future\n[2]");
    let limited = home.run(&["get", "-q", "-s", "a", "--from", "all", "-n", "2", "-o", "json"]).ok();
    assert_eq!(limited.stdout.lines().count(), 2);
    let none = home.run(&["get", "-q", "-s", "a", "--from", "all", "-n", "0"]).ok();
    assert_eq!(none.stdout, "");
}
