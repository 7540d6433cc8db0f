//! Where reading starts, and how it works.

use std::time::Duration;

#[cfg(doc)]
use crate::Reader;
use crate::flow::budget::Budget;
use crate::flow::retry::RetryPolicy;
use crate::model::sequence_number::SequenceNumber;
use crate::model::timestamp::Timestamp;

/// Where a [`Reader`] starts.
///
/// Shard numbers are indexes into the stream's whole list of shards, closed ones counted, sorted by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// After the last record of each shard that is open now; shards that come from them are read from their start.
    Latest,
    /// At the oldest record that is kept.
    All,
    /// At the first record of each shard that arrived at this time or later.
    Time(Timestamp),
    /// At this record of one shard, then on through the shards that come from it.
    At {
        /// The shard's number.
        shard: usize,
        /// The record's sequence number.
        sequence_number: SequenceNumber,
    },
    /// After this record of one shard, then on through the shards that come from it.
    After {
        /// The shard's number.
        shard: usize,
        /// The record's sequence number.
        sequence_number: SequenceNumber,
    },
}

/// How a [`Reader`] works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReaderOptions {
    /// The numbers of the shards to read, with those that come from them; `None` for all.
    ///
    /// A merged shard is read by the reader that holds its first parent, and waits only for the parents that this
    /// reader holds: records of the other parent may then be read later, by another reader, than those of the child.
    pub shards: Option<Vec<usize>>,
    /// Whether reading ends when every shard was read up to its newest record.
    pub until_caught_up: bool,
    /// The most records in one fetch; 0 counts as 1.
    pub max_records: usize,
    /// What bounds the memory of records that were fetched and not yet taken; 64 MiB of its own for each reader if `None`.
    pub budget: Option<Budget>,
    /// How often a shard is asked that has caught up, on a stream that does not tell of new records by itself (Kinesis by
    /// polling); the stream's own [`idle_poll`](crate::Limits::idle_poll) if `None`. Not more often than the shard's read
    /// quota allows, which is 200 ms on Kinesis for all that read it.
    pub poll_interval: Option<Duration>,
    /// When a fetch that failed is made again, and when the failure is reported.
    pub retry: RetryPolicy,
    /// Decides the waits; from the operating system if `None`.
    pub seed: Option<u64>,
}

impl Default for ReaderOptions {
    /// All shards, without an end, 10,000 records a fetch: as many as Kinesis gives; backends bound the bytes.
    fn default() -> Self {
        Self {
            shards: None,
            until_caught_up: false,
            max_records: 10_000,
            budget: None,
            poll_interval: None,
            retry: RetryPolicy::default(),
            seed: None,
        }
    }
}

impl ReaderOptions {
    /// Only the shards of these numbers and those that come from them.
    pub fn with_shards(self, shards: impl Into<Vec<usize>>) -> Self {
        Self { shards: Some(shards.into()), ..self }
    }

    /// Ends when every shard was read up to its newest record.
    pub fn with_until_caught_up(self, until_caught_up: bool) -> Self {
        Self { until_caught_up, ..self }
    }

    /// At most so many records in one fetch.
    pub fn with_max_records(self, max_records: usize) -> Self {
        Self { max_records, ..self }
    }

    /// Within this budget, which may be shared with other readers.
    pub fn with_budget(self, budget: Budget) -> Self {
        Self { budget: Some(budget), ..self }
    }

    /// Asks a shard that has caught up so often.
    pub fn with_poll_interval(self, interval: Duration) -> Self {
        Self { poll_interval: Some(interval), ..self }
    }

    /// With another retry policy.
    pub fn with_retry(self, retry: RetryPolicy) -> Self {
        Self { retry, ..self }
    }

    /// With a seed, so that a test replays.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }
}
