//! The shard queues of a stream, served in turn.

use std::collections::VecDeque;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;

use crate::backend::Quota;
use crate::flow::RetryPolicy;
use crate::flow::rate_limiter::{ProbeBudget, RateLimiter};
use crate::model::shard::ShardId;
use crate::producer::routing::Routing;
use crate::record::PutEntry;

use super::record::QueuedRecord;
use super::shard_queue::ShardQueue;

/// Settings of a new queue.
#[derive(Clone, Copy)]
pub(super) struct QueueSettings {
    pub(super) write_quota: Option<Quota>,
    pub(super) retry: RetryPolicy,
    /// Batches with records of a queue that may be in flight at once.
    pub(super) max_in_flight: usize,
    /// Start of the time steps of all rate limiters.
    pub(super) origin: Instant,
}

/// One queue per open shard, in the order of their hash keys, or a single one.
pub(super) struct ShardQueues {
    routing: Routing,
    queues: Vec<ShardQueue>,
    /// Queues that hold records, in the order of their turns.
    turns: VecDeque<usize>,
    records: usize,
    bytes: usize,
    /// Number of times that the routing has changed.
    version: u64,
    settings: QueueSettings,
}

impl ShardQueues {
    /// A single queue, with the quota of `shards` shards together, if there are any.
    pub(super) fn single(shards: usize, settings: QueueSettings, random: &mut StdRng) -> Self {
        let shards = u32::try_from(shards).unwrap_or(u32::MAX);
        let times = |quota: Quota| Quota {
            bytes: quota.bytes.saturating_mul(shards),
            max_bytes: quota.max_bytes.saturating_mul(shards),
            count: quota.count.saturating_mul(shards),
        };
        let quota = settings.write_quota.filter(|_| shards > 0).map(times);
        let limiter =
            quota.map(|quota| RateLimiter::new(quota, ProbeBudget::FOR_RECORDS, settings.origin, settings.origin));
        let queue = ShardQueue::new(limiter, settings.retry.backoff(random.random()), settings.max_in_flight);
        Self {
            routing: Routing::single(),
            queues: vec![queue],
            turns: VecDeque::new(),
            records: 0,
            bytes: 0,
            version: 0,
            settings,
        }
    }

    /// Routes by these shards from now on, and returns the records that were queued, for they have to be routed again.
    /// A shard keeps its learned rate.
    pub(super) fn reroute(&mut self, routing: Routing, random: &mut StdRng, now: Instant) -> Vec<QueuedRecord> {
        let records = self.take_all();
        let seed: u64 = random.random();
        let QueueSettings { write_quota, retry, max_in_flight, origin } = self.settings;
        let queues = (0..routing.len()).map(|queue| {
            let known = (0..self.queues.len()).find(|old| {
                let shard = self.routing.shard(*old);
                shard.is_some() && shard == routing.shard(queue)
            });
            let limiter = known
                .and_then(|old| self.queues[old].take_limiter())
                .or_else(|| write_quota.map(|quota| RateLimiter::new(quota, ProbeBudget::FOR_RECORDS, origin, now)));
            ShardQueue::new(limiter, retry.backoff(seed.wrapping_add(queue as u64)), max_in_flight)
        });
        self.queues = queues.collect();
        self.routing = routing;
        self.version += 1;
        records
    }

    /// Removes every record.
    pub(super) fn take_all(&mut self) -> Vec<QueuedRecord> {
        self.turns.clear();
        (self.records, self.bytes) = (0, 0);
        let take = |queue: &mut ShardQueue| {
            queue.has_turn = false;
            queue.take_all()
        };
        self.queues.iter_mut().flat_map(take).collect()
    }

    /// Number of records in all queues.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// Bytes of the records in all queues.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of times that the routing has changed.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Number of queues.
    pub(super) fn len(&self) -> usize {
        self.queues.len()
    }

    /// What the records are routed by.
    pub(super) fn routing(&self) -> &Routing {
        &self.routing
    }

    /// Sends nothing from the queue that this entry belongs to, until it is released.
    pub(super) fn hold(&mut self, entry: &PutEntry) {
        self.queues[self.routing.route(entry)].hold();
    }

    /// Releases every queue.
    pub(super) fn release(&mut self) {
        self.queues.iter_mut().for_each(ShardQueue::release);
    }

    /// The shard that a queue's records go to, where it is known.
    pub(super) fn shard(&self, queue: usize) -> Option<&ShardId> {
        self.routing.shard(queue)
    }

    /// Appends a record to its queue.
    pub(super) fn push_back(&mut self, record: QueuedRecord) {
        self.push(record, ShardQueue::push_back);
    }

    /// Puts a record in front of its queue.
    pub(super) fn push_front(&mut self, record: QueuedRecord) {
        self.push(record, ShardQueue::push_front);
    }

    fn push(&mut self, record: QueuedRecord, push: impl FnOnce(&mut ShardQueue, QueuedRecord)) {
        let index = self.routing.route(&record.entry);
        self.records += 1;
        self.bytes += record.entry.size();
        let queue = &mut self.queues[index];
        if !std::mem::replace(&mut queue.has_turn, true) {
            self.turns.push_back(index);
        }
        push(queue, record);
    }

    /// Calls `change`, which may remove records from the queue, and keeps count.
    pub(super) fn change<T>(&mut self, queue: usize, change: impl FnOnce(&mut ShardQueue) -> T) -> T {
        let queue = &mut self.queues[queue];
        (self.records, self.bytes) = (self.records - queue.len(), self.bytes - queue.bytes());
        let changed = change(queue);
        (self.records, self.bytes) = (self.records + queue.len(), self.bytes + queue.bytes());
        changed
    }

    /// Calls `visit` with each queue that waits for its turn.
    pub(super) fn for_each_waiting(&mut self, mut visit: impl FnMut(&mut ShardQueue)) {
        for index in &self.turns {
            visit(&mut self.queues[*index]);
        }
    }

    /// Number of turns that are waited for.
    pub(super) fn turns(&self) -> usize {
        self.turns.len()
    }

    /// Takes the first turn.
    pub(super) fn next_turn(&mut self) -> Option<usize> {
        self.turns.pop_front()
    }

    /// Returns an unused turn: the queue stays the first.
    pub(super) fn keep_turn(&mut self, queue: usize) {
        self.turns.push_front(queue);
    }

    /// Ends a turn: the queue is the last, if it still holds records.
    pub(super) fn end_turn(&mut self, queue: usize) {
        if self.queues[queue].len() == 0 {
            self.queues[queue].has_turn = false;
        } else {
            self.turns.push_back(queue);
        }
    }
}
