//! Shard lists that are old, flapping or partial, and ends of shards that are never told: no record is lost, repeated, or out of
//! order for its key.
//!
//! Each stream is read by polling and by fan-out, with one shard and with two, and both to the end of what is there and while
//! records are put.

use std::time::{Duration, Instant};

use triton_test_server::{EndMode, ListMode, MissingShards, Operation, Server, ServerOptions};

use crate::direct::Direct;
use crate::home::{Home, eventually};
use crate::keyed::{assert_in_order_per_key, lines, number};

/// Number of records before, between and after the changes of the stream.
const PART: usize = 120;

const TRIES: usize = 10;

/// Of a reader of Kinesis by polling.
const IDLE_POLL: Duration = Duration::from_secs(1);

/// Longer than a reader takes to find the end of a shard.
const POLL: Duration = Duration::from_secs(2);

/// How a stream is read.
#[derive(Clone, Copy, Debug)]
struct Reading {
    fan_out: bool,
    shards: usize,
    /// Whether the stream is changed before it is read to its end (`-e`), or while it is read.
    to_its_end: bool,
}

/// How the server reports a stream, and what happens to it.
#[derive(Clone, Copy, Debug)]
struct Lag {
    list: ListMode,
    end: EndMode,
    changes: &'static [fn(&Direct)],
}

impl Lag {
    /// The list alone tells the children of a shard.
    fn of_lists(list: ListMode) -> Self {
        Self { list, end: EndMode::WithoutChildren, changes: &[Direct::split_first, Direct::merge_last] }
    }

    /// Reads a stream in every way at once.
    fn check(self) {
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (fan_out, to_its_end, shards) = (number & 1 > 0, number & 2 > 0, 1 + number / 4);
                let reading = Reading { fan_out, shards, to_its_end };
                scope.spawn(move || {
                    // Again where the machine was slower than the list.
                    let has_lagged = (0..TRIES).any(|_| self.lags_for(reading));
                    assert!(has_lagged, "{self:?}, {reading:?}: the reader was never shown a list that lags");
                });
            }
        });
    }

    /// Whether the reader asks for a list that lags: at its start, or where nothing else tells the children. One that polls an
    /// idle shard finds its end when a list that is no older than its poll interval may be current again.
    fn asks_for_list(self, reading: Reading) -> bool {
        if reading.to_its_end {
            return self.list != ListMode::Current;
        }
        let is_over_by_then = !reading.fan_out && matches!(self.list, ListMode::Old(age) if age <= IDLE_POLL);
        self.list != ListMode::Current && self.end == EndMode::WithoutChildren && !is_over_by_then
    }

    /// Checks that no record is missing. Returns whether the reader was shown a list that was not the current one, if it was to be.
    fn lags_for(self, reading: Reading) -> bool {
        let options = ServerOptions::default().with_subscription_interval(Duration::from_millis(20));
        let server = Server::start(options).unwrap();
        let home = Home::on_kinesis("w: {name: w, partition_key: user}\n", &server);
        home.run(&["streams", "create", "-q", "-s", "w", "--shards", &reading.shards.to_string()]).ok();
        let direct = Direct::to("w", &server);
        let set_modes = || {
            server.faults().set_list_mode(self.list);
            server.faults().set_end_mode(self.end);
        };
        // Returns whether a list that was not the current one was shown after a change, before the next put lists the shards.
        let put_and_change = || {
            let mut was_shown = false;
            put(&home, 0);
            for (number, change) in self.changes.iter().enumerate() {
                set_modes();
                let before = server.faults().changed_lists();
                change(&direct);
                if !reading.to_its_end && self.list != ListMode::Current {
                    // The first listing after the change is the reader's.
                    was_shown |= within(POLL, || server.faults().changed_lists() > before);
                }
                put(&home, number + 1);
            }
            was_shown
        };
        let count = PART * (1 + self.changes.len());
        let count_text = count.to_string();
        let mut arguments = vec!["get", "-q", "-s", "w", "--from", "all", "-o", r"%s\n"];
        arguments.extend(if reading.to_its_end { vec!["-e"] } else { vec!["-n", &count_text] });
        arguments.extend(if reading.fan_out { vec!["--fan-out", "audit"] } else { vec![] });
        if reading.to_its_end {
            put_and_change();
        }
        set_modes();
        let shown_before = server.faults().changed_lists();
        let mut get = home.start(&arguments);
        let mut was_shown_meanwhile = true;
        if !reading.to_its_end {
            let reads = if reading.fan_out { Operation::SubscribeToShard } else { Operation::GetRecords };
            eventually("the shards are read", || server.faults().requests(reads) >= reading.shards as u64);
            was_shown_meanwhile = put_and_change();
        }
        // What it prints fits into the pipe.
        eventually(&format!("{self:?}, {reading:?}: the end"), || get.child.try_wait().unwrap().is_some());
        let (status, stdout, stderr) = get.end();
        assert!(status.success(), "{self:?}, {reading:?}: {stderr}");
        assert_in_order_per_key(stdout.lines().map(number), count, &format!("{self:?}, {reading:?}: {stderr}"));
        let was_shown = was_shown_meanwhile && server.faults().changed_lists() > shown_before;
        was_shown || !self.asks_for_list(reading)
    }
}

/// Waits for an event. Returns whether it has happened in time.
fn within(time: Duration, mut has_happened: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < time {
        if has_happened() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn put(home: &Home, part: usize) {
    home.feed(&["put", "-q", "-s", "w", "--json"], lines(part * PART..(part + 1) * PART)).ok();
}

#[test]
fn a_list_that_is_one_second_old_loses_nothing() {
    Lag::of_lists(ListMode::Old(Duration::from_secs(1))).check();
}

#[test]
fn a_list_that_is_three_seconds_old_loses_nothing() {
    Lag::of_lists(ListMode::Old(Duration::from_secs(3))).check();
}

#[test]
fn a_list_that_is_ten_seconds_old_loses_nothing() {
    Lag::of_lists(ListMode::Old(Duration::from_secs(10))).check();
}

#[test]
fn a_flapping_list_loses_nothing() {
    Lag::of_lists(ListMode::Flapping(Duration::from_secs(3))).check();
}

#[test]
fn a_list_without_parents_loses_nothing() {
    Lag::of_lists(ListMode::Partial(MissingShards::Parents)).check();
}

#[test]
fn a_list_without_second_children_loses_nothing() {
    // Nothing later makes a reader ask for a list again.
    Lag { changes: &[Direct::split_first], ..Lag::of_lists(ListMode::Partial(MissingShards::SecondChildren)) }.check();
}

/// As AWS does it: the ends of shards name their children.
#[test]
fn an_old_list_and_named_children_lose_nothing() {
    Lag { end: EndMode::WithChildren, ..Lag::of_lists(ListMode::Old(Duration::from_secs(10))) }.check();
}

/// A reader looks for such an end after half a minute of silence.
#[test]
fn an_end_that_is_never_told_loses_nothing() {
    Lag { list: ListMode::Current, end: EndMode::Never, changes: &[Direct::split_first] }.check();
}
