//! The command against a Kinesis server.

use std::time::Duration;

use triton_test_server::{Fault, Operation, Server, ServerOptions};

use crate::home::Home;

const CONFIG: &str = "test_stream: {name: test_stream_v2, partition_key: null}\n";

fn server() -> Server {
    Server::start(ServerOptions::default()).unwrap()
}

fn with_stream(server: &Server) -> Home {
    let home = Home::on_kinesis(CONFIG, server);
    home.run(&["streams", "create", "-s", "test_stream", "--shards", "2"]).ok();
    home
}

/// The commands that users of older versions have in their scripts.
#[test]
fn the_demo_of_older_versions_works_word_for_word() {
    let server = server();
    let endpoint = server.endpoint_url();
    let home = Home::on_kinesis(CONFIG, &server);
    home.run(&["streams", "create", "-s", "test_stream", "--shards", "1"]).ok();
    let home = home.with_variable("AWS_ENDPOINT_URL", None);
    let tail = ["get", "-s", "test_stream", "--endpoint-url", &endpoint];
    let mut tail = home.start(&tail);
    crate::home::eventually("a tail has opened the shard", || server.faults().requests(Operation::GetRecords) >= 1);
    let put = home.feed(&["put", "-s", "test_stream", "--endpoint-url", &endpoint], "hi\n").ok();
    assert_eq!((put.stdout.as_str(), put.stderr.as_str()), ("", ""));
    let header = tail.line();
    let mut words = header.trim_end().trim_end_matches('>').split(' ');
    assert_eq!(words.next(), Some("<Record"));
    assert!(words.next().unwrap().starts_with("shardId-00000000000"), "{header}");
    assert_eq!(words.next().unwrap().len(), 56, "a sequence number of Kinesis: {header}");
    let record = tail.line();
    assert!(record.starts_with("{'msg': 'hi\\n', 'ts': 1"), "{record}");
    assert_eq!(tail.line(), "\n");
    tail.signal("INT");
    let (status, rest, stderr) = tail.end();
    assert_eq!((status.code(), rest.as_str(), stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn deleting_one_config_line_moves_a_local_stream_to_kinesis() {
    let server = server();
    let home = Home::on_kinesis("clicks: {name: clicks, partition_key: null, backend: local}\n", &server);
    home.feed(&["put", "-s", "clicks"], "here\n").ok();
    assert_eq!(server.faults().requests(Operation::Any), 0);

    home.write("triton.yaml", "clicks: {name: clicks, partition_key: null}\n");
    home.run(&["streams", "create", "-s", "clicks"]).ok();
    home.feed(&["put", "-s", "clicks"], "there\n").ok();
    assert!(home.all("clicks", r"%s\n")[0].contains("there"));
    assert!(home.run(&["get", "--local", "-q", "-s", "clicks", "--from", "all", "-e"]).ok().stdout.contains("here"));
}

/// With the flag and with the config, and through a lost response.
#[test]
fn aggregates_are_put_and_read_record_by_record() {
    let server = server();
    let home = with_stream(&server);
    let lines: String = (0..3_000).map(|n| format!("line {n}\n")).collect();
    server.faults().inject(Operation::PutRecords, Fault::ResetBefore, 1);
    let acks = home.feed(&["put", "-s", "test_stream", "--aggregate", "--ack", "-k", "one key"], &lines).ok().stdout;
    let acks: Vec<&str> = acks.lines().collect();
    assert_eq!(acks.len(), 3_000);
    // Depends on how fast lines are read; without aggregation there would be 3,000 records.
    assert!(server.faults().requests(Operation::PutRecords) < 300, "{:?}", server.faults());

    let got = home.run(&["get", "-s", "test_stream", "--from", "all", "-e", "-o", "json"]).ok().stdout;
    let read: Vec<serde_json::Value> = got.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let texts: String = read.iter().map(|record| record["data"]["msg"].as_str().unwrap()).collect();
    assert_eq!(texts, lines, "in the order of the input, each once");
    assert!(read.iter().any(|record| record["sub"].as_u64() > Some(10)));
    assert!(read.iter().all(|record| record["key"] == "one key"));
    let id = |record: &serde_json::Value| {
        let sub = record["sub"].as_u64().map_or(String::new(), |sub| format!(".{sub}"));
        format!("{}:{}{sub}", record["shard"].as_str().unwrap(), record["seq"].as_str().unwrap())
    };
    assert_eq!(acks, read.iter().map(id).collect::<Vec<_>>(), "each is where it was acknowledged");

    // A position inside an aggregate.
    let inside = (1_000..2_000).find(|&n| read[n]["sub"].as_u64() > Some(0)).unwrap();
    for (from, first) in [("at", inside), ("after", inside + 1)] {
        let from = format!("{from}:{}", acks[inside]);
        let rest = home.run(&["get", "-s", "test_stream", "--from", &from, "-e", "-o", "json"]).ok().stdout;
        assert_eq!(rest, got.lines().skip(first).map(|line| format!("{line}\n")).collect::<String>(), "{from}");
    }

    home.write("triton.yaml", "test_stream: {name: test_stream_v2, partition_key: null, aggregate: true}\n");
    home.feed(&["put", "-s", "test_stream"], "a\nb\n").ok();
    let last = home.run(&["get", "-s", "test_stream", "--from", "all", "-e", "-o", "json"]).ok().stdout;
    assert_eq!(last.lines().count(), 3_002);
}

#[test]
fn streams_are_created_changed_listed_and_deleted() {
    let server = server();
    let home = with_stream(&server);
    let run = |arguments: &[&str]| home.run(arguments).ok().stdout;
    run(&["streams", "split", "-s", "test_stream", "-d", "0"]);
    run(&["streams", "merge", "-s", "test_stream", "-d", "3", "1"]);
    insta::assert_snapshot!(run(&["shards", "-s", "test_stream", "--tree"]), @r"
       0  shardId-000000000000      [################................]  closed
       2    shardId-000000000002    [########........................]  open
       3    shardId-000000000003    [........########................]  closed
       4      shardId-000000000004  [........########################]  open  + 1
       1  shardId-000000000001      [................################]  closed
    ");
    run(&["streams", "reshard", "-s", "test_stream", "--shards", "5"]);
    insta::assert_snapshot!(run(&["streams", "list"]), @r"
    STREAM       NAME            BACKEND  OPEN SHARDS
    test_stream  test_stream_v2  kinesis  5
    ");
    insta::assert_snapshot!(home.run(&["streams", "create", "-s", "test_stream"]).mistake(), @r"
    error: stream 'test_stream_v2' exists already in us-east-1 at [SERVER]
    [1]
    ");
    insta::assert_snapshot!(home.run(&["streams", "create", "-s", "test_stream", "--retention", "2h"]).mistake(), @r"
    error: Kinesis keeps records for whole hours, from 24h to 365d
    [2]
    ");
    run(&["streams", "delete", "-s", "test_stream", "--yes"]);
    assert!(run(&["streams", "list"]).contains("kinesis  -"));
    // Without a config, all streams of the account are listed.
    run(&["streams", "create", "-s", "test_stream", "--retention", "7d"]);
    assert!(run(&["doctor"]).contains("keeps records 168 h"));
    std::fs::remove_file(home.path().join("triton.yaml")).unwrap();
    insta::assert_snapshot!(run(&["streams", "list"]), @r"
    STREAM          NAME            BACKEND  OPEN SHARDS
    test_stream_v2  test_stream_v2  kinesis  1
    ");
}

#[test]
fn doctor_reports_what_works_and_what_does_not() {
    let server = server();
    let home = with_stream(&server);
    let stdout = home.run(&["doctor"]).ok().stdout;
    let (rest, clock) = stdout.split_at(stdout.find("ok    clock").unwrap());
    insta::assert_snapshot!(rest, @r"
    ok    config       triton.yaml: 1 stream
    ok    region       us-east-1 at [SERVER]
    ok    credentials  accepted by Kinesis in us-east-1 at [SERVER]
    ok    stream       'test_stream' is test_stream_v2: ACTIVE, open shards: 2, provisioned, keeps records 24 h
    ");
    // On a busy machine a late response makes the clock look wrong.
    assert!(clock.contains("us-east-1 at [SERVER]"), "{clock}");
    home.write("triton.yaml", format!("{CONFIG}other: {{name: other, partition_key: null}}\nhere: {{name: here, partition_key: null, backend: local}}\n"));
    let ran = home.run(&["doctor"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(5), ""));
    assert!(ran.stdout.contains("FAIL  stream       'other': stream 'other' not found in us-east-1"), "{}", ran.stdout);
    assert!(ran.stdout.contains("ok    stream       'here' is local, created on first use"), "{}", ran.stdout);
    let ran = home.with_variable("AWS_ACCESS_KEY_ID", None).run(&["doctor", "-s", "test_stream"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(4), ""));
    assert!(ran.stdout.contains("FAIL  credentials  no AWS credentials found"), "{}", ran.stdout);
}

#[test]
fn without_credentials() {
    let server = server();
    let home = Home::on_kinesis(CONFIG, &server).with_variable("AWS_ACCESS_KEY_ID", None);
    for command in ["put", "get", "shards"] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(home.run(&[command, "-s", "test_stream"]).mistake(), @r"
            error: no AWS credentials found (environment, profile 'default', instance role)
              help: set $AWS_PROFILE or $AWS_ACCESS_KEY_ID as for any AWS tool; 'triton doctor' checks
            [4]
            ");
        }
    }
}

#[test]
fn a_stream_that_does_not_exist_in_the_region() {
    let server = server();
    let home = Home::on_kinesis(CONFIG, &server);
    for command in ["put", "get", "shards"] {
        let ran = home.run(&[command, "-s", "test_stream", "--region", "eu-west-1"]);
        insta::allow_duplicates! {
            insta::assert_snapshot!(ran.mistake(), @r"
            error: stream 'test_stream_v2' not found in eu-west-1 at [SERVER]
              help: 'triton streams list' shows those that exist
            [5]
            ");
        }
    }
    insta::assert_snapshot!(home.run(&["get", "-s", "test_stream", "--region", "eu west"]).mistake(), @r"
    error: 'eu west' is not an AWS region
    [3]
    ");
}

#[test]
fn without_a_region_the_default_is_used_and_noted() {
    let server = server();
    let home = with_stream(&server).with_variable("AWS_REGION", None);
    let ran = home.feed(&["put", "-s", "test_stream"], "hi\n").ok();
    assert_eq!(ran.stderr, "note: no region is set: using us-east-1\n");
    // The config's region overrides the environment's.
    home.write("triton.yaml", "test_stream: {name: gone, partition_key: null, region: ap-south-1}\n");
    let ran = home.with_variable("AWS_REGION", Some("us-west-2")).run(&["shards", "-s", "test_stream"]);
    assert_eq!(ran.code, Some(5));
    assert!(ran.stderr.starts_with("error: stream 'gone' not found in ap-south-1"), "{ran:?}");
}

#[test]
fn access_denied() {
    let server = server();
    let home = with_stream(&server);
    server.faults().inject(Operation::PutRecords, Fault::AccessDenied, 1);
    let ran = home.feed(&["put", "-s", "test_stream"], "hi\n");
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stderr.starts_with("error: 1 of 1 records were not put\n  cause: access denied: "), "{ran:?}");
    server.faults().inject(Operation::ListShards, Fault::AccessDenied, 9);
    let ran = home.run(&["get", "-s", "test_stream"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stderr.starts_with("error: access denied: "), "{ran:?}");
}

#[test]
fn throttled_for_too_long() {
    let server = server();
    let home = with_stream(&server);
    server.faults().inject(Operation::ListShards, Fault::LimitExceeded, 99);
    let ran = home.run(&["shards", "-s", "test_stream"]);
    assert_eq!(ran.code, Some(6), "{ran:?}");
    assert!(ran.stderr.starts_with("error: throttled: "), "{ran:?}");
    assert_eq!(server.faults().injected(Fault::LimitExceeded), 3, "after the retries");
}

#[test]
fn a_server_that_cannot_be_reached() {
    // Below 1024: never assigned to a test that binds port 0.
    let home = Home::on_kinesis(CONFIG, &server()).with_variable("AWS_ENDPOINT_URL", Some("http://127.0.0.1:9"));
    insta::assert_snapshot!(home.run(&["get", "-s", "test_stream"]).mistake(), @r"
    error: Kinesis in us-east-1 at http://127.0.0.1:9 cannot be reached
      cause: Connection refused (os error 111)
      help: 'triton doctor' shows what works
    [6]
    ");
    let insecure = home.run(&["get", "-s", "test_stream", "--endpoint-url", "http://kinesis.example:4567"]);
    insta::assert_snapshot!(insecure.mistake(), @r"
    error: endpoint http://kinesis.example:4567 is plain HTTP to another machine, which anyone on the network can read
      help: use https, or --insecure-endpoint if that is what you want
    [3]
    ");
}

#[test]
fn put_and_get_work_without_permission_to_describe_the_stream() {
    let server = server();
    let home = with_stream(&server);
    server.faults().inject(Operation::DescribeStreamSummary, Fault::AccessDenied, 99);
    let ran = home.feed(&["put", "-s", "test_stream"], "hi\n").ok();
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    assert!(ran.stderr.starts_with("warn: stream 'test_stream_v2': using Kinesis' default limits"), "{ran:?}");
    assert!(home.run(&["get", "-s", "test_stream", "--from", "all", "-e"]).ok().stdout.contains("{'msg': 'hi\\n'"));
}

#[test]
fn a_signal_ends_a_wait_for_a_silent_server() {
    let server = server();
    let home = with_stream(&server);
    for command in ["put", "get"] {
        server.faults().inject(Operation::DescribeStreamSummary, Fault::SilenceBefore, 9);
        let before = server.faults().injected(Fault::SilenceBefore);
        let waiting = home.start(&[command, "-s", "test_stream"]);
        crate::home::eventually("a request is out", || server.faults().injected(Fault::SilenceBefore) > before);
        waiting.signal("INT");
        let (status, stdout, stderr) = waiting.end();
        assert_eq!((status.code(), stdout.as_str(), stderr.as_str()), (Some(0), "", ""), "{command}");
        server.faults().clear();
    }
}

#[test]
fn an_explicit_profile_overrides_keys_in_the_environment() {
    let server = server();
    let home = with_stream(&server);
    // The profile has no keys, so using others would be noticed.
    home.write(".aws/config", "[profile prod]\nregion = eu-west-1\n");
    let ran = home.run(&["shards", "-s", "test_stream", "--profile", "prod"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stderr.contains("(profile 'prod')"), "{ran:?}");
    home.write(".aws/credentials", "[prod]\naws_access_key_id = a\naws_secret_access_key = b\n");
    home.run(&["shards", "-s", "test_stream", "--profile", "prod"]).ok();
    let missing = home.run(&["shards", "-s", "test_stream", "--profile", "nope"]);
    assert_eq!(missing.code, Some(4), "{missing:?}");
    assert!(missing.stderr.contains("(profile 'nope')"), "{missing:?}");
}

#[test]
fn the_kinesis_endpoint_variable_overrides_the_general_one() {
    let server = server();
    let home = with_stream(&server)
        .with_variable("AWS_ENDPOINT_URL", Some("http://127.0.0.1:9"))
        .with_variable("AWS_ENDPOINT_URL_KINESIS", Some(&server.endpoint_url()));
    home.run(&["shards", "-s", "test_stream"]).ok();
    // An empty variable counts as not set.
    let home = home
        .with_variable("AWS_ENDPOINT_URL", Some(&server.endpoint_url()))
        .with_variable("AWS_ENDPOINT_URL_KINESIS", Some(""))
        .with_variable("AWS_REGION", Some(""));
    let ran = home.run(&["shards", "-s", "test_stream"]).ok();
    assert_eq!(ran.stderr, "note: no region is set: using us-east-1\n");
}

#[test]
fn a_deleted_stream_ends_a_tail_of_many_shards_with_one_message() {
    let server = server();
    let home = Home::on_kinesis(CONFIG, &server);
    home.run(&["streams", "create", "-s", "test_stream", "--shards", "40"]).ok();
    let tail = home.start(&["get", "-s", "test_stream"]);
    crate::home::eventually("the tail has opened its shards", || server.faults().requests(Operation::GetRecords) >= 40);
    home.run(&["streams", "delete", "-s", "test_stream", "--yes"]).ok();
    let (status, _, stderr) = tail.end();
    assert_eq!(status.code(), Some(5), "{stderr}");
    assert_eq!(stderr.matches("error:").count(), 1, "{stderr}");
}

#[test]
fn a_fan_out_tail_registers_its_consumer_once_and_says_so() {
    let server = Server::start(ServerOptions::default().with_subscription_interval(Duration::from_millis(20))).unwrap();
    let home = with_stream(&server);
    home.feed(&["put", "-s", "test_stream"], "first\n").ok();
    let get = ["get", "-s", "test_stream", "--fan-out", "audit", "--from", "all", "-e", "-o", r"%s\n"];
    let ran = home.run(&get).ok();
    assert!(ran.stdout.contains("first"), "{ran:?}");
    insta::assert_snapshot!(ran.stderr, @"note: consumer 'audit' is registered now, and costs money until it is removed: 'triton streams consumers delete -s test_stream audit --yes'");
    let polled = server.faults().requests(Operation::GetRecords);
    let ran = home.run(&get).ok();
    assert!(ran.stdout.contains("first"), "{ran:?}");
    assert_eq!(
        (ran.stderr.as_str(), server.faults().requests(Operation::GetRecords)),
        ("", polled),
        "nothing is polled"
    );

    let before = server.faults().requests(Operation::SubscribeToShard);
    let mut tail = home.start(&["get", "-s", "test_stream", "--fan-out", "audit", "-o", r"%s\n"]);
    crate::home::eventually("a tail has subscribed to both shards", || {
        server.faults().requests(Operation::SubscribeToShard) >= before + 2
    });
    // A requested subscription may start after the first record is put, so put until the tail prints one.
    let tailing = std::thread::spawn(move || (tail.line(), tail));
    crate::home::eventually("the tail sees a record", || {
        home.feed(&["put", "-s", "test_stream"], "next\n").ok();
        tailing.is_finished()
    });
    let (line, tail) = tailing.join().unwrap();
    assert!(line.contains("next"), "{line}");
    tail.signal("INT");
    let (status, _, stderr) = tail.end();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn consumers_are_listed_and_removed() {
    let server = server();
    let home = with_stream(&server);
    let list =
        |format: &str| home.run(&["streams", "consumers", "list", "-s", "test_stream", "-o", format]).ok().stdout;
    assert_eq!(list("json"), "");
    home.run(&["get", "-q", "-s", "test_stream", "--fan-out", "audit", "--from", "all", "-e"]).ok();
    assert!(list("table").contains("audit     ACTIVE  20"), "{}", list("table"));
    let listed: serde_json::Value = serde_json::from_str(&list("json")).unwrap();
    assert_eq!((&listed["consumer"], &listed["status"]), (&"audit".into(), &"ACTIVE".into()));
    assert!(listed["arn"].as_str().unwrap().contains("test_stream_v2/consumer/audit"), "{listed}");

    let delete = ["streams", "consumers", "delete", "-s", "test_stream", "audit"];
    insta::assert_snapshot!(home.run(&delete).mistake(), @r"
    error: consumer 'audit' of 'test_stream_v2' would be deleted
      help: add --yes to delete it
    [2]
    ");
    home.run(&[&delete[..], &["--yes"]].concat()).ok();
    crate::home::eventually("the consumer is gone", || list("json").is_empty());
    insta::assert_snapshot!(home.run(&[&delete[..], &["--yes"]].concat()).mistake(), @r"
    error: 'test_stream_v2' has no consumer 'audit'
      help: 'triton streams consumers list' shows those that exist
    [5]
    ");
}

#[test]
fn a_local_stream_has_no_fan_out() {
    let home = Home::with_config("clicks: {name: clicks, partition_key: null, backend: local}\n");
    insta::assert_snapshot!(home.run(&["get", "-s", "clicks", "--fan-out", "audit"]).mistake(), @r"
    error: 'clicks' is a local stream: only Kinesis has enhanced fan-out
      help: a local stream pushes records to every reader without it
    [2]
    ");
}
