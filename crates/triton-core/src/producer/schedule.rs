//! The schedule of a producer, a state machine without I/O: records, answers, shard lists and the time go in; batches
//! and outcomes come out.
//!
//! ```text
//! accept ──► key queues ──► shard queues ──► batches ──► poll
//!            (one record    (one per shard,     │
//!             of each key)   its rate) ◄─ retry ┴─── answered ──► report
//! ```
//!
//! Key queues are used only where [one record of a key](InFlightRule::OneRecordPerKey) may be in flight.

mod answer;
mod batch;
mod circuit_breaker;
mod failure;
mod key_queue;
mod listing;
mod open_flushes;
mod record;
mod reshard;
mod shard_list;
mod shard_queue;
mod shard_queues;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use crate::backend::Limits;
use crate::error::{Error, Result};
use crate::model::shard::Shard;
use crate::record::{Entries, PutEntry, PutReceipt};

pub(super) use self::batch::BatchId;
use self::batch::{BatchBuilder, InFlight, ItemRecords};
use self::circuit_breaker::CircuitBreaker;
use self::key_queue::{KeyId, KeyQueues};
use self::listing::Listing;
use self::open_flushes::OpenFlushes;
use self::record::{QueuedRecord, RecordState};
use self::reshard::Misrouted;
use self::shard_list::ShardList;
use self::shard_queues::{QueueSettings, ShardQueues};
use super::options::{KeyOrder, ProducerOptions};
use super::outcome::Report;
use super::record::{FlushId, SubmittedRecord};

/// Batches that may be in flight at once.
const MAX_BATCHES: usize = 64;

/// Upper bound of a wait, so that adding it to a time does not overflow.
const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Time until the next poll if every queue that was ready gave no record.
const NEXT_STEP: Duration = Duration::from_millis(1);

/// What may be in flight at once, so that the records of a key stay in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InFlightRule {
    /// Any number of batches, with any number of a key's records in each. No order is kept.
    Any,
    /// One record of each key.
    OneRecordPerKey,
    /// One aggregate of each shard, or one batch with records of the shard that are not packed, one of each key.
    OneAggregatePerShard,
    /// One batch, whose order the backend keeps.
    OneBatch,
}

/// The part of a schedule that never changes.
struct Settings {
    /// The stream's name, for messages.
    stream: String,
    limits: Limits,
    rule: InFlightRule,
    /// Whether records are routed by the listed shards.
    is_routed: bool,
    /// Whether records of one shard are packed into aggregates, while the shard list is not known to be old.
    aggregates: bool,
    linger: Duration,
    /// Time after its first failure at which a record fails for good.
    deadline: Duration,
    /// Whether a record that may still be written fails the records of its key behind it.
    fail_dependents: bool,
}

/// The records of one producer that have no outcome yet, and when each is sent.
pub(super) struct Schedule {
    settings: Settings,
    queues: ShardQueues,
    keys: KeyQueues,
    in_flight: InFlight,
    /// Records submitted up to then do not linger.
    urgent_before: Option<Instant>,
    open_flushes: OpenFlushes,
    breaker: CircuitBreaker,
    shard_list: ShardList,
    /// Aggregates that were stored where some of their records may not belong.
    misrouted: Vec<Misrouted>,
    listing: Listing,
    random: StdRng,
    report: Report,
}

/// What there is to do now, and when to poll again.
#[derive(Default)]
pub(super) struct Poll {
    /// Batches to send; each has to be [answered](Schedule::answered).
    pub(super) batches: Vec<(BatchId, Entries)>,
    /// When there may be more to send. `None`: not before an answer, or before a record is accepted.
    pub(super) wake: Option<Instant>,
    /// Number of submitted records for which to accept and poll before that.
    pub(super) wake_for: usize,
    /// The shards have to be listed, not before this time.
    pub(super) list_shards: Option<Instant>,
}

/// When the next batch may be sent, and how many records it could hold.
struct Next {
    at: Instant,
    records: usize,
}

