//! Memory streams under the name `memory`, for configs of tests.

use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use crate::backend::{Backend, Check, CreateOptions, StreamAdmin, StreamClient};
use crate::config::StreamConfig;
use crate::error::{Error, Result};

use super::Memory;

/// The backend `memory`: streams of one [`Memory`], created on first use.
///
/// ```
/// use std::sync::Arc;
/// use triton_core::memory::MemoryBackend;
/// use triton_core::{Config, Registry};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> triton_core::Result<()> {
/// let mut registry = Registry::new();
/// registry.register(Arc::new(MemoryBackend::default()));
/// let config = Config::parse("clicks: {name: clicks, partition_key: user, backend: memory, shards: 4}", "triton.yaml")?;
/// registry.check(&config)?;
/// let clicks = config.stream("clicks")?;
/// let client = registry.backend(clicks)?.open(clicks).await?;
/// assert_eq!(client.shards().await?.len(), 4);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryBackend {
    streams: Memory,
}

#[derive(Deserialize)]
struct Keys {
    shards: Option<NonZeroUsize>,
}

impl MemoryBackend {
    /// The name that the config file uses.
    pub const NAME: &str = "memory";

    /// The backend of these streams.
    pub fn new(streams: Memory) -> Self {
        Self { streams }
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn keys(&self) -> &[&str] {
        &["shards"]
    }

    fn check(&self, stream: &StreamConfig) -> Result<()> {
        self.create_options(stream).map(drop)
    }

    async fn open(&self, stream: &StreamConfig) -> Result<Arc<dyn StreamClient>> {
        match self.streams.get(&stream.name) {
            Err(Error::StreamNotFound { .. }) => {
                match self.streams.create_stream(&stream.name, self.create_options(stream)?) {
                    // Another task was faster.
                    Err(Error::StreamExists { .. }) => Ok(Arc::new(self.streams.get(&stream.name)?)),
                    created => Ok(Arc::new(created?)),
                }
            }
            opened => Ok(Arc::new(opened?)),
        }
    }

    async fn admin(&self, _: &StreamConfig) -> Result<Arc<dyn StreamAdmin>> {
        Ok(Arc::new(self.streams.clone()))
    }

    fn create_options(&self, stream: &StreamConfig) -> Result<CreateOptions> {
        let Keys { shards } = stream.settings.read()?;
        Ok(CreateOptions::default().with_shards(shards.map_or(1, NonZeroUsize::get)))
    }

    async fn diagnose(&self, streams: &[StreamConfig]) -> Vec<Check> {
        let in_memory = |stream: &StreamConfig| format!("'{}' is in memory", stream.logical_name);
        streams.iter().map(|stream| Check::passed("stream", in_memory(stream))).collect()
    }
}
