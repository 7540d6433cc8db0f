//! The streams of one config, on their backends.

use std::sync::Arc;

use triton_core::{Backend, Config, Registry, Result, Stream, StreamConfig};

use crate::builder::Builder;

/// Backend of streams without a config.
const UNCONFIGURED: &str = "local";

/// The streams of a program: a config, and the backends that hold its streams. Cheap to clone; streams that are opened
/// from clones of one share connections and files.
///
/// A name that the config lacks is an error, never a local stream. For local streams without a config, there is
/// [`local`](Self::local).
#[derive(Clone, Debug)]
pub struct Triton {
    config: Option<Arc<Config>>,
    registry: Registry,
}

/// Finds the config and opens one of its streams. A program with several streams uses [`Triton::find`].
///
/// # Errors
/// As [`Triton::find`] and [`Triton::stream`].
pub async fn open(stream: &str) -> Result<Stream> {
    Triton::find()?.stream(stream).await
}

impl Triton {
    pub(crate) fn new(config: Option<Config>, registry: Registry) -> Self {
        Self { config: config.map(Arc::new), registry }
    }

    /// Finds the config as the command does: `$TRITON_CONFIG`, else the first that exists of `./triton.yaml`,
    /// `$XDG_CONFIG_HOME/triton/triton.yaml` and `/etc/triton.yaml`.
    ///
    /// # Errors
    /// As [`Builder::find`].
    pub fn find() -> Result<Self> {
        Self::builder().find()
    }

    /// The streams of this config.
    ///
    /// # Errors
    /// As [`Builder::from_config`].
    pub fn from_config(config: Config) -> Result<Self> {
        Self::builder().from_config(config)
    }

    /// The local streams of this user, which the command uses if it finds no config. They are in
    /// `$XDG_DATA_HOME/triton`, are created on first use, and have random partition keys.
    pub fn local() -> Self {
        Self::builder().local()
    }

    /// A builder, for more backends, or options for the built-in ones.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The config, if there is one.
    pub fn config(&self) -> Option<&Config> {
        self.config.as_deref()
    }

    /// The config of the stream of this logical name.
    ///
    /// # Errors
    /// [`Error::UnknownStream`](triton_core::Error::UnknownStream) if the config lacks it.
    pub fn stream_config(&self, logical_name: &str) -> Result<StreamConfig> {
        match &self.config {
            Some(config) => config.stream(logical_name).cloned(),
            None => Ok(StreamConfig::new(logical_name).with_backend(UNCONFIGURED)),
        }
    }

    /// The stream of this logical name. A local stream is created on first use; one on Kinesis has to exist.
    ///
    /// # Errors
    /// As [`stream_config`](Self::stream_config) and [`Backend::open`].
    pub async fn stream(&self, logical_name: &str) -> Result<Stream> {
        let config = self.stream_config(logical_name)?;
        let client = self.backend(&config)?.open(&config).await?;
        Ok(Stream::new(&config, client))
    }

    /// The backend of a stream: to create, list or check streams, or to open a [client](Backend::open) for a [`Stream`]
    /// with options.
    ///
    /// # Errors
    /// As [`Registry::backend`].
    pub fn backend(&self, stream: &StreamConfig) -> Result<&Arc<dyn Backend>> {
        self.registry.backend(stream)
    }
}
