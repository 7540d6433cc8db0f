//! Records: one MessagePack map each, with a partition key on the way in and a place in a shard on the way out.
//!
//! [`Encoder`] makes a [`PutEntry`] of any `Serialize` map or struct; a [`Record`] that was read decodes into any
//! `Deserialize` type, or into a dynamic value. What other Triton writers have put is readable: both today's
//! MessagePack and the old form, in which text and bytes alike were "raw strings".

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
use crate::model::sequence_number::SequenceNumber;
use crate::model::shard::ShardId;
use crate::model::timestamp::Timestamp;

/// A record on its way into a stream: an encoded payload and the key that chooses its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutEntry {
    /// Chooses the shard; 1 to 256 characters.
    pub partition_key: PartitionKey,
    /// Chooses the shard in the partition key's place, where it is given.
    pub explicit_hash_key: Option<HashKey>,
    /// The payload, stored as it is.
    pub data: Bytes,
}

impl PutEntry {
    /// An entry with a payload that is encoded already.
    pub fn new(partition_key: PartitionKey, data: impl Into<Bytes>) -> Self {
        Self { partition_key, explicit_hash_key: None, data: data.into() }
    }

    /// This entry, for the shard that holds this hash key, whatever its partition key.
    pub fn with_explicit_hash_key(self, hash_key: HashKey) -> Self {
        Self { explicit_hash_key: Some(hash_key), ..self }
    }

    /// The hash key that chooses the shard: the explicit one, else the partition key's.
    pub fn hash_key(&self) -> HashKey {
        self.explicit_hash_key.unwrap_or_else(|| self.partition_key.hash_key())
    }

    /// What the entry counts against a stream's limits: the bytes of its payload and its key.
    pub fn size(&self) -> usize {
        self.data.len() + self.partition_key.as_str().len()
    }
}

/// A record as it was read from a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The shard that it was read from.
    pub shard_id: ShardId,
    /// Its place in that shard.
    pub sequence_number: SequenceNumber,
    /// Its place in the aggregate that it was packed into, counted from 0, all of which have one sequence number; `None`
    /// for a record of its own.
    pub sub_sequence_number: Option<u32>,
    /// The key that it was put with; empty where the stream keeps none.
    pub partition_key: PartitionKey,
    /// When it arrived, by the stream's clock.
    pub arrival: Timestamp,
    /// The payload as it was put.
    pub data: Bytes,
}

impl Record {
    /// A record at a place in a shard. Backends make records; so do tests of code that handles them.
    pub fn new(
        shard_id: ShardId,
        sequence_number: SequenceNumber,
        partition_key: PartitionKey,
        arrival: Timestamp,
        data: impl Into<Bytes>,
    ) -> Self {
        Self { shard_id, sequence_number, sub_sequence_number: None, partition_key, arrival, data: data.into() }
    }

    /// Bytes that the record counts against a shard's read quota: its payload and its key.
    pub fn size(&self) -> usize {
        self.data.len() + self.partition_key.as_str().len()
    }

    /// The payload as a `T`, which may borrow text and bytes from the record.
    ///
    /// # Errors
    /// [`Error::Decode`](crate::Error::Decode) where the payload is not MessagePack (with the offset of the fault), or
    /// does not have the shape of a `T`.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        Ok(decode(&self.data)?)
    }

    /// The payload without a type.
    ///
    /// # Errors
    /// [`Error::Decode`](crate::Error::Decode) where the payload is not MessagePack.
    pub fn value(&self) -> Result<rmpv::ValueRef<'_>> {
        Ok(decode_value(&self.data)?)
    }
}
