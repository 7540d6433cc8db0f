//! A client that shows the raw bytes: one connection per request.

use std::io::{Read, Write};
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
