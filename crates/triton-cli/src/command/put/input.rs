//! Reading the input on a thread of its own, so that a stop interrupts even a read that waits for a terminal.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use tokio::sync::mpsc;
use triton_stream::{Limits, PutEntry};

use crate::exit;

use super::args::PutArgs;
use super::encode::LineEncoder;
use super::lines::{Line, Lines};

/// Bytes per read.
const READ_BYTES: usize = 256 << 10;

/// Bytes of entries at which a chunk is sent.
const CHUNK_BYTES: usize = 4 << 20;

/// Dropping it stops the reading. Lines that were read before are still sent.
#[derive(Debug)]
pub(super) struct Stop(
    #[expect(dead_code, reason = "held for its drop, which the other end of the pipe sees")] OwnedFd,
);

#[derive(Debug)]
pub(super) struct Input {
    files: Vec<PathBuf>,
    stopped: OwnedFd,
    encoder: LineEncoder,
    delimiter: Vec<u8>,
    keeps_delimiter: bool,
    skip_bad: bool,
    warns: bool,
    max_entries: usize,
    max_line: usize,
    chunk: Vec<PutEntry>,
    chunk_bytes: usize,
}

/// Whether to go on reading.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    Readable,
    Stopped,
}

impl Input {
    pub(super) fn new(args: &PutArgs, encoder: LineEncoder, limits: Limits, warns: bool) -> Result<(Self, Stop)> {
        let (stopped, stop) = rustix::pipe::pipe().context("a pipe cannot be created")?;
        let files = if args.files.is_empty() { vec!["-".into()] } else { args.files.clone() };
        // The newline belongs to a message. It only separates records of other forms, and so does a delimiter of the
        // user's.
        let keeps_delimiter = args.delimiter.is_none() && !args.raw && !args.json;
        let input = Self {
            files,
            stopped,
            encoder,
            delimiter: args.delimiter.as_ref().map_or(b"\n".to_vec(), |delimiter| delimiter.0.clone()),
            keeps_delimiter,
            skip_bad: args.skip_bad,
            warns,
            max_entries: limits.max_entries,
            // JSON writes a byte in up to six characters, and spaces around them; other forms in one.
            max_line: limits.max_record_bytes.saturating_mul(if args.json { 8 } else { 1 }),
            chunk: Vec::new(),
            chunk_bytes: 0,
        };
        Ok((input, Stop(stop)))
    }

    /// Reads all files and sends their lines as entries. Ends early when stopped, or when the receiver is closed.
    pub(super) fn read(&mut self, chunks: &mpsc::Sender<Vec<PutEntry>>) -> Result<()> {
        for file in std::mem::take(&mut self.files) {
            let read = if file.as_os_str() == "-" {
                self.read_from(rustix::stdio::stdin(), None, chunks)
            } else {
                let opened = open(&file).with_context(|| format!("{} cannot be opened", file.display()));
                opened.and_then(|opened| self.read_from(opened.as_fd(), Some(&file), chunks))
            };
            // Lines before an invalid one are put.
            self.send(chunks);
            if read? == Next::Stopped {
                break;
            }
        }
        Ok(())
    }

    fn read_from(
        &mut self,
        input: BorrowedFd<'_>,
        file: Option<&Path>,
        chunks: &mpsc::Sender<Vec<PutEntry>>,
    ) -> Result<Next> {
        let mut lines = Lines::new(&self.delimiter, self.keeps_delimiter, self.max_line);
        let mut buffer = vec![0; READ_BYTES];
        let mut number = 0;
        loop {
            if !self.is_readable(input)? {
                // Lines of a slow pipe do not wait for the chunk to fill.
                self.send(chunks);
            }
            if self.wait(input)? == Next::Stopped {
                return Ok(Next::Stopped);
            }
            let read = match rustix::io::read(input, &mut buffer) {
                Err(Errno::INTR | Errno::AGAIN) => continue,
                read => read.with_context(|| format!("{} cannot be read", name(file)))?,
            };
            lines.push(&buffer[..read]);
            while let Some(line) = lines.next() {
                number += 1;
                if !self.push(&line, file, number, chunks)? {
                    return Ok(Next::Stopped);
                }
            }
            if read == 0 {
                if let Some(line) = lines.rest() {
                    self.push(&line, file, number + 1, chunks)?;
                }
                return Ok(Next::Readable);
            }
        }
    }

    /// Adds a line to the chunk, and sends the chunk when it is full. Returns false if the receiver is closed.
    fn push(
        &mut self,
        line: &Line<'_>,
        file: Option<&Path>,
        number: u64,
        chunks: &mpsc::Sender<Vec<PutEntry>>,
    ) -> Result<bool> {
        let entry = match self.encoder.encode(line) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(true),
            Err(error) => {
                let location = match file {
                    Some(file) => format!("{}: line {number}", file.display()),
                    None => format!("line {number}"),
                };
                return self.bad_line(error, &location).map(|()| true);
            }
        };
        self.chunk_bytes += entry.size();
        self.chunk.push(entry);
        if self.chunk.len() == self.max_entries || self.chunk_bytes >= CHUNK_BYTES {
            return Ok(self.send(chunks));
        }
        Ok(true)
    }

    fn bad_line(&self, error: anyhow::Error, location: &str) -> Result<()> {
        if !self.skip_bad {
            return Err(exit::at(location, error));
        }
        if self.warns {
            exit::warn(&format!("{location}: {error}; skipped"));
        }
        Ok(())
    }

    /// Sends the chunk. Returns false if the receiver is closed.
    fn send(&mut self, chunks: &mpsc::Sender<Vec<PutEntry>>) -> bool {
        if self.chunk.is_empty() {
            return !chunks.is_closed();
        }
        self.chunk_bytes = 0;
        let next = Vec::with_capacity(self.chunk.len());
        chunks.blocking_send(std::mem::replace(&mut self.chunk, next)).is_ok()
    }

    fn is_readable(&self, input: BorrowedFd<'_>) -> Result<bool> {
        let mut polled = [PollFd::from_borrowed_fd(input, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut polled, Some(&now)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error).context("the input cannot be waited for"),
        }
    }

    fn wait(&self, input: BorrowedFd<'_>) -> Result<Next> {
        loop {
            let stopped = self.stopped.as_fd();
            let mut polled =
                [PollFd::from_borrowed_fd(stopped, PollFlags::IN), PollFd::from_borrowed_fd(input, PollFlags::IN)];
            match poll(&mut polled, None) {
                Ok(_) if !polled[0].revents().is_empty() => return Ok(Next::Stopped),
                Ok(_) => return Ok(Next::Readable),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("the input cannot be waited for"),
            }
        }
    }
}

/// Opens without blocking. A named pipe without a writer is then polled like other input.
fn open(file: &Path) -> std::io::Result<File> {
    let without_waiting = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(without_waiting).open(file)
}

fn name(file: Option<&Path>) -> String {
    file.map_or("stdin".into(), |file| file.display().to_string())
}
