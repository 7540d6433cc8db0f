//! Arrival times in milliseconds: ferrokinesis keeps whole seconds.

use std::collections::HashMap;

use serde_json::Value;

use super::position;
use crate::wire::now_ms;

/// The arrival times of every shard's records.
#[derive(Default)]
pub(super) struct Arrivals {
    shards: HashMap<(String, String), Vec<Arrival>>,
}

/// A record's sequence number and arrival time.
pub(super) struct Arrival {
    pub(super) sequence_number: String,
    pub(super) ms: u64,
}

impl Arrivals {
    /// Notes a result of PutRecords or PutRecord; ignores a rejected entry.
    pub(super) fn note(&mut self, stream: &str, result: &Value) {
        let (Some(shard), Some(sequence_number)) = (result["ShardId"].as_str(), result["SequenceNumber"].as_str())
        else {
            return;
        };
        let shard = self.shards.entry((stream.to_owned(), shard.to_owned())).or_default();
        // Arrival times do not decrease within a shard, even if the clock is set back.
        let ms = now_ms().max(shard.last().map_or(0, |last| last.ms));
        shard.push(Arrival { sequence_number: sequence_number.to_owned(), ms });
    }

    /// The arrival time of a record.
    pub(super) fn of(&self, stream: &str, shard: &str, sequence_number: &str) -> Option<u64> {
        let records = self.shard(stream, shard);
        let place = position::first_not_before(records, sequence_number);
        records.get(place).filter(|found| found.sequence_number == sequence_number).map(|found| found.ms)
    }

    /// The records of a shard in their order.
    pub(super) fn shard(&self, stream: &str, shard: &str) -> &[Arrival] {
        self.shards.get(&(stream.to_owned(), shard.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// Forgets a stream.
    pub(super) fn forget(&mut self, stream: &str) {
        self.shards.retain(|(of, _), _| of != stream);
    }
}
