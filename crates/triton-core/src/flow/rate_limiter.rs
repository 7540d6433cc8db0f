//! A rate limiter for a quota that others share: a token bucket whose rate is learned from refusals.
//!
//! It counts bytes and records (or calls); the bucket is empty when either count is. One acquisition may overdraw it, since
//! a record can be larger than a second of the quota; the next one waits until the debt is repaid.
//!
//! The rate is a fraction of the quota, its utilization. A refusal lowers it to what was accepted in the last second. It is
//! held there until the refused part of what was accepted since is small, and then grows in steps, each larger than the
//! one before. If the previous refusal was at another utilization, other clients come and go, and it is held only briefly.

use std::time::Duration;

use tokio::time::Instant;

use crate::backend::Quota;

/// Tokens arrive in steps, so that the shards of a stream have tokens at the same time and share a call.
const STEP: Duration = Duration::from_millis(10);
/// Part of the quota that is used at most: the clocks of both sides differ a little.
const MARGIN: f64 = 0.992;
/// Size of the bucket, in seconds of the rate. It adds to the rate, and a quota counted by the second would be exceeded in
/// the second after a larger burst.
const DEPTH: f64 = 0.03;
/// Size of a bucket that has been full for a second.
const IDLE_DEPTH: f64 = 0.1;
/// Smallest utilization: enough to find out that more is free.
const MIN_UTILIZATION: f64 = 0.02;
/// Shortest and longest time for which the utilization is held after a refusal.
const SHORTEST_HOLD: Duration = Duration::from_secs(2);
const LONGEST_HOLD: Duration = Duration::from_secs(90);
/// Other clients count as changing for this long after the last change.
const CHANGING: Duration = Duration::from_secs(60);
/// A utilization that lasted this long was measured well; one found sooner after a refusal may be wrong.
const SETTLED: Duration = Duration::from_secs(4);
/// Time between two steps of growth, and the size of the first and of the largest step.
const GROW_EVERY: Duration = Duration::from_millis(250);
const FIRST_GROWTH: f64 = 0.0025;
const LARGEST_GROWTH: f64 = 0.08;
/// Factor from one step of growth to the next.
const ACCELERATION: f64 = 2.0;
/// Utilizations that differ by less than this part count as equal.
const SAME: f64 = 0.03;
/// Quotas may be counted by the second, so that less than a second of refusals says little.
const SECOND: Duration = Duration::from_secs(1);
/// Below this many acceptances in a second, the rate is measured over more than one second.
const FEW: f64 = 40.0;

/// Refusals that the limiter risks to find a higher rate, as a part of the accepted records. The part is larger while other
/// clients come and go, since only a probe finds the capacity that they leave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProbeBudget {
    settled: f64,
    while_changing: f64,
}

impl ProbeBudget {
    /// For records: a refused one is sent again.
    pub(crate) const FOR_RECORDS: Self = Self { settled: 0.002, while_changing: 0.016 };
    /// For fetches: a refused one costs little, and there are few to learn from.
    pub(crate) const FOR_FETCHES: Self = Self { settled: 0.02, while_changing: 0.06 };
}

/// Limits one shard to its quota.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    quota: Quota,
    probe_budget: ProbeBudget,
    /// Used part of the quota's bytes; of its count, at most 1.
    utilization: f64,
    /// Tokens, negative while a debt is repaid.
    bytes: f64,
    count: f64,
    /// Steps since `origin` for which tokens were added.
    filled: u64,
    origin: Instant,
    recent: Recent,
    /// Whether nothing was accepted since the last refusal: the bucket then stays small, since more may be refused.
    is_refused: bool,
    /// When the bucket was last full; it has been busy since.
    idle_at: Instant,
    /// When the bucket was last not full; it has been idle since.
    busy_at: Instant,
    /// Utilization at the last refusal, and at the one before.
    ceiling: f64,
    previous_ceiling: f64,
    /// Whether the previous ceiling lasted long enough to be trusted.
    was_settled: bool,
    refused_at: Option<Instant>,
    /// Refusals since `refused_at`.
    refused: usize,
    /// When the ceiling was last found to have moved.
    changed_at: Option<Instant>,
    /// When the utilization grows next, and by how much.
    grows_at: Instant,
    growth: f64,
}

