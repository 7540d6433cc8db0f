//! The records of one shard in memory: retention, and where a position is.

use crate::error::{Error, Result};
use crate::model::position::Position;
use crate::model::sequence_number::SequenceNumber;
use crate::model::shard::Shard;
use crate::model::shard_map::ShardMap;
use crate::model::timestamp::Timestamp;
use crate::record::Record;

/// The records of one shard, in the order of their sequence numbers and arrivals.
#[derive(Debug, Default)]
pub(super) struct ShardRecords {
    records: Vec<Record>,
    removed_through: SequenceNumber,
}

impl ShardRecords {
    /// The highest sequence number that retention has removed; zero if it has removed none.
    pub(super) fn removed_through(&self) -> SequenceNumber {
        self.removed_through
    }

    pub(super) fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Removes the records that arrived before `oldest`.
    pub(super) fn expire(&mut self, oldest: Timestamp) {
        let expired = self.records.partition_point(|record| record.arrival < oldest);
        if let Some(last) = self.records.drain(..expired).next_back() {
            self.removed_through = last.sequence_number;
        }
    }

    /// The records after this sequence number.
    pub(super) fn after(&self, number: SequenceNumber) -> &[Record] {
        &self.records[self.records.partition_point(|record| record.sequence_number <= number)..]
    }

    /// The sequence number of the last record before those that are read from a position; zero if there is none.
    ///
    /// # Errors
    /// [`Error::PastRetention`]; [`Error::InvalidPosition`].
    pub(super) fn before(&self, position: Position, shard: &Shard, next_sequence: u64) -> Result<SequenceNumber> {
        match position {
            Position::Latest => Ok(self.before_index(self.records.len())),
            Position::TrimHorizon => Ok(self.removed_through),
            Position::AtTime(time) => {
                Ok(self.before_index(self.records.partition_point(|record| record.arrival < time)))
            }
            Position::At(number) => Ok(self.before_index(self.index(number, shard, next_sequence)?)),
            // Every record after it is still there.
            Position::After { sequence_number: number, .. }
                if number == self.removed_through && number != SequenceNumber::ZERO =>
            {
                Ok(number)
            }
            Position::After { sequence_number: number, .. } => self.index(number, shard, next_sequence).map(|_| number),
        }
    }

    fn before_index(&self, index: usize) -> SequenceNumber {
        index.checked_sub(1).map_or(self.removed_through, |last| self.records[last].sequence_number)
    }

    /// The index of the record of this sequence number.
    fn index(&self, number: SequenceNumber, shard: &Shard, next_sequence: u64) -> Result<usize> {
        if (shard.first_sequence_number..=self.removed_through).contains(&number) {
            return Err(Error::PastRetention { shard: shard.id.clone(), position: number });
        }
        self.records
            .binary_search_by_key(&number, |record| record.sequence_number)
            .map_err(|_| ShardMap::no_record(shard, number, next_sequence))
    }
}
