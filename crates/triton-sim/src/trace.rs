//! The events of a run with their times on its clock. The same seed gives the same trace, byte for byte.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::model::fault::InjectedFault;
use crate::payload::PutId;

/// The result of a put for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ending {
    Stored { shard: u64, sequence: u64 },
    Failed { kind: triton_core::ErrorKind, may_have_written: bool },
    PredecessorFailed,
}

/// One event. Shards are given by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    Submitted { id: PutId },
    Put { call: u32, entries: u32, bytes: u64 },
    Sent { call: u32, id: PutId },
    Stored { call: u32, id: PutId, shard: u64, sequence: u64 },
    Refused { call: u32, id: PutId, why: InjectedFault },
    PutEnded { call: u32, failed: u32 },
    PutFailed { call: u32, why: InjectedFault },
    PutDropped { call: u32 },
    Ended { id: PutId, ending: Ending },
    ListingFailed,
    ReaderStarted { reader: u32 },
    Opened { reader: u32, shard: u64, next: u64 },
    Fetched { reader: u32, shard: u64, records: u32, behind: Option<Duration> },
    Drained { reader: u32, shard: u64 },
    FetchFailed { reader: u32, shard: u64, why: InjectedFault },
    Delivered { reader: u32, shard: u64, sequence: u64, sub_sequence: u32 },
    ShardEnded { reader: u32, shard: u64 },
    ReaderFailed { reader: u32 },
    ReaderStopped { reader: u32 },
    ReaderEnded { reader: u32 },
    Split { shard: u64 },
    Merge { shard: u64, adjacent: u64 },
    Violated { invariant: u8 },
}

/// A run's events, each with its time in milliseconds.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Trace(Vec<(u64, Event)>);

impl Trace {
    pub(crate) fn add(&mut self, now: u64, event: Event) {
        self.0.push((now, event));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// A hash of the events and their times.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (now, event) in &self.0 {
            writeln!(f, "{:>8}.{:03} {event:?}", now / 1000, now % 1000)?;
        }
        Ok(())
    }
}
