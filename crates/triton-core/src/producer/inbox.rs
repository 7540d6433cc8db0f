//! What callers and the driver share: the records that were accepted, and what is told of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Counter, Gauge, counter, gauge};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OnceCell, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::backend::{Limits, StreamClient};
use crate::error::{Error, Result};
use crate::flow::Reservation;
use crate::flow::seed;
use crate::flow::{Backoff, retry};
use crate::metric::{
    OUTCOME, PRODUCER_BUDGET_USED, PRODUCER_BYTES, PRODUCER_CALLS, PRODUCER_DUPLICATES, PRODUCER_INVERSIONS,
    PRODUCER_RECORDS, PRODUCER_THROTTLED, STREAM,
};
use crate::record::{PutEntry, PutReceipt};

use super::chain::ChainId;
use super::driver::Driver;
use super::lane::{Claim, Pending};
use super::ticket::{Place, Places, Ticket};
use super::{FailedPut, ProducerOptions};

/// What one producer's callers and its driver share.
pub(super) struct Shared {
    pub(super) client: Arc<dyn StreamClient>,
    pub(super) options: ProducerOptions,
    inbox: Mutex<Inbox>,
    pub(super) wake: Notify,
    limits: OnceCell<Limits>,
    random: Mutex<StdRng>,
    sent: AtomicU64,
    failed: AtomicU64,
    pub(super) metrics: Metrics,
}

/// What was accepted and not taken by the driver yet.
pub(super) struct Inbox {
    pub(super) records: Vec<Pending>,
    /// What they have reserved of the budget.
    pub(super) reserved: Option<Reservation>,
    pub(super) fences: Vec<Fence>,
    /// Whether somebody waits for what is there.
    pub(super) is_urgent: bool,
    /// So many records are worth waking the driver.
    pub(super) wake_at: usize,
    pub(super) is_closed: bool,
    accepted: u64,
    epoch: u32,
    places: Places,
    driver: Option<JoinHandle<()>>,
}

/// Dropped when every record of its epoch and those before has its outcome.
pub(super) struct Fence {
    pub(super) epoch: u32,
    _reached: oneshot::Sender<()>,
}

/// The producer's numbers, of one stream.
pub(super) struct Metrics {
    acknowledged: Counter,
    failed: Counter,
    bytes: Counter,
    pub(super) calls: Counter,
    pub(super) throttled: Counter,
    pub(super) duplicates: Counter,
    pub(super) inversions: Counter,
    pub(super) budget_used: Gauge,
}

impl Metrics {
    fn new(stream: &str) -> Self {
        let of_stream = |name: &'static str| counter!(name, STREAM => stream.to_owned());
        let records = |outcome| counter!(PRODUCER_RECORDS, STREAM => stream.to_owned(), OUTCOME => outcome);
        Self {
            acknowledged: records("acknowledged"),
            failed: records("failed"),
            bytes: of_stream(PRODUCER_BYTES),
            calls: of_stream(PRODUCER_CALLS),
            throttled: of_stream(PRODUCER_THROTTLED),
            duplicates: of_stream(PRODUCER_DUPLICATES),
            inversions: of_stream(PRODUCER_INVERSIONS),
            budget_used: gauge!(PRODUCER_BUDGET_USED, STREAM => stream.to_owned()),
        }
    }
}

