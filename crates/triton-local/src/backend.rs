//! The backend `local` of the config file.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde::Deserialize;
use triton_core::config::user_folder;
use triton_core::{Backend, Check, CreateOptions, Error, Result, StreamAdmin, StreamClient, StreamConfig};

use crate::folder::LocalStreams;

/// The backend `local`: streams in the folder of their config, by default the user's own, `$XDG_DATA_HOME/triton`. A
/// stream is created on first use.
///
/// Its keys: `path`, the folder, relative to the config file's; `shards`, the number of shards of a new stream
/// (default: 1).
#[derive(Debug, Default)]
pub struct LocalBackend {
    /// By folder: streams of one folder share its open files.
    folders: Mutex<BTreeMap<PathBuf, LocalStreams>>,
}

/// The keys of a stream's section that the backend reads.
#[derive(Deserialize)]
struct Keys {
    path: Option<PathBuf>,
    shards: Option<NonZeroUsize>,
}

impl LocalBackend {
    /// Name in the config file.
    pub const NAME: &str = "local";

    /// Keys of a stream's section that the backend reads.
    pub const KEYS: [&str; 2] = ["path", "shards"];

    /// The streams in the folder that holds this one, or would hold it.
    ///
    /// # Errors
    /// [`Error::Config`] if the settings are invalid; [`Error::Setting`] if neither they nor the environment give a
    /// folder.
    pub fn streams(&self, stream: &StreamConfig) -> Result<LocalStreams> {
        let Keys { path, .. } = stream.settings.read()?;
        let folder = match path {
            Some(path) => stream.settings.resolve(&path),
            None => user_folder("XDG_DATA_HOME", ".local/share").ok_or_else(no_folder)?.join("triton"),
        };
        // A panic cannot leave the map inconsistent.
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(folders.entry(folder.clone()).or_insert_with(|| LocalStreams::new(folder)).clone())
    }

    async fn check_stream(&self, stream: &StreamConfig) -> Result<String> {
        let name = &stream.logical_name;
        match self.admin(stream).await?.open(&stream.name).await {
            Ok(client) => {
                let open = client.shards().await?.iter().filter(|shard| shard.is_open()).count();
                Ok(format!("'{name}' is local, open shards: {open}"))
            }
            Err(Error::StreamNotFound { .. }) => Ok(format!("'{name}' is local, created on first use")),
            Err(error) => Err(error),
        }
    }
}

fn no_folder() -> Error {
    Error::Setting {
        problem: "no folder for local streams: $HOME is not set".into(),
        help: Some("set $XDG_DATA_HOME, or give the stream a path in the config".into()),
    }
}

#[async_trait]
impl Backend for LocalBackend {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn keys(&self) -> &[&str] {
        &Self::KEYS
    }

    fn check(&self, stream: &StreamConfig) -> Result<()> {
        stream.settings.read::<Keys>().map(drop)
    }

    async fn open(&self, stream: &StreamConfig) -> Result<Arc<dyn StreamClient>> {
        self.streams(stream)?.open_or_create(&stream.name, self.create_options(stream)?).await
    }

    async fn admin(&self, stream: &StreamConfig) -> Result<Arc<dyn StreamAdmin>> {
        Ok(Arc::new(self.streams(stream)?))
    }

    fn create_options(&self, stream: &StreamConfig) -> Result<CreateOptions> {
        let Keys { shards, .. } = stream.settings.read()?;
        Ok(CreateOptions::default().with_shards(shards.map_or(1, NonZeroUsize::get)))
    }

    async fn diagnose(&self, streams: &[StreamConfig]) -> Vec<Check> {
        let mut checks = Vec::new();
        for stream in streams {
            checks.push(match self.check_stream(stream).await {
                Ok(words) => Check::passed("stream", words),
                Err(error) => Check::failed("stream", error),
            });
        }
        checks
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use triton_core::{Config, Registry};

    fn config(section: &str) -> Result<Config> {
        let mut registry = Registry::new();
        registry.register(Arc::new(LocalBackend::default()));
        let config = Config::parse(
            &format!("a:\n  name: a\n  partition_key: b\n  backend: local\n{section}"),
            "/etc/triton.yaml",
        )?;
        registry.check(&config).map(|()| config)
    }

    #[test]
    fn a_relative_path_starts_at_the_config_file() {
        let folder = |path: &str| {
            let config = config(&format!("  path: {path}\n")).unwrap();
            LocalBackend::default().streams(config.stream("a").unwrap()).unwrap().folder().to_owned()
        };
        assert_eq!(folder("data"), Path::new("/etc/data"));
        assert_eq!(folder("/var/lib/triton"), Path::new("/var/lib/triton"));
    }

    #[test]
    fn streams_of_one_folder_share_its_files() {
        let config = config("  path: data\n").unwrap();
        let stream = config.stream("a").unwrap();
        let backend = LocalBackend::default();
        backend.streams(stream).unwrap();
        backend.streams(stream).unwrap();
        assert_eq!(backend.folders.lock().unwrap().len(), 1);
    }

    #[test]
    fn an_invalid_value_is_reported_with_its_line_and_column() {
        for (section, place) in [
            ("  shards: -1\n", "line 5, column 11: a.shards: "),
            ("  shards: 0\n", "line 5, column 11: a.shards: "),
            ("  path: [1]\n", "line 5, column 9: a.path: "),
        ] {
            let error = config(section).unwrap_err().to_string();
            assert!(error.starts_with(&format!("/etc/triton.yaml: {place}invalid")), "{error}");
        }
    }
}
