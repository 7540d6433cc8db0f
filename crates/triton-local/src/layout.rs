//! Layout of a stream's file: the tables, the encoding of record ids, and the set-up of a connection.
//!
//! - `stream`: one row, with the next sequence number, the retention and the last arrival. Without a row, the file
//!   holds no stream, or a deleted one. A file is never removed, because SQLite's journals beside it could be left
//!   behind.
//! - `shard`: one row per shard, with sequence numbers as users see them.
//! - `record`: one row per record. The primary key combines shard and sequence number, so that reading a shard is one
//!   range scan and needs no index.
//!
//! Sequence numbers start at the stream's creation time in microseconds, so that a stream that is deleted and created
//! again never uses a number twice.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Params, Row, TransactionBehavior, params};
use triton_core::ShardMap;
use triton_core::{
    CreateOptions, Error, HashKey, HashKeyRange, ParseError, Result, SequenceNumber, Shard, ShardId, Timestamp,
};

use crate::error::{from_sqlite, storage};

/// Longest time that a connection waits for the transactions of other processes.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// Version of the file format: `PRAGMA user_version`.
const VERSION: i64 = 1;

/// `PRAGMA application_id`: "Trit".
const APPLICATION_ID: i64 = 0x5472_6974;

const SCHEMA: &str = "
    CREATE TABLE stream (
        one             INTEGER PRIMARY KEY CHECK (one = 1),
        first_sequence  INTEGER NOT NULL,
        next_sequence   INTEGER NOT NULL,
        last_arrival    INTEGER NOT NULL,  -- ms since 1970
        retention       INTEGER NOT NULL,  -- ms
        reshards        INTEGER NOT NULL   -- number of changes of the shards
    );
    CREATE TABLE shard (
        number          INTEGER PRIMARY KEY,
        parent          INTEGER,
        adjacent_parent INTEGER,
        first_hash_key  TEXT NOT NULL,
        last_hash_key   TEXT NOT NULL,
        first_sequence  INTEGER NOT NULL,
        last_sequence   INTEGER,           -- NULL: open
        removed_through INTEGER NOT NULL,  -- the highest sequence number that retention has removed
        closed_at       INTEGER,           -- ms since 1970
        is_removed      INTEGER NOT NULL   -- all of it is past retention: neither listed nor found, but its readers find its end
    );
    CREATE TABLE record (
        id              INTEGER PRIMARY KEY,  -- shard number << 43 | sequence number - stream.first_sequence
        arrival         INTEGER NOT NULL,     -- ms since 1970; never decreases
        key             TEXT NOT NULL,
        data            BLOB NOT NULL
    );";

const OFFSET_BITS: u32 = 43;
const MAX_OFFSET: i64 = (1 << OFFSET_BITS) - 1;
/// Highest shard number that fits into a record's id.
pub(crate) const MAX_SHARD_NUMBER: u64 = (1 << (63 - OFFSET_BITS)) - 1;

/// The row of `stream`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamRow {
    pub(crate) first_sequence: i64,
    pub(crate) next_sequence: i64,
    pub(crate) last_arrival: i64,
    pub(crate) retention: i64,
    pub(crate) reshards: i64,
}

impl StreamRow {
    /// Returns `None` if the file holds no stream.
    pub(crate) fn read(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached("SELECT first_sequence, next_sequence, last_arrival, retention, reshards FROM stream")?
            .query_row([], |row| {
                Ok(Self {
                    first_sequence: row.get(0)?,
                    next_sequence: row.get(1)?,
                    last_arrival: row.get(2)?,
                    retention: row.get(3)?,
                    reshards: row.get(4)?,
                })
            })
            .optional()
    }

