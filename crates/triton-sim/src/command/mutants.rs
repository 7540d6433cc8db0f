//! Builds mutants, and prints the seed that finds each of them.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::seeds::Clock;
use crate::check::name_of;
use crate::mutants::{Copy, Mutant};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// First check that every mutant applies and compiles, whether selected or not
    #[arg(long)]
    check: bool,
    /// Run only the mutant with this name
    #[arg(long, conflicts_with = "sample")]
    only: Option<String>,
    /// Run only this many mutants, selected by the salt
    #[arg(long, requires = "salt")]
    sample: Option<usize>,
    /// Text that selects the sample, for example a commit hash
    #[arg(long)]
    salt: Option<String>,
    /// Maximum number of seeds per mutant
    #[arg(long, default_value_t = 1_000)]
    count: u64,
}

pub(super) fn run(arguments: &Arguments) -> Result<bool> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let mutants = Mutant::load(&workspace)?;
    let copy = Copy::new(&workspace, &target)?;
    if arguments.check {
        let clock = Clock::start();
        check(&copy, &mutants)?;
        let seconds = clock.elapsed().as_secs_f64();
        writeln!(io::stdout(), "{} mutants apply and compile ({seconds:.0} s)\n", mutants.len())?;
    }
    let chosen = choose(mutants, arguments)?;
    copy.prepare()?;
    writeln!(io::stdout(), "{:<34} {:>9} {:>6} {:>8}  found by", "mutant", "invariant", "seed", "seconds")?;
    let mut are_found = true;
    for mutant in &chosen {
        let clock = Clock::start();
        let found = mutant.find(&copy, arguments.count)?;
        are_found &= found.is_some();
        let (seed, by) = match found {
            Some(found) => (found.seed.to_string(), format!("{} ({})", found.invariant, name_of(found.invariant))),
            None => ("-".into(), format!("NOT FOUND in {} seeds", arguments.count)),
        };
        let (Mutant { name, invariant, .. }, seconds) = (mutant, clock.elapsed().as_secs_f64());
        writeln!(io::stdout(), "{name:<34} {invariant:>9} {seed:>6} {seconds:>8.1}  {by}")?;
    }
    Ok(are_found)
}

/// Reports all mutants that do not apply or compile, not only the first.
fn check(copy: &Copy, mutants: &[Mutant]) -> Result<()> {
    let failed: Vec<String> =
        mutants.iter().filter_map(|mutant| Some(format!("{:#}", mutant.check(copy).err()?))).collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

fn choose(mutants: Vec<Mutant>, arguments: &Arguments) -> Result<Vec<Mutant>> {
    if let Some(name) = &arguments.only {
        let mutant = mutants.into_iter().find(|mutant| mutant.name == *name);
        return Ok(vec![mutant.with_context(|| format!("no mutant is named '{name}'"))?]);
    }
    match (arguments.sample, &arguments.salt) {
        (Some(count), Some(salt)) => Ok(Mutant::sample(mutants, count, salt)),
        _ => Ok(mutants),
    }
}
