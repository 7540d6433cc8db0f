//! `triton streams consumers`: lists and removes consumers with enhanced fan-out.

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;
use triton_kinesis::Consumer;

use crate::backend;
use crate::command::shards::{plain_table, render};
use crate::command::{Global, StreamArg, TableOutput};
use crate::exit::{self, Code, Failure};
use crate::printer;

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

pub(super) async fn run(global: &Global, command: ConsumersCommand) -> Result<()> {
    match command {
        ConsumersCommand::List { stream, output } => {
            let config = backend::configure(global, &stream.stream)?;
            let consumers = backend::on_kinesis(global, &config).await?.consumers().await?;
            printer::print_all(&match output {
                TableOutput::Table => consumers_table(&consumers),
                TableOutput::Json => {
                    consumers.iter().map(|consumer| format!("{}\n", consumer_line(consumer))).collect()
                }
            })
        }
        ConsumersCommand::Delete { stream, name, yes } => {
            let config = backend::configure(global, &stream.stream)?;
            if !yes {
                let message = format!("consumer '{name}' of '{}' would be removed", config.name);
                return Err(Failure::new(Code::Usage, message).with_help("add --yes to remove it").into());
            }
            if backend::on_kinesis(global, &config).await?.remove_consumer(&name).await? {
                return Ok(());
            }
            Err(Failure::new(Code::NotFound, format!("'{}' has no consumer '{name}'", config.name))
                .with_help("'triton streams consumers list' shows those that exist")
                .into())
        }
    }
}

fn consumers_table(consumers: &[Consumer]) -> String {
    let mut table = plain_table();
    table.set_header(["CONSUMER", "STATUS", "REGISTERED"]);
    for consumer in consumers {
        table.add_row([&exit::printable(&consumer.name), &consumer.status, &registered_at(consumer)]);
    }
    render(&table)
}

fn consumer_line(consumer: &Consumer) -> serde_json::Value {
    json!({
        "consumer": consumer.name,
        "status": consumer.status,
        "registered": registered_at(consumer),
        "arn": consumer.arn,
    })
}

fn registered_at(consumer: &Consumer) -> String {
    let time = jiff::Timestamp::from_millisecond(consumer.registered_at.as_millis());
    time.map(|time| time.to_string()).unwrap_or_default()
}
