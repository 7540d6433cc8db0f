//! Metrics, published through the [`metrics`] facade: names, units and labels.
//!
//! The program installs a recorder (an exporter); without one, metrics cost next to nothing. Install it before creating
//! producers and readers: they register their metrics when they are created.
//!
//! | name | kind | unit | labels | meaning |
//! | --- | --- | --- | --- | --- |
//! | [`triton_reader_millis_behind`](READER_MILLIS_BEHIND) | gauge | milliseconds | `stream`, `shard` | how far the last fetch was behind the newest record of the shard; 0 once reading the shard has ended, except by an error |
//! | [`triton_reader_records_total`](READER_RECORDS) | counter | records | `stream`, `shard` | records fetched |
//! | [`triton_reader_bytes_total`](READER_BYTES) | counter | bytes | `stream`, `shard` | payloads and partition keys fetched |
//! | [`triton_reader_fetches_total`](READER_FETCHES) | counter | calls | `stream`, `shard` | fetches, including failed ones |
//! | [`triton_reader_throttles_total`](READER_THROTTLES) | counter | calls | `stream`, `shard` | throttled fetches |
//! | [`triton_reader_budget_used_bytes`](READER_BUDGET_USED) | gauge | bytes | `stream` | bytes that the stream's readers have reserved from their budgets |
//! | [`triton_producer_records_total`](PRODUCER_RECORDS) | counter | records | `stream`, `outcome` | records with an outcome: `acknowledged` or `failed` |
//! | [`triton_producer_bytes_total`](PRODUCER_BYTES) | counter | bytes | `stream` | payloads and partition keys acknowledged |
//! | [`triton_producer_calls_total`](PRODUCER_CALLS) | counter | calls | `stream` | put calls |
//! | [`triton_producer_throttled_total`](PRODUCER_THROTTLED) | counter | entries | `stream` | throttled entries, which are sent again; an aggregate counts as one |
//! | [`triton_producer_duplicates_total`](PRODUCER_DUPLICATES) | counter | records | `stream` | records put twice, because their aggregate was written to a shard to which some of its records do not belong |
//! | [`triton_producer_inversions_total`](PRODUCER_INVERSIONS) | counter | records | `stream` | records with a lower sequence number than an earlier record of their key |
//! | [`triton_producer_budget_used_bytes`](PRODUCER_BUDGET_USED) | gauge | bytes | `stream` | bytes in use of the producer's budget, including those of others that share it |
//!
//! `stream` is the real stream's name, `shard` the shard's id.

use metrics::{Unit, describe_counter, describe_gauge};

/// How far the last fetch was behind the newest record of the shard, in milliseconds.
pub const READER_MILLIS_BEHIND: &str = "triton_reader_millis_behind";
/// Records fetched.
pub const READER_RECORDS: &str = "triton_reader_records_total";
/// Bytes of payloads and partition keys fetched.
pub const READER_BYTES: &str = "triton_reader_bytes_total";
/// Fetches, including failed ones.
pub const READER_FETCHES: &str = "triton_reader_fetches_total";
/// Throttled fetches.
pub const READER_THROTTLES: &str = "triton_reader_throttles_total";
/// Bytes that readers have reserved from their budgets.
pub const READER_BUDGET_USED: &str = "triton_reader_budget_used_bytes";

/// Records with an outcome.
pub const PRODUCER_RECORDS: &str = "triton_producer_records_total";
/// Bytes of payloads and partition keys acknowledged.
pub const PRODUCER_BYTES: &str = "triton_producer_bytes_total";
/// Put calls.
pub const PRODUCER_CALLS: &str = "triton_producer_calls_total";
/// Throttled entries, which are sent again.
pub const PRODUCER_THROTTLED: &str = "triton_producer_throttled_total";
/// Records put twice, because their aggregate was written to the wrong shard.
pub const PRODUCER_DUPLICATES: &str = "triton_producer_duplicates_total";
/// Records with a lower sequence number than an earlier record of their key.
pub const PRODUCER_INVERSIONS: &str = "triton_producer_inversions_total";
/// Bytes in use of a producer's budget.
pub const PRODUCER_BUDGET_USED: &str = "triton_producer_budget_used_bytes";

/// Label of a record's outcome: `acknowledged` or `failed`.
pub const OUTCOME: &str = "outcome";
/// Label of the real stream's name.
pub const STREAM: &str = "stream";
/// Label of the shard's id.
pub const SHARD: &str = "shard";

/// Registers units and descriptions with the installed recorder.
pub fn describe() {
    describe_gauge!(
        READER_MILLIS_BEHIND,
        Unit::Milliseconds,
        "how far the last fetch was behind the newest record of the shard"
    );
    describe_counter!(READER_RECORDS, Unit::Count, "records fetched");
    describe_counter!(READER_BYTES, Unit::Bytes, "payloads and partition keys fetched");
    describe_counter!(READER_FETCHES, Unit::Count, "fetches, including failed ones");
    describe_counter!(READER_THROTTLES, Unit::Count, "throttled fetches");
    describe_gauge!(READER_BUDGET_USED, Unit::Bytes, "bytes reserved from the readers' budgets");
    describe_counter!(PRODUCER_RECORDS, Unit::Count, "records with an outcome");
    describe_counter!(PRODUCER_BYTES, Unit::Bytes, "payloads and partition keys acknowledged");
    describe_counter!(PRODUCER_CALLS, Unit::Count, "put calls");
    describe_counter!(PRODUCER_THROTTLED, Unit::Count, "throttled entries, which are sent again");
    describe_counter!(
        PRODUCER_DUPLICATES,
        Unit::Count,
        "records put twice, because their aggregate was written to the wrong shard"
    );
    describe_counter!(
        PRODUCER_INVERSIONS,
        Unit::Count,
        "records with a lower sequence number than an earlier record of their key"
    );
    describe_gauge!(PRODUCER_BUDGET_USED, Unit::Bytes, "bytes in use of the producer's budget");
}
