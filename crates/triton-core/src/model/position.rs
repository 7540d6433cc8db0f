//! Positions: where in a shard a reader is opened.

use super::sequence_number::SequenceNumber;
use super::timestamp::Timestamp;

/// Where in a shard a reader is opened.
///
/// A sequence number has to be that of a record which the shard holds, or which retention has removed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// After the last record that the shard holds now.
    Latest,
    /// At the oldest record in the shard.
    TrimHorizon,
    /// At the record of this sequence number.
    At(SequenceNumber),
    /// After the record of this sequence number.
    After {
        /// The record's sequence number.
        sequence_number: SequenceNumber,
        /// Every record that arrived before this time was read, too: if retention has removed the record, reading goes on
        /// with those that arrived at this time or later.
        caught_up_at: Option<Timestamp>,
    },
    /// At the first record that arrived at this time or later.
    AtTime(Timestamp),
}

impl Position {
    /// After the record of this sequence number.
    pub fn after(sequence_number: impl Into<SequenceNumber>) -> Self {
        Self::After { sequence_number: sequence_number.into(), caught_up_at: None }
    }
}
