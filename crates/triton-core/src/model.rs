//! The values that everything else is said in: shards, keys, numbers, positions and times.

pub(crate) mod hash_key;
pub(crate) mod position;
pub(crate) mod sequence_number;
pub(crate) mod shard;
pub(crate) mod shard_map;
pub(crate) mod timestamp;