    pub(crate) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection
            .prepare_cached("UPDATE stream SET next_sequence = ?1, last_arrival = ?2, reshards = ?3")?
            .execute(params![self.next_sequence, self.last_arrival, self.reshards])
            .map(drop)
    }

    /// The id of a record in its table. A sequence number below the stream's first gives the id before the shard's
    /// first.
    pub(crate) fn record_id(&self, shard: u64, sequence: i64) -> i64 {
        let offset = sequence.saturating_sub(self.first_sequence).clamp(-1, MAX_OFFSET);
        ((shard as i64) << OFFSET_BITS) + offset
    }

    /// Highest id that a record of the shard can have.
    pub(crate) fn last_record_id(shard: u64) -> i64 {
        ((shard as i64) << OFFSET_BITS) + MAX_OFFSET
    }

    /// The sequence number of a record, from its id.
    pub(crate) fn sequence(&self, record_id: i64) -> i64 {
        (record_id & MAX_OFFSET) + self.first_sequence
    }

    /// Creation time of the stream, from its first sequence number.
    pub(crate) fn created_at(&self) -> Timestamp {
        Timestamp::from_millis(self.first_sequence / 1_000)
    }

    /// Oldest arrival within retention, in milliseconds since 1970.
    pub(crate) fn oldest(&self, now: Timestamp) -> i64 {
        now.as_millis().saturating_sub(self.retention)
    }
}

/// This machine's time.
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

/// Creates the tables in an empty file, without a stream.
pub(crate) fn create_tables(file: &Path) -> Result<()> {
    let sqlite = |error| from_sqlite(file, error);
    let mut connection = Connection::open(file).map_err(sqlite)?;
    connection.pragma_update(None, "journal_mode", "wal").map_err(sqlite)?;
    let transaction = connection.transaction().map_err(sqlite)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(sqlite)?;
    transaction.pragma_update(None, "user_version", VERSION).map_err(sqlite)?;
    transaction.execute_batch(SCHEMA).map_err(sqlite)?;
    transaction.commit().map_err(sqlite)?;
    // Closing merges the journal into the file, which can then be moved alone.
    connection.close().map_err(|(_, error)| sqlite(error))
}

/// Creates a stream in the file. Returns `false` if the file holds one already.
pub(crate) fn create_stream(file: &Path, name: &str, options: CreateOptions) -> Result<bool> {
    let sqlite = |error| from_sqlite(file, error);
    let created_at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
    let first_sequence = i64::try_from(created_at).unwrap_or(1).max(1);
    let map = ShardMap::uniform(name, options.fixed_shards()?, first_sequence as u64)?;
    if options.retention.is_zero() {
        return Err(Error::Invalid { problem: "with a retention of 0 no record could ever be read".into() });
    }
    let retention = i64::try_from(options.retention.as_millis()).unwrap_or(i64::MAX);
    let mut connection = connect(file)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
    if StreamRow::read(&transaction).map_err(sqlite)?.is_some() {
        return Ok(false);
    }
    transaction
        .execute(
            "INSERT INTO stream VALUES (1, ?1, ?1, ?2, ?3, 0)",
            params![first_sequence, now().as_millis(), retention],
        )
        .map_err(sqlite)?;
    write_shards(&transaction, &map, now()).map_err(sqlite)?;
    transaction.commit().map_err(sqlite)?;
    Ok(true)
}

/// Connects to a stream's file, which must exist.
pub(crate) fn connect(file: &Path) -> Result<Connection> {
    let sqlite = |error| from_sqlite(file, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(file, flags).map_err(sqlite)?;
    connection.busy_handler(Some(wait_while_busy)).map_err(sqlite)?;
    connection.pragma_update(None, "synchronous", "full").map_err(sqlite)?;
    // A slow reader makes the journal grow: without a limit it would stay large.
    connection.pragma_update(None, "journal_size_limit", 64 << 20).map_err(sqlite)?;
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(sqlite);
    if pragma("application_id")? != APPLICATION_ID {
        return Err(storage(file, "not a Triton stream", None));
    }
    match pragma("user_version")? {
        VERSION => Ok(connection),
        version => Err(storage(file, format!("format {version} is newer than this Triton's ({VERSION})"), None)),
    }
}

/// Waits 1 to 2 ms for another process's transaction. A commit takes a few milliseconds, and SQLite's own busy handler
/// waits up to 100. The jitter keeps processes from retrying in step.
fn wait_while_busy(tries: i32) -> bool {
    let jitter =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos() % 1_000_000;
    std::thread::sleep(Duration::from_millis(1) + Duration::from_nanos(jitter.into()));
    // Each try waits 1.5 ms on average.
    Duration::from_micros(1500) * (tries.max(0) as u32) < BUSY_LIMIT
}

fn hash_key(row: &Row<'_>, column: usize) -> rusqlite::Result<HashKey> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error: ParseError| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn sequence_number(sequence: i64) -> SequenceNumber {
    SequenceNumber::from(sequence as u64)
}

/// The columns of a shard that reading its records needs.
pub(crate) struct ShardRow {
    pub(crate) first_sequence: i64,
    pub(crate) is_open: bool,
    /// The highest sequence number that retention has removed; 0 if it has removed none.
    pub(crate) removed_through: i64,
    /// Whether all of it is past retention.
    pub(crate) is_removed: bool,
}

impl ShardRow {
    pub(crate) fn read(connection: &Connection, number: u64) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached(
                "SELECT first_sequence, last_sequence IS NULL, removed_through, is_removed FROM shard WHERE number = ?1",
            )?
            .query_row([number], |row| {
                Ok(Self {
                    first_sequence: row.get(0)?,
                    is_open: row.get(1)?,
                    removed_through: row.get(2)?,
                    is_removed: row.get(3)?,
                })
            })
            .optional()
    }
}

