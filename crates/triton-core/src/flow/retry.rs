//! Trying again: how long, how often, and when to give up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use crate::error::Error;

/// When a failed call is made again: after waits drawn between zero and a ceiling that doubles (full jitter), until
/// the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The ceiling of the first wait.
    pub first: Duration,
    /// The ceiling of every wait.
    pub longest: Duration,
    /// How long after the first failure to give up.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    /// 50 ms, then doubling up to 5 s, for 2 minutes.
    fn default() -> Self {
        Self { first: Duration::from_millis(50), longest: Duration::from_secs(5), deadline: Duration::from_secs(120) }
    }
}

impl RetryPolicy {
    /// This policy with another deadline.
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// This policy with another ceiling for the first wait.
    pub fn with_first(self, first: Duration) -> Self {
        Self { first, ..self }
    }

    /// Waits drawn from `seed`.
    pub(crate) fn backoff(self, seed: u64) -> Backoff {
        let random = StdRng::seed_from_u64(seed);
        let trouble = Trouble::default();
        Backoff { policy: self, ceiling: self.first, failing_since: None, is_counted: false, trouble, random }
    }
}

/// No wait is longer, whatever the policy: times have an end.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The waits of one thing that is tried until it succeeds.
#[derive(Debug)]
pub(crate) struct Backoff {
    policy: RetryPolicy,
    ceiling: Duration,
    failing_since: Option<Instant>,
    /// Whether this is one of those that the trouble counts.
    is_counted: bool,
    trouble: Trouble,
    random: StdRng,
}

/// What several things that are tried may fail of together: it is told once, by the first of them, until none fails.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble(Arc<AtomicUsize>);

/// What fails for so long is worth a warning: nobody should wait for minutes and not know for what.
const WORTH_A_WARNING: Duration = Duration::from_secs(2);

impl Backoff {
    /// Shares a trouble with others.
    pub(crate) fn with_trouble(mut self, trouble: &Trouble) -> Self {
        self.trouble = trouble.clone();
        self
    }

    /// Waits before the next try, after this error. Answers `false`, at once, when the wait would end past the deadline.
    pub(crate) async fn wait(&mut self, error: &Error) -> bool {
        let failing_since = *self.failing_since.get_or_insert_with(Instant::now);
        tracing::debug!(%error, "trying again");
        if failing_since.elapsed() >= WORTH_A_WARNING && !self.is_counted {
            self.is_counted = true;
            if self.trouble.0.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::warn!("{error}; trying again for up to {} s", self.policy.deadline.as_secs());
            }
        }
        let wait = self.draw();
        if failing_since.elapsed().saturating_add(wait) >= self.policy.deadline {
            return false;
        }
        tokio::time::sleep(wait).await;
        true
    }

    /// How long to wait before the next try; the ceiling of the one after that is twice as high.
    pub(crate) fn draw(&mut self) -> Duration {
        // At least a moment, so that a policy of zeros does not make a busy loop.
        let wait = self.ceiling.min(LONGEST).mul_f64(self.random.random()).max(Duration::from_millis(1));
        self.ceiling = self.ceiling.saturating_mul(2).min(self.policy.longest);
        wait
    }

    /// After a success: the next failure is a first one.
    pub(crate) fn reset(&mut self) {
        self.ceiling = self.policy.first;
        self.failing_since = None;
        self.leave_trouble();
    }

    fn leave_trouble(&mut self) {
        if std::mem::take(&mut self.is_counted) {
            self.trouble.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Backoff {
    fn drop(&mut self) {
        self.leave_trouble();
    }
}

/// Calls until it succeeds, fails for good, or the deadline is past; then with the last error.
pub(crate) async fn until_done<T, F>(mut backoff: Backoff, mut call: impl FnMut() -> F) -> crate::Result<T>
where
    F: Future<Output = crate::Result<T>>,
{
    loop {
        match call().await {
            Err(error) if error.is_retryable() => {
                if !backoff.wait(&error).await {
                    return Err(error);
                }
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow() -> Error {
        Error::Throttled { problem: "slow".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_the_longest_and_end_at_the_deadline() {
        let policy = RetryPolicy::default();
        let mut backoff = policy.backoff(7);
        let started = Instant::now();
        let mut waits = Vec::new();
        loop {
            let before = Instant::now();
            if !backoff.wait(&slow()).await {
                break;
            }
            waits.push(before.elapsed());
        }
        assert!(waits[0] <= policy.first && waits[1] <= policy.first * 2);
        // The clock of tokio counts whole milliseconds.
        assert!(waits.iter().all(|wait| *wait <= policy.longest + Duration::from_millis(1)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait > policy.longest / 2), "{waits:?}");
        assert!(started.elapsed() < policy.deadline);
        assert!(started.elapsed() > policy.deadline - 2 * policy.longest);
    }

    #[tokio::test(start_paused = true)]
    async fn policies_at_the_edges_neither_panic_nor_spin() {
        let mut never = RetryPolicy::default().with_deadline(Duration::ZERO).backoff(1);
        assert!(!never.wait(&slow()).await);
        let mut forever = RetryPolicy::default().with_deadline(Duration::MAX).with_first(Duration::ZERO).backoff(1);
        let started = Instant::now();
        for _ in 0..10 {
            assert!(forever.wait(&slow()).await);
        }
        assert!(started.elapsed() >= Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_seed_waits_the_same() {
        let mut traces = Vec::new();
        for seed in [1, 1, 2] {
            let started = Instant::now();
            let mut backoff = RetryPolicy::default().backoff(seed);
            for _ in 0..5 {
                backoff.wait(&slow()).await;
            }
            traces.push(started.elapsed());
        }
        assert_eq!(traces[0], traces[1]);
        assert_ne!(traces[1], traces[2]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_succeed_later_is_tried_again() {
        let mut calls = 0;
        let outcome: crate::Result<()> = until_done(RetryPolicy::default().backoff(1), || {
            calls += 1;
            let error = match calls {
                3 => Error::Invalid { problem: "no".into() },
                _ => slow(),
            };
            async move { Err(error) }
        })
        .await;
        assert!(matches!(outcome, Err(Error::Invalid { .. })));
        assert_eq!(calls, 3);
    }
}
