//! The numbers that Triton counts, by the [`metrics`] facade: names, units and labels.
//!
//! A program that installs a recorder (an exporter) has them; without one they cost next to nothing. Triton installs none.
//! Handles are made when a producer is made and when a reader starts, so that the recorder has to be installed before.
//!
//! | name | kind | unit | labels | what |
//! | --- | --- | --- | --- | --- |
//! | [`triton_reader_millis_behind`](READER_MILLIS_BEHIND) | gauge | milliseconds | `stream`, `shard` | how far behind the newest record of the shard the last fetch was; 0 once the shard is not read any more, unless it is for an error |
//! | [`triton_reader_records_total`](READER_RECORDS) | counter | records | `stream`, `shard` | records that were fetched |
//! | [`triton_reader_bytes_total`](READER_BYTES) | counter | bytes | `stream`, `shard` | payloads and partition keys that were fetched |
//! | [`triton_reader_fetches_total`](READER_FETCHES) | counter | calls | `stream`, `shard` | fetches that were made, failed ones counted |
//! | [`triton_reader_throttles_total`](READER_THROTTLES) | counter | calls | `stream`, `shard` | fetches that were throttled |
//! | [`triton_reader_budget_used_bytes`](READER_BUDGET_USED) | gauge | bytes | `stream` | what the readers of the stream have reserved of their budgets |
//! | [`triton_producer_records_total`](PRODUCER_RECORDS) | counter | records | `stream`, `outcome` | records that have an outcome: `acknowledged` or `failed` |
//! | [`triton_producer_bytes_total`](PRODUCER_BYTES) | counter | bytes | `stream` | payloads and partition keys that were acknowledged |
//! | [`triton_producer_calls_total`](PRODUCER_CALLS) | counter | calls | `stream` | calls that were made |
//! | [`triton_producer_throttled_total`](PRODUCER_THROTTLED) | counter | entries | `stream` | entries of calls that were throttled, and sent again; an aggregate is one |
//! | [`triton_producer_duplicates_total`](PRODUCER_DUPLICATES) | counter | records | `stream` | records that were put twice, since their aggregate had landed in a shard that some of it does not belong to |
//! | [`triton_producer_inversions_total`](PRODUCER_INVERSIONS) | counter | records | `stream` | records whose sequence number is below that of an earlier one of their key |
//! | [`triton_producer_budget_used_bytes`](PRODUCER_BUDGET_USED) | gauge | bytes | `stream` | what the producer's budget counts, of all who share it |
//!
//! `stream` is the real stream's name, `shard` the shard's id.

use metrics::{Unit, describe_counter, describe_gauge};

/// How far behind the newest record of a shard its last fetch was, in milliseconds.
pub const READER_MILLIS_BEHIND: &str = "triton_reader_millis_behind";
/// Records that were fetched.
pub const READER_RECORDS: &str = "triton_reader_records_total";
/// Bytes of payloads and partition keys that were fetched.
pub const READER_BYTES: &str = "triton_reader_bytes_total";
/// Fetches that were made.
pub const READER_FETCHES: &str = "triton_reader_fetches_total";
/// Fetches that were throttled.
pub const READER_THROTTLES: &str = "triton_reader_throttles_total";
/// Bytes that readers have reserved of their budgets.
pub const READER_BUDGET_USED: &str = "triton_reader_budget_used_bytes";

/// Records that have an outcome.
pub const PRODUCER_RECORDS: &str = "triton_producer_records_total";
/// Bytes of payloads and partition keys that were acknowledged.
pub const PRODUCER_BYTES: &str = "triton_producer_bytes_total";
/// Calls that were made.
pub const PRODUCER_CALLS: &str = "triton_producer_calls_total";
/// Entries that were throttled, and sent again.
pub const PRODUCER_THROTTLED: &str = "triton_producer_throttled_total";
/// Records that were put twice for their aggregate's sake.
pub const PRODUCER_DUPLICATES: &str = "triton_producer_duplicates_total";
/// Records that were stored before an earlier one of their key.
pub const PRODUCER_INVERSIONS: &str = "triton_producer_inversions_total";
/// Bytes that a producer's budget counts.
pub const PRODUCER_BUDGET_USED: &str = "triton_producer_budget_used_bytes";

/// The label of what became of records.
pub const OUTCOME: &str = "outcome";
/// The label of the real stream's name.
pub const STREAM: &str = "stream";
/// The label of the shard's id.
pub const SHARD: &str = "shard";

/// Tells the recorder that is installed the units and meanings, for those that show them.
pub fn describe() {
    describe_gauge!(READER_MILLIS_BEHIND, Unit::Milliseconds, "behind the newest record of the shard");
    describe_counter!(READER_RECORDS, Unit::Count, "records fetched");
    describe_counter!(READER_BYTES, Unit::Bytes, "payloads and partition keys fetched");
    describe_counter!(READER_FETCHES, Unit::Count, "fetches made");
    describe_counter!(READER_THROTTLES, Unit::Count, "fetches throttled");
    describe_gauge!(READER_BUDGET_USED, Unit::Bytes, "reserved of the readers' budgets");
    describe_counter!(PRODUCER_RECORDS, Unit::Count, "records that have an outcome");
    describe_counter!(PRODUCER_BYTES, Unit::Bytes, "payloads and partition keys acknowledged");
    describe_counter!(PRODUCER_CALLS, Unit::Count, "calls made");
    describe_counter!(PRODUCER_THROTTLED, Unit::Count, "entries throttled, and sent again");
    describe_counter!(PRODUCER_DUPLICATES, Unit::Count, "records put twice for their aggregate's sake");
    describe_counter!(PRODUCER_INVERSIONS, Unit::Count, "records stored before an earlier one of their key");
    describe_gauge!(PRODUCER_BUDGET_USED, Unit::Bytes, "counted by the producer's budget");
}
