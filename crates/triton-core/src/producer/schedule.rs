//! The task between the callers and the stream: it sorts records into lanes, sends calls, and gives each record its
//! outcome.

mod listing;
mod settle;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::backend::Limits;
use crate::error::{Error, ErrorKind, Result};
use crate::flow::Reservation;
use crate::flow::retry;
use crate::model::shard::Shard;
use crate::planted::{self, Bug};
use crate::record::PutReceipt;

use super::KeyOrder;
use super::call::{Call, Loader, Order, Records, Wire};
use super::chain::Chains;
use super::inbox::{Fence, Inbox, Shared};
use super::lane::{Lane, LaneOptions, Lanes, Pending};

use self::listing::Listing;
use self::settle::Outage;

/// Calls that are on their way at once.
const CALLS: usize = 64;

/// Accepted records for which there is room at all times; a burst's goes with it.
const KEPT: usize = 8_192;

/// What a task of the driver ended with.
enum Done {
    Call(Result<Vec<Result<PutReceipt>>>),
    Listing(Result<Vec<Shard>>),
}

pub(super) struct Driver {
    shared: Arc<Shared>,
    limits: Limits,
    order: Order,
    aggregates: bool,
    lanes: Lanes,
    lane_options: LaneOptions,
    /// Counts the maps of lanes.
    generation: u64,
    chains: Chains,
    /// Empty: takes turns with the inbox's, so that neither grows anew.
    accepted: Vec<Pending>,
    tasks: JoinSet<Done>,
    calls: Vec<(Id, Call)>,
    /// Records that are ready, in all lanes.
    ready: usize,
    /// Those of them that a call may take now, as of the last look.
    sendable: usize,
    /// What was accepted up to then is sent without lingering.
    due_before: Option<Instant>,
    reserved: Option<Reservation>,
    freed: usize,
    /// How many records of each epoch have no outcome, oldest first.
    epochs: VecDeque<(u32, usize)>,
    fences: Vec<Fence>,
    outage: Outage,
    /// Aggregates that were stored in a shard that is not on the map, and where.
    strays: Vec<(PutReceipt, Vec<Pending>)>,
    listing: Listing,
}

impl Driver {
    /// Learns what the stream takes and which shards it has.
    pub(super) async fn start(shared: Arc<Shared>) -> Result<Self> {
        let limits = shared.limits().await?;
        let options = &shared.options;
        let lane_options = LaneOptions { retry: options.retry, origin: Instant::now(), seed: shared.random_seed() };
        let mut lanes = Lanes::single(&limits, 0, lane_options);
        let mut aggregates = options.aggregation;
        if aggregates && !limits.key_routed {
            let problem = format!(
                "stream '{}' distributes its records itself (AUTO): it cannot be put to in aggregates, whose records \
                 belong to one shard",
                shared.client.name()
            );
            return Err(Error::Invalid { problem });
        }
        if aggregates || limits.write_quota.is_some() {
            match retry(shared.backoff(), || shared.client.shards()).await {
                Ok(shards) if !limits.key_routed => {
                    let open = shards.iter().filter(|shard| shard.is_open()).count();
                    lanes = Lanes::single(&limits, open, lane_options);
                }
                Ok(shards) => match Lanes::of_shards(&shards, &limits, lane_options, &mut lanes) {
                    Some(of_shards) => lanes = of_shards,
                    None => aggregates = false,
                },
                Err(error) if matches!(error.kind(), ErrorKind::AccessDenied | ErrorKind::Throttled) => {
                    let without = if aggregates { ", and without aggregates" } else { "" };
                    tracing::warn!(
                        "stream '{}': putting without knowing its shards{without} (they cannot be listed: {error})",
                        shared.client.name()
                    );
                    aggregates = false;
                }
                Err(error) => return Err(error),
            }
        }
        let order = match options.ordering {
            KeyOrder::Relaxed => Order::Relaxed,
            KeyOrder::PerKey if limits.ordered_batches => Order::ByCall,
            KeyOrder::PerKey if aggregates => Order::ByLane,
            KeyOrder::PerKey => Order::ByKey,
        };
        Ok(Self {
            limits,
            order,
            aggregates,
            lanes,
            lane_options,
            generation: 0,
            chains: Chains::default(),
            accepted: Vec::new(),
            tasks: JoinSet::new(),
            calls: Vec::new(),
            ready: 0,
            sendable: 0,
            due_before: None,
            reserved: None,
            freed: 0,
            epochs: VecDeque::new(),
            fences: Vec::new(),
            outage: Outage::new(shared.backoff()),
            strays: Vec::new(),
            listing: Listing::new(shared.backoff()),
            shared,
        })
    }

