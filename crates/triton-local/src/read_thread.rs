//! The thread that reads a stream's file: lists shards, fetches records, and polls for commits on behalf of all
//! readers.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use bytestring::ByteString;
use rusqlite::{Connection, params};
use tokio::sync::{oneshot, watch};
use triton_core::{Batch, ChildShard, Error, PartitionKey, Position, Record, Result, SequenceNumber, Shard, ShardId};
use triton_core::{ShardMap, Timestamp};

use crate::cursor::{Cursor, ShardRecords, Start};
use crate::error::{from_sqlite, storage, thread_gone};
use crate::layout::{self, MAX_SHARD_NUMBER, ShardRow, StreamRow};

/// Interval between polls for a commit, while a reader waits for one.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Bytes after which a fetch stops, so that a batch of large records stays small.
const FETCH_BYTES: usize = 1 << 20;

/// How long before now a reader that has read everything may have missed a record: a writer takes the arrival time before it
/// commits, and a slow disk or a busy machine delays the commit.
const COMMIT_DELAY: Duration = Duration::from_secs(10);

enum Request {
    CreatedAt {
        reply: oneshot::Sender<Result<Timestamp>>,
    },
    Shards {
        reply: oneshot::Sender<Result<Vec<Shard>>>,
    },
    Open {
        shard: ShardId,
        position: Position,
        reply: oneshot::Sender<Result<Cursor>>,
    },
    Fetch {
        cursor: Cursor,
        max_records: usize,
        reply: oneshot::Sender<Result<Fetched>>,
    },
    /// Polls for commits until this time.
    PollUntil {
        time: Instant,
    },
}

/// The result of a fetch.
pub(crate) enum Fetched {
    /// Records, if there are any, and the cursor after them.
    Batch(Batch, Cursor),
    /// The shard is closed and was read to its end; it was split or merged into these.
    End(Vec<ChildShard>),
}

/// A handle to the thread. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct ReadThread {
    requests: Option<mpsc::Sender<Request>>,
    commits: watch::Receiver<u64>,
    thread: Option<JoinHandle<()>>,
    file: PathBuf,
}

impl ReadThread {
    pub(crate) fn start(connection: Connection, file: &Path, not_found: Error) -> Result<Self> {
        let (requests, receiver) = mpsc::channel();
        let (commits_sender, commits) = watch::channel(0);
        let mut state = State {
            connection,
            file: file.into(),
            not_found,
            commits: commits_sender,
            data_version: None,
            poll_until: None,
        };
        let thread = std::thread::Builder::new()
            .name("triton-read".into())
            .spawn(move || state.serve(&receiver))
            .map_err(|error| storage(file, "no thread can be started", Some(error)))?;
        Ok(Self { requests: Some(requests), commits, thread: Some(thread), file: file.into() })
    }

    pub(crate) async fn created_at(&self) -> Result<Timestamp> {
        self.ask(|reply| Request::CreatedAt { reply }).await
    }

    pub(crate) async fn shards(&self) -> Result<Vec<Shard>> {
        self.ask(|reply| Request::Shards { reply }).await
    }

    pub(crate) async fn open(&self, shard: ShardId, position: Position) -> Result<Cursor> {
        self.ask(|reply| Request::Open { shard, position, reply }).await
    }

    pub(crate) async fn fetch(&self, cursor: Cursor, max_records: usize) -> Result<Fetched> {
        self.ask(|reply| Request::Fetch { cursor, max_records, reply }).await
    }

    /// Returns a receiver that is woken by a commit while the thread [polls](Self::poll_until).
    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        self.commits.clone()
    }

    /// Makes the thread poll for commits until this time.
    pub(crate) fn poll_until(&self, time: Instant) -> Result<()> {
        self.send(Request::PollUntil { time })
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let (reply, response) = oneshot::channel();
        self.send(request(reply))?;
        response.await.map_err(|_| thread_gone(&self.file))?
    }

    fn send(&self, request: Request) -> Result<()> {
        let sent = self.requests.as_ref().and_then(|requests| requests.send(request).ok());
        sent.ok_or_else(|| thread_gone(&self.file))
    }
}

