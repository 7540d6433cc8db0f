//! The shards as they are now: listed again when a record lands where none was expected.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::Id;
use tokio::time::{Instant, sleep_until};

use crate::error::Error;
use crate::flow::Backoff;
use crate::model::shard::Shard;

use super::{Done, Driver};
use crate::producer::lane::{LaneOptions, Lanes, Pending};

/// The shards are listed again at most so often.
const BETWEEN_LISTINGS: Duration = Duration::from_secs(1);

/// Whether the shards have to be listed again.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) is_wanted: bool,
    pub(super) under_way: Option<Id>,
    not_before: Option<Instant>,
    failing_since: Option<Instant>,
    backoff: Backoff,
}

impl Listing {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { is_wanted: false, under_way: None, not_before: None, failing_since: None, backoff }
    }
}

impl Driver {
    pub(super) fn list_if_wanted(&mut self) {
        let now = Instant::now();
        if !self.listing.is_wanted || self.listing.under_way.is_some() {
            return;
        }
        if let Some(not_before) = self.listing.not_before.filter(|not_before| *not_before > now) {
            // Sleeping inside the task keeps the driver's own waits simple.
            let client = Arc::clone(&self.shared.client);
            let task = self.tasks.spawn(async move {
                sleep_until(not_before).await;
                Done::Listing(client.shards().await)
            });
            self.listing.under_way = Some(task.id());
        } else {
            let client = Arc::clone(&self.shared.client);
            let task = self.tasks.spawn(async move { Done::Listing(client.shards().await) });
            self.listing.under_way = Some(task.id());
        }
        self.listing.is_wanted = false;
    }

    pub(super) fn listing_failed(&mut self, error: &Error) {
        tracing::debug!(%error, "the shards cannot be listed");
        self.listing.not_before = Some(Instant::now() + self.listing.backoff.next_wait().max(BETWEEN_LISTINGS));
        self.listing.is_wanted = true;
        let failing_since = *self.listing.failing_since.get_or_insert_with(Instant::now);
        if !error.is_retryable() || failing_since.elapsed() >= self.shared.options.retry.deadline {
            self.listing.failing_since = None;
            // Nobody will tell where the strays are: they are stored, and that is what their callers asked.
            if !self.strays.is_empty() {
                tracing::warn!(
                    "the shards of '{}' cannot be listed ({error}): aggregates may have landed where readers of the Kinesis \
                     Client Library drop them",
                    self.shared.client.name()
                );
            }
            for (receipt, records) in std::mem::take(&mut self.strays) {
                records.into_iter().for_each(|pending| self.acknowledge(pending, receipt.clone()));
            }
            self.listing.is_wanted = false;
        }
    }

    /// Sorts everything anew, by the shards that there are now.
    pub(super) fn take_map(&mut self, shards: &[Shard]) {
        self.listing.backoff.reset();
        self.listing.failing_since = None;
        self.listing.not_before = Some(Instant::now() + BETWEEN_LISTINGS);
        let waiting: Vec<Pending> = self.lanes.drain().collect();
        let seed = LaneOptions { seed: self.shared.random_seed(), ..self.lane_options };
        if let Some(lanes) = Lanes::of_shards(shards, &self.limits, seed, &mut self.lanes) {
            self.lanes = lanes;
            self.generation += 1;
        }
        self.ready = 0;
        // What has failed stands in front, as in every lane.
        let (failing, waiting): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|it| it.claim.failing_since.is_some());
        failing.into_iter().chain(waiting).for_each(|pending| self.enqueue(pending));
        for (receipt, records) in std::mem::take(&mut self.strays).into_iter().rev() {
            let landed = shards.iter().find(|shard| shard.id == receipt.shard_id);
            let belongs =
                |pending: &Pending| landed.is_none_or(|shard| shard.hash_key_range.contains(pending.entry.hash_key()));
            if records.iter().all(belongs) {
                records.into_iter().for_each(|pending| self.acknowledge(pending, receipt.clone()));
            } else {
                // Who reads as the Kinesis Client Library does drops all of it, so that all of it is put again.
                self.shared.metrics.duplicates.increment(records.len() as u64);
                for mut pending in records.into_iter().rev() {
                    pending.claim.is_uncertain = true;
                    self.requeue(pending);
                }
            }
        }
        self.give_back();
    }
}
