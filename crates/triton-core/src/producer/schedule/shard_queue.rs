//! Where records wait for their turn: a lane for each shard, so that a hot one does not hold back the others.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::backend::{Limits, Quota};
use crate::error::Error;
use crate::flow::rate_limiter::{ProbeBudget, RateLimiter};
use crate::flow::{Backoff, RetryPolicy};
use crate::model::hash_key::{HashKey, HashKeyRange};
use crate::model::shard::{Shard, ShardId};
use crate::record::PutEntry;

use super::chain::ChainId;
use super::ticket::Place;

/// A record without its outcome.
pub(super) struct Pending {
    pub(super) entry: PutEntry,
    pub(super) claim: Claim,
}

/// What is remembered of a record beside its entry, which a call holds while it is on its way.
pub(super) struct Claim {
    pub(super) place: Place,
    pub(super) accepted: Instant,
    /// When it failed first.
    pub(super) failing_since: Option<Instant>,
    /// Whether an earlier try may have been written.
    pub(super) is_uncertain: bool,
    pub(super) chain: ChainId,
    /// How many flushes were asked for before it.
    pub(super) epoch: u32,
}

/// What waits for one shard, and how fast it may go there.
pub(super) struct Lane {
    /// `None` where it is not known which shard that is.
    pub(super) shard: Option<ShardId>,
    range: HashKeyRange,
    pub(super) pace: Option<RateLimiter>,
    /// May be sent, oldest first.
    pub(super) ready: VecDeque<Pending>,
    pub(super) ready_bytes: usize,
    backoff: Backoff,
    /// Since when nothing has succeeded.
    pub(super) failing_since: Option<Instant>,
    /// Why, the last time.
    pub(super) last_error: Option<Error>,
    /// Nothing is sent before.
    pub(super) blocked_until: Option<Instant>,
    /// Wire records that have no answer yet.
    pub(super) in_flight: usize,
    /// Whether it may send, as of the last look.
    pub(super) is_sendable: bool,
    /// Whether it has its turn among the active ones.
    is_active: bool,
}

impl Lane {
    fn new(shard: Option<ShardId>, range: HashKeyRange, pace: Option<RateLimiter>, backoff: Backoff) -> Self {
        Self {
            shard,
            range,
            pace,
            ready: VecDeque::new(),
            ready_bytes: 0,
            backoff,
            failing_since: None,
            last_error: None,
            blocked_until: None,
            in_flight: 0,
            is_sendable: false,
            is_active: false,
        }
    }

    pub(super) fn push_back(&mut self, pending: Pending) {
        self.ready_bytes += pending.entry.size();
        self.ready.push_back(pending);
    }

    pub(super) fn push_front(&mut self, pending: Pending) {
        self.ready_bytes += pending.entry.size();
        self.ready.push_front(pending);
    }

    pub(super) fn pop_front(&mut self) -> Option<Pending> {
        let pending = self.ready.pop_front()?;
        self.ready_bytes -= pending.entry.size();
        Some(pending)
    }

    /// Takes out those for which it is true.
    pub(super) fn extract(&mut self, mut take: impl FnMut(&Pending) -> bool) -> VecDeque<Pending> {
        // Mostly there are none, and then nothing is moved.
        if !self.ready.iter().any(&mut take) {
            return VecDeque::new();
        }
        let (taken, kept): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.ready).into_iter().partition(|it| take(it));
        self.ready = kept;
        self.ready_bytes -= taken.iter().map(|pending| pending.entry.size()).sum::<usize>();
        taken
    }

    /// When the next record may be sent, as far as the shard is concerned.
    pub(super) fn sends_at(&mut self, now: Instant) -> Instant {
        let paced = self.pace.as_mut().map_or(now, |pace| pace.ready_at(now));
        paced.max(self.blocked_until.unwrap_or(now))
    }

    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
        (self.failing_since, self.last_error, self.blocked_until) = (None, None, None);
    }

    /// Something that went this way failed: waits before the next try.
    pub(super) fn block(&mut self, now: Instant) {
        self.blocked_until = Some(now + self.backoff.next_wait());
    }
}

