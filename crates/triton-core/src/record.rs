//! Records: each is one MessagePack map, put with a partition key and read with a sequence number.
//!
//! [`Encoder`] encodes any `Serialize` map or struct as a [`PutEntry`]. A [`Record`] decodes into any `Deserialize`
//! type, or into a dynamic value. Records of other Triton writers decode too, both in today's MessagePack and in its
//! old form, in which text and bytes have the same type ("raw").

pub mod aggregate;
mod entries;
pub mod json;
mod key;
pub mod msgpack;
mod receipt;

use bytes::Bytes;
use serde::Deserialize;

pub use self::entries::Entries;
pub use self::key::PartitionKey;
pub use self::msgpack::{Encoder, KeySource, decode, decode_value};
pub use self::receipt::PutReceipt;

use crate::error::Result;
use crate::model::hash_key::HashKey;
use crate::model::record_id::RecordId;
use crate::model::sequence_number::SequenceNumber;
use crate::model::shard::ShardId;
use crate::model::timestamp::Timestamp;

/// A record to be put: an encoded payload and the key that selects its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutEntry {
    /// Selects the shard by its hash; 1 to 256 characters.
    pub partition_key: PartitionKey,
    /// Selects the shard instead of the partition key's hash.
    pub explicit_hash_key: Option<HashKey>,
    /// The payload, stored unchanged.
    pub data: Bytes,
}

impl PutEntry {
    /// An entry with an encoded payload.
    pub fn new(partition_key: PartitionKey, data: impl Into<Bytes>) -> Self {
        Self { partition_key, explicit_hash_key: None, data: data.into() }
    }

    /// Puts this entry into the shard that holds this hash key.
    pub fn with_explicit_hash_key(self, hash_key: HashKey) -> Self {
        Self { explicit_hash_key: Some(hash_key), ..self }
    }

    /// The hash key that selects the shard: the explicit one, or else the partition key's.
    pub fn hash_key(&self) -> HashKey {
        self.explicit_hash_key.unwrap_or_else(|| self.partition_key.hash_key())
    }

    /// Bytes that count towards a stream's limits: the payload and the partition key.
    pub fn size(&self) -> usize {
        self.data.len() + self.partition_key.as_str().len()
    }
}

/// A record that was read from a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The shard that it was read from.
    pub shard_id: ShardId,
    /// Its sequence number in that shard. All records of an aggregate have the same.
    pub sequence_number: SequenceNumber,
    /// Its index in its aggregate, from 0; `None` for a record that was not aggregated.
    pub sub_sequence_number: Option<u32>,
    /// The partition key of its put; empty if the stream stores none.
    pub partition_key: PartitionKey,
    /// Time of arrival, by the stream's clock.
    pub arrival: Timestamp,
    /// The payload of its put.
    pub data: Bytes,
}

impl Record {
    /// Creates a record. For backends, and for tests of code that handles records.
    pub fn new(
        shard_id: ShardId,
        sequence_number: SequenceNumber,
        partition_key: PartitionKey,
        arrival: Timestamp,
        data: impl Into<Bytes>,
    ) -> Self {
        Self { shard_id, sequence_number, sub_sequence_number: None, partition_key, arrival, data: data.into() }
    }

    /// Its address.
    pub fn id(&self) -> RecordId {
        let Self { shard_id, sequence_number, sub_sequence_number, .. } = self;
        RecordId {
            shard: shard_id.clone(),
            sequence_number: *sequence_number,
            sub_sequence_number: *sub_sequence_number,
        }
    }

    /// Bytes that count towards a shard's read quota: the payload and the partition key.
    pub fn size(&self) -> usize {
        self.data.len() + self.partition_key.as_str().len()
    }

    /// Decodes the payload as a `T`, which may borrow text and bytes from the record.
    ///
    /// # Errors
    /// [`Error::Decode`](crate::Error::Decode) if the payload is not MessagePack, or is not a `T`.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        Ok(decode(&self.data)?)
    }

    /// Decodes the payload as a dynamic value.
    ///
    /// # Errors
    /// [`Error::Decode`](crate::Error::Decode) if the payload is not MessagePack.
    pub fn value(&self) -> Result<rmpv::ValueRef<'_>> {
        Ok(decode_value(&self.data)?)
    }
}
