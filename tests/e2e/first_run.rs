//! First use: without a config, then with a first config.

use crate::home::Home;

#[test]
fn the_demo_prints_what_the_seed_shows() {
    let home = Home::new();
    let put = home.feed(&["put", "-s", "demo"], "hi\n").ok();
    assert_eq!(put.stdout, "");
    assert_eq!(put.stderr, "note: no config found; 'demo' is a local stream (~/.local/share/triton/streams/demo.db)\n");
    let get = home.run(&["get", "-s", "demo", "--from", "all", "-e"]).ok();
    assert_eq!(get.stderr, put.stderr);
    let [record, map, empty] = get.stdout.split('\n').collect::<Vec<_>>()[..3] else { panic!("{get:?}") };
    let sequence = record.strip_prefix("<Record shardId-000000000000 ").unwrap().strip_suffix('>').unwrap();
    assert!(sequence.parse::<u64>().is_ok(), "{record}");
    let seconds = map.strip_prefix(r"{'msg': 'hi\n', 'ts': ").unwrap().strip_suffix('}').unwrap();
    assert!(seconds.parse::<f64>().unwrap() > 1_700_000_000.0, "{map}");
    assert_eq!(empty, "");
    assert_eq!(get.stdout.split('\n').count(), 4);
}

#[test]
fn no_local_stream_is_created_when_aws_is_configured() {
    let home = Home::new();
    for variable in ["AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_REGION"] {
        for command in ["get", "put", "shards"] {
            let mut command = home.command(&[command, "-s", "demo"]);
            command.env(variable, "x");
            let ran = home.run_with(command, b"");
            insta::allow_duplicates! {
                insta::assert_snapshot!(ran.mistake().replace(variable, "VARIABLE"), @r"
                error: no config describes 'demo', and $VARIABLE points to AWS: not using a local stream
                  help: write a triton.yaml ('triton init'), or use --local for a stream on this machine
                [3]
                ");
            }
        }
    }
    for flag in [["--region", "eu-west-1"], ["--profile", "x"], ["--endpoint-url", "http://127.0.0.1:1"]] {
        let ran = home.run(&["get", "-s", "demo", flag[0], flag[1]]);
        assert_eq!(ran.code, Some(3), "{ran:?}");
        assert!(ran.stderr.contains(&format!("{} points to AWS", flag[0])), "{ran:?}");
    }
    assert!(!home.path().join(".local").exists(), "nothing was made");

    let mut local = home.command(&["put", "-s", "demo", "--local"]);
    local.env("AWS_PROFILE", "x");
    home.run_with(local, b"hi\n").ok();
    // A machine-wide setting does not mean that the user wants AWS.
    let mut bundle = home.command(&["get", "-s", "demo", "--from", "all", "-e"]);
    bundle.env("AWS_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt");
    assert!(home.run_with(bundle, b"").ok().stdout.contains("hi"));
}

#[test]
fn only_the_first_config_in_the_search_order_is_used() {
    let home = Home::new();
    let mut missing = home.command(&["get", "-s", "demo"]);
    missing.env("TRITON_CONFIG", "nowhere.yaml");
    insta::assert_snapshot!(home.run_with(missing, b"").mistake(), @r"
    error: nowhere.yaml: no such file
    [3]
    ");
    insta::assert_snapshot!(home.run(&["get", "-s", "demo", "--config", "nowhere.yaml"]).mistake(), @r"
    error: nowhere.yaml: no such file
    [3]
    ");

    // A dangling link is an error, not a missing config.
    std::os::unix::fs::symlink("nowhere.yaml", home.path().join("triton.yaml")).unwrap();
    insta::assert_snapshot!(home.run(&["get", "-s", "demo"]).mistake(), @r"
    error: triton.yaml: no such file
    [3]
    ");
    std::fs::remove_file(home.path().join("triton.yaml")).unwrap();

    // Each hides those later in the search order.
    let config = |name: &str| format!("{name}: {{name: {name}, partition_key: null, backend: local}}");
    let list = |extra: &[&str], variable: Option<&str>| {
        let mut command = home.command(&["streams", "list"]);
        command.args(extra);
        if let Some(file) = variable {
            command.env("TRITON_CONFIG", file);
        }
        let ran = home.run_with(command, b"").ok();
        ran.stdout.lines().nth(1).and_then(|line| line.split(' ').next().map(str::to_owned))
    };
    home.write(".config/triton/triton.yaml", config("users"));
    assert_eq!(list(&[], None).as_deref(), Some("users"));
    home.write("triton.yaml", config("folders"));
    assert_eq!(list(&[], None).as_deref(), Some("folders"));
    home.write("variable.yaml", config("variables"));
    assert_eq!(list(&[], Some("variable.yaml")).as_deref(), Some("variables"));
    home.write("flag.yaml", config("flags"));
    assert_eq!(list(&["--config", "flag.yaml"], Some("variable.yaml")).as_deref(), Some("flags"));
}

#[test]
fn init_writes_a_config_whose_next_steps_work() {
    let home = Home::new();
    insta::assert_snapshot!(home.run(&["init"]).ok().stdout, @r"
    wrote triton.yaml

    next:
      echo hi | triton put -s demo
      triton get -s demo --from all -e
    ");
    let put = home.feed(&["put", "-s", "demo"], "hi\n").ok();
    assert_eq!(put.stderr, "", "a configured stream needs no note");
    assert!(home.run(&["get", "-s", "demo", "--from", "all", "-e"]).ok().stdout.contains(r"'msg': 'hi\n'"));
    assert_eq!(home.run(&["shards", "-s", "demo"]).ok().stdout.lines().count(), 5, "four shards and a header");
    insta::assert_snapshot!(home.run(&["init"]).mistake(), @r"
    error: triton.yaml exists already; it was left as it is
      help: use --config FILE to write another one
    [3]
    ");
}

#[test]
fn a_configured_stream_is_stored_under_its_real_name() {
    let home =
        Home::with_config("clicks: {name: clicks_v2, partition_key: user, backend: local, path: data, shards: 3}\n");
    home.feed(&["put", "-s", "clicks", "--json"], "{\"user\": \"ann\"}\n").ok();
    assert!(home.path().join("data/streams/clicks_v2.db").exists());
    assert_eq!(home.all("clicks", "%t %k %s"), [r#"clicks ann {"user":"ann"}"#]);
    assert_eq!(home.run(&["shards", "-s", "clicks", "-o", "json"]).ok().stdout.lines().count(), 3);
}

#[test]
fn without_a_command_help_is_printed() {
    let ran = Home::new().run(&[]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("Put records in one end of a stream"), "{ran:?}");
    let help = Home::new().run(&["get", "--help"]).ok().stdout;
    assert!(help.contains("--from <WHERE>") && help.contains("RFC 3339"), "{help}");
}
