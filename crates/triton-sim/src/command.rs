//! The command: `seeds` looks for violations, `replay` shows one, `mutants` proves that mistakes in the code would be
//! found, and `quotas` measures.

mod mutants;
mod quotas;
mod replay;
mod seeds;

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "triton-sim", about = "Triton's producer and reader over a model of Kinesis, a seed a run")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run many seeds and tell what they break
    Seeds(seeds::Arguments),
    /// Run one seed again
    Replay(replay::Arguments),
    /// Build each mutant of the core, and look for the first seed that finds it
    Mutants(mutants::Arguments),
    /// Print how much of the quotas a saturated producer and a reader with a backlog reach
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
        // The reader of the report, such as `head`, has seen enough.
        Err(error) if is_closed_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error),
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
