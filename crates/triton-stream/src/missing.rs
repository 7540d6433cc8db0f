//! Stand-ins for the backends that this build lacks: their keys are known, but opening a stream is an error.

use std::sync::Arc;

use async_trait::async_trait;
use triton_core::{Backend, Check, CreateOptions, Error, Result, StreamAdmin, StreamClient, StreamConfig};

/// A backend whose feature, of the same name, is off.
#[derive(Debug)]
pub(crate) struct MissingBackend {
    name: &'static str,
    keys: &'static [&'static str],
}

impl MissingBackend {
    /// The backend `kinesis`.
    pub(crate) const KINESIS: Self = Self { name: "kinesis", keys: &["endpoint_url", "region", "shards"] };

    /// The backend `local`.
    pub(crate) const LOCAL: Self = Self { name: "local", keys: &["path", "shards"] };

    fn error(&self, stream: &StreamConfig) -> Error {
        let (stream, name) = (&stream.logical_name, self.name);
        let problem = if stream.is_empty() {
            format!("this program was built without the backend '{name}'")
        } else {
            format!("stream '{stream}' is on the backend '{name}', which this program was built without")
        };
        let help = Some(format!("build it with the feature '{name}', which is on by default"));
        Error::Setting { problem, help }
    }
}

#[async_trait]
impl Backend for MissingBackend {
    fn name(&self) -> &str {
        self.name
    }

    fn keys(&self) -> &[&str] {
        self.keys
    }

    fn check(&self, _: &StreamConfig) -> Result<()> {
        Ok(())
    }

    async fn open(&self, stream: &StreamConfig) -> Result<Arc<dyn StreamClient>> {
        Err(self.error(stream))
    }

    async fn admin(&self, stream: &StreamConfig) -> Result<Arc<dyn StreamAdmin>> {
        Err(self.error(stream))
    }

    fn create_options(&self, stream: &StreamConfig) -> Result<CreateOptions> {
        Err(self.error(stream))
    }

    async fn diagnose(&self, streams: &[StreamConfig]) -> Vec<Check> {
        streams.iter().map(|stream| Check::failed("stream", self.error(stream))).collect()
    }
}

#[cfg(all(test, feature = "kinesis", feature = "local"))]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_those_of_the_backends() {
        assert_eq!(MissingBackend::KINESIS.keys, triton_kinesis::KinesisBackend::KEYS);
        assert_eq!(MissingBackend::LOCAL.keys, triton_local::LocalBackend::KEYS);
    }
}
