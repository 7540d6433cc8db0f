//! Lists of shards and streams, and the commands that change them.

use crate::home::Home;

#[test]
fn shards_are_listed_through_splits_merges_and_reshards() {
    let home = Home::new();
    let run = |arguments: &[&str]| home.run(arguments).ok().stdout;
    run(&["streams", "create", "-q", "-s", "a", "--shards", "2"]);
    run(&["streams", "split", "-q", "-s", "a", "-d", "0"]);
    run(&["streams", "merge", "-q", "-s", "a", "-d", "3", "1"]);
    insta::assert_snapshot!(run(&["shards", "-q", "-s", "a", "--tree"]), @r"
       0  shardId-000000000000      [################................]  closed
       2    shardId-000000000002    [########........................]  open
       3    shardId-000000000003    [........########................]  closed
       4      shardId-000000000004  [........########################]  open  + 1
       1  shardId-000000000001      [................################]  closed
    ");
    insta::assert_snapshot!(run(&["shards", "-q", "-s", "a", "--open"]), @r"
    #  SHARD                 STATE  PARENTS  HASH KEYS  FROM
    2  shardId-000000000002  open   0        25.0%      0
    4  shardId-000000000004  open   3 + 1    75.0%      85070591730234615865843651857942052864
    ");
    run(&["streams", "reshard", "-q", "-s", "a", "--shards", "4"]);
    let json = run(&["shards", "-q", "-s", "a", "--open", "-o", "json"]);
    let starts: Vec<String> = json
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["first_hash_key"].to_string())
        .collect();
    assert_eq!(starts.len(), 4);
    let adjacent = home.run(&["streams", "merge", "-q", "-s", "a", "-d", "2", "2"]);
    assert_eq!(adjacent.code, Some(2), "{adjacent:?}");
}

#[test]
fn streams_are_created_listed_and_deleted() {
    let home = Home::new();
    home.run(&["streams", "create", "-q", "-s", "b", "--shards", "3", "--retention", "7d"]).ok();
    home.feed(&["put", "-q", "-s", "a"], "hi\n").ok();
    insta::assert_snapshot!(home.run(&["streams", "list"]).ok().stdout, @r"
    STREAM  NAME  BACKEND  OPEN SHARDS
    a       a     local    1
    b       b     local    3
    ");
    insta::assert_snapshot!(home.run(&["streams", "create", "-q", "-s", "a"]).mistake(), @r"
    error: stream 'a' exists already in [HOME]/.local/share/triton
    [1]
    ");
    home.run(&["streams", "delete", "-q", "-s", "a", "--yes"]).ok();
    insta::assert_snapshot!(home.run(&["streams", "list", "-o", "json"]).ok().stdout, @r#"{"stream":"b","name":"b","backend":"local","open_shards":3}"#);
    // Other files are skipped, and a file that cannot be opened does not hide the others.
    std::fs::write(home.stream_file("no stream"), "").unwrap();
    std::fs::write(home.stream_file("broken"), "no database, and long enough to have a header of one").unwrap();
    let ran = home.run(&["streams", "list"]).ok();
    insta::assert_snapshot!(ran.stdout, @r"
    STREAM  NAME    BACKEND  OPEN SHARDS
    b       b       local    3
    broken  broken  local    -
    ");
    assert!(ran.stderr.starts_with("warn: 'broken': "), "{ran:?}");
}

#[test]
fn a_tail_of_a_deleted_stream_ends_with_the_reason() {
    let home = Home::new();
    home.feed(&["put", "-q", "-s", "a"], "hi\n").ok();
    let mut tail = home.start(&["get", "-q", "-s", "a", "--from", "all", "-o", r"%s\n"]);
    tail.line();
    home.run(&["streams", "delete", "-q", "-s", "a", "--yes"]).ok();
    let (status, _, stderr) = tail.end();
    assert_eq!(status.code(), Some(5));
    assert!(stderr.starts_with("error: stream 'a' not found in "), "{stderr}");
}

#[test]
fn a_recreated_stream_does_not_reuse_sequence_numbers() {
    let home = Home::new();
    let put = || {
        let acks = home.feed(&["put", "-q", "-s", "a", "--ack"], "hi\n".repeat(100)).ok().stdout;
        acks.lines().map(|ack| ack.split(':').nth(1).unwrap().parse::<u64>().unwrap()).collect::<Vec<_>>()
    };
    let before = put();
    home.run(&["streams", "delete", "-q", "-s", "a", "--yes"]).ok();
    let after = put();
    assert!(before.last() < after.first());
}
