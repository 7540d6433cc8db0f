//! Consuming a stream: `shard` fetches one shard, `lineage` decides when a shard may be read, `fan_in` merges the shards
//! fairly, and the reader puts them together.

mod fan_in;
mod lineage;
mod options;
pub(crate) mod reader;
mod shard;
mod shard_list;

pub use self::options::{ReaderOptions, Start};