impl Shared {
    pub(super) fn new(client: Arc<dyn StreamClient>, options: ProducerOptions) -> Self {
        let random = Mutex::new(StdRng::seed_from_u64(options.seed.unwrap_or_else(seed::random)));
        let inbox = Inbox {
            records: Vec::new(),
            reserved: None,
            fences: Vec::new(),
            is_urgent: false,
            wake_at: 1,
            is_closed: false,
            accepted: 0,
            epoch: 0,
            places: Places::new(),
            driver: None,
        };
        Self {
            metrics: Metrics::new(client.name()),
            client,
            options,
            inbox: Mutex::new(inbox),
            wake: Notify::new(),
            limits: OnceCell::new(),
            random,
            sent: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    pub(super) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // Nothing in it is half changed by a panic: records are whole.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream's limits, asked for once.
    pub(super) async fn limits(&self) -> Result<Limits> {
        self.limits.get_or_try_init(|| retry(self.backoff(), || self.client.limits())).await.copied()
    }

    pub(super) fn backoff(&self) -> Backoff {
        self.options.retry.backoff(self.random_seed())
    }

    pub(super) fn random_seed(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// Accepts one record.
    pub(super) fn accept(self: &Arc<Self>, entry: PutEntry, reserved: Reservation) -> Result<Ticket> {
        let mut inbox = self.open_inbox()?;
        let (place, ticket) = inbox.places.give();
        inbox.push(entry, place, Instant::now());
        inbox.reserve(reserved);
        self.wake_if_worth_it(&inbox);
        Ok(ticket)
    }

    /// Accepts records whose caller waits for all of them; `places` are theirs.
    pub(super) fn accept_all(
        self: &Arc<Self>,
        entries: Vec<PutEntry>,
        places: &mut Places,
        reserved: Reservation,
    ) -> Result<()> {
        let mut inbox = self.open_inbox()?;
        let now = Instant::now();
        inbox.records.reserve(entries.len());
        let places = places.places(entries.len());
        for (entry, place) in entries.into_iter().zip(places) {
            inbox.push(entry, place, now);
        }
        inbox.reserve(reserved);
        inbox.is_urgent = true;
        self.wake.notify_one();
        Ok(())
    }

    /// From now on nothing lingers.
    pub(super) fn hurry(&self) {
        self.inbox().is_urgent = true;
        self.wake.notify_one();
    }

    /// Resolves when everything that was accepted before has its outcome.
    pub(super) fn fence(&self) -> oneshot::Receiver<()> {
        let (reached, wait) = oneshot::channel();
        let mut inbox = self.inbox();
        if inbox.driver.as_ref().is_some_and(|driver| !driver.is_finished()) {
            let fence = Fence { epoch: inbox.epoch, _reached: reached };
            inbox.fences.push(fence);
            inbox.epoch += 1;
        }
        inbox.is_urgent = true;
        self.wake.notify_one();
        wait
    }

    /// Nothing is accepted any more; the driver ends when everything has its outcome.
    pub(super) fn refuse(&self) {
        let mut inbox = self.inbox();
        (inbox.is_closed, inbox.is_urgent) = (true, true);
        self.wake.notify_one();
    }

    /// The driver's task, for who waits for it or ends it.
    pub(super) fn take_driver(&self) -> Option<JoinHandle<()>> {
        self.inbox().driver.take()
    }

    /// Records that were acknowledged, that failed, and that have no outcome.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let accepted = self.inbox().accepted;
        let (sent, failed) = (self.sent.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
        (sent, failed, accepted.saturating_sub(sent + failed))
    }

    /// Gives a record its outcome, after all who are to know of it.
    pub(super) fn conclude(&self, entry: PutEntry, place: Place, outcome: Result<PutReceipt>) {
        match &outcome {
            Ok(_) => {
                self.sent.fetch_add(1, Ordering::Relaxed);
                self.metrics.acknowledged.increment(1);
                self.metrics.bytes.increment(entry.size() as u64);
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                self.metrics.failed.increment(1);
                if let Some(hook) = &self.options.on_failed {
                    // It is the caller's own, and no reason for others to lose what they put.
                    let call = AssertUnwindSafe(|| hook(FailedPut { entry, error: error.clone() }));
                    if catch_unwind(call).is_err() {
                        tracing::error!("the hook for what could not be put into '{}' panicked", self.client.name());
                    }
                }
            }
        }
        place.settle(outcome);
    }

    /// The inbox with a driver that takes from it.
    fn open_inbox(self: &Arc<Self>) -> Result<MutexGuard<'_, Inbox>> {
        let mut inbox = self.inbox();
        if inbox.is_closed {
            return Err(Error::Closed { may_have_written: false });
        }
        if inbox.driver.as_ref().is_none_or(JoinHandle::is_finished) {
            let handle = Handle::try_current()
                .map_err(|_| Error::Invalid { problem: "a producer needs a tokio runtime to work in".into() })?;
            let driver = handle.spawn(drive(Arc::clone(self)));
            if driver.is_finished() {
                // The runtime is shutting down.
                return Err(Error::Closed { may_have_written: false });
            }
            inbox.driver = Some(driver);
        }
        Ok(inbox)
    }

    fn wake_if_worth_it(&self, inbox: &Inbox) {
        if inbox.records.len() >= inbox.wake_at || inbox.is_urgent {
            self.wake.notify_one();
        }
    }
}

impl Inbox {
    fn push(&mut self, entry: PutEntry, place: Place, accepted: Instant) {
        let chain = ChainId::of(&entry.partition_key);
        let epoch = self.epoch;
        self.accepted += 1;
        let (failing_since, is_uncertain) = (None, false);
        let claim = Claim { place, accepted, failing_since, is_uncertain, chain, epoch };
        self.records.push(Pending { entry, claim });
    }

    fn reserve(&mut self, reserved: Reservation) {
        match &mut self.reserved {
            Some(all) => all.merge(reserved),
            none => *none = Some(reserved),
        }
    }
}

/// Learns of the stream, then puts. Where the stream cannot be had, what is there fails, and what comes later tries anew.
async fn drive(shared: Arc<Shared>) {
    let left = Left(&shared);
    match Driver::start(Arc::clone(&shared)).await {
        Ok(driver) => driver.run().await,
        Err(error) => {
            let error = unsent(error);
            while let Some((records, reserved)) = left.take() {
                for pending in records {
                    shared.conclude(pending.entry, pending.claim.place, Err(error.clone()));
                }
                drop(reserved);
            }
        }
    }
}

/// The error of a record that was not sent, for want of something else.
fn unsent(error: Error) -> Error {
    if !error.may_have_written() {
        return error;
    }
    let problem = "not sent: the stream did not tell what it takes".to_owned();
    Error::Unavailable { problem, may_have_written: false, source: Some(Arc::new(error)) }
}

/// What is in the inbox when its driver ends, be it that the runtime ends with it: nobody waits for one that is gone.
struct Left<'a>(&'a Shared);

impl Left<'_> {
    /// The records that are there. When there are none, whoever waits for them is told, and the next put starts anew.
    fn take(&self) -> Option<(Vec<Pending>, Option<Reservation>)> {
        let mut inbox = self.0.inbox();
        if inbox.records.is_empty() {
            inbox.driver = None;
            inbox.fences.clear();
            return None;
        }
        Some((std::mem::take(&mut inbox.records), inbox.reserved.take()))
    }
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        while self.take().is_some() {}
    }
}
