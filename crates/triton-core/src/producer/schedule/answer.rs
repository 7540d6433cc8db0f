//! What an answer means: each record's outcome, or another try.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::flow::Backoff;
use crate::planted::{self, Bug};
use crate::record::{PutEntry, PutReceipt};

use super::Driver;
use crate::producer::call::{Call, Order, Records, Wire};
use crate::producer::chain::ChainId;
use crate::producer::cost;
use crate::producer::lane::{Lane, Pending};

/// After so many failed calls in a row it is not a shard that fails, but the way there.
const OUTAGE: u32 = 3;

/// Whether calls fail one after the other, whatever shards they are for.
#[derive(Debug)]
pub(super) struct Outage {
    failures: u32,
    pub(super) until: Option<Instant>,
    backoff: Backoff,
}

impl Outage {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { failures: 0, until: None, backoff }
    }

    fn failed(&mut self, now: Instant) {
        self.failures += 1;
        if self.failures >= OUTAGE && self.until.is_none_or(|until| until <= now) {
            self.until = Some(now + self.backoff.next_wait());
        }
    }

    fn ended(&mut self) {
        if self.failures > 0 {
            (self.failures, self.until) = (0, None);
            self.backoff.reset();
        }
    }
}

/// What became of a lane's part of a call.
#[derive(Debug, Default)]
struct Tally {
    bytes: usize,
    count: usize,
    throttled: usize,
    failure: Option<Error>,
}

impl Tally {
    fn add(&mut self, answer: &Result<PutReceipt>, entry: &PutEntry) {
        match answer {
            Ok(_) => {
                self.bytes += entry.size();
                self.count += 1;
            }
            Err(error) => {
                self.throttled += usize::from(error.kind() == ErrorKind::Throttled);
                self.failure = Some(error.clone());
            }
        }
    }
}

impl Driver {
    /// Gives each record of a call its outcome, or sends it again.
    pub(super) fn settle(&mut self, call: Call, answer: Result<Vec<Result<PutReceipt>>>) {
        let now = Instant::now();
        let count = call.wires.len();
        let retries_all = planted::is(Bug::WholeBatchAgain)
            && answer
                .as_ref()
                .is_ok_and(|answers| answers.iter().any(|answer| answer.as_ref().is_err_and(Error::is_retryable)));
        match &answer {
            Err(error) if error.kind() == ErrorKind::Unavailable => self.outage.failed(now),
            _ => self.outage.ended(),
        }
        let mut answers = match answer {
            Ok(answers) if answers.len() == count => answers,
            Ok(answers) => {
                let problem = format!("{} results for {count} entries", answers.len());
                vec![Err(Error::Contract { backend: self.shared.client.name().into(), problem }); count]
            }
            Err(error) => vec![Err(error); count],
        };
        if planted::is(Bug::WrongEntry) && count > 1 {
            answers.rotate_right(1);
        }
        if retries_all {
            answers = vec![Err(Error::Throttled { problem: "planted".into() }); count];
        }
        let is_current = call.generation == self.generation;
        let mut tallies: Vec<(usize, Tally)> = Vec::new();
        let mut failed = Vec::new();
        let Call { entries, wires, .. } = call;
        // The task that had the other hold on them has ended.
        let entries = entries.into_vec();
        for ((wire, entry), answer) in wires.into_iter().zip(entries).zip(answers) {
            if is_current {
                // What a call has of a lane stands together.
                if tallies.last().is_none_or(|(lane, _)| *lane != wire.lane) {
                    tallies.push((wire.lane, Tally::default()));
                }
                if let Some((_, tally)) = tallies.last_mut() {
                    tally.add(&answer, &entry);
                }
                self.lanes.lanes[wire.lane].in_flight -= 1;
            }
            match answer {
                Ok(receipt) => self.stored(wire, entry, receipt, is_current),
                Err(error) => failed.push((wire, entry, error)),
            }
        }
        for (lane, tally) in tallies {
            self.learn(lane, &tally, now);
        }
        // From the last on, so that each stands before those that were behind it.
        for (wire, entry, error) in failed.into_iter().rev() {
            self.failed(wire, entry, &error, now);
        }
        self.expire(now);
    }

    fn learn(&mut self, lane: usize, tally: &Tally, now: Instant) {
        let lane = &mut self.lanes.lanes[lane];
        if let Some(pace) = &mut lane.pace {
            pace.accepted(now, tally.bytes, tally.count);
            if tally.throttled > 0 {
                pace.refused(now, tally.throttled);
            }
        }
        self.shared.metrics.throttled.increment(tally.throttled as u64);
        if tally.count > 0 {
            lane.succeeded();
        }
        if let Some(error) = &tally.failure {
            tracing::debug!(%error, "sending again");
            // What was sent before the lane was blocked says nothing new.
            if lane.blocked_until.is_none_or(|until| until <= now) {
                lane.block(now);
            }
            if tally.count == 0 {
                lane.failing_since.get_or_insert(now);
            }
            lane.last_error = Some(error.clone());
        }
    }

    fn stored(&mut self, wire: Wire, entry: PutEntry, receipt: PutReceipt, is_current: bool) {
        let expected = if is_current { self.lanes.lanes[wire.lane].shard.as_ref() } else { None };
        let is_stray =
            expected.is_some_and(|expected| *expected != receipt.shard_id) || (!is_current && self.aggregates);
        if is_stray {
            self.listing.is_wanted = true;
        }
        match wire.records {
            Records::One(claim) => self.acknowledge(Pending { entry, claim }, receipt),
            // It may have landed where some of its records do not belong: the map will tell.
            Records::Packed(records) if is_stray => self.strays.push((receipt, records)),
            Records::Packed(records) => {
                for pending in records {
                    self.acknowledge(pending, receipt.clone());
                }
            }
        }
    }

