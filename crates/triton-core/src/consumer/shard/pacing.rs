//! When a shard is fetched next: while behind, as soon as its quota allows; once caught up, at the poll interval.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep_until};

use crate::backend::Limits;
use crate::consumer::options::ReaderOptions;
use crate::flow::rate_limiter::{ProbeBudget, RateLimiter};
use crate::model::position::Position;

/// Shortest wait after an empty page, so that a backend that neither pushes nor has a quota is not polled in a busy loop.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// Longest poll interval, so that adding it to a time does not overflow.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Random part of a poll interval: shards that once were in step fall out of it.
const JITTER: f64 = 0.1;

/// Pages per second of a shard with a backlog. Two leave most of Kinesis' five calls per second to other readers, and show
/// a refusal within half a second, where Kinesis' largest page would be a debt of five.
const PAGES_PER_SECOND: usize = 2;

/// Records requested first, before any page size is known.
const FIRST_RECORDS: usize = 1_000;

/// Schedules one shard's fetches, and sizes them.
#[derive(Debug)]
pub(in crate::consumer) struct Pacing {
    /// `None` where the shard has no read quota.
    limiter: Option<RateLimiter>,
    /// Intended bytes per page, where there is a quota.
    page_bytes: Option<usize>,
    /// Records that made up as many bytes in the last page.
    page_records: usize,
    pushes: bool,
    poll_interval: Duration,
    /// Whether a page with records is followed by another fetch at once, even if nothing more is left.
    confirms_caught_up: bool,
    /// Whether the newest record was fetched.
    is_caught_up: bool,
    /// Whether the last wait was a poll interval.
    is_polling: bool,
    next_fetch_at: Instant,
    /// When the fetch in flight was sent.
    sent_at: Instant,
    random: StdRng,
}

impl Pacing {
    /// `origin` is the same for all shards of a reader.
    pub(in crate::consumer) fn new(
        limits: &Limits,
        options: &ReaderOptions,
        position: Position,
        origin: Instant,
        seed: u64,
    ) -> Self {
        let now = Instant::now();
        let new_limiter = |quota| RateLimiter::new(quota, ProbeBudget::FOR_FETCHES, origin, now);
        Self {
            limiter: limits.read_quota.map(new_limiter),
            page_bytes: limits.read_quota.map(|quota| quota.bytes as usize / PAGES_PER_SECOND),
            page_records: FIRST_RECORDS,
            pushes: limits.pushes,
            poll_interval: poll_interval(limits, options),
            confirms_caught_up: options.until_caught_up || limits.read_quota.is_none(),
            is_caught_up: position == Position::Latest,
            is_polling: false,
            next_fetch_at: now,
            sent_at: now,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Whether the backend keeps the next fetch waiting until records arrive.
    pub(in crate::consumer) fn waits_in_backend(&self) -> bool {
        self.pushes && self.is_caught_up
    }

    /// Waits until the next fetch may be sent. Cancel safe.
    pub(in crate::consumer) async fn ready(&mut self) {
        let now = Instant::now();
        let ready_at = match &mut self.limiter {
            Some(limiter) => limiter.ready_at(now).max(self.next_fetch_at),
            None => self.next_fetch_at,
        };
        if ready_at > now {
            sleep_until(ready_at).await;
        }
    }

    /// Records to request, at most `max`.
    pub(in crate::consumer) fn records(&self, max: usize) -> usize {
        if self.page_bytes.is_some() { self.page_records.min(max) } else { max }
    }

    /// Notes that a fetch is sent now.
    pub(in crate::consumer) fn sent(&mut self) {
        self.sent_at = Instant::now();
        if let Some(limiter) = &mut self.limiter {
            limiter.acquire(self.sent_at, 0, 1);
        }
    }

    /// Notes that the fetch was throttled.
    pub(in crate::consumer) fn throttled(&mut self) {
        if let Some(limiter) = &mut self.limiter {
            limiter.refused(Instant::now(), 1);
        }
    }

    /// Notes that the fetch returned a page of this size, this far behind the newest record.
    pub(in crate::consumer) fn fetched(&mut self, bytes: usize, records: usize, behind: Option<Duration>) {
        let now = Instant::now();
        let is_empty = records == 0;
        if let Some(page_bytes) = self.page_bytes
            && !is_empty
        {
            self.page_records = (page_bytes * records / bytes.max(1)).max(1);
        }
        if let Some(limiter) = &mut self.limiter {
            // The page's size is known only now: a debt that delays the next fetch.
            limiter.acquire(now, bytes, 0);
            limiter.accepted(now, bytes, 1);
        }
        self.is_caught_up = behind == Some(Duration::ZERO);
        let polls = self.is_caught_up && !self.pushes && (is_empty || !self.confirms_caught_up);
        let was_polling = std::mem::replace(&mut self.is_polling, polls);
        self.next_fetch_at = now
            + match (polls, is_empty) {
                // The first poll after a backlog draws the shard's phase.
                (true, _) if !was_polling => self.poll_interval.mul_f64(self.random.random()),
                (true, _) => self.poll_interval.mul_f64(self.random.random_range(1.0 - JITTER..1.0 + JITTER)),
                (false, false) => Duration::ZERO,
                // The backend waits. If it does not, one fetch per interval is enough.
                (false, true) if self.is_caught_up => self.poll_interval.saturating_sub(now - self.sent_at),
                // Behind, on an empty page: the limiter spaces the fetches.
                (false, true) if self.limiter.is_some() => Duration::ZERO,
                (false, true) => (self.poll_interval / 5).max(SHORTEST_WAIT),
            };
    }
}

/// The wished interval, at least what the read quota allows.
fn poll_interval(limits: &Limits, options: &ReaderOptions) -> Duration {
    let wished = match options.poll_interval {
        // A backend that pushes is not polled.
        Some(interval) if !limits.pushes => interval,
        _ => limits.idle_poll,
    };
    let shortest = limits.read_quota.map_or(SHORTEST_WAIT, |quota| Duration::from_secs(1) / quota.count.max(1));
    wished.clamp(shortest, LONGEST_WAIT.max(shortest))
}
