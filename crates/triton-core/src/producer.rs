//! Putting records so that each ends exactly once: acknowledged, or failed to its caller.
//!
//! ```text
//! put ──► budget ──► inbox ──► chains ──► lanes ──► calls ──► StreamClient
//!  │                        (one of a   (a shard,            │
//!  ticket ◄── outcome ◄───── key each)   its pace) ◄─ again ─┘
//! ```

mod call;
mod chain;
mod driver;
mod inbox;
mod lane;
mod ticket;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Limits, StreamClient};
use crate::error::{Error, Result};
use crate::flow::RetryPolicy;
use crate::flow::{Budget, Reservation};
use crate::record::{PutEntry, PutReceipt};

use self::inbox::Shared;
pub use self::ticket::Ticket;
use self::ticket::{Outcomes, Places, SHARED};

/// The bytes that a producer's records take at most, where it is given no budget.
const DEFAULT_BUDGET: usize = 64 << 20;

/// How long a record waits for others to share a call with, where nothing else is said.
const DEFAULT_LINGER: Duration = Duration::from_millis(50);

/// What order records are read in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyOrder {
    /// Records of one partition key in the order of their puts. Where a backend may store the records of a call in any
    /// order, as Kinesis does, a key then has one record on its way at a time, or a shard one aggregate.
    #[default]
    PerKey,
    /// Any order. Faster where few keys have many records.
    Relaxed,
}

/// How a [`Producer`] works.
#[derive(Clone)]
#[non_exhaustive]
pub struct ProducerOptions {
    /// When what failed is sent again, and when it is given up.
    pub retry: RetryPolicy,
    /// How long a record waits for others to share a call with; 50 ms. [`Producer::put_all`] and
    /// [`Stream::put`](crate::Stream::put) do not wait, and nothing does on a backend that [keeps the order of a
    /// call](Limits::ordered_batches), where one call is made at a time and the records of the next wait for its answer anyway.
    pub linger: Duration,
    /// What bounds the memory of the records without an outcome; 64 MiB of the producer's own.
    pub budget: Budget,
    /// What order records are read in.
    pub ordering: KeyOrder,
    /// Whether records of one shard are packed together, in the Kinesis Producer Library's format. Only readers that
    /// know it can read them.
    pub aggregation: bool,
    /// Whether the records behind one of their key that failed and may be written late fail with it, since it could
    /// overtake them. True unless told otherwise.
    pub withholds: bool,
    /// Receives what could not be put, beside its ticket; of what a dropped producer loses, only the tickets tell.
    pub on_failed: Option<FailedHook>,
    /// Decides the waits; from the operating system if `None`.
    pub seed: Option<u64>,
}

/// What is called with each record that could not be put. It must not block: it is called where records are put.
pub type FailedHook = Arc<dyn Fn(FailedPut) + Send + Sync>;

/// A record that could not be put.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailedPut {
    /// The record.
    pub entry: PutEntry,
    /// Why.
    pub error: Error,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            linger: DEFAULT_LINGER,
            budget: Budget::new(DEFAULT_BUDGET),
            ordering: KeyOrder::default(),
            aggregation: false,
            withholds: true,
            on_failed: None,
            seed: None,
        }
    }
}

impl ProducerOptions {
    /// With another retry policy.
    pub fn with_retry(self, retry: RetryPolicy) -> Self {
        Self { retry, ..self }
    }

    /// With another wait for company.
    pub fn with_linger(self, linger: Duration) -> Self {
        Self { linger, ..self }
    }

