//! Lists and deletes consumers.

use anyhow::Result;
use serde_json::json;
use triton_stream::kinesis::Consumer;

use crate::args::TableOutput;
use crate::exit::{self, Code, Failure};
use crate::output::table::{plain_table, render};
use crate::printer;
use crate::session::Session;

use super::ConsumersCommand;

pub(in crate::command::streams) async fn run(session: &Session<'_>, command: ConsumersCommand) -> Result<()> {
    match command {
        ConsumersCommand::List { stream, output } => {
            let config = session.configure(&stream.stream)?;
            let consumers = session.kinesis.stream(&config).await?.consumers().await?;
            printer::print_all(&match output {
                TableOutput::Table => consumers_table(&consumers),
                TableOutput::Json => {
                    consumers.iter().map(|consumer| format!("{}\n", consumer_line(consumer))).collect()
                }
            })
        }
        ConsumersCommand::Delete { stream, name, yes } => {
            let config = session.configure(&stream.stream)?;
            if !yes {
                let message = format!("consumer '{name}' of '{}' would be deleted", config.name);
                return Err(Failure::new(Code::Usage, message).with_help("add --yes to delete it").into());
            }
            if session.kinesis.stream(&config).await?.remove_consumer(&name).await? {
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
