//! Drives the producers of a run. The only file that uses the producer's interface.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use triton_core::{Budget, Error, KeyOrder, Producer, ProducerOptions, PutEntry};

use crate::check::check_budget;
use crate::connect::Connect;
use crate::model::fault::InjectedFault;
use crate::model::{Handle, Kinesis};
use crate::scenario::{Producing, Scenario};

fn options(producing: &Producing) -> ProducerOptions {
    let options = ProducerOptions::default().with_seed(producing.seed);
    let retry = options.retry.with_deadline(producing.deadline);
    options
        .with_retry(retry)
        .with_linger(producing.linger)
        .with_ordering(if producing.is_ordered { KeyOrder::PerKey } else { KeyOrder::Relaxed })
        .with_aggregation(producing.is_aggregated)
}

/// Submits one producer's part of the plan on schedule, and reports the result of each put to the checker.
pub(crate) async fn produce(kinesis: Arc<Kinesis>, connect: Connect, scenario: Arc<Scenario>, index: u32) {
    let started = Instant::now();
    let client = connect.client(Handle::producer(&kinesis));
    let options = options(&scenario.producing);
    let budget = Budget::new(scenario.producing.budget);
    let producer = Producer::builder(client).options(options).budget(budget.clone()).build();
    let mut waiting = JoinSet::new();
    let (mut submitted, mut largest) = (0, 0);
    for (id, put) in (0..).zip(scenario.plan.iter()).filter(|(_, put)| put.producer == index) {
        sleep_until(started + put.at).await;
        kinesis.check(|checker, _| checker.puts.submitted(id, &mut checker.log));
        submitted += 1;
        largest = largest.max(put.entry.size() + Budget::RECORD_OVERHEAD);
        let queued = producer.submit(put.entry.clone()).await;
        kinesis.check(|checker, _| checker.puts.queued(id, &checker.log));
        let kinesis = Arc::clone(&kinesis);
        waiting.spawn(async move {
            let outcome = match queued {
                Ok(ticket) => ticket.await,
                Err(error) => Err(error),
            };
            if let Err(error) = &outcome {
                let is_dependent = matches!(error, Error::PredecessorFailed { .. });
                kinesis.inject(if is_dependent { InjectedFault::PredecessorFailed } else { InjectedFault::GivenUp });
            }
            kinesis.check(|checker, view| checker.puts.ended(id, &outcome, view, &mut checker.log));
        });
    }
    let closed = producer.close().await;
    while waiting.join_next().await.is_some() {}
    kinesis.check(|checker, _| {
        if !closed.as_ref().is_ok_and(|closed| closed.acknowledged + closed.failed + closed.unknown == submitted) {
            checker.log.violated(1, || format!("{closed:?} of {submitted} puts"));
        }
        check_budget(&budget, largest, &mut checker.log);
    });
}

/// The options of a saturated producer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SaturatedOptions {
    pub(crate) is_ordered: bool,
    pub(crate) is_aggregated: bool,
    pub(crate) budget: usize,
}

/// A producer whose budget is kept full.
#[derive(Debug)]
pub(crate) struct Saturated {
    producer: Producer,
    put: usize,
    /// Times from a put to its receipt, of one put in [`SAMPLED`].
    times: JoinSet<Duration>,
}

/// One put in this many is timed.
const SAMPLED: usize = 37;

impl Saturated {
    pub(crate) fn start(kinesis: &Arc<Kinesis>, saturated: SaturatedOptions) -> Self {
        let options = ProducerOptions::default()
            .with_seed(1)
            .with_ordering(if saturated.is_ordered { KeyOrder::PerKey } else { KeyOrder::Relaxed })
            .with_aggregation(saturated.is_aggregated);
        let producer = Producer::builder(Arc::new(Handle::producer(kinesis)))
            .options(options)
            .budget(Budget::new(saturated.budget))
            .build();
        Self { producer, put: 0, times: JoinSet::new() }
    }

    /// Submits a record as soon as the budget has space for it.
    pub(crate) async fn put(&mut self, entry: PutEntry) {
        let put_at = Instant::now();
        self.put += 1;
        if let Ok(ticket) = self.producer.submit(entry).await
            && self.put.is_multiple_of(SAMPLED)
        {
            self.times.spawn(async move {
                drop(ticket.await);
                put_at.elapsed()
            });
        }
    }

    /// Discards the times of earlier puts.
    pub(crate) fn forget_times(&mut self) {
        self.times.detach_all();
    }

    /// Closes the producer. Returns the 99th percentile of the times, and the peak of the budget.
    pub(crate) async fn finish(mut self) -> (Duration, usize) {
        let peak = self.producer.budget().peak();
        // The model has counted what was throttled.
        drop(self.producer.close().await);
        let mut times: Vec<Duration> = Vec::with_capacity(self.times.len());
        while let Some(time) = self.times.join_next().await {
            times.extend(time);
        }
        times.sort();
        (times.get(times.len() * 99 / 100).copied().unwrap_or_default(), peak)
    }
}
