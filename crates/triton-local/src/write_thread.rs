//! The thread that writes to a stream's file: puts in groups, changes of shards, and retention.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};
use triton_core::{Entries, Error, PutEntry, PutReceipt, Result, SequenceNumber, Shard, ShardMap, ShardRouter};

use crate::error::{from_sqlite, storage, thread_gone};
use crate::layout::{self, StreamRow};

/// Puts that share a transaction: at most so many records, so many bytes, or what came within so long.
pub(crate) const GROUP_RECORDS: usize = 10_000;
pub(crate) const GROUP_BYTES: usize = 8 << 20;
const GROUP_TIME: Duration = Duration::from_millis(10);

/// Puts that wait for the thread; with [`GROUP_BYTES`] a bound on what they hold.
const WAITING_PUTS: usize = 8;

/// How often records past retention are looked for, and how many at least are removed in one transaction.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
const SWEEP_RECORDS: usize = 2_000;

type Outcomes = Result<Vec<Result<PutReceipt>>>;
type Change = Box<dyn FnOnce(&mut ShardMap, &mut u64) -> Result<()> + Send>;

enum Request {
    Put { entries: Entries, reply: oneshot::Sender<Outcomes> },
    Change { change: Change, reply: oneshot::Sender<Result<()>> },
    Delete { reply: oneshot::Sender<Result<()>> },
}

/// The thread and the way to it. Dropping it waits for what was asked of it.
#[derive(Debug)]
pub(crate) struct Writer {
    /// Both are there until the writer is dropped.
    requests: Option<Requests>,
    thread: Option<JoinHandle<()>>,
}

/// Sends requests to the thread.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    sender: mpsc::Sender<Request>,
    file: PathBuf,
}

impl Writer {
    pub(crate) fn start(name: &str, file: &Path, not_found: Error) -> Result<Self> {
        let (sender, receiver) = mpsc::channel(WAITING_PUTS);
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
        Ok(Self { requests: Some(Requests { sender, file: file.into() }), thread: Some(thread) })
    }

    pub(crate) fn requests(&self) -> Option<Requests> {
        self.requests.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic was told to whoever was waiting.
            drop(thread.join());
        }
    }
}

impl Requests {
    pub(crate) async fn put(&self, entries: Entries) -> Outcomes {
        self.ask(|reply| Request::Put { entries, reply }).await
    }

    pub(crate) async fn change(
        &self,
        change: impl FnOnce(&mut ShardMap, &mut u64) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        self.ask(|reply| Request::Change { change: Box::new(change), reply }).await
    }

    pub(crate) async fn delete(&self) -> Result<()> {
        self.ask(|reply| Request::Delete { reply }).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.sender.send(request(reply)).await.map_err(|_| thread_gone(&self.file))?;
        answer.await.map_err(|_| thread_gone(&self.file))?
    }
}

/// What the thread owns.
struct State {
    name: String,
    file: PathBuf,
    not_found: Error,
    connection: Option<Connection>,
    /// The open shards as of this `stream.reshards`.
    shards: Option<(i64, OpenShards)>,
    last_sweep: Option<Instant>,
    /// Whether the last sweep left something.
    has_expired: bool,
}

/// Puts of one transaction: what each asked for, and what it will be told once the transaction is on disk.
#[derive(Default)]
struct Group {
    replies: Vec<(oneshot::Sender<Outcomes>, Vec<Result<PutReceipt>>)>,
    records: usize,
    bytes: usize,
}

