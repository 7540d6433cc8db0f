//! Arguments that subcommands share: the global options, the stream, the format of a list.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Config file to use, instead of searching for one
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// AWS profile
    #[arg(long, global = true)]
    pub(crate) profile: Option<String>,
    /// AWS region
    #[arg(long, global = true)]
    pub(crate) region: Option<String>,
    /// URL of a Kinesis-compatible server
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) endpoint_url: Option<String>,
    /// Allow plain HTTP to an endpoint on another machine
    #[arg(long, global = true)]
    pub(crate) insecure_endpoint: bool,
    /// Use a local stream (a SQLite file), whatever the config says
    #[arg(long, global = true)]
    pub(crate) local: bool,
    /// Log more to stderr; -vv logs even more (or set $TRITON_LOG)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Print only errors to stderr
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = false)]
    pub(crate) color: Color,
}

/// The values of `--color`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

/// The stream of a subcommand.
#[derive(Args, Debug)]
pub(crate) struct StreamArg {
    /// The stream's logical name
    #[arg(short, long = "stream", value_name = "STREAM")]
    pub(crate) stream: String,
}

/// The values of `-o` for a list.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum TableOutput {
    Table,
    Json,
}
