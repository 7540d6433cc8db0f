//! Keeping to a quota that others may share: a token bucket whose rate learns from what is refused.
//!
//! Two things are counted, bytes and records (or calls), and the bucket is empty when either is. It may be overdrawn by one
//! spending, since a record may be larger than a second's worth; what follows waits for the debt.
//!
//! The rate is a share of the quota. A refusal cuts it to what was taken in the last second. Then it is held until what was
//! refused is a small part of what was taken since, and grows again, first little, then more. Where the last refusal was at
//! another share, others come and go, and it is held for a short time only.

use std::time::Duration;

use tokio::time::Instant;

use crate::backend::Quota;

/// Tokens come in steps, so that the shards of a stream have some at the same time and share a call.
const STEP: Duration = Duration::from_millis(10);
/// What is left unused for the inexactness of both sides.
const MARGIN: f64 = 0.992;
/// How much a bucket holds, in seconds of its rate. It comes on top of the rate: with more, a limit that is counted by the
/// second would be passed in the second after.
const DEPTH: f64 = 0.03;
/// How much one holds that has been full for a second.
const IDLE_DEPTH: f64 = 0.1;
/// The smallest share: enough to find out that there is more.
const LEAST: f64 = 0.02;
/// How long a share is held after a refusal, at least and at most.
const SHORTEST_HOLD: Duration = Duration::from_secs(2);
const LONGEST_HOLD: Duration = Duration::from_secs(90);
/// Others come and go where a change was seen in the last minute.
const CHANGING: Duration = Duration::from_secs(60);
/// What held for so long was so; what is found sooner after a refusal may have been misjudged.
const SETTLED: Duration = Duration::from_secs(4);
/// How often the share grows once it does, and by how much at first and at most.
const GROW_EVERY: Duration = Duration::from_millis(250);
const FIRST_GROWTH: f64 = 0.0025;
const LARGEST_GROWTH: f64 = 0.08;
/// Every step of growth is so much larger than the one before.
const ACCELERATION: f64 = 2.0;
/// Shares that differ by less are the same.
const SAME: f64 = 0.03;
/// Limits may be counted by the second: less than one of them says little.
const SECOND: Duration = Duration::from_secs(1);
/// Where so few are taken in a second, it takes more seconds to tell how much that is.
const FEW: f64 = 40.0;

/// How much may be refused of what is taken: to grow is to try, and a try may be refused. More while others come and go,
/// since what they leave is found by trying alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tries {
    settled: f64,
    while_changing: f64,
}

impl Tries {
    /// A record that is refused is sent again.
    pub(crate) const OF_RECORDS: Self = Self { settled: 0.002, while_changing: 0.016 };
    /// A fetch that is refused costs little, and there are few of them to learn from.
    pub(crate) const OF_FETCHES: Self = Self { settled: 0.02, while_changing: 0.06 };
}

/// The pace of one shard.
#[derive(Debug)]
pub(crate) struct Pace {
    quota: Quota,
    tries: Tries,
    /// The share of the quota's bytes; that of its count is at most 1.
    share: f64,
    bytes: f64,
    count: f64,
    /// Steps since `origin` that have been filled in.
    filled: u64,
    origin: Instant,
    recent: Recent,
    /// Whether nothing was taken since the last refusal: then little is sent, since it may be refused as well.
    is_refused: bool,
    /// When the bucket was full last: since then it is busy.
    idle_at: Instant,
    /// When it was not full last: since then it is idle.
    busy_at: Instant,
    /// Where the last refusal was, and when it began.
    ceiling: f64,
    /// Where the one before was, and whether it had held for a while.
    ceiling_before: f64,
    was_settled: bool,
    refused_at: Option<Instant>,
    /// How many were refused since then.
    refused: usize,
    /// When the ceiling was last found to be another one.
    changed_at: Option<Instant>,
    /// When the share grows next, and by how much.
    grows_at: Instant,
    growth: f64,
}

