//! `triton get`: follows a stream and prints its records.

mod from;

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use anyhow::Result;
use clap::Args;
use triton_stream::DecodeError;
use triton_stream::record::msgpack;
use triton_stream::{Error, Reader, ReaderOptions, Record, ShardId, ShardRef, Start, Stream, Timestamp};

use crate::args::{Global, StreamArg};
use crate::exit::{self, Code, Failure, Reported};
use crate::output::Output;
use crate::printer::{Printed, Printer};
use crate::session::{Session, shard_ids};
use crate::signals::{self, Signals};

use self::from::{From, Id};

/// Follow a stream
///
/// Reads every shard, through splits and merges, until Ctrl-C. Records fetched by then are still printed.
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) stream: StreamArg,
    /// Only these shards, by id or by number (see 'triton shards'), and those split or merged from them
    #[arg(short = 'd', long = "shard", value_name = "SHARD", num_args = 1..)]
    pub(crate) shards: Option<Vec<ShardRef>>,
    /// Where to start: latest, all, at:ID, after:ID, a time ago (-10m) or a time (RFC 3339). An ID is what get and put --ack
    /// print: SHARD:SEQ
    #[arg(long, value_name = "WHERE", default_value = "latest", allow_hyphen_values = true)]
    pub(crate) from: From,
    /// End after N records
    #[arg(short = 'n', long = "count", value_name = "N")]
    pub(crate) count: Option<u64>,
    /// End when every shard is read up to its newest record
    #[arg(short = 'e', long = "exit")]
    pub(crate) until_caught_up: bool,
    /// pretty, json, raw, or a format: %t stream, %p shard, %o sequence number, %k key, %s payload as JSON, %S raw size,
    /// %T arrival in ms
    #[arg(short, long, value_name = "FORMAT", default_value = "pretty")]
    pub(crate) output: Output,
    /// End with exit code 7 if a payload was not MessagePack
    #[arg(long)]
    pub(crate) strict: bool,
    /// Read by enhanced fan-out as the consumer NAME, which is registered if it does not exist
    #[arg(long, value_name = "NAME")]
    pub(crate) fan_out: Option<String>,
}

pub(crate) async fn run(global: &Global, args: GetArgs) -> Result<()> {
    let signals = Signals::listen()?;
    match signals.or_second(get(global, args, signals.clone())).await {
        Some(outcome) => outcome,
        None => signals::leave("interrupted before everything was printed".into()),
    }
}

async fn get(global: &Global, args: GetArgs, mut signals: Signals) -> Result<()> {
    let session = Session::new(global)?;
    let stream = tokio::select! {
        biased;
        // Nothing was fetched yet.
        () = signals.first() => return Ok(()),
        stream = open(&session, &args) => stream?,
    };
    let mut options = ReaderOptions::default().with_until_caught_up(args.until_caught_up);
    let shards = match &args.shards {
        Some(shards) => Some(shard_ids(global, stream.client(), shards).await?),
        None => None,
    };
    let start = start(&stream, &args, shards.as_deref()).await?;
    if let Some(shards) = shards {
        options = options.with_shards(shards);
    }
    let reader = tokio::select! {
        biased;
        // Nothing was fetched yet.
        () = signals.first() => return Ok(()),
        reader = stream.reader(start, options) => reader?,
    };

    let has_bad_data = Arc::new(AtomicBool::new(false));
    let renderer = Renderer {
        stream: stream.config().logical_name.clone(),
        output: args.output,
        is_strict: args.strict,
        warns: !global.quiet,
        to_terminal: io::stdout().is_terminal(),
        has_bad_data: Arc::clone(&has_bad_data),
    };
    let printer = Printer::start(move |records: Vec<Record>, out| renderer.render(&records, out));
    let failed = follow(reader, &printer, args.count, &mut signals).await;
    printer.finish().await?;
    if let Some(code) = failed {
        return Err(Reported(code).into());
    }
    if args.strict && has_bad_data.load(Ordering::Relaxed) {
        return Err(Failure::new(Code::BadData, "some payloads were not MessagePack (--strict)").into());
    }
    Ok(())
}

async fn open(session: &Session<'_>, args: &GetArgs) -> Result<Stream> {
    match &args.fan_out {
        Some(consumer) => session.kinesis.fan_out(&session.configure(&args.stream.stream)?, consumer).await,
        None => session.stream(&args.stream.stream).await,
    }
}

