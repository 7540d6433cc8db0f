//! What the command line says, before anything is done about it.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use triton_core::{HashKey, SequenceNumber, Timestamp};

use crate::backend::Connections;
use crate::output::Output;

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
    /// Connections to Kinesis that this run has made.
    #[arg(skip)]
    pub(crate) connections: Connections,
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

/// Which stream a command is about.
#[derive(Args, Debug)]
pub(crate) struct StreamArg {
    /// The stream's logical name
    #[arg(short, long = "stream", value_name = "STREAM")]
    pub(crate) stream: String,
}

/// Put lines from files or stdin into a stream
///
/// Each line becomes a record {msg, ts}: the line with its newline, and the time in unix seconds. A line counts as put
/// when it is durable. Ctrl-C ends after what was read is put; a second one ends at once.
#[derive(Args, Debug)]
pub(crate) struct PutArgs {
    #[command(flatten)]
    pub(crate) stream: StreamArg,
    /// Files to read; '-' is stdin
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Each line is a JSON object: the record itself
    #[arg(long, conflicts_with = "raw")]
    pub(crate) json: bool,
    /// Each line is the payload as it is, without its newline
    #[arg(long)]
    pub(crate) raw: bool,
    /// The partition key of every record
    #[arg(short, long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// The field that holds the partition key, instead of the config's
    #[arg(long, value_name = "FIELD", conflicts_with = "key")]
    pub(crate) key_field: Option<String>,
    /// What ends a record, instead of a newline, and is no part of it (\n \r \t \0 \xNN stand for bytes)
    #[arg(short = 'D', long, value_name = "DELIM", value_parser = delimiter)]
    pub(crate) delimiter: Option<Delimiter>,
    /// Print SHARD and SEQUENCE NUMBER of each record once it is durable
    #[arg(long)]
    pub(crate) ack: bool,
    /// Read and check everything, put nothing
    #[arg(long, conflicts_with_all = ["ack", "failed"])]
    pub(crate) dry_run: bool,
    /// Append the payloads of what could not be put to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) failed: Option<PathBuf>,
    /// Go on after a line that is no record, with a warning
    #[arg(long)]
    pub(crate) skip_bad: bool,
    /// Pack records of one shard together, as the Kinesis Producer Library does: cheaper, and for readers that know it
    #[arg(long)]
    pub(crate) aggregate: bool,
}

/// Follow a stream
///
/// Reads every shard, through splits and merges, until Ctrl-C; what was fetched by then is still printed.
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) stream: StreamArg,
    /// Only the shards of these numbers (as 'triton shards' lists them), and those that come from them
    #[arg(short = 'd', long = "shard", value_name = "NUMBER", num_args = 1..)]
    pub(crate) shards: Option<Vec<usize>>,
    /// Where to start: latest, all, at:SEQ, after:SEQ, a time ago (-10m) or a time (RFC 3339)
    #[arg(long, value_name = "WHERE", default_value = "latest", allow_hyphen_values = true)]
    pub(crate) from: From,
    /// End after so many records
    #[arg(short = 'n', long = "count", value_name = "N")]
    pub(crate) count: Option<u64>,
    /// End when every shard was read up to its newest record
    #[arg(short = 'e', long = "exit")]
    pub(crate) until_caught_up: bool,
    /// pretty, json, raw, or a format: %t stream, %p shard, %o sequence number, %k key, %s payload as JSON, %S its size,
    /// %T arrival in ms
    #[arg(short, long, value_name = "FORMAT", default_value = "pretty")]
    pub(crate) output: Output,
    /// End with exit code 7 if any payload was no record
    #[arg(long)]
    pub(crate) strict: bool,
    /// Have Kinesis push the records (enhanced fan-out) to the consumer of this name, which is registered if it is not
    #[arg(long, value_name = "NAME")]
    pub(crate) fan_out: Option<String>,
}

/// List a stream's shards
#[derive(Args, Debug)]
pub(crate) struct ShardsArgs {
    #[command(flatten)]
    pub(crate) stream: StreamArg,
    /// Draw which shard came from which, with their hash keys
    #[arg(long)]
    pub(crate) tree: bool,
    /// Only shards that take records
    #[arg(long)]
    pub(crate) open: bool,
    /// How to print them
    #[arg(short, long, value_name = "FORMAT", default_value = "table", conflicts_with = "tree")]
    pub(crate) output: TableOutput,
}

