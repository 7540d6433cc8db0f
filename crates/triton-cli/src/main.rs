//! The `triton` command: parses the command line, finds the config, and runs a subcommand on the streams of
//! `triton-stream`.
//!
//! Each subcommand is a file under `command`. Data goes to stdout and everything else to stderr.

mod args;
mod command;
mod exit;
mod logging;
mod output;
mod printer;
mod session;
mod signals;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use crate::command::Cli;

/// Time for the last tasks to end.
const LAST_TASKS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match logging::start(&cli.global).and_then(|()| run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}

fn run(cli: Cli) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the async runtime cannot be started")?;
    let outcome = runtime.block_on(command::run(cli));
    // The last tasks release what they hold, such as a stream's file. A thread that is blocked does not keep the process.
    runtime.shutdown_timeout(LAST_TASKS);
    outcome
}
