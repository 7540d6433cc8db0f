//! `triton put`: lines in, records out; a line counts as put when it is durable.

mod args;
mod encode;
mod failed;
mod input;
mod lines;
mod progress;

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use triton_stream::memory::Memory;
use triton_stream::{Budget, Error, Limits, PutEntry, PutReceipt, Stream, StreamClient, StreamConfig, Ticket};

use crate::args::Global;
use crate::exit::{self, ClosedPipe};
use crate::printer::{Printed, Printer};
use crate::session::Session;
use crate::signals::{self, Signals};

pub(crate) use self::args::PutArgs;
use self::encode::LineEncoder;
use self::failed::FailedRecords;
use self::input::{Input, Stop};
use self::progress::Progress;

/// Bytes of records without an outcome: about what 300 shards accept in a round trip.
const BUDGET: usize = 16 << 20;

/// Number of chunks queued by the reading thread.
const QUEUED_CHUNKS: usize = 1;

/// Time for the reading thread to send its last chunks, after a second signal.
const LAST_CHUNKS: Duration = Duration::from_secs(1);

pub(crate) async fn run(global: &Global, args: PutArgs) -> Result<()> {
    let mut signals = Signals::listen()?;
    let session = Session::new(global)?;
    let config = with_flags(session.configure(&args.stream.stream)?, &args);
    let opening = open(&session, &config, args.dry_run);
    let (stream, limits) = tokio::select! {
        biased;
        // Nothing was read yet.
        () = signals.first() => return Ok(()),
        opened = opening => opened?,
    };
    let encoder = LineEncoder::new(&args, &config, limits)?;
    let failed = FailedRecords::new(&args)?;

    let (sender, chunks) = mpsc::channel(QUEUED_CHUNKS);
    let (mut input, stop) = Input::new(&args, encoder, limits, !global.quiet)?;
    let reading = tokio::task::spawn_blocking(move || input.read(&sender));

    let mut put = Put {
        stream,
        signals: signals.clone(),
        stop: Some(stop),
        progress: Progress::new(global),
        read: 0,
        chunk: VecDeque::new(),
        in_flight: VecDeque::new(),
        bytes_in_flight: 0,
        chunks,
        failed,
        printer: args.ack.then(|| Printer::start(render_receipts)),
        unprinted: None,
        is_dry_run: args.dry_run,
    };
    let Some(outcome) = signals.or_second(put.all()).await else {
        let message = put.interrupted().await;
        signals::leave(message?)
    };
    // After a failure the reading thread may still be in the middle of the input.
    put.stop = None;
    put.chunks.close();
    // An invalid line is reported after all lines before it are put and acknowledged.
    let read = reading.await.context("the reading thread panicked");
    outcome?;
    match (put.finish().await, read?) {
        (Err(refused), Err(bad_line)) => {
            exit::report(&refused);
            Err(bad_line)
        }
        (refused, read) => refused.and(read),
    }
}

async fn open(session: &Session<'_>, config: &StreamConfig, is_dry_run: bool) -> Result<(Stream, Limits)> {
    let client: Arc<dyn StreamClient> = if is_dry_run {
        // Lines are checked against the limits of an empty stream in memory.
        Arc::new(Memory::new().stream(&config.name, 1)?)
    } else {
        session.open(config).await?
    };
    let stream = Stream::builder(config, client).budget(Budget::new(BUDGET)).build();
    let limits = stream.producer().limits().await?;
    Ok((stream, limits))
}

/// The stream's config, with the flags in precedence.
fn with_flags(config: StreamConfig, args: &PutArgs) -> StreamConfig {
    let mut config = config;
    if let Some(field) = &args.key_field {
        config.partition_key = triton_stream::record::KeySource::Field(field.clone());
    }
    config.aggregate |= args.aggregate;
    config
}

struct Put {
    stream: Stream,
    signals: Signals,
    /// Dropping it stops the reading of input.
    stop: Option<Stop>,
    progress: Progress,
    /// Number of records read.
    read: usize,
    /// Records that were read and not submitted yet.
    chunk: VecDeque<PutEntry>,
    /// Records that were submitted, in the order of the input.
    in_flight: VecDeque<(PutEntry, Ticket)>,
    bytes_in_flight: usize,
    chunks: mpsc::Receiver<Vec<PutEntry>>,
    failed: FailedRecords,
    printer: Option<Printer<Vec<PutReceipt>>>,
    /// Why acknowledgements could not be printed; returned at the end.
    unprinted: Option<anyhow::Error>,
    is_dry_run: bool,
}

/// The next event of a put.
enum Next {
    Chunk(Option<Vec<PutEntry>>),
    Outcome(Result<PutReceipt, Error>),
    Stop,
}

impl Put {
    /// Puts everything until the input ends, and prints the last acknowledgement.
    async fn all(&mut self) -> Result<()> {
        loop {
            match self.next().await {
                Next::Stop => self.stop = None,
                Next::Outcome(outcome) => self.settle(outcome).await?,
                Next::Chunk(Some(chunk)) => self.put(chunk).await?,
                Next::Chunk(None) => break,
            }
        }
        // The input has ended: the last records do not linger.
        let stream = self.stream.clone();
        let (_, settled) = tokio::join!(stream.producer().flush(), self.settle_all());
        settled?;
        self.progress.finish();
        match self.unprinted.take() {
            Some(error) => Err(error),
            None => self.finish_printing().await,
        }
    }

