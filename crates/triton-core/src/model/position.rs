//! Positions: where in a shard a reader is opened.

use super::sequence_number::SequenceNumber;
use super::timestamp::Timestamp;

/// Where in a shard a reader is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// After the last record that the shard holds now.
    Latest,
    /// At the oldest record in the shard.
    TrimHorizon,
    /// At the record of this sequence number, or the first after it.
    At(SequenceNumber),
    /// After the record of this sequence number.
    After(SequenceNumber),
    /// At the first record that arrived at this time or later.
    AtTime(Timestamp),
}
