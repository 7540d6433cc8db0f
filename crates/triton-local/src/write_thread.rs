//! The thread that writes to a stream's file: group commits of puts, changes of shards, and retention.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};
use triton_core::{Entries, Error, PutEntry, PutReceipt, Result, Shard, ShardMap, ShardRouter};

use crate::error::{from_sqlite, storage, thread_gone};
use crate::layout::{self, StreamRow};

/// Limits of a group commit: records, bytes, and the time to collect them.
pub(crate) const GROUP_RECORDS: usize = 10_000;
pub(crate) const GROUP_BYTES: usize = 8 << 20;
const GROUP_TIME: Duration = Duration::from_millis(10);

/// Puts that may queue for the thread. As each holds at most [`GROUP_BYTES`], this bounds their memory.
const QUEUED_PUTS: usize = 8;

/// Interval between sweeps, which remove records past retention. A sweep removes up to [`SWEEP_RECORDS`], or more after
/// a large group commit.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
const SWEEP_RECORDS: usize = 2_000;

type Outcomes = Result<Vec<Result<PutReceipt>>>;
type ShardChange = Box<dyn FnOnce(&mut ShardMap, &mut u64) -> Result<()> + Send>;

enum Request {
    Put { entries: Entries, reply: oneshot::Sender<Outcomes> },
    ChangeShards { change: ShardChange, reply: oneshot::Sender<Result<()>> },
    Delete { reply: oneshot::Sender<Result<()>> },
}

/// Owner of the thread. Dropping it waits for the queued requests.
#[derive(Debug)]
pub(crate) struct WriteThread {
    /// Both are `Some` until the drop.
    handle: Option<WriteHandle>,
    thread: Option<JoinHandle<()>>,
}

/// Sends requests to the thread.
#[derive(Clone, Debug)]
pub(crate) struct WriteHandle {
    sender: mpsc::Sender<Request>,
    file: PathBuf,
}

impl WriteThread {
    pub(crate) fn start(name: &str, file: &Path, not_found: Error) -> Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUED_PUTS);
        let mut state = State {
            name: name.into(),
            file: file.into(),
            not_found,
            connection: None,
            shards: None,
            last_sweep: None,
            has_expired: false,
        };
        let thread = std::thread::Builder::new()
            .name("triton-write".into())
            .spawn(move || state.serve(receiver))
            .map_err(|error| storage(file, "no thread can be started", Some(error)))?;
        Ok(Self { handle: Some(WriteHandle { sender, file: file.into() }), thread: Some(thread) })
    }

    pub(crate) fn handle(&self) -> Option<WriteHandle> {
        self.handle.clone()
    }
}

impl Drop for WriteThread {
    fn drop(&mut self) {
        self.handle = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been reported to the waiting requests, by dropping their replies.
            drop(thread.join());
        }
    }
}

impl WriteHandle {
    pub(crate) async fn put(&self, entries: Entries) -> Outcomes {
        self.ask(|reply| Request::Put { entries, reply }).await
    }

    pub(crate) async fn change_shards(
        &self,
        change: impl FnOnce(&mut ShardMap, &mut u64) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        self.ask(|reply| Request::ChangeShards { change: Box::new(change), reply }).await
    }

    pub(crate) async fn delete(&self) -> Result<()> {
        self.ask(|reply| Request::Delete { reply }).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let (reply, response) = oneshot::channel();
        self.sender.send(request(reply)).await.map_err(|_| thread_gone(&self.file))?;
        response.await.map_err(|_| thread_gone(&self.file))?
    }
}

/// State of the thread.
struct State {
    name: String,
    file: PathBuf,
    not_found: Error,
    connection: Option<Connection>,
    /// The open shards, and the `stream.reshards` at which they were read.
    shards: Option<(i64, OpenShards)>,
    last_sweep: Option<Instant>,
    /// Whether the last sweep left records past retention.
    has_expired: bool,
}

