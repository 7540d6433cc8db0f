//! Utilization of the read quota by a reader with a backlog.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};
use triton_core::{PartitionKey, PutEntry, Reader, ReaderOptions, Size, Start};

use super::{MIN_UTILIZATION, Variant, mark, model, named};
use crate::model::limiter::Neighbours;
use crate::model::{Handle, Kinesis};

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) shards: usize,
    pub(crate) size: usize,
    pub(crate) neighbours: Neighbours,
}

/// The measurements of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    utilization: f64,
    /// Fraction of all calls.
    throttled: f64,
}

/// How long a row runs before it is measured.
const WARM_UP: Duration = Duration::from_secs(6);
/// Maximum number of records of a backlog; rows that would need more are measured for less time.
const MAX_RECORDS: usize = 4_000_000;

impl Row {
    pub(crate) fn all() -> Vec<Self> {
        let neighbours = [Neighbours::Constant(0.0), Neighbours::Constant(0.3), Neighbours::Changing(0.5)];
        let of = |neighbours| {
            [1, 16]
                .into_iter()
                .flat_map(move |shards| [100, 1 << 10, 100 << 10].map(|size| Self { shards, size, neighbours }))
        };
        neighbours.into_iter().flat_map(of).collect()
    }

    pub(crate) const HEADER: &'static str = "shards  size     others     share  throttled  goal";

    /// The columns that identify the row.
    pub(crate) fn title(self) -> String {
        format!("{:<6}  {:<7}  {:<6}", self.shards, Size(self.size).to_string(), named(self.neighbours))
    }

    /// One line of the table.
    pub(crate) fn line(self, measured: Measured) -> String {
        let Measured { utilization, throttled } = measured;
        format!(
            "{}  {:>6.2} %  {:>7.3} %  {}",
            self.title(),
            utilization * 100.0,
            throttled * 100.0,
            mark(self.is_met(measured)),
        )
    }

    /// Whether the row meets its goal.
    pub(crate) fn is_met(self, measured: Measured) -> bool {
        measured.utilization >= MIN_UTILIZATION
    }

    /// Runs the row for `duration` over every variant of the quota, and returns the worst measurements.
    ///
    /// # Errors
    /// If a run cannot be started.
    pub(crate) fn measure(self, duration: Duration) -> Result<Measured> {
        let mut worst = Measured { utilization: f64::MAX, throttled: 0.0 };
        for variant in Variant::all() {
            let Measured { utilization, throttled } = self.measure_one(variant, duration)?;
            worst =
                Measured { utilization: worst.utilization.min(utilization), throttled: worst.throttled.max(throttled) };
        }
        Ok(worst)
    }

    fn measure_one(self, variant: Variant, duration: Duration) -> Result<Measured> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        runtime.block_on(async {
            let kinesis = Kinesis::new(model(self.shards, variant, Neighbours::Constant(0.0), self.neighbours), None)?;
            let entry = PutEntry::new(PartitionKey::stored("backlog"), Bytes::from(vec![0; self.size]));
            let a_second = (2.0 * variant.megabyte / entry.size() as f64).ceil() as usize * self.shards;
            let most = Duration::from_secs((MAX_RECORDS / a_second) as u64);
            let warm_up = WARM_UP.min(most / 4);
            let duration = duration.min(most - 2 * warm_up);
            // The second warm-up accounts for what the buckets hold at the start.
            let backlog = a_second / self.shards * (duration + 2 * warm_up).as_secs() as usize;
            for shard in 0..self.shards {
                kinesis.fill(shard, &entry, backlog);
            }
            self.drain(kinesis, warm_up, duration).await
        })
    }

    async fn drain(self, kinesis: Arc<Kinesis>, warm_up: Duration, duration: Duration) -> Result<Measured> {
        let client = Arc::new(Handle::producer(&kinesis));
        let mut reader = Reader::start(client, Start::All, ReaderOptions::default().with_seed(1)).await?;
        let warm = Instant::now() + warm_up;
        while let Ok(Some(batch)) = timeout_at(warm, reader.next_batch()).await {
            batch?;
        }
        let (before, fetched_before) = kinesis.read_quota();
        let end = Instant::now() + duration;
        while let Ok(Some(batch)) = timeout_at(end, reader.next_batch()).await {
            batch?;
        }
        let (after, fetched) = kinesis.read_quota();
        let granted: f64 = before.iter().zip(&after).map(|(before, after)| after.bytes - before.bytes).sum();
        let calls = (fetched.calls - fetched_before.calls) as f64;
        Ok(Measured {
            utilization: (fetched.bytes - fetched_before.bytes) as f64 / granted,
            throttled: (fetched.throttled - fetched_before.throttled) as f64 / calls.max(1.0),
        })
    }
}
