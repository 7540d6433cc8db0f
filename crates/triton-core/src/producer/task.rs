//! The task of a producer: it moves records from the inbox into the schedule, sends its batches, and reports its outcomes.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::backend::StreamClient;
use crate::error::{Error, ErrorKind, Result};
use crate::flow::Reservation;
use crate::flow::retry;
use crate::model::shard::Shard;
use crate::record::PutReceipt;

use super::inbox::{FlushBarrier, Inbox};
use super::outcome::Report;
use super::record::SubmittedRecord;
use super::schedule::{BatchId, Schedule};
use super::shared::{EndReason, Shared};

/// Number of submitted records, and of outcomes, whose memory is kept between bursts.
const KEPT: usize = 8_192;

/// Puts until the producer is closed and every record has its outcome. If the stream cannot be described, the submitted
/// records fail, and the next record starts a new task.
pub(super) async fn run(end: End) {
    let shared = Arc::clone(&end.shared);
    let schedule = tokio::select! {
        biased;
        () = close_deadline(&shared) => return end.finish(&EndReason::Closed),
        schedule = start(&shared) => schedule,
    };
    match schedule {
        Ok(schedule) => {
            Task::new(&shared, schedule).run().await;
            end.finish(&EndReason::Closed);
        }
        Err(error) => end.finish(&EndReason::Failed(not_sent(error))),
    }
}

/// Resolves at the deadline of a close.
async fn close_deadline(shared: &Shared) {
    loop {
        let close_by = shared.inbox().close_by;
        tokio::select! {
            biased;
            () = sleep_until(close_by.unwrap_or_else(Instant::now)), if close_by.is_some() => return,
            () = shared.wake.notified() => {}
        }
    }
}

/// Reads the stream's limits and shards, and creates its schedule.
async fn start(shared: &Shared) -> Result<Schedule> {
    let limits = shared.limits().await?;
    let aggregates = shared.options.aggregation == Some(true);
    let mut shards = None;
    if (aggregates && limits.key_routed) || limits.write_quota.is_some() {
        let list = || catch_panic(&*shared.client, async { shared.client.shards().await });
        shards = match retry(shared.backoff(), list).await {
            Ok(shards) => Some(shards),
            Err(error) if matches!(error.kind(), ErrorKind::AccessDenied | ErrorKind::Throttled) => {
                let without = if aggregates { ", and without aggregates" } else { "" };
                tracing::warn!(
                    "stream '{}': putting without knowing its shards{without} (they cannot be listed: {error})",
                    shared.client.name()
                );
                None
            }
            Err(error) => return Err(error),
        };
    }
    let (name, seed) = (shared.client.name(), shared.random_seed());
    Schedule::new(name, limits, &shared.options, shards.as_deref(), seed, Instant::now())
}

/// The error of a record that was not sent because the stream could not be described.
fn not_sent(error: Error) -> Error {
    if !error.may_have_written() {
        return error;
    }
    let problem = "not sent: the stream's limits or shards could not be read".to_owned();
    Error::Unavailable { problem, may_have_written: false, source: Some(Arc::new(error)) }
}

/// The result of a call.
enum Answer {
    Batch(BatchId, Result<Vec<Result<PutReceipt>>>),
    Shards(Result<Vec<Shard>>),
}

struct Task<'a> {
    shared: &'a Shared,
    schedule: Schedule,
    calls: JoinSet<Answer>,
    /// What the records in the schedule have reserved of the budget.
    reserved: Option<Reservation>,
    flushes: Vec<FlushBarrier>,
    /// Empty; swapped with the inbox's list, so that both keep their capacity.
    submitted: Vec<SubmittedRecord>,
}

/// What callers have requested of the task.
struct Requests {
    is_closed: bool,
    close_by: Option<Instant>,
}

impl<'a> Task<'a> {
    fn new(shared: &'a Shared, schedule: Schedule) -> Self {
        let (calls, submitted) = (JoinSet::new(), Vec::new());
        Self { shared, schedule, calls, reserved: None, flushes: Vec::new(), submitted }
    }