/// Reads the shards within retention, sorted by id.
pub(crate) fn read_shards(connection: &Connection) -> rusqlite::Result<Vec<Shard>> {
    select_shards(connection, "NOT is_removed", params![])
}

/// Reads a shard, which retention may have removed.
pub(crate) fn read_shard(connection: &Connection, number: u64) -> rusqlite::Result<Option<Shard>> {
    Ok(select_shards(connection, "number = ?1", params![number])?.pop())
}

/// Reads the shards that a shard was split or merged into, sorted by id. None if retention has removed one of them: then the
/// list shows what came of it.
pub(crate) fn read_children(connection: &Connection, number: u64) -> rusqlite::Result<Vec<Shard>> {
    // A child has a higher number than its parents.
    let is_child = "number > ?1 AND ?1 IN (parent, adjacent_parent)";
    let has_removed = format!("SELECT 1 FROM shard WHERE {is_child} AND is_removed");
    if connection.prepare_cached(&has_removed)?.exists([number])? {
        return Ok(Vec::new());
    }
    select_shards(connection, is_child, params![number])
}

fn select_shards(connection: &Connection, which: &str, params: impl Params) -> rusqlite::Result<Vec<Shard>> {
    connection
        .prepare_cached(&format!(
            "SELECT number, parent, adjacent_parent, first_hash_key, last_hash_key, first_sequence, last_sequence
             FROM shard WHERE {which} ORDER BY number"
        ))?
        .query_map(params, |row| {
            Ok(Shard {
                id: ShardId::numbered(row.get(0)?),
                parent: row.get::<_, Option<u64>>(1)?.map(ShardId::numbered),
                adjacent_parent: row.get::<_, Option<u64>>(2)?.map(ShardId::numbered),
                hash_key_range: HashKeyRange { first: hash_key(row, 3)?, last: hash_key(row, 4)? },
                first_sequence_number: sequence_number(row.get(5)?),
                last_sequence_number: row.get::<_, Option<i64>>(6)?.map(sequence_number),
            })
        })?
        .collect()
}

/// Writes the new shards, and the last sequence numbers of those that were closed.
pub(crate) fn write_shards(connection: &Connection, map: &ShardMap, now: Timestamp) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO shard VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, iif(?7 IS NULL, NULL, ?8), 0)
         ON CONFLICT (number) DO UPDATE SET last_sequence = ?7, closed_at = ?8
         WHERE last_sequence IS NULL AND ?7 IS NOT NULL",
    )?;
    let number = |id: &ShardId| id.number();
    let sequence = |number: SequenceNumber| u64::try_from(number).ok();
    for shard in map.shards() {
        statement.execute(params![
            number(&shard.id),
            shard.parent.as_ref().and_then(number),
            shard.adjacent_parent.as_ref().and_then(number),
            shard.hash_key_range.first.to_string(),
            shard.hash_key_range.last.to_string(),
            sequence(shard.first_sequence_number),
            shard.last_sequence_number.and_then(sequence),
            now.as_millis(),
        ])?;
    }
    Ok(())
}

/// Checks that every shard number fits into a record's id.
///
/// # Errors
/// [`Error::Invalid`] if one does not.
pub(crate) fn check_numbers(map: &ShardMap) -> Result<()> {
    match map.shards().last().and_then(|shard| shard.id.number()) {
        Some(number) if number > MAX_SHARD_NUMBER => Err(Error::Invalid {
            problem: format!("a local stream can have at most {MAX_SHARD_NUMBER} shards over its lifetime"),
        }),
        _ => Ok(()),
    }
}
