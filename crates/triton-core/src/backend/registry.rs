//! Backends under the names that the config file uses.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::backend::{Check, CreateOptions, StreamAdmin, StreamClient};
use crate::config::{Config, KnownKeys, StreamConfig};
use crate::error::{Error, Result};

/// Where streams are stored: Kinesis, or folders of SQLite files.
///
/// A backend is registered under its [name](Self::name), which a stream's `backend:` in the config file gives. It reads
/// its own keys of the stream's [settings](StreamConfig::settings), and shares connections and files among the streams
/// that it opens.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug {
    /// The name that the config file uses.
    fn name(&self) -> &str;

    /// The keys of a stream's section that this backend reads.
    fn keys(&self) -> &[&str];

    /// Checks the stream's settings, without any I/O.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::Setting`].
    fn check(&self, stream: &StreamConfig) -> Result<()>;

    /// A client for the stream. A backend may create the stream on first use.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`], or the reason why the backend cannot be reached.
    async fn open(&self, stream: &StreamConfig) -> Result<Arc<dyn StreamClient>>;

    /// Returns the admin of the account or folder that this stream belongs to, whether or not the stream exists.
    ///
    /// # Errors
    /// The reason why the backend cannot be reached.
    async fn admin(&self, stream: &StreamConfig) -> Result<Arc<dyn StreamAdmin>>;

    /// Returns the options for creating the stream, read from its settings.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    fn create_options(&self, stream: &StreamConfig) -> Result<CreateOptions>;

    /// Checks these streams and the accounts or folders that hold them, for `triton doctor`. Without streams, it checks
    /// what the environment configures, if anything.
    async fn diagnose(&self, streams: &[StreamConfig]) -> Vec<Check>;
}

/// The backends that a program knows.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    backends: BTreeMap<String, Arc<dyn Backend>>,
}

impl Registry {
    /// Returns a registry without backends.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a backend under its name. It replaces an earlier one of that name.
    pub fn register(&mut self, backend: Arc<dyn Backend>) {
        self.backends.insert(backend.name().to_owned(), backend);
    }

    /// The backend that a stream's config names.
    ///
    /// # Errors
    /// [`Error::Setting`], which lists the backends that are known.
    pub fn backend(&self, stream: &StreamConfig) -> Result<&Arc<dyn Backend>> {
        self.backends.get(&stream.backend).ok_or_else(|| {
            let known = self.backends.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let problem = format!(
                "stream '{}' has the unknown backend '{}' (known: {known})",
                stream.logical_name, stream.backend
            );
            Error::Setting { problem, help: None }
        })
    }

    /// Checks every section of a config: its keys, its backend, and the values of the backend's keys.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::Setting`] for the first problem.
    pub fn check(&self, config: &Config) -> Result<()> {
        config.check_keys(&KnownKeys {
            backends: self.backends.keys().map(String::as_str).collect(),
            keys: self.backends.values().flat_map(|backend| backend.keys()).copied().collect(),
        })?;
        config.streams().try_for_each(|stream| self.backend(stream)?.check(stream))
    }
}
