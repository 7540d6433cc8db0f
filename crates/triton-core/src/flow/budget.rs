//! A bound on the memory that records take while they wait.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

/// What a record costs beside its key and payload: the places where it is remembered.
pub(crate) const RECORD_OVERHEAD: usize = 200;

/// A bound on memory, which its clones share: what waits in producers or readers counts against it.
///
/// A record counts its payload, its key and 200 bytes. Reads and writes want budgets of their own, since who copies one
/// stream into another with a single budget may wait for itself.
///
/// ```
/// use triton_core::{Budget, ProducerOptions};
///
/// // Two producers that together keep at most 16 MiB of records.
/// let budget = Budget::new(16 << 20);
/// let options = ProducerOptions::default().with_budget(budget.clone());
/// assert_eq!((budget.bytes(), budget.used()), (16 << 20, 0));
/// ```
#[derive(Clone)]
pub struct Budget(Arc<Account>);

struct Account {
    bytes: usize,
    /// A permit is a byte that is free. Whoever asks first is served first.
    free: Semaphore,
    used: AtomicUsize,
    peak: AtomicUsize,
}

impl Budget {
    /// A budget of so many bytes, at least 1 and at most 4 GiB.
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.clamp(1, u32::MAX as usize);
        let (used, peak) = Default::default();
        Self(Arc::new(Account { bytes, free: Semaphore::new(bytes), used, peak }))
    }

    /// How much it allows.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// How much is counted at the moment. More than [`bytes`](Self::bytes) where something came out larger than expected,
    /// or is larger by itself.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The most that was ever counted at once.
    pub fn peak(&self) -> usize {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// Waits until so much is free, in the order of asking. Who asks for more than there is waits for all of it.
    ///
    /// Cancel safe: a dropped future has reserved nothing.
    pub(crate) async fn reserve(&self, bytes: usize) -> Reservation {
        // It is never closed.
        if let Ok(permit) = self.0.free.acquire_many(self.held(bytes)).await {
            permit.forget();
        }
        self.count(bytes)
    }

    /// Reserves so much if it is free and nobody waits for it.
    pub(crate) fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        self.0.free.try_acquire_many(self.held(bytes)).ok()?.forget();
        Some(self.count(bytes))
    }

    /// A reservation of nothing, without waiting: for what has to be counted when it comes.
    pub(crate) fn nothing(&self) -> Reservation {
        self.count(0)
    }

    /// What a reservation holds of the permits: one larger than the whole holds all.
    fn held(&self, bytes: usize) -> u32 {
        // Never more than 4 GiB, by `new`.
        u32::try_from(bytes.min(self.0.bytes)).unwrap_or(u32::MAX)
    }

    fn count(&self, bytes: usize) -> Reservation {
        let used = self.0.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.0.peak.fetch_max(used, Ordering::Relaxed);
        Reservation { budget: self.clone(), bytes, held: self.held(bytes) }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("bytes", &self.bytes()).field("used", &self.used()).finish_non_exhaustive()
    }
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Budget,
    /// What counts as used.
    bytes: usize,
    /// What is held of the permits.
    held: u32,
}

impl Reservation {
    /// Counts so much from now on: what was reserved turned out to be more or less. What is more is taken at once where it
    /// is free, and else owed: it is there already, so that to wait would not make it less.
    pub(crate) fn resize(&mut self, bytes: usize) {
        let held = self.budget.held(bytes);
        match held.checked_sub(self.held) {
            Some(0) => {}
            Some(more) => {
                // As many as are free; the rest is counted as used, and not held.
                let available = u32::try_from(self.budget.0.free.available_permits()).unwrap_or(u32::MAX);
                if let Ok(permit) = self.budget.0.free.try_acquire_many(more.min(available)) {
                    self.held += more.min(available);
                    permit.forget();
                }
            }
            None => {
                self.budget.0.free.add_permits((self.held - held) as usize);
                self.held = held;
            }
        }
        if bytes >= self.bytes {
            let used = self.budget.0.used.fetch_add(bytes - self.bytes, Ordering::Relaxed) + (bytes - self.bytes);
            self.budget.0.peak.fetch_max(used, Ordering::Relaxed);
        } else {
            self.budget.0.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// Whether more is counted than could be had from the budget.
    pub(crate) fn owes(&self) -> bool {
        self.bytes > self.held as usize
    }

    /// Joins two parts of one budget.
    pub(crate) fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        self.held += std::mem::take(&mut other.held);
    }

    /// Cuts off a part for something of this size.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        let held = self.budget.held(bytes).min(self.held);
        self.bytes -= bytes;
        self.held -= held;
        Self { budget: self.budget.clone(), bytes, held }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.0.free.add_permits(self.held as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn who_asks_first_is_served_first_and_what_is_dropped_is_given_back() {
        let budget = Budget::new(100);
        let first = budget.reserve(80).await;
        assert!(budget.try_reserve(30).is_none());
        let (large, small) = (budget.clone(), budget.clone());
        let large = tokio::spawn(async move { large.reserve(90).await });
        tokio::task::yield_now().await;
        let small = tokio::spawn(async move { small.reserve(10).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!large.is_finished() && !small.is_finished(), "a small one does not overtake");
        drop(first);
        let (large, small) = (large.await.unwrap(), small.await.unwrap());
        assert_eq!((budget.used(), budget.peak()), (100, 100));
        drop((large, small));
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn what_is_larger_than_all_waits_for_all_and_goes_ahead() {
        let budget = Budget::new(100);
        let huge = budget.reserve(1000).await;
        assert_eq!(budget.used(), 1000);
        assert!(budget.try_reserve(1).is_none());
        drop(huge);
        assert!(budget.try_reserve(100).is_some());
    }

    #[tokio::test]
    async fn a_reservation_follows_what_came_of_it() {
        let budget = Budget::new(100);
        let mut fetch = budget.reserve(50).await;
        fetch.resize(20);
        assert_eq!(budget.used(), 20);
        let other = budget.reserve(70).await;
        fetch.resize(90);
        assert_eq!((budget.used(), budget.peak()), (160, 160), "what is there counts, though it is too much");
        assert!(budget.try_reserve(1).is_none());
        drop(other);
        drop(fetch);
        assert_eq!(budget.used(), 0);
        assert!(budget.try_reserve(100).is_some(), "every byte came back, and none twice");
    }

    #[tokio::test]
    async fn parts_are_joined_and_cut() {
        let budget = Budget::new(100);
        let mut all = budget.reserve(30).await;
        all.merge(budget.reserve(40).await);
        let part = all.split(25);
        drop(all);
        assert_eq!(budget.used(), 25);
        drop(part);
        assert!(budget.try_reserve(100).is_some());
    }
}