/// Where to start, in the reader's terms.
async fn start(stream: &Stream, args: &GetArgs, chosen: Option<&[ShardId]>) -> Result<Start> {
    Ok(match &args.from {
        From::Latest => Start::Latest,
        From::All => Start::All,
        From::At(id) => Start::At(id.within(shard_of(stream, id, chosen).await?)),
        From::After(id) => Start::After(id.within(shard_of(stream, id, chosen).await?)),
        From::Ago(ago) => Start::Time(Timestamp::from(SystemTime::now()) - *ago),
        From::Time(time) if *time > Timestamp::from(SystemTime::now()) => {
            return Err(Failure::new(Code::Usage, "--from: that time is in the future").into());
        }
        From::Time(time) => Start::Time(*time),
    })
}

/// The shard of a record: the one that its id names, or the one that `-d` gives, or the stream's only one.
async fn shard_of(stream: &Stream, id: &Id, chosen: Option<&[ShardId]>) -> Result<ShardId> {
    if let Some(shard) = &id.shard {
        return Ok(shard.clone());
    }
    if let Some([shard, others @ ..]) = chosen
        && others.iter().all(|other| other == shard)
    {
        return Ok(shard.clone());
    }
    let mut shards = stream.client().shards().await?;
    match (chosen, shards.len()) {
        (None, 1) => Ok(shards.remove(0).id),
        _ => Err(Failure::new(Code::Usage, "a sequence number is unique only within a shard")
            .with_help("name the shard too: SHARD:SEQ, or -d SHARD")
            .into()),
    }
}

/// Prints records until the reader ends. A shard's failure is reported at once, and the other shards go on. Returns the
/// exit code of the first failure.
async fn follow(
    mut reader: Reader,
    printer: &Printer<Vec<Record>>,
    count: Option<u64>,
    signals: &mut Signals,
) -> Option<Code> {
    let mut left = count.unwrap_or(u64::MAX);
    let (mut is_stopped, mut failed) = (false, None);
    while left > 0 {
        let batch = tokio::select! {
            biased;
            () = signals.first(), if !is_stopped => {
                is_stopped = true;
                reader.stop_handle().stop();
                continue;
            }
            batch = reader.next_batch() => batch,
        };
        match batch {
            Some(Ok(batch)) => {
                let mut records = batch.records;
                records.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                left -= records.len() as u64;
                if printer.print(records).await == Printed::Closed {
                    break;
                }
            }
            // Its shards were reported one by one.
            Some(Err(error @ Error::Incomplete { .. })) => {
                failed.get_or_insert(exit::code(&error.into()));
            }
            Some(Err(error)) => {
                // A deleted stream fails for every shard. It is reported once.
                let is_gone =
                    matches!(&error, Error::Shard { source, .. } if matches!(**source, Error::StreamNotFound { .. }));
                let gives_up = is_gone || error.is_retryable();
                let error = explain(error);
                exit::report(&error);
                failed.get_or_insert(exit::code(&error));
                if gives_up {
                    break;
                }
            }
            None => break,
        }
    }
    failed
}

/// A shard's failure. A reason that names the shard or the stream is reported by itself.
fn explain(error: Error) -> anyhow::Error {
    match error {
        Error::Shard { source, .. }
            if matches!(
                *source,
                Error::PastRetention { .. }
                    | Error::InvalidPosition { .. }
                    | Error::ShardRemoved { .. }
                    | Error::StreamNotFound { .. }
            ) =>
        {
            (*source).into()
        }
        error => error.into(),
    }
}

/// Renders records, on the printing thread.
struct Renderer {
    stream: String,
    output: Output,
    is_strict: bool,
    warns: bool,
    to_terminal: bool,
    has_bad_data: Arc<AtomicBool>,
}

impl Renderer {
    fn render(&self, records: &[Record], out: &mut Vec<u8>) {
        for record in records {
            if let Err(error) = self.output.write(out, &self.stream, record, self.to_terminal) {
                self.bad_data(record, &error, "; shown as base64");
            } else if self.is_strict
                && let Err(error) = msgpack::check(&record.data)
            {
                self.bad_data(record, &error, "");
            }
        }
    }

    fn bad_data(&self, record: &Record, error: &DecodeError, consequence: &str) {
        self.has_bad_data.store(true, Ordering::Relaxed);
        if self.warns {
            exit::warn(&format!("{} {}: {error}{consequence}", record.shard_id, record.sequence_number));
        }
    }
}
