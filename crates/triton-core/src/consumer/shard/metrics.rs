//! Metrics of one shard that is read: handles made once, when its task starts.

use metrics::{Counter, Gauge, counter, gauge};

use crate::metric;
use crate::model::shard::ShardId;

/// Metrics of one shard.
#[derive(Debug)]
pub(in crate::consumer) struct ShardMetrics {
    pub(in crate::consumer) millis_behind: Gauge,
    pub(in crate::consumer) records: Counter,
    pub(in crate::consumer) bytes: Counter,
    pub(in crate::consumer) fetches: Counter,
    pub(in crate::consumer) throttles: Counter,
    /// Whether reading the shard failed for good.
    has_failed: bool,
}

impl ShardMetrics {
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

    /// Keeps the lag of a shard that failed for good.
    pub(in crate::consumer) fn failed(&mut self) {
        self.has_failed = true;
    }
}

impl Drop for ShardMetrics {
    fn drop(&mut self) {
        // A shard that is no longer read has no lag.
        if !self.has_failed {
            self.millis_behind.set(0.0);
        }
    }
}

/// Bytes reserved by the readers of a stream, as one gauge.
pub(in crate::consumer) fn budget_used(stream: &str) -> Gauge {
    gauge!(metric::READER_BUDGET_USED, metric::STREAM => stream.to_owned())
}
