//! The conformance suite for backends: one function per behaviour of the [contract](crate::backend), and a macro that
//! runs each as a `#[tokio::test]`.
//!
//! ```text
//! // In the backend's tests:
//! triton_core::conformance!(plain, Suite::new(Arc::new(Memory::new()), MemoryRetention));
//! triton_core::conformance!(faulty, Suite::new(Arc::new(Memory::new()), MemoryRetention).with_faults(Faults::all(), 1));
//! ```
//!
//! A suite also takes the backend's [`Retention`], since no test waits until records are that old.
//!
//! A backend must show the same behaviours under injected faults. Failed calls are then retried, and a record whose
//! acknowledgement was lost may be stored twice. The assertions hold for the first occurrence of each record.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::backend::StreamClient;
use crate::backend::{CreateOptions, StreamAdmin};
use crate::error::{Error, Result};
use crate::flow::{RetryPolicy, retry};
use crate::model::position::Position;
use crate::model::record_id::RecordId;
use crate::model::shard::{Shard, ShardId};
use crate::record::{PartitionKey, PutEntry, PutReceipt, Record};
use crate::testing::{Faults, FaultyClient};

pub mod checkpoint;
pub mod pipeline;
pub mod position;
pub mod shard;

/// A backend under test.
#[derive(Debug)]
pub struct Suite {
    admin: Arc<dyn StreamAdmin>,
    retention: Box<dyn Retention>,
    faults: Option<(Faults, u64)>,
    clock_grain: Duration,
}

/// The retention of the backend under test: removes records without waiting until they are old enough. Dropped with the suite, so
/// that it may hold what the backend needs, such as a temporary folder.
#[async_trait]
pub trait Retention: fmt::Debug + Send + Sync {
    /// Removes every record that the stream holds, as retention does when nothing was put for long. `newest` is the last record
    /// of each shard that holds any.
    async fn expire(&self, stream: &str, newest: &[RecordId]);
}

/// Name of the stream that the behaviours create.
const STREAM: &str = "conformance";

impl Suite {
    /// A suite for a backend, which must have no streams yet.
    pub fn new(admin: Arc<dyn StreamAdmin>, retention: impl Retention + 'static) -> Self {
        Self { admin, retention: Box::new(retention), faults: None, clock_grain: Duration::ZERO }
    }

    /// Injects faults into the calls of every client.
    pub fn with_faults(self, faults: Faults, seed: u64) -> Self {
        Self { faults: Some((faults, seed)), ..self }
    }

    /// Accuracy of the backend's clock. A reader from the latest record that has not fetched yet may resume this much
    /// earlier.
    pub fn with_clock_grain(self, clock_grain: Duration) -> Self {
        Self { clock_grain, ..self }
    }

    /// Whether each record must be stored exactly once.
    fn is_exact(&self) -> bool {
        self.faults.is_none()
    }

    /// The backend, without injected faults.
    fn admin(&self) -> &dyn StreamAdmin {
        &*self.admin
    }

    /// Creates the stream and opens a client for it.
    async fn stream(&self, shards: usize) -> Arc<dyn StreamClient> {
        self.admin.create(STREAM, CreateOptions::default().with_shards(shards)).await.expect("create");
        self.client().await
    }

    /// Another client for the stream.
    async fn client(&self) -> Arc<dyn StreamClient> {
        let client = self.admin.open(STREAM).await.expect("open");
        match self.faults {
            Some((faults, seed)) => Arc::new(FaultyClient::new(client, faults, seed)),
            None => client,
        }
    }

    /// Removes every record that the stream holds. `newest` is the last record of each shard that holds any.
    async fn expire(&self, newest: &[RecordId]) {
        self.retention.expire(STREAM, newest).await;
    }

    /// Lists the shards.
    async fn shards(&self, client: &dyn StreamClient) -> Vec<Shard> {
        retrying(|| client.shards()).await.expect("shards")
    }

