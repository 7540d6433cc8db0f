//! The measured jobs: the library on the local backend, and the plain loop over SQLite that it is compared with.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use triton_core::{CreateOptions, ReaderOptions, Start, Stream};
use triton_local::LocalStreams;

pub(crate) const RECORDS: usize = 1_000_000;
pub(crate) const STREAM: &str = "bench";

/// Rows per transaction, on both sides: the library's own number.
const ROWS: usize = 10_000;

/// Records per `put_many`.
const CALL: usize = 50_000;

/// 100 bytes as MessagePack.
#[derive(Deserialize, Serialize)]
pub(crate) struct Event<'a> {
    pub(crate) user: &'a str,
    pub(crate) msg: &'a str,
    pub(crate) ts: f64,
}

const MESSAGE: &str = "GET /catalogue/shoes/42?page=7&sort=price 200 5123 13.1 ms";

fn user(number: usize) -> String {
    format!("user-{number:012}")
}

#[derive(Clone, Copy)]
pub(crate) enum Job {
    PutLibrary,
    PutPlain,
    GetLibrary,
    GetPlain,
}

impl Job {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Job::PutLibrary => "put-library",
            Job::PutPlain => "put-plain",
            Job::GetLibrary => "get-library",
            Job::GetPlain => "get-plain",
        }
    }
}

pub(crate) fn run(job: &str, folder: &Path) -> Result<()> {
    match job {
        "put-library" => crate::runtime()?.block_on(put_library(folder)),
        "get-library" => crate::runtime()?.block_on(get_library(folder)),
        "put-plain" => put_plain(&folder.join("plain.db")),
        "get-plain" => get_plain(&folder.join("plain.db")),
        other => bail!("no job '{other}'"),
    }
}

pub(crate) async fn stream(folder: &Path) -> Result<Stream> {
    let streams = LocalStreams::new(folder.join("triton"));
    let client = streams.open_or_create(STREAM, CreateOptions::default()).await?;
    let config = "bench: {name: bench, partition_key: user, backend: local}";
    Ok(Stream::new(triton_core::Config::parse(config, "bench")?.stream(STREAM)?, client))
}

async fn put_library(folder: &Path) -> Result<()> {
    let stream = stream(folder).await?;
    for call in 0..RECORDS / CALL {
        let users: Vec<String> = (0..CALL).map(|row| user(call * CALL + row)).collect();
        let events: Vec<Event<'_>> =
            users.iter().map(|user| Event { user, msg: MESSAGE, ts: 1_433_969_276.172_019 }).collect();
        for outcome in stream.put_many(&events).await {
            outcome?;
        }
    }
    Ok(())
}

async fn get_library(folder: &Path) -> Result<()> {
    let stream = stream(folder).await?;
    let mut reader = stream.reader(Start::All, ReaderOptions::default().with_until_caught_up(true)).await?;
    let (mut count, mut bytes) = (0, 0);
    while let Some(batch) = reader.next_batch().await {
        for record in batch?.records {
            let event: Event<'_> = record.decode()?;
            bytes += event.msg.len() + event.user.len();
            count += 1;
        }
    }
    ensure!(count >= RECORDS && bytes > count, "{count} records");
    Ok(())
}

fn put_plain(file: &Path) -> Result<()> {
    let mut connection = Connection::open(file)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute_batch(
        "CREATE TABLE record (id INTEGER PRIMARY KEY, arrival INTEGER NOT NULL, key TEXT NOT NULL, data BLOB NOT NULL)",
    )?;
    let event = Event { user: &user(0), msg: MESSAGE, ts: 1_433_969_276.172_019 };
    let data = rmp_serde::to_vec_named(&event).context("encode")?;
    ensure!(data.len() == 100, "{} bytes", data.len());
    for chunk in 0..RECORDS / ROWS {
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO record VALUES (?1, ?2, ?3, ?4)")?;
            for row in 0..ROWS {
                let number = chunk * ROWS + row;
                insert.execute(params![number as i64, 1_433_969_276_172_i64, user(number), data])?;
            }
        }
        transaction.commit()?;
    }
    Ok(())
}

fn get_plain(file: &Path) -> Result<()> {
    let connection = Connection::open(file)?;
    let mut select = connection.prepare("SELECT id, arrival, key, data FROM record WHERE id >= ?1 ORDER BY id")?;
    let mut rows = select.query([0])?;
    let (mut count, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let (_id, _arrival): (i64, i64) = (row.get(0)?, row.get(1)?);
        let _key = row.get_ref(2)?.as_str()?;
        let event: Event<'_> = rmp_serde::from_slice(row.get_ref(3)?.as_blob()?)?;
        bytes += event.msg.len() + event.user.len();
        count += 1;
    }
    ensure!(count == RECORDS && bytes > count, "{count} records");
    Ok(())
}

/// Writes lines that become records of 100 bytes: {msg, ts} adds 19 bytes to a line.
pub(crate) fn write_lines(file: &Path) -> Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    for number in 0..RECORDS {
        writeln!(out, "{} {MESSAGE:<62}", user(number))?;
    }
    Ok(out.flush()?)
}
