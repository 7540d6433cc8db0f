//! `triton streams consumers`: consumers with enhanced fan-out, which only Kinesis has.

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
        /// Output format
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        output: TableOutput,
    },
    /// Delete a consumer, and cut off its reader
    Delete {
        #[command(flatten)]
        stream: StreamArg,
        /// Name of the consumer
        #[arg(value_name = "NAME")]
        name: String,
        /// Confirm that it is deleted
        #[arg(long)]
        yes: bool,
    },
}
