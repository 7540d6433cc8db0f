//! The counters of a producer.

use metrics::{Counter, Gauge, counter, gauge};

use crate::metric::{
    OUTCOME, PRODUCER_BUDGET_USED, PRODUCER_BYTES, PRODUCER_CALLS, PRODUCER_DUPLICATES, PRODUCER_INVERSIONS,
    PRODUCER_RECORDS, PRODUCER_THROTTLED, STREAM,
};

use super::outcome::Report;

/// The counters of one stream's producers.
pub(super) struct Metrics {
    acknowledged: Counter,
    failed: Counter,
    bytes: Counter,
    pub(super) calls: Counter,
    throttled: Counter,
    duplicates: Counter,
    inversions: Counter,
    pub(super) budget_used: Gauge,
}

impl Metrics {
    pub(super) fn new(stream: &str) -> Self {
        let of_stream = |name: &'static str| counter!(name, STREAM => stream.to_owned());
        let records = |outcome| counter!(PRODUCER_RECORDS, STREAM => stream.to_owned(), OUTCOME => outcome);
        Self {
            acknowledged: records("acknowledged"),
            failed: records("failed"),
            bytes: of_stream(PRODUCER_BYTES),
            calls: of_stream(PRODUCER_CALLS),
            throttled: of_stream(PRODUCER_THROTTLED),
            duplicates: of_stream(PRODUCER_DUPLICATES),
            inversions: of_stream(PRODUCER_INVERSIONS),
            budget_used: gauge!(PRODUCER_BUDGET_USED, STREAM => stream.to_owned()),
        }
    }

    /// Counts what is reported.
    pub(super) fn add(&self, report: &Report) {
        self.acknowledged.increment(report.acknowledged);
        self.failed.increment(report.failed + report.unknown);
        self.bytes.increment(report.acknowledged_bytes);
        self.throttled.increment(report.throttled);
        self.duplicates.increment(report.duplicates);
        self.inversions.increment(report.inversions);
    }
}
