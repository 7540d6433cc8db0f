//! `triton streams`: creates, lists and changes streams.

mod consumers;

use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;
use triton_stream::{Error, HashKey, ShardRef, StreamConfig};

use crate::args::{Global, StreamArg, TableOutput};
use crate::command::duration::duration;
use crate::exit::{self, Code, Failure};
use crate::output::table::{plain_table, render};
use crate::printer;
use crate::session::{Session, shard_ids};

use self::consumers::ConsumersCommand;

#[derive(Debug, Subcommand)]
pub(crate) enum StreamsCommand {
    /// Create a stream
    Create {
        #[command(flatten)]
        stream: StreamArg,
        /// Number of shards (default: the config's, or 1)
        #[arg(long, value_name = "N")]
        shards: Option<usize>,
        /// Let Kinesis choose the number of shards (on-demand mode)
        #[arg(long, conflicts_with = "shards")]
        on_demand: bool,
        /// How long records are kept, such as 24h or 7d
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
        retention: Duration,
    },
    /// Delete a stream with every record in it
    Delete {
        #[command(flatten)]
        stream: StreamArg,
        /// Confirm that it is deleted
        #[arg(long)]
        yes: bool,
    },
    /// List the streams of the config, or of this machine
    List {
        /// Output format
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        output: TableOutput,
    },
    /// Split a shard in two
    Split {
        #[command(flatten)]
        stream: StreamArg,
        /// The shard, by id or by number
        #[arg(short = 'd', long = "shard", value_name = "SHARD")]
        shard: ShardRef,
        /// The first hash key of the second half (default: the middle)
        #[arg(long, value_name = "HASH_KEY")]
        at: Option<HashKey>,
    },
    /// Merge two shards whose hash keys are adjacent
    Merge {
        #[command(flatten)]
        stream: StreamArg,
        /// The two shards, by id or by number
        #[arg(short = 'd', long = "shard", value_name = "SHARD", num_args = 2, required = true)]
        shards: Vec<ShardRef>,
    },
    /// Split and merge until there are N shards of equal size
    Reshard {
        #[command(flatten)]
        stream: StreamArg,
        /// Number of shards
        #[arg(long, value_name = "N")]
        shards: usize,
    },
    /// List and delete consumers with enhanced fan-out
    #[command(subcommand)]
    Consumers(ConsumersCommand),
}

pub(crate) async fn run(global: &Global, command: StreamsCommand) -> Result<()> {
    let session = Session::new(global)?;
    match command {
        StreamsCommand::Create { stream, shards, on_demand, retention } => {
            let config = session.configure(&stream.stream)?;
            let configured = session.create_options(&config)?;
            let options = configured
                .with_shards(shards.unwrap_or(configured.shards))
                .with_on_demand(on_demand)
                .with_retention(retention);
            session.admin(&config).await?.create(&config.name, options).await?;
        }
        StreamsCommand::Delete { stream, yes } => {
            let config = session.configure(&stream.stream)?;
            if !yes {
                let message = format!("'{}' would be deleted with every record in it", config.name);
                return Err(Failure::new(Code::Usage, message).with_help("add --yes to delete it").into());
            }
            session.admin(&config).await?.delete(&config.name).await?;
        }
        StreamsCommand::List { output } => list(&session, output).await?,
        StreamsCommand::Split { stream, shard, at } => {
            let config = session.configure(&stream.stream)?;
            let admin = session.admin(&config).await?;
            let client = admin.open(&config.name).await?;
            let id = shard_ids(global, &*client, &[shard]).await?.remove(0);
            let shards = client.shards().await?;
            let not_found = || Error::ShardNotFound { shard: id.clone(), stream: config.name.clone() };
            let range = shards.iter().find(|shard| shard.id == id).ok_or_else(not_found)?.hash_key_range;
            let one_key = || Error::Invalid { problem: format!("{id} holds a single hash key and cannot be split") };
            let at = at.or(range.middle()).ok_or_else(one_key)?;
            admin.split(&config.name, &id, at).await?;
        }
        StreamsCommand::Merge { stream, shards } => {
            let config = session.configure(&stream.stream)?;
            let admin = session.admin(&config).await?;
            let client = admin.open(&config.name).await?;
            let [first, second] = &shard_ids(global, &*client, &shards).await?[..] else {
                return Err(Failure::new(Code::Usage, "a merge takes two shards").into());
            };
            admin.merge(&config.name, first, second).await?;
        }
        StreamsCommand::Reshard { stream, shards } => {
            let config = session.configure(&stream.stream)?;
            session.admin(&config).await?.reshard(&config.name, shards).await?;
        }
        StreamsCommand::Consumers(command) => consumers::run(&session, command).await?,
    }
    Ok(())
}

/// A line of the list.
struct Row {
    config: StreamConfig,
    /// Number of open shards; `None` if the stream does not exist, or cannot be described.
    shards: Option<usize>,
}

async fn list(session: &Session<'_>, output: TableOutput) -> Result<()> {
    let mut rows = Vec::new();
    for config in streams(session).await? {
        let shards = open_shards(session, &config).await.unwrap_or_else(|error| {
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
async fn streams(session: &Session<'_>) -> Result<Vec<StreamConfig>> {
    if let Some(config) = session.config().filter(|_| !session.global.local) {
        return Ok(config.streams().cloned().collect());
    }
    let unnamed = session.unnamed_stream();
    let names = session.admin(&unnamed).await?.list().await?;
    Ok(names.into_iter().map(|name| StreamConfig::new(name).with_backend(&unnamed.backend)).collect())
}

async fn open_shards(session: &Session<'_>, config: &StreamConfig) -> Result<Option<usize>> {
    match session.admin(config).await?.open(&config.name).await {
        Ok(client) => Ok(Some(client.shards().await?.iter().filter(|shard| shard.is_open()).count())),
        Err(Error::StreamNotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = plain_table();
    table.set_header(["STREAM", "NAME", "BACKEND", "OPEN SHARDS"]);
    for Row { config, shards } in rows {
        let shards = shards.map_or("-".to_owned(), |count| count.to_string());
        let names = [&config.logical_name, &config.name].map(|name| exit::printable(name));
        table.add_row([&names[0], &names[1], &config.backend, &shards]);
    }
    render(&table)
}

fn json_line(Row { config, shards }: &Row) -> serde_json::Value {
    json!({
        "stream": config.logical_name,
        "name": config.name,
        "backend": config.backend,
        "open_shards": shards,
    })
}
