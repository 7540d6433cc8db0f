//! Common mistakes: message, next step and exit code, as printed.

use crate::home::Home;

#[test]
fn a_misspelled_stream() {
    let home = Home::with_config("test_stream: {name: a, partition_key: null, backend: local}\n");
    insta::assert_snapshot!(home.run(&["get", "-s", "test_steam"]).mistake(), @r"
    error: no stream 'test_steam' in triton.yaml
      help: did you mean 'test_stream'?
    [3]
    ");
    insta::assert_snapshot!(home.run(&["get", "-s", "orders"]).mistake(), @r"
    error: no stream 'orders' in triton.yaml
      help: add 'orders' to the file, or use --local for a stream on this machine
    [3]
    ");
}

#[test]
fn a_config_that_is_not_yaml() {
    let home = Home::with_config("test_stream:\n  name: test_stream_v2\n  partition_key: a: b\n");
    insta::assert_snapshot!(home.run(&["get", "-s", "test_stream"]).mistake(), @r"
    error: triton.yaml: line 3, column 19: mapping values are not allowed here
    [3]
    ");
}

#[test]
fn a_line_without_the_key() {
    let home = Home::with_config("clicks: {name: clicks, partition_key: user_id, backend: local}\n");
    let lines: String = (1..=17).map(|n| format!("{{\"user_id\": {n}}}\n")).collect();
    insta::assert_snapshot!(home.feed(&["put", "-s", "clicks"], "hi\n").mistake(), @r"
    error: line 1: no field 'user_id' (partition_key of 'clicks'); has: msg, ts
      help: use --json with that field, or --key
    [7]
    ");
    let ran = home.feed(&["put", "-s", "clicks", "--json"], lines.replace("\"user_id\": 17", "\"msg\": 1, \"ts\": 2"));
    insta::assert_snapshot!(ran.mistake(), @r"
    error: line 17: no field 'user_id' (partition_key of 'clicks'); has: msg, ts
      help: use --json with that field, or --key
    [7]
    ");
    assert_eq!(home.all("clicks", r"%k\n").len(), 16, "what came before is there");
}

#[test]
fn a_stream_that_does_not_exist() {
    let home = Home::new();
    insta::assert_snapshot!(home.run(&["streams", "delete", "-q", "-s", "clicks_v2", "--yes"]).mistake(), @r"
    error: stream 'clicks_v2' not found in [HOME]/.local/share/triton
      help: 'triton streams list' shows those that exist
    [5]
    ");
}

#[test]
fn a_shard_out_of_range() {
    let home = Home::with_config("clicks: {name: clicks, partition_key: null, backend: local, shards: 4}\n");
    insta::assert_snapshot!(home.run(&["get", "-s", "clicks", "-d", "4"]).mistake(), @r"
    error: shard 4 out of range: 'clicks' has 4 shards (0-3)
    [5]
    ");
    let split = home.run(&["streams", "split", "-s", "clicks", "-d", "7"]);
    assert_eq!(split.mistake(), "error: shard 7 out of range: 'clicks' has 4 shards (0-3)\n[5]");
}

#[test]
fn a_record_over_the_limit() {
    let home = Home::new();
    let lines = format!("{}{}\n", "ok\n".repeat(41), "x".repeat(1_363_000));
    insta::assert_snapshot!(home.feed(&["put", "-q", "-s", "clicks"], lines).mistake(), @r"
    error: line 42: record of 1.3 MiB is over the stream's limit of 1 MiB
    [7]
    ");
    assert_eq!(home.all("clicks", r"%S\n").len(), 41, "what came before is there");
}

#[test]
fn a_payload_that_is_not_a_record() {
    let home = Home::new();
    home.feed(&["put", "-q", "-s", "clicks", "--raw"], b"\xc1\xff\n").ok();
    home.feed(&["put", "-q", "-s", "clicks"], "hi\n").ok();
    let shown = |arguments: &[&str]| {
        let mut command = home.command(&["get", "-s", "clicks", "--from", "all", "-e", "--local", "-o", "%s\\n"]);
        command.args(arguments);
        home.run_with(command, b"")
    };
    let ran = shown(&[]).ok();
    assert_eq!(ran.stdout.lines().next(), Some(r#"{"$bytes":"wf8="}"#));
    assert_eq!(ran.stdout.lines().count(), 2, "the rest goes on");
    let sequence = ran.stderr.split(' ').nth(2).unwrap().trim_end_matches(':').to_owned();
    insta::assert_snapshot!(ran.stderr.replace(&sequence, "SEQ"), @"warn: shardId-000000000000 SEQ: not MessagePack (byte 0xc1 at 0); shown as base64");
    let strict = shown(&["--strict"]);
    assert_eq!(strict.stdout.lines().count(), 2, "{strict:?}");
    insta::assert_snapshot!(strict.stderr.replace(&sequence, "SEQ"), @r"
    warn: shardId-000000000000 SEQ: not MessagePack (byte 0xc1 at 0); shown as base64
    error: some payloads were not MessagePack (--strict)
    ");
    assert_eq!(strict.code, Some(7));
    assert_eq!(shown(&["--quiet"]).stderr, "");
}

#[test]
fn unknown_words_on_the_command_line() {
    let home = Home::new();
    for arguments in [
        &["gte"][..],
        &["get"],
        &["get", "-s", "a", "--from", "newest"],
        &["get", "-s", "a", "-o", "jsn"],
        &["get", "-s", "a", "-o", "%q"],
        &["put", "-s", "a", "--json", "--raw"],
        &["put", "-s", "a", "-k", "b", "--key-field", "c"],
        &["streams", "merge", "-s", "a", "-d", "1"],
        &["get", "-s", "a", "--color", "pink"],
    ] {
        let ran = home.run(arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.starts_with("error: "), "{ran:?}");
    }
    let key = home.feed(&["put", "-q", "-s", "a", "-k", ""], "hi\n");
    insta::assert_snapshot!(key.mistake(), @r"
    error: --key: a partition key has 1 to 256 characters, this one has 0
    [2]
    ");
    let name = home.feed(&["put", "-q", "-s", "../a"], "hi\n");
    insta::assert_snapshot!(name.mistake(), @r"
    error: '../a' cannot be a stream's name: 1 to 128 letters, digits, '_', '.' and '-'
    [2]
    ");
    let several = Home::with_config("a: {name: a, partition_key: null, backend: local, shards: 2}\n");
    insta::assert_snapshot!(several.run(&["get", "-s", "a", "--from", "at:5"]).mistake(), @r"
    error: a sequence number is unique only within a shard
      help: name the shard too: SHARD:SEQ, or -d SHARD
    [2]
    ");
    let delete = several.run(&["streams", "delete", "-s", "a"]);
    insta::assert_snapshot!(delete.mistake(), @r"
    error: 'a' would be deleted with every record in it
      help: add --yes to delete it
    [2]
    ");
}

#[test]
fn positions_without_a_record() {
    let home = Home::with_config("a: {name: a, partition_key: null, backend: local}\n");
    let ack = home.feed(&["put", "-q", "-s", "a", "--ack"], "1\n").ok().stdout.trim_end().to_owned();
    let number = ack.split(':').nth(1).unwrap();
    let get = |position: &str| home.run(&["get", "-s", "a", "-e", "--from", position]).mistake().replace(number, "SEQ");
    insta::assert_snapshot!(get("at:shardId-000000000000:99999999999999999999"), @r"
    error: shardId-000000000000: no record 99999999999999999999: it is ahead of the newest record
    [5]
    ");
    insta::assert_snapshot!(get("after:7"), @r"
    error: shardId-000000000000: no record 7: the shard begins at SEQ
    [5]
    ");
    insta::assert_snapshot!(get(&format!("after:{ack}.3")), @r"
    error: shardId-000000000000: no record SEQ.3: that record is no aggregate
    [5]
    ");
    insta::assert_snapshot!(get("at:shardId-000000000003:7"), @r"
    error: no shard 'shardId-000000000003' in stream 'a'
    [5]
    ");
}
