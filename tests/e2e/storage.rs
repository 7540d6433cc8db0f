//! Failing files: a clear error and no partial writes.

use std::os::unix::fs::PermissionsExt as _;

use crate::home::Home;

#[test]
fn files_are_private_to_the_user() {
    let home = Home::new();
    home.feed(&["put", "-q", "-s", "a"], "hi\n").ok();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = home.stream_file("a");
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(mode(file.parent().unwrap().parent().unwrap()), 0o700);
}

#[test]
fn a_file_that_is_not_a_stream_is_rejected() {
    let home = Home::new();
    home.write(".local/share/triton/streams/a.db", "nothing that SQLite knows, and long enough to have a header");
    for command in [&["get", "-q", "-s", "a"][..], &["put", "-q", "-s", "a"]] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(home.run(command).mistake(), @r"
            error: [HOME]/.local/share/triton/streams/a.db: not a Triton stream, or corrupt
              cause: file is not a database
            [1]
            ");
        }
    }
    let other = home.stream_file("other");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert_eq!(
        home.run(&["get", "-q", "-s", "other"]).mistake(),
        "error: [HOME]/.local/share/triton/streams/other.db: not a Triton stream\n[1]"
    );
}

#[test]
fn a_file_of_a_newer_format_is_rejected() {
    let home = Home::new();
    home.feed(&["put", "-q", "-s", "a"], "hi\n").ok();
    rusqlite::Connection::open(home.stream_file("a")).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert_eq!(
        home.run(&["get", "-q", "-s", "a"]).mistake(),
        "error: [HOME]/.local/share/triton/streams/a.db: format 99 is newer than this Triton's (1)\n[1]"
    );
}

#[test]
fn a_corrupt_page_is_reported() {
    let home = Home::new();
    let lines = format!("{}\n", "x".repeat(300)).repeat(2000);
    home.feed(&["put", "-q", "-s", "a"], lines).ok();
    let file = home.stream_file("a");
    assert!(!file.with_extension("db-wal").exists(), "a put that has ended has closed its file");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0xff);
    std::fs::write(&file, bytes).unwrap();
    let ran = home.run(&["get", "-q", "-s", "a", "--from", "all", "-e", "-o", "%S "]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("a.db: the file is corrupt"), "{}", ran.stderr);
}

#[test]
fn a_locked_file_is_reported_after_a_while() {
    let home = Home::new();
    home.feed(&["put", "-q", "-s", "a"], "1\n").ok();
    let other = rusqlite::Connection::open(home.stream_file("a")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    insta::assert_snapshot!(home.feed(&["put", "-q", "-s", "a", "--raw", "--failed", "failed.txt"], "2\n3\n").mistake(), @r"
    error: 2 of 2 records were not put; kept in failed.txt
      cause: [HOME]/.local/share/triton/streams/a.db: locked by another process for too long
      cause: database is locked
    [1]
    ");
    // Readers are not blocked.
    assert_eq!(home.all("a", r"%o\n").len(), 1);
    other.execute_batch("COMMIT").unwrap();
    let kept = std::fs::read_to_string(home.path().join("failed.txt")).unwrap();
    assert_eq!(kept, "2\n3\n", "fit to be put again");
    home.feed(&["put", "-q", "-s", "a"], "4\n").ok();
    assert_eq!(home.all("a", r"%o\n").len(), 2);
}

#[test]
fn the_file_for_failed_records_is_opened_before_any_put() {
    let home = Home::new();
    insta::assert_snapshot!(home.feed(&["put", "-q", "-s", "a", "--failed", "none/failed.mp"], "1\n").mistake(), @r"
    error: none/failed.mp cannot be opened for failed records
      cause: No such file or directory (os error 2)
    [1]
    ");
    assert!(home.all("a", r"%o\n").is_empty());
}

#[test]
fn an_unreadable_shard_is_reported_while_the_others_are_read() {
    let home = Home::with_config("a: {name: a, partition_key: null, backend: local, shards: 2, path: data}\n");
    let lines = format!("{}\n", "x".repeat(300)).repeat(200);
    home.feed(&["put", "-s", "a"], lines).ok();
    let file = home.path().join("data/streams/a.db");
    // A text instead of a payload's bytes, which SQLite's own checks accept.
    let database = rusqlite::Connection::open(file).unwrap();
    database.execute("UPDATE record SET data = 'text' WHERE id = (SELECT min(id) FROM record)", []).unwrap();
    let mut get = home.start(&["get", "-s", "a", "--from", "all", "-o", r"%p\n"]);
    let mut stderr = std::io::BufReader::new(get.child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
    assert!(line.starts_with("error: shardId-000000000000 cannot be read"), "{line}");
    assert_eq!(get.line(), "shardId-000000000001\n");
    get.signal("INT");
    std::io::copy(&mut get.stdout, &mut std::io::sink()).unwrap();
    assert_eq!(get.wait().code(), Some(1), "the exit code is the first failure's");
}

#[test]
fn a_full_disk_leaves_whole_transactions() {
    let home = Home::new();
    home.feed(&["put", "-q", "-s", "a"], "first\n").ok();
    // Files of this process may grow to 2 MiB (ulimit counts 512 bytes), then writing fails.
    let script =
        format!("trap '' XFSZ; ulimit -f 4096; exec {} put -q -s a --ack", home.command(&[]).get_program().display());
    let mut command = std::process::Command::new("sh");
    command.env_clear().env("HOME", home.path()).args(["-c", &script]);
    let lines: String = (0..50_000).map(|n| format!("{n} {}\n", "x".repeat(200))).collect();
    let ran = home.run_with(command, lines.as_bytes());
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("records were not "), "{}", ran.stderr);
    assert!(ran.stderr.contains("a.db: "), "{}", ran.stderr);
    let stored = home.all("a", r"%p:%o\n");
    for ack in ran.stdout.lines() {
        assert!(stored.iter().any(|place| place == ack), "{ack} was acknowledged and is not there");
    }
    home.feed(&["put", "-q", "-s", "a"], "after\n").ok();
    assert_eq!(home.all("a", r"%o\n").len(), stored.len() + 1);
}

#[test]
fn a_folder_that_cannot_be_created_is_reported() {
    let home = Home::new();
    home.write("file", "");
    let mut command = home.command(&["put", "-q", "-s", "a"]);
    command.env("XDG_DATA_HOME", home.path().join("file"));
    insta::assert_snapshot!(home.run_with(command, b"hi\n").mistake(), @r"
    error: [HOME]/file/triton/streams/a.db: cannot be accessed
      cause: Not a directory (os error 20)
    [1]
    ");
    let mut homeless = home.command(&["put", "-q", "-s", "a"]);
    homeless.env_remove("HOME");
    insta::assert_snapshot!(home.run_with(homeless, b"hi\n").mistake(), @r"
    error: no folder for local streams: $HOME is not set
      help: set $XDG_DATA_HOME, or give the stream a path in the config
    [3]
    ");
}
