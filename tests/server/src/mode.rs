//! Modes: how the server reports shards and their ends, from when a test sets a mode until it sets another.

use std::time::Duration;

/// The shard list that ListShards returns; all pages of a listing are of the same list. Other operations, such as
/// DescribeStream, see the current shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListMode {
    /// The current list.
    #[default]
    Current,
    /// The list of this long ago.
    Old(Duration),
    /// The list of this long ago and the current list alternate by listing. The first listing is old.
    Flapping(Duration),
    /// The current list without some shards and the whole current list alternate by listing. The first listing is
    /// partial.
    Partial(MissingShards),
}

/// The shards that are missing from a partial list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissingShards {
    /// The shards that have been split or merged, as if retention had removed them.
    Parents,
    /// The second child of each split.
    SecondChildren,
}

/// How the server reports the end of a closed shard, to polling readers and to subscribers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndMode {
    /// As AWS does: the last page has no NextShardIterator, the last event no ContinuationSequenceNumber, and both have
    /// ChildShards.
    #[default]
    WithChildren,
    /// The same without ChildShards.
    WithoutChildren,
    /// Never: pages without records go on, with a NextShardIterator and a MillisBehindLatest of 0. Subscriptions, also
    /// those that begin after the end, stay open until their lifetime is over, with no more than signs of life. A
    /// [heartbeat](crate::ServerOptions::heartbeat) that is as long as the lifetime makes them silent.
    Never,
}

/// What one listing shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// The current list.
    Current,
    /// The list at this time, in milliseconds of the wall clock.
    AsOf(u64),
    /// The current list without some shards.
    Without(MissingShards),
}

/// The modes of a server.
#[derive(Debug, Default)]
pub(crate) struct Modes {
    list: ListMode,
    /// Number of listings since the mode was set.
    listings: u64,
    pub(crate) end: EndMode,
    /// Whether a position ahead of its shard's last record is rejected.
    pub(crate) rejects_ahead: bool,
}

impl Modes {
    pub(crate) fn set_list(&mut self, mode: ListMode) {
        (self.list, self.listings) = (mode, 0);
    }

    /// The view of the next listing.
    pub(crate) fn next_view(&mut self, now_ms: u64) -> View {
        let is_changed = self.listings.is_multiple_of(2);
        self.listings += 1;
        let as_of = |age: Duration| {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            View::AsOf(now_ms.saturating_sub(age))
        };
        match self.list {
            ListMode::Old(age) => as_of(age),
            ListMode::Flapping(age) if is_changed => as_of(age),
            ListMode::Partial(missing) if is_changed => View::Without(missing),
            ListMode::Current | ListMode::Flapping(_) | ListMode::Partial(_) => View::Current,
        }
    }
}