impl Drop for ReadThread {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been reported to the waiting requests, by dropping their replies.
            drop(thread.join());
        }
    }
}

/// State of the thread.
struct State {
    connection: Connection,
    file: PathBuf,
    not_found: Error,
    /// Number of polls that found a commit.
    commits: watch::Sender<u64>,
    /// SQLite's `data_version`, which changes with each commit of another connection, as last polled.
    data_version: Option<i64>,
    poll_until: Option<Instant>,
}

impl State {
    fn serve(&mut self, requests: &mpsc::Receiver<Request>) {
        loop {
            let request = match self.poll_until {
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(_) => requests.recv_timeout(POLL_INTERVAL),
            };
            match request {
                // A failed send means that the caller was dropped.
                Ok(Request::CreatedAt { reply }) => drop(reply.send(self.created_at())),
                Ok(Request::Shards { reply }) => drop(reply.send(self.shards())),
                Ok(Request::Open { shard, position, reply }) => drop(reply.send(self.open(shard, position))),
                Ok(Request::Fetch { cursor, max_records, reply }) => {
                    drop(reply.send(self.fetch(cursor, max_records)));
                }
                Ok(Request::PollUntil { time }) => self.poll_until = self.poll_until.max(Some(time)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Some(until) = self.poll_until {
                self.poll_commits();
                self.poll_until = (Instant::now() < until).then_some(until);
            }
        }
    }

    /// Wakes the waiting readers if there was a commit since the last poll.
    fn poll_commits(&mut self) {
        let version = self
            .connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0)));
        // A failed poll counts as a commit: the waiting readers fetch, and their fetches report the failure.
        if version.is_err() || self.data_version != version.as_ref().ok().copied() {
            self.commits.send_modify(|commits| *commits += 1);
        }
        self.data_version = version.ok();
    }

    fn created_at(&mut self) -> Result<Timestamp> {
        let row = StreamRow::read(&self.connection).map_err(|error| from_sqlite(&self.file, error))?;
        row.map(|row| row.created_at()).ok_or_else(|| self.not_found.clone())
    }

    fn shards(&mut self) -> Result<Vec<Shard>> {
        let sqlite = |error| from_sqlite(&self.file, error);
        let transaction = self.connection.transaction().map_err(sqlite)?;
        StreamRow::read(&transaction).map_err(sqlite)?.ok_or_else(|| self.not_found.clone())?;
        layout::read_shards(&transaction).map_err(sqlite)
    }

    fn open(&mut self, shard: ShardId, position: Position) -> Result<Cursor> {
        let sqlite = |error| from_sqlite(&self.file, error);
        let transaction = self.connection.transaction().map_err(sqlite)?;
        let row = StreamRow::read(&transaction).map_err(sqlite)?.ok_or_else(|| self.not_found.clone())?;
        let not_found = || {
            let Error::StreamNotFound { stream, .. } = &self.not_found else { return self.not_found.clone() };
            Error::ShardNotFound { shard: shard.clone(), stream: stream.clone() }
        };
        let number = shard.number().filter(|&number| number <= MAX_SHARD_NUMBER).ok_or_else(not_found)?;
        let shard_row = ShardRow::read(&transaction, number).map_err(sqlite)?;
        // What can be opened is expected in the list: readers of its children would wait for it there.
        let shard_row = shard_row.filter(|shard| !shard.is_removed).ok_or_else(not_found)?;
        let records = ShardRecords { connection: &transaction, stream: &row, number };
        let start = Start::find(&records, &shard_row, position).map_err(sqlite)?;
        match start {
            Start::After(after) => Ok(Cursor::new(shard, number, row.first_sequence, after, position)),
            Start::PastRetention(position) => Err(Error::PastRetention { shard, position }),
            Start::NoRecord(position) => {
                let listed = layout::read_shard(&transaction, number).map_err(sqlite)?.ok_or_else(not_found)?;
                Err(ShardMap::no_record(&listed, position, row.next_sequence as u64))
            }
        }
    }

    fn fetch(&mut self, mut cursor: Cursor, max_records: usize) -> Result<Fetched> {
        let sqlite = |error| from_sqlite(&self.file, error);
        // Before the snapshot that the transaction reads.
        let now = layout::now();
        let transaction = self.connection.transaction().map_err(sqlite)?;
        let row = StreamRow::read(&transaction).map_err(sqlite)?;
        // A stream that was deleted and created again is another one.
        let row =
            row.filter(|row| row.first_sequence == cursor.first_sequence).ok_or_else(|| self.not_found.clone())?;
        let Some(shard) = ShardRow::read(&transaction, cursor.number).map_err(sqlite)? else {
            let problem = format!("{} no longer exists", cursor.shard);
            return Err(Error::Contract { backend: self.file.display().to_string(), problem });
        };
        if cursor.after < shard.removed_through {
            let position = SequenceNumber::from(cursor.after as u64);
            return Err(Error::PastRetention { shard: cursor.shard, position });
        }
        let (records, has_more) = read_records(&transaction, &row, &cursor, max_records).map_err(sqlite)?;
        if records.is_empty() && !shard.is_open {
            let children = layout::read_children(&transaction, cursor.number).map_err(sqlite)?;
            return Ok(Fetched::End(children.iter().map(ChildShard::from).collect()));
        }
        let last = records.last().map(|last| (last.sequence_number, last.arrival));
        if let Some((sequence_number, _)) = last {
            cursor.after = u64::try_from(sequence_number)? as i64;
        }
        let batch = match last {
            // Not caught up, even if the next record arrived in the same millisecond.
            Some((_, arrival)) if has_more => {
                Batch::new(records, Some(now.since(arrival).max(Duration::from_millis(1))))
            }
            _ => {
                let caught_up_at = now - COMMIT_DELAY;
                cursor.caught_up_at = cursor.caught_up_at.max(Some(caught_up_at));
                Batch::new(records, Some(Duration::ZERO)).with_caught_up_at(caught_up_at)
            }
        };
        Ok(Fetched::Batch(batch, cursor))
    }
}

