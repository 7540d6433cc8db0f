//! How much of a quota the producer and the reader reach, over every shape that the quota may have.
//!
//! # What could be reached
//! A producer is kept saturated: `put` is called again as soon as it returns, so that its budget is always full. Its share
//! is what it took of what an [ideal] one would have taken, which is given the same records in the same order and has a
//! budget as large:
//! - A shard takes what its limiter granted in the measured time: bytes, or records where those run out first.
//! - `put` waits for budget, and what waits for the hottest shard fills the budget. So in the long run the stream as a whole
//!   takes no more than that shard allows. For keys that are drawn evenly that is close to the sum of the quotas, for Zipf's
//!   it is far below.
//! - Records that keep the order of their key, and are not aggregated, go one a round trip and key. A round trip is what the
//!   calls of the run took.
//!
//! A reader has a backlog of more than it can read; its share is what it fetched of what the limiters granted.
//!
//! Each row is run over all limiter shapes, with 1 MB and with 1 MiB (256 shards over windows of a second, the worst of few
//! shards); what it says is the worst of them, each column by itself. A refusal counts against records as they were sent: an aggregate is one.

mod ideal;
pub(crate) mod read;
pub(crate) mod write;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use triton_core::Limits;

use crate::model::ModelOptions;
use crate::model::fault::{Faults, Latency};
use crate::model::limiter::{Limit, Neighbours, Shape};

/// A limit that a quota may turn out to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    pub(crate) shape: Shape,
    pub(crate) megabyte: f64,
}

impl Variant {
    /// Every shape, with 1 MB and with 1 MiB.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let of = |shape| [1e6, 1_048_576.0].map(|megabyte| Self { shape, megabyte });
        Shape::ALL.into_iter().flat_map(of)
    }
}

/// The goals: the least share, and the most refusals of records, with the same neighbours all the time and with others. A
/// fetch that is refused delays what it would have brought, which the share shows.
const MIN_UTILIZATION: f64 = 0.98;
const MAX_THROTTLED: f64 = 0.005;
const MAX_THROTTLED_WHILE_CHANGING: f64 = 0.02;

/// The mark of a row.
fn mark(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}

/// What others take, as the table says it.
fn named(neighbours: Neighbours) -> String {
    match neighbours {
        Neighbours::Constant(0.0) => "none".into(),
        Neighbours::Constant(share) => format!("{:.0} %", share * 100.0),
        Neighbours::Changing(most) => format!("0-{:.0} %", most * 100.0),
    }
}

/// A stream of the model without faults.
fn model(shards: usize, variant: Variant, write: Neighbours, read: Neighbours) -> ModelOptions {
    let Variant { shape, megabyte } = variant;
    ModelOptions {
        seed: 1,
        shards,
        limits: Limits::KINESIS,
        write: Limit { shape, bytes: megabyte, count: 1_000.0, neighbours: write },
        read: Limit { shape, bytes: 2.0 * megabyte, count: 5.0, neighbours: read },
        page_bytes: 10 << 20,
        faults: Faults::default(),
        latency: LATENCY,
        outage: Duration::ZERO..Duration::ZERO,
        keeps_records: false,
    }
}

/// A call takes 20 ms, now and then up to five times as long.
const LATENCY: Latency = Latency { least: Duration::from_millis(14), most: Duration::from_millis(25), tail: 0.003 };

/// Draws keys, evenly or by Zipf's law with exponent 1.
#[derive(Debug)]
struct Keys {
    /// Up to each key, the sum of the weights.
    sums: Vec<f64>,
    random: StdRng,
}

impl Keys {
    fn new(count: usize, is_zipf: bool) -> Self {
        let weight = |rank: usize| if is_zipf { 1.0 / (rank + 1) as f64 } else { 1.0 };
        let sums = (0..count)
            .scan(0.0, |sum, rank| {
                *sum += weight(rank);
                Some(*sum)
            })
            .collect();
        Self { sums, random: StdRng::seed_from_u64(7) }
    }

    fn len(&self) -> usize {
        self.sums.len()
    }

    fn draw(&mut self) -> usize {
        let most = self.sums.last().copied().unwrap_or(1.0);
        let at = self.random.random_range(0.0..most);
        self.sums.partition_point(|sum| *sum <= at).min(self.sums.len() - 1)
    }
}
