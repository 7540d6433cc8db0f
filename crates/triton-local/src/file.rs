//! One stream's open file: a read thread and at most one write thread per process, shared by all clients.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use triton_core::{Error, Result};

use crate::error::thread_gone;
use crate::layout;
use crate::read_thread::ReadThread;
use crate::write_thread::{WriteHandle, WriteThread};

/// An open file, with the threads that use it.
#[derive(Debug)]
pub(crate) struct StreamFile {
    name: String,
    path: PathBuf,
    /// Folder of the stream, for messages.
    folder: String,
    reader: ReadThread,
    /// Started by the first write, so that a process that only reads has none.
    writer: Mutex<Option<WriteThread>>,
}

impl StreamFile {
    /// Opens an existing file. Blocks.
    pub(crate) fn open(name: &str, path: &Path, folder: String) -> Result<Self> {
        let not_found = Error::StreamNotFound { stream: name.into(), location: folder.clone() };
        let reader = ReadThread::start(layout::connect(path)?, path, not_found)?;
        Ok(Self { name: name.into(), path: path.into(), folder, reader, writer: Mutex::new(None) })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn reader(&self) -> &ReadThread {
        &self.reader
    }

    pub(crate) fn not_found(&self) -> Error {
        Error::StreamNotFound { stream: self.name.clone(), location: self.folder.clone() }
    }

    /// A handle to the write thread, which is started if it is not running.
    pub(crate) fn writer(&self) -> Result<WriteHandle> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = match &*writer {
            Some(writer) => writer.handle(),
            None => writer.insert(WriteThread::start(&self.name, &self.path, self.not_found())?).handle(),
        };
        handle.ok_or_else(|| thread_gone(&self.path))
    }
}
