//! Putting records so that each ends exactly once: acknowledged, or failed to its caller.
//!
//! ```text
//! submit ──► budget ──► inbox ──► schedule ──► batches ──► StreamClient
//!    │                               ▲                         │
//!    ▼                               └──────── answers ◄───────┘
//!  ticket ◄── outcome ◄────────────── report
//! ```
//!
//! Callers leave records in the inbox. One task per producer moves them into the schedule, which decides, without any
//! I/O, when each is sent and what an answer means.

mod builder;
mod hook;
mod inbox;
mod metric;
mod options;
mod outcome;
mod record;
mod routing;
mod schedule;
mod shared;
mod stats;
mod task;
mod ticket;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::runtime;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::backend::{Limits, StreamClient};
use crate::error::{Error, Result, TrySubmitError};
use crate::flow::{Budget, Reservation};
use crate::record::{PutEntry, PutReceipt};

pub use self::builder::ProducerBuilder;
pub use self::hook::{FailedHook, FailedPut};
use self::inbox::Inbox;
pub use self::options::{KeyOrder, ProducerOptions};
use self::record::cost;
use self::shared::{EndReason, Shared};
pub use self::stats::{CloseSummary, ProducerStats};
pub use self::ticket::Ticket;
use self::ticket::{AckSlots, SLOTS, SlotAllocator};

/// Puts entries into one stream: batches them by shard, respects each shard's quota, retries failures, and keeps the
/// order of each key.
///
/// Records of one partition key are read in the order in which they were accepted, retries and splits included; records that
/// are submitted concurrently have no order among them. After a lost reply a record may be stored twice; first occurrences
/// are in order.
///
/// The producer respects each shard's quota, so that few records are refused, and learns how much of it other producers
/// use. A throttled shard delays other shards only by occupying the shared budget.
///
/// It is cheap to clone; clones share everything. It runs as a task in the tokio runtime where the first record is
/// submitted. That runtime has to outlive it.
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
/// let ticket = producer.submit(PutEntry::new(PartitionKey::new("user-1")?, "hi")).await?;
/// println!("stored as {}", ticket.await?.sequence_number);
///
/// let closed = producer.close().await?;
/// assert_eq!((closed.acknowledged, closed.failed, closed.unknown), (1, 0, 0));
/// # Ok(())
/// # }
/// ```
///
/// # Closing
/// [`close`](Self::close) and [`close_within`](Self::close_within) end the producer for every clone. When the last clone is
/// dropped instead, its task ends: each record without an outcome fails with [`Error::Closed`], to its ticket and to the
/// hook, and one warning says how many there were.
#[derive(Clone)]
pub struct Producer(Arc<Handle>);

/// Shared by the clones of a producer. The task holds only the inner `Shared`, so that it ends when the last clone is dropped.
struct Handle(Arc<Shared>);

/// Entries whose caller waits for all of them, in parts. Each part has its slots, or the error and the number of
/// entries if it was not accepted.
pub(crate) struct Accepted(Vec<Result<Arc<AckSlots>, (Error, usize)>>);

impl Accepted {
    /// Waits for every outcome, in the order of the entries.
    pub(crate) async fn outcomes(self, into: &mut Vec<Result<PutReceipt>>) {
        for part in self.0 {
            match part {
                Ok(slots) => slots.all(into).await,
                Err((error, count)) => into.extend((0..count).map(|_| Err(error.clone()))),
            }
        }
    }
}

impl Producer {
    /// A producer for this stream, with a budget of its own.
    pub fn new(client: Arc<dyn StreamClient>, options: ProducerOptions) -> Self {
        Self::builder(client).options(options).build()
    }

    /// A builder, which takes live handles beside the options: a budget, a hook for failures.
    pub fn builder(client: Arc<dyn StreamClient>) -> ProducerBuilder {
        ProducerBuilder::new(client)
    }

    /// Accepts an entry as soon as the budget has room for it. The ticket resolves to its outcome.
    ///
    /// While a call waits, nothing of this producer lingers. Other producers that share the budget may: give those a short
    /// linger.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::Invalid`] outside a tokio runtime.
    ///
    /// Cancel safe: an entry that was not accepted is not put.
    pub async fn submit(&self, entry: PutEntry) -> Result<Ticket> {
        let reserved = self.reserve(cost(&entry)).await?;
        let mut inbox = self.open_inbox()?;
        let ticket = inbox.push(entry, reserved);
        self.wake_if_worth_it(&inbox);
        Ok(ticket)
    }

