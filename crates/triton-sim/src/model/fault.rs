//! The faults that can be injected into calls, their probabilities, and counts of those injected.

use std::time::Duration;

/// The probability of each fault, per call or, where it says so, per entry.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Faults {
    /// A put, fetch or listing takes seconds.
    pub(crate) slow: f64,
    /// A put fails before it is sent.
    pub(crate) unsent: f64,
    /// A put is throttled as a whole.
    pub(crate) throttled_call: f64,
    /// A put is denied with an error that no retry can overcome.
    pub(crate) denied: f64,
    /// A put is lost before it arrives.
    pub(crate) request_lost: f64,
    /// A put is applied, and its response lost.
    pub(crate) reply_lost: f64,
    /// A put is applied after its caller was given an error.
    pub(crate) late: f64,
    /// An entry fails with an internal error of Kinesis, stored or not.
    pub(crate) internal: f64,
    /// An entry is throttled within its shard's quota.
    pub(crate) throttled_entry: f64,
    /// The entries of a put are stored in another order.
    pub(crate) reordered: f64,
    /// A listing of the shards, or a request for the limits, fails.
    pub(crate) listing: f64,
    /// A shard cannot be opened, or the response of a fetch is lost.
    pub(crate) unread: f64,
    /// A fetch is throttled within its shard's quota.
    pub(crate) throttled_fetch: f64,
    /// An iterator expires early.
    pub(crate) expired: f64,
    /// A fetch returns an empty page although there are records.
    pub(crate) empty_page: f64,
    /// An iterator never tells the end of its shard: it returns empty pages.
    pub(crate) untold_end: f64,
    /// The end of a shard names no children.
    pub(crate) unnamed_children: f64,
}

/// The latency of calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Latency {
    /// Bounds of the round trip, the tail excepted.
    pub(crate) least: Duration,
    pub(crate) most: Duration,
    /// Probability of a round trip of up to five times as long.
    pub(crate) tail: f64,
}

macro_rules! injected_faults {
    ($($name:ident: $text:literal,)*) => {
        /// A fault that was injected, or another event of a run that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum InjectedFault { $($name,)* }

        impl InjectedFault {
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

injected_faults! {
    ThrottledByQuota: "entries throttled by their shard's quota",
    ThrottledEntry: "entries throttled within the quota",
    ThrottledCall: "puts throttled as a whole",
    Denied: "puts denied",
    Outage: "puts during an outage",
    Unsent: "puts not sent",
    RequestLost: "puts lost before they arrived",
    ReplyLost: "puts applied, response lost",
    Late: "puts applied late",
    InternalUnwritten: "entries with an internal error, not stored",
    InternalWritten: "entries with an internal error, stored",
    Reordered: "puts stored in another order",
    Slow: "slow calls",
    GivenUp: "records that failed",
    PredecessorFailed: "records failed with their predecessor",
    Listing: "failed listings",
    OldList: "old shard lists",
    FlappingList: "shard lists older than the one before",
    PartialList: "shard lists that lack shards",
    Unread: "failed fetches",
    FetchThrottledByQuota: "fetches throttled by their shard's quota",
    ThrottledFetch: "fetches throttled within the quota",
    FullPage: "full pages",
    EmptyPage: "empty pages before the newest record",
    Expired: "iterators expired early",
    Aged: "iterators expired by age",
    UntoldEnd: "empty pages after the end of a shard",
    UnnamedChildren: "ends without children",
    NamedChildren: "ends with children",
    Split: "splits",
    Merge: "merges",
    Stopped: "readers stopped before the end",
    StoppedNow: "readers stopped before the end, fetched records discarded",
    Paused: "consumers that paused",
}

/// Number of injections of each fault.
#[derive(Clone, Debug)]
pub(crate) struct FaultCounts([u64; InjectedFault::ALL.len()]);

impl Default for FaultCounts {
    fn default() -> Self {
        Self([0; InjectedFault::ALL.len()])
    }
}

impl FaultCounts {
    pub(crate) fn add(&mut self, fault: InjectedFault) {
        self.0[fault as usize] += 1;
    }

    pub(crate) fn of(&self, fault: InjectedFault) -> u64 {
        self.0[fault as usize]
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}
