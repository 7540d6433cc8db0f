//! Starting positions in the form of Kinesis' requests. Knows nothing of retention.

use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::ShardIteratorType;
use triton_core::Position;

/// Where a shard is read from.
#[derive(Clone, Debug)]
pub(crate) enum StartAt {
    /// A position. The record that it names is read too, even for a position after it: its absence shows a loss.
    Position(Position),
    /// After a subscription's continuation number, which need not be a record's.
    After(String),
}

impl StartAt {
    /// The type, sequence number and time of a request.
    pub(crate) fn to_request(&self) -> (ShardIteratorType, Option<String>, Option<DateTime>) {
        match self {
            Self::After(number) => (ShardIteratorType::AfterSequenceNumber, Some(number.clone()), None),
            Self::Position(Position::Latest) => (ShardIteratorType::Latest, None, None),
            Self::Position(Position::TrimHorizon) => (ShardIteratorType::TrimHorizon, None, None),
            Self::Position(Position::At(number) | Position::After { sequence_number: number, .. }) => {
                (ShardIteratorType::AtSequenceNumber, Some(number.to_string()), None)
            }
            Self::Position(Position::AtTime(time)) => {
                (ShardIteratorType::AtTimestamp, None, Some(DateTime::from_millis(time.as_millis())))
            }
        }
    }
}
