//! Aggregates: many records in one, in the format that the Kinesis Producer Library (KPL) writes and the Kinesis Client
//! Library (KCL) reads.
//!
//! A shard accepts 1,000 records per second, however small, so small records are packed into aggregates. A [`Packer`]
//! packs entries into one [`PutEntry`]; [`unpack`] and [`unpack_all`] reverse it. The caller decides which records to
//! pack together. They should belong to one shard: the KCL drops a whole aggregate if the hash key of one record lies
//! outside the shard that it reads. This module drops nothing.
//!
//! # Format
//! The bytes `F3 89 9A C2`, a Protocol Buffers message, and the message's MD5. The specification is
//! `aggregation-format.md` of awslabs/amazon-kinesis-producer.
//! ```text
//! message AggregatedRecord {
//!   repeated string partition_key_table     = 1;
//!   repeated string explicit_hash_key_table = 2;  // in decimal
//!   repeated Record records                 = 3;
//! }
//! message Record {
//!   required uint64 partition_key_index     = 1;
//!   optional uint64 explicit_hash_key_index = 2;
//!   required bytes  data                    = 3;
//!   repeated Tag    tags                    = 4;  // neither written nor read
//! }
//! ```
//!
//! # Example
//! ```
//! use triton_core::record::aggregate::{Packer, unpack};
//! use triton_core::{PartitionKey, PutEntry, Record, SequenceNumber, ShardId, Timestamp};
//!
//! let mut packer = Packer::new();
//! for (key, data) in [("user-1", "hi"), ("user-2", "mom")] {
//!     assert!(packer.push_within(&PutEntry::new(PartitionKey::new(key)?, data), 50_000));
//! }
//! let packed = packer.finish().expect("two entries were pushed");
//!
//! // The record as a reader gets it from the shard.
//! let (shard, sequence) = (ShardId::numbered(0), SequenceNumber::from(7));
//! let read = Record::new(shard, sequence, packed.partition_key, Timestamp::default(), packed.data);
//! let records = unpack(&read).expect("an aggregate");
//! assert_eq!(records[1].partition_key.as_str(), "user-2");
//! assert_eq!(records[1].data, "mom");
//! assert_eq!(records[1].sub_sequence_number, Some(1));
//! # Ok::<(), triton_core::Error>(())
//! ```
//!
//! [`PutEntry`]: crate::PutEntry

mod pack;
mod unpack;

pub use self::pack::Packer;
pub use self::unpack::{unpack, unpack_all};

/// First bytes of an aggregate. No MessagePack map starts with them.
const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
/// Length of the MD5 at the end.
const DIGEST: usize = 16;

/// Field numbers of the message.
mod field {
    /// In an aggregate: the distinct partition keys.
    pub(super) const PARTITION_KEY: u32 = 1;
    /// In an aggregate: the distinct explicit hash keys.
    pub(super) const EXPLICIT_HASH_KEY: u32 = 2;
    /// In an aggregate: the records.
    pub(super) const RECORD: u32 = 3;
    /// In a record: index of its partition key.
    pub(super) const PARTITION_KEY_INDEX: u32 = 1;
    /// In a record: index of its explicit hash key, if it has one.
    pub(super) const EXPLICIT_HASH_KEY_INDEX: u32 = 2;
    /// In a record: the payload.
    pub(super) const DATA: u32 = 3;
}

#[cfg(test)]
mod tests;
