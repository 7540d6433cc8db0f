//! The `triton` command: it reads the command line, turns config into a backend, and joins the crates that do the work.
//!
//! A subcommand is a file of its own name under `command`. Data goes to stdout and everything else to stderr.

mod args;
mod command;
mod exit;
mod logging;
mod output;
mod printer;
mod session;
mod signals;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use crate::command::Cli;

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
    // After a second Ctrl-C a thread may wait for a pipe that nobody reads; the process does not wait for it.
    runtime.shutdown_background();
    outcome
}
