//! The reader: every shard in order, through splits and merges, until it is stopped.

mod builder;
mod first_list;
mod standing;
mod stop;
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
use tokio::time::Instant;

#[cfg(doc)]
use crate::RetryPolicy;
use crate::backend::StreamClient;
use crate::error::{Error, ErrorKind, Result};
use crate::flow::{Budget, WarnOnce, random_seed, retry};
use crate::model::checkpoint::{Checkpoint, Checkpoints};
use crate::model::shard::ShardId;
use crate::model::timestamp::Timestamp;
use crate::record::Record;

use super::fan_in::{FairReceiver, fair_channel};
use super::lineage::Lineage;
use super::options::{ReaderOptions, Start};
use super::shard::delivery::Delivery;
use super::shard::fetch::Shared;
use super::shard::metrics::budget_used;
use super::shard::prefetch::{Prefetch, PrefetchPermit};
use super::shard_list::ShardList;

use self::first_list::{FirstList, first_list};
use self::standing::{Page, standing};
use self::stop::Deadline;
use self::supervisor::ShardSupervisor;

pub use self::builder::ReaderBuilder;
pub use self::stop::StopHandle;
pub use self::typed::{Typed, TypedReader};
pub use super::shard::delivery::{ReaderEvent, ShardBatch};

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
/// # Checkpoints
/// [`checkpoints`](Self::checkpoints) says where its consumer stands. A program stores it, and hands it to the
/// [options](ReaderOptions::checkpoints) of its next reader, which goes on there through any split or merge: no record is
/// lost, repeated, or out of order for its key.
///
/// # Errors
/// An item may be an error. A [retryable](crate::Error::is_retryable) one has lasted as long as the [`RetryPolicy`] allows,
/// and reading that shard goes on by itself. After any other, that shard is not read any further, and the others are; then the
/// last item before the end is [`Error::Incomplete`], which names every shard that is missing.
///
/// Dropping the reader ends its tasks.
#[derive(Debug)]
pub struct Reader {
    /// `None` once what was fetched is discarded.
    deliveries: Option<FairReceiver<Delivery>>,
    /// The page that is being handed out.
    page: Option<Page>,
    /// The memory of its records.
    permit: Option<PrefetchPermit>,
    /// Of what was handed out, without the page.
    checkpoints: Checkpoints,
    stop: StopHandle,
    deadline: Deadline,
    supervisor: OwnedTask,
}