/// The puts of one transaction. Each gets its reply once the transaction is on disk.
#[derive(Default)]
struct Group {
    replies: Vec<(oneshot::Sender<Outcomes>, Vec<Result<PutReceipt>>)>,
    records: usize,
    bytes: usize,
}

impl State {
    fn serve(&mut self, mut requests: mpsc::Receiver<Request>) {
        let mut next_request = None;
        loop {
            let request = match next_request.take() {
                Some(request) => request,
                None if self.has_expired => match requests.try_recv() {
                    Ok(request) => request,
                    // Idle: remove more records past retention.
                    Err(mpsc::error::TryRecvError::Empty) => {
                        self.sweep_if_due(SWEEP_RECORDS);
                        continue;
                    }
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                },
                None => match requests.blocking_recv() {
                    Some(request) => request,
                    None => return,
                },
            };
            match request {
                Request::Put { entries, reply } => next_request = self.put_group(entries, reply, &mut requests),
                Request::ChangeShards { change, reply } => drop(reply.send(self.change_shards(change))),
                Request::Delete { reply } => drop(reply.send(self.delete())),
            }
        }
    }

    fn connection(&mut self) -> Result<&mut Connection> {
        match &mut self.connection {
            Some(connection) => Ok(connection),
            none => Ok(none.insert(layout::connect(&self.file)?)),
        }
    }

