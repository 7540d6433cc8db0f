//! The ideal producer: an upper bound for the same records in the same order, a budget of the same size, and shards
//! that store each record as soon as their quota allows.
//!
//! It is simulated because a formula would hold for the steady state only. In a finite run a hot shard fills the budget
//! slowly, while all other shards are still busy, and random keys leave a shard idle now and then.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::Keys;

/// How long unused quota is saved, in nanoseconds.
const MAX_SAVED: u64 = 1_000_000_000;

/// The ideal producer. Times are nanoseconds since the start of its run.
pub(super) struct Ideal<'a> {
    keys: Keys,
    shard_of: &'a [usize],
    /// Number of records that fit into the budget.
    capacity: usize,
    round_trip: u64,
    is_ordered: bool,
    shards: Vec<Shard>,
    key_queues: Vec<KeyQueue>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A shard may store its next record.
    Serve(usize),
    /// A record of this key is acknowledged.
    Done(usize),
}

struct Shard {
    /// Time between two records.
    interval: f64,
    free_at: f64,
    ready: VecDeque<usize>,
    is_scheduled: bool,
}

/// The records of one key.
#[derive(Clone, Default)]
struct KeyQueue {
    is_busy: bool,
    waiting: usize,
}

impl<'a> Ideal<'a> {
    /// `rates` are records per second of each shard. If `is_ordered`, a key has one record in flight.
    pub(super) fn new(
        keys: Keys,
        shard_of: &'a [usize],
        capacity: usize,
        rates: impl Iterator<Item = f64>,
        round_trip: Duration,
        is_ordered: bool,
    ) -> Self {
        let shard = |rate: f64| Shard {
            interval: 1e9 / rate.max(1e-3),
            free_at: 0.0,
            ready: VecDeque::new(),
            is_scheduled: false,
        };
        Self {
            keys,
            shard_of,
            capacity,
            round_trip: round_trip.as_nanos() as u64,
            is_ordered,
            shards: rates.map(shard).collect(),
            key_queues: vec![KeyQueue::default(); shard_of.len()],
            events: BinaryHeap::new(),
        }
    }

    /// Number of records acknowledged in `duration` after the warm-up.
    pub(super) fn puts(mut self, warm_up: Duration, duration: Duration) -> u64 {
        let (from, to) = (warm_up.as_nanos() as u64, (warm_up + duration).as_nanos() as u64);
        let mut puts = 0;
        for _ in 0..std::mem::take(&mut self.capacity) {
            self.put(0);
        }
        while let Some(Reverse((now, event))) = self.events.pop()
            && now < to
        {
            match event {
                Event::Serve(shard) => self.serve(shard, now),
                Event::Done(key) => {
                    self.done(key, now);
                    self.put(now);
                    puts += u64::from(now >= from);
                }
            }
        }
        puts
    }

    fn put(&mut self, now: u64) {
        let key = self.keys.draw();
        if self.is_ordered && std::mem::replace(&mut self.key_queues[key].is_busy, true) {
            self.key_queues[key].waiting += 1;
        } else {
            self.ready(key, now);
        }
    }

    fn ready(&mut self, key: usize, now: u64) {
        let shard = self.shard_of[key];
        self.shards[shard].ready.push_back(key);
        self.schedule(shard, now);
    }

    fn schedule(&mut self, index: usize, now: u64) {
        let shard = &mut self.shards[index];
        if !shard.ready.is_empty() && !std::mem::replace(&mut shard.is_scheduled, true) {
            self.events.push(Reverse((now.max(shard.free_at as u64), Event::Serve(index))));
        }
    }

    fn serve(&mut self, index: usize, now: u64) {
        let shard = &mut self.shards[index];
        shard.is_scheduled = false;
        if let Some(key) = shard.ready.pop_front() {
            shard.free_at = shard.free_at.max(now.saturating_sub(MAX_SAVED) as f64) + shard.interval;
            self.events.push(Reverse((now + self.round_trip, Event::Done(key))));
        }
        self.schedule(index, now);
    }

    fn done(&mut self, key: usize, now: u64) {
        if !self.is_ordered {
            return;
        }
        let queue = &mut self.key_queues[key];
        match queue.waiting.checked_sub(1) {
            Some(waiting) => {
                queue.waiting = waiting;
                self.ready(key, now);
            }
            None => queue.is_busy = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn puts(shard_of: &[usize], rates: &[f64], capacity: usize, is_ordered: bool) -> u64 {
        let keys = Keys::new(shard_of.len(), false);
        let rates = rates.iter().copied();
        Ideal::new(keys, shard_of, capacity, rates, SECOND / 50, is_ordered).puts(2 * SECOND, 10 * SECOND)
    }

    #[test]
    fn a_saturated_shard_uses_its_quota() {
        assert_eq!(puts(&[0; 100], &[1_000.0], 100, false), 10_000);
        assert_eq!(puts(&[0; 100], &[1_000.0], 10, false), 10 * 50 * 10, "ten per round trip");
    }

    #[test]
    fn an_ordered_key_has_one_record_per_round_trip() {
        assert_eq!(puts(&[0], &[1_000.0], 100, true), 10 * 50);
        assert_eq!(puts(&[0, 0], &[1_000.0], 1_000, true) / 10, 100, "two keys");
    }

    #[test]
    fn records_queued_for_the_slowest_shard_fill_the_budget() {
        // Each shard gets half of the records.
        let puts = puts(&[0, 1], &[1_000.0, 100.0], 50, false);
        assert!((1_900..=2_100).contains(&puts), "{puts}");
    }
}