/// Check config, credentials, streams and clocks
///
/// Prints one line a check. Ends with the exit code of the first that failed.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Only this stream, by its logical name, instead of every one in the config
    #[arg(short, long, value_name = "STREAM")]
    pub(crate) stream: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum TableOutput {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StreamsCommand {
    /// Make a stream
    Create {
        #[command(flatten)]
        stream: StreamArg,
        /// How many shards (default: what the config says, or 1)
        #[arg(long, value_name = "N")]
        shards: Option<usize>,
        /// Let Kinesis decide how many shards
        #[arg(long, conflicts_with = "shards")]
        on_demand: bool,
        /// How long records are kept, such as 24h or 7d
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
        retention: Duration,
    },
    /// Remove a stream with everything in it
    Delete {
        #[command(flatten)]
        stream: StreamArg,
        /// Yes, remove it
        #[arg(long)]
        yes: bool,
    },
    /// List the streams of the config, or of this machine
    List {
        /// How to print them
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        output: TableOutput,
    },
    /// Split a shard in two
    Split {
        #[command(flatten)]
        stream: StreamArg,
        /// The shard's number
        #[arg(short = 'd', long = "shard", value_name = "NUMBER")]
        shard: usize,
        /// The first hash key of the second half (default: the middle)
        #[arg(long, value_name = "HASH_KEY")]
        at: Option<HashKey>,
    },
    /// Merge two shards whose hash keys are adjacent
    Merge {
        #[command(flatten)]
        stream: StreamArg,
        /// The numbers of the two shards
        #[arg(short = 'd', long = "shard", value_name = "NUMBER", num_args = 2, required = true)]
        shards: Vec<usize>,
    },
    /// Split and merge until there are so many shards of equal size
    Reshard {
        #[command(flatten)]
        stream: StreamArg,
        /// How many shards
        #[arg(long, value_name = "N")]
        shards: usize,
    },
    /// List and remove consumers with enhanced fan-out
    #[command(subcommand)]
    Consumers(ConsumersCommand),
}

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

/// Where `get` starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum From {
    Latest,
    All,
    At(SequenceNumber),
    After(SequenceNumber),
    Ago(Duration),
    Time(Timestamp),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sequence = |number: &str| number.parse::<SequenceNumber>().map_err(|error| error.to_string());
        if let Some(number) = text.strip_prefix("at:") {
            return sequence(number).map(Self::At);
        }
        if let Some(number) = text.strip_prefix("after:") {
            return sequence(number).map(Self::After);
        }
        if let Some(ago) = text.strip_prefix('-') {
            return duration(ago).map(Self::Ago);
        }
        match text {
            "latest" => Ok(Self::Latest),
            "all" => Ok(Self::All),
            time => match time.parse::<jiff::Timestamp>() {
                Ok(time) => Ok(Self::Time(Timestamp::from_millis(time.as_millisecond()))),
                Err(_) => Err("latest, all, at:SEQ, after:SEQ, -10m, or a time such as 2015-06-10T20:47:56Z".into()),
            },
        }
    }
}

/// A time such as `90s`, `10m`, `24h`, `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no time such as 90s, 10m, 24h or 7d");
    let unit = text.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..unit].parse().map_err(|_| wrong())?;
    let millis: u64 = match &text[unit..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

/// What ends a record in the input of `put`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Delimiter(pub(crate) Vec<u8>);

fn delimiter(text: &str) -> Result<Delimiter, String> {
    match crate::output::unescape(text).map_err(|error| error.to_string())? {
        bytes if bytes.is_empty() => Err("an empty delimiter ends nothing".into()),
        bytes => Ok(Delimiter(bytes)),
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

    #[test]
    fn starts_are_words_positions_and_times() {
        let from = |text: &str| text.parse::<From>();
        assert_eq!(from("latest"), Ok(From::Latest));
        assert_eq!(from("at:7"), Ok(From::At(7.into())));
        assert_eq!(from("-10m"), Ok(From::Ago(Duration::from_secs(600))));
        assert_eq!(from("2015-06-10T20:47:56Z"), Ok(From::Time(Timestamp::from_millis(1_433_969_276_000))));
        for wrong in ["", "newest", "at:", "after:x", "-10", "-m", "10m", "2015-06-10"] {
            assert!(from(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for wrong in ["", "7", "d", "7w", "-7d", "99999999999999999999d", "18446744073709551615d"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn delimiters_are_bytes() {
        assert_eq!(delimiter(r"\0"), Ok(Delimiter(vec![0])));
        assert_eq!(delimiter(r"\r\n"), Ok(Delimiter(b"\r\n".to_vec())));
        assert_eq!(delimiter(r"\x1e"), Ok(Delimiter(vec![0x1e])));
        assert!(delimiter("").is_err() && delimiter(r"\q").is_err());
    }
}
