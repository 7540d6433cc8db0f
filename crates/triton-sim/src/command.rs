//! The command: `seeds` searches for violations, `replay` shows one, `mutants` proves that mistakes in the code are
//! found, and `quotas` measures quota utilization.

mod mutants;
mod quotas;
mod replay;
mod seeds;

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "triton-sim", about = "Triton's producer and reader over a model of Kinesis, one run per seed")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run many seeds and report violations
    Seeds(seeds::Arguments),
    /// Run one seed again
    Replay(replay::Arguments),
    /// Build each mutant of the core, and print the first seed that finds it
    Mutants(mutants::Arguments),
    /// Measure the quota utilization of a saturated producer and of a reader with a backlog
    Quotas(quotas::Arguments),
}

/// Runs the subcommand. The exit code is 1 if an invariant was violated, a mutant not found, or a goal missed.
pub(crate) fn run() -> Result<ExitCode> {
    let outcome = match Arguments::parse().command {
        Command::Seeds(arguments) => seeds::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Mutants(arguments) => mutants::run(&arguments),
        Command::Quotas(arguments) => quotas::run(&arguments),
    };
    match outcome {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        // A pipe to `head`, for example, was closed.
        Err(error) if is_closed_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error),
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