    pub(super) fn acknowledge(&mut self, pending: Pending, receipt: PutReceipt) {
        if self.order == Order::ByKey {
            let (is_inverted, next) = self.chains.stored(pending.claim.chain, receipt.sequence_number);
            if is_inverted {
                self.shared.metrics.inversions.increment(1);
                tracing::warn!(
                    key = %pending.entry.partition_key, sequence_number = %receipt.sequence_number,
                    "stored before an earlier record of its key"
                );
            }
            if let Some(next) = next {
                self.enqueue(next);
            }
        }
        self.conclude(pending, Ok(receipt));
    }

    /// Lets the next record of a chain go.
    fn go_on(&mut self, chain: ChainId) {
        if let Some(next) = self.chains.next(chain) {
            self.enqueue(next);
        }
    }

    fn failed(&mut self, wire: Wire, entry: PutEntry, error: &Error, now: Instant) {
        let records = match wire.records {
            Records::One(claim) => vec![Pending { entry, claim }],
            Records::Packed(records) => records,
        };
        for mut pending in records.into_iter().rev() {
            pending.claim.is_uncertain |= error.may_have_written();
            pending.claim.place.may_have_written = pending.claim.is_uncertain;
            if !error.is_retryable() {
                self.fail(pending, error.clone());
                continue;
            }
            pending.claim.failing_since.get_or_insert(now);
            if planted::is(Bug::NoOrderOnRetry) && self.order == Order::ByKey {
                self.go_on(pending.claim.chain);
            }
            self.requeue(pending);
        }
    }

    /// Fails what has been failing for so long that another try would come too late.
    fn expire(&mut self, now: Instant) {
        let deadline = self.shared.options.retry.deadline;
        // Only where something expired may what stood behind it expire as well.
        let mut again: Option<Vec<usize>> = None;
        loop {
            let mut expired = Vec::new();
            let mut lanes = Vec::new();
            for place in 0..again.as_ref().map_or(self.lanes.lanes.len(), Vec::len) {
                let index = again.as_ref().map_or(place, |again| again[place]);
                let lane = &mut self.lanes.lanes[index];
                let Some(error) = &lane.last_error else { continue };
                let lane_since = lane.failing_since;
                let until = lane.blocked_until.max(self.outage.until).unwrap_or(now);
                let is_late = |since: Instant| {
                    now.saturating_duration_since(since).saturating_add(until.saturating_duration_since(now))
                        >= deadline
                };
                let error = error.clone();
                // What has failed stands in front.
                let mut failing = lane.ready.iter().map_while(|pending| pending.claim.failing_since);
                if !lane_since.is_some_and(is_late) && !failing.any(is_late) {
                    continue;
                }
                let late = lane.extract(|pending| {
                    pending.claim.failing_since.is_some_and(is_late)
                        || lane_since.is_some_and(|since| is_late(since.max(pending.claim.accepted)))
                });
                lanes.push(index);
                expired.extend(late.into_iter().map(|pending| (pending, error.clone())));
            }
            if expired.is_empty() {
                return;
            }
            self.ready -= expired.len();
            for (pending, error) in expired {
                self.fail(pending, error);
            }
            again = Some(lanes);
        }
    }

    /// Fails a record, and those behind it that it could be overtaken by.
    fn fail(&mut self, pending: Pending, error: Error) {
        let withholds = pending.claim.is_uncertain && self.shared.options.withholds;
        let (chain, key) = (pending.claim.chain, pending.entry.partition_key.clone());
        self.conclude_failed(pending, error.clone());
        let behind = match self.order {
            Order::ByKey if withholds => self.chains.take(chain, &key),
            Order::ByCall | Order::ByLane if withholds => {
                let of_key =
                    |lane: &mut Lane| lane.extract(|it| it.claim.chain == chain && it.entry.partition_key == key);
                let behind: VecDeque<Pending> = self.lanes.lanes.iter_mut().flat_map(of_key).collect();
                self.ready -= behind.len();
                behind
            }
            _ => VecDeque::new(),
        };
        for pending in behind {
            match pending.claim.is_uncertain {
                // It was sent itself, in the same aggregate.
                true => self.conclude_failed(pending, error.clone()),
                false => self.conclude(pending, Err(Error::PredecessorFailed { source: Box::new(error.clone()) })),
            }
        }
        if self.order == Order::ByKey {
            self.go_on(chain);
        }
    }

    /// An error says that the record may have been written if any of its own tries may have, and only then.
    fn conclude_failed(&mut self, pending: Pending, error: Error) {
        let error = match (pending.claim.is_uncertain, error.may_have_written()) {
            (true, false) => {
                let problem = "an earlier try had no answer, the last one failed".to_owned();
                Error::Unavailable { problem, may_have_written: true, source: Some(Arc::new(error)) }
            }
            (false, true) => {
                let problem = "not sent: the stream took nothing for too long".to_owned();
                Error::Unavailable { problem, may_have_written: false, source: Some(Arc::new(error)) }
            }
            _ => error,
        };
        self.conclude(pending, Err(error));
    }

    /// Gives a record its outcome.
    pub(super) fn conclude(&mut self, pending: Pending, outcome: Result<PutReceipt>) {
        self.freed += cost(&pending.entry);
        if let Ok(place) = self.epochs.binary_search_by_key(&pending.claim.epoch, |(epoch, _)| *epoch) {
            self.epochs[place].1 -= 1;
        }
        self.shared.conclude(pending.entry, pending.claim.place, outcome);
    }
}
