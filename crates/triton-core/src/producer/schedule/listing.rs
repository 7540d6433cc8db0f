//! When the shards are listed again: after a record was stored in an unexpected shard, until a list shows it.

use std::time::Duration;

use tokio::time::Instant;

use crate::flow::Backoff;

/// Minimum time between the starts of two listings.
const INTERVAL: Duration = Duration::from_secs(1);

/// Whether the shards have to be listed, and when.
#[derive(Debug)]
pub(super) struct Listing {
    is_wanted: bool,
    is_under_way: bool,
    not_before: Option<Instant>,
    failing_since: Option<Instant>,
    /// Whether it was given up since the last success.
    is_given_up: bool,
    backoff: Backoff,
}

impl Listing {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self {
            is_wanted: false,
            is_under_way: false,
            not_before: None,
            failing_since: None,
            is_given_up: false,
            backoff,
        }
    }

    /// Requests a new list, since the shards have changed.
    pub(super) fn request(&mut self) {
        self.is_wanted = true;
    }

    /// Returns when the caller has to list the shards, if a list is requested and none is under way.
    pub(super) fn start(&mut self, now: Instant) -> Option<Instant> {
        if !self.is_wanted || self.is_under_way {
            return None;
        }
        (self.is_wanted, self.is_under_way) = (false, true);
        let at = self.not_before.map_or(now, |not_before| not_before.max(now));
        self.not_before = Some(at + INTERVAL);
        Some(at)
    }

    /// The shards were listed, and the list shows every shard that it was requested for.
    pub(super) fn succeeded(&mut self) {
        (self.is_wanted, self.is_under_way, self.is_given_up) = (false, false, false);
        self.backoff.reset();
        self.failing_since = None;
    }

    /// The shards could not be listed, or the list is old: they are listed again. Returns since when that is so.
    pub(super) fn failed(&mut self, now: Instant) -> Instant {
        (self.is_wanted, self.is_under_way) = (true, false);
        self.not_before = self.not_before.max(Some(now + self.backoff.next_wait()));
        *self.failing_since.get_or_insert(now)
    }

    /// No more attempts, until the next request. Returns whether that is for the first time since a success.
    pub(super) fn give_up(&mut self) -> bool {
        self.is_wanted = false;
        self.failing_since = None;
        !std::mem::replace(&mut self.is_given_up, true)
    }
}
