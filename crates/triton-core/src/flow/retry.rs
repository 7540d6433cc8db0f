//! Retries: how long to wait, how often, and when to give up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use crate::error::{Error, Result};

/// When a failed call is retried: after waits drawn between zero and a ceiling that doubles (full jitter), until the
/// deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Ceiling of the first wait.
    pub first: Duration,
    /// Ceiling of every wait.
    pub longest: Duration,
    /// Time from the first failure to giving up.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    /// 50 ms, doubling up to 5 s, for 2 minutes.
    fn default() -> Self {
        Self { first: Duration::from_millis(50), longest: Duration::from_secs(5), deadline: Duration::from_secs(120) }
    }
}

impl RetryPolicy {
    /// This policy with another deadline.
    pub const fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// This policy with another ceiling for the first wait.
    pub const fn with_first(self, first: Duration) -> Self {
        Self { first, ..self }
    }

    /// This policy with another ceiling for every wait.
    pub const fn with_longest(self, longest: Duration) -> Self {
        Self { longest, ..self }
    }

    /// Waits by this policy, drawn from `seed`.
    pub fn backoff(self, seed: u64) -> Backoff {
        let random = StdRng::seed_from_u64(seed);
        let warn_once = WarnOnce::default();
        Backoff { policy: self, ceiling: self.first, failing_since: None, is_counted: false, warn_once, random }
    }
}

/// No wait is longer, whatever the policy: an `Instant` overflows.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The waits of one operation that is retried until it succeeds.
///
/// ```
/// use triton_core::{Error, RetryPolicy};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let mut backoff = RetryPolicy::default().backoff(1);
/// let error = Error::Throttled { problem: "too many requests".into() };
/// assert!(backoff.wait(&error).await, "the first wait is within the deadline");
/// # }
/// ```
#[derive(Debug)]
pub struct Backoff {
    policy: RetryPolicy,
    ceiling: Duration,
    failing_since: Option<Instant>,
    /// Whether this operation is among those that `warn_once` counts as failing.
    is_counted: bool,
    warn_once: WarnOnce,
    random: StdRng,
}

/// A failure cause shared by several retried operations: the first of them logs it, and then none until all have succeeded.
#[derive(Clone, Debug, Default)]
pub(crate) struct WarnOnce(Arc<AtomicUsize>);

/// A failure that lasts this long is logged as a warning: nobody should wait for minutes without knowing why.
const WARN_AFTER: Duration = Duration::from_secs(2);

impl Backoff {
    /// Shares its warnings with other operations.
    pub(crate) fn with_warn_once(mut self, warn_once: &WarnOnce) -> Self {
        self.warn_once = warn_once.clone();
        self
    }

    /// Waits before the next attempt, after this error. Returns `false`, at once, if the wait would end past the deadline.
    ///
    /// Cancel safe.
    pub async fn wait(&mut self, error: &Error) -> bool {
        let failing_since = *self.failing_since.get_or_insert_with(Instant::now);
        tracing::debug!(%error, "retrying");
        if failing_since.elapsed() >= WARN_AFTER && !self.is_counted {
            self.is_counted = true;
            if self.warn_once.0.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::warn!("{error}; trying again for up to {} s", self.policy.deadline.as_secs());
            }
        }
        self.pause().await
    }

    /// Waits before the next look. Returns `false`, at once, if the wait would end past the deadline.
    async fn pause(&mut self) -> bool {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        let wait = self.next_wait();
        if since.elapsed().saturating_add(wait) >= self.policy.deadline {
            return false;
        }
        tokio::time::sleep(wait).await;
        true
    }

    /// Draws the wait before the next attempt, and doubles the ceiling of the one after that.
    pub fn next_wait(&mut self) -> Duration {
        // Never zero, so that a policy of zeros does not make a busy loop.
        let wait = self.ceiling.min(MAX_WAIT).mul_f64(self.random.random()).max(Duration::from_millis(1));
        self.ceiling = self.ceiling.saturating_mul(2).min(self.policy.longest);
        wait
    }

    /// Starts over after a success: the next failure is a first one.
    pub fn reset(&mut self) {
        self.ceiling = self.policy.first;
        self.failing_since = None;
        self.uncount();
    }

    fn uncount(&mut self) {
        if std::mem::take(&mut self.is_counted) {
            self.warn_once.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Backoff {
    fn drop(&mut self) {
        self.uncount();
    }
}

/// Calls until it succeeds, fails with an error that is not [retryable](Error::is_retryable), or the deadline has passed.
///
/// # Errors
/// The last call's.
pub async fn retry<T, F>(mut backoff: Backoff, mut call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
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

/// Looks until there is something to see. Returns `None` if the deadline passes before that.
///
/// # Errors
/// The first look's that fails.
pub async fn poll_until<T, F>(mut backoff: Backoff, mut look: impl FnMut() -> F) -> Result<Option<T>>
where
    F: Future<Output = Result<Option<T>>>,
{
    loop {
        if let Some(seen) = look().await? {
            return Ok(Some(seen));
        }
        if !backoff.pause().await {
            return Ok(None);
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
    async fn waits_grow_to_the_ceiling_and_end_at_the_deadline() {
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
    async fn only_a_retryable_error_is_retried() {
        let mut calls = 0;
        let outcome: crate::Result<()> = retry(RetryPolicy::default().backoff(1), || {
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

    #[tokio::test(start_paused = true)]
    async fn a_poll_ends_with_what_it_sees_or_at_the_deadline() {
        let policy = RetryPolicy::default().with_deadline(Duration::from_secs(10));
        let mut looks = 0;
        let seen = poll_until(policy.backoff(1), || {
            looks += 1;
            let seen = (looks == 3).then_some(looks);
            async move { Ok(seen) }
        });
        assert_eq!(seen.await.unwrap(), Some(3));
        let started = Instant::now();
        let never = poll_until(policy.backoff(1), || async { Ok(None::<()>) });
        assert_eq!(never.await.unwrap(), None);
        assert!(started.elapsed() < policy.deadline);
    }
}
