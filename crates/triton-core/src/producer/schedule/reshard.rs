//! Applies a new shard list: routes queued records by it, and settles the misrouted aggregates.

use std::sync::Arc;

use tokio::time::Instant;

use crate::error::{Cause, Error};
use crate::model::hash_key::HashKeyRange;
use crate::model::shard::Shard;
use crate::producer::routing::Routing;
use crate::record::PutReceipt;

use super::failure::UncertainKeys;
use super::record::QueuedRecord;
use super::{InFlightRule, Schedule};

/// An aggregate that was stored in another shard than it was packed for. Readers of the Kinesis Client Library drop all
/// of it if a single record does not belong to that shard, so it has no outcome until a list shows that shard.
pub(super) struct Misrouted {
    pub(super) receipt: PutReceipt,
    pub(super) records: Vec<QueuedRecord>,
}

impl Misrouted {
    /// Whether every record belongs to the shard that holds the aggregate, which holds these hash keys.
    fn belongs(&self, range: HashKeyRange) -> bool {
        self.records.iter().all(|record| range.contains(record.entry.hash_key()))
    }
}

impl Schedule {
    /// The shards were listed: routes every queued record by them unless the list is an older one, and settles the misrouted
    /// aggregates whose shards it shows. An old list is asked for again.
    pub(in crate::producer) fn shards(&mut self, shards: &[Shard], now: Instant) {
        let is_confirmed = self.reroute(shards, now);
        self.shard_list.listed(shards, self.queues.routing(), is_confirmed);
        self.settle_misrouted();
        if self.misrouted.is_empty() && !self.is_list_old() {
            self.listing.succeeded();
        } else {
            self.list_again(None, now);
        }
    }

    /// Routes by these shards, if they hold each hash key and the list is no older than the one before. Returns whether it
    /// is what records are routed by now.
    fn reroute(&mut self, shards: &[Shard], now: Instant) -> bool {
        let Some(routing) = Routing::of_shards(shards) else { return false };
        if !self.shard_list.is_replaced_by(shards, self.queues.routing()) {
            return false;
        }
        if !self.queues.routing().is_same(&routing) {
            let records = self.queues.reroute(routing, &mut self.random, now);
            // Records that have failed stand in front, as in every queue.
            let (failing, waiting): (Vec<_>, Vec<_>) =
                records.into_iter().partition(|record| record.state.failing_since.is_some());
            failing.into_iter().chain(waiting).for_each(|record| self.queues.push_back(record));
            self.shard_list.replaced();
        }
        true
    }

    /// Whether records are routed by a list that is known to be old, or by none.
    pub(super) fn is_list_old(&self) -> bool {
        self.settings.is_routed && (self.shard_list.is_old() || !self.queues.routing().is_known())
    }

    /// Acknowledges each misrouted aggregate that belongs to its shard, and puts the records of the others again. Those whose
    /// shard is not listed stay, and so does what has to follow them.
    pub(super) fn settle_misrouted(&mut self) {
        self.queues.release();
        let mut unlisted: Vec<Misrouted> = Vec::new();
        // In reverse, so that the queues keep their order.
        for misrouted in std::mem::take(&mut self.misrouted).into_iter().rev() {
            match self.shard_list.range(&misrouted.receipt.shard_id) {
                None => unlisted.push(misrouted),
                Some(range) if misrouted.belongs(range) => {
                    self.acknowledge_packed(misrouted.records, &misrouted.receipt)
                }
                Some(_) => self.put_again(misrouted.records),
            }
        }
        unlisted.reverse();
        if !unlisted.is_empty() {
            self.listing.request();
        }
        if self.settings.rule != InFlightRule::Any {
            for record in unlisted.iter().flat_map(|misrouted| &misrouted.records) {
                self.queues.hold(&record.entry);
            }
        }
        self.misrouted = unlisted;
    }

    /// Puts the records of an aggregate again, in front of those that have to follow them.
    fn put_again(&mut self, records: Vec<QueuedRecord>) {
        self.report.duplicates += records.len() as u64;
        for mut record in records.into_iter().rev() {
            record.state.is_uncertain = true;
            self.queues.push_front(record);
        }
    }

    /// The shards could not be listed.
    pub(in crate::producer) fn shards_failed(&mut self, error: &Error, now: Instant) {
        tracing::debug!(%error, "the shards cannot be listed");
        self.list_again(Some(error), now);
    }

    /// Lists the shards again, after an error or an old list. After the deadline, what was stored in unlisted shards fails, and
    /// the shards are listed again when another batch is answered.
    fn list_again(&mut self, error: Option<&Error>, now: Instant) {
        let failing_since = self.listing.failed(now);
        let is_final = error.is_some_and(|error| !error.is_retryable());
        if !is_final && now.saturating_duration_since(failing_since) < self.settings.deadline {
            return;
        }
        if self.listing.give_up() && self.settings.aggregates && self.is_list_old() {
            self.warn(error);
        }
        self.fail_misrouted(error);
    }

    /// Fails the misrouted aggregates: they are stored, and it is not known whether readers drop them.
    fn fail_misrouted(&mut self, listing_error: Option<&Error>) {
        self.queues.release();
        let mut uncertain = UncertainKeys::new();
        for Misrouted { receipt, records } in std::mem::take(&mut self.misrouted) {
            let problem = format!(
                "stored in an aggregate in {}, which no shard list shows: readers of the Kinesis Client Library drop the \
                 aggregate if a record of it belongs to another shard",
                receipt.shard_id
            );
            let source = listing_error.cloned().map(|error| Arc::new(error) as Cause);
            let error = Error::Unavailable { problem, may_have_written: true, source };
            for mut record in records {
                record.state.is_uncertain = true;
                self.fail(record, &error, &mut uncertain);
            }
        }
        self.fail_dependents(&uncertain);
    }

    /// Warns that there is no current list.
    fn warn(&self, error: Option<&Error>) {
        let stream = &self.settings.stream;
        let problem = match (error, self.shard_list.newer()) {
            (Some(error), _) => format!("the shards cannot be listed ({error})"),
            (None, Some(shard)) => format!("the shard list stays older than {shard}"),
            (None, None) => "the shard list does not show one open shard for each hash key".to_owned(),
        };
        tracing::warn!("stream '{stream}': {problem}; until that changes, records are put without aggregates");
    }
}
