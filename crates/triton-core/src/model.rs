//! The values of the domain: shards and the keys they hold, record ids, checkpoints, positions, times. No I/O, no clients.

pub(crate) mod checkpoint;
pub(crate) mod hash_key;
pub(crate) mod position;
pub(crate) mod record_id;
pub(crate) mod sequence_number;
pub(crate) mod shard;
pub(crate) mod shard_map;
pub(crate) mod shard_ref;
pub(crate) mod shard_router;
pub(crate) mod text;
pub(crate) mod timestamp;