    /// With a budget, which others may share.
    pub fn with_budget(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    /// In another order.
    pub fn with_ordering(self, ordering: KeyOrder) -> Self {
        Self { ordering, ..self }
    }

    /// With or without aggregation.
    pub fn with_aggregation(self, aggregation: bool) -> Self {
        Self { aggregation, ..self }
    }

    /// Whether records fail with an earlier one of their key that may be written late.
    pub fn with_withholds(self, withholds: bool) -> Self {
        Self { withholds, ..self }
    }

    /// With a hook for what could not be put.
    pub fn with_on_failed(self, hook: impl Fn(FailedPut) + Send + Sync + 'static) -> Self {
        Self { on_failed: Some(Arc::new(hook)), ..self }
    }

    /// With a seed, so that a test replays.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }
}

impl fmt::Debug for ProducerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerOptions")
            .field("retry", &self.retry)
            .field("linger", &self.linger)
            .field("budget", &self.budget)
            .field("ordering", &self.ordering)
            .field("aggregation", &self.aggregation)
            .field("withholds", &self.withholds)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// Puts entries into one stream: batches them by shard, paces each shard, sends again what failed, and keeps each key's
/// order.
///
/// Records of one partition key are read in the order in which they were accepted, retries and splits included; puts made
/// at once have no order among them. After a lost reply a record may be there twice; first occurrences are in order.
///
/// A shard's quota is kept to, so that little is refused, and what other producers take of it is learned. A shard that
/// has no room keeps the records of other shards from nothing but the budget.
///
/// It works in a task of its own, in the tokio runtime of the first put, which has to go on running.
///
/// ```
/// use triton_core::memory::Memory;
/// use triton_core::{PartitionKey, Producer, ProducerOptions, PutEntry};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> triton_core::Result<()> {
/// let client = Memory::new().stream("clicks", 4)?;
/// let producer = Producer::new(std::sync::Arc::new(client), ProducerOptions::default());
/// // Waits for room in the budget, not for the stream.
/// let ticket = producer.put(PutEntry::new(PartitionKey::new("user-1")?, "hi")).await?;
/// println!("stored as {}", ticket.await?.sequence_number);
///
/// let closed = producer.close().await;
/// assert_eq!((closed.sent, closed.failed), (1, 0));
/// # Ok(())
/// # }
/// ```
pub struct Producer(Arc<Shared>);

/// What a producer did in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// Records that were acknowledged.
    pub sent: u64,
    /// Records that failed to their callers.
    pub failed: u64,
}

/// Entries whose caller waits for all of them: in parts, each with its outcomes or the reason why it was not accepted.
pub(crate) struct Accepted(Vec<Result<Arc<Outcomes>, (Error, usize)>>);

impl Accepted {
    /// Waits for every outcome, in the order of the entries.
    pub(crate) async fn outcomes(self, into: &mut Vec<Result<PutReceipt>>) {
        for part in self.0 {
            match part {
                Ok(part) => part.all(into).await,
                Err((error, count)) => into.extend((0..count).map(|_| Err(error.clone()))),
            }
        }
    }
}

/// Why [`Producer::try_put`] did not accept an entry.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TryPutError {
    /// The budget is used up; the entry comes back.
    #[error("the producer's budget is used up")]
    Full(Box<PutEntry>),
    /// It never will be.
    #[error(transparent)]
    Refused(Error),
}

impl Producer {
    /// A producer for this stream.
    pub fn new(client: Arc<dyn StreamClient>, options: ProducerOptions) -> Self {
        Self(Arc::new(Shared::new(client, options)))
    }

    /// Accepts an entry when the budget has room for it. The ticket tells what becomes of it.
    ///
    /// While it waits, nothing of this producer lingers. Others that share the budget may: give those a short linger.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::Invalid`] outside a tokio runtime.
    ///
    /// Cancel safe: an entry that was not accepted is not put.
    pub async fn put(&self, entry: PutEntry) -> Result<Ticket> {
        let reserved = self.reserve(cost(&entry)).await;
        self.0.accept(entry, reserved)
    }

    async fn reserve(&self, bytes: usize) -> Reservation {
        let budget = &self.0.options.budget;
        match budget.try_reserve(bytes) {
            Some(reserved) => reserved,
            None => {
                // Nobody lingers while another waits for room.
                self.0.hurry();
                budget.reserve(bytes).await
            }
        }
    }

