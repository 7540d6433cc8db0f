//! The command: `seeds` looks for violations, `replay` shows one, and `quotas` measures.
#![expect(clippy::print_stdout, reason = "a report is what this command is for")]

mod quotas;
mod replay;
mod seeds;

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
    /// Print how much of the quotas a saturated producer and a reader with a backlog reach
    Quotas(quotas::Arguments),
}

/// Does what the command line says. The exit code is 1 where something was broken.
pub(crate) fn run() -> Result<ExitCode> {
    let is_good = match Arguments::parse().command {
        Command::Seeds(arguments) => seeds::run(&arguments)?,
        Command::Replay(arguments) => replay::run(&arguments)?,
        Command::Quotas(arguments) => quotas::run(&arguments)?,
    };
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
