//! Reading a stream: every shard, in order, through splits and merges, until told to stop.

mod follow;
mod lineage;
mod merge;
mod meter;
mod pacing;
mod prefetch;
mod shard_task;
mod typed;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream as FuturesStream;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::chance;
use crate::client::StreamClient;
use crate::error::Result;
use crate::planted::{self, Bug};
use crate::record::Record;
use crate::retry::{RetryPolicy, until_done};
use crate::sequence::SequenceNumber;
use crate::timestamp::Timestamp;

use self::follow::Follower;
use self::lineage::Lineage;
use self::merge::{Merged, merged};
use self::prefetch::Room;
use self::shard_task::Delivery;

pub use self::typed::{Typed, TypedReader};

/// Where a [`Reader`] starts.
///
/// Shard numbers are indexes into the stream's whole list of shards, closed ones counted, sorted by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// After the last record of each shard that is open now; shards that come from them are read from their start.
    Latest,
    /// At the oldest record that is kept.
    All,
    /// At the first record of each shard that arrived at this time or later.
    Time(Timestamp),
    /// At this record of one shard, then on through the shards that come from it.
    At {
        /// The shard's number.
        shard: usize,
        /// The record's sequence number.
        sequence_number: SequenceNumber,
    },
    /// After this record of one shard, then on through the shards that come from it.
    After {
        /// The shard's number.
        shard: usize,
        /// The record's sequence number.
        sequence_number: SequenceNumber,
    },
}

/// How a [`Reader`] works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReaderOptions {
    /// The numbers of the shards to read, with those that come from them; `None` for all.
    ///
    /// A merged shard is read by the reader that holds its first parent, and waits only for the parents that this
    /// reader holds: records of the other parent may then be read later, by another reader, than those of the child.
    pub shards: Option<Vec<usize>>,
    /// Whether reading ends when every shard was read up to its newest record.
    pub until_caught_up: bool,
    /// The most records in one fetch; 0 counts as 1.
    pub max_records: usize,
    /// What bounds the memory of records that were fetched and not yet taken; 64 MiB of its own for each reader if `None`.
    pub budget: Option<Budget>,
    /// How often a shard is asked that has caught up, on a stream that does not tell of new records by itself (Kinesis by
    /// polling); the stream's own [`idle_poll`](crate::Limits::idle_poll) if `None`. Not more often than the shard's read
    /// quota allows, which is 200 ms on Kinesis for all that read it.
    pub poll_interval: Option<Duration>,
    /// When a fetch that failed is made again, and when the failure is reported.
    pub retry: RetryPolicy,
    /// Decides the waits; from the operating system if `None`.
    pub seed: Option<u64>,
}

impl Default for ReaderOptions {
    /// All shards, without an end, 10,000 records a fetch: as many as Kinesis gives; backends bound the bytes.
    fn default() -> Self {
        Self {
            shards: None,
            until_caught_up: false,
            max_records: 10_000,
            budget: None,
            poll_interval: None,
            retry: RetryPolicy::default(),
            seed: None,
        }
    }
}

impl ReaderOptions {
    /// Only the shards of these numbers and those that come from them.
    pub fn with_shards(self, shards: impl Into<Vec<usize>>) -> Self {
        Self { shards: Some(shards.into()), ..self }
    }

    /// Ends when every shard was read up to its newest record.
    pub fn with_until_caught_up(self, until_caught_up: bool) -> Self {
        Self { until_caught_up, ..self }
    }

    /// At most so many records in one fetch.
    pub fn with_max_records(self, max_records: usize) -> Self {
        Self { max_records, ..self }
    }

    /// Within this budget, which may be shared with other readers.
    pub fn with_budget(self, budget: Budget) -> Self {
        Self { budget: Some(budget), ..self }
    }

    /// Asks a shard that has caught up so often.
    pub fn with_poll_interval(self, interval: Duration) -> Self {
        Self { poll_interval: Some(interval), ..self }
    }

    /// With another retry policy.
    pub fn with_retry(self, retry: RetryPolicy) -> Self {
        Self { retry, ..self }
    }

    /// With a seed, so that a test replays.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }
}