impl RateLimiter {
    /// A full bucket. `origin`, from which steps are counted, is the same for all shards of a stream.
    pub(crate) fn new(quota: Quota, probe_budget: ProbeBudget, origin: Instant, now: Instant) -> Self {
        // A quota of nothing at all would be waited for without end.
        let quota = Quota {
            bytes: quota.bytes.max(1),
            max_bytes: quota.max_bytes.max(quota.bytes).max(1),
            count: quota.count.max(1),
        };
        Self {
            quota,
            probe_budget,
            utilization: 1.0,
            bytes: f64::from(quota.bytes) * IDLE_DEPTH,
            count: f64::from(quota.count) * IDLE_DEPTH,
            filled: steps(origin, now),
            origin,
            recent: Recent::default(),
            idle_at: now,
            busy_at: now,
            ceiling: f64::INFINITY,
            previous_ceiling: f64::INFINITY,
            was_settled: false,
            is_refused: false,
            refused_at: None,
            refused: 0,
            changed_at: None,
            grows_at: now + SHORTEST_HOLD,
            growth: FIRST_GROWTH * 4.0,
        }
    }

    /// Takes these tokens, as a debt where the bucket lacks them.
    pub(crate) fn acquire(&mut self, now: Instant, bytes: usize, count: usize) {
        self.fill(now);
        self.bytes -= bytes as f64;
        self.count -= count as f64;
    }

    /// When the bucket is no longer empty: now, or at a later step.
    pub(crate) fn ready_at(&mut self, now: Instant) -> Instant {
        self.fill(now);
        let (bytes, count) = (self.byte_rate(), self.count_rate());
        let missing =
            |tokens: f64, rate: f64| if tokens > 0.0 { 0.0 } else { (1e-9 - tokens) / (rate * STEP.as_secs_f64()) };
        match missing(self.bytes, bytes).max(missing(self.count, count)) {
            0.0 => now,
            steps => self.origin + STEP.mul_f64(self.filled as f64 + steps.ceil().max(1.0)),
        }
    }

    /// Bytes in the bucket now.
    pub(crate) fn available_bytes(&mut self, now: Instant) -> usize {
        self.fill(now);
        if self.count > 0.0 { self.bytes.max(0.0) as usize } else { 0 }
    }

    /// Records that the shard has accepted this much.
    pub(crate) fn accepted(&mut self, now: Instant, bytes: usize, count: usize) {
        self.recent.add(now, bytes, count);
        self.is_refused &= count == 0;
    }

    /// Records that the shard has refused this many of one call, for this client's traffic or another's.
    pub(crate) fn refused(&mut self, now: Instant, count: usize) {
        self.fill(now);
        // Saved-up tokens would be refused as well.
        self.bytes = self.bytes.min(0.0);
        self.count = self.count.min(0.0);
        self.growth = FIRST_GROWTH;
        self.is_refused = true;
        if now.duration_since(self.idle_at) < SECOND {
            // A burst: its rate over a whole second is not known.
            self.grows_at = self.grows_at.max(now + SHORTEST_HOLD);
            return;
        }
        let accepted = self.recent.rate(now, now.duration_since(self.idle_at));
        let utilization =
            (accepted.bytes / f64::from(self.quota.bytes)).max(accepted.count / f64::from(self.quota.count));
        let below = self.utilization * 0.9999;
        // After no acceptance at all, the debt of a large record hides the rate.
        let least = if accepted.count > 0.0 { 0.6 } else { 0.9 };
        self.utilization = utilization.clamp(self.utilization * least, below).max(MIN_UTILIZATION);
        let since_last = self.refused_at.map(|last| now.duration_since(last));
        if since_last.is_none_or(|since| since >= SECOND) {
            // A new refusal, not the remainder of the last one.
            (self.refused_at, self.refused) = (Some(now), 0);
            (self.previous_ceiling, self.was_settled) =
                (self.ceiling, since_last.is_some_and(|since| since >= SETTLED));
        }
        self.refused += count;
        let is_unchanged =
            (self.utilization - self.previous_ceiling).abs() < self.utilization * (SAME + accepted.resolution);
        if is_unchanged {
            // Measured twice: the mean is more exact.
            self.utilization = f64::midpoint(self.utilization, self.previous_ceiling.min(below));
        }
        self.ceiling = self.utilization;
        if !is_unchanged && self.was_settled {
            self.changed_at = Some(now);
        }
        let is_changing = self.changed_at.is_some_and(|changed| now.duration_since(changed) < CHANGING);
        let probe_budget = if is_changing { self.probe_budget.while_changing } else { self.probe_budget.settled };
        let hold = self.refused as f64 / (probe_budget * accepted.count.max(1.0));
        self.grows_at = if is_unchanged {
            now + Duration::from_secs_f64(hold.min(LONGEST_HOLD.as_secs_f64())).max(SHORTEST_HOLD)
        } else {
            // The new ceiling is probed soon.
            now + SHORTEST_HOLD
        };
    }