impl Pace {
    /// A full bucket. `origin` is one for all shards of a stream: steps are counted from there.
    pub(crate) fn new(quota: Quota, tries: Tries, origin: Instant, now: Instant) -> Self {
        // A quota of nothing at all would be waited for without end.
        let quota = Quota {
            bytes: quota.bytes.max(1),
            most_bytes: quota.most_bytes.max(quota.bytes).max(1),
            count: quota.count.max(1),
        };
        let share = 1.0;
        Self {
            quota,
            tries,
            share,
            bytes: f64::from(quota.bytes) * IDLE_DEPTH,
            count: f64::from(quota.count) * IDLE_DEPTH,
            filled: steps(origin, now),
            origin,
            recent: Recent::default(),
            idle_at: now,
            busy_at: now,
            ceiling: f64::INFINITY,
            ceiling_before: f64::INFINITY,
            was_settled: false,
            is_refused: false,
            refused_at: None,
            refused: 0,
            changed_at: None,
            grows_at: now + SHORTEST_HOLD,
            growth: FIRST_GROWTH * 4.0,
        }
    }

    /// Takes so much if the bucket is not empty.
    pub(crate) fn try_spend(&mut self, now: Instant, bytes: usize, count: usize) -> bool {
        self.fill(now);
        let has_room = self.bytes > 0.0 && self.count > 0.0;
        if has_room {
            self.spend(bytes, count);
        }
        has_room
    }

    /// Takes so much, be it there or not.
    pub(crate) fn spend(&mut self, bytes: usize, count: usize) {
        self.bytes -= bytes as f64;
        self.count -= count as f64;
    }

    /// When there is something in the bucket: now, or at a later step.
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

    /// Bytes that may be spent now.
    pub(crate) fn room(&mut self, now: Instant) -> usize {
        self.fill(now);
        if self.count > 0.0 { self.bytes.max(0.0) as usize } else { 0 }
    }

    /// So much was taken by the shard.
    pub(crate) fn accepted(&mut self, now: Instant, bytes: usize, count: usize) {
        self.recent.add(now, bytes, count);
        self.is_refused &= count == 0;
    }

    /// So many that were sent together were refused, for that or for what another had sent.
    pub(crate) fn refused(&mut self, now: Instant, count: usize) {
        self.fill(now);
        // What was saved up would be refused as well.
        self.bytes = self.bytes.min(0.0);
        self.count = self.count.min(0.0);
        self.growth = FIRST_GROWTH;
        self.is_refused = true;
        if now.duration_since(self.idle_at) < SECOND {
            // A burst, of which nobody knows what it would be in a second.
            self.grows_at = self.grows_at.max(now + SHORTEST_HOLD);
            return;
        }
        let taken = self.recent.rate(now, now.duration_since(self.idle_at));
        let share = (taken.bytes / f64::from(self.quota.bytes)).max(taken.count / f64::from(self.quota.count));
        let before = self.share * 0.9999;
        // Where nothing was taken at all, a large record's debt hides how much it would have been.
        let least = if taken.count > 0.0 { 0.6 } else { 0.9 };
        self.share = share.clamp(self.share * least, before).max(LEAST);
        let since_last = self.refused_at.map(|before| now.duration_since(before));
        if since_last.is_none_or(|since| since >= SECOND) {
            // A refusal of its own, and not the rest of the last one.
            (self.refused_at, self.refused) = (Some(now), 0);
            (self.ceiling_before, self.was_settled) = (self.ceiling, since_last.is_some_and(|since| since >= SETTLED));
        }
        self.refused += count;
        let is_where_it_was = (self.share - self.ceiling_before).abs() < self.share * (SAME + taken.grain);
        if is_where_it_was {
            // Measured twice, it is known better.
            self.share = f64::midpoint(self.share, self.ceiling_before.min(before));
        }
        self.ceiling = self.share;
        if !is_where_it_was && self.was_settled {
            self.changed_at = Some(now);
        }
        let is_changing = self.changed_at.is_some_and(|changed| now.duration_since(changed) < CHANGING);
        let tries = if is_changing { self.tries.while_changing } else { self.tries.settled };
        let paid = self.refused as f64 / (tries * taken.count.max(1.0));
        self.grows_at = match is_where_it_was {
            true => now + Duration::from_secs_f64(paid.min(LONGEST_HOLD.as_secs_f64())).max(SHORTEST_HOLD),
            // It is tried again soon whether that is where it is.
            false => now + SHORTEST_HOLD,
        };
    }

