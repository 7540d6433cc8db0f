//! Options of a reader: where it starts, what it reads, and how.

use std::time::Duration;

#[cfg(doc)]
use crate::Reader;
use crate::flow::RetryPolicy;
use crate::model::checkpoint::Checkpoints;
use crate::model::hash_key::HashKeyRange;
use crate::model::record_id::RecordId;
use crate::model::shard_ref::ShardRef;
use crate::model::timestamp::Timestamp;

/// Where a [`Reader`] starts, in each shard for which it has no [checkpoint](ReaderOptions::checkpoints).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// After the newest record of each shard that is open now. Shards created later are read from their first record.
    Latest,
    /// At the oldest record in the stream.
    All,
    /// In each shard, at the first record that arrived at or after this time.
    Time(Timestamp),
    /// At this record, then through the rest of its shard and the descendants of that. No other shard is read.
    At(RecordId),
    /// After this record, then through the rest of its shard and the descendants of that. No other shard is read.
    After(RecordId),
}

/// Options of a [`Reader`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReaderOptions {
    /// The shards to read, with their descendants; `None` for all shards.
    ///
    /// A shard merged from two parents is read by the reader that owns the first parent. If another reader owns the second
    /// parent, this reader does not wait for it: records of the merged shard may be read before records of that parent.
    ///
    /// Programs that divide a stream for longer than its retention choose [hash keys](Self::hash_keys) instead: once retention
    /// has removed a chosen shard and its children, nothing tells any more which shards descend from it. Reading one of
    /// those is an error then.
    pub shards: Option<Vec<ShardRef>>,
    /// The part of the stream to read: the shards whose first hash key lies in this range, whatever splits and merges come;
    /// `None` for all. Ranges that cover every hash key once divide a stream among readers for ever.
    ///
    /// Where a shard of another range is split or merged into one of this range, only the shard list tells of that: it is looked
    /// at every 30 s or so, while the ranges of the readers and those of the shards differ.
    ///
    /// If that happens while no reader runs, the new shard has no checkpointed relative in this range: it starts as the [`Start`]
    /// says. A reader that goes on from checkpoints therefore starts at [`Start::All`] or at a time, not at [`Start::Latest`].
    pub hash_keys: Option<HashKeyRange>,
    /// Where reading goes on, as [`Reader::checkpoints`] returned it. A shard with a checkpoint starts there, and its
    /// descendants at their first record; an ancestor of a shard with a checkpoint was read. The other shards start as the
    /// [`Start`] says.
    pub checkpoints: Option<Checkpoints>,
    /// Whether the reader ends once it has read what was in the stream at its start. Records that are put meanwhile may be read
    /// as well.
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
            hash_keys: None,
            checkpoints: None,
            until_caught_up: false,
            max_records: 10_000,
            poll_interval: None,
            retry: RetryPolicy::default(),
            seed: None,
        }
    }
}

impl ReaderOptions {
    /// Reads only these shards, and their descendants. See [`shards`](Self::shards).
    pub fn with_shards<S: Into<ShardRef>>(self, shards: impl IntoIterator<Item = S>) -> Self {
        Self { shards: Some(shards.into_iter().map(Into::into).collect()), ..self }
    }

    /// Reads only the shards whose first hash key lies in this range. See [`hash_keys`](Self::hash_keys).
    pub fn with_hash_keys(self, range: HashKeyRange) -> Self {
        Self { hash_keys: Some(range), ..self }
    }

    /// Goes on where these checkpoints stand. See [`checkpoints`](Self::checkpoints).
    pub fn with_checkpoints(self, checkpoints: Checkpoints) -> Self {
        Self { checkpoints: Some(checkpoints), ..self }
    }

    /// Whether the reader ends once it has read what was in the stream at its start.
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