    /// Puts each entry in a call of its own until it is acknowledged. Returns the receipts in the order of the entries.
    async fn put(&self, client: &dyn StreamClient, entries: &[PutEntry]) -> Vec<PutReceipt> {
        let mut receipts = Vec::new();
        for entry in entries {
            let put = || async { one(client.put_batch([entry.clone()].into()).await?) };
            receipts.push(retrying(put).await.expect("put"));
        }
        receipts
    }

    /// Reads a shard from a position until the reader has caught up or the shard has ended. Returns the records, and
    /// whether the shard has ended.
    ///
    /// Of records with the same payload, only the first is returned. Without faults, a second one fails the test.
    async fn read(&self, client: &dyn StreamClient, shard: &ShardId, position: Position) -> (Vec<Record>, bool) {
        self.read_pages_of(client, shard, position, 7).await
    }

    /// Reads as [`read`](Self::read) does, with at most `max_records` per fetch.
    async fn read_pages_of(
        &self,
        client: &dyn StreamClient,
        shard: &ShardId,
        position: Position,
        max_records: usize,
    ) -> (Vec<Record>, bool) {
        let (records, ended) = self.read_with_duplicates(client, shard, position, max_records).await;
        (self.first_occurrences(records), ended)
    }

    /// Reads as [`read_pages_of`](Self::read_pages_of) does, and returns duplicates too.
    async fn read_with_duplicates(
        &self,
        client: &dyn StreamClient,
        shard: &ShardId,
        mut position: Position,
        max_records: usize,
    ) -> (Vec<Record>, bool) {
        let mut reader = retrying(|| client.open_shard(shard, position)).await.expect("open_shard");
        let mut records: Vec<Record> = Vec::new();
        let ended = loop {
            match within_timeout(reader.next_batch(max_records)).await {
                Ok(Some(batch)) => {
                    assert!(batch.records.len() <= max_records, "a batch has more than {max_records} records");
                    if batch.records.is_empty() && batch.is_caught_up() {
                        break false;
                    }
                    records.extend(batch.records);
                }
                Ok(None) => break true,
                Err(Error::IteratorExpired { .. }) => {
                    position = reader.position();
                    reader = retrying(|| client.open_shard(shard, position)).await.expect("open_shard again");
                }
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        };
        assert!(records.is_sorted_by(|a, b| a.sequence_number < b.sequence_number), "sequence numbers increase");
        assert!(records.iter().all(|record| record.shard_id == *shard), "each record names its shard");
        (records, ended)
    }

    /// Removes duplicates. Without faults, a duplicate fails the test.
    fn first_occurrences(&self, mut records: Vec<Record>) -> Vec<Record> {
        let (all, mut seen) = (records.len(), BTreeSet::new());
        records.retain(|record| seen.insert(record.data.clone()));
        assert!(!self.is_exact() || records.len() == all, "a record was read twice");
        records
    }

    /// Position of a reader that was opened at the latest record and has not fetched.
    async fn latest(&self, client: &dyn StreamClient, shard: &ShardId) -> Position {
        tokio::time::sleep(self.clock_grain).await;
        retrying(|| client.open_shard(shard, Position::Latest)).await.expect("open").position()
    }

    /// Reads the payloads of a shard from a position.
    async fn texts(&self, client: &dyn StreamClient, shard: &ShardId, position: Position) -> Vec<String> {
        texts(&self.read(client, shard, position).await.0)
    }
}

async fn only_shard(suite: &Suite, client: &dyn StreamClient) -> ShardId {
    suite.shards(client).await.remove(0).id
}

fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(&record.data).into_owned()).collect()
}

fn entry(key: &str, text: impl Into<String>) -> PutEntry {
    PutEntry::new(PartitionKey::new(key.to_owned()).expect("a valid key"), text.into().into_bytes())
}

/// Entries of one key, with the numbers as payloads.
fn numbered(key: &str, numbers: std::ops::Range<usize>) -> Vec<PutEntry> {
    numbers.map(|number| entry(key, number.to_string())).collect()
}

fn one<T>(mut outcomes: Vec<Result<T>>) -> Result<T> {
    assert_eq!(outcomes.len(), 1, "one result per entry");
    outcomes.remove(0)
}

