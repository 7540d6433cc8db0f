//! Every planted bug, and the seed that finds it: what finds nothing proves nothing.

use anyhow::Result;
use triton_core::planted::Bug;

use crate::check::name_of;
use crate::run::run as run_seed;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How many seeds to try for each
    #[arg(long, default_value_t = 1_000)]
    count: u64,
}

pub(super) fn run(arguments: &Arguments) -> Result<bool> {
    let mut all_found = true;
    println!("{:<28} {:>6}  found by", "planted", "seed");
    for bug in Bug::ALL {
        match first_seed(bug, arguments.count)? {
            Some((seed, invariant)) => {
                println!("{:<28} {seed:>6}  {invariant} ({})", bug.name(), name_of(invariant));
            }
            None => {
                all_found = false;
                println!("{:<28} {:>6}  NOT FOUND in {} seeds", bug.name(), "-", arguments.count);
            }
        }
    }
    Ok(all_found)
}

/// The first seed in which the bug breaks something, and the invariant that it breaks.
fn first_seed(bug: Bug, count: u64) -> Result<Option<(u64, u8)>> {
    for seed in 1..=count {
        if let Some(violation) = run_seed(seed, Some(bug))?.violations.first() {
            return Ok(Some((seed, violation.invariant)));
        }
    }
    Ok(None)
}
