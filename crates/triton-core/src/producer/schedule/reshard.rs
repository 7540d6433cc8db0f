//! Applies a new shard list: reroutes queued records, and puts misrouted aggregates again.

use tokio::time::Instant;

use crate::error::Error;
use crate::model::shard::Shard;
use crate::producer::routing::Routing;
use crate::record::PutReceipt;

use super::Schedule;
use super::record::QueuedRecord;

/// An aggregate that was stored in another shard than it was packed for. Readers of the Kinesis Client Library drop all
/// of it if a single record does not belong to that shard.
pub(super) struct Misrouted {
    pub(super) receipt: PutReceipt,
    pub(super) records: Vec<QueuedRecord>,
}

impl Misrouted {
    /// Whether every record belongs to the shard that holds the aggregate.
    fn belongs(&self, shards: &[Shard]) -> bool {
        let landed = shards.iter().find(|shard| shard.id == self.receipt.shard_id);
        landed.is_none_or(|shard| {
            self.records.iter().all(|record| shard.hash_key_range.contains(record.entry.hash_key()))
        })
    }
}

impl Schedule {
    /// The shards were listed: routes every queued record by them, and settles the misrouted aggregates.
    pub(in crate::producer) fn shards(&mut self, shards: &[Shard], now: Instant) {
        self.listing.succeeded(now);
        if self.settings.limits.key_routed
            && let Some(routing) = Routing::of_shards(shards)
        {
            let records = self.queues.reroute(routing, &mut self.random, now);
            // Records that have failed stand in front, as in every queue.
            let (failing, waiting): (Vec<_>, Vec<_>) =
                records.into_iter().partition(|record| record.state.failing_since.is_some());
            failing.into_iter().chain(waiting).for_each(|record| self.queues.push_back(record));
        }
        // In reverse, so that the queue keeps their order.
        for mut misrouted in std::mem::take(&mut self.misrouted).into_iter().rev() {
            if misrouted.belongs(shards) {
                self.acknowledge_misrouted(misrouted);
                continue;
            }
            self.report.duplicates += misrouted.records.len() as u64;
            for mut record in misrouted.records.drain(..).rev() {
                record.state.is_uncertain = true;
                self.queues.push_front(record);
            }
        }
    }

    /// The shards could not be listed. After the deadline, misrouted aggregates are acknowledged, since they are
    /// stored.
    pub(in crate::producer) fn shards_failed(&mut self, error: &Error, now: Instant) {
        tracing::debug!(%error, "the shards cannot be listed");
        let failing_since = self.listing.failed(now);
        if error.is_retryable() && now.saturating_duration_since(failing_since) < self.settings.deadline {
            return;
        }
        self.listing.give_up();
        if !self.misrouted.is_empty() {
            tracing::warn!(
                "the shards of '{}' cannot be listed ({error}): aggregates may have landed where readers of the Kinesis \
                 Client Library drop them",
                self.settings.stream
            );
        }
        for misrouted in std::mem::take(&mut self.misrouted) {
            self.acknowledge_misrouted(misrouted);
        }
    }

    fn acknowledge_misrouted(&mut self, misrouted: Misrouted) {
        for record in misrouted.records {
            self.acknowledge(record.entry, record.state, misrouted.receipt.clone());
        }
    }
}