/// Retries a call while it fails with a retryable error.
async fn retrying<T, F: Future<Output = Result<T>>>(mut call: impl FnMut() -> F) -> Result<T> {
    let policy = RetryPolicy::default().with_first(Duration::from_millis(1));
    retry(policy.backoff(1), || within_timeout(call())).await
}

/// Awaits a call. A call that takes two minutes fails the test.
async fn within_timeout<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), call).await.expect("the call takes two minutes")
}

/// Defines a module with a test per behaviour. Each test evaluates the expression for a [`Suite`] of its own.
#[macro_export]
macro_rules! conformance {
    ($name:ident, $suite:expr) => {
        mod $name {
            use super::*;
            $crate::conformance!(@tests $suite; shard:
                the_shards_of_a_new_stream_cover_every_hash_key_once
                a_recreated_stream_has_another_creation_time
                a_record_is_written_to_the_shard_of_its_key
                results_are_in_the_order_of_the_entries_and_sequence_numbers_increase
                an_empty_put_returns_no_results
                a_put_over_the_limits_writes_nothing
                payloads_and_keys_are_read_as_they_were_put
                arrival_times_never_decrease
                a_batch_reports_whether_its_reader_has_caught_up
                a_page_with_the_newest_record_says_that_nothing_is_newer
                a_dropped_fetch_loses_no_records
                a_closed_shard_ends_after_its_last_record_and_stays_ended
                a_split_closes_the_parent_and_opens_two_children
                a_merge_closes_both_parents_and_opens_one_child
                a_closed_shard_names_its_children_or_lists_them
                a_reshard_gives_shards_of_equal_size
                an_unknown_shard_or_stream_is_not_found
                streams_are_created_once_listed_and_deleted
                two_clients_share_a_stream
            );
            $crate::conformance!(@tests $suite; position:
                the_trim_horizon_is_before_every_record
                latest_is_after_every_record
                at_includes_the_record_and_after_excludes_it
                at_a_time_starts_with_the_first_record_that_arrived_then_or_later
                a_new_reader_resumes_from_the_position_of_another
                the_position_of_a_reader_is_valid_at_every_step
                a_position_of_another_shard_or_ahead_of_the_end_is_refused
            );
            $crate::conformance!(@tests $suite; pipeline:
                every_record_is_acknowledged_and_read_in_order_per_key
                concurrent_puts_are_all_read
                a_record_too_large_fails_alone
                a_reader_follows_splits_and_merges
                parents_are_read_before_their_children
                a_reader_from_latest_reads_only_new_records_and_all_of_new_shards
                readers_of_disjoint_shards_read_every_record_once
                a_stopped_reader_delivers_its_fetched_records_and_ends
                a_reader_until_caught_up_ends
                an_unknown_shard_number_is_out_of_range
            );
            $crate::conformance!(@tests $suite; checkpoint:
                a_reader_goes_on_from_checkpoints_through_splits_and_merges
                a_reader_goes_on_inside_an_aggregate
                checkpoints_of_another_stream_of_the_name_are_refused
                a_reader_goes_on_over_a_merge_far_behind_in_one_parent
                a_reader_goes_on_after_an_idle_time_past_retention
            );
        }
    };
    (@tests $suite:expr; $module:ident: $($behaviour:ident)*) => {
        $(
            #[tokio::test]
            async fn $behaviour() {
                $crate::testing::conformance::$module::$behaviour(&$suite).await;
            }
        )*
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    /// Moves the clock of streams in memory past their retention.
    #[derive(Debug)]
    struct MemoryRetention;

    #[async_trait]
    impl Retention for MemoryRetention {
        async fn expire(&self, _: &str, _: &[RecordId]) {
            tokio::time::pause();
            tokio::time::advance(CreateOptions::default().retention + Duration::from_secs(1)).await;
            tokio::time::resume();
        }
    }

    fn suite() -> Suite {
        Suite::new(Arc::new(Memory::new()), MemoryRetention)
    }

    crate::conformance!(memory, suite());
    crate::conformance!(memory_under_faults, suite().with_faults(Faults::all(), 1));
}