    /// Puts until the producer is closed and everything has its outcome.
    pub(super) async fn run(mut self) {
        loop {
            let is_closed = self.take_in();
            self.list_if_wanted();
            let wake = self.send();
            self.settle_fences();
            if is_closed && self.epochs.is_empty() {
                return;
            }
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                biased;
                done = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    let mut next = done;
                    while let Some(done) = next {
                        match done {
                            Ok((id, done)) => self.done(id, done),
                            Err(panicked) => {
                                let problem = format!("a call panicked ({panicked})");
                                let error = Error::Contract { backend: shared.client.name().into(), problem };
                                self.done(panicked.id(), Done::Call(Err(error)));
                            }
                        }
                        next = self.tasks.try_join_next_with_id();
                    }
                    self.give_back();
                }
                () = shared.wake.notified() => {}
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
    }

    /// Takes what was accepted into lanes and chains. Tells whether the producer is closed.
    fn take_in(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut accepted = std::mem::take(&mut self.accepted);
        let mut inbox = shared.inbox();
        let Inbox { records, reserved, fences, is_urgent, is_closed, .. } = &mut *inbox;
        std::mem::swap(records, &mut accepted);
        let is_closed = *is_closed;
        self.fences.append(fences);
        if let Some(reserved) = reserved.take() {
            match &mut self.reserved {
                Some(all) => all.merge(reserved),
                none => *none = Some(reserved),
            }
        }
        let is_urgent = std::mem::take(is_urgent);
        drop(inbox);
        if is_urgent {
            self.due_before = Some(Instant::now());
        }
        for pending in accepted.drain(..) {
            match self.epochs.back_mut() {
                Some((epoch, count)) if *epoch == pending.claim.epoch => *count += 1,
                _ => self.epochs.push_back((pending.claim.epoch, 1)),
            }
            if let Err(error) = self.limits.check_record(&pending.entry) {
                self.conclude(pending, Err(error));
                continue;
            }
            let first = if self.order == Order::ByKey { self.chains.join(pending) } else { Some(pending) };
            if let Some(pending) = first {
                self.enqueue(pending);
            }
        }
        if accepted.capacity() <= KEPT {
            self.accepted = accepted;
        }
        self.give_back();
        is_closed
    }

    fn enqueue(&mut self, pending: Pending) {
        self.ready += 1;
        let lane = self.lanes.route(&pending.entry);
        self.lanes.push_back(lane, pending);
    }

    fn requeue(&mut self, pending: Pending) {
        self.ready += 1;
        let lane = self.lanes.route(&pending.entry);
        match planted::is(Bug::NoOrderOnRetry) {
            true => self.lanes.push_back(lane, pending),
            false => self.lanes.push_front(lane, pending),
        }
    }

    /// Sends what may be sent. Answers when there may be more, if that is a matter of time.
    fn send(&mut self) -> Option<Instant> {
        loop {
            let now = Instant::now();
            if self.holds_back() || self.lanes.active.is_empty() {
                self.sleep_until_called(None);
                return None;
            }
            let wake = self.next_send(now);
            if wake > now {
                self.sleep_until_called(Some(wake));
                return Some(wake);
            }
            let loader = Loader::new(&self.limits, self.order, self.aggregates, now);
            let Some(call) = loader.load(&mut self.lanes, self.generation) else {
                // Every lane that looked ready is waiting for its next step.
                let wake = now + Duration::from_millis(1);
                self.sleep_until_called(Some(wake));
                return Some(wake);
            };
            self.ready -= call.wires.iter().map(Wire::len).sum::<usize>();
            let (client, entries) = (Arc::clone(&self.shared.client), call.entries.clone());
            let task = self.tasks.spawn(async move { Done::Call(client.put_batch(entries).await) });
            self.shared.metrics.calls.increment(1);
            self.calls.push((task.id(), call));
        }
    }

    /// Whether nothing may be sent before something has come back.
    fn holds_back(&self) -> bool {
        let waits_for_map = self.aggregates
            && (!self.strays.is_empty() || self.calls.iter().any(|(_, call)| call.generation < self.generation));
        self.calls.len() >= CALLS || (self.order == Order::ByCall && !self.calls.is_empty()) || waits_for_map
    }

