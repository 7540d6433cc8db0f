//! `triton put`: lines in, records out; a line counts as put when it is durable.

mod encode;
mod input;
mod lines;
mod progress;

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;
use triton_core::memory::Memory;
use triton_core::{Error, Limits, PutEntry, PutReceipt, Stream, StreamClient, StreamConfig};

use crate::args::{Global, PutArgs};
use crate::backend;
use crate::exit::{self, ClosedPipe, Failure};
use crate::printer::{Printed, Printer};
use crate::signals::{self, Signals};

use self::encode::LineEncoder;
use self::input::{Input, Stop};
use self::progress::Progress;

/// Chunks that wait between reading and putting.
const WAITING_CHUNKS: usize = 1;

pub(crate) async fn run(global: &Global, args: PutArgs) -> Result<()> {
    let mut signals = Signals::listen()?;
    let config = with_key_field(backend::configure(global, &args.stream.stream)?, args.key_field.as_deref());
    let opening = open(global, &config, args.dry_run);
    let (stream, limits) = tokio::select! {
        biased;
        // Nothing was read yet.
        () = signals.first() => return Ok(()),
        opened = opening => opened?,
    };
    let encoder = LineEncoder::new(&args, &config, limits)?;
    let failed = Failed::new(&args)?;

    let (chunks, waiting) = mpsc::channel(WAITING_CHUNKS);
    let (mut input, stop) = Input::new(&args, encoder, limits, !global.quiet)?;
    let reading = tokio::task::spawn_blocking(move || input.read(&chunks));

    let mut put = Put {
        stream,
        signals: signals.clone(),
        stop: Some(stop),
        progress: Progress::new(global),
        taken: 0,
        in_flight: Vec::new(),
        waiting,
        failed,
        printer: args.ack.then(|| Printer::start(render_receipts)),
        is_dry_run: args.dry_run,
    };
    let Some(outcome) = signals.or_second(put.all()).await else {
        let message = put.interrupted();
        signals::leave(message?)
    };
    // A line that is no record is told after all lines before it are put and acknowledged.
    let read = reading.await.context("the reading thread panicked");
    outcome?;
    match (put.finish(), read?) {
        (Err(refused), Err(bad_line)) => {
            exit::report(&refused);
            Err(bad_line)
        }
        (refused, read) => refused.and(read),
    }
}

async fn open(global: &Global, config: &StreamConfig, is_dry_run: bool) -> Result<(Stream, Limits)> {
    let client: Arc<dyn StreamClient> = match is_dry_run {
        // Checked against the limits of a stream that holds nothing and is nowhere.
        true => Arc::new(Memory::new().stream(&config.name, 1)?),
        false => backend::open(global, config).await?,
    };
    let stream = Stream::new(config, client);
    let limits = stream.producer().limits().await?;
    Ok((stream, limits))
}

fn with_key_field(config: StreamConfig, field: Option<&str>) -> StreamConfig {
    let mut config = config;
    if let Some(field) = field {
        config.partition_key = triton_core::record::KeySource::Field(field.to_owned());
    }
    config
}

struct Put {
    stream: Stream,
    signals: Signals,
    /// Dropping it ends the reading of input.
    stop: Option<Stop>,
    progress: Progress,
    taken: usize,
    /// The chunk that is being put.
    in_flight: Vec<PutEntry>,
    waiting: mpsc::Receiver<Vec<PutEntry>>,
    failed: Failed,
    printer: Option<Printer<Vec<PutReceipt>>>,
    is_dry_run: bool,
}

impl Put {
    /// Puts chunk by chunk until the input ends, and prints the last acknowledgement.
    async fn all(&mut self) -> Result<()> {
        while let Some(chunk) = self.next_chunk().await {
            self.taken += chunk.len();
            if self.is_dry_run {
                continue;
            }
            if self.failed.error.is_some() {
                // The stream refuses records: those that were read meanwhile are not tried.
                self.failed.keep(&chunk)?;
                continue;
            }
            self.in_flight = chunk;
            let outcomes = self.stream.producer().put_all(&self.in_flight).await;
            let chunk = std::mem::take(&mut self.in_flight);
            self.settle(&chunk, outcomes).await?;
        }
        self.progress.finish();
        let Some(printer) = self.printer.take() else { return Ok(()) };
        match printer.finish().await {
            Err(error) if error.is::<ClosedPipe>() => Ok(()),
            finished => finished,
        }
    }

