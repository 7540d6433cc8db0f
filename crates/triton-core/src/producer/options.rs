//! How a producer works, as plain data.

use std::time::Duration;

use crate::flow::RetryPolicy;

/// Default linger.
const DEFAULT_LINGER: Duration = Duration::from_millis(50);

/// The order in which records are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyOrder {
    /// Records of one partition key are read in the order in which they were submitted. On a backend that may reorder the
    /// entries of a call, as Kinesis does, a key then has one record in flight at a time; with aggregation, a shard has one
    /// aggregate in flight.
    #[default]
    PerKey,
    /// Any order. Faster where few keys have many records.
    Relaxed,
}

/// How a [`Producer`](crate::Producer) works.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerOptions {
    /// When a failed record is sent again, and when it fails for good.
    pub retry: RetryPolicy,
    /// How long a record waits for others to share a call with; default 50 ms. [`put`](crate::Producer::put) and
    /// [`put_all`](crate::Producer::put_all) do not wait, and nothing does on a backend that [keeps the order of a
    /// call](crate::Limits::ordered_batches): one call is in flight at a time there, and the records of the next gather
    /// while it is.
    pub linger: Duration,
    /// The order in which records are read.
    pub ordering: KeyOrder,
    /// Whether records of one shard are packed together, in the format of the Kinesis Producer Library, which only readers
    /// that know it can read. `None`: as the stream's config says, and off for a producer without a config.
    pub aggregation: Option<bool>,
    /// Whether a record that failed and may still be written fails the queued records of its key: it could be written
    /// after them. Default: true.
    pub fail_dependents: bool,
    /// Seed of the random waits between retries. `None`: from the operating system.
    pub seed: Option<u64>,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            linger: DEFAULT_LINGER,
            ordering: KeyOrder::default(),
            aggregation: None,
            fail_dependents: true,
            seed: None,
        }
    }
}

impl ProducerOptions {
    /// With this retry policy.
    pub fn with_retry(self, retry: RetryPolicy) -> Self {
        Self { retry, ..self }
    }

    /// With this linger.
    pub fn with_linger(self, linger: Duration) -> Self {
        Self { linger, ..self }
    }

    /// With this order.
    pub fn with_ordering(self, ordering: KeyOrder) -> Self {
        Self { ordering, ..self }
    }

    /// With or without aggregation, whatever the stream's config says.
    pub fn with_aggregation(self, aggregation: bool) -> Self {
        Self { aggregation: Some(aggregation), ..self }
    }

    /// Whether the queued records of a key fail with an earlier one that may still be written.
    pub fn with_fail_dependents(self, fail_dependents: bool) -> Self {
        Self { fail_dependents, ..self }
    }

    /// With a seed, so that a test replays.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }
}
