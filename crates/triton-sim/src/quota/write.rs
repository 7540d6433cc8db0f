//! Utilization of the write quota by a saturated producer.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use triton_core::{Budget, HashKey, PartitionKey, PutEntry, Size};

use super::ideal::Ideal;
use super::{Keys, MAX_THROTTLED, MAX_THROTTLED_WHILE_CHANGING, MIN_UTILIZATION, Variant, mark, model, named};
use crate::model::Kinesis;
use crate::model::limiter::{Neighbours, Shape};
use crate::producer::{Saturated, SaturatedOptions};

/// How records are put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Aggregated,
    Relaxed,
    Ordered,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) shards: usize,
    pub(crate) is_zipf: bool,
    pub(crate) size: usize,
    pub(crate) mode: Mode,
    pub(crate) neighbours: Neighbours,
}

/// The measurements of a row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    /// Records per second.
    rate: f64,
    utilization: f64,
    throttled: f64,
    /// Time from a put to its receipt.
    p99: Duration,
    /// Peak use of the producer's budget, in bytes.
    peak: usize,
}

/// How long a row runs before it is measured: until the rate limiters have learned the quota and, where a shard or a
/// key is hot, until its queued records have filled the budget.
const WARM_UP: Duration = Duration::from_secs(10);
const WARM_UP_OF_MANY: Duration = Duration::from_secs(6);
const WARM_UP_OF_ZIPF: Duration = Duration::from_secs(30);
const WARM_UP_OF_HOT_KEYS: Duration = Duration::from_secs(120);
/// For a minute, a rate limiter expects that its neighbours change.
const WARM_UP_BESIDE_OTHERS: Duration = Duration::from_secs(75);
/// Records of at least this size are few, so that they are measured for longer by this factor.
const LARGE: usize = 100 << 10;
const LONGER: u32 = 5;
/// Maximum number of records of a run; rows that would put more are measured for less time.
const MAX_RECORDS: f64 = 3e6;
const MIN_TIME: Duration = Duration::from_secs(5);
/// Rows of more shards run over fixed windows only, the worst shape for few shards.
const MANY: usize = 16;
const EVEN_KEYS: usize = 100_000;
const ZIPF_KEYS: usize = 10_000;

impl Row {
    /// Every combination without neighbours, and some with constant and with changing neighbours.
    pub(crate) fn all() -> Vec<Self> {
        let mut rows = Vec::new();
        for shards in [1, 16, 256] {
            for is_zipf in [false, true] {
                for size in [100, 1 << 10, 100 << 10] {
                    for mode in [Mode::Aggregated, Mode::Relaxed, Mode::Ordered] {
                        rows.push(Self { shards, is_zipf, size, mode, neighbours: Neighbours::Constant(0.0) });
                    }
                }
            }
        }
        for neighbours in [Neighbours::Constant(0.3), Neighbours::Changing(0.5)] {
            for shards in [1, 16] {
                for (size, mode) in [(100, Mode::Aggregated), (1 << 10, Mode::Relaxed), (1 << 10, Mode::Ordered)] {
                    rows.push(Self { shards, is_zipf: false, size, mode, neighbours });
                }
            }
        }
        rows
    }

    pub(crate) const HEADER: &'static str =
        "shards  keys  size     mode        others   records/s     share  throttled        p99       peak  goal";

    /// The columns that identify the row.
    pub(crate) fn title(self) -> String {
        let keys = if self.is_zipf { "Zipf" } else { "even" };
        let (size, mode) = (Size(self.size).to_string(), format!("{:?}", self.mode).to_lowercase());
        format!("{:<6}  {keys:<4}  {size:<7}  {mode:<10}  {:<6}", self.shards, named(self.neighbours))
    }

    /// One line of the table.
    pub(crate) fn line(self, measured: Measured) -> String {
        let Measured { rate, utilization, throttled, p99, peak } = measured;
        format!(
            "{}  {rate:>10.0}  {:>6.2} %  {:>7.3} %  {:>6} ms  {:>5.1} MiB  {}",
            self.title(),
            utilization * 100.0,
            throttled * 100.0,
            p99.as_millis(),
            peak as f64 / f64::from(1 << 20),
            mark(self.is_met(measured)),
        )
    }

    /// Whether the row meets its goals.
    pub(crate) fn is_met(self, measured: Measured) -> bool {
        let most = match self.neighbours {
            Neighbours::Constant(_) => MAX_THROTTLED,
            Neighbours::Changing(_) => MAX_THROTTLED_WHILE_CHANGING,
        };
        measured.utilization >= MIN_UTILIZATION && measured.throttled < most
    }

    /// Runs the row for `duration` over every variant of the quota, and returns the worst measurements.
    ///
    /// # Errors
    /// If a run cannot be started.
    pub(crate) fn measure(self, duration: Duration) -> Result<Measured> {
        let mut worst = Measured { rate: f64::MAX, utilization: f64::MAX, ..Measured::default() };
        for variant in Variant::all().filter(|variant| self.shards <= MANY || variant.shape == Shape::Tumbling) {
            let one = self.measure_one(variant, duration)?;
            worst = Measured {
                rate: worst.rate.min(one.rate),
                utilization: worst.utilization.min(one.utilization),
                throttled: worst.throttled.max(one.throttled),
                p99: worst.p99.max(one.p99),
                peak: worst.peak.max(one.peak),
            };
        }
        Ok(worst)
    }

