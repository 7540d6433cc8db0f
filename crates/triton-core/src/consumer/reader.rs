//! The reader: every shard in order, through splits and merges, until it is stopped.

mod builder;
mod supervisor;
mod typed;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream as FuturesStream;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[cfg(doc)]
use crate::RetryPolicy;
use crate::backend::StreamClient;
use crate::error::{Error, Result};
use crate::flow::{Budget, WarnOnce, random_seed, retry};
use crate::record::Record;

use super::fan_in::{FairReceiver, fair_channel};
use super::lineage::Lineage;
use super::options::{ReaderOptions, Start};
use super::shard::fetch::{Delivery, Shared};
use super::shard::metrics::budget_used;
use super::shard::prefetch::{Prefetch, PrefetchPermit};

use self::supervisor::ShardSupervisor;

pub use self::builder::ReaderBuilder;
pub use self::typed::{Typed, TypedReader};

/// The records of a stream, shard by shard in order, as a [`futures::Stream`](FuturesStream).
///
/// Each shard's records arrive in the order of their sequence numbers. Shards take turns, one fetch each, so that a shard
/// with a backlog does not delay the others. A shard that came from a split or merge is read once all its parents are
/// drained.
///
/// # Memory
/// Fetched records wait for a slow consumer within a [`Budget`]. Before a fetch, the expected size of the shard's pages is
/// reserved; it is released when the records are handed over. While the budget is used up, or three pages of a shard are
/// queued, nothing more is fetched.
///
/// Two things may exceed the budget. Up to 64 fetches are in flight, and a page may turn out larger than what was reserved
/// for it; it then occupies one of the 64 until it is handed over. And a shard of a backend that pushes records (a local
/// one) may deliver up to 16 records without a reservation.
///
/// Readers that share a budget wait for each other's consumers: a program that reads two streams in turn needs two budgets.
///
/// # Rate
/// A shard with a backlog is read as fast as its [read quota](crate::Limits::read_quota) allows, or as fast as other
/// readers of it leave. A shard that has caught up is polled every [`poll_interval`](ReaderOptions::poll_interval), each at
/// a time of its own.
///
/// # Errors
/// An item may be an error. A [retryable](crate::Error::is_retryable) one has lasted as long as the [`RetryPolicy`] allows,
/// and reading that shard goes on by itself. After any other, that shard is not read any further, and the others are.
///
/// Dropping the reader ends its tasks.
#[derive(Debug)]
pub struct Reader {
    deliveries: FairReceiver<Delivery>,
    current: std::vec::IntoIter<Record>,
    /// The memory of the current records.
    permit: Option<PrefetchPermit>,
    stop: StopHandle,
    supervisor: OwnedTask,
    /// The stream's name, for messages.
    stream: String,
}

/// Stops a [`Reader`], from any task and at any time.
#[derive(Clone, Debug)]
pub struct StopHandle(CancellationToken);

impl StopHandle {
    /// Stops fetching. Records that were fetched are still delivered; then the reader ends.
    pub fn stop(&self) {
        self.0.cancel();
    }
}

impl Reader {
    /// Starts reading; [`Start::Latest`] means the time of this call.
    ///
    /// # Errors
    /// [`Error::ShardOutOfRange`](crate::Error::ShardOutOfRange); the error of listing the stream, after the retries; the
    /// error of opening a shard if it is retryable and outlasts the retries. A shard that cannot be opened for another
    /// reason is an error item of the reader, and the other shards are read.
    pub async fn start(client: Arc<dyn StreamClient>, start: Start, options: ReaderOptions) -> Result<Self> {
        Self::builder(client).options(options).start(start).await
    }

    /// Returns a builder, which takes a [`Budget`] beside the options.
    pub fn builder(client: Arc<dyn StreamClient>) -> ReaderBuilder {
        ReaderBuilder::new(client)
    }

    async fn start_within(
        client: Arc<dyn StreamClient>,
        start: Start,
        options: ReaderOptions,
        budget: Budget,
    ) -> Result<Self> {
        let seed = options.seed.unwrap_or_else(random_seed);
        let max_records = options.max_records.max(1);
        let options = ReaderOptions { max_records, ..options };
        let limits = retry(options.retry.backoff(seed), || client.limits()).await?;
        let shards = retry(options.retry.backoff(seed), || client.shards()).await?;
        let lineage = Lineage::new(client.name(), &shards, start, options.shards.as_deref())?;
        let (deliveries, sender) = fair_channel();
        let stop = StopHandle(CancellationToken::new());
        let stream = client.name().to_owned();
        let shared = Shared {
            prefetch: Prefetch::new(budget, budget_used(client.name())),
            client,
            options: Arc::new(options),
            limits,
            stop: stop.0.clone(),
            warn_once: WarnOnce::default(),
            started: Instant::now(),
        };
        let supervisor = ShardSupervisor::new(shared, lineage, seed, sender);
        let (opening, mut opened) = mpsc::channel(1);
        let supervisor = OwnedTask { handle: tokio::spawn(supervisor.run(shards, opening)), has_ended: false };
        // "Latest" means now, so the shards are opened before this returns.
        if let Some(error) = opened.recv().await {
            return Err(error);
        }
        Ok(Self { deliveries, current: Vec::new().into_iter(), permit: None, stop, supervisor, stream })
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

    /// The next page of one shard's records; `None` when the reader has ended. Cheaper per record than
    /// [`next`](Self::next).
    ///
    /// Cancel safe.
    pub async fn next_batch(&mut self) -> Option<Result<Vec<Record>>> {
        if self.current.len() > 0 {
            self.permit = None;
            return Some(Ok(std::mem::take(&mut self.current).collect()));
        }
        let delivery = std::future::poll_fn(|context| self.poll_delivery(context)).await?;
        Some(delivery.outcome)
    }

    /// Decodes each payload as a `T`.
    pub fn typed<T: DeserializeOwned>(self) -> TypedReader<T> {
        TypedReader::new(self)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Record>>> {
        loop {
            if let Some(record) = self.current.next() {
                if self.current.len() == 0 {
                    self.permit = None;
                }
                return Poll::Ready(Some(Ok(record)));
            }
            match ready!(self.poll_delivery(context)) {
                Some(Delivery { outcome: Ok(records), permit }) => {
                    (self.current, self.permit) = (records.into_iter(), permit)
                }
                Some(Delivery { outcome: Err(error), .. }) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn poll_delivery(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        match ready!(self.deliveries.poll_next(context)) {
            Some(delivery) => Poll::Ready(Some(delivery)),
            // The senders are dropped when their tasks are done; the end waits until the tasks are gone as well.
            // If the supervisor panicked, shards were given up with it: that is no plain end.
            None => self.supervisor.poll_end(context).map(|panic| {
                let backend = self.stream.clone();
                panic.map(|problem| Error::Contract { backend, problem }.into())
            }),
        }
    }
}

impl FuturesStream for Reader {
    type Item = Result<Record>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context)
    }
}

/// A task that is aborted when dropped, and whether its end was seen.
struct OwnedTask {
    handle: JoinHandle<()>,
    has_ended: bool,
}

impl OwnedTask {
    /// Why the task has panicked, if it has; only the first time.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Option<String>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let ended = ready!(Pin::new(&mut self.handle).poll(context));
        self.has_ended = true;
        Poll::Ready(ended.err().filter(JoinError::is_panic).map(|panic| format!("the reader panicked ({panic})")))
    }
}

impl fmt::Debug for OwnedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.handle.is_finished() { "ended" } else { "running" })
    }
}

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

#[cfg(test)]
mod tests;
