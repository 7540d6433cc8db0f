//! One shard's metrics: handles that are made once.

use metrics::{Counter, Gauge, counter, gauge};

use crate::metric;
use crate::model::shard::ShardId;

/// The numbers of one shard that is read.
#[derive(Debug)]
pub(in crate::consumer) struct Meter {
    pub(in crate::consumer) millis_behind: Gauge,
    pub(in crate::consumer) records: Counter,
    pub(in crate::consumer) bytes: Counter,
    pub(in crate::consumer) fetches: Counter,
    pub(in crate::consumer) throttles: Counter,
    /// Whether the shard cannot be read on.
    has_failed: bool,
}

impl Meter {
    pub(in crate::consumer) fn new(stream: &str, shard: &ShardId) -> Self {
        let labels = [(metric::STREAM, stream.to_owned()), (metric::SHARD, shard.to_string())];
        Self {
            millis_behind: gauge!(metric::READER_MILLIS_BEHIND, &labels),
            records: counter!(metric::READER_RECORDS, &labels),
            bytes: counter!(metric::READER_BYTES, &labels),
            fetches: counter!(metric::READER_FETCHES, &labels),
            throttles: counter!(metric::READER_THROTTLES, &labels),
            has_failed: false,
        }
    }

    /// The shard cannot be read on, and stays as far behind as it is.
    pub(in crate::consumer) fn failed(&mut self) {
        self.has_failed = true;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        // Nobody is behind in what nobody reads.
        if !self.has_failed {
            self.millis_behind.set(0.0);
        }
    }
}

/// What one reader of a stream has reserved; its readers together are one gauge.
pub(in crate::consumer) fn budget_used(stream: &str) -> Gauge {
    gauge!(metric::READER_BUDGET_USED, metric::STREAM => stream.to_owned())
}