    async fn next(&mut self) -> Next {
        let max_bytes = self.stream.producer().budget().bytes().saturating_mul(2);
        let first = self.in_flight.front_mut().map(|(_, ticket)| ticket);
        let outcome = async {
            match first {
                Some(ticket) => ticket.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // What was read is put; nothing new is read.
            () = self.signals.first(), if self.stop.is_some() => Next::Stop,
            outcome = outcome => Next::Outcome(outcome),
            // Records that have their outcome keep their memory while one before them has none.
            chunk = self.chunks.recv(), if self.bytes_in_flight < max_bytes => Next::Chunk(chunk),
        }
    }

    async fn put(&mut self, chunk: Vec<PutEntry>) -> Result<()> {
        self.read += chunk.len();
        if self.is_dry_run {
            return Ok(());
        }
        self.chunk = chunk.into();
        while let Some(entry) = self.chunk.front().filter(|_| self.failed.error.is_none()) {
            let ticket = self.stream.producer().submit(entry.clone()).await?;
            self.bytes_in_flight += cost(entry);
            self.in_flight.extend(self.chunk.pop_front().map(|entry| (entry, ticket)));
        }
        // After a failure, records that were read meanwhile are not submitted.
        self.failed.keep(std::mem::take(&mut self.chunk))
    }

    async fn settle_all(&mut self) -> Result<()> {
        while let Some((_, ticket)) = self.in_flight.front_mut() {
            let outcome = ticket.await;
            self.settle(outcome).await?;
        }
        Ok(())
    }

    /// Settles the first record, and those behind it that have their outcome.
    async fn settle(&mut self, first: Result<PutReceipt, Error>) -> Result<()> {
        let (mut receipts, mut refused) = (Vec::new(), Vec::new());
        let mut outcome = Some(first);
        while let Some(known) = outcome {
            let Some((entry, _)) = self.in_flight.pop_front() else { break };
            self.bytes_in_flight -= cost(&entry);
            match known {
                Ok(receipt) => {
                    self.progress.add(&entry);
                    receipts.push(receipt);
                }
                Err(error) => {
                    refused.push(entry);
                    self.failed.error.get_or_insert(error);
                }
            }
            outcome = self.in_flight.front_mut().and_then(|(_, ticket)| ticket.now_or_never());
        }
        self.progress.show();
        self.failed.keep(refused)?;
        if self.failed.error.is_some() {
            self.stop = None;
        }
        // If stdout is closed, the lines are still put.
        if let Some(printer) = &self.printer
            && printer.print(receipts).await == Printed::Closed
        {
            self.unprinted = self.finish_printing().await.err();
        }
        Ok(())
    }

    /// Prints the last acknowledgements. A closed pipe is no error, a full disk is one.
    async fn finish_printing(&mut self) -> Result<()> {
        let Some(printer) = self.printer.take() else { return Ok(()) };
        match printer.finish().await {
            Err(error) if error.is::<ClosedPipe>() => Ok(()),
            finished => finished,
        }
    }

    /// Counts and keeps the records that are not acknowledged at a second signal.
    async fn interrupted(&mut self) -> Result<String> {
        self.progress.finish();
        self.stop = None;
        while let Some((entry, mut ticket)) = self.in_flight.pop_front() {
            if !matches!((&mut ticket).now_or_never(), Some(Ok(_))) {
                self.failed.keep([entry])?;
            }
        }
        self.failed.keep(std::mem::take(&mut self.chunk))?;
        // The reading thread sends what it has read and ends, unless a read blocks.
        let until = Instant::now() + LAST_CHUNKS;
        while let Ok(Some(chunk)) = timeout_at(until, self.chunks.recv()).await {
            self.failed.keep(chunk)?;
        }
        let kept = self.failed.kept();
        Ok(format!("interrupted: {} records that were read were not acknowledged{kept}", self.failed.count))
    }

    async fn finish(self) -> Result<()> {
        let (read, name) = (self.read, self.stream.config().logical_name.clone());
        // Otherwise the process may end before the stream's file is closed, and leave its write-ahead log behind.
        self.stream.close().await?;
        if self.is_dry_run {
            exit::note(&format!("{read} records are valid for '{name}'; nothing was put"));
            return Ok(());
        }
        tracing::info!("{} of {read} records put into '{name}'", read - self.failed.count);
        self.failed.finish(read)
    }
}

/// Approximate memory of a record in bytes.
fn cost(entry: &PutEntry) -> usize {
    entry.size() + Budget::RECORD_OVERHEAD
}

fn render_receipts(receipts: Vec<PutReceipt>, out: &mut Vec<u8>) {
    for receipt in receipts {
        // Writing to memory cannot fail.
        drop(writeln!(out, "{receipt}"));
    }
}
