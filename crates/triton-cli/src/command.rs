//! The command line: one file per subcommand, which holds its arguments and what it does. Here are the global options.

mod doctor;
mod duration;
mod get;
mod init;
mod put;
mod shards;
mod streams;

use std::path::PathBuf;

use anyhow::Result;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use self::doctor::DoctorArgs;
use self::get::GetArgs;
use self::put::PutArgs;
use self::shards::ShardsArgs;
use self::streams::StreamsCommand;

/// Put records in one end of a stream, read them at the other.
///
/// Streams are found by their logical names in triton.yaml (--config, $TRITON_CONFIG, ./triton.yaml,
/// $XDG_CONFIG_HOME/triton/triton.yaml, /etc/triton.yaml). Without any config a stream is a local one, made on first use.
#[derive(Debug, Parser)]
#[command(name = "triton", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The config file, instead of the search for one
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The AWS profile
    #[arg(long, global = true)]
    pub(crate) profile: Option<String>,
    /// The AWS region
    #[arg(long, global = true)]
    pub(crate) region: Option<String>,
    /// Another Kinesis-compatible server
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) endpoint_url: Option<String>,
    /// Talk plain HTTP to an endpoint on another machine
    #[arg(long, global = true)]
    pub(crate) insecure_endpoint: bool,
    /// Use a local stream (a SQLite file), whatever the config says
    #[arg(long, global = true)]
    pub(crate) local: bool,
    /// Say more on stderr; -vv still more (or set $TRITON_LOG)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Say only errors on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = false)]
    pub(crate) color: Color,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Put(PutArgs),
    Get(GetArgs),
    Shards(ShardsArgs),
    /// Make, list and change streams
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

/// Which stream a command is about.
#[derive(Args, Debug)]
pub(crate) struct StreamArg {
    /// The stream's logical name
    #[arg(short, long = "stream", value_name = "STREAM")]
    pub(crate) stream: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum TableOutput {
    Table,
    Json,
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
