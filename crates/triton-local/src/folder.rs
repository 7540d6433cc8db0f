//! The folder of local streams: where their files are, and how they come and go.

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

/// The streams in one folder, `streams/NAME.db` each. Clones share the files that are open.
#[derive(Clone, Debug)]
pub struct LocalStreams {
    folder: PathBuf,
    open: Arc<Mutex<BTreeMap<String, Weak<StreamFile>>>>,
}

impl LocalStreams {
    /// The streams in this folder, which is made when the first stream is.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), open: Arc::default() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A client for the stream, which is made first where it does not exist.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name or number of shards that cannot be; [`Error::Storage`] where the file cannot be made
    /// or opened, or is not a stream.
    pub async fn open_or_create(&self, stream: &str, options: CreateOptions) -> Result<Arc<dyn StreamClient>> {
        match self.open(stream).await {
            Err(Error::StreamNotFound { .. }) => {}
            opened => return opened,
        }
        match self.create(stream, options).await {
            // Another process was faster.
            Ok(()) | Err(Error::StreamExists { .. }) => self.open(stream).await,
            Err(error) => Err(error),
        }
    }

    fn streams(&self) -> PathBuf {
        self.folder.join("streams")
    }

    fn place(&self) -> String {
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

    /// The open file of a stream, opened if it is not. Blocks.
    fn file(&self, stream: &str) -> Result<Arc<StreamFile>> {
        let path = self.path(stream)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(stream).and_then(Weak::upgrade) {
            return Ok(file);
        }
        if !path.try_exists().map_err(|error| storage(&path, "cannot be looked at", Some(error)))? {
            return Err(self.not_found(stream));
        }
        let file = Arc::new(StreamFile::open(stream, &path, self.place())?);
        open.retain(|_, file| file.strong_count() > 0);
        open.insert(stream.into(), Arc::downgrade(&file));
        Ok(file)
    }

    fn not_found(&self, stream: &str) -> Error {
        Error::StreamNotFound { stream: stream.into(), place: self.place() }
    }

    /// Makes the stream, in the file of a removed one where there is one. Blocks.
    fn make(&self, stream: &str, options: CreateOptions) -> Result<()> {
        let path = self.path(stream)?;
        if !path.try_exists().map_err(|error| storage(&path, "cannot be looked at", Some(error)))? {
            self.make_file(stream, &path)?;
        }
        match layout::create_stream(&path, stream, options)? {
            true => Ok(()),
            false => Err(Error::StreamExists { stream: stream.into(), place: self.place() }),
        }
    }

    /// Makes the file aside and moves it into place whole, so that nobody sees half of one. Blocks.
    fn make_file(&self, stream: &str, path: &Path) -> Result<()> {
        let folder = self.streams();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| storage(&folder, "cannot be made", Some(error)))?;
        let cannot = |error| storage(path, "cannot be made", Some(error));
        // Readable by its owner alone, like the folder; not a stream by its name if a crash leaves it behind.
        let prefix = format!("{stream}.new-");
        let aside = tempfile::Builder::new().prefix(&prefix).tempfile_in(&folder).map_err(cannot)?;
        layout::create_tables(aside.path())?;
        match aside.persist_noclobber(path) {
            Err(error) if error.error.kind() != std::io::ErrorKind::AlreadyExists => return Err(cannot(error.error)),
            // Another was faster; its file is as good.
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
            // What cannot be a stream's name is somebody else's file.
            names.extend(name.filter(|name| is_name(name)).map(str::to_owned));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Runs what blocks where it may block.
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

/// Kinesis' rule for names.
fn is_name(name: &str) -> bool {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=128).contains(&name.len()) && name.bytes().all(is_valid)
}

#[async_trait]
impl StreamAdmin for LocalStreams {
    async fn open(&self, stream: &str) -> Result<Arc<dyn StreamClient>> {
        let file = self.blocking(stream, Self::file).await?;
        // The file of a removed stream is still there.
        file.fetcher().shards().await?;
        Ok(Arc::new(LocalStream(file)))
    }

    async fn create(&self, stream: &str, options: CreateOptions) -> Result<()> {
        self.blocking(stream, move |streams, stream| streams.make(stream, options)).await
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
                // One that cannot be opened is there all the same.
                _ => streams.push(name),
            }
        }
        Ok(streams)
    }

    async fn split(&self, stream: &str, shard: &ShardId, at: HashKey) -> Result<()> {
        let (file, shard) = (self.blocking(stream, Self::file).await?, shard.clone());
        file.writer()?.change(move |map, sequence| map.split(&shard, at, sequence).map(drop)).await
    }

    async fn merge(&self, stream: &str, shard: &ShardId, adjacent: &ShardId) -> Result<()> {
        let file = self.blocking(stream, Self::file).await?;
        let (shard, adjacent) = (shard.clone(), adjacent.clone());
        file.writer()?.change(move |map, sequence| map.merge(&shard, &adjacent, sequence).map(drop)).await
    }

    async fn reshard(&self, stream: &str, shards: usize) -> Result<()> {
        let file = self.blocking(stream, Self::file).await?;
        file.writer()?.change(move |map, sequence| map.reshard(shards, sequence)).await
    }
}
