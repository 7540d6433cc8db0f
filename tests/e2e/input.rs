//! The input of `put`: lines, JSON, raw payloads, other delimiters, and invalid lines.

use crate::home::Home;

fn messages(home: &Home, stream: &str) -> Vec<serde_json::Value> {
    home.all(stream, r"%s\n").iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn lines_keep_their_newlines_and_the_last_may_have_none() {
    let home = Home::new();
    home.feed(&["put", "-q", "-s", "a"], "one\n\ntwo\r\nthree").ok();
    let texts: Vec<_> = messages(&home, "a").iter().map(|record| record["msg"].clone()).collect();
    assert_eq!(texts, ["one\n", "\n", "two\r\n", "three"]);
}

#[test]
fn empty_input_puts_nothing() {
    let home = Home::new();
    home.feed(&["put", "-q", "-s", "a", "--ack"], "").ok();
    assert!(home.all("a", r"%s\n").is_empty());
}

#[test]
fn files_are_read_in_their_order_and_a_dash_is_stdin() {
    let home = Home::new();
    home.write("first.txt", "1\n2");
    home.write("last.txt", "4\n");
    home.feed(&["put", "-q", "-s", "a", "first.txt", "-", "last.txt"], "3\n").ok();
    let texts: Vec<_> = messages(&home, "a").iter().map(|record| record["msg"].clone()).collect();
    assert_eq!(texts, ["1\n", "2", "3\n", "4\n"]);
    let missing = home.run(&["put", "-q", "-s", "a", "none.txt"]);
    insta::assert_snapshot!(missing.mistake(), @r"
    error: none.txt cannot be opened
      cause: No such file or directory (os error 2)
    [1]
    ");
}

#[test]
fn json_objects_round_trip() {
    let home = Home::new();
    let lines = concat!(
        r#"{"user":"ann","n":1,"f":1.0,"list":[null,true,{"deep":"ü"}],"big":18446744073709551615}"#,
        "\n\n",
        r#"{"bytes":{"$bytes":"//4="},"at":{"$timestamp":"2015-06-10T20:47:56.172019Z"}}"#,
        "\n"
    );
    home.feed(&["put", "-q", "-s", "a", "--json", "-k", "same"], lines).ok();
    let printed = home.all("a", r"%s\n");
    assert_eq!(printed.join("\n"), lines.replace("\n\n", "\n").trim_end());
    assert_eq!(home.all("a", r"%k\n"), ["same", "same"]);
    let wrong = home.feed(&["put", "-q", "-s", "a", "--json"], "{\"a\":1}\n[1]\n");
    assert_eq!(wrong.code, Some(7));
    assert!(wrong.stderr.starts_with("error: line 2: "), "{wrong:?}");
}

#[test]
fn raw_lines_are_payloads() {
    let home = Home::new();
    home.feed(&["put", "-q", "-s", "a", "--raw"], b"one\n\xff\xfe\n\nlast").ok();
    let mut command = home.command(&["get", "-q", "-s", "a", "--from", "all", "-e", "-o", "raw"]);
    let output = command.output().unwrap();
    assert_eq!(output.stdout, b"one\n\xff\xfe\n\nlast\n");
}

#[test]
fn a_custom_delimiter_is_not_part_of_the_record() {
    let home = Home::new();
    home.feed(&["put", "-q", "-s", "a", "-D", r"\0"], b"one\0two\nlines\0").ok();
    let texts: Vec<_> = messages(&home, "a").iter().map(|record| record["msg"].clone()).collect();
    assert_eq!(texts, ["one", "two\nlines"]);
}

#[test]
fn bytes_that_are_not_text_are_kept() {
    let home = Home::new();
    home.feed(&["put", "-q", "-s", "a"], b"caf\xe9\n").ok();
    assert_eq!(messages(&home, "a")[0]["msg"], serde_json::json!({"$bytes": "Y2Fm6Qo="}));
}

#[test]
fn a_bad_line_can_be_skipped() {
    let home = Home::new();
    let ran =
        home.feed(&["put", "--local", "-s", "a", "--json", "--skip-bad"], "{\"n\":1}\nnonsense\n{\"n\":3}\n").ok();
    assert!(ran.stderr.starts_with("warn: line 2: ") && ran.stderr.ends_with("; skipped\n"), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    assert_eq!(home.all("a", r"%s\n"), [r#"{"n":1}"#, r#"{"n":3}"#]);
}

#[test]
fn acknowledgements_name_each_record_in_order() {
    let home = Home::with_config("a: {name: a, partition_key: null, backend: local, shards: 2}\n");
    let lines: String = (0..50).map(|n| format!("{n}\n")).collect();
    let acks: Vec<String> =
        home.feed(&["put", "-s", "a", "--ack"], lines).ok().stdout.lines().map(str::to_owned).collect();
    let mut stored = home.all("a", r"%p:%o %s\n");
    stored.sort_by_key(|line| line.split([':', ' ']).nth(1).unwrap().parse::<u64>().unwrap());
    assert_eq!(acks.len(), 50);
    for (number, (ack, stored)) in acks.iter().zip(&stored).enumerate() {
        assert!(stored.starts_with(&format!("{ack} ")), "{ack} {stored}");
        assert!(stored.contains(&format!("\"msg\":\"{number}\\n\"")), "{stored}");
    }
}

#[test]
fn a_dry_run_checks_and_puts_nothing() {
    let home = Home::new();
    let ran = home.feed(&["put", "--local", "-s", "a", "--dry-run"], "1\n2\n").ok();
    assert_eq!(ran.stderr, "note: 2 records are valid for 'a'; nothing was put\n");
    assert!(!home.stream_file("a").exists(), "not even the stream was made");
    let bad = home.feed(&["put", "-q", "-s", "a", "--dry-run", "--json"], "{}\nx\n");
    assert_eq!(bad.code, Some(7), "{bad:?}");
}

#[test]
fn a_huge_line_does_not_fill_the_memory() {
    let home = Home::new();
    // An address space limit that a line of 1 GB exceeds.
    let script = format!(
        "ulimit -v 700000; head -c 1000000000 /dev/zero | {} put -q -s a",
        home.command(&[]).get_program().display()
    );
    let mut command = std::process::Command::new("sh");
    command.env_clear().env("HOME", home.path()).env("PATH", "/usr/bin:/bin").args(["-c", &script]);
    let ran = home.run_with(command, b"");
    insta::assert_snapshot!(ran.mistake(), @r"
    error: line 1: record of 953.7 MiB is over the stream's limit of 1 MiB
    [7]
    ");
}
