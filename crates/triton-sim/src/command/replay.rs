//! One seed, with the events of its run.

use std::io::{self, Write as _};

use anyhow::Result;

use crate::run::run as run_seed;
use crate::scenario::Scenario;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The seed
    seed: u64,
    /// Print every event
    #[arg(long)]
    trace: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<bool> {
    let scenario = Scenario::new(arguments.seed);
    writeln!(io::stdout(), "{:#?}\n{:#?}\n{:#?}", scenario.producing, scenario.model, scenario.passes)?;
    writeln!(io::stdout(), "{} puts of {} keys; {:#?}", scenario.plan.len(), scenario.keys, scenario.reshards)?;
    let outcome = run_seed(arguments.seed)?;
    if arguments.trace {
        write!(io::stdout(), "{}", outcome.trace)?;
    }
    writeln!(
        io::stdout(),
        "{} events in {:.3} s, digest {:016x}",
        outcome.trace.len(),
        outcome.took.as_secs_f64(),
        outcome.trace.digest()
    )?;
    for violation in &outcome.violations {
        writeln!(io::stdout(), "seed {} {violation}", arguments.seed)?;
    }
    Ok(outcome.violations.is_empty())
}
