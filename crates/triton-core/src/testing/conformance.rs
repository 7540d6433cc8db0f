//! The suite that every backend passes (feature `conformance`): plain functions, one a behaviour of the
//! [contract](crate::backend), and a macro that makes a `#[tokio::test]` of each.
//!
//! ```text
//! // In the backend's tests:
//! triton_core::conformance!(plain, Suite::new(Arc::new(Memory::new())));
//! triton_core::conformance!(faulty, Suite::new(Arc::new(Memory::new())).with_faults(Faults::all(), 1));
//! ```
//!
//! The same behaviours are asked of a backend under faults. Then a call is made again as the contract allows, and a
//! record whose acknowledgement was lost may be there twice; what is asked of the first occurrences stays the same.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::StreamClient;
use crate::backend::{CreateOptions, StreamAdmin};
use crate::error::{Error, Result};
use crate::flow::{RetryPolicy, retry};
use crate::model::position::Position;
use crate::model::shard::{Shard, ShardId};
use crate::record::{PartitionKey, PutEntry, PutReceipt, Record};
use crate::testing::{Faults, FaultyClient};

pub mod pipeline;
pub mod shard;

/// A backend under test.
#[derive(Debug)]
pub struct Suite {
    admin: Arc<dyn StreamAdmin>,
    faults: Option<(Faults, u64)>,
    clock_grain: Duration,
    _held: Box<dyn Any + Send>,
}

/// The stream that behaviours use.
const STREAM: &str = "conformance";

impl Suite {
    /// A suite over an empty place for streams.
    pub fn new(admin: Arc<dyn StreamAdmin>) -> Self {
        Self { admin, faults: None, clock_grain: Duration::ZERO, _held: Box::new(()) }
    }

    /// With clients that misbehave.
    pub fn with_faults(self, faults: Faults, seed: u64) -> Self {
        Self { faults: Some((faults, seed)), ..self }
    }

    /// For a backend that knows its server's time to so much: a reader that starts at the latest record and has fetched
    /// none goes on that much earlier.
    pub fn with_clock_grain(self, clock_grain: Duration) -> Self {
        Self { clock_grain, ..self }
    }

    /// Keeps something, such as a folder, for as long as the suite lasts.
    pub fn holding(self, held: impl Any + Send) -> Self {
        Self { _held: Box::new(held), ..self }
    }

    /// Whether each record is there exactly once.
    fn is_exact(&self) -> bool {
        self.faults.is_none()
    }

    /// The place itself, which never misbehaves.
    fn admin(&self) -> &dyn StreamAdmin {
        &*self.admin
    }

    /// Makes the stream and opens a client for it.
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

    /// Every shard, asked for as often as it takes.
    async fn shards(&self, client: &dyn StreamClient) -> Vec<Shard> {
        retrying(|| client.shards()).await.expect("shards")
    }

    /// Puts entries one call each until all are acknowledged. Receipts are in the entries' order.
    async fn put(&self, client: &dyn StreamClient, entries: &[PutEntry]) -> Vec<PutReceipt> {
        let mut receipts = Vec::new();
        for entry in entries {
            let put = || async { one(client.put_batch([entry.clone()].into()).await?) };
            receipts.push(retrying(put).await.expect("put"));
        }
        receipts
    }

    /// Reads a shard from a position until it has caught up or ended; tells whether it ended.
    ///
    /// Of records with the same payload the first is kept. Without faults a second one is a failure.
    async fn read(&self, client: &dyn StreamClient, shard: &ShardId, position: Position) -> (Vec<Record>, bool) {
        self.read_by(client, shard, position, 7).await
    }

    async fn read_by(
        &self,
        client: &dyn StreamClient,
        shard: &ShardId,
        position: Position,
        max_records: usize,
    ) -> (Vec<Record>, bool) {
        let (records, ended) = self.every_copy(client, shard, position, max_records).await;
        (self.first_occurrences(records), ended)
    }

