//! The task of one shard: fetches when the pacing and the prefetch permit allow it, hands pages over, recovers from errors.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backend::{Batch, Limits, ShardReader, StreamClient};
use crate::consumer::fan_in::FairSender;
use crate::consumer::options::ReaderOptions;
use crate::error::{Error, Result};
use crate::flow::{Backoff, Budget, WarnOnce};
use crate::model::position::Position;
use crate::model::shard::ShardId;
use crate::record::Record;
use crate::record::aggregate::unpack_all;

use super::metrics::ShardMetrics;
use super::pacing::Pacing;
use super::prefetch::{PAGES_AHEAD, PUSHED_RECORDS, PageSize, Prefetch, PrefetchPermit};

/// Shared by the shard tasks of one reader.
#[derive(Clone, Debug)]
pub(in crate::consumer) struct Shared {
    pub(in crate::consumer) client: Arc<dyn StreamClient>,
    pub(in crate::consumer) options: Arc<ReaderOptions>,
    pub(in crate::consumer) limits: Limits,
    pub(in crate::consumer) prefetch: Prefetch,
    pub(in crate::consumer) stop: CancellationToken,
    /// Logs a failure of many shards at once only once.
    pub(in crate::consumer) warn_once: WarnOnce,
    pub(in crate::consumer) started: Instant,
}

/// An item on its way from a shard's task to the reader: a page, or an error.
#[derive(Debug)]
pub(in crate::consumer) struct Delivery {
    pub(in crate::consumer) outcome: Result<Vec<Record>>,
    /// The memory of the records, until they are handed to the caller.
    pub(in crate::consumer) permit: Option<PrefetchPermit>,
}

impl From<Error> for Delivery {
    fn from(error: Error) -> Self {
        Self { outcome: Err(error), permit: None }
    }
}

/// How the reading of a shard ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::consumer) enum Ended {
    /// The shard is closed, and every record of it was received.
    Drained,
    /// The newest record was handed over, and the reader ends there.
    CaughtUp,
    /// The reader was stopped or dropped.
    Stopped,
    /// The shard failed for good; the error was handed over.
    Failed,
}

#[derive(Debug)]
pub(in crate::consumer) struct ShardTask {
    shared: Shared,
    shard: ShardId,
    /// Where the shard is opened next.
    position: Position,
    reader: Option<Box<dyn ShardReader>>,
    sender: FairSender<Delivery>,
    pacing: Pacing,
    page_size: PageSize,
    backoff: Backoff,
    metrics: ShardMetrics,
    /// Held until the shard is open or has failed to open.
    opening: Option<Opening>,
}

/// Held by each shard that the reader's start waits for. The start is complete when every clone is dropped; an error sent
/// here fails it.
pub(in crate::consumer) type Opening = mpsc::Sender<Error>;

impl ShardTask {
    pub(in crate::consumer) fn new(
        shared: Shared,
        sender: FairSender<Delivery>,
        shard: ShardId,
        position: Position,
        seed: u64,
        opening: Option<Opening>,
    ) -> Self {
        Self {
            reader: None,
            sender,
            pacing: Pacing::new(&shared.limits, &shared.options, position, shared.started, seed),
            page_size: PageSize::default(),
            backoff: shared.options.retry.backoff(seed).with_warn_once(&shared.warn_once),
            metrics: ShardMetrics::new(shared.client.name(), &shard),
            opening,
            shared,
            shard,
            position,
        }
    }

    /// The span of everything that this task logs.
    pub(in crate::consumer) fn span(&self) -> tracing::Span {
        tracing::info_span!("shard", stream = self.shared.client.name(), shard = %self.shard)
    }

