//! Receipts: where a record was stored.

use std::fmt;
use std::str::FromStr;

use crate::error::parse::ParseError;
use crate::model::sequence_number::SequenceNumber;
use crate::model::shard::ShardId;
use crate::model::text::serde_as_text;

/// Where a record was stored. As text: `SHARD:SEQ`.
///
/// ```
/// use triton_core::PutReceipt;
///
/// let receipt: PutReceipt = "shardId-000000000001:4955".parse()?;
/// assert_eq!(receipt.sequence_number, 4955.into());
/// assert_eq!(receipt.to_string(), "shardId-000000000001:4955");
/// # Ok::<(), triton_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutReceipt {
    /// The shard that holds it.
    pub shard_id: ShardId,
    /// Its sequence number in that shard.
    pub sequence_number: SequenceNumber,
}

impl fmt::Display for PutReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.shard_id, self.sequence_number)
    }
}

impl FromStr for PutReceipt {
    type Err = ParseError;

    /// Takes a space in the place of the colon, too.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let invalid = || ParseError::new(text, "a receipt (SHARD:SEQ)");
        let (shard, sequence_number) = text.split_once([':', ' ']).ok_or_else(invalid)?;
        Ok(Self { shard_id: shard.parse()?, sequence_number: sequence_number.parse()? })
    }
}

serde_as_text!(PutReceipt);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let receipt = PutReceipt { shard_id: ShardId::numbered(3), sequence_number: 7.into() };
        assert_eq!(receipt.to_string().parse(), Ok(receipt.clone()));
        assert_eq!("shardId-000000000003 7".parse(), Ok(receipt.clone()));
        let json = serde_json::to_string(&receipt).unwrap();
        assert_eq!(json, "\"shardId-000000000003:7\"");
        assert_eq!(serde_json::from_str::<PutReceipt>(&json).unwrap(), receipt);
        for wrong in ["", "shardId-000000000003", ":7", "shardId-000000000003:", "shardId-000000000003:7.1"] {
            assert!(wrong.parse::<PutReceipt>().is_err(), "{wrong:?}");
        }
    }
}
