//! Faults to inject into calls: how often each is, and how often each was.

use std::time::Duration;

/// How often each fault is injected: the probability per call, or per entry where it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Faults {
    /// A put, fetch or listing takes seconds.
    pub(crate) slow: f64,
    /// A request never leaves.
    pub(crate) unsent: f64,
    /// A put is throttled as a whole.
    pub(crate) throttled_call: f64,
    /// A put is denied for good.
    pub(crate) denied: f64,
    /// A put is lost on its way there.
    pub(crate) request_lost: f64,
    /// A put is applied and its reply lost.
    pub(crate) reply_lost: f64,
    /// A put is applied after its caller has stopped waiting.
    pub(crate) late: f64,
    /// An entry fails for a reason inside Kinesis, written or not.
    pub(crate) internal: f64,
    /// An entry is throttled though its shard has room.
    pub(crate) throttled_entry: f64,
    /// The entries of a put are stored in another order.
    pub(crate) reordered: f64,
    /// A listing, or the look at the limits, fails.
    pub(crate) listing: f64,
    /// A shard cannot be opened, or a fetch has no answer.
    pub(crate) unread: f64,
    /// A fetch is refused though its shard has room.
    pub(crate) throttled_fetch: f64,
    /// An iterator expires before its time.
    pub(crate) expired: f64,
    /// A fetch returns no records although there are some.
    pub(crate) empty_page: f64,
}

/// How long a call is on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Latency {
    /// There and back, at least and, but for the tail, at most.
    pub(crate) least: Duration,
    pub(crate) most: Duration,
    /// How often it takes up to five times as long.
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
    ThrottledEntry: "entries throttled for no reason",
    ThrottledCall: "puts throttled as a whole",
    Denied: "puts denied for good",
    Outage: "puts during an outage",
    Unsent: "puts that never left",
    RequestLost: "puts lost on their way",
    ReplyLost: "puts applied, reply lost",
    Late: "puts applied late",
    InternalUnwritten: "entries failed inside, not written",
    InternalWritten: "entries failed inside, written",
    Reordered: "puts stored in another order",
    Slow: "slow calls",
    GivenUp: "records that ended in an error",
    PredecessorFailed: "records withheld behind another",
    Listing: "failed listings",
    Unread: "failed fetches",
    FetchThrottledByQuota: "fetches throttled by their shard's quota",
    ThrottledFetch: "fetches throttled for no reason",
    FullPage: "full pages",
    EmptyPage: "empty pages behind the newest",
    Expired: "iterators expired by chance",
    Aged: "iterators expired by age",
    Split: "splits",
    Merge: "merges",
    Stopped: "readers stopped on their way",
    Paused: "consumers that paused",
}

/// How often each fault was injected.
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
