//! `triton put`: lines in, records out; a line counts as put when it is durable.

mod encode;
mod input;
mod lines;
mod progress;

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;
use triton_core::{Error, PutEntry, PutReceipt, Stream, StreamConfig};

use crate::args::{Global, PutArgs};
use crate::backend;
use crate::exit::{self, Code, Failure};
use crate::printer::{Printed, Printer};
use crate::signals::{self, Signals};

use self::encode::LineEncoder;
use self::input::{Input, Stop};
use self::progress::Progress;

/// Chunks that wait between reading and putting.
const WAITING_CHUNKS: usize = 1;

pub(crate) async fn run(global: &Global, args: PutArgs) -> Result<()> {
    let config = with_key_field(backend::configure(global, &args.stream.stream)?, args.key_field.as_deref());
    let stream = Stream::new(&config, backend::open(&config).await?);
    let limits = stream.producer().limits().await?;
    let encoder = LineEncoder::new(&args, &config, limits)?;
    let signals = Signals::listen()?;

    let (chunks, waiting) = mpsc::channel(WAITING_CHUNKS);
    let (mut input, stop) = Input::new(&args, encoder, limits, !global.quiet)?;
    let reading = tokio::task::spawn_blocking(move || input.read(&chunks));

    let mut put = Put {
        stream,
        args,
        signals,
        stop: Some(stop),
        progress: Progress::new(global),
        taken: 0,
        failed: Failed::default(),
        printer: None,
    };
    let outcome = put.all(waiting).await;
    put.progress.finish();
    outcome?;
    // A line that is no record is told after all lines before it are put.
    reading.await.context("the reading thread panicked")??;
    put.finish().await
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
    args: PutArgs,
    signals: Signals,
    /// Dropping it ends the reading of input.
    stop: Option<Stop>,
    progress: Progress,
    taken: usize,
    failed: Failed,
    printer: Option<Printer<Vec<PutReceipt>>>,
}

/// What could not be put.
#[derive(Default)]
struct Failed {
    records: usize,
    error: Option<Error>,
    file: Option<File>,
}

impl Put {
    async fn all(&mut self, mut waiting: mpsc::Receiver<Vec<PutEntry>>) -> Result<()> {
        loop {
            let chunk = tokio::select! {
                biased;
                () = self.signals.first(), if self.stop.is_some() => {
                    // What was read is put; nothing new is read.
                    self.stop = None;
                    continue;
                }
                chunk = waiting.recv() => chunk,
            };
            let Some(chunk) = chunk else { return Ok(()) };
            self.taken += chunk.len();
            if self.failed.error.is_some() {
                // The stream refuses records: those that were read meanwhile are not tried.
                self.keep(&chunk)?;
                continue;
            }
            let mut signals = self.signals.clone();
            tokio::select! {
                biased;
                () = signals.second() => return self.interrupted(&chunk, waiting).await,
                outcome = self.chunk(&chunk) => outcome?,
            }
        }
    }

    async fn chunk(&mut self, chunk: &[PutEntry]) -> Result<()> {
        if self.args.dry_run {
            return Ok(());
        }
        let outcomes = self.stream.producer().put_all(chunk).await;
        let (mut receipts, mut refused) = (Vec::new(), Vec::new());
        for (entry, outcome) in chunk.iter().zip(outcomes) {
            match outcome {
                Ok(receipt) => receipts.push(receipt),
                Err(error) => {
                    refused.push(entry.clone());
                    self.failed.error.get_or_insert(error);
                }
            }
        }
        self.progress.add(chunk);
        self.keep(&refused)?;
        if self.failed.error.is_some() {
            self.stop = None;
        }
        match self.args.ack {
            true => self.acknowledge(receipts).await,
            false => Ok(()),
        }
    }

    async fn acknowledge(&mut self, receipts: Vec<PutReceipt>) -> Result<()> {
        let printer = self.printer.get_or_insert_with(|| Printer::start(render_receipts));
        if printer.print(receipts, &mut self.signals).await? == Printed::Closed {
            // Nobody reads the acknowledgements: the end, as for any closed pipe.
            self.stop = None;
            return self.finish_printing().await;
        }
        Ok(())
    }

    async fn finish_printing(&mut self) -> Result<()> {
        match self.printer.take() {
            Some(printer) => printer.finish(&mut self.signals).await,
            None => Ok(()),
        }
    }

    /// Counts records that were not put and appends their payloads to the file of `--failed`.
    fn keep(&mut self, entries: &[PutEntry]) -> Result<()> {
        self.failed.records += entries.len();
        let Some(path) = &self.args.failed else { return Ok(()) };
        if entries.is_empty() {
            return Ok(());
        }
        let file = match &mut self.failed.file {
            Some(file) => file,
            none => none.insert(open_failed(path)?),
        };
        let payloads = entries.iter().try_for_each(|entry| file.write_all(&entry.data));
        payloads.with_context(|| format!("{} cannot be written", path.display()))
    }

    async fn interrupted(&mut self, chunk: &[PutEntry], mut waiting: mpsc::Receiver<Vec<PutEntry>>) -> Result<()> {
        self.stop = None;
        self.keep(chunk)?;
        waiting.close();
        while let Some(chunk) = waiting.recv().await {
            self.taken += chunk.len();
            self.keep(&chunk)?;
        }
        let count = self.failed.records;
        Err(signals::interrupted(format!("interrupted: {count} records were not acknowledged{}", self.kept())))
    }

    fn kept(&self) -> String {
        match &self.args.failed {
            Some(file) if self.failed.records > 0 => format!("; kept in {}", file.display()),
            _ => String::new(),
        }
    }

    async fn finish(mut self) -> Result<()> {
        self.finish_printing().await?;
        let (taken, name) = (self.taken, &self.stream.config().logical_name);
        if self.args.dry_run {
            exit::note(&format!("{taken} records are fit for '{name}'; nothing was put"));
            return Ok(());
        }
        tracing::info!("{taken} records put into '{name}'");
        let Some(error) = self.failed.error.take() else { return Ok(()) };
        let uncertain = if error.may_have_written() { ", and may be written all the same" } else { "" };
        let message = format!("{} of {taken} records were not put{uncertain}{}", self.failed.records, self.kept());
        let error = anyhow::Error::new(error);
        let failure = Failure::new(exit::code(&error), message);
        let failure = match self.args.failed {
            Some(_) => failure,
            None => failure.with_help("use --failed FILE to keep what cannot be put"),
        };
        Err(error.context(failure))
    }
}

fn open_failed(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|error| {
        let message = format!("{} cannot be opened ({error}); what failed is not kept", path.display());
        Failure::new(Code::Other, message).into()
    })
}

fn render_receipts(receipts: Vec<PutReceipt>, out: &mut Vec<u8>) {
    for receipt in receipts {
        // Writing to memory cannot fail.
        drop(writeln!(out, "{} {}", receipt.shard_id, receipt.sequence_number));
    }
}
