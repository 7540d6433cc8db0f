//! Reading: each shard by itself, and all of them as one.

mod fan_in;
mod lineage;
mod options;
pub(crate) mod reader;
mod shard;

pub use self::options::{ReaderOptions, Start};
