//! `triton-sim seeds`: runs many seeds in parallel and reports violations.

use std::io::{self, Write as _};
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::check::Violation;
use crate::model::fault::{FaultCounts, InjectedFault};
use crate::run::{Outcome, run as run_seed};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Number of seeds; with --seconds, the minimum
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Continue with further seeds for this many seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// Stop at the first seed with a violation
    #[arg(long)]
    until_violation: bool,
    /// Number of seeds to run at once [default: number of processors]
    #[arg(long)]
    jobs: Option<usize>,
}

/// The totals of many seeds.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) seeds: u64,
    records: u64,
    virtual_time: Duration,
    events: u64,
    injected: FaultCounts,
    /// Combines the digests of all traces, whatever their order.
    digest: u64,
    /// The first violation of each seed that has one.
    pub(super) violations: Vec<(u64, Violation)>,
}

/// From this number of seeds on, every fault must have been injected.
const MIN_SEEDS_FOR_ALL_FAULTS: u64 = 1_000;
const MAX_PRINTED: usize = 10;

pub(super) fn run(arguments: &Arguments) -> Result<bool> {
    let clock = Clock::start();
    let jobs = arguments.jobs.unwrap_or_else(processors);
    let duration = arguments.seconds.map(Duration::from_secs);
    let continues = |started: u64, summary: &Summary| {
        let is_found = arguments.until_violation && !summary.violations.is_empty();
        !is_found && (started < arguments.count || duration.is_some_and(|duration| clock.elapsed() < duration))
    };
    let summary = run_many(arguments.first, jobs, continues)?;
    let seconds = clock.elapsed().as_secs_f64();
    writeln!(
        io::stdout(),
        "{} seeds ({} to {}) in {seconds:.1} s: {:.0} seeds/s; {} records, {} events, {:.0} h of virtual time; digest {:016x}",
        summary.seeds,
        arguments.first,
        arguments.first + summary.seeds - 1,
        summary.seeds as f64 / seconds,
        summary.records,
        summary.events,
        summary.virtual_time.as_secs_f64() / 3600.0,
        summary.digest,
    )?;
    writeln!(io::stdout())?;
    let mut is_good = true;
    for &fault in InjectedFault::ALL {
        let count = summary.injected.of(fault);
        let is_missing = count == 0 && summary.seeds >= MIN_SEEDS_FOR_ALL_FAULTS;
        is_good &= !is_missing;
        writeln!(io::stdout(), "{count:>12} {}{}", fault.name(), if is_missing { ": never injected" } else { "" })?;
    }
    writeln!(io::stdout())?;
    writeln!(io::stdout(), "{} seeds with violations", summary.violations.len())?;
    for (seed, violation) in summary.violations.iter().take(MAX_PRINTED) {
        writeln!(io::stdout(), "seed {seed} {violation}")?;
        writeln!(io::stdout(), "    triton-sim replay {seed} --trace")?;
    }
    Ok(is_good && summary.violations.is_empty())
}

/// Runs seeds from `first` on. Before each, calls `continues` with the number of seeds started before it and the totals of
/// the seeds that have ended; stops when it returns `false`.
fn run_many(first: u64, jobs: usize, continues: impl Fn(u64, &Summary) -> bool + Sync) -> Result<Summary> {
    let (next, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let summary = Mutex::new(Summary::default());
    let work = || -> Result<()> {
        while !is_over.load(Ordering::Relaxed) {
            let index = {
                // Under the lock, so that the seeds that have started are a range without gaps.
                let totals = summary.lock().unwrap_or_else(PoisonError::into_inner);
                let index = next.load(Ordering::Relaxed);
                if !continues(index, &totals) {
                    break;
                }
                next.store(index + 1, Ordering::Relaxed);
                index
            };
            let outcome = run_seed(first + index).inspect_err(|_| is_over.store(true, Ordering::Relaxed))?;
            let digest = outcome.trace.digest();
            summary.lock().unwrap_or_else(PoisonError::into_inner).add(first + index, outcome, digest);
        }
        Ok(())
    };
    run_workers(jobs, work)?;
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.violations.sort_by_key(|(seed, _)| *seed);
    Ok(summary)
}

/// Runs `work` in `jobs` threads, and waits for all of them.
pub(super) fn run_workers(jobs: usize, work: impl Fn() -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(&work)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(worked) => worked,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

pub(super) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

impl Summary {
    fn add(&mut self, seed: u64, outcome: Outcome, digest: u64) {
        self.seeds += 1;
        self.records += outcome.records as u64;
        self.virtual_time += outcome.took;
        self.events += outcome.trace.len() as u64;
        self.injected.merge(&outcome.injected);
        self.digest ^= digest;
        if let Some(violation) = outcome.violations.into_iter().next() {
            self.violations.push((seed, violation));
        }
    }
}

/// The wall clock, for the duration of the command only.
pub(super) struct Clock(std::time::Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "how long the command takes decides nothing in a run")]
    pub(super) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