/// The records of a stream, shard by shard in order, as a [`futures::Stream`](FuturesStream).
///
/// Each shard's records come in the order of their sequence numbers. Shards take turns, a fetch each, so that one with much
/// does not keep the others waiting. A shard that comes from a split or merge is read once all its parents are read to
/// their end.
///
/// # Memory
/// What was fetched waits for a slow caller, within a [`Budget`]: a fetch reserves what the shard's fetches have been
/// costing before it is made, and gives that back when its records were handed over. When the budget is used up, or three
/// fetches of a shard wait, nothing more is fetched until some are taken.
///
/// Two things may go beyond the budget. At most 64 fetches are under way at once, and what one of them turns out to be
/// larger than was reserved is there all the same; it then counts as under way until it was taken. And a shard of a
/// stream that tells of new records by itself (a local one) may bring up to 16 records that nothing was reserved for.
///
/// Readers that share a budget wait for each other's callers; who reads two streams in turns wants two.
///
/// # Pace
/// A shard that is behind is read as fast as its [read quota](crate::Limits::read_quota) allows; where others read it too
/// and calls are throttled, as fast as is left. One that has caught up is asked every
/// [`poll_interval`](ReaderOptions::poll_interval), each shard at another time.
///
/// # Errors
/// An item may be an error. Where it [may pass](crate::Error::is_retryable), it was tried for as long as the
/// [`RetryPolicy`] says, and reading goes on by itself; otherwise that one shard is not read on, and the others are.
///
/// Dropping the reader ends its tasks.
#[derive(Debug)]
pub struct Reader {
    deliveries: Merged<Delivery>,
    current: std::vec::IntoIter<Record>,
    /// What the current records take.
    room: Option<Room>,
    stop: StopHandle,
    follower: OwnedTask,
}

/// Stops a [`Reader`]; may be cloned, sent and used at any time.
#[derive(Clone, Debug)]
pub struct StopHandle(CancellationToken);

impl StopHandle {
    /// From now on nothing new is fetched. What was fetched is still delivered; then the reader ends.
    pub fn stop(&self) {
        self.0.cancel();
    }
}

impl Reader {
    /// Starts reading. Records are fetched from now on; [`Start::Latest`] means now.
    ///
    /// # Errors
    /// [`Error::ShardOutOfRange`](crate::Error::ShardOutOfRange), or what keeps the stream from being listed, after the
    /// retries.
    pub async fn start(client: Arc<dyn StreamClient>, start: Start, options: ReaderOptions) -> Result<Self> {
        let seed = options.seed.unwrap_or_else(chance::seed);
        let max_records = options.max_records.max(1);
        let options = ReaderOptions { max_records, ..options };
        let limits = until_done(options.retry.backoff(seed), || client.limits()).await?;
        let shards = until_done(options.retry.backoff(seed), || client.shards()).await?;
        let lineage = Lineage::new(client.name(), &shards, start, options.shards.as_deref())?;
        let (deliveries, lane) = merged();
        let stop = StopHandle(CancellationToken::new());
        let follower = Follower::new(client, lineage, options, limits, seed, lane, stop.0.clone());
        let (opening, mut opened) = mpsc::channel(1);
        let follower = OwnedTask(tokio::spawn(follower.run(shards, opening)));
        // The latest position is a promise about now, so the shards are opened before this returns.
        if let Some(error) = opened.recv().await {
            return Err(error);
        }
        Ok(Self { deliveries, current: Vec::new().into_iter(), room: None, stop, follower })
    }

    /// The handle that stops this reader.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// The next record; `None` when the reader has ended.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Record>> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// The next records of one shard, as they were fetched; `None` when the reader has ended.
    ///
    /// Cheaper than [`next`](Self::next) for who can take many at once. Cancel safe.
    pub async fn next_batch(&mut self) -> Option<Result<Vec<Record>>> {
        if self.current.len() > 0 {
            self.room = None;
            return Some(Ok(std::mem::take(&mut self.current).collect()));
        }
        let delivery = std::future::poll_fn(|context| self.poll_delivery(context)).await?;
        Some(delivery.outcome)
    }

    /// This reader's records with their payloads as values of a type.
    pub fn typed<T: DeserializeOwned>(self) -> TypedReader<T> {
        TypedReader::new(self)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Record>>> {
        loop {
            if let Some(record) = self.current.next() {
                if self.current.len() == 0 {
                    self.room = None;
                }
                return Poll::Ready(Some(Ok(record)));
            }
            match ready!(self.poll_delivery(context)) {
                Some(Delivery { outcome: Ok(records), room }) => {
                    (self.current, self.room) = (records.into_iter(), room)
                }
                Some(Delivery { outcome: Err(error), .. }) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn poll_delivery(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        if planted::is(Bug::StopDropsFetched) && self.stop.0.is_cancelled() {
            return Poll::Ready(None);
        }
        match ready!(self.deliveries.poll_next(context)) {
            Some(delivery) => Poll::Ready(Some(delivery)),
            // The lanes close when the tasks are done with them; the end waits until they are gone as well.
            None => self.follower.poll_end(context).map(|()| None),
        }
    }
}

impl FuturesStream for Reader {
    type Item = Result<Record>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context)
    }
}

/// A task that ends with its owner.
struct OwnedTask(JoinHandle<()>);

impl OwnedTask {
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.0.is_finished() {
            return Poll::Ready(());
        }
        Pin::new(&mut self.0).poll(context).map(|_| ())
    }
}

impl fmt::Debug for OwnedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_finished() { "ended" } else { "running" })
    }
}

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
