//! Where Kinesis starts reading a shard, as its requests say it.

use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::ShardIteratorType;
use triton_core::Position;

/// Where Kinesis starts reading a shard.
#[derive(Clone, Debug)]
pub(crate) enum StartAt {
    /// At a position; it reads the record that the position names, too.
    Position(Position),
    /// After a sequence number, which need not be a record's.
    After(String),
}

impl StartAt {
    /// As requests say it.
    pub(crate) fn to_request(&self) -> (ShardIteratorType, Option<String>, Option<DateTime>) {
        match self {
            Self::After(number) => (ShardIteratorType::AfterSequenceNumber, Some(number.clone()), None),
            Self::Position(Position::Latest) => (ShardIteratorType::Latest, None, None),
            Self::Position(Position::TrimHorizon) => (ShardIteratorType::TrimHorizon, None, None),
            Self::Position(Position::At(number) | Position::After(number)) => {
                (ShardIteratorType::AtSequenceNumber, Some(number.to_string()), None)
            }
            Self::Position(Position::AtTime(time)) => {
                (ShardIteratorType::AtTimestamp, None, Some(DateTime::from_millis(time.as_millis())))
            }
        }
    }
}
