//! The streams of one config, with the backends that they are on.

use std::sync::Arc;

use triton_core::{Backend, Config, Registry, Result, Stream, StreamConfig};

use crate::builder::Builder;

/// The backend of streams that no config describes.
const UNCONFIGURED: &str = "local";

/// The streams of a program: a config, and the backends that hold its streams. Cheap to clone; streams that are opened
/// from clones of one share connections and files.
///
/// It never takes a local stream for one that the config does not have; [`local`](Self::local) asks for that.
#[derive(Clone, Debug)]
pub struct Triton {
    config: Option<Arc<Config>>,
    registry: Registry,
}

/// Opens one stream of the config that the environment leads to; [`Triton::find`] is for programs with several.
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

    /// The streams of the config that the environment leads to, found as the command does: `$TRITON_CONFIG`, else the
    /// first that exists of `./triton.yaml`, `$XDG_CONFIG_HOME/triton/triton.yaml` and `/etc/triton.yaml`.
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

    /// The local streams of this user, without a config: those that the command uses where it finds none, in
    /// `$XDG_DATA_HOME/triton`. Each is created on first use, and has partition keys chosen at random.
    pub fn local() -> Self {
        Self::builder().local()
    }

    /// For more backends, or settings for those that are there.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The config, where there is one.
    pub fn config(&self) -> Option<&Config> {
        self.config.as_deref()
    }

    /// What a logical name stands for.
    ///
    /// # Errors
    /// [`Error::UnknownStream`](triton_core::Error::UnknownStream) where the config does not have it.
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

    /// The backend that a stream is on: to create, list or check streams there, or for a [client](Backend::open) under a
    /// [`Stream`] with options of its own.
    ///
    /// # Errors
    /// As [`Registry::backend`].
    pub fn backend(&self, stream: &StreamConfig) -> Result<&Arc<dyn Backend>> {
        self.registry.backend(stream)
    }
}