    /// Writes this put and the queued ones in one transaction. Returns the request that followed, if it was received
    /// but did not fit into the transaction.
    fn put_group(
        &mut self,
        entries: Entries,
        reply: oneshot::Sender<Outcomes>,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Option<Request> {
        let mut group = Group::default();
        let mut next_request = None;
        let committed = self.write_group(entries, reply, requests, &mut group, &mut next_request);
        for (reply, outcomes) in group.replies {
            // A failed send means that the caller was dropped.
            drop(reply.send(committed.clone().map(|()| outcomes)));
        }
        // Removes more than was written, or a busy stream would grow without bound.
        self.sweep_if_due(SWEEP_RECORDS.max(2 * group.records));
        next_request
    }

    fn write_group(
        &mut self,
        entries: Entries,
        reply: oneshot::Sender<Outcomes>,
        requests: &mut mpsc::Receiver<Request>,
        group: &mut Group,
        next_request: &mut Option<Request>,
    ) -> Result<()> {
        // Before anything can fail, so that the failure reaches the first put.
        group.replies.push((reply, Vec::new()));
        let (file, not_found) = (self.file.clone(), self.not_found.clone());
        let sqlite = |error| from_sqlite(&file, error);
        let mut shards = self.shards.take();
        let started = Instant::now();
        let transaction =
            self.connection()?.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        let mut row = StreamRow::read(&transaction).map_err(sqlite)?.ok_or(not_found)?;
        if shards.as_ref().is_none_or(|(reshards, _)| *reshards != row.reshards) {
            let listed = layout::read_shards(&transaction).map_err(sqlite)?;
            let uncovered = || storage(&file, "its open shards do not cover every key", None);
            shards = Some((row.reshards, OpenShards::new(&listed).ok_or_else(uncovered)?));
        }
        let Some((_, open)) = &shards else { return Err(thread_gone(&file)) };
        row.last_arrival = row.last_arrival.max(layout::now().as_millis());
        let mut entries = entries;
        loop {
            group.records += entries.len();
            group.bytes += entries.iter().map(PutEntry::size).sum::<usize>();
            let outcomes = insert(&transaction, open, &mut row, &entries).map_err(sqlite)?;
            if let Some((_, reply_outcomes)) = group.replies.last_mut() {
                *reply_outcomes = outcomes;
            }
            if started.elapsed() >= GROUP_TIME {
                break;
            }
            match requests.try_recv() {
                Ok(Request::Put { entries: more, reply }) if group.fits(&more) => {
                    group.replies.push((reply, Vec::new()));
                    entries = more;
                }
                Ok(other) => {
                    *next_request = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        row.write(&transaction).map_err(sqlite)?;
        transaction.commit().map_err(sqlite)?;
        self.shards = shards;
        Ok(())
    }

    fn change_shards(&mut self, change: ShardChange) -> Result<()> {
        let (file, not_found, name) = (self.file.clone(), self.not_found.clone(), self.name.clone());
        let sqlite = |error| from_sqlite(&file, error);
        self.shards = None;
        let transaction =
            self.connection()?.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        let mut row = StreamRow::read(&transaction).map_err(sqlite)?.ok_or(not_found)?;
        let mut map = ShardMap::from_shards(&name, layout::read_shards(&transaction).map_err(sqlite)?);
        let mut sequence = row.next_sequence as u64;
        change(&mut map, &mut sequence)?;
        layout::check_numbers(&map)?;
        layout::write_shards(&transaction, &map, layout::now()).map_err(sqlite)?;
        row.next_sequence = sequence as i64;
        row.reshards += 1;
        row.write(&transaction).map_err(sqlite)?;
        transaction.commit().map_err(sqlite)
    }

    /// Empties the tables, so that other processes that have the file open see that the stream is deleted.
    fn delete(&mut self) -> Result<()> {
        let (file, not_found) = (self.file.clone(), self.not_found.clone());
        let sqlite = |error| from_sqlite(&file, error);
        self.shards = None;
        let connection = self.connection()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        StreamRow::read(&transaction).map_err(sqlite)?.ok_or(not_found)?;
        transaction.execute_batch("DELETE FROM stream; DELETE FROM shard; DELETE FROM record;").map_err(sqlite)?;
        transaction.commit().map_err(sqlite)?;
        // Frees the space, unless a reader still uses the file: then it stays large until the next stream of its name.
        if let Err(error) = connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::debug!(file = %file.display(), %error, "the space of a deleted stream was not freed");
        }
        Ok(())
    }

    /// Removes up to `limit` records past retention, if the interval has passed or the last sweep left some.
    fn sweep_if_due(&mut self, limit: usize) {
        if !self.has_expired && self.last_sweep.is_some_and(|last| last.elapsed() < SWEEP_INTERVAL) {
            return;
        }
        self.last_sweep = Some(Instant::now());
        self.has_expired = match self.sweep(limit) {
            Ok(removed) => removed == limit,
            Err(error) => {
                tracing::warn!(file = %self.file.display(), %error, "records past retention were not removed");
                false
            }
        };
    }

    fn sweep(&mut self, limit: usize) -> Result<usize> {
        let file = self.file.clone();
        let sqlite = |error| from_sqlite(&file, error);
        let now = layout::now();
        let connection = self.connection()?;
        let Some(row) = StreamRow::read(connection).map_err(sqlite)? else { return Ok(0) };
        if !is_due(connection, &row, row.oldest(now)).map_err(sqlite)? {
            return Ok(0);
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        let Some(row) = StreamRow::read(&transaction).map_err(sqlite)? else { return Ok(0) };
        let removed = remove_expired(&transaction, row, row.oldest(now), limit).map_err(sqlite)?;
        transaction.commit().map_err(sqlite)?;
        Ok(removed)
    }
}

impl Group {
    /// Whether these entries fit into the group.
    fn fits(&self, entries: &[PutEntry]) -> bool {
        self.records + entries.len() <= GROUP_RECORDS
            && self.bytes + entries.iter().map(PutEntry::size).sum::<usize>() <= GROUP_BYTES
    }
}

/// The open shards. `numbers` has the order of the router's shards.
struct OpenShards {
    router: ShardRouter,
    numbers: Vec<u64>,
}

impl OpenShards {
    fn new(shards: &[Shard]) -> Option<Self> {
        let router = ShardRouter::new(shards)?;
        let numbers = router.shards().iter().map(|id| id.number()).collect::<Option<_>>()?;
        Some(Self { router, numbers })
    }
}

fn insert(
    transaction: &Transaction<'_>,
    open: &OpenShards,
    row: &mut StreamRow,
    entries: &[PutEntry],
) -> rusqlite::Result<Vec<Result<PutReceipt>>> {
    let mut statement = transaction.prepare_cached("INSERT INTO record VALUES (?1, ?2, ?3, ?4)")?;
    let mut receipts = Vec::with_capacity(entries.len());
    for entry in entries {
        let index = open.router.route(|| entry.hash_key());
        let (number, shard_id) = (open.numbers[index], open.router.shards()[index].clone());
        let sequence = row.next_sequence;
        row.next_sequence += 1;
        statement.execute(params![
            row.record_id(number, sequence),
            row.last_arrival,
            entry.partition_key.as_str(),
            &entry.data[..]
        ])?;
        receipts.push(Ok(PutReceipt::new(shard_id, sequence as u64)));
    }
    Ok(receipts)
}

/// Numbers of the shards within retention.
fn shard_numbers(connection: &Connection) -> rusqlite::Result<Vec<u64>> {
    connection
        .prepare_cached("SELECT number FROM shard WHERE NOT is_removed ORDER BY number")?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Whether any record or shard is past retention. Takes no write lock, so that sweeps do not block other processes.
fn is_due(connection: &Connection, row: &StreamRow, oldest: i64) -> rusqlite::Result<bool> {
    let mut first = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM (SELECT arrival FROM record WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 1)
                        WHERE arrival < ?3)",
    )?;
    for number in shard_numbers(connection)? {
        let bounds = params![row.record_id(number, row.first_sequence), StreamRow::last_record_id(number), oldest];
        if first.query_row(bounds, |row| row.get(0))? {
            return Ok(true);
        }
    }
    let closed: i64 = connection
        .prepare_cached("SELECT count(*) FROM shard WHERE NOT is_removed AND closed_at < ?1")?
        .query_row([oldest], |row| row.get(0))?;
    Ok(closed > 0)
}

/// Removes up to `limit` records that arrived before `oldest`, and marks empty shards that closed before it as removed, each
/// after its parents. Returns the number of records removed.
fn remove_expired(
    transaction: &Transaction<'_>,
    mut row: StreamRow,
    oldest: i64,
    limit: usize,
) -> rusqlite::Result<usize> {
    let mut last_expired = transaction.prepare_cached(
        "SELECT max(id), count(*) FROM
            (SELECT id, arrival FROM record WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3) WHERE arrival < ?4",
    )?;
    let mut remove = transaction.prepare_cached("DELETE FROM record WHERE id BETWEEN ?1 AND ?2")?;
    let mut set_removed_through =
        transaction.prepare_cached("UPDATE shard SET removed_through = ?2 WHERE number = ?1")?;
    let mut remove_shard = transaction.prepare_cached(
        "UPDATE shard SET is_removed = 1 WHERE number = ?1 AND closed_at < ?4
            AND NOT EXISTS (SELECT 1 FROM record WHERE id BETWEEN ?2 AND ?3)
            AND NOT EXISTS (SELECT 1 FROM shard AS older
                            WHERE older.number IN (shard.parent, shard.adjacent_parent) AND NOT older.is_removed)",
    )?;
    let (mut removed, mut removed_shards) = (0, 0);
    // Parents have lower numbers than their children.
    for number in shard_numbers(transaction)? {
        let (first, last) = (row.record_id(number, row.first_sequence), StreamRow::last_record_id(number));
        let (id, count): (Option<i64>, usize) = last_expired
            .query_row(params![first, last, limit - removed, oldest], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if let Some(id) = id {
            remove.execute([first, id])?;
            set_removed_through.execute(params![number, row.sequence(id)])?;
            removed += count;
        }
        removed_shards += remove_shard.execute(params![number, first, last, oldest])?;
    }
    if removed_shards > 0 {
        row.reshards += 1;
        row.write(transaction)?;
    }
    Ok(removed)
}