impl Reader {
    /// Starts reading; [`Start::Latest`] means the time of this call.
    ///
    /// # Errors
    /// [`Error::ShardOutOfRange`](crate::Error::ShardOutOfRange); [`Error::ShardNotFound`](crate::Error::ShardNotFound) for a
    /// chosen shard that neither exists nor has children; [`Error::AnotherStream`] for the checkpoints of another stream of
    /// this name; the error of listing the stream, after the retries; the error of opening a shard if it is retryable and
    /// outlasts the retries. A shard that cannot be opened for another reason is an error item of the reader, and the other
    /// shards are read.
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
        let started = Instant::now();
        let seed = options.seed.unwrap_or_else(random_seed);
        let max_records = options.max_records.max(1);
        let options = ReaderOptions { max_records, ..options };
        let limits = retry(options.retry.backoff(seed), || client.limits()).await?;
        let mut checkpoints = options.checkpoints.clone().unwrap_or_default();
        checkpoints.stream_created_at = identity(&*client, &options, seed, checkpoints.stream_created_at).await?;
        let shard_list = Arc::new(ShardList::new(Arc::clone(&client)));
        let first = first_list(&*client, &shard_list, &limits, &start, &options, seed).await?;
        let FirstList { shards, gone, share } = first;
        let lineage = Lineage::new(client.name(), &shards, &gone, start, share, checkpoints.shards.clone())?;
        let (deliveries, sender) = fair_channel();
        let stop = StopHandle::new();
        let shared = Shared {
            prefetch: Prefetch::new(budget, budget_used(client.name())),
            client,
            shard_list,
            options: Arc::new(options),
            limits,
            stop: stop.stopped(),
            warn_once: WarnOnce::default(),
            started,
        };
        let supervisor = ShardSupervisor::new(shared, lineage, seed, sender);
        let (opening, mut opened) = mpsc::unbounded_channel();
        let supervisor = OwnedTask { handle: tokio::spawn(supervisor.run(opening)), has_ended: false };
        // "Latest" means now, so the shards are opened before this returns.
        while let Some(opened) = opened.recv().await {
            let (shard, checkpoint) = opened?;
            checkpoints.shards.insert(shard, checkpoint);
        }
        let (deadline, deliveries) = (stop.deadline(), Some(deliveries));
        Ok(Self { deliveries, page: None, permit: None, checkpoints, stop, deadline, supervisor })
    }

    /// The handle that stops this reader.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Where a consumer stands that has handled every record that it was handed, and no other: what was only fetched is not
    /// covered. For [`ReaderOptions::with_checkpoints`].
    ///
    /// ```
    /// use triton_core::{ReaderOptions, Start, Stream, StreamConfig, memory::Memory};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> triton_core::Result<()> {
    /// # let client = Memory::new().stream("clicks", 1)?;
    /// # let stream = Stream::new(&StreamConfig::new("clicks"), std::sync::Arc::new(client));
    /// stream.put(&serde_json::json!({"user": 1})).await?;
    /// stream.put(&serde_json::json!({"user": 2})).await?;
    ///
    /// let mut reader = stream.reader(Start::All, ReaderOptions::default()).await?;
    /// reader.next().await.expect("a record")?;
    /// let stored = serde_json::to_string(&reader.checkpoints()).expect("JSON");
    ///
    /// // In the next life of the program:
    /// let checkpoints = serde_json::from_str(&stored).expect("checkpoints");
    /// let mut reader = stream.reader(Start::All, ReaderOptions::default().with_checkpoints(checkpoints)).await?;
    /// let next = reader.next().await.expect("a record")?;
    /// assert_eq!(next.decode::<serde_json::Value>()?["user"], 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn checkpoints(&self) -> Checkpoints {
        standing(&self.checkpoints, self.page.as_ref())
    }

    /// The next record; `None` when the reader has ended.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Record>> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// The next records of one shard; `None` when the reader has ended. Cheaper per record than [`next`](Self::next).
    ///
    /// Cancel safe.
    pub async fn next_batch(&mut self) -> Option<Result<ShardBatch>> {
        loop {
            match self.next_event().await? {
                Ok(ReaderEvent::Batch(batch)) if batch.records.is_empty() => {}
                Ok(ReaderEvent::Batch(batch)) => return Some(Ok(batch)),
                Ok(ReaderEvent::Retrying { shard, error } | ReaderEvent::Failed { shard, error }) => {
                    return Some(Err(Error::Shard { shard, source: Box::new(error) }));
                }
                Ok(ReaderEvent::Ended { .. }) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// What happens next; `None` when the reader has ended. An error is the last item before the end: it names the shards that
    /// were not read to their end.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// [`Error::Incomplete`].
    pub async fn next_event(&mut self) -> Option<Result<ReaderEvent>> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// Decodes each payload as a `T`.
    pub fn typed<T: DeserializeOwned>(self) -> TypedReader<T> {
        TypedReader::new(self)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Record>>> {
        loop {
            if self.deadline.has_passed(context) {
                self.discard();
            }
            if let Some(page) = &mut self.page {
                let record = page.next();
                if page.is_empty() {
                    self.checkpoints.shards.insert(page.shard.clone(), page.checkpoint);
                    (self.page, self.permit) = (None, None);
                }
                if let Some(record) = record {
                    return Poll::Ready(Some(Ok(record)));
                }
            }
            let Some(delivery) = ready!(self.poll_delivery(context)) else {
                return self.poll_end(context).map(|error| error.map(Err));
            };
            match delivery.event {
                ReaderEvent::Batch(batch) => {
                    (self.page, self.permit) = (Some(Page::new(batch)), delivery.permit);
                }
                ReaderEvent::Retrying { shard, error } | ReaderEvent::Failed { shard, error } => {
                    return Poll::Ready(Some(Err(Error::Shard { shard, source: Box::new(error) })));
                }
                ReaderEvent::Ended { shard, .. } => self.ended(shard),
            }
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<ReaderEvent>>> {
        if self.deadline.has_passed(context) {
            self.discard();
        }
        self.permit = None;
        if let Some(page) = self.page.take() {
            let (shard, checkpoint, behind) = (page.shard.clone(), page.checkpoint, page.behind);
            let batch = ShardBatch { shard, checkpoint, behind, records: page.rest() };
            self.checkpoints.shards.insert(batch.shard.clone(), batch.checkpoint);
            return Poll::Ready(Some(Ok(ReaderEvent::Batch(batch))));
        }
        let Some(delivery) = ready!(self.poll_delivery(context)) else {
            return self.poll_end(context).map(|error| error.map(Err));
        };
        match &delivery.event {
            ReaderEvent::Batch(batch) => {
                self.checkpoints.shards.insert(batch.shard.clone(), batch.checkpoint);
            }
            ReaderEvent::Ended { shard, .. } => self.ended(shard.clone()),
            ReaderEvent::Retrying { .. } | ReaderEvent::Failed { .. } => {}
        }
        Poll::Ready(Some(Ok(delivery.event)))
    }

    fn ended(&mut self, shard: ShardId) {
        self.checkpoints.shards.insert(shard, Checkpoint::ENDED);
    }

    /// Discards what was fetched and not handed out. Its checkpoints stay where the consumer stands.
    fn discard(&mut self) {
        self.checkpoints = self.checkpoints();
        (self.page, self.permit, self.deliveries) = (None, None, None);
    }

    /// The next delivery; `None` when there are no more.
    fn poll_delivery(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let Some(deliveries) = &self.deliveries else { return Poll::Ready(None) };
        match deliveries.poll_next(context) {
            Poll::Pending if self.deadline.poll(context) => {
                self.discard();
                Poll::Ready(None)
            }
            poll => poll,
        }
    }

    /// The senders are dropped when their tasks are done; the end waits until the tasks are gone as well. Shards that were given
    /// up are an error: that is no plain end.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Option<Error>> {
        self.supervisor.poll_end(context)
    }
}

/// The stream's creation time, which is compared with the one of the checkpoints; `None` if the caller may not know it.
async fn identity(
    client: &dyn StreamClient,
    options: &ReaderOptions,
    seed: u64,
    stored: Option<Timestamp>,
) -> Result<Option<Timestamp>> {
    let actual = match retry(options.retry.backoff(seed), || client.created_at()).await {
        Ok(created_at) => created_at,
        Err(error) if matches!(error.kind(), ErrorKind::AccessDenied | ErrorKind::Throttled) => {
            tracing::debug!(%error, "checkpoints of another stream of this name cannot be told apart");
            return Ok(stored);
        }
        Err(error) => return Err(error),
    };
    match stored {
        Some(stored) if stored != actual => Err(Error::AnotherStream { stream: client.name().into(), stored, actual }),
        _ => Ok(Some(actual)),
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
    handle: JoinHandle<Option<Error>>,
    has_ended: bool,
}

impl OwnedTask {
    /// The error that the reader ends with, if any; only the first time.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Option<Error>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let ended = ready!(Pin::new(&mut self.handle).poll(context));
        self.has_ended = true;
        Poll::Ready(ended.unwrap_or_else(|error| {
            let problem = format!("the reader panicked ({error})");
            error.is_panic().then(|| Error::Contract { backend: "the reader".into(), problem })
        }))
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