    async fn every_copy(
        &self,
        client: &dyn StreamClient,
        shard: &ShardId,
        mut position: Position,
        max_records: usize,
    ) -> (Vec<Record>, bool) {
        let mut reader = retrying(|| client.open_shard(shard, position)).await.expect("open_shard");
        let mut records: Vec<Record> = Vec::new();
        let ended = loop {
            match within_bounds(reader.next_batch(max_records)).await {
                Ok(Some(batch)) => {
                    assert!(batch.records.len() <= max_records, "{} records were asked for", max_records);
                    if batch.is_caught_up() {
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
        assert!(records.is_sorted_by(|a, b| a.sequence_number < b.sequence_number), "in order, none twice");
        assert!(records.iter().all(|record| record.shard_id == *shard), "each names its shard");
        (records, ended)
    }

    fn first_occurrences(&self, mut records: Vec<Record>) -> Vec<Record> {
        let (all, mut seen) = (records.len(), BTreeSet::new());
        records.retain(|record| seen.insert(record.data.clone()));
        assert!(!self.is_exact() || records.len() == all, "a record is there twice");
        records
    }

    /// Where a reader stands that was opened at the latest record and has fetched nothing.
    async fn latest(&self, client: &dyn StreamClient, shard: &ShardId) -> Position {
        tokio::time::sleep(self.clock_grain).await;
        retrying(|| client.open_shard(shard, Position::Latest)).await.expect("open").position()
    }

    /// The payloads of a shard, from a position.
    async fn texts(&self, client: &dyn StreamClient, shard: &ShardId, position: Position) -> Vec<String> {
        texts(&self.read(client, shard, position).await.0)
    }
}

fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(&record.data).into_owned()).collect()
}

fn entry(key: &str, text: impl Into<String>) -> PutEntry {
    PutEntry::new(PartitionKey::new(key.to_owned()).expect("a key"), text.into().into_bytes())
}

/// Entries with payloads `0`, `1`, … under one key.
fn numbered(key: &str, numbers: std::ops::Range<usize>) -> Vec<PutEntry> {
    numbers.map(|number| entry(key, number.to_string())).collect()
}

fn one<T>(mut outcomes: Vec<Result<T>>) -> Result<T> {
    assert_eq!(outcomes.len(), 1, "one result an entry");
    outcomes.remove(0)
}

/// Makes a call until it does not fail in a way that may pass.
async fn retrying<T, F: Future<Output = Result<T>>>(mut call: impl FnMut() -> F) -> Result<T> {
    let policy = RetryPolicy::default().with_first(Duration::from_millis(1));
    retry(policy.backoff(1), || within_bounds(call())).await
}

/// No call takes longer than this.
async fn within_bounds<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), call).await.expect("a call takes forever")
}

/// A module of tests, one for each behaviour, over what the expression makes.
#[macro_export]
macro_rules! conformance {
    ($name:ident, $suite:expr) => {
        mod $name {
            use super::*;
            $crate::conformance!(@tests $suite; shard:
                a_new_streams_shards_cover_every_hash_key_once
                the_creation_time_tells_a_stream_from_an_earlier_one_of_its_name
                a_record_lands_in_the_shard_of_its_key
                results_are_in_the_entries_order_and_sequence_numbers_grow
                an_empty_call_is_answered_with_nothing
                a_call_over_the_limits_is_refused_whole
                payloads_and_keys_come_back_as_they_were_put
                the_trim_horizon_is_before_every_record
                latest_is_after_every_record
                at_and_after_a_sequence_number
                at_a_time_before_between_and_after
                arrival_times_do_not_go_back
                a_reader_that_is_behind_says_so_and_one_caught_up_too
                a_dropped_fetch_loses_nothing
                another_reader_goes_on_where_one_stands
                a_closed_shard_ends_after_its_last_record_and_stays_ended
                a_split_shards_children_take_over
                a_merged_shards_child_takes_over
                a_reshard_ends_uniform
                an_unknown_shard_or_stream_is_not_found
                streams_are_listed_made_once_and_removed
                two_clients_see_each_others_records
            );
            $crate::conformance!(@tests $suite; pipeline:
                every_record_is_acknowledged_and_read_in_the_order_of_its_key
                many_small_puts_at_once_all_arrive
                a_record_too_large_fails_alone
                a_reader_follows_splits_and_merges
                a_reader_of_all_reads_parents_before_their_children
                latest_reads_what_comes_and_children_from_their_start
                chosen_shards_are_shared_out_between_readers
                a_stopped_reader_delivers_what_it_fetched_and_ends
                a_reader_until_caught_up_ends
                a_number_past_the_list_is_out_of_range
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

    crate::conformance!(memory, Suite::new(Arc::new(Memory::new())));
    crate::conformance!(memory_under_faults, Suite::new(Arc::new(Memory::new())).with_faults(Faults::all(), 1));
}
