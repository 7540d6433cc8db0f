//! `triton shards`: the list of a stream's shards, as a table, as JSON, or as a tree.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use triton_stream::{HashKeyRange, Shard, ShardId, StreamConfig};

use crate::args::{Global, StreamArg, TableOutput};
use crate::output::table::{plain_table, render};
use crate::printer;
use crate::session::Session;

/// List a stream's shards
#[derive(Args, Debug)]
pub(crate) struct ShardsArgs {
    #[command(flatten)]
    pub(crate) stream: StreamArg,
    /// Draw splits and merges as a tree, with hash key ranges
    #[arg(long)]
    pub(crate) tree: bool,
    /// Only open shards
    #[arg(long)]
    pub(crate) open: bool,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table", conflicts_with = "tree")]
    pub(crate) output: TableOutput,
}

/// Width of the bar of all hash keys, in characters.
const BAR_WIDTH: u128 = 32;

pub(crate) async fn run(global: &Global, args: ShardsArgs) -> Result<()> {
    let session = Session::new(global)?;
    let config = session.configure(&args.stream.stream)?;
    let shards = session.open(&config).await?.shards().await?;
    let is_shown = |shard: &Shard| shard.is_open() || !args.open;
    let text = match (args.tree, args.output) {
        (true, _) => tree(&shards, is_shown),
        (_, TableOutput::Table) => table(&shards, is_shown),
        (_, TableOutput::Json) => json_lines(&config, &shards, is_shown),
    };
    printer::print_all(&text)
}

fn table(shards: &[Shard], is_shown: impl Fn(&Shard) -> bool) -> String {
    let mut table = plain_table();
    table.set_header(["#", "SHARD", "STATE", "PARENTS", "HASH KEYS", "FROM"]);
    for (number, shard) in shards.iter().enumerate().filter(|(_, shard)| is_shown(shard)) {
        let parents: Vec<String> = shard.parents().map(|parent| parent_number(shards, parent)).collect();
        table.add_row([
            number.to_string(),
            shard.id.to_string(),
            state(shard).to_owned(),
            parents.join(" + "),
            share(shard.hash_key_range),
            shard.hash_key_range.first.to_string(),
        ]);
    }
    render(&table)
}

fn state(shard: &Shard) -> &'static str {
    if shard.is_open() { "open" } else { "closed" }
}

/// A parent as its number, or as its id where retention has removed it from the list.
fn parent_number(shards: &[Shard], parent: &ShardId) -> String {
    match shards.iter().position(|shard| shard.id == *parent) {
        Some(number) => number.to_string(),
        None => parent.to_string(),
    }
}

/// Share of all hash keys that a range holds.
fn share(range: HashKeyRange) -> String {
    let part = (range.last.0 - range.first.0) as f64 / u128::MAX as f64;
    format!("{:.1}%", part * 100.0)
}

fn json_lines(config: &StreamConfig, shards: &[Shard], is_shown: impl Fn(&Shard) -> bool) -> String {
    let mut text = String::new();
    for (number, shard) in shards.iter().enumerate().filter(|(_, shard)| is_shown(shard)) {
        let line = json!({
            "stream": config.logical_name,
            "number": number,
            "shard": shard.id.as_str(),
            "state": state(shard),
            "parents": shard.parents().map(ShardId::as_str).collect::<Vec<_>>(),
            "first_hash_key": shard.hash_key_range.first.to_string(),
            "last_hash_key": shard.hash_key_range.last.to_string(),
            "first_seq": shard.first_sequence_number.to_string(),
            "last_seq": shard.last_sequence_number.map(|number| number.to_string()),
        });
        let _ = writeln!(text, "{line}");
    }
    text
}

/// Each shard below its first parent, with its hash keys as a bar.
fn tree(shards: &[Shard], is_shown: impl Fn(&Shard) -> bool) -> String {
    let by_id: BTreeMap<&ShardId, usize> =
        shards.iter().enumerate().map(|(number, shard)| (&shard.id, number)).collect();
    let mut depths: Vec<usize> = Vec::new();
    let mut children: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
    for (number, shard) in shards.iter().enumerate() {
        // Parents come before their children in the list.
        let parent = shard.parents().find_map(|parent| by_id.get(parent).copied());
        depths.push(parent.map_or(0, |parent| depths.get(parent).map_or(0, |depth| depth + 1)));
        children.entry(parent).or_default().push(number);
    }
    let mut order = Vec::new();
    let mut stack: Vec<usize> = children.get(&None).cloned().unwrap_or_default();
    stack.reverse();
    while let Some(number) = stack.pop() {
        order.push(number);
        stack.extend(children.get(&Some(number)).into_iter().flatten().rev());
    }
    let shown = || order.iter().map(|&number| (number, &shards[number])).filter(|(_, shard)| is_shown(shard));
    let width = shown().map(|(number, shard)| 2 * depths[number] + shard.id.as_str().len()).max().unwrap_or(0);
    let mut text = String::new();
    for (number, shard) in shown() {
        let name = format!("{:indent$}{}", "", shard.id, indent = 2 * depths[number]);
        let merged = match &shard.adjacent_parent {
            Some(adjacent) => format!("  + {}", parent_number(shards, adjacent)),
            None => String::new(),
        };
        let range = bar(shard.hash_key_range);
        let _ = writeln!(text, "{number:>4}  {name:width$}  [{range}]  {}{merged}", state(shard));
    }
    text
}

fn bar(range: HashKeyRange) -> String {
    let cell = u128::MAX / BAR_WIDTH + 1;
    let (first, last) = (range.first.0 / cell, range.last.0 / cell);
    (0..BAR_WIDTH).map(|at| if (first..=last).contains(&at) { '#' } else { '.' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use triton_stream::ShardMap;

    fn shards() -> Vec<Shard> {
        let mut map = ShardMap::uniform("clicks", 2, 1).unwrap();
        let id = ShardId::numbered;
        let middle = map.get(&id(0)).unwrap().hash_key_range.middle().unwrap();
        map.split(&id(0), middle, &mut 10).unwrap();
        map.merge(&id(3), &id(1), &mut 20).unwrap();
        map.shards().to_vec()
    }

    #[test]
    fn the_tree_shows_parents_and_hash_keys() {
        assert_eq!(
            tree(&shards(), |_| true),
            "   0  shardId-000000000000      [################................]  closed\n\
             \u{20}  2    shardId-000000000002    [########........................]  open\n\
             \u{20}  3    shardId-000000000003    [........########................]  closed\n\
             \u{20}  4      shardId-000000000004  [........########################]  open  + 1\n\
             \u{20}  1  shardId-000000000001      [................################]  closed\n"
        );
    }

    #[test]
    fn the_table_lists_by_number() {
        let text = table(&shards(), Shard::is_open);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let words: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(
            words,
            ["4", "shardId-000000000004", "open", "3", "+", "1", "75.0%", "85070591730234615865843651857942052864"]
        );
    }
}
