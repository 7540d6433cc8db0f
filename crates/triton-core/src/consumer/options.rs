//! Options of a reader: where it starts, and how it reads.

use std::time::Duration;

#[cfg(doc)]
use crate::Reader;
use crate::flow::RetryPolicy;
use crate::model::sequence_number::SequenceNumber;
use crate::model::timestamp::Timestamp;

/// Where a [`Reader`] starts.
///
/// A shard number is an index into the stream's current list of shards, open and closed, sorted by id. Numbers shift when
/// retention removes a closed shard from the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// After the newest record of each shard that is open now. Shards created later are read from their first record.
    Latest,
    /// At the oldest record in the stream.
    All,
    /// In each shard, at the first record that arrived at or after this time.
    Time(Timestamp),
    /// At this record of one shard, then through its descendants.
    At {
        /// The shard's number.
        shard: usize,
        /// The record's sequence number.
        sequence_number: SequenceNumber,
    },
    /// After this record of one shard, then through its descendants.
    After {
        /// The shard's number.
        shard: usize,
        /// The record's sequence number.
        sequence_number: SequenceNumber,
    },
}

/// Options of a [`Reader`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReaderOptions {
    /// Numbers of the shards to read, with their descendants; `None` for all shards.
    ///
    /// A shard merged from two parents is read by the reader that owns the first parent. If another reader owns the second
    /// parent, this reader does not wait for it: records of the merged shard may be read before records of that parent.
    pub shards: Option<Vec<usize>>,
    /// Whether the reader ends once every shard is read up to its newest record.
    pub until_caught_up: bool,
    /// Maximum number of records per fetch; 0 counts as 1.
    pub max_records: usize,
    /// Time between two polls of a shard that has caught up, on a stream that does not push records (Kinesis by polling);
    /// the stream's own [`idle_poll`](crate::Limits::idle_poll) if `None`. Raised to the shortest interval that the shard's
    /// read quota allows: 200 ms on Kinesis. All readers of a shard share that quota.
    pub poll_interval: Option<Duration>,
    /// When a failed fetch is retried, and when the failure is reported.
    pub retry: RetryPolicy,
    /// Seed of the random waits; from the operating system if `None`.
    pub seed: Option<u64>,
}

impl Default for ReaderOptions {
    /// Reads all shards until stopped, with at most 10,000 records per fetch (Kinesis' maximum). The backend limits the
    /// bytes per fetch.
    fn default() -> Self {
        Self {
            shards: None,
            until_caught_up: false,
            max_records: 10_000,
            poll_interval: None,
            retry: RetryPolicy::default(),
            seed: None,
        }
    }
}

impl ReaderOptions {
    /// Reads only the shards of these numbers, and their descendants.
    pub fn with_shards(self, shards: impl Into<Vec<usize>>) -> Self {
        Self { shards: Some(shards.into()), ..self }
    }

    /// Whether the reader ends once every shard is read up to its newest record.
    pub fn with_until_caught_up(self, until_caught_up: bool) -> Self {
        Self { until_caught_up, ..self }
    }

    /// Reads at most this many records per fetch.
    pub fn with_max_records(self, max_records: usize) -> Self {
        Self { max_records, ..self }
    }

    /// Polls a shard that has caught up at this interval.
    pub fn with_poll_interval(self, interval: Duration) -> Self {
        Self { poll_interval: Some(interval), ..self }
    }

    /// Retries by this policy.
    pub fn with_retry(self, retry: RetryPolicy) -> Self {
        Self { retry, ..self }
    }

    /// Seeds the random waits, so that a test can be replayed.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }
}