    async fn run(mut self) {
        loop {
            let Requests { is_closed, close_by } = self.accept();
            if close_by.is_some_and(|close_by| close_by <= Instant::now()) {
                self.abandon();
                return;
            }
            let wake = self.send();
            self.report();
            if is_closed && self.schedule.is_empty() {
                return;
            }
            let wake = [wake, close_by].into_iter().flatten().min();
            tokio::select! {
                biased;
                answer = self.calls.join_next(), if !self.calls.is_empty() => {
                    // A failure also fails the dependents that were submitted before it, and are still in the inbox.
                    self.accept();
                    let mut next = answer;
                    while let Some(answer) = next {
                        // Calls do not panic, and are not aborted before the task ends.
                        if let Ok(answer) = answer {
                            self.answered(answer);
                        }
                        next = self.calls.try_join_next();
                    }
                    self.report();
                }
                () = self.shared.wake.notified() => {}
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
    }

    /// Moves the submitted records into the schedule.
    fn accept(&mut self) -> Requests {
        let mut submitted = std::mem::take(&mut self.submitted);
        let mut inbox = self.shared.inbox();
        let Inbox { records, reserved, flushes, is_urgent, is_closed, close_by, .. } = &mut *inbox;
        std::mem::swap(records, &mut submitted);
        let requests = Requests { is_closed: *is_closed, close_by: *close_by };
        self.flushes.append(flushes);
        match (&mut self.reserved, reserved.take()) {
            (Some(all), Some(reserved)) => all.merge(reserved),
            (none, Some(reserved)) => *none = Some(reserved),
            (_, None) => {}
        }
        let is_urgent = std::mem::take(is_urgent);
        drop(inbox);
        if is_urgent {
            self.schedule.hurry(Instant::now());
        }
        self.schedule.accept(submitted.drain(..));
        if submitted.capacity() <= KEPT {
            self.submitted = submitted;
        }
        requests
    }

    /// Starts the calls that may be made now. Returns when there may be more.
    fn send(&mut self) -> Option<Instant> {
        let poll = self.schedule.poll(Instant::now());
        for (batch, entries) in poll.batches {
            let client = Arc::clone(&self.shared.client);
            self.shared.metrics.calls.increment(1);
            self.calls.spawn(async move {
                // Called inside the future: a client may panic before it returns one.
                let answer = catch_panic(&*client, async { client.put_batch(entries).await }).await;
                Answer::Batch(batch, answer)
            });
        }
        if let Some(not_before) = poll.list_shards {
            let client = Arc::clone(&self.shared.client);
            self.calls.spawn(async move {
                sleep_until(not_before).await;
                Answer::Shards(catch_panic(&*client, async { client.shards().await }).await)
            });
        }
        let mut inbox = self.shared.inbox();
        inbox.wake_for = poll.wake_for;
        if !inbox.records.is_empty() && inbox.is_worth_a_wake() {
            self.shared.wake.notify_one();
        }
        poll.wake
    }

    fn answered(&mut self, answer: Answer) {
        let now = Instant::now();
        match answer {
            Answer::Batch(batch, answer) => self.schedule.answered(batch, answer, now),
            Answer::Shards(Ok(shards)) => self.schedule.shards(&shards, now),
            Answer::Shards(Err(error)) => self.schedule.shards_failed(&error, now),
        }
    }

    /// Reports the outcomes, releases the budget of their records, and resolves flushes.
    fn report(&mut self) {
        let report = self.schedule.report();
        self.shared.publish(report);
        let freed = report.freed;
        *report = Report { outcomes: std::mem::take(&mut report.outcomes), ..Report::default() };
        if let Some(reserved) = &mut self.reserved
            && freed > 0
        {
            drop(reserved.split(freed));
        }
        self.shared.metrics.budget_used.set(self.shared.budget.used() as f64);
        if self.schedule.is_empty() {
            self.schedule.report().outcomes.shrink_to(KEPT);
        }
        let oldest = self.schedule.oldest_flush();
        self.flushes.retain(|flush| oldest.is_some_and(|oldest| oldest <= flush.id));
    }

    /// Ends every record that the schedule holds.
    fn abandon(&mut self) -> u64 {
        self.calls.abort_all();
        self.schedule.abandon();
        let count = self.schedule.report().outcomes.len() as u64;
        self.report();
        count
    }
}

impl Drop for Task<'_> {
    /// Each record ends even if the task is aborted or its runtime is shut down.
    fn drop(&mut self) {
        if !self.schedule.is_empty() {
            self.shared.inbox().cut_off += self.abandon();
        }
    }
}

/// Ends the records in the inbox when the task is dropped before it has done so, even before it first ran: no caller waits
/// for a task that is gone.
pub(super) struct End {
    shared: Arc<Shared>,
    /// Whether the runtime has taken the task, or dropped it without: whoever sets it second acts.
    is_taken: Arc<AtomicBool>,
}

impl End {
    pub(super) fn new(shared: &Arc<Shared>, is_taken: &Arc<AtomicBool>) -> Self {
        Self { shared: Arc::clone(shared), is_taken: Arc::clone(is_taken) }
    }

    /// Ends the records in the inbox, and the task with them: the next record starts a new one.
    fn finish(self, reason: &EndReason) {
        self.shared.end_submitted(reason);
        self.is_taken.store(false, Ordering::SeqCst);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // A runtime that is shut down drops the task inside the spawn, with the inbox locked: then there is nothing to end.
        if self.is_taken.swap(true, Ordering::SeqCst) {
            self.shared.end_submitted(&EndReason::CutOff);
        }
    }
}

/// Turns a panic of the client into an error, so that it fails its call and nothing else.
pub(super) async fn catch_panic<T>(client: &dyn StreamClient, call: impl Future<Output = Result<T>>) -> Result<T> {
    let mut call = pin!(call);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))) {
        Ok(poll) => poll,
        Err(panic) => {
            let problem = format!("a call panicked: {}", panic_message(&*panic));
            Poll::Ready(Err(Error::Contract { backend: client.name().into(), problem }))
        }
    })
    .await
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
