//! A burst of small records through one producer, which stays within its memory budget.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use triton_core::{
    Entries, Error, Limits, PartitionKey, Position, Producer, ProducerOptions, PutEntry, PutReceipt, Shard, ShardId,
    ShardReader, StreamClient, Timestamp,
};

use crate::measure::measure_output;

const RECORDS: u64 = 10_000_000;
/// Number of keys.
const KEYS: u64 = 100_000;
/// Maximum number of tickets that the caller holds.
const MAX_HELD: usize = 10_000;

/// Runs as a child process of this benchmark, if the arguments say so.
pub(crate) fn child(arguments: &[String]) -> Option<Result<()>> {
    match &arguments[1..] {
        [flag, tickets] if flag == "--burst" => Some(crate::runtime().and_then(|it| it.block_on(burst(tickets)))),
        _ => None,
    }
}

/// Prints the rows.
pub(crate) fn bench() -> Result<()> {
    println!("\na burst of {RECORDS} records of 20 bytes and {KEYS} keys through one producer, into nothing\n");
    println!("{:<48} {:>12} {:>12} {:>12}", "row", "rate", "of budget", "peak memory");
    for tickets in ["awaited", "dropped"] {
        let (output, measured) =
            measure_output(std::process::Command::new(std::env::current_exe()?).args(["--burst", tickets]))?;
        let rate = RECORDS as f64 / measured.wall.as_secs_f64();
        let peak = measured.peak_bytes as f64 / f64::from(1 << 20);
        let used = output.trim_end().parse::<f64>().context("a number")? * 100.0;
        println!("{:<48} {rate:>10.0}/s {used:>10.1} % {peak:>8.0} MiB", format!("tickets {tickets}"));
    }
    Ok(())
}

/// Prints the peak use of the budget, as a fraction of it.
async fn burst(tickets: &str) -> Result<()> {
    let producer = Producer::new(Arc::new(Sink::default()), ProducerOptions::default());
    let payload = Bytes::from_static(&[b'x'; 20]);
    let mut held = VecDeque::with_capacity(MAX_HELD);
    for number in 0..RECORDS {
        let key = PartitionKey::stored(format!("user-{}", number % KEYS));
        let ticket = producer.submit(PutEntry::new(key, payload.clone())).await?;
        match tickets {
            "awaited" => held.push_back(ticket),
            "dropped" => drop(ticket),
            other => bail!("tickets are not {other}"),
        }
        if held.len() == MAX_HELD
            && let Some(oldest) = held.pop_front()
        {
            oldest.await?;
        }
    }
    let budget = producer.budget().clone();
    let closed = producer.close().await?;
    for ticket in held {
        ticket.await?;
    }
    ensure!((closed.acknowledged, closed.failed) == (RECORDS, 0), "{closed:?}");
    ensure!(budget.peak() <= budget.bytes() && budget.used() == 0, "{budget:?}, {} at most", budget.peak());
    println!("{}", budget.peak() as f64 / budget.bytes() as f64);
    Ok(())
}

/// A stream with the limits of Kinesis but without a quota, which discards its records.
#[derive(Debug, Default)]
struct Sink {
    stored: AtomicU64,
}

#[async_trait]
impl StreamClient for Sink {
    fn name(&self) -> &str {
        "sink"
    }

    async fn created_at(&self) -> triton_core::Result<Timestamp> {
        Ok(Timestamp::default())
    }

    async fn shards(&self) -> triton_core::Result<Vec<Shard>> {
        Ok(Vec::new())
    }

    async fn put_batch(&self, entries: Entries) -> triton_core::Result<Vec<triton_core::Result<PutReceipt>>> {
        let first = self.stored.fetch_add(entries.len() as u64, Ordering::Relaxed);
        let shard_id = ShardId::numbered(0);
        let receipt = |number: u64| Ok(PutReceipt::new(shard_id.clone(), number));
        Ok((first..first + entries.len() as u64).map(receipt).collect())
    }

    async fn open_shard(&self, _: &ShardId, _: Position) -> triton_core::Result<Box<dyn ShardReader>> {
        Err(Error::Invalid { problem: "nothing is kept".into() })
    }

    async fn limits(&self) -> triton_core::Result<Limits> {
        Ok(Limits::KINESIS.with_write_quota(None))
    }
}
