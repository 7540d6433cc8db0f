//! The command line: one file per subcommand, with its arguments and its code.

mod doctor;
mod duration;
mod get;
mod init;
mod put;
mod shards;
mod streams;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::args::Global;

use self::doctor::DoctorArgs;
use self::get::GetArgs;
use self::put::PutArgs;
use self::shards::ShardsArgs;
use self::streams::StreamsCommand;

/// Put records in one end of a stream, read them at the other.
///
/// Streams are found by their logical names in triton.yaml (--config, $TRITON_CONFIG, ./triton.yaml,
/// $XDG_CONFIG_HOME/triton/triton.yaml, /etc/triton.yaml). Without a config, a stream is local and created on first
/// use.
#[derive(Debug, Parser)]
#[command(name = "triton", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Put(PutArgs),
    Get(GetArgs),
    Shards(ShardsArgs),
    /// Create, list and change streams
    #[command(subcommand)]
    Streams(StreamsCommand),
    Doctor(DoctorArgs),
    /// Write a first triton.yaml in this folder
    Init,
}

/// Runs the subcommand that the command line names.
pub(crate) async fn run(cli: Cli) -> Result<()> {
    let Cli { global, command } = cli;
    match command {
        Command::Put(args) => put::run(&global, args).await,
        Command::Get(args) => get::run(&global, args).await,
        Command::Shards(args) => shards::run(&global, args).await,
        Command::Streams(command) => streams::run(&global, command).await,
        Command::Doctor(args) => doctor::run(&global, args).await,
        Command::Init => init::run(&global),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
