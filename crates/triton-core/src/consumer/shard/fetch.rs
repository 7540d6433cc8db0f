//! The task of one shard: fetches when the pacing and the prefetch permit allow it, hands pages over, recovers from errors.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backend::{Batch, Limits, ShardReader, StreamClient};
use crate::consumer::fan_in::FairSender;
use crate::consumer::options::ReaderOptions;
use crate::consumer::shard_list::ShardList;
use crate::error::{Error, Result};
use crate::flow::{Backoff, Budget, WarnOnce};
use crate::model::checkpoint::{Checkpoint, Progress};
use crate::model::position::Position;
use crate::model::shard::{ChildShard, Shard, ShardId};
use crate::model::timestamp::Timestamp;
use crate::record::Record;
use crate::record::aggregate::unpack_all;

use super::delivery::{Delivery, ReaderEvent, ShardBatch};
use super::metrics::ShardMetrics;
use super::pacing::Pacing;
use super::prefetch::{PAGES_AHEAD, PUSHED_RECORDS, PageSize, Prefetch, PrefetchPermit};
use super::silence::{LIST_AGE, Silence};
use super::start::{Dropped, ShardStart, checkpoint_at};

/// The checkpoint of an idle shard is moved at most this often.
const IDLE_CHECKPOINTS: Duration = Duration::from_secs(60);

/// Shared by the shard tasks of one reader.
#[derive(Clone, Debug)]
pub(in crate::consumer) struct Shared {
    pub(in crate::consumer) client: Arc<dyn StreamClient>,
    pub(in crate::consumer) shard_list: Arc<ShardList>,
    pub(in crate::consumer) options: Arc<ReaderOptions>,
    pub(in crate::consumer) limits: Limits,
    pub(in crate::consumer) prefetch: Prefetch,
    pub(in crate::consumer) stop: CancellationToken,
    /// Logs a failure of many shards at once only once.
    pub(in crate::consumer) warn_once: WarnOnce,
    pub(in crate::consumer) started: Instant,
}

/// How the reading of a shard ended.
#[derive(Debug)]
pub(in crate::consumer) enum Ended {
    /// The shard is closed, and every record of it was received. The backend named these children, or none.
    Drained(Vec<ChildShard>),
    /// The newest record was handed over, and the reader ends there.
    CaughtUp,
    /// The shard does not exist any more.
    Gone,
    /// The reader was stopped or dropped.
    Stopped,
    /// The shard failed for good; the error was handed over.
    Failed(Error),
}

#[derive(Debug)]
pub(in crate::consumer) struct ShardTask {
    shared: Shared,
    shard: ShardId,
    /// Where the shard is opened next.
    position: Position,
    /// Records to drop from the first page.
    dropped: Option<Dropped>,
    /// Where the consumer stands once it has handled everything that was handed over; `None` before that is known.
    checkpoint: Option<Checkpoint>,
    reader: Option<Box<dyn ShardReader>>,
    sender: FairSender<Delivery>,
    pacing: Pacing,
    page_size: PageSize,
    backoff: Backoff,
    silence: Silence,
    /// When the checkpoint of an idle shard was last handed over.
    idle_checkpoint_at: Option<Instant>,
    /// Whether the last page said that nothing was newer.
    is_caught_up: bool,
    metrics: ShardMetrics,
    random: StdRng,
    /// Held until the shard is open or has failed to open.
    opening: Option<Opening>,
}

/// Held by each shard that the reader's start waits for. The start is complete when every clone is dropped; an error sent
/// here fails it. A shard that is open sends where it stands.
pub(in crate::consumer) type Opening = mpsc::UnboundedSender<Result<(ShardId, Checkpoint)>>;

