//! The end of `get -e` on a stream that is written to all the time.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use triton_test_server::{Server, ServerOptions};

use crate::home::{Home, eventually};
use crate::keyed::number;

const AT_THE_START: usize = 200;
/// 20 records per second: no page of a reader is ever empty.
const PAUSE: Duration = Duration::from_millis(50);
/// Generous: on an idle machine it takes less than two seconds.
const PROMPT: Duration = Duration::from_secs(20);

#[test]
fn what_was_there_is_read_to_its_end_beside_a_busy_writer() {
    let options = ServerOptions::default().with_subscription_interval(Duration::from_millis(20));
    let server = Server::start(options).unwrap();
    let home = Home::on_kinesis("w: {name: w, partition_key: user}\n", &server);
    home.run(&["streams", "create", "-q", "-s", "w", "--shards", "1"]).ok();
    let mut put = home.start(&["put", "-q", "-s", "w", "--json", "--ack"]);
    let mut write = |numbers: std::ops::Range<usize>| {
        let lines: String = numbers.clone().map(|number| format!("{{\"user\": 1, \"n\": {number}}}\n")).collect();
        put.write(&lines);
        numbers.for_each(|_| assert!(put.line().starts_with("shardId-"), "acknowledged"));
    };
    write(0..AT_THE_START);

    let (is_read, reads) = channel::<()>();
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            let mut count = AT_THE_START;
            while reads.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                write(count..count + 1);
                count += 1;
            }
            count
        });
        let get = ["get", "-q", "-s", "w", "--from", "all", "-e", "-o", r"%s\n"];
        let mut ends = Vec::new();
        for arguments in [get.to_vec(), [&get[..], &["--fan-out", "audit"]].concat()] {
            let started = Instant::now();
            let mut get = home.start(&arguments);
            eventually("the end of what was there", || get.child.try_wait().unwrap().is_some());
            assert!(started.elapsed() < PROMPT, "{arguments:?}: {:?}", started.elapsed());
            let (status, stdout, stderr) = get.end();
            assert!(status.success() && stderr.is_empty(), "{arguments:?}: {stderr}");
            let numbers: Vec<usize> = stdout.lines().map(number).collect();
            assert!(numbers.len() >= AT_THE_START, "{arguments:?}: {} records", numbers.len());
            assert!(numbers.iter().copied().eq(0..numbers.len()), "{arguments:?}: in order, none missing");
            ends.push(numbers.len());
        }
        drop(is_read);
        let written = writing.join().unwrap();
        assert!(AT_THE_START < ends[1] && ends[0] < written, "records were put meanwhile: {ends:?} of {written}");
    });
}
