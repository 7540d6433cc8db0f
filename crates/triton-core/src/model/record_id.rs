//! Record ids: the address of one record of a stream.

use std::fmt;
use std::str::FromStr;

use crate::error::parse::ParseError;
use crate::model::sequence_number::SequenceNumber;
use crate::model::shard::ShardId;
use crate::model::text::serde_as_text;

/// The address of one record. As text: `SHARD:SEQ`, or `SHARD:SEQ.SUB` for a record of an aggregate.
///
/// ```
/// use triton_core::RecordId;
///
/// let id: RecordId = "shardId-000000000001:4955.3".parse()?;
/// assert_eq!((id.sequence_number, id.sub_sequence_number), (4955.into(), Some(3)));
/// assert_eq!(id.to_string(), "shardId-000000000001:4955.3");
/// # Ok::<(), triton_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId {
    /// The shard that holds it.
    pub shard: ShardId,
    /// Its sequence number in that shard. All records of an aggregate have the same.
    pub sequence_number: SequenceNumber,
    /// Its index in its aggregate, from 0. `None` names a record that was not aggregated, or an aggregate as a whole; 0
    /// names a record that was not aggregated, too.
    pub sub_sequence_number: Option<u32>,
}

impl RecordId {
    /// The id of a record that was not aggregated.
    pub fn new(shard: ShardId, sequence_number: impl Into<SequenceNumber>) -> Self {
        Self { shard, sequence_number: sequence_number.into(), sub_sequence_number: None }
    }

    /// The id of the record with this index in the aggregate.
    pub fn with_sub_sequence_number(self, sub_sequence_number: u32) -> Self {
        Self { sub_sequence_number: Some(sub_sequence_number), ..self }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.shard, Within(self.sequence_number, self.sub_sequence_number))
    }
}

impl FromStr for RecordId {
    type Err = ParseError;

    /// Takes a space in the place of the colon, too.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let invalid = || ParseError::new(text, "a record id (SHARD:SEQ or SHARD:SEQ.SUB)");
        let (shard, within) = text.split_once([':', ' ']).ok_or_else(invalid)?;
        let Within(sequence_number, sub_sequence_number) = within.parse()?;
        Ok(Self { shard: shard.parse()?, sequence_number, sub_sequence_number })
    }
}

serde_as_text!(RecordId);

/// A record's place in its shard, `SEQ` or `SEQ.SUB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Within(pub(crate) SequenceNumber, pub(crate) Option<u32>);

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        self.1.map_or(Ok(()), |sub| write!(f, ".{sub}"))
    }
}

impl FromStr for Within {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let Some((sequence_number, sub)) = text.split_once('.') else { return Ok(Self(text.parse()?, None)) };
        // `parse` alone would accept a sign.
        let sub =
            Some(sub).filter(|sub| sub.bytes().all(|byte| byte.is_ascii_digit())).and_then(|sub| sub.parse().ok());
        let sub =
            sub.ok_or_else(|| ParseError::new(text, "a sequence number and an index in its aggregate (SEQ.SUB)"))?;
        Ok(Self(sequence_number.parse()?, Some(sub)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let whole = RecordId::new(ShardId::numbered(3), 7);
        let inner = whole.clone().with_sub_sequence_number(12);
        for (id, text) in [(&whole, "shardId-000000000003:7"), (&inner, "shardId-000000000003:7.12")] {
            assert_eq!(id.to_string(), text);
            assert_eq!(text.parse().as_ref(), Ok(id));
            assert_eq!(text.replace(':', " ").parse().as_ref(), Ok(id));
            let json = serde_json::to_string(id).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<RecordId>(&json).unwrap(), *id);
        }
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        let wrong =
            ["", "shardId-000000000003", ":7", "s:", "s:7.", "s:7.+1", "s:7.x", "s:7.4294967296", "s:.1", "s:7.1.1"];
        for wrong in wrong {
            assert!(wrong.parse::<RecordId>().is_err(), "{wrong:?}");
        }
    }
}
