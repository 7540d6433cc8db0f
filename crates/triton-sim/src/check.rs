//! Checks a run for violations of the invariants, which are numbered as in `docs/architecture.md`.
//!
//! The model reports the calls it receives and their effects; the drivers report the records submitted to producers and
//! delivered by readers. The checker does not influence the run.

mod puts;
mod reads;

use std::fmt;

use triton_core::{Budget, Record, Shard};

pub(crate) use self::puts::{AttemptResult, Puts};
pub(crate) use self::reads::{PassId, ReaderId, Reads, Share};

use crate::trace::{Event, Trace};

/// A violation of an invariant.
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

/// A short description of each invariant that is checked.
pub(crate) const INVARIANTS: [(u8, &str); 7] = [
    (1, "every put ends exactly once"),
    (2, "a retry sends only failed records, and acknowledged records are stored"),
    (3, "records of a key are stored in the order of their puts"),
    (4, "a shard's records are delivered in order, each exactly once"),
    (5, "parents are read before children"),
    (6, "after a stop, nothing is fetched and every fetched record is delivered"),
    (10, "memory is bounded by the budget"),
];

/// The short description of an invariant.
pub(crate) fn name_of(invariant: u8) -> &'static str {
    INVARIANTS.iter().find(|(number, _)| *number == invariant).map_or("", |(_, name)| name)
}

/// The checker's view of the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamView<'a> {
    /// Every shard, indexed by its number.
    pub(crate) shards: &'a [Shard],
    /// The records of each shard, in order.
    pub(crate) records: &'a [Vec<Record>],
}

/// The events and violations of a run so far.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) now: u64,
    pub(crate) trace: Trace,
    pub(crate) violations: Vec<Violation>,
}

/// Later violations usually follow from the first, and are not recorded.
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

/// Checks the budget of a closed producer: its peak was at most its size, or that of the largest record, and nothing is
/// reserved any more.
pub(crate) fn check_budget(budget: &Budget, largest: usize, log: &mut Log) {
    let most = budget.bytes().max(largest);
    if budget.peak() > most || budget.used() > 0 {
        log.violated(10, || format!("peak {} of {most} bytes: {budget:?}", budget.peak()));
    }
}

/// The checker of one run.
#[derive(Debug)]
pub(crate) struct Checker {
    pub(crate) log: Log,
    pub(crate) puts: Puts,
    pub(crate) reads: Reads,
}

impl Checker {
    /// Reports what is missing from a run that was ended early because it did not finish.
    pub(crate) fn give_up(&mut self, view: StreamView<'_>) {
        self.puts.finish(&mut self.log);
        self.reads.finish_all(view, &mut self.log);
        if self.log.violations.is_empty() {
            self.log.violated(1, || "the run did not finish".into());
        }
    }
}