    /// Accepts an entry if the budget has room for it now.
    ///
    /// # Errors
    /// [`TrySubmitError`], which gives the entry back.
    pub fn try_submit(&self, entry: PutEntry) -> Result<Ticket, TrySubmitError<PutEntry>> {
        let Some(reserved) = self.shared().budget.try_reserve(cost(&entry)) else {
            if self.shared().inbox().is_closed {
                return Err(TrySubmitError::Closed(entry));
            }
            self.shared().hurry();
            return Err(TrySubmitError::Full(entry));
        };
        match self.open_inbox() {
            Ok(mut inbox) => {
                let ticket = inbox.push(entry, reserved);
                self.wake_if_worth_it(&inbox);
                Ok(ticket)
            }
            Err(Error::Closed { .. }) => Err(TrySubmitError::Closed(entry)),
            Err(error) => Err(TrySubmitError::Refused(entry, Box::new(error))),
        }
    }

    /// Puts an entry, without lingering, and returns when it is durable.
    ///
    /// One put after the other costs a round trip per record. [`submit`](Self::submit) many and await their tickets, or
    /// [put them together](Self::put_all), to share calls.
    ///
    /// # Errors
    /// As [`Ticket`].
    ///
    /// Dropping the future leaves open whether the entry is written.
    pub async fn put(&self, entry: PutEntry) -> Result<PutReceipt> {
        self.put_all([entry]).await.pop().unwrap_or_else(|| {
            let problem = "no outcome for a record".into();
            Err(Error::Contract { backend: self.shared().client.name().into(), problem })
        })
    }

    /// Puts every entry, without lingering, and returns one result per entry, in order, when all are known.
    ///
    /// One entry's failure does not keep the others from being put, except that an entry
    /// [fails with an earlier one](Error::PredecessorFailed) of its key that may still be written.
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

    /// Accepts every entry; the outcomes are read together.
    pub(crate) async fn accept_all(&self, mut entries: impl Iterator<Item = PutEntry> + Send) -> Accepted {
        let mut accepted = Vec::new();
        loop {
            // Reserves a part of the budget at a time, so that the entries may be larger than all of it.
            let most_bytes = (self.budget().bytes() / 8).max(1);
            let (mut part, mut bytes) = (Vec::new(), 0);
            while part.len() < SLOTS
                && bytes < most_bytes
                && let Some(entry) = entries.next()
            {
                bytes += cost(&entry);
                part.push(entry);
            }
            if part.is_empty() {
                break;
            }
            let count = part.len();
            let reserved = self.reserve(bytes).await;
            let mut slots = SlotAllocator::with_capacity(count);
            accepted.push(match reserved.and_then(|reserved| Ok((self.open_inbox()?, reserved))) {
                Ok((mut inbox, reserved)) => {
                    inbox.push_all(part, &mut slots, reserved);
                    self.shared().wake.notify_one();
                    Ok(slots.into_slots())
                }
                Err(error) => Err((error, count)),
            });
        }
        Accepted(accepted)
    }

    /// Waits, without lingering, until every record accepted so far has its outcome.
    ///
    /// Cancel safe: what was accepted is put all the same.
    pub async fn flush(&self) {
        let reached = self.shared().inbox().flush();
        self.shared().wake.notify_one();
        // The sender is dropped when the barrier is reached, and never sends.
        drop(reached.await);
    }

    /// Accepts nothing more, waits until every record has its outcome, and returns the counts of outcomes.
    ///
    /// It may be called on any clone and any number of times: every caller gets the same summary. When the future is dropped,
    /// the close goes on.
    ///
    /// # Errors
    /// [`Error::Closed`] if the runtime that the producer works in was shut down before the close was done: the records that
    /// were left have failed, and [`stats`](Self::stats) counts them.
    pub async fn close(&self) -> Result<CloseSummary> {
        self.close_by(None).await
    }

