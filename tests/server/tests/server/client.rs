//! A client that shows the raw bytes: one connection per request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use triton_test_server::{Server, ServerOptions};

pub(crate) const SHARD: &str = "shardId-000000000000";
pub(crate) const STREAM: &str = "events";

/// The longest wait for an event, generous enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for an event.
pub(crate) fn eventually(what: &str, mut has_happened: impl FnMut() -> bool) {
    let started = Instant::now();
    while !has_happened() {
        assert!(started.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A server with one stream, which is ACTIVE.
pub(crate) fn server(shards: u32) -> Server {
    let server = Server::start(ServerOptions::default()).unwrap();
    create(&server, STREAM, shards);
    server
}

pub(crate) fn create(server: &Server, stream: &str, shards: u32) {
    ok(server, "CreateStream", json!({"StreamName": stream, "ShardCount": shards}));
    wait_active(server, stream);
}

pub(crate) fn wait_active(server: &Server, stream: &str) {
    eventually("the stream is ACTIVE", || {
        let summary = ok(server, "DescribeStreamSummary", json!({"StreamName": stream}));
        summary["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE"
    });
}

/// The bytes received until the connection closed.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Raw {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

pub(crate) fn send(server: &Server, operation: &str, kind: &str, body: &[u8]) -> TcpStream {
    let url = server.endpoint_url();
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\n\
         X-Amz-Target: Kinesis_20131202.{operation}\r\nX-Amz-Date: 20250101T000000Z\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=c\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream
}

/// Returns `None` if the connection closes without a response.
pub(crate) fn receive(mut stream: TcpStream) -> Option<Raw> {
    let mut bytes = Vec::new();
    // Some tests break the connection.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some(Raw { status, head, body: bytes[end + 4..].to_vec() })
}

pub(crate) fn call(server: &Server, operation: &str, body: Value) -> Option<Raw> {
    receive(send(server, operation, "application/x-amz-json-1.1", body.to_string().as_bytes()))
}

pub(crate) fn ok(server: &Server, operation: &str, body: Value) -> Value {
    let raw = call(server, operation, body).unwrap();
    assert_eq!(raw.status, 200, "{operation}: {}", String::from_utf8_lossy(&raw.body));
    raw.json()
}

/// Expects an error and returns its code.
pub(crate) fn refused(server: &Server, operation: &str, body: Value) -> String {
    let raw = call(server, operation, body).unwrap();
    assert_ne!(raw.status, 200, "{operation}: {}", String::from_utf8_lossy(&raw.body));
    raw.json()["__type"].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn entry(data: &str) -> Value {
    json!({"Data": STANDARD.encode(data), "PartitionKey": data})
}

pub(crate) fn put(server: &Server, data: &[&str]) -> Value {
    let records: Vec<Value> = data.iter().map(|data| entry(data)).collect();
    ok(server, "PutRecords", json!({"StreamName": STREAM, "Records": records}))
}

/// Puts one record and returns its sequence number.
pub(crate) fn put_one(server: &Server, data: &str) -> String {
    text(&put(server, &[data])["Records"][0]["SequenceNumber"])
}

/// An iterator of a shard; `more` has the iterator type and its fields.
pub(crate) fn iterator(server: &Server, shard: &str, more: Value) -> Value {
    let mut body = json!({"StreamName": STREAM, "ShardId": shard});
    for (field, value) in more.as_object().unwrap() {
        body[field] = value.clone();
    }
    ok(server, "GetShardIterator", body)["ShardIterator"].clone()
}

pub(crate) fn page(server: &Server, iterator: &Value) -> Value {
    ok(server, "GetRecords", json!({"ShardIterator": iterator}))
}

/// The data of a page's records.
pub(crate) fn data(page: &Value) -> Vec<String> {
    let records = page["Records"].as_array().unwrap().iter();
    records.map(|record| String::from_utf8(STANDARD.decode(text(&record["Data"])).unwrap()).unwrap()).collect()
}

/// Reads from an iterator to the end of the shard or to the latest record.
pub(crate) fn read(server: &Server, mut iterator: Value) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..100 {
        if iterator.is_null() {
            return all;
        }
        let page = page(server, &iterator);
        all.append(&mut data(&page));
        if page["MillisBehindLatest"] == 0 && !is_closed_end(&page) {
            return all;
        }
        iterator = page["NextShardIterator"].clone();
    }
    panic!("the shard does not end");
}

fn is_closed_end(page: &Value) -> bool {
    page["NextShardIterator"].is_null()
}

pub(crate) fn read_all(server: &Server, shard: &str) -> Vec<String> {
    read(server, iterator(server, shard, json!({"ShardIteratorType": "TRIM_HORIZON"})))
}

pub(crate) fn shards(server: &Server) -> Vec<Value> {
    ok(server, "ListShards", json!({"StreamName": STREAM}))["Shards"].as_array().unwrap().clone()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Splits a shard in the middle of all hash keys.
pub(crate) fn split(server: &Server, shard: &str) {
    split_at(server, shard, 1 << 127);
}

pub(crate) fn split_at(server: &Server, shard: &str, key: u128) {
    let key = key.to_string();
    ok(server, "SplitShard", json!({"StreamName": STREAM, "ShardToSplit": shard, "NewStartingHashKey": key}));
    wait_active(server, STREAM);
}

/// Merges the two children of the first shard.
pub(crate) fn merge(server: &Server) {
    let [left, right] = ["shardId-000000000001", "shardId-000000000002"];
    ok(server, "MergeShards", json!({"StreamName": STREAM, "ShardToMerge": left, "AdjacentShardToMerge": right}));
    wait_active(server, STREAM);
}

/// A server with one stream and a consumer, whose subscriptions may follow one another at once.
pub(crate) fn server_with_consumer(shards: u32, heartbeat: Duration) -> (Server, String) {
    let options = ServerOptions::default().with_subscription_interval(Duration::ZERO).with_heartbeat(heartbeat);
    let server = Server::start(options).unwrap();
    create(&server, STREAM, shards);
    let consumer = register(&server);
    (server, consumer)
}

/// Registers a consumer of the stream and returns its ARN.
pub(crate) fn register(server: &Server) -> String {
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/events";
    let body = json!({"StreamARN": arn, "ConsumerName": "consumer"});
    let consumer = text(&ok(server, "RegisterStreamConsumer", body)["Consumer"]["ConsumerARN"]);
    eventually("the consumer is ACTIVE", || {
        let found = ok(server, "DescribeStreamConsumer", json!({"ConsumerARN": consumer}));
        found["ConsumerDescription"]["ConsumerStatus"] == "ACTIVE"
    });
    consumer
}

/// A subscription's events, as they come.
pub(crate) struct Events {
    connection: BufReader<TcpStream>,
    /// Number of bytes left of the current HTTP chunk.
    left: usize,
}

pub(crate) fn subscribe(server: &Server, consumer: &str, shard: &str, position: Value) -> Events {
    let body = json!({"ConsumerARN": consumer, "ShardId": shard, "StartingPosition": position});
    let stream = send(server, "SubscribeToShard", "application/x-amz-json-1.1", body.to_string().as_bytes());
    let mut connection = BufReader::new(stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(connection.read_until(b'\n', &mut head).unwrap() > 0, "the head ends");
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    let mut events = Events { connection, left: 0 };
    events.message().expect("the initial response");
    events
}

impl Events {
    /// The next event; `None` after the last one.
    pub(crate) fn next(&mut self) -> Option<Value> {
        self.message().map(|payload| serde_json::from_slice(&payload).unwrap())
    }

    /// The payload of the next message.
    fn message(&mut self) -> Option<Vec<u8>> {
        // Length, length of the headers, and a checksum; then headers, payload, and another checksum.
        let mut prelude = [0; 12];
        if self.read(&mut prelude[..1]).unwrap() == 0 {
            return None;
        }
        self.read_exact(&mut prelude[1..]).unwrap();
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap()) as usize;
        let (length, headers) = (number(&prelude[..4]), number(&prelude[4..8]));
        let mut rest = vec![0; length - prelude.len()];
        self.read_exact(&mut rest).unwrap();
        Some(rest[headers..rest.len() - 4].to_vec())
    }
}

impl Read for Events {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.left == 0 {
            let mut line = String::new();
            self.connection.read_line(&mut line)?;
            match line.trim() {
                // The end of the chunk before.
                "" => {}
                "0" => return Ok(0),
                size => self.left = usize::from_str_radix(size, 16).unwrap(),
            }
        }
        let length = buffer.len().min(self.left);
        let read = self.connection.read(&mut buffer[..length])?;
        self.left -= read;
        Ok(read)
    }
}