    fn measure_one(self, variant: Variant, duration: Duration) -> Result<Measured> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        runtime.block_on(async {
            let kinesis = Kinesis::new(model(self.shards, variant, self.neighbours, Neighbours::Constant(0.0)), None)?;
            let offered = Offered::new(self, &kinesis);
            let options = SaturatedOptions {
                is_ordered: self.mode != Mode::Relaxed,
                is_aggregated: self.mode == Mode::Aggregated,
                budget: self.budget(),
            };
            self.saturate(kinesis, options, offered, self.trimmed(duration)).await
        })
    }

    /// The producer's budget: more than a round trip of every shard for even keys, and little where one shard fills it.
    fn budget(self) -> usize {
        match self.is_zipf {
            true => (self.shards * (64 << 10)).max(if self.size > 10 << 10 { 4 << 20 } else { 1 << 20 }),
            false => (self.shards * (2 << 20)).max(8 << 20),
        }
    }

    fn warm_up(self) -> Duration {
        match (self.is_zipf, self.mode) {
            _ if matches!(self.neighbours, Neighbours::Constant(share) if share > 0.0) => WARM_UP_BESIDE_OTHERS,
            (false, _) if self.shards > MANY => WARM_UP_OF_MANY,
            (false, _) => WARM_UP,
            (true, Mode::Ordered) => WARM_UP_OF_HOT_KEYS,
            (true, _) => WARM_UP_OF_ZIPF,
        }
    }

    /// The measured time: longer for large records, shorter where there would be too many.
    fn trimmed(self, duration: Duration) -> Duration {
        let fastest = match self.mode {
            Mode::Aggregated => 1e6 / self.size as f64,
            Mode::Relaxed | Mode::Ordered => (1e6 / self.size as f64).min(1e3),
        };
        let shards = if self.is_zipf { (self.shards as f64).min(9.0) } else { self.shards as f64 };
        let most = Duration::from_secs_f64(MAX_RECORDS / (fastest * shards));
        let duration = if self.size >= LARGE { duration * LONGER } else { duration };
        duration.min(most).max(MIN_TIME)
    }

    async fn saturate(
        self,
        kinesis: Arc<Kinesis>,
        options: SaturatedOptions,
        mut offered: Offered,
        duration: Duration,
    ) -> Result<Measured> {
        let mut saturated = Saturated::start(&kinesis, options);
        let warm = Instant::now() + self.warm_up();
        while Instant::now() < warm {
            saturated.put(offered.next()).await;
        }
        let (before, accepted_before) = kinesis.write_quota();
        let put_before = offered.put;
        saturated.forget_times();
        let begun = Instant::now();
        while begun.elapsed() < duration {
            saturated.put(offered.next()).await;
        }
        // If no put had to wait, the virtual clock has not advanced.
        sleep_until(begun + duration).await;
        let lasted = begun.elapsed();
        let (after, accepted) = kinesis.write_quota();
        let put = offered.put - put_before;
        let records = (accepted.records - accepted_before.records) as f64;
        let throttled = (accepted.throttled - accepted_before.throttled) as f64;
        // In a full budget, each put follows an accepted record: the size of a record on the wire is bytes by puts.
        let bytes = (accepted.bytes - accepted_before.bytes) as f64 / put.max(1) as f64;
        let rates = before.iter().zip(&after).map(|(before, after)| {
            let by_bytes = (after.bytes - before.bytes) / bytes;
            let by_count = match self.mode {
                Mode::Aggregated => f64::MAX,
                Mode::Relaxed | Mode::Ordered => after.count - before.count,
            };
            by_bytes.min(by_count) / lasted.as_secs_f64()
        });
        let possible = Ideal::new(
            self.keys(),
            &offered.shard_of,
            self.budget() / (offered.entries[0].size() + Budget::RECORD_OVERHEAD),
            rates,
            (accepted.time - accepted_before.time) / u32::try_from(accepted.calls - accepted_before.calls)?.max(1),
            self.mode == Mode::Ordered,
        );
        let possible = possible.puts(self.warm_up(), lasted);
        let (p99, peak) = saturated.finish().await;
        let rate = put as f64 / lasted.as_secs_f64();
        Ok(Measured {
            rate,
            utilization: put as f64 / possible as f64,
            throttled: throttled / records.max(1.0),
            p99,
            peak,
        })
    }

    fn keys(self) -> Keys {
        Keys::new(if self.is_zipf { ZIPF_KEYS } else { EVEN_KEYS }, self.is_zipf)
    }
}

/// The records offered to the producer: of one size, with random keys.
struct Offered {
    keys: Keys,
    entries: Vec<PutEntry>,
    shard_of: Vec<usize>,
    /// Number of records offered.
    put: u64,
}

impl Offered {
    fn new(row: Row, kinesis: &Kinesis) -> Self {
        let keys = row.keys();
        let data = Bytes::from(vec![0; row.size]);
        let entries: Vec<PutEntry> =
            (0..keys.len()).map(|key| PutEntry::new(PartitionKey::stored(format!("{key:06}")), data.clone())).collect();
        let shard_of =
            entries.iter().map(|entry| kinesis.shard_of(HashKey::of(entry.partition_key.as_str()))).collect();
        Self { keys, entries, shard_of, put: 0 }
    }

    fn next(&mut self) -> PutEntry {
        self.put += 1;
        self.entries[self.keys.draw()].clone()
    }
}