    /// As [`close`](Self::close), within a time limit: at the deadline the records that are queued fail as not written,
    /// and those in flight as records that may have been written, each with [`Error::Closed`] to its ticket and to the
    /// hook.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub async fn close_within(&self, time: Duration) -> Result<CloseSummary> {
        self.close_by(Instant::now().checked_add(time)).await
    }

    async fn close_by(&self, deadline: Option<Instant>) -> Result<CloseSummary> {
        if let Some(ended) = self.start_close(deadline) {
            // The sender is dropped when the task has ended, and never sends.
            drop(ended.await);
        } else {
            self.shared().end_submitted(&EndReason::Closed);
        }
        let summary = self.shared().summary();
        if self.shared().inbox().was_cut_off {
            return Err(Error::Closed { may_have_written: summary.unknown > 0 });
        }
        Ok(summary)
    }

    /// Closes the producer. If there is a task, returns what resolves when it has ended.
    fn start_close(&self, deadline: Option<Instant>) -> Option<oneshot::Receiver<()>> {
        let mut inbox = self.shared().inbox();
        (inbox.is_closed, inbox.is_urgent) = (true, true);
        inbox.close_by = [inbox.close_by, deadline].into_iter().flatten().min();
        self.shared().wake.notify_one();
        inbox.has_task().then(|| {
            let (closer, ended) = oneshot::channel();
            inbox.closers.push(closer);
            ended
        })
    }

    /// The counts of this producer and its clones at the moment.
    pub fn stats(&self) -> ProducerStats {
        self.shared().stats()
    }

    /// The stream's limits, asked for once.
    ///
    /// # Errors
    /// As [`StreamClient::limits`], after the retries.
    pub async fn limits(&self) -> Result<Limits> {
        self.shared().limits().await
    }

    /// The budget that bounds its memory.
    pub fn budget(&self) -> &Budget {
        &self.shared().budget
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }

    async fn reserve(&self, bytes: usize) -> Result<Reservation> {
        let budget = self.budget();
        match budget.try_reserve(bytes) {
            Some(reserved) => Ok(reserved),
            // Others may share the budget, and leave no room for as long as they like.
            None if self.shared().inbox().is_closed => Err(Error::Closed { may_have_written: false }),
            None => {
                // Nothing lingers while a caller waits for room.
                self.shared().hurry();
                Ok(budget.reserve(bytes).await)
            }
        }
    }

    /// Locks the inbox, and starts the task if there is none.
    fn open_inbox(&self) -> Result<MutexGuard<'_, Inbox>> {
        let mut inbox = self.shared().inbox();
        if inbox.is_closed {
            return Err(Error::Closed { may_have_written: false });
        }
        if !inbox.has_task() {
            let runtime = runtime::Handle::try_current()
                .map_err(|_| Error::Invalid { problem: "a producer needs a tokio runtime to work in".into() })?;
            let is_taken = Arc::new(AtomicBool::new(false));
            let task = runtime.spawn(task::run(task::End::new(self.shared(), &is_taken)));
            if is_taken.swap(true, Ordering::SeqCst) {
                // The runtime is shutting down.
                return Err(Error::Closed { may_have_written: false });
            }
            inbox.task = Some(task);
        }
        Ok(inbox)
    }

    fn wake_if_worth_it(&self, inbox: &Inbox) {
        if inbox.is_worth_a_wake() {
            self.shared().wake.notify_one();
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("stream", &self.shared().client.name())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Drop for Handle {
    /// The last clone is dropped: the task ends, and with it each record that has no outcome.
    fn drop(&mut self) {
        let pending = self.0.stats().pending;
        let task = {
            let mut inbox = self.0.inbox();
            (inbox.is_closed, inbox.is_dropped) = (true, true);
            inbox.task.take()
        };
        if pending > 0 {
            tracing::warn!(
                "a producer of '{}' was dropped with {pending} records that were not acknowledged; close() waits for them",
                self.0.client.name()
            );
        }
        if let Some(task) = task {
            // The task fails the records that it has accepted. It may never have run, so those in the inbox are failed
            // here.
            task.abort();
        }
        self.0.end_submitted(&EndReason::CutOff);
    }
}

#[cfg(test)]
mod tests;
