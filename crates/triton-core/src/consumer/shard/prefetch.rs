//! How far fetches run ahead of the consumer: within a budget of memory, with a bounded number in flight.
//!
//! ```text
//! slot ──► reservation of the shard's page size ──► fetch ──► actual size ──► queued ──► delivered
//!   └───────── released here if the budget holds the page; else ────────────────────────────┘
//! ```
//!
//! The size of a page is known only when it arrives. If it is larger than the reservation and the budget has no more, the
//! page keeps the slot of its fetch until it is delivered. The bytes in memory are therefore bounded by the budget plus one
//! page per slot, whatever the number of shards.

use std::sync::Arc;

use metrics::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::flow::{Budget, Reservation};

/// Fetches of one reader that are in flight, or whose pages are over the budget.
pub(in crate::consumer) const FETCHES_IN_FLIGHT: usize = 64;

/// Queued pages of one shard. More would not make it faster, and a slow consumer's would fill the budget of other shards.
pub(in crate::consumer) const PAGES_AHEAD: usize = 3;

/// Records per fetch that waits in the backend: nothing is reserved for it, and one commit may wake thousands.
pub(in crate::consumer) const PUSHED_RECORDS: usize = 16;

/// Expected size of a shard's first page: one per slot fills the default budget of 64 MiB.
const FIRST_PAGE: usize = 1 << 20;
/// Smallest expected size: an idle shard's page may hold records after all.
const SMALLEST_PAGE: usize = 16 << 10;

/// The budget and slots that the fetches of one reader share.
#[derive(Clone, Debug)]
pub(in crate::consumer) struct Prefetch {
    budget: Budget,
    slots: Arc<Semaphore>,
    used: Gauge,
}

impl Prefetch {
    /// `used` is the gauge of the bytes that this reader has reserved.
    pub(in crate::consumer) fn new(budget: Budget, used: Gauge) -> Self {
        Self { budget, slots: Arc::new(Semaphore::new(FETCHES_IN_FLIGHT)), used }
    }

    /// Waits for a slot, then for this many bytes of the budget. Cancel safe: a dropped future has taken nothing.
    pub(in crate::consumer) async fn permit(&self, bytes: usize) -> PrefetchPermit {
        // A page expected to be larger than the budget is fetched alone.
        let bytes = bytes.min(self.budget.bytes());
        // The semaphore is never closed.
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok();
        self.granted(slot, self.budget.reserve(bytes).await, bytes)
    }

    /// A permit without a reservation, for a fetch that waits in the backend and will return few records.
    pub(in crate::consumer) fn unreserved_permit(&self) -> PrefetchPermit {
        self.granted(None, self.budget.empty_reservation(), 0)
    }

    fn granted(&self, slot: Option<OwnedSemaphorePermit>, reservation: Reservation, bytes: usize) -> PrefetchPermit {
        self.used.increment(bytes as f64);
        PrefetchPermit { slot, gauged: GaugedReservation { reservation, bytes, used: self.used.clone() } }
    }
}

/// Permission for one fetch, then the memory of its page. Released when dropped.
#[derive(Debug)]
pub(in crate::consumer) struct PrefetchPermit {
    slot: Option<OwnedSemaphorePermit>,
    gauged: GaugedReservation,
}

impl PrefetchPermit {
    /// Whether bytes of the expected page size were reserved.
    pub(in crate::consumer) fn is_reserved(&self) -> bool {
        self.slot.is_some()
    }

    /// Sets the actual size of the page. Returns whether the page is accounted for: within the budget, or by a slot.
    pub(in crate::consumer) fn set_size(&mut self, bytes: usize) -> bool {
        self.gauged.resize(bytes);
        let is_over_budget = self.gauged.reservation.is_over_budget();
        if !is_over_budget {
            self.slot = None;
        }
        !is_over_budget || self.slot.is_some()
    }
}

/// A reservation that its reader's gauge counts.
#[derive(Debug)]
struct GaugedReservation {
    reservation: Reservation,
    bytes: usize,
    used: Gauge,
}

impl GaugedReservation {
    fn resize(&mut self, bytes: usize) {
        self.reservation.resize(bytes);
        self.used.increment(bytes as f64 - self.bytes as f64);
        self.bytes = bytes;
    }
}

impl Drop for GaugedReservation {
    fn drop(&mut self) {
        self.used.decrement(self.bytes as f64);
    }
}

/// Expected size of a shard's pages in memory: rises at once, falls slowly.
#[derive(Clone, Copy, Debug)]
pub(in crate::consumer) struct PageSize(usize);

impl Default for PageSize {
    fn default() -> Self {
        Self(FIRST_PAGE)
    }
}

impl PageSize {
    /// Expected bytes of the next page.
    pub(in crate::consumer) fn bytes(self) -> usize {
        self.0
    }

    /// Learns from the size of a page.
    pub(in crate::consumer) fn learn(&mut self, bytes: usize) {
        let decayed = self.0 - self.0 / 8;
        self.0 = bytes.max(decayed).max(SMALLEST_PAGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefetch(bytes: usize) -> (Prefetch, Budget) {
        let budget = Budget::new(bytes);
        (Prefetch::new(budget.clone(), Gauge::noop()), budget)
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_within_the_budget_releases_its_slot_and_one_over_it_keeps_it() {
        let (prefetch, budget) = prefetch(100);
        let mut fits = prefetch.permit(10).await;
        assert!(fits.set_size(60));
        assert_eq!(prefetch.slots.available_permits(), FETCHES_IN_FLIGHT);
        let mut large = prefetch.permit(10).await;
        assert!(large.set_size(60), "it keeps its slot");
        assert_eq!((prefetch.slots.available_permits(), budget.used()), (FETCHES_IN_FLIGHT - 1, 120));
        drop((fits, large));
        assert_eq!((prefetch.slots.available_permits(), budget.used()), (FETCHES_IN_FLIGHT, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_of_an_unreserved_fetch_counts_when_it_arrives() {
        let (prefetch, budget) = prefetch(100);
        let mut first = prefetch.unreserved_permit();
        assert_eq!((prefetch.slots.available_permits(), budget.used()), (FETCHES_IN_FLIGHT, 0));
        assert!(first.set_size(80));
        let mut second = prefetch.unreserved_permit();
        assert!(!second.set_size(30), "neither budget nor slot");
        assert_eq!(budget.used(), 110);
    }

    #[test]
    fn the_expected_page_size_rises_at_once_and_falls_slowly() {
        let mut size = PageSize::default();
        assert_eq!(size.bytes(), 1 << 20);
        size.learn(10 << 20);
        assert_eq!(size.bytes(), 10 << 20);
        size.learn(0);
        assert!((8 << 20..10 << 20).contains(&size.bytes()), "{}", size.bytes());
        for _ in 0..60 {
            size.learn(0);
        }
        assert_eq!(size.bytes(), SMALLEST_PAGE);
    }
}