impl ShardTask {
    pub(in crate::consumer) fn new(
        shared: Shared,
        sender: FairSender<Delivery>,
        shard: ShardId,
        start: ShardStart,
        seed: u64,
        opening: Option<Opening>,
    ) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        Self {
            reader: None,
            sender,
            pacing: Pacing::new(&shared.limits, &shared.options, start.position, shared.started, seed),
            page_size: PageSize::default(),
            backoff: shared.options.retry.backoff(seed).with_warn_once(&shared.warn_once),
            silence: Silence::new(&mut random),
            idle_checkpoint_at: None,
            is_caught_up: false,
            metrics: ShardMetrics::new(shared.client.name(), &shard),
            random,
            opening,
            shared,
            shard,
            position: start.position,
            dropped: start.dropped,
            checkpoint: start.checkpoint,
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
                Ok(None) => Some(self.drained().await),
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
        if let Some(opening) = self.opening.take() {
            // A start at a record has no checkpoint before that record was handled.
            if self.checkpoint.is_none() && !matches!(self.position, Position::At(_)) {
                self.checkpoint = checkpoint_at(reader.position());
            }
            // A start that has failed meanwhile does not need it.
            drop(self.checkpoint.map(|checkpoint| opening.send(Ok((self.shard.clone(), checkpoint)))));
        }
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
        let is_caught_up = batch.is_caught_up();
        let was_caught_up = std::mem::replace(&mut self.is_caught_up, is_caught_up);
        let is_empty = batch.records.is_empty();
        let bytes = batch.records.iter().map(Record::size).sum();
        self.pacing.fetched(bytes, batch.records.len(), batch.behind);
        if let Some(behind) = batch.behind {
            self.metrics.millis_behind.set(behind.as_secs_f64() * 1000.0);
        }
        let mut records = unpack_all(batch.records);
        if !records.is_empty()
            && let Some(dropped) = self.dropped.take()
            && let Err(error) = dropped.drop_from(&self.shard, &mut records)
        {
            return Some(self.fail(error));
        }
        self.move_checkpoint(records.last(), batch.caught_up_at);
        // The records of an aggregate share its bytes; each has its own overhead.
        let page_size = bytes + records.len() * Budget::RECORD_OVERHEAD;
        if permit.is_reserved() {
            self.page_size.learn(page_size);
        }
        if is_empty {
            self.move_idle_checkpoint();
        } else {
            self.silence.broken(&mut self.random);
        }
        // An aggregate may hold no record at all.
        if let (false, Some(checkpoint)) = (records.is_empty(), self.checkpoint) {
            self.metrics.records.increment(records.len() as u64);
            self.metrics.bytes.increment(bytes as u64);
            let is_accounted_for = permit.set_size(page_size);
            let batch = ShardBatch { shard: self.shard.clone(), records, checkpoint, behind: batch.behind };
            self.idle_checkpoint_at = None;
            if !self.sender.send(Delivery { event: ReaderEvent::Batch(batch), permit: Some(permit) }) {
                return Some(Ended::Stopped);
            }
            self.sender.fewer_than(if is_accounted_for { PAGES_AHEAD } else { 1 }).await;
        }
        if self.ends_caught_up(is_empty, was_caught_up) {
            return self.catch_up().await;
        }
        if is_empty && self.silence.is_long() { self.look_into_silence().await } else { None }
    }

    /// Whether the reader ends here, at the newest record. A page with records may be the last one of a closed shard, which only
    /// the next fetch tells.
    fn ends_caught_up(&self, is_empty: bool, was_caught_up: bool) -> bool {
        self.shared.options.until_caught_up && self.is_caught_up && (is_empty || was_caught_up)
    }

    fn move_checkpoint(&mut self, last: Option<&Record>, caught_up_at: Option<Timestamp>) {
        let before = self.checkpoint;
        let caught_up_at = before.and_then(|checkpoint| checkpoint.caught_up_at).max(caught_up_at);
        let progress = match (last, before) {
            // A page ends with a whole aggregate.
            (Some(last), _) => Progress::After { sequence_number: last.sequence_number, sub_sequence_number: None },
            (None, Some(checkpoint)) => checkpoint.progress,
            (None, None) => return,
        };
        self.checkpoint = Some(Checkpoint { progress, caught_up_at });
    }

