//! How much is fetched ahead: within a budget of memory, and with so many fetches at once.
//!
//! ```text
//! slot ──► reservation of what the shard's pages cost ──► fetch ──► the page's own cost ──► waits ──► handed over
//!   └──────────── given back here, if the budget holds the page; else ──────────────────────────────────┘
//! ```
//!
//! What a page costs is known when it is there. Where it is more than was reserved, and the budget has no more, the page
//! keeps its fetch's slot until it was handed over. So what is counted stays within the budget and one page for each slot,
//! whatever the number of shards.

use std::sync::Arc;

use metrics::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::flow::budget::{Budget, Reservation};

/// Fetches of one reader that are under way at once, or whose pages the budget does not hold.
pub(in crate::consumer) const FETCHES_IN_FLIGHT: usize = 64;

/// Pages of one shard that wait: more would not make it faster, and a slow caller's would fill the budget of the others.
pub(in crate::consumer) const PAGES_AHEAD: usize = 3;

/// Records that a fetch asks for which waits for what comes: it has no room of its own, and one commit may wake thousands.
pub(in crate::consumer) const PUSHED_RECORDS: usize = 16;

/// What a reader may keep where it was not told.
pub(in crate::consumer) const DEFAULT_BUDGET: usize = 64 << 20;

/// What a page is taken to cost before the first one was seen. As many as there are slots fill the default budget.
const FIRST_PAGE: usize = DEFAULT_BUDGET / FETCHES_IN_FLIGHT;
/// What a page is taken to cost at least: an idle shard's page may hold something after all.
const SMALLEST_PAGE: usize = 16 << 10;

/// What the fetches of one reader share.
#[derive(Clone, Debug)]
pub(in crate::consumer) struct Prefetch {
    budget: Budget,
    slots: Arc<Semaphore>,
    used: Gauge,
}

impl Prefetch {
    /// `used` shows how much this reader has reserved.
    pub(in crate::consumer) fn new(budget: Option<Budget>, used: Gauge) -> Self {
        let budget = budget.unwrap_or_else(|| Budget::new(DEFAULT_BUDGET));
        Self { budget, slots: Arc::new(Semaphore::new(FETCHES_IN_FLIGHT)), used }
    }

    /// Waits for a slot, and then for so much of the budget. Cancel safe: a dropped future has taken nothing.
    pub(in crate::consumer) async fn room(&self, bytes: usize) -> Room {
        // Who expects more than there is goes ahead alone.
        let bytes = bytes.min(self.budget.bytes());
        // It is never closed.
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok();
        self.holding(slot, self.budget.reserve(bytes).await, bytes)
    }

    /// Room for a fetch that waits for what comes, and will hold little: nothing is reserved until it is there.
    pub(in crate::consumer) fn nothing(&self) -> Room {
        self.holding(None, self.budget.nothing(), 0)
    }

    fn holding(&self, slot: Option<OwnedSemaphorePermit>, reservation: Reservation, bytes: usize) -> Room {
        self.used.increment(bytes as f64);
        Room { slot, held: Held { reservation, bytes, used: self.used.clone() } }
    }
}

/// The room that a fetch takes, and then its page, until it is dropped.
#[derive(Debug)]
pub(in crate::consumer) struct Room {
    slot: Option<OwnedSemaphorePermit>,
    held: Held,
}

impl Room {
    /// Whether it was reserved for a page of the size that was expected.
    pub(in crate::consumer) fn is_reserved(&self) -> bool {
        self.slot.is_some()
    }

    /// The page is there and costs so much. Answers whether the room holds it: whether its bytes could be had from the
    /// budget, or it has a slot to keep.
    pub(in crate::consumer) fn fill(&mut self, bytes: usize) -> bool {
        self.held.resize(bytes);
        let owes = self.held.reservation.owes();
        if !owes {
            self.slot = None;
        }
        !owes || self.slot.is_some()
    }
}

/// A reservation that shows in the gauge of its reader.
#[derive(Debug)]
struct Held {
    reservation: Reservation,
    bytes: usize,
    used: Gauge,
}

impl Held {
    fn resize(&mut self, bytes: usize) {
        self.reservation.resize(bytes);
        self.used.increment(bytes as f64 - self.bytes as f64);
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.used.decrement(self.bytes as f64);
    }
}

/// What the pages of one shard cost, as far as it is known: up at once, down slowly.
#[derive(Clone, Copy, Debug)]
pub(in crate::consumer) struct PageSize(usize);

impl Default for PageSize {
    fn default() -> Self {
        Self(FIRST_PAGE)
    }
}

impl PageSize {
    /// What the next page is taken to cost.
    pub(in crate::consumer) fn bytes(self) -> usize {
        self.0
    }

    /// A page cost so much.
    pub(in crate::consumer) fn learn(&mut self, bytes: usize) {
        let down = self.0 - self.0 / 8;
        self.0 = bytes.max(down).max(SMALLEST_PAGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefetch(bytes: usize) -> (Prefetch, Budget) {
        let budget = Budget::new(bytes);
        (Prefetch::new(Some(budget.clone()), Gauge::noop()), budget)
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_fits_gives_its_slot_back_and_one_that_does_not_keeps_it() {
        let (prefetch, budget) = prefetch(100);
        let mut fits = prefetch.room(10).await;
        assert!(fits.fill(60));
        assert_eq!(prefetch.slots.available_permits(), FETCHES_IN_FLIGHT);
        let mut large = prefetch.room(10).await;
        assert!(large.fill(60), "it has a slot to keep");
        assert_eq!((prefetch.slots.available_permits(), budget.used()), (FETCHES_IN_FLIGHT - 1, 120));
        drop((fits, large));
        assert_eq!((prefetch.slots.available_permits(), budget.used()), (FETCHES_IN_FLIGHT, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_to_a_waiting_fetch_is_counted_when_it_is_there() {
        let (prefetch, budget) = prefetch(100);
        let mut first = prefetch.nothing();
        assert_eq!((prefetch.slots.available_permits(), budget.used()), (FETCHES_IN_FLIGHT, 0));
        assert!(first.fill(80));
        let mut second = prefetch.nothing();
        assert!(!second.fill(30), "neither budget nor slot");
        assert_eq!(budget.used(), 110);
    }

    #[test]
    fn a_pages_size_goes_up_at_once_and_down_slowly() {
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