impl Schedule {
    /// A schedule for a stream. `shards` are its shards, where they could be listed: without them, everything waits in one
    /// queue, and there are neither aggregates nor a rate per shard.
    ///
    /// # Errors
    /// [`Error::Invalid`] where aggregates are asked for and the stream distributes its records itself.
    pub(super) fn new(
        stream: &str,
        limits: Limits,
        options: &ProducerOptions,
        shards: Option<&[Shard]>,
        seed: u64,
        now: Instant,
    ) -> Result<Self> {
        let wants_aggregates = options.aggregation == Some(true);
        if wants_aggregates && !limits.key_routed {
            let problem = format!(
                "stream '{stream}' distributes its records itself (AUTO): it cannot be put to in aggregates, whose \
                 records belong to one shard"
            );
            return Err(Error::Invalid { problem });
        }
        let mut random = StdRng::seed_from_u64(seed);
        let is_routed = limits.key_routed && shards.is_some();
        let aggregates = wants_aggregates && is_routed;
        let rule = match options.ordering {
            KeyOrder::Relaxed => InFlightRule::Any,
            KeyOrder::PerKey if limits.ordered_batches => InFlightRule::OneBatch,
            KeyOrder::PerKey if aggregates => InFlightRule::OneAggregatePerShard,
            KeyOrder::PerKey => InFlightRule::OneRecordPerKey,
        };
        let max_in_flight = if rule == InFlightRule::OneAggregatePerShard { 1 } else { usize::MAX };
        let queue_settings =
            QueueSettings { write_quota: limits.write_quota, retry: options.retry, max_in_flight, origin: now };
        // A stream that distributes its records itself shares the quota of all its shards.
        let open = shards
            .filter(|_| !limits.key_routed)
            .map_or(0, |shards| shards.iter().filter(|shard| shard.is_open()).count());
        let queues = ShardQueues::single(open, queue_settings, &mut random);
        // With one batch in flight, the records of the next gather while it is.
        let linger = if rule == InFlightRule::OneBatch { Duration::ZERO } else { options.linger.min(LONG) };
        let mut schedule = Self {
            settings: Settings {
                stream: stream.to_owned(),
                limits,
                rule,
                is_routed,
                aggregates,
                linger,
                deadline: options.retry.deadline,
                fail_dependents: options.fail_dependents,
            },
            queues,
            keys: KeyQueues::default(),
            in_flight: InFlight::default(),
            urgent_before: None,
            open_flushes: OpenFlushes::default(),
            breaker: CircuitBreaker::new(options.retry.backoff(random.random())),
            shard_list: ShardList::default(),
            misrouted: Vec::new(),
            listing: Listing::new(options.retry.backoff(random.random())),
            random,
            report: Report::default(),
        };
        if let Some(shards) = shards.filter(|_| is_routed) {
            schedule.shards(shards, now);
        }
        Ok(schedule)
    }

    /// Accepts records, in the order of their submission. A record over the stream's limits fails at once.
    pub(super) fn accept(&mut self, records: impl Iterator<Item = SubmittedRecord>) {
        for SubmittedRecord { entry, slot, submitted_at, flush } in records {
            self.open_flushes.opened(flush);
            let is_ordered_by_key = self.settings.rule == InFlightRule::OneRecordPerKey;
            let key = if is_ordered_by_key { KeyId::of(&entry.partition_key) } else { KeyId::default() };
            let state = RecordState { slot, submitted_at, failing_since: None, is_uncertain: false, key, flush };
            if let Err(error) = self.settings.limits.check_record(&entry) {
                self.conclude(entry, state, Err(error));
                continue;
            }
            let record = QueuedRecord { entry, state };
            let first = if is_ordered_by_key { self.keys.push(record) } else { Some(record) };
            if let Some(record) = first {
                self.queues.push_back(record);
            }
        }
    }

