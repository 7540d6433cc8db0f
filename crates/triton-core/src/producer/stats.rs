//! The counts of a producer.

/// What became of the records of a producer that was closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseSummary {
    /// Records that the stream has stored.
    pub acknowledged: u64,
    /// Records that failed and were not written.
    pub failed: u64,
    /// Records that failed and may have been written.
    pub unknown: u64,
}

/// The counts of a producer at one moment. They need no metrics recorder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerStats {
    /// Records that were accepted.
    pub accepted: u64,
    /// Records that the stream has stored.
    pub acknowledged: u64,
    /// Records that failed and were not written.
    pub failed: u64,
    /// Records that failed and may have been written.
    pub unknown: u64,
    /// Records that have no outcome yet.
    pub pending: u64,
}
