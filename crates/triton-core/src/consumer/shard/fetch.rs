//! Reading one shard: fetch when it is due and there is room, hand over, and go on after what may pass.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backend::{Batch, Limits, ShardReader, StreamClient};
use crate::error::{Error, Result};
use crate::flow::budget::RECORD_OVERHEAD;
use crate::flow::retry::{Backoff, Trouble};
use crate::model::position::Position;
use crate::model::shard::ShardId;
use crate::planted::{self, Bug};
use crate::record::Record;
use crate::record::aggregate::unpack_all;

use crate::consumer::fan_in::Lane;
use crate::consumer::options::ReaderOptions;

use super::metrics::Meter;
use super::pacing::Pacing;
use super::prefetch::{PAGES_AHEAD, PUSHED_RECORDS, PageSize, Prefetch, Room};

/// What the shards' tasks share.
#[derive(Clone, Debug)]
pub(in crate::consumer) struct Shared {
    pub(in crate::consumer) client: Arc<dyn StreamClient>,
    pub(in crate::consumer) options: Arc<ReaderOptions>,
    pub(in crate::consumer) limits: Limits,
    pub(in crate::consumer) prefetch: Prefetch,
    pub(in crate::consumer) stop: CancellationToken,
    /// What fails for many shards at once is told once.
    pub(in crate::consumer) trouble: Trouble,
    pub(in crate::consumer) started: Instant,
}

/// What a shard's task hands over.
#[derive(Debug)]
pub(in crate::consumer) struct Delivery {
    pub(in crate::consumer) outcome: Result<Vec<Record>>,
    /// What the records take, until they were handed to the caller.
    pub(in crate::consumer) room: Option<Room>,
}

impl From<Error> for Delivery {
    fn from(error: Error) -> Self {
        Self { outcome: Err(error), room: None }
    }
}

/// How the reading of a shard ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::consumer) enum Ended {
    /// The shard is closed and every record of it was taken.
    Drained,
    /// The newest record was handed over, and the reader was told to end there.
    CaughtUp,
    /// The reader was stopped, or nobody takes its records any more.
    Stopped,
    /// The shard cannot be read on; the error was handed over.
    Failed,
}

#[derive(Debug)]
pub(in crate::consumer) struct ShardTask {
    shared: Shared,
    shard: ShardId,
    position: Position,
    reader: Option<Box<dyn ShardReader>>,
    lane: Lane<Delivery>,
    pacing: Pacing,
    page_size: PageSize,
    backoff: Backoff,
    meter: Meter,
    /// Held until the shard is open, or has failed to open: the reader's start waits for that.
    opening: Option<Opening>,
}

/// What a start waits for: it has happened when every clone is dropped. An error says that it will not.
pub(in crate::consumer) type Opening = mpsc::Sender<Error>;

impl ShardTask {
    pub(in crate::consumer) fn new(
        shared: Shared,
        lane: Lane<Delivery>,
        shard: ShardId,
        position: Position,
        seed: u64,
        opening: Option<Opening>,
    ) -> Self {
        Self {
            reader: None,
            lane,
            pacing: Pacing::new(&shared.limits, &shared.options, position, shared.started, seed),
            page_size: PageSize::default(),
            backoff: shared.options.retry.backoff(seed).with_trouble(&shared.trouble),
            meter: Meter::new(shared.client.name(), &shard),
            opening,
            shared,
            shard,
            position,
        }
    }