    fn byte_rate(&self) -> f64 {
        f64::from(self.quota.bytes) * self.share * MARGIN
    }

    fn count_rate(&self) -> f64 {
        f64::from(self.quota.count) * self.share.min(1.0) * MARGIN
    }

    fn most(&self) -> f64 {
        f64::from(self.quota.most_bytes) / f64::from(self.quota.bytes)
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
            // It may have become full on the way.
            let full_for = Duration::from_secs_f64((seconds - missing).max(0.0));
            self.busy_at = now.checked_sub(full_for).unwrap_or(now);
        }
        let depth = match self.is_refused {
            true => STEP.as_secs_f64(),
            false if now.duration_since(self.busy_at) >= SECOND => IDLE_DEPTH,
            false => DEPTH,
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
            if self.share >= self.most() {
                self.grows_at = now + GROW_EVERY;
                return;
            }
            self.grows_at += GROW_EVERY;
            self.share = (self.share + self.growth).min(self.most());
            self.growth = (self.growth * ACCELERATION).min(LARGEST_GROWTH);
        }
    }
}

fn steps(origin: Instant, now: Instant) -> u64 {
    u64::try_from(now.duration_since(origin).as_millis() / STEP.as_millis()).unwrap_or(u64::MAX)
}

/// What was taken in the last seconds, in tenths of one.
#[derive(Debug)]
struct Recent {
    /// With one more than is looked at whole.
    tenths: [(f64, f64); TENTHS + 1],
    /// The tenth that is filled now, and when it began.
    newest: usize,
    since: Option<Instant>,
}

const TENTHS: usize = 50;
const TENTH: Duration = Duration::from_millis(100);

/// What is taken in a second.
#[derive(Clone, Copy, Debug)]
struct Rate {
    bytes: f64,
    count: f64,
    /// How much of it one more or less would be.
    grain: f64,
}

impl Default for Recent {
    fn default() -> Self {
        Self { tenths: [(0.0, 0.0); TENTHS + 1], newest: 0, since: None }
    }
}

impl Recent {
    fn add(&mut self, now: Instant, bytes: usize, count: usize) {
        self.turn(now);
        let (all_bytes, all_count) = &mut self.tenths[self.newest];
        *all_bytes += bytes as f64;
        *all_count += count as f64;
    }

