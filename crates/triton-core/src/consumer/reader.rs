//! Reading a stream: every shard, in order, through splits and merges, until told to stop.

mod supervisor;
mod typed;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream as FuturesStream;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::backend::StreamClient;
use crate::error::Result;
use crate::flow::retry::until_done;
use crate::flow::seed;
use crate::planted::{self, Bug};
use crate::record::Record;
#[cfg(doc)]
use crate::{Budget, RetryPolicy};

use super::fan_in::{Merged, merged};
use super::lineage::Lineage;
use super::options::{ReaderOptions, Start};
use super::shard::fetch::Delivery;
use super::shard::prefetch::Room;

use self::supervisor::Follower;

pub use self::typed::{Typed, TypedReader};

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
        let seed = options.seed.unwrap_or_else(seed::seed);
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
