//! Watches a run and reports the invariants that it breaks, numbered as in `docs/architecture.md`.
//!
//! The model reports the calls that reach it and their effects; the drivers report what they hand to a producer and what a
//! reader delivers. Nothing here influences the run.

mod puts;
mod reads;

use std::fmt;

use triton_core::{Budget, Record, Shard};

pub(crate) use self::puts::{AttemptResult, Puts};
pub(crate) use self::reads::{PassId, ReaderId, Reads, Root};

use crate::trace::{Event, Trace};

/// An invariant that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) invariant: u8,
    pub(crate) millis: u64,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, millis, what } = self;
        write!(f, "at {:.3} s breaks {invariant} ({}): {what}", *millis as f64 / 1e3, name_of(*invariant))
    }
}

/// Each invariant that is watched, in a few words.
pub(crate) const INVARIANTS: [(u8, &str); 7] = [
    (1, "every put ends exactly once"),
    (2, "a retry sends only what failed, and what was acknowledged is there"),
    (3, "records of a key come in the order of their puts"),
    (4, "a shard's records are delivered in order, none missing, none twice"),
    (5, "parents are read before their children"),
    (6, "after a stop nothing is fetched, and what was fetched is delivered"),
    (10, "what waits is bounded"),
];

/// One invariant in a few words.
pub(crate) fn name_of(invariant: u8) -> &'static str {
    INVARIANTS.iter().find(|(number, _)| *number == invariant).map_or("", |(_, name)| name)
}

/// What the checker can see of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamView<'a> {
    /// Every shard; its number is its index.
    pub(crate) shards: &'a [Shard],
    /// What each holds, in order.
    pub(crate) records: &'a [Vec<Record>],
}

/// Where violations and events go.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) now: u64,
    pub(crate) trace: Trace,
    pub(crate) violations: Vec<Violation>,
}

/// Further violations are not recorded: they tend to follow from the first.
const MAX_VIOLATIONS: usize = 20;

impl Log {
    pub(crate) fn add(&mut self, event: Event) {
        self.trace.add(self.now, event);
    }

    pub(crate) fn violated(&mut self, invariant: u8, what: impl FnOnce() -> String) {
        self.add(Event::Violated { invariant });
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation { invariant, millis: self.now, what: what() });
        }
    }
}

/// A producer has ended: its budget counted no more than it holds, or than the largest record takes, and counts nothing now.
pub(crate) fn check_budget(budget: &Budget, largest: usize, log: &mut Log) {
    let most = budget.bytes().max(largest);
    if budget.peak() > most || budget.used() > 0 {
        log.violated(10, || format!("{budget:?}, at most {} of {most}", budget.peak()));
    }
}

/// The checker over one run.
#[derive(Debug)]
pub(crate) struct Checker {
    pub(crate) log: Log,
    pub(crate) puts: Puts,
    pub(crate) reads: Reads,
}

impl Checker {
    /// Reports what is missing from a run that does not end.
    pub(crate) fn give_up(&mut self, view: StreamView<'_>) {
        self.puts.finish(&mut self.log);
        self.reads.finish_all(view, &mut self.log);
        if self.log.violations.is_empty() {
            self.log.violated(1, || "the run does not end".into());
        }
    }
}
