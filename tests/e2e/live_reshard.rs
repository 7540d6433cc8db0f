//! A stream that is split, merged and resharded while it is written and followed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Read as _};
use std::time::{Duration, Instant};

use triton_test_server::{Server, ServerOptions};

use crate::home::Home;

const RATE: usize = 2_000;
const SECONDS: usize = 10;
const KEYS: usize = 500;

struct Line {
    shard: String,
    key: String,
    number: usize,
}

impl Line {
    fn parse(line: &str) -> Self {
        let mut parts = line.splitn(3, ' ');
        let mut part = || parts.next().unwrap().to_owned();
        let (shard, key, record) = (part(), part(), part());
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        Self { shard, key, number: record["n"].as_u64().unwrap() as usize }
    }
}

#[test]
fn every_record_is_read_once_and_in_order_while_the_stream_is_split_merged_and_resharded() {
    let server = Server::start(ServerOptions::default()).unwrap();
    let home = Home::on_kinesis("a: {name: a, partition_key: user}\n", &server);
    home.run(&["streams", "create", "-s", "a", "--shards", "4"]).ok();
    let count = (RATE * SECONDS).to_string();
    let mut tail = home.start(&["get", "-s", "a", "--from", "all", "-n", &count, "-o", r"%p %k %s\n"]);
    let reading = std::thread::spawn(move || {
        let lines: Vec<Line> = tail.stdout.by_ref().lines().map(|line| Line::parse(&line.unwrap())).collect();
        assert!(tail.wait().success());
        lines
    });

    let mut put = home.start(&["put", "-s", "a", "--json"]);
    let feeding = std::thread::spawn(move || {
        let started = Instant::now();
        // Twenty handfuls a second, none late for the one before.
        for handful in 0..20 * SECONDS {
            let first = handful * RATE / 20;
            let lines: String = (first..first + RATE / 20)
                .map(|number| format!("{{\"user\": \"user-{}\", \"n\": {number}}}\n", number % KEYS))
                .collect();
            put.write(&lines);
            let due = Duration::from_millis(50 * (handful as u64 + 1));
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
        let (status, _, stderr) = put.end();
        assert!(status.success(), "{stderr}");
    });
    for change in [
        &["split", "-s", "a", "-d", "0"][..],
        &["merge", "-s", "a", "-d", "1", "2"],
        &["reshard", "-s", "a", "--shards", "8"],
    ] {
        std::thread::sleep(Duration::from_secs(2));
        home.run(&[&["streams"], change].concat()).ok();
    }
    feeding.join().unwrap();
    let lines = reading.join().unwrap();

    let mut numbers: Vec<usize> = lines.iter().map(|line| line.number).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..RATE * SECONDS), "every record once");
    let mut last_of_key: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut first_line, mut last_line) = (BTreeMap::new(), BTreeMap::new());
    for (at, line) in lines.iter().enumerate() {
        let before = last_of_key.insert(&line.key, line.number);
        assert!(before < Some(line.number), "{}: {} after {before:?}", line.key, line.number);
        first_line.entry(line.shard.as_str()).or_insert(at);
        last_line.insert(line.shard.as_str(), at);
    }
    let listed = home.run(&["shards", "-s", "a", "-o", "json"]).ok().stdout;
    let (mut open, mut families) = (0, 0);
    for shard in listed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
        open += usize::from(shard["state"] == "open");
        let Some(first) = first_line.get(shard["shard"].as_str().unwrap()) else { continue };
        for parent in shard["parents"].as_array().unwrap() {
            let Some(last) = last_line.get(parent.as_str().unwrap()) else { continue };
            assert!(last < first, "{} is read before the end of {parent}", shard["shard"]);
            families += 1;
        }
    }
    assert_eq!(open, 8);
    assert!(families >= 5, "records were read of {families} parents and children");
}
