//! Records exchanged with boto3 and msgpack from PyPI, in both directions.

use serde_json::{Value, json};
use triton_test_server::{Server, ServerOptions};

use crate::home::{Home, Ran};
use crate::python;

const CONFIG: &str = "clicks: {name: clicks_v2, partition_key: user}\n";

/// Runs the Python client in the command's environment.
fn client(home: &Home, server: &Server, arguments: &[&str], input: &str) -> Ran {
    let mut command = python("client.py");
    command.args(arguments).env_clear().env("HOME", home.path()).envs([
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", &server.endpoint_url()),
    ]);
    home.run_with(command, input.as_bytes())
}

/// Maps with every kind of JSON value, each with a key.
fn records() -> Vec<Value> {
    let mut records: Vec<Value> = (0..1_200).map(|n| json!({"user": format!("user-{}", n % 50), "n": n})).collect();
    records.extend([
        json!({"user": "日本語 🙂", "text": "ein Straßenname\n\u{0}", "empty": ""}),
        json!({"user": "numbers", "small": -1, "large": u64::MAX, "least": i64::MIN, "fraction": 1433969276.172019}),
        json!({"user": "nested", "list": [1, [2, [3, {}]], null, true, false], "map": {"a": {"b": {"c": []}}}}),
        json!({"user": "long", "text": "x".repeat(300_000)}),
    ]);
    records
}

fn lines(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

/// Sorted by content, because shards interleave.
fn sorted(mut records: Vec<Value>) -> Vec<String> {
    records.sort_by_key(|record| (record["user"].to_string(), record["n"].as_u64()));
    records.iter().map(Value::to_string).collect()
}

fn parse(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn payloads(lines: &[Value]) -> Vec<Value> {
    for line in lines {
        assert_eq!(line["key"], line["data"]["user"], "the key is the field that the config names");
    }
    lines.iter().map(|line| line["data"].clone()).collect()
}

#[test]
fn triton_gets_what_boto3_puts() {
    let server = Server::start(ServerOptions::default()).unwrap();
    let home = Home::on_kinesis(CONFIG, &server);
    home.run(&["streams", "create", "-s", "clicks", "--shards", "3"]).ok();
    client(&home, &server, &["put", "clicks_v2", "user"], &lines(&records())).ok();
    let got = home.run(&["get", "-s", "clicks", "--from", "all", "-e", "-o", "json"]).ok();
    assert_eq!(sorted(payloads(&parse(&got.stdout))), sorted(records()));
}

#[test]
fn boto3_gets_what_triton_puts() {
    let server = Server::start(ServerOptions::default()).unwrap();
    let home = Home::on_kinesis(CONFIG, &server);
    home.run(&["streams", "create", "-s", "clicks", "--shards", "3"]).ok();
    let acks = home.feed(&["put", "-s", "clicks", "--json", "--ack"], lines(&records())).ok().stdout;
    let got = parse(&client(&home, &server, &["get", "clicks_v2"], "").ok().stdout);
    assert_eq!(sorted(payloads(&got)), sorted(records()));
    let word = |line: &Value, field: &str| line[field].as_str().unwrap().to_owned();
    let mut places: Vec<String> =
        got.iter().map(|line| format!("{}:{}", word(line, "shard"), word(line, "seq"))).collect();
    let mut acknowledged: Vec<&str> = acks.lines().collect();
    places.sort();
    acknowledged.sort();
    assert_eq!(places, acknowledged, "each is where it was acknowledged");
}

#[test]
fn lines_are_put_in_the_format_of_older_versions() {
    let server = Server::start(ServerOptions::default()).unwrap();
    let home = Home::on_kinesis("clicks: {name: clicks_v2, partition_key: null}\n", &server);
    home.run(&["streams", "create", "-s", "clicks"]).ok();
    home.feed(&["put", "-s", "clicks"], "hi\n").ok();
    let got = parse(&client(&home, &server, &["get", "clicks_v2"], "").ok().stdout);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0]["data"]["msg"], "hi\n");
    assert!(got[0]["data"]["ts"].is_f64(), "{}", got[0]);
}
