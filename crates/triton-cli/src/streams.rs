//! `triton streams`: makes, lists and changes streams.

use anyhow::Result;
use serde_json::json;
use triton_core::{Backend, CreateOptions, Error, StreamConfig};
use triton_kinesis::Consumer;

use crate::args::{ConsumersCommand, Global, StreamsCommand, TableOutput};
use crate::backend;
use crate::exit::{self, Code, Failure};
use crate::printer;
use crate::shards::{plain_table, render};

pub(crate) async fn run(global: &Global, command: StreamsCommand) -> Result<()> {
    match command {
        StreamsCommand::Create { stream, shards, on_demand, retention } => {
            let config = backend::configure(global, &stream.stream)?;
            let options = CreateOptions::default()
                .with_shards(shards.unwrap_or(config.shards))
                .with_on_demand(on_demand)
                .with_retention(retention);
            backend::admin(global, &config).await?.create(&config.name, options).await?;
        }
        StreamsCommand::Delete { stream, yes } => {
            let config = backend::configure(global, &stream.stream)?;
            if !yes {
                let message = format!("'{}' would be removed with every record in it", config.name);
                return Err(Failure::new(Code::Usage, message).with_help("add --yes to remove it").into());
            }
            backend::admin(global, &config).await?.delete(&config.name).await?;
        }
        StreamsCommand::List { output } => list(global, output).await?,
        StreamsCommand::Split { stream, shard, at } => {
            let config = backend::configure(global, &stream.stream)?;
            let admin = backend::admin(global, &config).await?;
            let client = admin.open(&config.name).await?;
            let shards = client.shards().await?;
            let id = backend::shard_id(&*client, shard).await?;
            let range = shards.iter().find(|shard| shard.id == id).map(|shard| shard.hash_key_range);
            let one_key = || Error::Invalid { problem: format!("{id} holds a single hash key and cannot be split") };
            let at = at.or(range.and_then(|range| range.middle())).ok_or_else(one_key)?;
            admin.split(&config.name, &id, at).await?;
        }
        StreamsCommand::Merge { stream, shards } => {
            let config = backend::configure(global, &stream.stream)?;
            let admin = backend::admin(global, &config).await?;
            let client = admin.open(&config.name).await?;
            let [first, second] = shards[..] else {
                return Err(Failure::new(Code::Usage, "a merge takes two shards").into());
            };
            let ids = (backend::shard_id(&*client, first).await?, backend::shard_id(&*client, second).await?);
            admin.merge(&config.name, &ids.0, &ids.1).await?;
        }
        StreamsCommand::Reshard { stream, shards } => {
            let config = backend::configure(global, &stream.stream)?;
            backend::admin(global, &config).await?.reshard(&config.name, shards).await?;
        }
        StreamsCommand::Consumers(command) => consumers(global, command).await?,
    }
    Ok(())
}

async fn consumers(global: &Global, command: ConsumersCommand) -> Result<()> {
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

/// What is listed of a stream.
struct Row {
    config: StreamConfig,
    /// How many open shards; `None` where it does not exist, or cannot be looked at.
    shards: Option<usize>,
}

async fn list(global: &Global, output: TableOutput) -> Result<()> {
    let mut rows = Vec::new();
    for config in streams(global).await? {
        let shards = open_shards(global, &config).await.unwrap_or_else(|error| {
            exit::warn(&format!("'{}': {error:#}", config.logical_name));
            None
        });
        rows.push(Row { config, shards });
    }
    let text = match output {
        TableOutput::Table => table(&rows),
        TableOutput::Json => rows.iter().map(|row| format!("{}\n", json_line(row))).collect(),
    };
    printer::print_all(&text)
}

/// The streams of the config; without one, those of the AWS account that the user points to, or of this machine.
async fn streams(global: &Global) -> Result<Vec<StreamConfig>> {
    if !global.local
        && let Some(config) = backend::find_config(global)?
    {
        return Ok(config.streams().cloned().collect());
    }
    let mut place = StreamConfig::local("");
    if !global.local && backend::points_to_aws(global).is_some() {
        place.backend = Backend::Kinesis;
    }
    let names = backend::admin(global, &place).await?.list().await?;
    let stream = |name: &String| {
        let mut stream = StreamConfig::local(name);
        stream.backend = place.backend;
        stream
    };
    Ok(names.iter().map(stream).collect())
}

async fn open_shards(global: &Global, config: &StreamConfig) -> Result<Option<usize>> {
    match backend::admin(global, config).await?.open(&config.name).await {
        Ok(client) => Ok(Some(client.shards().await?.iter().filter(|shard| shard.is_open()).count())),
        Err(Error::StreamNotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn backend_name(backend: Backend) -> &'static str {
    match backend {
        Backend::Local => "local",
        _ => "kinesis",
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = plain_table();
    table.set_header(["STREAM", "NAME", "BACKEND", "OPEN SHARDS"]);
    for Row { config, shards } in rows {
        let shards = shards.map_or("-".to_owned(), |count| count.to_string());
        let names = [&config.logical_name, &config.name].map(|name| exit::printable(name));
        table.add_row([&names[0], &names[1], backend_name(config.backend), &shards]);
    }
    render(&table)
}

fn json_line(Row { config, shards }: &Row) -> serde_json::Value {
    json!({
        "stream": config.logical_name,
        "name": config.name,
        "backend": backend_name(config.backend),
        "open_shards": shards,
    })
}
