//! One run: the scenario of a seed, played to its end on a virtual clock.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::check::{Checker, Log, Puts, Reads, Violation};
use crate::connect::Connect;
use crate::model::Kinesis;
use crate::model::fault::FaultCounts;
use crate::producer::produce;
use crate::reader::read;
use crate::scenario::{Reshard, Scenario};
use crate::trace::Trace;

/// The outcome of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<Violation>,
    pub(crate) injected: FaultCounts,
    pub(crate) trace: Trace,
    pub(crate) records: usize,
    /// Duration of the run, in virtual time.
    pub(crate) took: Duration,
}

/// Virtual time after which a run is ended.
const LONGEST: Duration = Duration::from_secs(6 * 60 * 60);

/// Number of events after which a run is ended, since it loops. The longest correct runs have a hundredth of it.
const MAX_EVENTS: usize = 3_000_000;

/// Runs a seed.
///
/// # Errors
/// If the run cannot be started.
pub(crate) fn run(seed: u64) -> Result<Outcome> {
    run_with(seed, Connect::direct())
}

/// Runs a seed with the clients that `connect` makes.
fn run_with(seed: u64, connect: Connect) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let scenario = Arc::new(Scenario::new(seed));
    runtime.block_on(play(scenario, connect))
}

async fn play(scenario: Arc<Scenario>, connect: Connect) -> Result<Outcome> {
    let puts = Puts::new(Arc::clone(&scenario.plan), scenario.keys, &scenario.producing);
    let checker = Checker { log: Log::default(), puts, reads: Reads::default() };
    let kinesis = Kinesis::new(scenario.model.clone(), Some(checker))?;
    let mut tasks = JoinSet::new();
    let is_written = CancellationToken::new();
    for pass in &scenario.passes {
        tasks.spawn(read(Arc::clone(&kinesis), connect.clone(), pass.clone(), is_written.clone()));
    }
    let writing = write(Arc::clone(&kinesis), connect.clone(), Arc::clone(&scenario));
    let all = async {
        writing.await;
        is_written.cancel();
        while let Some(ended) = tasks.join_next().await {
            ended.context("a task of the run panicked")?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        biased;
        // After a violation, the rest of the run proves nothing, and it might not end.
        () = violation(&kinesis) => {}
        played = timeout(LONGEST, all) => match played {
            Ok(ended) => ended?,
            Err(_) => kinesis.check(Checker::give_up),
        },
    }
    drop(tasks);
    let took = Duration::from_millis(kinesis.millis());
    let (checker, injected) = kinesis.take_checker().context("the checker is gone")?;
    let Log { trace, violations, .. } = checker.log;
    Ok(Outcome { violations, injected, trace, records: scenario.plan.len(), took })
}

/// Returns soon after the first violation.
async fn violation(kinesis: &Kinesis) {
    while kinesis.check(|checker, view| {
        if checker.log.trace.len() > MAX_EVENTS {
            checker.give_up(view);
        }
        checker.log.violations.is_empty()
    }) {
        sleep(Duration::from_secs(1)).await;
    }
}

/// Runs all producers and reshards, and waits for the last late write.
async fn write(kinesis: Arc<Kinesis>, connect: Connect, scenario: Arc<Scenario>) {
    let mut tasks = JoinSet::new();
    for producer in 0..scenario.producing.producers {
        tasks.spawn(produce(Arc::clone(&kinesis), connect.clone(), Arc::clone(&scenario), producer));
    }
    for reshard in scenario.reshards.clone() {
        tasks.spawn(change(Arc::clone(&kinesis), reshard));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(panic) = ended {
            kinesis.check(|checker, _| checker.log.violated(1, || format!("the producer panicked: {panic}")));
        }
    }
    while kinesis.has_late_puts() {
        sleep(Duration::from_millis(100)).await;
    }
    kinesis.check(|checker, _| checker.puts.finish(&mut checker.log));
}

async fn change(kinesis: Arc<Kinesis>, reshard: Reshard) {
    sleep(reshard.at).await;
    // Fails only for a shard with a single hash key, which a few splits do not produce.
    drop(kinesis.reshard(reshard.is_split, reshard.which, reshard.cut));
}

#[cfg(test)]
mod lie;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_trace_byte_for_byte() {
        let mut digests = Vec::new();
        for seed in 1..=50 {
            let traces = [0, 1].map(|_| run(seed).unwrap().trace.to_string());
            assert!(traces[0] == traces[1], "seed {seed}");
            digests.push(traces[0].len());
        }
        digests.dedup();
        assert!(digests.len() > 40, "each seed is another run");
    }

    #[test]
    fn nothing_is_broken() {
        for seed in 1_001..=1_040 {
            assert_eq!(run(seed).unwrap().violations, [], "seed {seed}");
        }
    }
}
