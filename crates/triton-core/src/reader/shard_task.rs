//! Reading one shard: fetch, hand over, wait when caught up, and go on after what may pass.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::client::{Batch, Limits, Position, ShardReader, StreamClient};
use crate::error::{Error, Result};
use crate::record::Record;
use crate::retry::Backoff;
use crate::shard::ShardId;

use super::ReaderOptions;

/// What the shards' tasks share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) client: Arc<dyn StreamClient>,
    pub(super) options: Arc<ReaderOptions>,
    pub(super) limits: Limits,
    pub(super) batches: mpsc::Sender<Result<Vec<Record>>>,
    pub(super) stop: CancellationToken,
}

/// How the reading of a shard ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The shard is closed and every record of it was handed over.
    Drained,
    /// The newest record was handed over, and the reader was told to end there.
    CaughtUp,
    /// The reader was stopped, or nobody takes its records any more.
    Stopped,
    /// The shard cannot be read on; the error was handed over.
    Failed,
}

#[derive(Debug)]
pub(super) struct ShardTask {
    shared: Shared,
    shard: ShardId,
    position: Position,
    reader: Option<Box<dyn ShardReader>>,
    backoff: Backoff,
    /// Held until the shard is open, or has failed to open: the reader's start waits for that.
    opening: Option<Opening>,
}

/// What a start waits for: it has happened when every clone is dropped. An error says that it will not.
pub(super) type Opening = mpsc::Sender<Error>;

impl ShardTask {
    pub(super) fn new(shared: Shared, shard: ShardId, position: Position, seed: u64, opening: Option<Opening>) -> Self {
        let backoff = shared.options.retry.backoff(seed);
        Self { shared, shard, position, reader: None, backoff, opening }
    }

    pub(super) async fn run(mut self) -> (ShardId, Ended) {
        let ended = loop {
            if let Some(ended) = self.step().await {
                break ended;
            }
        };
        tracing::debug!(shard = %self.shard, ?ended, "shard");
        (self.shard, ended)
    }

    async fn step(&mut self) -> Option<Ended> {
        let stop = self.shared.stop.clone();
        let fetched = tokio::select! {
            biased;
            () = stop.cancelled() => return Some(Ended::Stopped),
            fetched = self.fetch() => fetched,
        };
        match fetched {
            Ok(Some(batch)) => {
                self.backoff.reset();
                self.take(batch).await
            }
            Ok(None) => Some(Ended::Drained),
            Err(error) => self.recover(error).await,
        }
    }

    async fn fetch(&mut self) -> Result<Option<Batch>> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(self.shared.client.open_shard(&self.shard, self.position).await?),
        };
        self.opening = None;
        reader.next_batch(self.shared.options.max_records).await
    }

    async fn take(&mut self, batch: Batch) -> Option<Ended> {
        if batch.is_caught_up() {
            if self.shared.options.until_caught_up {
                return Some(Ended::CaughtUp);
            }
            return self.pause(self.shared.limits.idle_poll).await;
        }
        if batch.records.is_empty() {
            // Behind, on a page without records: ask again soon, but never in a busy loop.
            return self.pause(self.shared.limits.idle_poll / 5).await;
        }
        // What was fetched is delivered, stopped or not.
        self.hand_over(Ok(batch.records)).await
    }

    async fn recover(&mut self, error: Error) -> Option<Ended> {
        if !error.is_retryable() {
            let error = Error::Shard { shard: self.shard.clone(), source: Box::new(error) };
            return self.hand_over(Err(error)).await.or(Some(Ended::Failed));
        }
        if let Error::IteratorExpired { .. } = error
            && let Some(expired) = self.reader.take()
        {
            self.position = expired.position();
        }
        let stop = self.shared.stop.clone();
        let goes_on = tokio::select! {
            biased;
            () = stop.cancelled() => return Some(Ended::Stopped),
            goes_on = self.backoff.wait(&error) => goes_on,
        };
        if goes_on {
            return None;
        }
        if let Some(opening) = self.opening.take() {
            // A reader that starts where it was told to, or not at all. One error is enough to say so.
            drop(opening.try_send(error));
            return Some(Ended::Failed);
        }
        self.backoff.reset();
        self.hand_over(Err(Error::Shard { shard: self.shard.clone(), source: Box::new(error) })).await
    }

    async fn hand_over(&mut self, batch: Result<Vec<Record>>) -> Option<Ended> {
        // Nobody takes batches before the start is over.
        self.opening = None;
        self.shared.batches.send(batch).await.is_err().then_some(Ended::Stopped)
    }

    async fn pause(&mut self, wait: Duration) -> Option<Ended> {
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => Some(Ended::Stopped),
            () = sleep(wait) => None,
        }
    }
}