    /// Over the last second, or over as many as it takes to see more than a few, at most `busy`.
    fn rate(&mut self, now: Instant, busy: Duration) -> Rate {
        self.turn(now);
        // The newest tenth is not over: what it lacks is taken from the one before the first.
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
                return Rate { bytes: bytes / seconds, count: count / seconds, grain: 1.0 / count.max(1.0) };
            }
        }
        Rate { bytes: 0.0, count: 0.0, grain: 1.0 }
    }

    fn turn(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let turns = (now.duration_since(since).as_millis() / TENTH.as_millis()) as usize;
        for _ in 0..turns.min(self.tenths.len()) {
            self.newest = (self.newest + 1) % self.tenths.len();
            self.tenths[self.newest] = (0.0, 0.0);
        }
        self.since = Some(since + TENTH * u32::try_from(turns).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A limit that is counted anew every second, of so many records.
    struct Windows {
        origin: Instant,
        most: usize,
        second: u64,
        taken: usize,
    }

    impl Windows {
        fn admits(&mut self, now: Instant) -> bool {
            let second = now.duration_since(self.origin).as_secs();
            if second != self.second {
                (self.second, self.taken) = (second, 0);
            }
            self.taken += 1;
            self.taken <= self.most
        }
    }

    /// Sends what the pace allows for so many seconds: how many were taken, and how many refused.
    async fn send(pace: &mut Pace, limit: &mut Windows, bytes: usize, seconds: u64) -> (usize, usize) {
        let until = Instant::now() + Duration::from_secs(seconds);
        let (mut taken, mut refused) = (0, 0);
        while Instant::now() < until {
            let now = Instant::now();
            tokio::time::sleep_until(pace.ready_at(now)).await;
            let (now, before) = (Instant::now(), (taken, refused));
            while pace.try_spend(now, bytes, 1) {
                match limit.admits(now) {
                    true => taken += 1,
                    false => refused += 1,
                }
            }
            pace.accepted(now, (taken - before.0) * bytes, taken - before.0);
            if refused > before.1 {
                pace.refused(now, refused - before.1);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        (taken, refused)
    }

    fn limit(most: usize) -> Windows {
        Windows { origin: Instant::now(), most, second: 0, taken: 0 }
    }

    fn pace() -> Pace {
        Pace::new(Quota::KINESIS_WRITE, Tries::OF_RECORDS, Instant::now(), Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn the_quota_is_kept_to_and_used() {
        let mut pace = pace();
        let mut limit = limit(1_000);
        send(&mut pace, &mut limit, 100, 10).await;
        let (taken, refused) = send(&mut pace, &mut limit, 100, 60).await;
        assert!(taken > 59_000 && refused < 300, "{taken} taken, {refused} refused");
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_take_is_learned_and_what_they_leave_is_found() {
        let mut pace = pace();
        let mut limit = limit(500);
        send(&mut pace, &mut limit, 100, 10).await;
        let (taken, refused) = send(&mut pace, &mut limit, 100, 60).await;
        assert!(taken > 29_000 && refused < 300, "half is left: {taken} taken, {refused} refused");
        limit.most = 1_000;
        send(&mut pace, &mut limit, 100, 20).await;
        let (taken, _) = send(&mut pace, &mut limit, 100, 30).await;
        assert!(taken > 29_000, "all is left: {taken} taken");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_in_the_last_second_is_the_same_at_every_moment() {
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
    async fn a_refusal_behind_a_large_record_cuts_little() {
        let mut pace = pace();
        // What it was worth cannot be told: it was taken too long ago.
        pace.spend(10 << 20, 1);
        pace.accepted(Instant::now(), 10 << 20, 1);
        tokio::time::advance(Duration::from_secs(11)).await;
        for _ in 0..3 {
            tokio::time::advance(Duration::from_millis(200)).await;
            pace.refused(Instant::now(), 1);
        }
        assert!(pace.share > 0.7, "{}", pace.share);
    }

    #[tokio::test(start_paused = true)]
    async fn a_mebibyte_is_found_where_there_is_one() {
        let mut pace = pace();
        // 1,024 bytes each: 1,000 records are less than a mebibyte, and more than a megabyte.
        let mut limit = limit(1_000);
        send(&mut pace, &mut limit, 1_024, 10).await;
        let (taken, refused) = send(&mut pace, &mut limit, 1_024, 60).await;
        assert!(taken > 59_000 && refused < 300, "{taken} taken, {refused} refused");
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_record_is_a_debt_that_is_paid_before_the_next() {
        let mut pace = pace();
        assert!(pace.try_spend(Instant::now(), 10 << 20, 1));
        assert!(!pace.try_spend(Instant::now(), 1, 1));
        let wait = pace.ready_at(Instant::now()) - Instant::now();
        assert!((9..12).contains(&wait.as_secs()), "10 MiB at 1 MB a second, and what was saved: {wait:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_bucket_holds_a_burst_and_no_more() {
        let mut pace = pace();
        tokio::time::advance(Duration::from_secs(3600)).await;
        let burst = (0..10_000).take_while(|_| pace.try_spend(Instant::now(), 1, 1)).count();
        assert!((98..=102).contains(&burst), "{burst}");
        // Hardly a moment, and not idle.
        tokio::time::advance(Duration::from_millis(200)).await;
        let burst = (0..10_000).take_while(|_| pace.try_spend(Instant::now(), 1, 1)).count();
        assert!((29..=31).contains(&burst), "{burst}");
    }

    #[tokio::test(start_paused = true)]
    async fn shards_have_tokens_at_the_same_steps() {
        let origin = Instant::now();
        let mut paces: Vec<Pace> =
            (0..3).map(|_| Pace::new(Quota::KINESIS_WRITE, Tries::OF_RECORDS, origin, origin)).collect();
        for (pace, count) in paces.iter_mut().zip([300, 301, 302]) {
            pace.spend(0, count);
        }
        tokio::time::advance(Duration::from_millis(3)).await;
        let ready: Vec<u128> =
            paces.iter_mut().map(|pace| (pace.ready_at(Instant::now()) - origin).as_millis()).collect();
        assert!(ready.iter().all(|at| at % 10 == 0), "{ready:?}");
    }
}