    fn byte_rate(&self) -> f64 {
        f64::from(self.quota.bytes) * self.utilization * MARGIN
    }

    fn count_rate(&self) -> f64 {
        f64::from(self.quota.count) * self.utilization.min(1.0) * MARGIN
    }

    fn max_utilization(&self) -> f64 {
        f64::from(self.quota.max_bytes) / f64::from(self.quota.bytes)
    }

    fn fill(&mut self, now: Instant) {
        let step = steps(self.origin, now);
        let passed = step.saturating_sub(self.filled);
        if passed == 0 {
            return;
        }
        self.filled = step;
        let seconds = passed as f64 * STEP.as_secs_f64();
        let (bytes, count) = (self.byte_rate(), self.count_rate());
        let missing = (DEPTH - self.bytes / bytes).max(DEPTH - self.count / count);
        if missing > 0.0 {
            // It may have become full between two steps.
            let full_for = Duration::from_secs_f64((seconds - missing).max(0.0));
            self.busy_at = now.checked_sub(full_for).unwrap_or(now);
        }
        let depth = if self.is_refused {
            STEP.as_secs_f64()
        } else if now.duration_since(self.busy_at) >= SECOND {
            IDLE_DEPTH
        } else {
            DEPTH
        };
        self.bytes = (self.bytes + bytes * seconds).min(bytes * depth);
        self.count = (self.count + count * seconds).min(count * depth);
        if self.bytes >= bytes * DEPTH && self.count >= count * DEPTH {
            self.idle_at = now;
        }
        self.grow(now);
    }

    fn grow(&mut self, now: Instant) {
        while now >= self.grows_at {
            if self.utilization >= self.max_utilization() {
                self.grows_at = now + GROW_EVERY;
                return;
            }
            self.grows_at += GROW_EVERY;
            self.utilization = (self.utilization + self.growth).min(self.max_utilization());
            self.growth = (self.growth * ACCELERATION).min(LARGEST_GROWTH);
        }
    }
}

fn steps(origin: Instant, now: Instant) -> u64 {
    u64::try_from(now.duration_since(origin).as_millis() / STEP.as_millis()).unwrap_or(u64::MAX)
}

/// Acceptances of the last seconds, in tenths of a second.
#[derive(Debug)]
struct Recent {
    /// Bytes and count of each tenth, one more than are read whole.
    tenths: [(f64, f64); TENTHS + 1],
    /// The tenth that is being filled, and when it began.
    newest: usize,
    since: Option<Instant>,
}

const TENTHS: usize = 50;
const TENTH: Duration = Duration::from_millis(100);

/// Accepted per second.
#[derive(Clone, Copy, Debug)]
struct Rate {
    bytes: f64,
    count: f64,
    /// Part of it that one acceptance is.
    resolution: f64,
}

impl Default for Recent {
    fn default() -> Self {
        Self { tenths: [(0.0, 0.0); TENTHS + 1], newest: 0, since: None }
    }
}

impl Recent {
    fn add(&mut self, now: Instant, bytes: usize, count: usize) {
        self.advance(now);
        let (all_bytes, all_count) = &mut self.tenths[self.newest];
        *all_bytes += bytes as f64;
        *all_count += count as f64;
    }