/// The lanes of a stream: one for each open shard, in the order of their hash keys, or a single one.
pub(super) struct Lanes {
    pub(super) lanes: Vec<Lane>,
    /// Lanes that have something ready, in the order of their turns.
    pub(super) active: VecDeque<usize>,
}

/// What new lanes are made from.
#[derive(Clone, Copy)]
pub(super) struct LaneOptions {
    pub(super) retry: RetryPolicy,
    pub(super) origin: Instant,
    pub(super) seed: u64,
}

impl Lanes {
    /// One lane for everything; of the quota of `shards` shards, where there are some.
    pub(super) fn single(limits: &Limits, shards: usize, options: LaneOptions) -> Self {
        let shards = u32::try_from(shards).unwrap_or(u32::MAX);
        let times = |quota: Quota| Quota {
            bytes: quota.bytes.saturating_mul(shards),
            max_bytes: quota.max_bytes.saturating_mul(shards),
            count: quota.count.saturating_mul(shards),
        };
        let quota = limits.write_quota.filter(|_| shards > 0).map(times);
        let pace = quota.map(|quota| RateLimiter::new(quota, ProbeBudget::FOR_RECORDS, options.origin, Instant::now()));
        let lane = Lane::new(None, HashKeyRange::ALL, pace, options.retry.backoff(options.seed));
        Self { lanes: vec![lane], active: VecDeque::new() }
    }

    /// A lane for each open shard of a listing; `None` where they do not hold each hash key once. What is known of a
    /// shard's pace is taken over.
    pub(super) fn of_shards(
        shards: &[Shard],
        limits: &Limits,
        options: LaneOptions,
        before: &mut Self,
    ) -> Option<Self> {
        let mut open: Vec<&Shard> = shards.iter().filter(|shard| shard.is_open()).collect();
        open.sort_unstable_by_key(|shard| shard.hash_key_range.first);
        let covers = open.first()?.hash_key_range.first == HashKey::MIN
            && open.last()?.hash_key_range.last == HashKey::MAX
            && open
                .windows(2)
                .all(|pair| pair[0].hash_key_range.last.0.checked_add(1) == Some(pair[1].hash_key_range.first.0));
        if !covers {
            return None;
        }
        let now = Instant::now();
        let lane = |(number, shard): (usize, &&Shard)| {
            let known = before.lanes.iter_mut().find(|lane| lane.shard.as_ref() == Some(&shard.id));
            let pace = known.and_then(|lane| lane.pace.take());
            let pace = pace.or_else(|| {
                limits.write_quota.map(|quota| RateLimiter::new(quota, ProbeBudget::FOR_RECORDS, options.origin, now))
            });
            let backoff = options.retry.backoff(options.seed.wrapping_add(number as u64));
            Lane::new(Some(shard.id.clone()), shard.hash_key_range, pace, backoff)
        };
        Some(Self { lanes: open.iter().enumerate().map(lane).collect(), active: VecDeque::new() })
    }

    /// Which lane an entry takes.
    pub(super) fn route(&self, entry: &PutEntry) -> usize {
        match self.lanes.len() {
            // Nothing is hashed where there is no choice.
            1 => 0,
            _ => {
                let key = entry.hash_key();
                self.lanes.partition_point(|lane| lane.range.last < key)
            }
        }
    }

    pub(super) fn push_back(&mut self, index: usize, pending: Pending) {
        self.activate(index);
        self.lanes[index].push_back(pending);
    }

    pub(super) fn push_front(&mut self, index: usize, pending: Pending) {
        self.activate(index);
        self.lanes[index].push_front(pending);
    }

    fn activate(&mut self, index: usize) {
        if !std::mem::replace(&mut self.lanes[index].is_active, true) {
            self.active.push_back(index);
        }
    }

    /// Ends a lane's turn: it comes after the others, if it has anything left.
    pub(super) fn end_turn(&mut self, index: usize) {
        match self.lanes[index].ready.is_empty() {
            true => self.lanes[index].is_active = false,
            false => self.active.push_back(index),
        }
    }

    /// Everything that is ready, lane by lane.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Pending> {
        self.active.clear();
        self.lanes.iter_mut().flat_map(|lane| {
            (lane.ready_bytes, lane.is_active) = (0, false);
            std::mem::take(&mut lane.ready)
        })
    }
}
