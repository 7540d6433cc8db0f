//! A stream that is split, merged and resharded while it is written and followed.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use triton_test_server::{Server, ServerOptions};

use crate::home::{Home, Running};

const KEYS: usize = 500;
/// Enough for records of every key, and so of every shard.
const SOME: usize = 2_000;
const HANDFUL: usize = 100;

/// Puts numbered records, of which at most [`SOME`] are not acknowledged.
struct Feed {
    put: Running,
    sent: usize,
    acknowledged: usize,
}

impl Feed {
    fn put_handful(&mut self) {
        let lines: String = (self.sent..self.sent + HANDFUL)
            .map(|number| format!("{{\"user\": \"user-{}\", \"n\": {number}}}\n", number % KEYS))
            .collect();
        self.put.write(&lines);
        self.sent += HANDFUL;
        self.wait_for_all_but(SOME);
    }

    fn put_some(&mut self) {
        for _ in 0..SOME / HANDFUL {
            self.put_handful();
        }
        self.wait_for_all_but(0);
    }

    fn wait_for_all_but(&mut self, count: usize) {
        while self.sent - self.acknowledged > count {
            assert!(self.put.line().starts_with("shardId-"));
            self.acknowledged += 1;
        }
    }
}

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
    let mut tail = home.start(&["get", "-s", "a", "--from", "all", "-o", r"%p %k %s\n"]);
    let total = Arc::new(OnceLock::new());
    let expected = Arc::clone(&total);
    let reading = std::thread::spawn(move || {
        let mut lines = Vec::new();
        while expected.get().is_none_or(|total| lines.len() < *total) {
            lines.push(Line::parse(&tail.line()));
        }
        tail.signal("INT");
        let (status, rest, stderr) = tail.end();
        assert_eq!((status.code(), rest.as_str(), stderr.as_str()), (Some(0), "", ""));
        lines
    });

    let mut feed = Feed { put: home.start(&["put", "-s", "a", "--json", "--ack"]), sent: 0, acknowledged: 0 };
    for change in [
        &["split", "-s", "a", "-d", "0"][..],
        &["merge", "-s", "a", "-d", "1", "2"],
        &["reshard", "-s", "a", "--shards", "8"],
    ] {
        feed.put_some();
        std::thread::scope(|scope| {
            let changing = scope.spawn(|| home.run(&[&["streams"], change].concat()).ok());
            while !changing.is_finished() {
                feed.put_handful();
            }
        });
    }
    // Set before the last records are put, so that the reader does not wait for a record that never comes.
    total.set(feed.sent + SOME).unwrap();
    feed.put_some();
    let count = feed.sent;
    let (status, _, stderr) = feed.put.end();
    assert!(status.success(), "{stderr}");
    let lines = reading.join().unwrap();

    let mut numbers: Vec<usize> = lines.iter().map(|line| line.number).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..count), "every record once");
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
