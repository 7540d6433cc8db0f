//! The folder of local streams: opens, creates, deletes and lists their files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use triton_core::{CreateOptions, Error, HashKey, Result, ShardId, StreamAdmin, StreamClient};

use crate::error::storage;
use crate::file::StreamFile;
use crate::layout;
use crate::stream::LocalStream;

/// The streams of one folder, in a file `streams/NAME.db` each. Clones share the open files.
#[derive(Clone, Debug)]
pub struct LocalStreams {
    folder: PathBuf,
    open: Arc<Mutex<BTreeMap<String, Weak<StreamFile>>>>,
}

impl LocalStreams {
    /// The streams of this folder, which is created with the first stream.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), open: Arc::default() }
    }

    /// Folder of the streams.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Opens the stream, and creates it first if it does not exist.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an invalid name or number of shards; [`Error::Storage`] if the file cannot be created or
    /// opened, or is not a stream.
    pub async fn open_or_create(&self, stream: &str, options: CreateOptions) -> Result<Arc<dyn StreamClient>> {
        match self.open(stream).await {
            Err(Error::StreamNotFound { .. }) => {}
            opened => return opened,
        }
        match self.create(stream, options).await {
            // Another process may have created it since.
            Ok(()) | Err(Error::StreamExists { .. }) => self.open(stream).await,
            Err(error) => Err(error),
        }
    }

    fn streams(&self) -> PathBuf {
        self.folder.join("streams")
    }

    fn folder_text(&self) -> String {
        self.folder.display().to_string()
    }

    fn path(&self, stream: &str) -> Result<PathBuf> {
        if !is_name(stream) {
            let problem = format!(
                "'{}' cannot be a stream's name: 1 to 128 letters, digits, '_', '.' and '-'",
                stream.escape_debug()
            );
            return Err(Error::Invalid { problem });
        }
        Ok(self.streams().join(format!("{stream}.db")))
    }

    /// Returns the stream's open file, and opens it if it is not open yet. Blocks.
    fn file(&self, stream: &str) -> Result<Arc<StreamFile>> {
        let path = self.path(stream)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(stream).and_then(Weak::upgrade) {
            return Ok(file);
        }
        if !path.try_exists().map_err(|error| storage(&path, "cannot be accessed", Some(error)))? {
            return Err(self.not_found(stream));
        }
        let file = Arc::new(StreamFile::open(stream, &path, self.folder_text())?);
        open.retain(|_, file| file.strong_count() > 0);
        open.insert(stream.into(), Arc::downgrade(&file));
        Ok(file)
    }

    fn not_found(&self, stream: &str) -> Error {
        Error::StreamNotFound { stream: stream.into(), location: self.folder_text() }
    }

    /// Creates the stream, in the file of a deleted stream of its name if there is one. Blocks.
    fn create_blocking(&self, stream: &str, options: CreateOptions) -> Result<()> {
        let path = self.path(stream)?;
        if !path.try_exists().map_err(|error| storage(&path, "cannot be accessed", Some(error)))? {
            self.create_file(stream, &path)?;
        }
        if layout::create_stream(&path, stream, options)? {
            Ok(())
        } else {
            Err(Error::StreamExists { stream: stream.into(), location: self.folder_text() })
        }
    }

    /// Creates the tables in a temporary file and renames it, so that no process sees an incomplete file. Blocks.
    fn create_file(&self, stream: &str, path: &Path) -> Result<()> {
        let folder = self.streams();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| storage(&folder, "cannot be created", Some(error)))?;
        let cannot = |error| storage(path, "cannot be created", Some(error));
        // Only its owner can read it, like the folder. Without `.db`, it is not listed as a stream if a crash leaves it
        // behind.
        let prefix = format!("{stream}.new-");
        let temporary = tempfile::Builder::new().prefix(&prefix).tempfile_in(&folder).map_err(cannot)?;
        layout::create_tables(temporary.path())?;
        match temporary.persist_noclobber(path) {
            Err(error) if error.error.kind() != std::io::ErrorKind::AlreadyExists => return Err(cannot(error.error)),
            // Another process created the file first, with the same tables.
            _ => {}
        }
        fs::File::open(&folder).and_then(|folder| folder.sync_all()).map_err(cannot)
    }

    fn names(&self) -> Result<Vec<String>> {
        let folder = self.streams();
        let cannot = |error| storage(&folder, "cannot be listed", Some(error));
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(cannot)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(cannot)?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".db"));
            // Other files are not Triton's.
            names.extend(name.filter(|name| is_name(name)).map(str::to_owned));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Runs blocking work on a thread of its own.
    async fn blocking<T: Send + 'static>(
        &self,
        stream: &str,
        work: impl FnOnce(&Self, &str) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (streams, stream) = (self.clone(), stream.to_owned());
        let folder = self.folder.clone();
        let done = tokio::task::spawn_blocking(move || work(&streams, &stream)).await;
        done.unwrap_or_else(|_| Err(crate::error::thread_gone(&folder)))
    }
}

/// Whether Kinesis accepts this as a stream's name.
fn is_name(name: &str) -> bool {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=128).contains(&name.len()) && name.bytes().all(is_valid)
}

#[async_trait]
impl StreamAdmin for LocalStreams {
    async fn open(&self, stream: &str) -> Result<Arc<dyn StreamClient>> {
        let file = self.blocking(stream, Self::file).await?;
        // The file of a deleted stream still exists: fails if it holds no stream.
        file.reader().shards().await?;
        Ok(Arc::new(LocalStream(file)))
    }

    async fn create(&self, stream: &str, options: CreateOptions) -> Result<()> {
        self.blocking(stream, move |streams, stream| streams.create_blocking(stream, options)).await
    }

    async fn delete(&self, stream: &str) -> Result<()> {
        let file = self.blocking(stream, Self::file).await?;
        file.writer()?.delete().await
    }

    async fn list(&self) -> Result<Vec<String>> {
        let mut streams = Vec::new();
        for name in self.blocking("", |streams, _| streams.names()).await? {
            match self.open(&name).await {
                Err(Error::StreamNotFound { .. }) => {}
                // A stream that cannot be opened exists all the same.
                _ => streams.push(name),
            }
        }
        Ok(streams)
    }

    async fn split(&self, stream: &str, shard: &ShardId, at: HashKey) -> Result<()> {
        let (file, shard) = (self.blocking(stream, Self::file).await?, shard.clone());
        file.writer()?.change_shards(move |map, sequence| map.split(&shard, at, sequence).map(drop)).await
    }

    async fn merge(&self, stream: &str, shard: &ShardId, adjacent: &ShardId) -> Result<()> {
        let file = self.blocking(stream, Self::file).await?;
        let (shard, adjacent) = (shard.clone(), adjacent.clone());
        file.writer()?.change_shards(move |map, sequence| map.merge(&shard, &adjacent, sequence).map(drop)).await
    }

    async fn reshard(&self, stream: &str, shards: usize) -> Result<()> {
        let file = self.blocking(stream, Self::file).await?;
        file.writer()?.change_shards(move |map, sequence| map.reshard(shards, sequence)).await
    }
}
