//! Receipts: where a record was stored.

use std::fmt;

use crate::model::record_id::RecordId;
use crate::model::sequence_number::SequenceNumber;
use crate::model::shard::ShardId;

/// Where a record was stored. As text: its [`id`](Self::id).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutReceipt {
    /// The shard that holds it.
    pub shard_id: ShardId,
    /// Its sequence number in that shard. All records of an aggregate have the same.
    pub sequence_number: SequenceNumber,
    /// Its index in its aggregate, from 0; `None` for a record that was not aggregated.
    pub sub_sequence_number: Option<u32>,
}

impl PutReceipt {
    /// A record with this sequence number in this shard. For backends, and for mocks.
    pub fn new(shard_id: ShardId, sequence_number: impl Into<SequenceNumber>) -> Self {
        Self { shard_id, sequence_number: sequence_number.into(), sub_sequence_number: None }
    }

    /// The receipt of the record with this index in the aggregate.
    pub(crate) fn with_sub_sequence_number(self, sub_sequence_number: u32) -> Self {
        Self { sub_sequence_number: Some(sub_sequence_number), ..self }
    }

    /// The address of the record: a reader's [`Record::id`](crate::Record::id) is the same.
    pub fn id(&self) -> RecordId {
        let Self { shard_id, sequence_number, sub_sequence_number } = self.clone();
        RecordId { shard: shard_id, sequence_number, sub_sequence_number }
    }
}

impl fmt::Display for PutReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id().fmt(f)
    }
}