/// Returns the records after the cursor, and whether the shard holds more.
fn read_records(
    connection: &Connection,
    row: &StreamRow,
    cursor: &Cursor,
    max_records: usize,
) -> rusqlite::Result<(Vec<Record>, bool)> {
    let mut statement = connection
        .prepare_cached("SELECT id, arrival, key, data FROM record WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3")?;
    // With one more, which is not read, to know whether there is one.
    let limit = i64::try_from(max_records).unwrap_or(i64::MAX).saturating_add(1);
    let after = row.record_id(cursor.number, cursor.after);
    let mut rows = statement.query(params![after, StreamRow::last_record_id(cursor.number), limit])?;
    // An id of its own for each batch. With a shared one, this thread and those that drop earlier batches would contend
    // for its reference count.
    let shard = ShardId::from(cursor.shard.as_str());
    let mut buffer = BytesMut::new();
    let mut records = Vec::new();
    let mut bytes = 0;
    while let Some(found) = rows.next()? {
        if records.len() == max_records || bytes >= FETCH_BYTES {
            return Ok((records, true));
        }
        let (key, data) = (found.get_ref(2)?.as_str()?, found.get_ref(3)?.as_blob()?);
        let size = key.len() + data.len();
        if buffer.capacity() < size {
            // Grows with the batch: few allocations for many records, and no large one for few.
            buffer.reserve(size.max(bytes).max(4096));
        }
        buffer.extend_from_slice(key.as_bytes());
        buffer.extend_from_slice(data);
        let mut data = buffer.split().freeze();
        let key = ByteString::try_from(data.split_to(key.len()))
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, error.into()))?;
        records.push(Record::new(
            shard.clone(),
            SequenceNumber::from(row.sequence(found.get(0)?) as u64),
            PartitionKey::stored(key),
            Timestamp::from_millis(found.get(1)?),
            data,
        ));
        bytes += size;
    }
    Ok((records, false))
}