    /// When the next call may be sent, by the linger, the lanes' paces and what has failed.
    fn next_send(&mut self, now: Instant) -> Instant {
        let all_is_full = self.is_full(self.ready, |_| true);
        self.sendable = self.ready;
        let mut now_is_full = all_is_full;
        if all_is_full {
            // What a shard has no room for ends nobody else's linger.
            let mut sendable = 0;
            for index in &self.lanes.active {
                let lane = &mut self.lanes.lanes[*index];
                lane.is_sendable = lane.sends_at(now) <= now && !(self.order == Order::ByLane && lane.in_flight > 0);
                sendable += if lane.is_sendable { lane.ready.len() } else { 0 };
            }
            self.sendable = sendable;
            now_is_full = self.is_full(sendable, |lane| lane.is_sendable);
        }
        let (linger, due_before, order) = (self.linger(), self.due_before, self.order);
        let outage = self.outage.until.unwrap_or(now);
        let sends_at = |lane: &usize| {
            let lane = &mut self.lanes.lanes[*lane];
            let first = lane.ready.front()?;
            if order == Order::ByLane && lane.in_flight > 0 {
                return None;
            }
            let (accepted, sends_at) = (first.claim.accepted, lane.sends_at(now));
            let is_full = if sends_at <= now { now_is_full } else { all_is_full };
            let is_due = is_full || due_before.is_some_and(|before| accepted <= before);
            let due = if is_due { now } else { accepted + linger };
            Some(due.max(sends_at))
        };
        let next = self.lanes.active.iter().filter_map(sends_at).min();
        // With nothing that may be sent at any time, an answer will wake.
        next.unwrap_or(now + LONG).max(outage)
    }

    fn linger(&self) -> Duration {
        // Times have an end.
        match self.order {
            // The next call has its company by the time that it is sent.
            Order::ByCall => Duration::ZERO,
            _ => self.shared.options.linger.min(LONG),
        }
    }

    /// Whether a call is full, or as good as.
    fn is_full(&self, records: usize, counts: impl Fn(&Lane) -> bool) -> bool {
        if !self.aggregates && records >= self.limits.max_entries {
            return true;
        }
        let lanes = self.lanes.active.iter().map(|lane| &self.lanes.lanes[*lane]);
        lanes.filter(|lane| counts(lane)).map(|lane| lane.ready_bytes).sum::<usize>() >= self.limits.max_call_bytes
    }

    /// Tells the inbox how many records are worth waking the driver for.
    fn sleep_until_called(&self, wake: Option<Instant>) {
        // A record that comes now is due after its linger: whoever sleeps longer, for another shard, is told of it.
        let due = Instant::now() + self.linger();
        let sees_it_in_time = !self.lanes.active.is_empty() && wake.is_none_or(|wake| wake <= due);
        let mut inbox = self.shared.inbox();
        // The first record starts the linger, and a full call ends it.
        inbox.wake_at = match sees_it_in_time {
            true => self.limits.max_entries.saturating_sub(self.sendable).max(1),
            false => 1,
        };
        if !inbox.records.is_empty() && (inbox.records.len() >= inbox.wake_at || inbox.is_urgent) {
            self.shared.wake.notify_one();
        }
    }

    fn done(&mut self, id: Id, done: Done) {
        if self.listing.under_way == Some(id) {
            self.listing.under_way = None;
            match done {
                Done::Listing(Ok(shards)) => self.take_map(&shards),
                Done::Listing(Err(error)) | Done::Call(Err(error)) => self.listing_failed(&error),
                Done::Call(Ok(_)) => {}
            }
            return;
        }
        let Some(place) = self.calls.iter().position(|(call, _)| *call == id) else { return };
        let (_, call) = self.calls.swap_remove(place);
        if let Done::Call(answer) = done {
            self.settle(call, answer);
        }
    }

    /// Gives back what the records that have their outcomes had reserved.
    fn give_back(&mut self) {
        let freed = std::mem::take(&mut self.freed);
        if let Some(reserved) = &mut self.reserved
            && freed > 0
        {
            drop(reserved.split(freed));
        }
        self.shared.metrics.budget_used.set(self.shared.options.budget.used() as f64);
    }

    /// Tells those who wait for everything before them.
    fn settle_fences(&mut self) {
        while self.epochs.front().is_some_and(|(_, count)| *count == 0) {
            self.epochs.pop_front();
        }
        let oldest = self.epochs.front().map(|(epoch, _)| *epoch);
        self.fences.retain(|fence| oldest.is_some_and(|oldest| oldest <= fence.epoch));
    }
}

/// Longer than anything is waited for.
const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Wire {
    /// Records in it.
    fn len(&self) -> usize {
        match &self.records {
            Records::One(_) => 1,
            Records::Packed(records) => records.len(),
        }
    }
}
