//! The values of the domain: shards and the keys they hold, sequence numbers, positions, times. No I/O, no clients.

pub(crate) mod hash_key;
pub(crate) mod position;
pub(crate) mod sequence_number;
pub(crate) mod shard;
pub(crate) mod shard_map;
pub(crate) mod shard_router;
pub(crate) mod text;
pub(crate) mod timestamp;
