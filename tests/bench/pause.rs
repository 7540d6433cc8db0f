//! A consumer that pauses for an hour: how much memory its reader uses meanwhile, by its budget and by the system's count.
//! The clock is virtual, so that the hour takes no time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use triton_core::ShardMap;
use triton_core::{
    Batch, Budget, Entries, Limits, PartitionKey, Position, PutReceipt, Reader, ReaderOptions, Record, SequenceNumber,
    Shard, ShardId, ShardReader, Start, StreamClient, Timestamp,
};

const SHARDS: usize = 200;
const BUDGET: usize = 64 << 20;
/// The largest page of Kinesis.
const PAGE_RECORDS: u64 = 10_000;
const RECORD_BYTES: usize = 1_000;

/// A stream whose shards have an endless backlog. Each page has its own memory.
#[derive(Debug)]
struct Endless(ShardMap);

#[derive(Debug)]
struct EndlessShard {
    shard: ShardId,
    next: u64,
}

#[async_trait]
impl StreamClient for Endless {
    fn name(&self) -> &str {
        "endless"
    }

    async fn created_at(&self) -> triton_core::Result<Timestamp> {
        Ok(Timestamp::default())
    }

    async fn shards(&self) -> triton_core::Result<Vec<Shard>> {
        Ok(self.0.shards().to_vec())
    }

    async fn put_batch(&self, _: Entries) -> triton_core::Result<Vec<triton_core::Result<PutReceipt>>> {
        Ok(Vec::new())
    }

    async fn open_shard(&self, shard: &ShardId, _: Position) -> triton_core::Result<Box<dyn ShardReader>> {
        Ok(Box::new(EndlessShard { shard: shard.clone(), next: 1 }))
    }

    async fn limits(&self) -> triton_core::Result<Limits> {
        Ok(Limits::KINESIS)
    }
}

#[async_trait]
impl ShardReader for EndlessShard {
    async fn next_batch(&mut self, max_records: usize) -> triton_core::Result<Option<Batch>> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let count = PAGE_RECORDS.min(max_records as u64);
        let record = |number: u64| {
            let key = PartitionKey::stored("key");
            Record::new(self.shard.clone(), number.into(), key, Timestamp::default(), vec![number as u8; RECORD_BYTES])
        };
        let records = (self.next..self.next + count).map(record).collect();
        self.next += count;
        Ok(Some(Batch::new(records, Some(Duration::from_millis(1)))))
    }

    fn position(&self) -> Position {
        Position::after(self.next - 1)
    }
}

/// Runs it in a process of its own, so that only its memory is counted.
pub(crate) fn bench() -> Result<()> {
    let ended = std::process::Command::new(std::env::current_exe()?).arg(FLAG).status()?;
    ensure!(ended.success(), "the reader failed: {ended}");
    Ok(())
}

/// Runs as a child process of this benchmark, if the arguments say so.
pub(crate) fn child(arguments: &[String]) -> Option<Result<()>> {
    (arguments.len() == 2 && arguments[1] == FLAG).then(run)
}

const FLAG: &str = "--pause";

/// Prints the peak of the budget, and the peak memory of the process.
fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let before = peak_bytes()?;
    let budget = Budget::new(BUDGET);
    runtime.block_on(async {
        let client = Arc::new(Endless(ShardMap::uniform("endless", SHARDS, 1)?));
        let options = ReaderOptions::default().with_seed(1);
        let mut reader = Reader::builder(client).options(options).budget(budget.clone()).start(Start::All).await?;
        let mut last = vec![SequenceNumber::ZERO; SHARDS];
        for _ in 0..2 {
            // Before and after the hour, records are complete and in order.
            for _ in 0..3 * SHARDS {
                for record in reader.next_batch().await.context("it has no end")??.records {
                    let shard = &mut last[record.shard_id.number().context("a number")? as usize];
                    let next = SequenceNumber::from(u64::try_from(*shard)? + 1);
                    ensure!(record.sequence_number == next, "{} after {shard}", record.sequence_number);
                    *shard = next;
                }
            }
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        ensure!(last.iter().all(|last| *last > SequenceNumber::ZERO), "each shard was read");
        anyhow::Ok(())
    })?;
    let most = BUDGET + 64 * (24 << 20);
    ensure!(budget.peak() <= most, "{budget:?}: {} at most, {most} allowed", budget.peak());
    println!(
        "a consumer that stops for an hour, {SHARDS} shards of 10 MB pages: {} MiB counted at most, {} MiB more in memory",
        budget.peak() >> 20,
        (peak_bytes()? - before) >> 20,
    );
    Ok(())
}

/// The peak memory of this process.
fn peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}
