//! The rate limit of a shard, in each form that Kinesis may implement it.
//!
//! Kinesis does not document how it counts a second, so a producer has to work well with each of these. All of them
//! allow debt: a record is admitted while any quota is left, and what it exceeds is subtracted from later quota, so
//! that the average rate is exact.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

/// How a limit is refilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A fixed window: refilled once a second.
    Tumbling,
    /// A token bucket that holds the quota of one second.
    Bucket,
    /// A token bucket that holds the quota of five seconds.
    Bursty,
}

impl Shape {
    pub(crate) const ALL: [Self; 3] = [Self::Tumbling, Self::Bucket, Self::Bursty];

    fn depth(self) -> f64 {
        match self {
            Self::Tumbling | Self::Bucket => 1.0,
            Self::Bursty => 5.0,
        }
    }
}

/// How much of a shard's quota other clients use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Neighbours {
    /// A constant fraction.
    Constant(f64),
    /// A fraction of at most this, drawn again every 10 to 30 s.
    Changing(f64),
}

/// A limit of bytes and of records (or calls) per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limit {
    pub(crate) shape: Shape,
    pub(crate) bytes: f64,
    pub(crate) count: f64,
    pub(crate) neighbours: Neighbours,
}

/// The state of one shard's limit. Times are milliseconds since the start of the run.
#[derive(Clone, Debug)]
pub(crate) struct Limiter {
    limit: Limit,
    /// The fraction of the quota that the neighbours leave.
    available: f64,
    changes_at: u64,
    /// Offset of the windows from the full second, in milliseconds.
    phase: u64,
    bytes: f64,
    count: f64,
    filled_at: u64,
    granted: Granted,
}

/// The quota that a limiter has granted, used or not: the most that a saturated caller could have used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Granted {
    pub(crate) bytes: f64,
    pub(crate) count: f64,
}

impl Limiter {
    pub(crate) fn new(limit: Limit, now: u64, random: &mut StdRng) -> Self {
        let phase = random.random_range(0..1000);
        let mut limiter = Self {
            limit,
            available: 1.0,
            changes_at: u64::MAX,
            phase,
            bytes: 0.0,
            count: 0.0,
            filled_at: now,
            granted: Granted::default(),
        };
        match limit.neighbours {
            Neighbours::Constant(share) => limiter.available = 1.0 - share,
            Neighbours::Changing(_) => limiter.redraw(now, random),
        }
        (limiter.bytes, limiter.count) = limiter.capacity();
        limiter
    }

    /// Admits a record or call of this size, unless the quota is used up.
    pub(crate) fn admit(&mut self, now: u64, bytes: usize, random: &mut StdRng) -> bool {
        self.advance(now, random);
        let admitted = self.bytes > 0.0 && self.count > 0.0;
        if admitted {
            self.spend(bytes);
        }
        admitted
    }

    /// Subtracts further bytes for a call that was admitted.
    pub(crate) fn spend_bytes(&mut self, bytes: usize) {
        self.bytes -= bytes as f64;
    }

    fn spend(&mut self, bytes: usize) {
        self.spend_bytes(bytes);
        self.count -= 1.0;
    }

    /// The quota granted until now, debt included.
    pub(crate) fn granted(&mut self, now: u64, random: &mut StdRng) -> Granted {
        self.advance(now, random);
        let Granted { bytes, count } = self.granted;
        Granted { bytes: bytes - self.bytes.min(0.0), count: count - self.count.min(0.0) }
    }

    /// Refills up to `now`, and redraws the neighbours whenever they have changed until then.
    fn advance(&mut self, now: u64, random: &mut StdRng) {
        while now >= self.changes_at {
            self.fill(self.changes_at);
            self.redraw(self.changes_at, random);
        }
        self.fill(now);
    }

    fn redraw(&mut self, now: u64, random: &mut StdRng) {
        if let Neighbours::Changing(most) = self.limit.neighbours {
            self.available = 1.0 - random.random_range(0.0..=most);
            self.changes_at = now + random.random_range(10_000..30_000);
        }
    }

    fn fill(&mut self, now: u64) {
        let to = match self.limit.shape {
            Shape::Tumbling => ((now + self.phase) / 1000 * 1000).saturating_sub(self.phase),
            Shape::Bucket | Shape::Bursty => now,
        };
        let Some(passed @ 1..) = to.checked_sub(self.filled_at) else { return };
        self.filled_at = to;
        let seconds = Duration::from_millis(passed).as_secs_f64() * self.available;
        let (bytes, count) = (self.limit.bytes * seconds, self.limit.count * seconds);
        self.granted.bytes += bytes;
        self.granted.count += count;
        let (max_bytes, max_count) = self.capacity();
        self.bytes = (self.bytes + bytes).min(max_bytes);
        self.count = (self.count + count).min(max_count);
    }

    fn capacity(&self) -> (f64, f64) {
        let seconds = self.available * self.limit.shape.depth();
        (self.limit.bytes * seconds, self.limit.count * seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// Bytes admitted, and granted, in 60 s to a caller that requests records of this size every 7 ms.
    fn admitted(shape: Shape, neighbours: Neighbours, bytes: usize) -> (f64, f64) {
        let mut random = StdRng::seed_from_u64(1);
        let limit = Limit { shape, bytes: 1e6, count: 1e3, neighbours };
        let mut limiter = Limiter::new(limit, 0, &mut random);
        let mut taken = 0.0;
        for now in (0..60_000).step_by(7) {
            while limiter.admit(now, bytes, &mut random) {
                taken += bytes as f64;
            }
        }
        (taken, limiter.granted(60_000, &mut random).bytes)
    }

    #[test]
    fn every_shape_admits_its_quota_in_the_long_run() {
        for shape in Shape::ALL {
            for bytes in [1_500, 100_000, 1_000_000, 5_000_000] {
                let (taken, _) = admitted(shape, Neighbours::Constant(0.0), bytes);
                let most = 60e6 + shape.depth() * 1e6 + bytes as f64;
                assert!(taken > 58.9e6 && taken <= most, "{shape:?} {bytes}: {taken}");
            }
            let (records, _) = admitted(shape, Neighbours::Constant(0.0), 100);
            assert!((58.9e5..=66e5).contains(&records), "{shape:?}: a thousand records a second, {records}");
        }
    }

    #[test]
    fn quota_used_by_neighbours_is_not_granted() {
        for shape in Shape::ALL {
            let (taken, granted) = admitted(shape, Neighbours::Constant(0.25), 5_000);
            assert!((granted / 45e6 - 1.0).abs() < 0.02, "{granted}");
            assert!(taken / granted > 0.98, "{shape:?}");
            let (taken, granted) = admitted(shape, Neighbours::Changing(0.5), 5_000);
            assert!(granted > 30e6 && granted < 60e6);
            assert!((0.98..1.15).contains(&(taken / granted)), "{shape:?}: {}", taken / granted);
        }
    }
}