    /// Accepts an entry if the budget has room for it now.
    ///
    /// # Errors
    /// [`TryPutError::Full`] gives it back; [`TryPutError::Refused`] as [`put`](Self::put).
    pub fn try_put(&self, entry: PutEntry) -> Result<Ticket, TryPutError> {
        match self.0.options.budget.try_reserve(cost(&entry)) {
            Some(reserved) => self.0.accept(entry, reserved).map_err(TryPutError::Refused),
            None => {
                self.0.hurry();
                Err(TryPutError::Full(Box::new(entry)))
            }
        }
    }

    /// Puts every entry, without lingering, and answers with one result each, in their order, when all are decided.
    ///
    /// One entry's failure does not keep the others from being put, except that entries are
    /// [withheld](Error::PredecessorFailed) if an earlier one of their key failed and may be written late.
    ///
    /// Dropping the future leaves open which entries are written.
    pub async fn put_all<I>(&self, entries: I) -> Vec<Result<PutReceipt>>
    where
        I: IntoIterator<Item = PutEntry>,
        I::IntoIter: Send,
    {
        let entries = entries.into_iter();
        let mut outcomes = Vec::with_capacity(entries.size_hint().0);
        self.accept_all(entries).await.outcomes(&mut outcomes).await;
        outcomes
    }

    /// Accepts every entry; the outcomes are told of all of them together.
    pub(crate) async fn accept_all(&self, mut entries: impl Iterator<Item = PutEntry> + Send) -> Accepted {
        let mut accepted = Vec::new();
        loop {
            // A part of the budget at a time, so that what is larger than all of it finds its way too.
            let part = self.0.options.budget.bytes() / 8;
            let (mut some, mut bytes) = (Vec::new(), 0);
            while some.len() < SHARED
                && bytes < part.max(1)
                && let Some(entry) = entries.next()
            {
                bytes += cost(&entry);
                some.push(entry);
            }
            if some.is_empty() {
                break;
            }
            let count = some.len();
            let reserved = self.reserve(bytes).await;
            let mut places = Places::of(count);
            match self.0.accept_all(some, &mut places, reserved) {
                Ok(()) => accepted.push(Ok(places.whole())),
                Err(error) => accepted.push(Err((error, count))),
            }
        }
        Accepted(accepted)
    }

    /// Waits until everything that was accepted so far has its outcome, without lingering.
    ///
    /// Cancel safe: what was accepted is put all the same.
    pub async fn flush(&self) {
        // The sender is dropped when it is so, and never sends.
        drop(self.0.fence().await);
    }

    /// Accepts nothing more, and waits until everything has its outcome.
    ///
    /// Dropping the future drops the producer.
    pub async fn close(self) -> Closed {
        self.0.refuse();
        self.flush().await;
        if let Some(driver) = self.0.take_driver() {
            // It ends now. Were it to panic, each ticket would say so.
            drop(driver.await);
        }
        let (sent, failed, _) = self.0.counts();
        Closed { sent, failed }
    }

    /// The stream's limits, asked for once.
    ///
    /// # Errors
    /// As [`StreamClient::limits`], after the retries.
    pub async fn limits(&self) -> Result<Limits> {
        self.0.limits().await
    }

    /// What bounds its memory.
    pub fn budget(&self) -> &Budget {
        &self.0.options.budget
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, failed, pending) = self.0.counts();
        f.debug_struct("Producer")
            .field("stream", &self.0.client.name())
            .field("sent", &sent)
            .field("failed", &failed)
            .field("pending", &pending)
            .finish_non_exhaustive()
    }
}

impl Drop for Producer {
    /// What has no outcome is lost, and said so: to each ticket, and in one warning.
    fn drop(&mut self) {
        self.0.refuse();
        if let Some(driver) = self.0.take_driver() {
            driver.abort();
            let (_, _, pending) = self.0.counts();
            if pending > 0 {
                tracing::warn!(
                    "a producer of '{}' was dropped with {pending} records that were not acknowledged; close() waits for them",
                    self.0.client.name()
                );
            }
        }
    }
}

/// What an entry counts against the budget.
fn cost(entry: &PutEntry) -> usize {
    entry.size() + Budget::RECORD_OVERHEAD
}

#[cfg(test)]
mod tests;