    /// Hands over the checkpoint of an idle shard, now and then.
    fn move_idle_checkpoint(&mut self) {
        let is_due = self.idle_checkpoint_at.is_none_or(|at| at.elapsed() >= IDLE_CHECKPOINTS);
        let Some(checkpoint) = self.checkpoint.filter(|checkpoint| checkpoint.caught_up_at.is_some()) else { return };
        // If records are queued, their consumer is not idle.
        if is_due && self.is_caught_up && self.sender.is_empty() {
            self.idle_checkpoint_at = Some(Instant::now());
            let batch =
                ShardBatch { shard: self.shard.clone(), records: Vec::new(), checkpoint, behind: Some(Duration::ZERO) };
            self.sender.send(ReaderEvent::Batch(batch).into());
        }
    }

    /// The reader ends at the newest record, unless the shard list shows that the shard is closed: then its children follow.
    async fn catch_up(&mut self) -> Option<Ended> {
        match self.is_silently_drained(Instant::now()).await {
            Ok(None) => Some(Ended::CaughtUp),
            Ok(Some(true)) => Some(self.drained().await),
            // Closed, and there is more to read.
            Ok(Some(false)) => None,
            Err(error) => self.recover(error).await,
        }
    }

    /// Finds out whether a shard that has been silent for long has ended.
    async fn look_into_silence(&mut self) -> Option<Ended> {
        self.silence.broken(&mut self.random);
        let recently = Instant::now().checked_sub(LIST_AGE).unwrap_or(self.shared.started);
        match self.is_silently_drained(recently).await {
            Ok(Some(true)) => {
                tracing::info!("the shard is closed and was read to its end, which the stream did not tell");
                Some(self.drained().await)
            }
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%error, "the shard is silent, and it cannot be told whether it has ended");
                None
            }
        }
    }

    /// Whether nothing is left in the shard; `None` if it is open, by a list that was requested since then.
    async fn is_silently_drained(&mut self, listed_since: Instant) -> Result<Option<bool>> {
        let shards = self.shared.shard_list.requested_since(listed_since).await?;
        let is_closed = |shard: &Shard| shard.id == self.shard && !shard.is_open();
        let Some(reader) = self.reader.as_mut().filter(|_| shards.iter().any(is_closed)) else { return Ok(None) };
        Ok(Some(reader.is_drained().await?))
    }

    async fn drained(&mut self) -> Ended {
        // Its children have queues of their own, and would overtake the records left in this one.
        self.sender.emptied().await;
        Ended::Drained(self.reader.as_ref().map_or_else(Vec::new, |reader| reader.children()))
    }

    async fn recover(&mut self, mut error: Error) -> Option<Ended> {
        let mut is_missing = matches!(error, Error::ShardNotFound { .. });
        if is_missing {
            match self.is_listed().await {
                // Neither listed nor found: retention has removed it.
                Ok(false) => {
                    self.opening = None;
                    self.sender.emptied().await;
                    return Some(Ended::Gone);
                }
                // One of the two is out of date.
                Ok(true) => {}
                Err(listing) => (error, is_missing) = (listing, false),
            }
        }
        if !error.is_retryable() && !is_missing {
            return Some(self.fail(error));
        }
        if let Error::IteratorExpired { .. } = error
            && let Some(expired) = self.reader.take()
        {
            self.position = expired.position();
        }
        if self.backoff.wait(&error).await {
            return None;
        }
        if is_missing {
            return Some(self.fail(error));
        }
        if let Some(opening) = self.opening.take() {
            // The start fails: a reader that cannot reach its backend has not started. One error is enough to say so.
            drop(opening.send(Err(error.clone())));
            return Some(Ended::Failed(error));
        }
        self.backoff.reset();
        if !self.sender.send(ReaderEvent::Retrying { shard: self.shard.clone(), error }.into()) {
            return Some(Ended::Stopped);
        }
        // A caller that receives nothing is not sent the same error for hours.
        self.sender.emptied().await;
        None
    }

    async fn is_listed(&mut self) -> Result<bool> {
        let shards = self.shared.shard_list.requested_since(Instant::now()).await?;
        Ok(shards.iter().any(|shard| shard.id == self.shard))
    }

    fn fail(&mut self, error: Error) -> Ended {
        self.metrics.failed();
        // The reader receives nothing before its start is complete.
        self.opening = None;
        self.sender.send(ReaderEvent::Failed { shard: self.shard.clone(), error: error.clone() }.into());
        Ended::Failed(error)
    }
}
