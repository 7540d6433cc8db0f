//! Many records in one: the format that the Kinesis Producer Library (KPL) writes and the Kinesis Client Library reads.
//!
//! A shard takes 1,000 records a second however small they are, so small ones travel packed. A [`Packer`] makes one
//! [`PutEntry`] of many; [`unpack`] and [`unpack_all`] make the many of what was read. Which records go together and
//! when is left to who packs: the KCL drops a whole aggregate if the hash key of one record in it lies outside the shard
//! that it reads, so an aggregate ought to hold records of one shard only. Nothing is dropped here.
//!
//! # Format
//! Written down in `aggregation-format.md` of awslabs/amazon-kinesis-producer: the bytes `F3 89 9A C2`, a message of
//! Protocol Buffers, and the message's MD5.
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
//!   repeated Tag    tags                    = 4;  // neither written nor looked at
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
//! let packed = packer.finish().expect("two were pushed");
//!
//! // What a reader gets back from the shard.
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

/// What an aggregate starts with. No MessagePack map does.
const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
/// The length of the MD5 at its end.
const DIGEST: usize = 16;

/// The numbers of the message's fields.
mod field {
    /// In an aggregate: the partition keys, each once.
    pub(super) const PARTITION_KEY: u32 = 1;
    /// In an aggregate: the explicit hash keys, each once.
    pub(super) const EXPLICIT_HASH_KEY: u32 = 2;
    /// In an aggregate: the records.
    pub(super) const RECORD: u32 = 3;
    /// In a record: which of the partition keys it has.
    pub(super) const PARTITION_KEY_INDEX: u32 = 1;
    /// In a record: which of the explicit hash keys it has, if any.
    pub(super) const EXPLICIT_HASH_KEY_INDEX: u32 = 2;
    /// In a record: its payload.
    pub(super) const DATA: u32 = 3;
}

#[cfg(test)]
mod tests;