impl State {
    fn serve(&mut self, mut requests: mpsc::Receiver<Request>) {
        let mut left_over = None;
        loop {
            let request = match left_over.take() {
                Some(request) => request,
                None if self.has_expired => match requests.try_recv() {
                    Ok(request) => request,
                    // Nobody is waiting: time for more of what is past retention.
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
                Request::Put { entries, reply } => left_over = self.put_group(entries, reply, &mut requests),
                Request::Change { change, reply } => drop(reply.send(self.change(change))),
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

    /// Puts this and what else is waiting in one transaction. Returns the request that did not fit in.
    fn put_group(
        &mut self,
        entries: Entries,
        reply: oneshot::Sender<Outcomes>,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Option<Request> {
        let mut group = Group::default();
        let mut left_over = None;
        let committed = self.write_group(entries, reply, requests, &mut group, &mut left_over);
        for (reply, outcomes) in group.replies {
            // Who no longer waits for the answer has said that any outcome will do.
            drop(reply.send(committed.clone().map(|()| outcomes)));
        }
        // Faster than what comes in, or a busy stream would grow without end.
        self.sweep_if_due(SWEEP_RECORDS.max(2 * group.records));
        left_over
    }

    fn write_group(
        &mut self,
        entries: Entries,
        reply: oneshot::Sender<Outcomes>,
        requests: &mut mpsc::Receiver<Request>,
        group: &mut Group,
        left_over: &mut Option<Request>,
    ) -> Result<()> {
        // Whatever fails before the first insert is told to the first put.
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
            if let Some((_, waiting)) = group.replies.last_mut() {
                *waiting = outcomes;
            }
            if started.elapsed() >= GROUP_TIME {
                break;
            }
            match requests.try_recv() {
                Ok(Request::Put { entries: more, reply }) if group.has_room(&more) => {
                    group.replies.push((reply, Vec::new()));
                    entries = more;
                }
                Ok(other) => {
                    *left_over = Some(other);
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

    fn change(&mut self, change: Change) -> Result<()> {
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

    /// Empties the tables, so that other processes that hold the file open see that the stream is gone.
    fn delete(&mut self) -> Result<()> {
        let (file, not_found) = (self.file.clone(), self.not_found.clone());
        let sqlite = |error| from_sqlite(&file, error);
        self.shards = None;
        let connection = self.connection()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        StreamRow::read(&transaction).map_err(sqlite)?.ok_or(not_found)?;
        transaction.execute_batch("DELETE FROM stream; DELETE FROM shard; DELETE FROM record;").map_err(sqlite)?;
        transaction.commit().map_err(sqlite)?;
        // Gives the space back. It waits for nobody: whoever still reads keeps the file large until it is used again.
        if let Err(error) = connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::debug!(file = %file.display(), %error, "the space of a removed stream is not given back");
        }
        Ok(())
    }

    /// Removes up to so many records past retention, if it was not done lately or there were more.
    fn sweep_if_due(&mut self, limit: usize) {
        if !self.has_expired && self.last_sweep.is_some_and(|last| last.elapsed() < SWEEP_EVERY) {
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
    fn has_room(&self, entries: &[PutEntry]) -> bool {
        self.records + entries.len() <= GROUP_RECORDS
            && self.bytes + entries.iter().map(PutEntry::size).sum::<usize>() <= GROUP_BYTES
    }
}

/// The open shards, and their numbers in the order of the router.
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
        receipts.push(Ok(PutReceipt { shard_id, sequence_number: SequenceNumber::from(sequence as u64) }));
    }
    Ok(receipts)
}

/// The numbers of all shards.
fn shard_numbers(connection: &Connection) -> rusqlite::Result<Vec<u64>> {
    connection
        .prepare_cached("SELECT number FROM shard WHERE NOT is_removed ORDER BY number")?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Whether anything is past retention; asked without a lock, so that idle streams are left alone.
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

/// Removes up to `limit` records that arrived before `oldest`, and from the list the shards that closed before it and are
/// empty.
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
    let mut note = transaction.prepare_cached("UPDATE shard SET removed_through = ?2 WHERE number = ?1")?;
    let mut removed = 0;
    for number in shard_numbers(transaction)? {
        let (first, last) = (row.record_id(number, row.first_sequence), StreamRow::last_record_id(number));
        let (id, count): (Option<i64>, usize) = last_expired
            .query_row(params![first, last, limit - removed, oldest], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if let Some(id) = id {
            remove.execute([first, id])?;
            note.execute(params![number, row.sequence(id)])?;
            removed += count;
        }
    }
    let gone = transaction.execute(
        "UPDATE shard SET is_removed = 1 WHERE NOT is_removed AND closed_at < ?1 AND NOT EXISTS
            (SELECT 1 FROM record WHERE id BETWEEN number << 43 AND (number << 43) + ?2)",
        params![oldest, StreamRow::last_record_id(0)],
    )?;
    if gone > 0 {
        row.reshards += 1;
        row.write(transaction)?;
    }
    Ok(removed)
}
