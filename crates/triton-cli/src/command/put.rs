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

/// The bytes of records without an outcome: as many as 300 shards take in a round trip.
const BUDGET: usize = 16 << 20;

/// Chunks that wait between reading and putting.
const WAITING_CHUNKS: usize = 1;

/// How long the reading thread has to hand over what it has read, after a second signal.
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

    let (chunks, waiting) = mpsc::channel(WAITING_CHUNKS);
    let (mut input, stop) = Input::new(&args, encoder, limits, !global.quiet)?;
    let reading = tokio::task::spawn_blocking(move || input.read(&chunks));

    let mut put = Put {
        stream,
        signals: signals.clone(),
        stop: Some(stop),
        progress: Progress::new(global),
        taken: 0,
        chunk: VecDeque::new(),
        on_their_way: VecDeque::new(),
        bytes_on_their_way: 0,
        waiting,
        failed,
        printer: args.ack.then(|| Printer::start(render_receipts)),
        unprinted: None,
        is_dry_run: args.dry_run,
    };
    let Some(outcome) = signals.or_second(put.all()).await else {
        let message = put.interrupted().await;
        signals::leave(message?)
    };
    // What went wrong may have left the reading thread in the middle of the input.
    put.stop = None;
    put.waiting.close();
    // A line that is no record is told after all lines before it are put and acknowledged.
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
    let client: Arc<dyn StreamClient> = match is_dry_run {
        // Checked against the limits of a stream that holds nothing and is nowhere.
        true => Arc::new(Memory::new().stream(&config.name, 1)?),
        false => session.open(config).await?,
    };
    let stream = Stream::builder(config, client).budget(Budget::new(BUDGET)).build();
    let limits = stream.producer().limits().await?;
    Ok((stream, limits))
}

/// What the flags say goes before what the config says.
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
    /// Dropping it ends the reading of input.
    stop: Option<Stop>,
    progress: Progress,
    taken: usize,
    /// Records that were read and not handed to the producer yet.
    chunk: VecDeque<PutEntry>,
    /// Records that the producer has, in the order of the input.
    on_their_way: VecDeque<(PutEntry, Ticket)>,
    bytes_on_their_way: usize,
    waiting: mpsc::Receiver<Vec<PutEntry>>,
    failed: FailedRecords,
    printer: Option<Printer<Vec<PutReceipt>>>,
    /// Why acknowledgements could not be printed, told at the end.
    unprinted: Option<anyhow::Error>,
    is_dry_run: bool,
}

/// What comes next, of the input or of the stream.
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
        // Nothing more comes: what is there does not wait for company.
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
        let most = self.stream.producer().budget().bytes().saturating_mul(2);
        let on_its_way = self.on_their_way.front_mut().map(|(_, ticket)| ticket);
        let outcome = async {
            match on_its_way {
                Some(ticket) => ticket.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // What was read is put; nothing new is read.
            () = self.signals.first(), if self.stop.is_some() => Next::Stop,
            outcome = outcome => Next::Outcome(outcome),
            // Behind one that is not settled, others that are keep their memory.
            chunk = self.waiting.recv(), if self.bytes_on_their_way < most => Next::Chunk(chunk),
        }
    }

    async fn put(&mut self, chunk: Vec<PutEntry>) -> Result<()> {
        self.taken += chunk.len();
        if self.is_dry_run {
            return Ok(());
        }
        self.chunk = chunk.into();
        while let Some(entry) = self.chunk.front().filter(|_| self.failed.error.is_none()) {
            let ticket = self.stream.producer().submit(entry.clone()).await?;
            self.bytes_on_their_way += cost(entry);
            self.on_their_way.extend(self.chunk.pop_front().map(|entry| (entry, ticket)));
        }
        // The stream refuses records: those that were read meanwhile are not tried.
        self.failed.keep(std::mem::take(&mut self.chunk))
    }

    async fn settle_all(&mut self) -> Result<()> {
        while let Some((_, ticket)) = self.on_their_way.front_mut() {
            let outcome = ticket.await;
            self.settle(outcome).await?;
        }
        Ok(())
    }

    /// Takes the outcome of the record in front, and of those behind it that have theirs.
    async fn settle(&mut self, first: Result<PutReceipt, Error>) -> Result<()> {
        let (mut receipts, mut refused) = (Vec::new(), Vec::new());
        let mut outcome = Some(first);
        while let Some(known) = outcome {
            let Some((entry, _)) = self.on_their_way.pop_front() else { break };
            self.bytes_on_their_way -= cost(&entry);
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
            outcome = self.on_their_way.front_mut().and_then(|(_, ticket)| ticket.now_or_never());
        }
        self.progress.show();
        self.failed.keep(refused)?;
        if self.failed.error.is_some() {
            self.stop = None;
        }
        // When nobody reads the acknowledgements any more, the lines are put all the same.
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

    /// Counts and keeps what was not put by the time of a second signal.
    async fn interrupted(&mut self) -> Result<String> {
        self.progress.finish();
        self.stop = None;
        while let Some((entry, mut ticket)) = self.on_their_way.pop_front() {
            if !matches!((&mut ticket).now_or_never(), Some(Ok(_))) {
                self.failed.keep([entry])?;
            }
        }
        self.failed.keep(std::mem::take(&mut self.chunk))?;
        // The reading thread ends with what it has read, unless the reading itself hangs.
        let until = Instant::now() + LAST_CHUNKS;
        while let Ok(Some(chunk)) = timeout_at(until, self.waiting.recv()).await {
            self.failed.keep(chunk)?;
        }
        let kept = self.failed.kept();
        Ok(format!("interrupted: {} records that were read were not acknowledged{kept}", self.failed.count))
    }

    async fn finish(self) -> Result<()> {
        let (taken, name) = (self.taken, self.stream.config().logical_name.clone());
        // Else the process may end before the stream's file is closed, and leave its log for the next to take in.
        self.stream.close().await?;
        if self.is_dry_run {
            exit::note(&format!("{taken} records are fit for '{name}'; nothing was put"));
            return Ok(());
        }
        tracing::info!("{} of {taken} records put into '{name}'", taken - self.failed.count);
        self.failed.finish(taken)
    }
}

/// What a record takes of the memory, about.
fn cost(entry: &PutEntry) -> usize {
    entry.size() + 200
}

fn render_receipts(receipts: Vec<PutReceipt>, out: &mut Vec<u8>) {
    for receipt in receipts {
        // Writing to memory cannot fail.
        drop(writeln!(out, "{} {}", receipt.shard_id, receipt.sequence_number));
    }
}