    /// Ends the linger of every record submitted so far.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.urgent_before = Some(now);
    }

    /// Returns the batches that may be sent now, and when to poll again.
    pub(super) fn poll(&mut self, now: Instant) -> Poll {
        let mut poll = Poll { list_shards: self.listing.start(now), ..Poll::default() };
        let mut sendable = 0;
        while !self.waits_for_answer() && self.queues.turns() > 0 {
            let next = self.next_batch(now);
            sendable = next.records;
            if next.at > now {
                poll.wake = Some(next.at);
                break;
            }
            // Kinesis routes each record by its own hash key, but an aggregate by its first one's. So records that are not packed
            // are stored where they belong whatever the list says; they cost more, and lose no time to a list that lags.
            let aggregates = self.settings.aggregates && !self.is_list_old();
            let builder = BatchBuilder::new(&self.settings.limits, self.settings.rule, aggregates, now);
            let Some(batch) = builder.build(&mut self.queues) else {
                // Every queue that looked ready waits for its next step.
                poll.wake = Some(now + NEXT_STEP);
                break;
            };
            let entries = batch.entries.clone();
            poll.batches.push((self.in_flight.add(batch), entries));
        }
        // The first record wakes the task, to start the linger. After it, a full batch does. But where the next poll
        // comes later than the linger of a new record, that record wakes the task.
        let is_seen_in_time = poll.wake.is_none_or(|wake| wake <= now + self.settings.linger);
        poll.wake_for = if self.queues.turns() > 0 && is_seen_in_time {
            self.settings.limits.max_entries.saturating_sub(sendable).max(1)
        } else {
            1
        };
        poll
    }

    /// Whether nothing may be sent before an answer has come.
    fn waits_for_answer(&self) -> bool {
        let waits_for_older = self.settings.aggregates && self.in_flight.has_older_than(self.queues.version());
        let most = if self.settings.rule == InFlightRule::OneBatch { 1 } else { MAX_BATCHES };
        self.in_flight.len() >= most || waits_for_older
    }

    /// When the next batch may be sent: by the linger, the rates of the shards, and what has failed.
    fn next_batch(&mut self, now: Instant) -> Next {
        let Self { settings, queues, urgent_before, .. } = self;
        let urgent_before = *urgent_before;
        let (queued, queued_bytes) = (queues.records(), queues.bytes());
        let is_full = settings.is_full(queued, queued_bytes);
        let due = |submitted_at: Instant| match urgent_before {
            Some(before) if submitted_at <= before => now,
            _ => submitted_at + settings.linger,
        };
        let (mut sendable, mut sendable_bytes) = (0, 0);
        // The first record that lingers where a record may be sent now, and the first time at which another queue may send.
        let (mut first_due, mut first_later) = (None, None);
        let earliest = |known: Option<Instant>, at: Instant| Some(known.map_or(at, |known| known.min(at)));
        queues.for_each_waiting(|queue| {
            let Some(submitted_at) = queue.oldest() else { return };
            match queue.sends_at(now) {
                Some(at) if at <= now => {
                    sendable += queue.len();
                    sendable_bytes += queue.bytes();
                    first_due = earliest(first_due, due(submitted_at));
                }
                Some(at) => first_later = earliest(first_later, if is_full { at } else { at.max(due(submitted_at)) }),
                None => {}
            }
        });
        // Records of a throttled shard end the linger of no other shard's.
        if is_full && settings.is_full(sendable, sendable_bytes) {
            first_due = first_due.map(|_| now);
        }
        let at = [first_due, first_later].into_iter().flatten().min().unwrap_or(now + LONG);
        let at = at.max(self.breaker.open_until().unwrap_or(now));
        Next { at, records: if is_full { sendable } else { queued } }
    }

    /// The oldest flush that has a record without an outcome.
    pub(super) fn oldest_flush(&self) -> Option<FlushId> {
        self.open_flushes.oldest()
    }

    /// Whether every record that was accepted has its outcome.
    pub(super) fn is_empty(&self) -> bool {
        self.open_flushes.oldest().is_none()
    }

    /// The outcomes that have not been reported yet; the caller drains them.
    pub(super) fn report(&mut self) -> &mut Report {
        &mut self.report
    }

    /// Fails every record: as not written, or as one that may have been written where it was sent.
    pub(super) fn abandon(&mut self) {
        let mut records: Vec<QueuedRecord> = Vec::new();
        for misrouted in std::mem::take(&mut self.misrouted) {
            records.extend(misrouted.records);
        }
        for batch in self.in_flight.drain() {
            // The call may still hold the entries.
            for (item, entry) in batch.items.into_iter().zip(batch.entries.into_vec()) {
                records.extend(item.records.into_records(entry));
            }
        }
        records.extend(self.queues.take_all());
        records.extend(self.keys.drain());
        for QueuedRecord { entry, state } in records {
            self.open_flushes.closed(state.flush);
            self.report.add_closed(entry, state.slot);
        }
    }

    /// Gives a record its outcome.
    fn conclude(&mut self, entry: PutEntry, state: RecordState, result: Result<PutReceipt>) {
        self.open_flushes.closed(state.flush);
        self.report.add(entry, state.slot, result);
    }
}

impl Settings {
    /// Whether these records and bytes fill a batch. Aggregates are counted by their bytes alone.
    fn is_full(&self, records: usize, bytes: usize) -> bool {
        (!self.aggregates && records >= self.limits.max_entries) || bytes >= self.limits.max_call_bytes
    }
}

impl ItemRecords {
    /// The records, of which a single one is the entry.
    fn into_records(self, entry: PutEntry) -> Vec<QueuedRecord> {
        match self {
            ItemRecords::One(state) => vec![QueuedRecord { entry, state }],
            ItemRecords::Packed(records) => records,
        }
    }
}

#[cfg(test)]
mod tests;
