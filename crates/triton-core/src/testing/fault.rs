//! Faults to inject: at random with given probabilities, or exactly at given calls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::Error;
use crate::model::shard::ShardId;

/// Probabilities of random faults, from 0 to 1 each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Faults {
    /// An entry of a put is refused as throttled, while other entries of its call are written.
    pub throttle_entry: f64,
    /// A call fails before it is applied.
    pub fail_before: f64,
    /// A call is applied, and its reply is lost.
    pub fail_after: f64,
    /// A shard iterator expires.
    pub expire_iterator: f64,
    /// The entries of a put are stored in another order.
    pub reorder: f64,
    /// Longest duration of a call; each takes a random part of it.
    pub delay: Duration,
}

impl Faults {
    /// Every fault now and then.
    pub fn all() -> Self {
        Self {
            throttle_entry: 0.1,
            fail_before: 0.1,
            fail_after: 0.1,
            expire_iterator: 0.1,
            reorder: 0.5,
            delay: Duration::from_millis(2),
        }
    }

    /// Refuses entries as throttled with this probability.
    pub fn with_throttle_entry(self, throttle_entry: f64) -> Self {
        Self { throttle_entry, ..self }
    }

    /// Fails calls before they are applied with this probability.
    pub fn with_fail_before(self, fail_before: f64) -> Self {
        Self { fail_before, ..self }
    }

    /// Loses the replies of applied calls with this probability.
    pub fn with_fail_after(self, fail_after: f64) -> Self {
        Self { fail_after, ..self }
    }

    /// Expires iterators with this probability.
    pub fn with_expire_iterator(self, expire_iterator: f64) -> Self {
        Self { expire_iterator, ..self }
    }

    /// Stores the entries of a call in another order with this probability.
    pub fn with_reorder(self, reorder: f64) -> Self {
        Self { reorder, ..self }
    }

    /// Delays each call by up to this duration.
    pub fn with_delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

/// A method of the two traits of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Call {
    /// [`StreamClient::created_at`](crate::StreamClient::created_at).
    CreatedAt,
    /// [`StreamClient::shards`](crate::StreamClient::shards).
    Shards,
    /// [`StreamClient::put_batch`](crate::StreamClient::put_batch).
    PutBatch,
    /// [`StreamClient::open_shard`](crate::StreamClient::open_shard).
    OpenShard,
    /// [`ShardReader::next_batch`](crate::ShardReader::next_batch).
    NextBatch,
    /// [`StreamClient::limits`](crate::StreamClient::limits).
    Limits,
}

/// An exact fault: this error, at this call, for this shard, the next `n` times.
///
/// ```
/// use triton_core::testing::{Call, Fault};
/// use triton_core::{Error, ShardId};
///
/// // The first two fetches of shard 0 succeed, the next three fail.
/// let throttled = Error::Throttled { problem: "read quota".into() };
/// let fault = Fault::new(Call::NextBatch, throttled).of_shard(ShardId::numbered(0)).skip(2).times(3);
/// # drop(fault);
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    call: Call,
    error: Error,
    shard: Option<ShardId>,
    skip: usize,
    times: usize,
    is_applied: bool,
}

impl Fault {
    /// The next such call fails with this error, and is not applied.
    pub fn new(call: Call, error: Error) -> Self {
        Self { call, error, shard: None, skip: 0, times: 1, is_applied: false }
    }

    /// Only calls for this shard. Of a put, only the entries of this shard fail, each with the error.
    pub fn of_shard(self, shard: ShardId) -> Self {
        Self { shard: Some(shard), ..self }
    }

    /// Only after this many such calls have passed.
    pub fn skip(self, calls: usize) -> Self {
        Self { skip: calls, ..self }
    }

    /// For this many calls; `usize::MAX` for all of them.
    pub fn times(self, calls: usize) -> Self {
        Self { times: calls, ..self }
    }

    /// The call is applied before it fails, as if its reply were lost.
    pub fn after_applying(self) -> Self {
        Self { is_applied: true, ..self }
    }

    pub(super) fn is_applied(&self) -> bool {
        self.is_applied
    }

    pub(super) fn error(&self) -> Error {
        self.error.clone()
    }

    pub(super) fn shard(&self) -> Option<&ShardId> {
        self.shard.as_ref()
    }

    /// Whether the fault is injected into this call; counts the call if it matches.
    pub(super) fn strikes(&mut self, call: Call, shards: &[&ShardId]) -> bool {
        let matches = self.call == call && self.shard.as_ref().is_none_or(|shard| shards.contains(&shard));
        if !matches || self.times == 0 {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

/// Number of faults injected so far, by kind.
#[derive(Debug, Default)]
pub struct InjectedFaults {
    pub(super) throttled_entries: AtomicU64,
    pub(super) failed_before: AtomicU64,
    pub(super) failed_after: AtomicU64,
    pub(super) expired_iterators: AtomicU64,
    pub(super) reordered: AtomicU64,
    pub(super) exact: AtomicU64,
    pub(super) lists: AtomicU64,
}

impl InjectedFaults {
    /// Entries refused as throttled.
    pub fn throttled_entries(&self) -> u64 {
        self.throttled_entries.load(Ordering::Relaxed)
    }

    /// Calls that failed before they were applied.
    pub fn failed_before(&self) -> u64 {
        self.failed_before.load(Ordering::Relaxed)
    }

    /// Calls whose replies were lost.
    pub fn failed_after(&self) -> u64 {
        self.failed_after.load(Ordering::Relaxed)
    }

    /// Fetches that failed because their iterator had expired.
    pub fn expired_iterators(&self) -> u64 {
        self.expired_iterators.load(Ordering::Relaxed)
    }

    /// Puts whose entries were stored in another order.
    pub fn reordered(&self) -> u64 {
        self.reordered.load(Ordering::Relaxed)
    }

    /// Calls that failed by an exact [`Fault`].
    pub fn exact(&self) -> u64 {
        self.exact.load(Ordering::Relaxed)
    }

    /// Shard lists that were not the stream's at the moment, by a [`ListFault`](super::ListFault).
    pub fn lists(&self) -> u64 {
        self.lists.load(Ordering::Relaxed)
    }
}
