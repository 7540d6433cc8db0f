//! The README's program, on a local stream and on Kinesis: the config alone is another one.

use std::path::{Path, PathBuf};

use triton_test_server::{Server, ServerOptions};

use crate::home::Home;

const SOURCE: &str = include_str!("../../crates/triton-stream/examples/greetings.rs");

fn greetings() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let program = this.parent().and_then(Path::parent).unwrap().join("examples/greetings");
    assert!(program.exists(), "{} is missing: run 'make test', or 'cargo build --examples' first", program.display());
    program
}

#[test]
fn the_readme_shows_the_program_that_runs_on_both() {
    let shown = SOURCE.split_once("\n\n").unwrap().1;
    assert!(
        include_str!("../../README.md").contains(shown),
        "README.md shows another program than examples/greetings.rs"
    );

    let local = Home::with_config("my_stream: {name: my_stream_v2, partition_key: value, backend: local}\n");
    let server = Server::start(ServerOptions::default()).unwrap();
    let kinesis = Home::on_kinesis("my_stream: {name: my_stream_v2, partition_key: value}\n", &server);
    kinesis.run(&["streams", "create", "-s", "my_stream"]).ok();
    for home in [&local, &kinesis] {
        let ran = home.run_with(home.program(&greetings()), b"").ok();
        let lines: Vec<&str> = ran.stdout.lines().collect();
        assert_eq!(lines[0], "stored in shardId-000000000000");
        assert_eq!(lines[1], "0 hi mom");
        let again: Vec<String> = (1..=100).map(|number| format!("{number} hi again")).collect();
        assert_eq!(lines[2..], again, "{ran:?}");
    }
}
