//! The arguments of `put`.

use std::path::PathBuf;

use clap::Args;

use crate::args::StreamArg;

/// Put lines from files or stdin into a stream
///
/// Each line becomes a record {msg, ts}: the line with its newline, and the time in unix seconds. A line counts as put
/// when it is durable. Ctrl-C ends when everything read is put; a second Ctrl-C ends at once.
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
    /// Partition key of every record
    #[arg(short, long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Field that holds the partition key, instead of the config's
    #[arg(long, value_name = "FIELD", conflicts_with = "key")]
    pub(crate) key_field: Option<String>,
    /// Delimiter of records, instead of a newline; not part of the record (\n \r \t \0 \xNN stand for bytes)
    #[arg(short = 'D', long, value_name = "DELIM", value_parser = delimiter)]
    pub(crate) delimiter: Option<Delimiter>,
    /// Print SHARD and SEQUENCE NUMBER of each record once it is durable
    #[arg(long)]
    pub(crate) ack: bool,
    /// Read and check everything, put nothing
    #[arg(long, conflicts_with_all = ["ack", "failed"])]
    pub(crate) dry_run: bool,
    /// Append the payloads of records that could not be put to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) failed: Option<PathBuf>,
    /// Skip invalid lines with a warning
    #[arg(long)]
    pub(crate) skip_bad: bool,
    /// Pack records into aggregates, as the Kinesis Producer Library does: cheaper, but readers have to unpack them
    #[arg(long)]
    pub(crate) aggregate: bool,
}

/// The delimiter of records in the input of `put`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Delimiter(pub(crate) Vec<u8>);

fn delimiter(text: &str) -> Result<Delimiter, String> {
    match crate::output::unescape(text).map_err(|error| error.to_string())? {
        bytes if bytes.is_empty() => Err("the delimiter is empty".into()),
        bytes => Ok(Delimiter(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_are_bytes() {
        assert_eq!(delimiter(r"\0"), Ok(Delimiter(vec![0])));
        assert_eq!(delimiter(r"\r\n"), Ok(Delimiter(b"\r\n".to_vec())));
        assert_eq!(delimiter(r"\x1e"), Ok(Delimiter(vec![0x1e])));
        assert!(delimiter("").is_err() && delimiter(r"\q").is_err());
    }
}