    pub(in crate::consumer) async fn run(mut self) -> (ShardId, Ended) {
        let stop = self.shared.stop.clone();
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => Ended::Stopped,
            ended = self.read() => ended,
        };
        tracing::debug!(?ended, "shard task ended");
        (self.shard, ended)
    }

    /// Reads until the shard ends. May be dropped at any await: a page that was fetched has been handed over by then.
    async fn read(&mut self) -> Ended {
        loop {
            // A backend that never has to wait leaves `run` no other moment to see the stop.
            if self.shared.stop.is_cancelled() {
                return Ended::Stopped;
            }
            let ended = match self.fetch().await {
                Ok(Some((batch, permit))) => self.hand_over(batch, permit).await,
                Ok(None) => {
                    // Its children have queues of their own, and would overtake the records left in this one.
                    self.sender.emptied().await;
                    Some(Ended::Drained)
                }
                Err(error) => self.recover(error).await,
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// Fetches the next page, once the pacing and the prefetch permit allow it.
    async fn fetch(&mut self) -> Result<Option<(Batch, PrefetchPermit)>> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(self.shared.client.open_shard(&self.shard, self.position).await?),
        };
        self.opening = None;
        self.pacing.ready().await;
        let (permit, max_records) = if self.pacing.waits_in_backend() {
            (self.shared.prefetch.unreserved_permit(), self.shared.options.max_records.min(PUSHED_RECORDS))
        } else {
            let permit = self.shared.prefetch.permit(self.page_size.bytes()).await;
            (permit, self.pacing.records(self.shared.options.max_records))
        };
        self.pacing.sent();
        self.metrics.fetches.increment(1);
        let fetched = reader.next_batch(max_records).await;
        if let Err(Error::Throttled { .. }) = fetched {
            self.metrics.throttles.increment(1);
            self.pacing.throttled();
        }
        Ok(fetched?.map(|batch| (batch, permit)))
    }

    /// Hands a page over. Nothing is awaited before that, so that a stop does not lose a fetched page.
    async fn hand_over(&mut self, batch: Batch, mut permit: PrefetchPermit) -> Option<Ended> {
        self.backoff.reset();
        let is_caught_up = batch.records.is_empty() && batch.is_caught_up();
        let bytes = batch.records.iter().map(Record::size).sum();
        self.pacing.fetched(bytes, batch.records.len(), batch.behind);
        if let Some(behind) = batch.behind {
            self.metrics.millis_behind.set(behind.as_secs_f64() * 1000.0);
        }
        if is_caught_up && self.shared.options.until_caught_up {
            return Some(Ended::CaughtUp);
        }
        let records = unpack_all(batch.records);
        // The records of an aggregate share its bytes; each has its own overhead.
        let page_size = bytes + records.len() * Budget::RECORD_OVERHEAD;
        if permit.is_reserved() {
            self.page_size.learn(page_size);
        }
        // An aggregate may hold no record at all.
        if records.is_empty() {
            return None;
        }
        self.metrics.records.increment(records.len() as u64);
        self.metrics.bytes.increment(bytes as u64);
        let is_accounted_for = permit.set_size(page_size);
        if !self.sender.send(Delivery { outcome: Ok(records), permit: Some(permit) }) {
            return Some(Ended::Stopped);
        }
        self.sender.fewer_than(if is_accounted_for { PAGES_AHEAD } else { 1 }).await;
        None
    }

    async fn recover(&mut self, error: Error) -> Option<Ended> {
        if !error.is_retryable() {
            self.metrics.failed();
            self.report(error);
            return Some(Ended::Failed);
        }
        if let Error::IteratorExpired { .. } = error
            && let Some(expired) = self.reader.take()
        {
            self.position = expired.position();
        }
        if self.backoff.wait(&error).await {
            return None;
        }
        if let Some(opening) = self.opening.take() {
            // The start fails: a reader that cannot reach its backend has not started. One error is enough to say so.
            drop(opening.try_send(error));
            return Some(Ended::Failed);
        }
        self.backoff.reset();
        if !self.report(error) {
            return Some(Ended::Stopped);
        }
        // A caller that receives nothing is not sent the same error for hours.
        self.sender.emptied().await;
        None
    }

    /// Hands an error over. Returns `false` if the reader is dropped.
    fn report(&mut self, error: Error) -> bool {
        // The reader receives nothing before its start is complete.
        self.opening = None;
        self.sender.send(Error::Shard { shard: self.shard.clone(), source: Box::new(error) }.into())
    }
}
