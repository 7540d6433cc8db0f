//! The records that could not be put, and the file of `--failed` that keeps them.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use triton_stream::{Error, PutEntry};

use crate::exit::{self, Failure};

use super::args::PutArgs;

/// Records that could not be put, and the file of `--failed`.
pub(super) struct FailedRecords {
    pub(super) count: usize,
    /// The error of the first.
    pub(super) error: Option<Error>,
    file: Option<(PathBuf, File)>,
    /// Written after each payload; MessagePack needs none.
    separator: Vec<u8>,
}

impl FailedRecords {
    /// Opens the file before anything is put, so that a failure to open it loses no record.
    pub(super) fn new(args: &PutArgs) -> Result<Self> {
        let file = args.failed.as_ref().map(|path| {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            let opened = opened.with_context(|| format!("{} cannot be opened for failed records", path.display()))?;
            anyhow::Ok((path.clone(), opened))
        });
        let separator = match (args.raw, &args.delimiter) {
            (false, _) => Vec::new(),
            (true, Some(delimiter)) => delimiter.0.clone(),
            (true, None) => b"\n".to_vec(),
        };
        Ok(Self { count: 0, error: None, file: file.transpose()?, separator })
    }

    /// Counts records, and appends their payloads to the file.
    pub(super) fn keep(&mut self, entries: impl IntoIterator<Item = PutEntry>) -> Result<()> {
        let mut payloads = Vec::new();
        for entry in entries {
            self.count += 1;
            payloads.extend_from_slice(&entry.data);
            payloads.extend_from_slice(&self.separator);
        }
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        file.write_all(&payloads)
            .with_context(|| format!("{} records were not put, and {} cannot be written", self.count, path.display()))
    }

    /// Where the records are kept, for the end of a message.
    pub(super) fn kept(&self) -> String {
        match &self.file {
            Some((path, _)) if self.count > 0 => format!("; kept in {}", path.display()),
            _ => String::new(),
        }
    }

    /// The error of a put of which records failed.
    pub(super) fn finish(mut self, read: usize) -> Result<()> {
        let Some(error) = self.error.take() else { return Ok(()) };
        let outcome = if error.may_have_written() { "not acknowledged, but may have been written" } else { "not put" };
        let message = format!("{} of {read} records were {outcome}{}", self.count, self.kept());
        let error = anyhow::Error::new(error);
        let failure = Failure::new(exit::code(&error), message);
        let failure = match self.file {
            Some(_) => failure,
            None => failure.with_help("use --failed FILE to keep records that cannot be put"),
        };
        Err(error.context(failure))
    }
}
