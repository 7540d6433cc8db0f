//! kill -9 after a random number of acknowledgements: every acknowledged line is there, in order per key.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher as _;
use std::io::{BufRead as _, Read as _, Write as _};
use std::time::Duration;

use crate::home::Home;

const KEYS: usize = 4;

/// The most acknowledgements that are read before a kill.
const MOST_ACKS: u64 = 400;
/// The longest pause between the last of them and the kill. Nothing depends on it: it only varies what is killed.
const LONGEST_PAUSE_MICROS: u64 = 50_000;

/// How often to kill: `TRITON_KILLS`, 20 if it is not set.
fn kills() -> usize {
    std::env::var("TRITON_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20)
}

/// A number below `end`.
fn random(end: u64) -> u64 {
    RandomState::new().hash_one(()) % end
}

#[test]
fn acknowledged_records_survive_a_kill() {
    let home = Home::with_config("a: {name: a, partition_key: key, backend: local, shards: 2}\n");
    let mut acknowledged: Vec<String> = Vec::new();
    let mut number = 0;
    for kill in 0..kills() {
        // Every fifth kill comes before the first acknowledgement is read.
        let acks = if kill % 5 == 0 { 0 } else { 1 + random(MOST_ACKS) };
        let mut put = home.start(&["put", "-s", "a", "--json", "--ack"]);
        let mut stdin = put.child.stdin.take().unwrap();
        let first = number;
        let feeding = std::thread::spawn(move || {
            let mut n = first;
            loop {
                let lines: String = (n..n + 50)
                    .map(|n| {
                        format!("{{\"key\":\"key-{}\",\"n\":{n},\"pad\":\"{}\"}}\n", n % KEYS, "x".repeat(n % 300))
                    })
                    .collect();
                n += 50;
                // The pipe breaks with the kill.
                if stdin.write_all(lines.as_bytes()).is_err() {
                    return n;
                }
            }
        });
        for _ in 0..acks {
            let line = put.line();
            assert!(line.ends_with('\n'), "the command ended by itself after {line:?}");
            acknowledged.push(line.trim_end().to_owned());
        }
        std::thread::sleep(Duration::from_micros(random(LONGEST_PAUSE_MICROS)));
        put.child.kill().unwrap();
        put.child.wait().unwrap();
        number = feeding.join().unwrap();
        for line in put.stdout.by_ref().lines() {
            let line = line.unwrap();
            // The last line may be cut.
            if line.len() > "shardId-000000000000:".len() + 15 {
                acknowledged.push(line);
            }
        }
    }

    let stored = home.all("a", r"%p:%o %s\n");
    let places: BTreeSet<&str> = stored.iter().map(|line| line.split(' ').next().unwrap()).collect();
    for place in &acknowledged {
        assert!(places.contains(place.as_str()), "{place} was acknowledged and is not there");
    }
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for line in &stored {
        let record: serde_json::Value = serde_json::from_str(line.split_once(' ').unwrap().1).unwrap();
        let (key, n) = (record["key"].as_str().unwrap().to_owned(), record["n"].as_u64().unwrap());
        assert!(last.insert(key.clone(), n) < Some(n), "{key} goes back to {n}");
    }
    // The stream is intact for the next writer.
    home.feed(&["put", "-s", "a", "--json"], "{\"key\":\"key-0\",\"n\":0}\n").ok();
}
