//! A bound on the memory of waiting records.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

/// A bound on the memory of waiting records, in bytes. Clones share it.
///
/// A record costs its payload, its key and [200 bytes](Self::RECORD_OVERHEAD). Give reads and writes budgets of their own:
/// a program that copies one stream into another within a single budget can wait for itself.
///
/// ```
/// use triton_core::memory::Memory;
/// use triton_core::{Budget, Producer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> triton_core::Result<()> {
/// // Two producers that together hold at most 16 MiB of records.
/// let budget = Budget::new(16 << 20);
/// let memory = Memory::new();
/// let clicks = Producer::builder(std::sync::Arc::new(memory.stream("clicks", 4)?)).budget(budget.clone()).build();
/// let views = Producer::builder(std::sync::Arc::new(memory.stream("views", 4)?)).budget(budget.clone()).build();
/// assert_eq!((budget.bytes(), budget.used()), (16 << 20, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Budget(Arc<Account>);

struct Account {
    bytes: usize,
    /// One permit per free byte, in the order of the requests.
    free: Semaphore,
    used: AtomicUsize,
    peak: AtomicUsize,
}

impl Budget {
    /// Bytes that a record costs beside its payload and key: its place in queues and its result.
    pub const RECORD_OVERHEAD: usize = 200;

    /// A budget of this many bytes, at least 1 and at most 4 GiB.
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.clamp(1, u32::MAX as usize);
        let (used, peak) = Default::default();
        Self(Arc::new(Account { bytes, free: Semaphore::new(bytes), used, peak }))
    }

    /// Size of the budget.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// Bytes in use. More than [`bytes`](Self::bytes) while a record or page is larger than the budget, or a page than what
    /// was reserved for it.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Largest number of bytes in use at any time so far.
    pub fn peak(&self) -> usize {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// Waits until this many bytes are free, in the order of the requests. A request larger than the whole budget waits
    /// until the budget is empty.
    ///
    /// Cancel safe: a dropped future has reserved nothing.
    pub(crate) async fn reserve(&self, bytes: usize) -> Reservation {
        // The semaphore is never closed.
        if let Ok(permit) = self.0.free.acquire_many(self.permits(bytes)).await {
            permit.forget();
        }
        self.count(bytes)
    }

    /// Reserves this many bytes if they are free and no earlier request waits.
    pub(crate) fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        self.0.free.try_acquire_many(self.permits(bytes)).ok()?.forget();
        Some(self.count(bytes))
    }

    /// A reservation of no bytes, to be [resized](Reservation::resize) when its size is known.
    pub(crate) fn empty_reservation(&self) -> Reservation {
        self.count(0)
    }

    /// Permits that a reservation of this size holds: at most all of them.
    fn permits(&self, bytes: usize) -> u32 {
        // At most 4 GiB, by `new`.
        u32::try_from(bytes.min(self.0.bytes)).unwrap_or(u32::MAX)
    }

    fn count(&self, bytes: usize) -> Reservation {
        let used = self.0.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.0.peak.fetch_max(used, Ordering::Relaxed);
        Reservation { budget: self.clone(), bytes, permits: self.permits(bytes) }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("bytes", &self.bytes()).field("used", &self.used()).finish_non_exhaustive()
    }
}

/// Bytes reserved of a [`Budget`], returned when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Budget,
    /// Bytes counted as used.
    bytes: usize,
    /// Permits taken from the budget, at most as many.
    permits: u32,
}

impl Reservation {
    /// Changes the size of the reservation to what it turned out to hold. Does not wait: the bytes are in memory already, so
    /// what the budget lacks is counted as used without a permit.
    pub(crate) fn resize(&mut self, bytes: usize) {
        let permits = self.budget.permits(bytes);
        match permits.checked_sub(self.permits) {
            Some(0) => {}
            Some(missing) => {
                let free = u32::try_from(self.budget.0.free.available_permits()).unwrap_or(u32::MAX);
                if let Ok(permit) = self.budget.0.free.try_acquire_many(missing.min(free)) {
                    self.permits += missing.min(free);
                    permit.forget();
                }
            }
            None => {
                self.budget.0.free.add_permits((self.permits - permits) as usize);
                self.permits = permits;
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

    /// Whether it counts more bytes than the budget had free.
    pub(crate) fn is_over_budget(&self) -> bool {
        self.bytes > self.permits as usize
    }

    /// Adds another reservation of the same budget to this one.
    pub(crate) fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        self.permits += std::mem::take(&mut other.permits);
    }

    /// Splits off a reservation of this size.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        let permits = self.budget.permits(bytes).min(self.permits);
        self.bytes -= bytes;
        self.permits -= permits;
        Self { budget: self.budget.clone(), bytes, permits }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.0.free.add_permits(self.permits as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn requests_are_served_in_order_and_a_dropped_reservation_is_returned() {
        let budget = Budget::new(100);
        let first = budget.reserve(80).await;
        assert!(budget.try_reserve(30).is_none());
        let (large, small) = (budget.clone(), budget.clone());
        let large = tokio::spawn(async move { large.reserve(90).await });
        tokio::task::yield_now().await;
        let small = tokio::spawn(async move { small.reserve(10).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!large.is_finished() && !small.is_finished(), "a small request does not overtake a large one");
        drop(first);
        let (large, small) = (large.await.unwrap(), small.await.unwrap());
        assert_eq!((budget.used(), budget.peak()), (100, 100));
        drop((large, small));
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_request_larger_than_the_budget_waits_until_it_is_empty() {
        let budget = Budget::new(100);
        let huge = budget.reserve(1000).await;
        assert_eq!(budget.used(), 1000);
        assert!(budget.try_reserve(1).is_none());
        drop(huge);
        assert!(budget.try_reserve(100).is_some());
    }

    #[tokio::test]
    async fn a_reservation_is_resized_to_what_it_turned_out_to_hold() {
        let budget = Budget::new(100);
        let mut fetch = budget.reserve(50).await;
        fetch.resize(20);
        assert_eq!(budget.used(), 20);
        let other = budget.reserve(70).await;
        fetch.resize(90);
        assert_eq!((budget.used(), budget.peak()), (160, 160), "bytes in memory count, even over the budget");
        assert!(budget.try_reserve(1).is_none());
        drop(other);
        drop(fetch);
        assert_eq!(budget.used(), 0);
        assert!(budget.try_reserve(100).is_some(), "every byte was returned once");
    }

    #[tokio::test]
    async fn reservations_are_merged_and_split() {
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