    /// The rate over the last second, or over as many seconds as it takes to see more than a [`FEW`], at most `busy`.
    fn rate(&mut self, now: Instant, busy: Duration) -> Rate {
        self.advance(now);
        // The newest tenth has only begun: its missing part is taken from the tenth before the first.
        let begun = self.since.map_or(0.0, |since| now.duration_since(since).div_duration_f64(TENTH));
        let before = |tenths: usize| self.tenths[(self.newest + self.tenths.len() - tenths) % self.tenths.len()];
        let most = (busy.as_millis() / TENTH.as_millis()).clamp(10, TENTHS as u128) as usize;
        let (mut bytes, mut count) = (0.0, 0.0);
        for tenths in 1..=most {
            let (more_bytes, more) = before(tenths - 1);
            (bytes, count) = (bytes + more_bytes, count + more);
            if tenths == most || (tenths % 10 == 0 && count >= FEW) {
                let (first_bytes, first) = before(tenths);
                let (bytes, count) = (bytes + first_bytes * (1.0 - begun), count + first * (1.0 - begun));
                let seconds = tenths as f64 * TENTH.as_secs_f64();
                return Rate { bytes: bytes / seconds, count: count / seconds, resolution: 1.0 / count.max(1.0) };
            }
        }
        Rate { bytes: 0.0, count: 0.0, resolution: 1.0 }
    }

