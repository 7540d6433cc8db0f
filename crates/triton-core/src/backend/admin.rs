//! Creating, changing and deleting streams, for operators and the conformance suite.

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

/// Creates, changes and deletes the streams of one region of an account, or of one folder.
#[async_trait]
pub trait StreamAdmin: Send + Sync + fmt::Debug {
    /// A client for an existing stream.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`].
    async fn open(&self, stream: &str) -> Result<Arc<dyn StreamClient>>;

    /// Creates a stream, with open shards of equal size.
    ///
    /// # Errors
    /// [`Error::StreamExists`]; [`Error::Invalid`] for an invalid name or number of shards.
    async fn create(&self, stream: &str, options: CreateOptions) -> Result<()>;

    /// Deletes a stream with every record in it.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`].
    async fn delete(&self, stream: &str) -> Result<()>;

    /// The names of all streams, sorted.
    ///
    /// # Errors
    /// The reason why the backend cannot be reached.
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

    /// Splits and merges until there are `shards` open shards of equal size.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an invalid number of shards.
    async fn reshard(&self, stream: &str, shards: usize) -> Result<()>;
}

/// Options of a new stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreateOptions {
    /// Number of open shards.
    pub shards: usize,
    /// How long records are kept.
    pub retention: Duration,
    /// Whether the backend chooses the number of shards: Kinesis' on-demand mode.
    pub on_demand: bool,
}

impl Default for CreateOptions {
    /// One shard; records are kept for 24 hours, as on Kinesis.
    fn default() -> Self {
        Self { shards: 1, retention: Duration::from_secs(24 * 60 * 60), on_demand: false }
    }
}

impl CreateOptions {
    /// Number of shards, for a backend without an on-demand mode.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `on_demand` is set.
    pub fn fixed_shards(self) -> Result<usize> {
        if self.on_demand {
            let problem = "only Kinesis has an on-demand mode: give a number of shards".into();
            return Err(crate::Error::Invalid { problem });
        }
        Ok(self.shards)
    }

    /// With another number of open shards.
    pub fn with_shards(self, shards: usize) -> Self {
        Self { shards, ..self }
    }

    /// With on-demand mode on or off.
    pub fn with_on_demand(self, on_demand: bool) -> Self {
        Self { on_demand, ..self }
    }

    /// With another retention.
    pub fn with_retention(self, retention: Duration) -> Self {
        Self { retention, ..self }
    }
}