    /// What is logged of this shard belongs to this.
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
        tracing::debug!(?ended, "no longer read");
        (self.shard, ended)
    }

    /// Reads until it ends. May be dropped at every await: what was fetched has been handed over by then.
    async fn read(&mut self) -> Ended {
        loop {
            // A page that is there at once leaves no other moment to see it.
            if self.shared.stop.is_cancelled() {
                return Ended::Stopped;
            }
            let ended = match self.fetch().await {
                Ok(Some((batch, room))) => self.take(batch, room).await,
                Ok(None) => {
                    // Its children's records wait in lanes of their own, and would overtake what is left in this one.
                    self.lane.emptied().await;
                    Some(Ended::Drained)
                }
                Err(error) => self.recover(error).await,
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// The next page, when it is due and there is room for it.
    async fn fetch(&mut self) -> Result<Option<(Batch, Room)>> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(self.shared.client.open_shard(&self.shard, self.position).await?),
        };
        self.opening = None;
        self.pacing.until_due().await;
        let (room, max_records) = match self.pacing.waits_inside() {
            true => (self.shared.prefetch.nothing(), self.shared.options.max_records.min(PUSHED_RECORDS)),
            false => (
                self.shared.prefetch.room(self.page_size.bytes()).await,
                self.pacing.records(self.shared.options.max_records),
            ),
        };
        self.pacing.sent();
        self.meter.fetches.increment(1);
        let fetched = reader.next_batch(max_records).await;
        if let Err(Error::Throttled { .. }) = fetched {
            self.meter.throttles.increment(1);
            self.pacing.refused();
        }
        Ok(fetched?.map(|batch| (batch, room)))
    }

    /// Hands a page over. Nothing is awaited before that, so that what was fetched is delivered, stopped or not.
    async fn take(&mut self, batch: Batch, mut room: Room) -> Option<Ended> {
        self.backoff.reset();
        let is_caught_up = batch.is_caught_up();
        let bytes = batch.records.iter().map(size).sum();
        self.pacing.answered(bytes, batch.records.len(), batch.behind);
        if let Some(behind) = batch.behind {
            self.meter.millis_behind.set(behind.as_secs_f64() * 1000.0);
        }
        if is_caught_up && self.shared.options.until_caught_up {
            return Some(Ended::CaughtUp);
        }
        let records = unpack_all(batch.records);
        // Records of an aggregate are parts of its bytes; what each costs beside them is counted here.
        let cost = bytes + records.len() * RECORD_OVERHEAD;
        if room.is_reserved() {
            self.page_size.learn(cost);
        }
        // An aggregate may hold no record at all.
        if records.is_empty() {
            return None;
        }
        self.meter.records.increment(records.len() as u64);
        self.meter.bytes.increment(bytes as u64);
        let has_room = room.fill(cost);
        if !self.lane.put(Delivery { outcome: Ok(records), room: Some(room) }) {
            return Some(Ended::Stopped);
        }
        self.lane.fewer_than(if has_room { PAGES_AHEAD } else { 1 }).await;
        None
    }

    async fn recover(&mut self, error: Error) -> Option<Ended> {
        if !error.is_retryable() {
            self.meter.failed();
            self.report(error);
            return Some(Ended::Failed);
        }
        if let Error::IteratorExpired { .. } = error
            && let Some(expired) = self.reader.take()
            && !planted::is(Bug::RewindOnExpiredIterator)
        {
            self.position = expired.position();
        }
        if self.backoff.wait(&error).await {
            return None;
        }
        if let Some(opening) = self.opening.take() {
            // A reader that starts where it was told to, or not at all. One error is enough to say so.
            drop(opening.try_send(error));
            return Some(Ended::Failed);
        }
        self.backoff.reset();
        if !self.report(error) {
            return Some(Ended::Stopped);
        }
        // A caller that takes nothing is not told the same for hours.
        self.lane.emptied().await;
        None
    }

    /// Hands an error over. Answers `false` when nobody takes it.
    fn report(&mut self, error: Error) -> bool {
        // Nobody takes anything before the start is over.
        self.opening = None;
        self.lane.put(Error::Shard { shard: self.shard.clone(), source: Box::new(error) }.into())
    }
}

/// What a record counts against a shard's quota.
fn size(record: &Record) -> usize {
    record.data.len() + record.partition_key.as_str().len()
}