    fn advance(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let passed = (now.duration_since(since).as_millis() / TENTH.as_millis()) as usize;
        for _ in 0..passed.min(self.tenths.len()) {
            self.newest = (self.newest + 1) % self.tenths.len();
            self.tenths[self.newest] = (0.0, 0.0);
        }
        self.since = Some(since + TENTH * u32::try_from(passed).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A quota of `max` records, counted anew every second.
    struct QuotaPerSecond {
        origin: Instant,
        max: usize,
        second: u64,
        taken: usize,
    }

    impl QuotaPerSecond {
        fn admits(&mut self, now: Instant) -> bool {
            let second = now.duration_since(self.origin).as_secs();
            if second != self.second {
                (self.second, self.taken) = (second, 0);
            }
            self.taken += 1;
            self.taken <= self.max
        }
    }

    /// Sends at the limiter's rate for this many seconds. Returns how many were accepted and refused.
    async fn send(limiter: &mut RateLimiter, quota: &mut QuotaPerSecond, bytes: usize, seconds: u64) -> (usize, usize) {
        let until = Instant::now() + Duration::from_secs(seconds);
        let (mut accepted, mut refused) = (0, 0);
        while Instant::now() < until {
            let now = Instant::now();
            tokio::time::sleep_until(limiter.ready_at(now)).await;
            let (now, before) = (Instant::now(), (accepted, refused));
            while try_acquire(limiter, now, bytes, 1) {
                match quota.admits(now) {
                    true => accepted += 1,
                    false => refused += 1,
                }
            }
            limiter.accepted(now, (accepted - before.0) * bytes, accepted - before.0);
            if refused > before.1 {
                limiter.refused(now, refused - before.1);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        (accepted, refused)
    }

    /// Takes these tokens if the bucket is not empty.
    fn try_acquire(limiter: &mut RateLimiter, now: Instant, bytes: usize, count: usize) -> bool {
        let is_ready = limiter.ready_at(now) <= now;
        if is_ready {
            limiter.acquire(now, bytes, count);
        }
        is_ready
    }

    fn quota(max: usize) -> QuotaPerSecond {
        QuotaPerSecond { origin: Instant::now(), max, second: 0, taken: 0 }
    }

    fn limiter() -> RateLimiter {
        RateLimiter::new(Quota::KINESIS_WRITE, ProbeBudget::FOR_RECORDS, Instant::now(), Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn the_quota_is_used_and_not_exceeded() {
        let mut limiter = limiter();
        let mut quota = quota(1_000);
        send(&mut limiter, &mut quota, 100, 10).await;
        let (accepted, refused) = send(&mut limiter, &mut quota, 100, 60).await;
        assert!(accepted > 59_000 && refused < 300, "{accepted} accepted, {refused} refused");
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_follows_what_other_clients_leave() {
        let mut limiter = limiter();
        let mut quota = quota(500);
        send(&mut limiter, &mut quota, 100, 10).await;
        let (accepted, refused) = send(&mut limiter, &mut quota, 100, 60).await;
        assert!(accepted > 29_000 && refused < 300, "half is left: {accepted} accepted, {refused} refused");
        quota.max = 1_000;
        send(&mut limiter, &mut quota, 100, 20).await;
        let (accepted, _) = send(&mut limiter, &mut quota, 100, 30).await;
        assert!(accepted > 29_000, "all is left: {accepted} accepted");
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_rate_is_measured_the_same_at_every_moment() {
        let (mut recent, begun) = (Recent::default(), Instant::now());
        while begun.elapsed() < Duration::from_secs(7) {
            tokio::time::advance(Duration::from_millis(1)).await;
            recent.add(Instant::now(), 100, 1);
            if begun.elapsed() > Duration::from_secs(6) {
                for busy in [1_000, 5_000, 60_000] {
                    let Rate { bytes, count, .. } = recent.rate(Instant::now(), Duration::from_millis(busy));
                    assert!(
                        (999.0..=1_001.0).contains(&count) && bytes == count * 100.0,
                        "{count} a second, not 1,000"
                    );
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_behind_a_large_record_lowers_the_rate_a_little() {
        let mut limiter = limiter();
        // What it was worth cannot be told: it was taken too long ago.
        limiter.acquire(Instant::now(), 10 << 20, 1);
        limiter.accepted(Instant::now(), 10 << 20, 1);
        tokio::time::advance(Duration::from_secs(11)).await;
        for _ in 0..3 {
            tokio::time::advance(Duration::from_millis(200)).await;
            limiter.refused(Instant::now(), 1);
        }
        assert!(limiter.utilization > 0.7, "{}", limiter.utilization);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_of_a_mebibyte_is_found() {
        let mut limiter = limiter();
        // 1,024 bytes each: 1,000 records are less than a mebibyte, and more than a megabyte.
        let mut quota = quota(1_000);
        send(&mut limiter, &mut quota, 1_024, 10).await;
        let (accepted, refused) = send(&mut limiter, &mut quota, 1_024, 60).await;
        assert!(accepted > 59_000 && refused < 300, "{accepted} accepted, {refused} refused");
    }

    #[tokio::test(start_paused = true)]
    async fn the_debt_of_a_large_record_is_repaid_before_the_next() {
        let mut limiter = limiter();
        assert!(try_acquire(&mut limiter, Instant::now(), 10 << 20, 1));
        assert!(!try_acquire(&mut limiter, Instant::now(), 1, 1));
        let wait = limiter.ready_at(Instant::now()) - Instant::now();
        assert!((9..12).contains(&wait.as_secs()), "10 MiB at 1 MB a second, and what was saved: {wait:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_bucket_allows_one_burst() {
        let mut limiter = limiter();
        tokio::time::advance(Duration::from_secs(3600)).await;
        let burst = (0..10_000).take_while(|_| try_acquire(&mut limiter, Instant::now(), 1, 1)).count();
        assert!((98..=102).contains(&burst), "{burst}");
        // Hardly a moment, and not idle.
        tokio::time::advance(Duration::from_millis(200)).await;
        let burst = (0..10_000).take_while(|_| try_acquire(&mut limiter, Instant::now(), 1, 1)).count();
        assert!((29..=31).contains(&burst), "{burst}");
    }

    #[tokio::test(start_paused = true)]
    async fn shards_get_tokens_at_the_same_steps() {
        let origin = Instant::now();
        let mut limiters: Vec<RateLimiter> =
            (0..3).map(|_| RateLimiter::new(Quota::KINESIS_WRITE, ProbeBudget::FOR_RECORDS, origin, origin)).collect();
        for (limiter, count) in limiters.iter_mut().zip([300, 301, 302]) {
            limiter.acquire(origin, 0, count);
        }
        tokio::time::advance(Duration::from_millis(3)).await;
        let ready: Vec<u128> =
            limiters.iter_mut().map(|limiter| (limiter.ready_at(Instant::now()) - origin).as_millis()).collect();
        assert!(ready.iter().all(|at| at % 10 == 0), "{ready:?}");
    }
}
