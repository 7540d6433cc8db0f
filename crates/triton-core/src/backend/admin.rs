//! Making, changing and removing streams: what an operator does, and what the conformance suite does to its streams.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::backend::StreamClient;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::model::hash_key::HashKey;
use crate::model::shard::ShardId;

/// The streams of one place: an account's region, or a folder. What makes, changes and removes streams.
#[async_trait]
pub trait StreamAdmin: Send + Sync + fmt::Debug {
    /// A client for an existing stream.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`].
    async fn open(&self, stream: &str) -> Result<Arc<dyn StreamClient>>;

    /// Makes a stream with so many open shards of equal size.
    ///
    /// # Errors
    /// [`Error::StreamExists`]; [`Error::Invalid`] for a name or number that cannot be.
    async fn create(&self, stream: &str, options: CreateOptions) -> Result<()>;

    /// Removes a stream with everything in it.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`].
    async fn delete(&self, stream: &str) -> Result<()>;

    /// The names of all streams, sorted.
    ///
    /// # Errors
    /// What keeps the backend from answering.
    async fn list(&self) -> Result<Vec<String>>;

    /// Splits an open shard in two; hash keys from `at` on go to the second child.
    ///
    /// # Errors
    /// [`Error::ShardNotFound`]; [`Error::Invalid`] where the shard is closed or `at` is not inside it.
    async fn split(&self, stream: &str, shard: &ShardId, at: HashKey) -> Result<()>;

    /// Merges two open shards whose hash keys are adjacent.
    ///
    /// # Errors
    /// [`Error::ShardNotFound`]; [`Error::Invalid`] where one is closed or they are not adjacent.
    async fn merge(&self, stream: &str, shard: &ShardId, adjacent: &ShardId) -> Result<()>;

    /// Splits and merges until there are so many open shards of equal size.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a number that cannot be.
    async fn reshard(&self, stream: &str, shards: usize) -> Result<()>;
}

/// What a new stream is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreateOptions {
    /// How many open shards.
    pub shards: usize,
    /// How long records are kept.
    pub retention: Duration,
    /// Whether the backend decides how many shards there are, where it can: Kinesis' on-demand mode.
    pub on_demand: bool,
}

impl Default for CreateOptions {
    /// One shard; records are kept for 24 hours, as on Kinesis.
    fn default() -> Self {
        Self { shards: 1, retention: Duration::from_secs(24 * 60 * 60), on_demand: false }
    }
}

impl CreateOptions {
    /// How many shards, for a backend that does not decide that itself.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it was to decide.
    pub fn fixed_shards(self) -> Result<usize> {
        match self.on_demand {
            true => {
                Err(crate::Error::Invalid { problem: "only Kinesis has streams on demand; say how many shards".into() })
            }
            false => Ok(self.shards),
        }
    }

    /// With so many open shards.
    pub fn with_shards(self, shards: usize) -> Self {
        Self { shards, ..self }
    }

    /// With the number of shards left to the backend, or not.
    pub fn with_on_demand(self, on_demand: bool) -> Self {
        Self { on_demand, ..self }
    }

    /// With records kept so long.
    pub fn with_retention(self, retention: Duration) -> Self {
        Self { retention, ..self }
    }
}
