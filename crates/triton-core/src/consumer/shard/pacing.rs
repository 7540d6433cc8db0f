//! When a shard is fetched next: behind, as soon as its quota allows; caught up, at its polls.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep_until};

use crate::backend::Limits;
use crate::flow::rate_limiter::{Pace, Tries};
use crate::model::position::Position;

use crate::consumer::options::ReaderOptions;

/// A backend that neither pushes nor has a quota is not asked in a busy loop.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// How long a poll's wait may differ from the interval, as a part of it: shards that once were in step fall out of it.
const JITTER: f64 = 0.1;

/// Pages of a shard that has more, in a second: what is refused then is found out within half a second, where Kinesis'
/// largest page is a debt of five. As few as that leave most of the five calls a second to others.
const PAGES_A_SECOND: usize = 2;

/// Records of a first page, whose size nobody knows.
const FIRST_RECORDS: usize = 1_000;

/// The times of one shard's fetches, and how much each asks for.
#[derive(Debug)]
pub(in crate::consumer) struct Pacing {
    /// `None` where there is no quota.
    pace: Option<Pace>,
    /// Bytes that a page is to have, where there is a quota, and records that were as many last.
    page_bytes: Option<usize>,
    page_records: usize,
    pushes: bool,
    /// Between the polls of who has caught up.
    interval: Duration,
    /// Whether a page with records is followed by another fetch at once, although there was nothing more.
    looks_again: bool,
    /// Whether the newest record was seen.
    is_caught_up: bool,
    /// Whether the last wait was one between polls.
    is_polling: bool,
    due: Instant,
    /// When the fetch that is under way was sent.
    sent: Instant,
    random: StdRng,
}

impl Pacing {
    /// `origin` is one for all shards of a reader.
    pub(in crate::consumer) fn new(
        limits: &Limits,
        options: &ReaderOptions,
        position: Position,
        origin: Instant,
        seed: u64,
    ) -> Self {
        let now = Instant::now();
        Self {
            pace: limits.read_quota.map(|quota| Pace::new(quota, Tries::OF_FETCHES, origin, now)),
            page_bytes: limits.read_quota.map(|quota| quota.bytes as usize / PAGES_A_SECOND),
            page_records: FIRST_RECORDS,
            pushes: limits.pushes,
            interval: interval(limits, options),
            looks_again: options.until_caught_up || limits.read_quota.is_none(),
            is_caught_up: position == Position::Latest,
            is_polling: false,
            due: now,
            sent: now,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Whether the next fetch waits for what comes, in the backend.
    pub(in crate::consumer) fn waits_inside(&self) -> bool {
        self.pushes && self.is_caught_up
    }

    /// Waits until the next fetch is due. Cancel safe.
    pub(in crate::consumer) async fn until_due(&mut self) {
        let now = Instant::now();
        let due = match &mut self.pace {
            Some(pace) => pace.ready_at(now).max(self.due),
            None => self.due,
        };
        if due > now {
            sleep_until(due).await;
        }
    }

    /// How many records to ask for, at most so many.
    pub(in crate::consumer) fn records(&self, most: usize) -> usize {
        if self.page_bytes.is_some() { self.page_records.min(most) } else { most }
    }

    /// A fetch is sent now.
    pub(in crate::consumer) fn sent(&mut self) {
        self.sent = Instant::now();
        self.spend(self.sent, 0, 1);
    }

    /// The fetch was refused for the quota, which others may share.
    pub(in crate::consumer) fn refused(&mut self) {
        if let Some(pace) = &mut self.pace {
            pace.refused(Instant::now(), 1);
        }
    }

    /// The fetch has answered with a page of so many bytes and records, behind the newest record by so much.
    pub(in crate::consumer) fn answered(&mut self, bytes: usize, records: usize, behind: Option<Duration>) {
        let now = Instant::now();
        let is_empty = records == 0;
        if let Some(page_bytes) = self.page_bytes
            && !is_empty
        {
            self.page_records = (page_bytes * records / bytes.max(1)).max(1);
        }
        self.spend(now, bytes, 0);
        if let Some(pace) = &mut self.pace {
            pace.accepted(now, bytes, 1);
        }
        self.is_caught_up = behind == Some(Duration::ZERO);
        let polls = self.is_caught_up && !self.pushes && (is_empty || !self.looks_again);
        let was_polling = std::mem::replace(&mut self.is_polling, polls);
        self.due = now
            + match (polls, is_empty) {
                // Once, each shard draws its own phase.
                (true, _) if !was_polling => self.interval.mul_f64(self.random.random()),
                (true, _) => self.interval.mul_f64(self.random.random_range(1.0 - JITTER..1.0 + JITTER)),
                (false, false) => Duration::ZERO,
                // It waits in the backend; should it not, once in the interval is enough.
                (false, true) if self.is_caught_up => self.interval.saturating_sub(now - self.sent),
                // Behind, on a page without records.
                (false, true) if self.pace.is_some() => Duration::ZERO,
                (false, true) => (self.interval / 5).max(SHORTEST_WAIT),
            };
    }

    /// Takes so much from the quota, be it there or not: what was fetched is a debt.
    fn spend(&mut self, now: Instant, bytes: usize, calls: usize) {
        if let Some(pace) = &mut self.pace
            && !pace.try_spend(now, bytes, calls)
        {
            pace.spend(bytes, calls);
        }
    }
}

/// Between the polls of a shard: as often as was wished, and as the quota allows.
fn interval(limits: &Limits, options: &ReaderOptions) -> Duration {
    let wished = match options.poll_interval {
        // Nobody polls what pushes.
        Some(interval) if !limits.pushes => interval,
        _ => limits.idle_poll,
    };
    let shortest = limits.read_quota.map_or(SHORTEST_WAIT, |quota| Duration::from_secs(1) / quota.count.max(1));
    wished.max(shortest)
}
