//! The `triton` command: it reads the command line, turns config into a backend, and joins the crates that do the work.
//!
//! A command is a file of its own name. Data goes to stdout and everything else to stderr.

mod args;
mod backend;
mod doctor;
mod exit;
mod get;
mod init;
mod json_value;
mod logging;
mod output;
mod printer;
mod put;
mod shards;
mod signals;
mod streams;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use crate::args::{Cli, Command};

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
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Put(args) => put::run(&cli.global, args).await,
            Command::Get(args) => get::run(&cli.global, args).await,
            Command::Shards(args) => shards::run(&cli.global, args).await,
            Command::Streams(command) => streams::run(&cli.global, command).await,
            Command::Doctor(args) => doctor::run(&cli.global, args).await,
            Command::Init => init::run(&cli.global),
        }
    });
    // After a second Ctrl-C a thread may wait for a pipe that nobody reads; the process does not wait for it.
    runtime.shutdown_background();
    outcome
}
