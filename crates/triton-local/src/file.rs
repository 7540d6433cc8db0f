//! One stream's file as this process uses it: at most one thread that writes and one that reads, however many clients.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use triton_core::{Error, Result};

use crate::error::thread_gone;
use crate::layout;
use crate::read_thread::Fetcher;
use crate::write_thread::{Requests, Writer};

#[derive(Debug)]
pub(crate) struct StreamFile {
    name: String,
    path: PathBuf,
    /// The folder of the stream, for messages.
    place: String,
    fetcher: Fetcher,
    /// Started by the first write: who only reads needs none.
    writer: Mutex<Option<Writer>>,
}

impl StreamFile {
    /// Opens an existing file. Blocks.
    pub(crate) fn open(name: &str, path: &Path, place: String) -> Result<Self> {
        let not_found = Error::StreamNotFound { stream: name.into(), place: place.clone() };
        let fetcher = Fetcher::start(layout::connect(path)?, path, not_found)?;
        Ok(Self { name: name.into(), path: path.into(), place, fetcher, writer: Mutex::new(None) })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    pub(crate) fn not_found(&self) -> Error {
        Error::StreamNotFound { stream: self.name.clone(), place: self.place.clone() }
    }

    /// The thread that writes, as a handle for one request.
    pub(crate) fn writer(&self) -> Result<Requests> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = match &*writer {
            Some(writer) => writer.requests(),
            None => writer.insert(Writer::start(&self.name, &self.path, self.not_found())?).requests(),
        };
        requests.ok_or_else(|| thread_gone(&self.path))
    }
}
