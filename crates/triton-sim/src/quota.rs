//! Quota utilization: how much of its quotas a saturated producer and a reader with a backlog use, for every form that
//! a quota may have.
//!
//! # Utilization
//! A producer is kept saturated: the next record is submitted as soon as the budget has space for it. Its utilization
//! is the number of records it put, divided by the number that an [ideal] producer would have put with the same records
//! in the same order and a budget of the same size. Three things limit the ideal producer:
//! - A shard stores what its limiter granted in the measured time: bytes, or records where those run out first.
//! - Records queued for the hottest shard fill the budget, so that in the long run the other shards are no faster. For
//!   evenly drawn keys the total is close to the sum of the quotas, for Zipf's law it is far below.
//! - Without aggregation, an ordered key has one record in flight. The round trip is the mean of the run's calls.
//!
//! A reader has a backlog larger than it can read. Its utilization is the bytes it fetched, divided by the bytes that
//! the limiters granted.
//!
//! Each row is run over all limiter shapes, with 1 MB and with 1 MiB; 256 shards run over fixed windows only, the worst
//! shape for few shards. Each column of a row is the worst of these runs. Throttled records are counted as sent: an
//! aggregate is one.

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
use crate::model::shard_list::ListLag;

/// One form that a quota may have.
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

/// The goals: utilization, and throttled records with constant and with changing neighbours. Throttled fetches have no
/// goal of their own, since they lower the utilization.
const MIN_UTILIZATION: f64 = 0.98;
const MAX_THROTTLED: f64 = 0.005;
const MAX_THROTTLED_WHILE_CHANGING: f64 = 0.02;

/// The last column of a row.
fn mark(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}

/// The column of the neighbours' use.
fn named(neighbours: Neighbours) -> String {
    match neighbours {
        Neighbours::Constant(0.0) => "none".into(),
        Neighbours::Constant(share) => format!("{:.0} %", share * 100.0),
        Neighbours::Changing(most) => format!("0-{:.0} %", most * 100.0),
    }
}

/// A stream without faults.
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
        list_lag: ListLag::default(),
        outage: Duration::ZERO..Duration::ZERO,
        keeps_records: false,
    }
}

/// Round trips of about 20 ms; a few take up to five times as long.
const LATENCY: Latency = Latency { least: Duration::from_millis(14), most: Duration::from_millis(25), tail: 0.003 };

/// Draws keys, evenly or by Zipf's law with exponent 1.
#[derive(Debug)]
struct Keys {
    /// Cumulative weights of the keys.
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
