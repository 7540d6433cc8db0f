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
    // After a second Ctrl-C a thread may still be blocked on a pipe. The process does not wait for it.
    runtime.shutdown_background();
    outcome
}
