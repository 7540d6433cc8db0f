//! `triton streams consumers`: the consumers with enhanced fan-out, which Kinesis alone has.

#[cfg_attr(not(feature = "kinesis"), path = "consumers/no_kinesis.rs")]
mod kinesis;

use clap::Subcommand;

use crate::args::{StreamArg, TableOutput};

pub(super) use self::kinesis::run;

#[derive(Debug, Subcommand)]
pub(crate) enum ConsumersCommand {
    /// List the consumers of a stream
    List {
        #[command(flatten)]
        stream: StreamArg,
        /// How to print them
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        output: TableOutput,
    },
    /// Remove a consumer; whoever reads by it is cut off
    Delete {
        #[command(flatten)]
        stream: StreamArg,
        /// The consumer's name
        #[arg(value_name = "NAME")]
        name: String,
        /// Yes, remove it
        #[arg(long)]
        yes: bool,
    },
}
