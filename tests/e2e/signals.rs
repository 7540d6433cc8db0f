//! Ctrl-C, SIGTERM and closed pipes.

use std::process::Stdio;
use std::time::Duration;

use crate::home::{Home, eventually};

#[test]
fn a_signal_ends_put_after_the_lines_read() {
    for signal in ["INT", "TERM"] {
        let home = Home::new();
        let mut put = home.start(&["put", "-q", "-s", "a", "--ack"]);
        put.write("1\n2\n");
        assert!(put.line().starts_with("shardId-"));
        put.line();
        put.write("3\n");
        put.line();
        // Stdin stays open: the signal interrupts the read.
        put.signal(signal);
        assert_eq!(put.wait().code(), Some(0), "{signal}");
        assert_eq!(home.all("a", r"%o\n").len(), 3);
    }
}

#[test]
fn a_signal_ends_get_after_the_fetched_records() {
    for signal in ["INT", "TERM"] {
        let home = Home::new();
        let lines: String = (0..500).map(|n| format!("{n}\n")).collect();
        home.feed(&["put", "-q", "-s", "a"], lines).ok();
        let mut get = home.start(&["get", "-q", "-s", "a", "--from", "all", "-o", r"%s\n"]);
        get.line();
        get.signal(signal);
        let (status, rest, stderr) = get.end();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{signal}");
        assert_eq!(rest.lines().count(), 499, "one fetch, all of it");
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let home = Home::new();
    let lines = format!("{}\n", "x".repeat(500)).repeat(5000);
    home.feed(&["put", "-q", "-s", "a"], &lines).ok();
    home.write("lines.txt", &lines);
    // Nothing reads the output, so fetched records and acknowledgements cannot be delivered.
    for command in [
        &["get", "-q", "-s", "a", "--from", "all", "-o", "json"][..],
        &["get", "-q", "-s", "a", "--from", "all", "-o", "json", "-n", "1500"],
        &["put", "-q", "-s", "b", "--ack", "lines.txt"],
    ] {
        let mut running = home.start(command);
        running.line();
        running.signal("INT");
        std::thread::sleep(Duration::from_millis(200));
        assert!(running.child.try_wait().unwrap().is_none(), "{command:?} waits for its reader");
        // On a busy machine the first of these may still count as the same signal.
        eventually("the end", || {
            running.signal("INT");
            running.child.try_wait().unwrap().is_some()
        });
        assert_eq!(running.wait().code(), Some(130), "{command:?}");
    }
}

#[test]
fn a_signal_ends_a_put_that_waits_for_a_named_pipe() {
    let home = Home::new();
    let pipe = home.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut put = home.start(&["put", "-q", "-s", "a", "--ack", "pipe"]);
    // The signal handlers are installed before the stream is opened.
    eventually("the stream is there", || home.stream_file("a").exists());
    put.signal("INT");
    assert_eq!(put.wait().code(), Some(0));

    let mut put = home.start(&["put", "-q", "-s", "a", "--ack", "pipe"]);
    std::fs::write(&pipe, "1\n2\n").unwrap();
    put.line();
    put.line();
    assert_eq!(put.wait().code(), Some(0));
    assert_eq!(home.all("a", r"%o\n").len(), 2);
}

#[test]
fn a_signal_sent_to_a_process_and_its_group_counts_once() {
    let home = Home::new();
    home.feed(&["put", "-q", "-s", "a"], "hi\n").ok();
    let mut get = home.start(&["get", "-q", "-s", "a", "--from", "all"]);
    get.line();
    // Stopped in between, so that both signals are delivered together.
    for signal in ["STOP", "INT", "TERM", "CONT"] {
        get.signal(signal);
    }
    assert_eq!(get.wait().code(), Some(0));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let home = Home::new();
    let lines: String = (0..50_000).map(|n| format!("{n}\n")).collect();
    home.feed(&["put", "-q", "-s", "a"], lines).ok();
    let mut get = home.start(&["get", "-q", "-s", "a", "--from", "all"]);
    get.line();
    let mut stderr = get.child.stderr.take().unwrap();
    let closed = std::mem::replace(&mut get.stdout, {
        let mut other = home.command(&["--version"]).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = other.stdout.take().unwrap();
        other.wait().unwrap();
        std::io::BufReader::new(stdout)
    });
    drop(closed);
    assert_eq!(get.wait().code(), Some(0));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn unread_acknowledgements_lose_no_lines() {
    let home = Home::new();
    let lines: String = (0..60_000).map(|n| format!("{n}\n")).collect();
    home.write("lines.txt", lines);
    let triton = home.command(&[]).get_program().display().to_string();
    let mut shell = std::process::Command::new("sh");
    let script = format!("{triton} put -q -s a --ack lines.txt | head -n 1");
    shell.env_clear().env("HOME", home.path()).env("PATH", "/usr/bin:/bin").current_dir(home.path());
    let ran = home.run_with(
        {
            shell.args(["-c", &script]);
            shell
        },
        b"",
    );
    assert_eq!((ran.stdout.lines().count(), ran.stderr.as_str()), (1, ""));
    eventually("all lines", || home.all("a", r"%o\n").len() == 60_000);
}

#[test]
fn lines_before_a_bad_one_are_acknowledged() {
    let home = Home::new();
    let lines = format!("{}nonsense\n", "{\"n\":1}\n".repeat(9000));
    let mut put = home.start(&["put", "-q", "-s", "a", "--json", "--ack"]);
    let feeding = {
        let mut stdin = put.child.stdin.take().unwrap();
        std::thread::spawn(move || std::io::Write::write_all(&mut stdin, lines.as_bytes()).unwrap())
    };
    // A slow reader: gives the command time to reach the bad line; the test passes without.
    put.line();
    std::thread::sleep(Duration::from_millis(500));
    let (status, rest, stderr) = put.end();
    feeding.join().unwrap();
    assert_eq!(status.code(), Some(7));
    assert_eq!(rest.lines().count(), 8999);
    assert!(stderr.starts_with("error: line 9001: "), "{stderr}");
}

#[test]
fn an_unwritable_stderr_stops_nothing() {
    let home = Home::new();
    let mut put = home.command(&["put", "-vvv", "--local", "-s", "a"]);
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    home.write("line.txt", "hi\n");
    let status = put.arg("line.txt").stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(home.all("a", r"%o\n").len(), 1);
}

#[test]
fn a_full_device_is_reported() {
    let home = Home::new();
    home.feed(&["put", "-q", "-s", "a"], "hi\n").ok();
    let mut get = home.command(&["get", "-q", "-s", "a", "--from", "all", "-e"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = get.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stderr), @r"
    error: stdout cannot be written
      cause: No space left on device (os error 28)
    ");
}

#[test]
fn a_single_line_is_put_while_stdin_stays_open() {
    let home = Home::new();
    let mut put = home.start(&["put", "-q", "-s", "a"]);
    // The pipe stays open: the line is put without waiting for a second one.
    put.write("1\n");
    eventually("the line", || !home.all("a", "%s").is_empty());
}
