//! One seed again, with all that happens in it.

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
    println!("{:#?}\n{:#?}\n{:#?}", scenario.producing, scenario.model, scenario.readings);
    println!("{} puts of {} keys; {:#?}", scenario.plan.len(), scenario.keys, scenario.reshards);
    let outcome = run_seed(arguments.seed)?;
    if arguments.trace {
        print!("{}", outcome.trace);
    }
    println!(
        "{} events in {:.3} s, digest {:016x}",
        outcome.trace.len(),
        outcome.took.as_secs_f64(),
        outcome.trace.digest()
    );
    for violation in &outcome.violations {
        super::seeds::tell(arguments.seed, violation);
    }
    Ok(outcome.violations.is_empty())
}
