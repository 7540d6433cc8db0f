//! What a producer's clones and its task share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, OnceCell};

use crate::backend::{Limits, StreamClient};
use crate::error::{Error, Result};
use crate::flow::Budget;
use crate::flow::seed;
use crate::flow::{Backoff, retry};

use super::hook::{FailedHook, FailedPut};
use super::inbox::Inbox;
use super::metric::Metrics;
use super::options::ProducerOptions;
use super::outcome::{Failure, Outcome, Report};
use super::record::SubmittedRecord;
use super::stats::{CloseSummary, ProducerStats};
use super::task::catch_panic;

/// What a producer's clones and its task share.
pub(super) struct Shared {
    pub(super) client: Arc<dyn StreamClient>,
    pub(super) options: ProducerOptions,
    pub(super) budget: Budget,
    on_failed: Option<FailedHook>,
    inbox: Mutex<Inbox>,
    /// Wakes the task.
    pub(super) wake: Notify,
    limits: OnceCell<Limits>,
    random: Mutex<StdRng>,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    unknown: AtomicU64,
    pub(super) metrics: Metrics,
}

/// Why the records in the inbox end without having been sent.
pub(super) enum EndReason {
    /// The stream cannot be put to.
    Failed(Error),
    /// The producer is closed.
    Closed,
    /// The task ended before it was done: its runtime was shut down, or the producer was dropped.
    CutOff,
}

impl Shared {
    pub(super) fn new(
        client: Arc<dyn StreamClient>,
        options: ProducerOptions,
        budget: Budget,
        on_failed: Option<FailedHook>,
    ) -> Self {
        Self {
            metrics: Metrics::new(client.name()),
            random: Mutex::new(StdRng::seed_from_u64(options.seed.unwrap_or_else(seed::random))),
            client,
            options,
            budget,
            on_failed,
            inbox: Mutex::new(Inbox::new()),
            wake: Notify::new(),
            limits: OnceCell::new(),
            acknowledged: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
        }
    }

    pub(super) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // A panic cannot leave the inbox inconsistent.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream's limits, asked for once.
    pub(super) async fn limits(&self) -> Result<Limits> {
        let ask = || catch_panic(&*self.client, async { self.client.limits().await });
        self.limits.get_or_try_init(|| retry(self.backoff(), ask)).await.copied()
    }

    pub(super) fn backoff(&self) -> Backoff {
        self.options.retry.backoff(self.random_seed())
    }

    pub(super) fn random_seed(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// Ends the linger of the records submitted so far.
    pub(super) fn hurry(&self) {
        self.inbox().is_urgent = true;
        self.wake.notify_one();
    }

    /// Reports outcomes: to counters and metrics, then to the hook, then to the ticket of each record.
    pub(super) fn publish(&self, report: &mut Report) {
        self.acknowledged.fetch_add(report.acknowledged, Ordering::Relaxed);
        self.failed.fetch_add(report.failed, Ordering::Relaxed);
        self.unknown.fetch_add(report.unknown, Ordering::Relaxed);
        self.metrics.add(report);
        for outcome in report.outcomes.drain(..) {
            match outcome {
                Outcome::Acknowledged { slot, receipt } => slot.resolve(Ok(receipt)),
                Outcome::Failed(failure) => {
                    let Failure { slot, entry, error } = *failure;
                    self.call_hook(FailedPut { entry, error: error.clone() });
                    slot.resolve(Err(error));
                }
            }
        }
    }

    fn call_hook(&self, failed: FailedPut) {
        if let Some(hook) = &self.on_failed {
            // A panic of the caller's own code must not cost other records their outcomes.
            let call = AssertUnwindSafe(|| hook(failed));
            if catch_unwind(call).is_err() {
                tracing::error!("the hook for records that could not be put into '{}' panicked", self.client.name());
            }
        }
    }

    /// Ends the records in the inbox, and the task with them: when there are none left, no caller waits any more, and the next
    /// record starts a new task.
    pub(super) fn end_submitted(&self, reason: &EndReason) {
        loop {
            let mut inbox = self.inbox();
            if inbox.records.is_empty() {
                inbox.task = None;
                inbox.flushes.clear();
                let cut_off = std::mem::take(&mut inbox.cut_off);
                inbox.was_cut_off |= cut_off > 0 && inbox.is_closed;
                inbox.closers.clear();
                let is_expected = inbox.is_dropped;
                drop(inbox);
                if cut_off > 0 && !is_expected {
                    tracing::warn!(
                        "the runtime of a producer of '{}' was shut down with {cut_off} records that were not acknowledged",
                        self.client.name()
                    );
                }
                return;
            }
            let (records, reserved) = (std::mem::take(&mut inbox.records), inbox.reserved.take());
            if let EndReason::CutOff = reason {
                inbox.cut_off += records.len() as u64;
            }
            drop(inbox);
            let mut report = Report::default();
            for SubmittedRecord { entry, slot, .. } in records {
                match reason {
                    EndReason::Failed(error) => report.add(entry, slot, Err(error.clone())),
                    EndReason::Closed | EndReason::CutOff => report.add_closed(entry, slot),
                }
            }
            drop(reserved);
            self.publish(&mut report);
        }
    }

    /// The counts so far.
    pub(super) fn stats(&self) -> ProducerStats {
        let CloseSummary { acknowledged, failed, unknown } = self.summary();
        // Read last, so that no record is counted with its outcome alone.
        let accepted = self.inbox().submitted;
        let pending = accepted.saturating_sub(acknowledged + failed + unknown);
        ProducerStats { accepted, acknowledged, failed, unknown, pending }
    }

    /// The outcomes so far.
    pub(super) fn summary(&self) -> CloseSummary {
        let [acknowledged, failed, unknown] =
            [&self.acknowledged, &self.failed, &self.unknown].map(|count| count.load(Ordering::Relaxed));
        CloseSummary { acknowledged, failed, unknown }
    }
}