    async fn next_chunk(&mut self) -> Option<Vec<PutEntry>> {
        if self.stop.is_some() {
            tokio::select! {
                biased;
                // What was read is put; nothing new is read.
                () = self.signals.first() => self.stop = None,
                chunk = self.waiting.recv() => return chunk,
            }
        }
        self.waiting.recv().await
    }

    async fn settle(&mut self, chunk: &[PutEntry], outcomes: Vec<Result<PutReceipt, Error>>) -> Result<()> {
        let (mut receipts, mut refused) = (Vec::new(), Vec::new());
        for (entry, outcome) in chunk.iter().zip(outcomes) {
            match outcome {
                Ok(receipt) => {
                    self.progress.add(entry);
                    receipts.push(receipt);
                }
                Err(error) => {
                    refused.push(entry.clone());
                    self.failed.error.get_or_insert(error);
                }
            }
        }
        self.progress.show();
        self.failed.keep(&refused)?;
        if self.failed.error.is_some() {
            self.stop = None;
        }
        // When nobody reads the acknowledgements any more, the lines are put all the same.
        if let Some(printer) = &self.printer
            && printer.print(receipts).await == Printed::Closed
        {
            self.printer = None;
        }
        Ok(())
    }

    /// Counts and keeps what was not put by the time of a second signal.
    fn interrupted(&mut self) -> Result<String> {
        self.progress.finish();
        let chunk = std::mem::take(&mut self.in_flight);
        self.failed.keep(&chunk)?;
        while let Ok(chunk) = self.waiting.try_recv() {
            self.failed.keep(&chunk)?;
        }
        let kept = self.failed.kept();
        Ok(format!("interrupted: {} records that were read were not acknowledged{kept}", self.failed.records))
    }

    fn finish(self) -> Result<()> {
        let (taken, name) = (self.taken, &self.stream.config().logical_name);
        if self.is_dry_run {
            exit::note(&format!("{taken} records are fit for '{name}'; nothing was put"));
            return Ok(());
        }
        tracing::info!("{} of {taken} records put into '{name}'", taken - self.failed.records);
        self.failed.finish(taken)
    }
}

/// What could not be put, and the file of `--failed` that keeps it.
struct Failed {
    records: usize,
    error: Option<Error>,
    file: Option<(PathBuf, File)>,
    /// After each payload; MessagePack needs none.
    separator: Vec<u8>,
}

impl Failed {
    /// Opens the file before anything is put, since it is needed when things go wrong.
    fn new(args: &PutArgs) -> Result<Self> {
        let file = args.failed.as_ref().map(|path| {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            let opened = opened.with_context(|| format!("{} cannot be opened for what fails", path.display()))?;
            anyhow::Ok((path.clone(), opened))
        });
        let separator = match (args.raw, &args.delimiter) {
            (false, _) => Vec::new(),
            (true, Some(delimiter)) => delimiter.0.clone(),
            (true, None) => b"\n".to_vec(),
        };
        Ok(Self { records: 0, error: None, file: file.transpose()?, separator })
    }

    fn keep(&mut self, entries: &[PutEntry]) -> Result<()> {
        self.records += entries.len();
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        let mut payloads = Vec::new();
        for entry in entries {
            payloads.extend_from_slice(&entry.data);
            payloads.extend_from_slice(&self.separator);
        }
        file.write_all(&payloads)
            .with_context(|| format!("{} records were not put, and {} cannot be written", self.records, path.display()))
    }

    fn kept(&self) -> String {
        match &self.file {
            Some((path, _)) if self.records > 0 => format!("; kept in {}", path.display()),
            _ => String::new(),
        }
    }

    fn finish(mut self, taken: usize) -> Result<()> {
        let Some(error) = self.error.take() else { return Ok(()) };
        let uncertain = if error.may_have_written() { ", and may be written all the same" } else { "" };
        let message = format!("{} of {taken} records were not put{uncertain}{}", self.records, self.kept());
        let error = anyhow::Error::new(error);
        let failure = Failure::new(exit::code(&error), message);
        let failure = match self.file {
            Some(_) => failure,
            None => failure.with_help("use --failed FILE to keep what cannot be put"),
        };
        Err(error.context(failure))
    }
}

fn render_receipts(receipts: Vec<PutReceipt>, out: &mut Vec<u8>) {
    for receipt in receipts {
        // Writing to memory cannot fail.
        drop(writeln!(out, "{} {}", receipt.shard_id, receipt.sequence_number));
    }
}
