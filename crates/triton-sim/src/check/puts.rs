//! Checks of the puts: each ends exactly once, is stored in order, and is retried only while it may not be stored.

use std::sync::Arc;

use triton_core::{Error, PutEntry, PutReceipt, Result};

use crate::payload::{PutId, each_inner, id_of};
use crate::scenario::{Planned, Producing};
use crate::trace::{Ending, Event};

use super::{Log, StreamView};

/// The state of every put of a plan.
#[derive(Debug)]
pub(crate) struct Puts {
    plan: Arc<[Planned]>,
    is_ordered: bool,
    /// How long a record is retried after its first failure, in milliseconds.
    deadline: u64,
    states: Vec<State>,
    /// The newest put of each key that is stored.
    newest: Vec<Option<PutId>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    submitted_at: Option<u64>,
    queued_at: Option<u64>,
    in_flight: u32,
    failed_first_at: Option<u64>,
    /// Whether an attempt has failed after the deadline.
    is_late: bool,
    /// The result of the last attempt.
    answer: Option<AttemptResult>,
    copies: u32,
    end: Option<(u64, Ending)>,
}

/// The result of one attempt to put a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptResult {
    Stored,
    /// Stored in an aggregate of which a record belongs to another shard.
    Misrouted,
    Failed,
    /// Failed with an error that is not retryable.
    NotRetryable,
}

/// How long after the deadline a failed attempt may still be retried, in milliseconds.
const GRACE: u64 = 30_000;

impl Puts {
    pub(crate) fn new(plan: Arc<[Planned]>, keys: usize, producing: &Producing) -> Self {
        let states = vec![State::default(); plan.len()];
        let deadline = producing.deadline.as_millis() as u64;
        let is_ordered = producing.is_ordered;
        Self { plan, is_ordered, deadline, states, newest: vec![None; keys] }
    }

    /// Calls `each` with the id of every record of an entry.
    pub(crate) fn ids(entry: &PutEntry, mut each: impl FnMut(Option<PutId>)) {
        each_inner(&entry.partition_key, &entry.data, |inner, _| each(id_of(inner.data)));
    }

    /// Notes that a record is submitted to the producer.
    pub(crate) fn submitted(&mut self, id: PutId, log: &mut Log) {
        log.add(Event::Submitted { id });
        self.states[id as usize].submitted_at = Some(log.now);
    }

    /// Notes that the producer has queued a record.
    pub(crate) fn queued(&mut self, id: PutId, log: &Log) {
        self.states[id as usize].queued_at = Some(log.now);
    }

    /// Checks a record that the producer sends.
    pub(crate) fn sent(&mut self, id: PutId, call: u32, log: &mut Log) {
        log.add(Event::Sent { call, id });
        let Some(state) = self.states.get_mut(id as usize) else {
            log.violated(2, || format!("call {call} sends record {id}, which does not exist"));
            return;
        };
        state.in_flight += 1;
        if state.submitted_at.is_none() {
            log.violated(2, || format!("call {call} sends record {id} before it was submitted"));
        }
        if state.end.is_some() {
            log.violated(1, || format!("record {id} is sent by call {call} after it has ended"));
        } else if state.answer == Some(AttemptResult::Stored) {
            log.violated(2, || format!("record {id} is sent again by call {call} after it was acknowledged"));
        } else if state.answer == Some(AttemptResult::NotRetryable) {
            log.violated(2, || format!("record {id} is sent again by call {call} after a final error"));
        } else if state.is_late {
            log.violated(1, || {
                format!("record {id} is sent again by call {call} after it has failed after its deadline")
            });
        } else if state.in_flight > 1 {
            log.violated(2, || format!("record {id} is sent by call {call} while it is in flight"));
        }
    }

    /// Notes the result of an attempt.
    pub(crate) fn attempt_ended(&mut self, id: PutId, answer: AttemptResult, log: &Log) {
        if let Some(state) = self.states.get_mut(id as usize) {
            state.in_flight = state.in_flight.saturating_sub(1);
            if state.answer != Some(AttemptResult::Stored) {
                state.answer = Some(answer);
            }
            if answer == AttemptResult::Failed {
                let failed_first_at = *state.failed_first_at.get_or_insert(log.now);
                state.is_late |= log.now > failed_first_at + self.deadline + GRACE;
            }
        }
    }

    /// Checks an entry that is stored, possibly a duplicate.
    pub(crate) fn stored(&mut self, entry: &PutEntry, shard: u64, sequence: u64, call: u32, log: &mut Log) {
        each_inner(&entry.partition_key, &entry.data, |inner, _| {
            let Some(id) = id_of(inner.data) else { return };
            log.add(Event::Stored { call, id, shard, sequence });
            let Some(planned) = self.plan.get(id as usize) else { return };
            if inner.key != planned.entry.partition_key.as_str() || inner.data != planned.entry.data {
                log.violated(2, || format!("record {id} is stored with other content"));
            }
            let state = &mut self.states[id as usize];
            state.copies += 1;
            if state.copies > 1 {
                return;
            }
            let newest = &mut self.newest[planned.key as usize];
            match *newest {
                Some(later) if later > id => self.overtaken(id, log),
                _ => *newest = Some(id),
            }
        });
    }

    /// Checks a record that is stored after a later one of its key. This is correct only if the later one was queued
    /// after this one had failed.
    fn overtaken(&self, id: PutId, log: &mut Log) {
        if !self.is_ordered {
            return;
        }
        let planned = &self.plan[id as usize];
        let successors = (id as usize + 1..self.plan.len()).filter(|&later| self.plan[later].key == planned.key);
        let Some(overtaker) = successors.into_iter().find(|&later| self.states[later].copies > 0) else { return };
        let queued_at = self.states[overtaker].queued_at;
        match self.states[id as usize].end {
            Some((ended_at, Ending::Failed { may_have_written: true, .. })) if queued_at >= Some(ended_at) => {}
            _ => log.violated(3, || format!("record {id} of key {} is stored after {overtaker}", planned.key)),
        }
    }

    /// Checks the result of a put.
    pub(crate) fn ended(&mut self, id: PutId, result: &Result<PutReceipt>, view: StreamView<'_>, log: &mut Log) {
        let ending = match result {
            Ok(receipt) => Ending::Stored {
                shard: receipt.shard_id.number().unwrap_or(u64::MAX),
                sequence: u64::try_from(receipt.sequence_number).unwrap_or(u64::MAX),
            },
            Err(Error::PredecessorFailed { .. }) => Ending::PredecessorFailed,
            Err(error) => Ending::Failed { kind: error.kind(), may_have_written: error.may_have_written() },
        };
        log.add(Event::Ended { id, ending });
        if let Ending::Stored { shard, .. } = ending
            && !Self::is_there(id, result, shard as usize, view)
        {
            log.violated(2, || {
                format!("record {id} is not stored where it was acknowledged, or belongs to another shard: {ending:?}")
            });
        }
        let state = &mut self.states[id as usize];
        if state.end.replace((log.now, ending)).is_some() {
            log.violated(1, || format!("record {id} ended twice"));
        }
    }

    /// Whether a record is stored where its receipt says, and is delivered from there: consumers built on the Kinesis
    /// Client Library drop an aggregate if the hash key of one of its records belongs to another shard.
    fn is_there(id: PutId, result: &Result<PutReceipt>, shard: usize, view: StreamView<'_>) -> bool {
        let (Ok(receipt), Some(records), Some(shard)) = (result, view.records.get(shard), view.shards.get(shard))
        else {
            return false;
        };
        let Ok(index) = records.binary_search_by(|record| record.sequence_number.cmp(&receipt.sequence_number)) else {
            return false;
        };
        let (mut is_there, mut is_dropped) = (false, false);
        each_inner(&records[index].partition_key, &records[index].data, |inner, place| {
            is_there |= id_of(inner.data) == Some(id);
            is_dropped |= place.is_some() && !shard.hash_key_range.contains(inner.hash_key());
        });
        is_there && !is_dropped
    }

    /// Checks, after all producers are closed, that every put has ended.
    pub(crate) fn finish(&self, log: &mut Log) {
        for (id, state) in self.states.iter().enumerate() {
            match state.end {
                None => log.violated(1, || format!("record {id} did not end")),
                Some((_, Ending::Failed { may_have_written: false, .. } | Ending::PredecessorFailed))
                    if state.copies > 0 =>
                {
                    log.violated(2, || format!("record {id} failed as certainly not written, but is stored"));
                }
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use triton_core::{PartitionKey, Record, ShardId, ShardMap, Timestamp};

    use crate::payload::payload;

    const PRODUCING: Producing = Producing {
        seed: 1,
        producers: 1,
        is_ordered: true,
        is_aggregated: false,
        linger: Duration::ZERO,
        budget: 1_000_000,
        deadline: Duration::from_secs(10),
    };

    /// Two submitted puts of one key.
    struct Case {
        puts: Puts,
        log: Log,
        records: Vec<Vec<Record>>,
    }

    impl Case {
        fn new() -> Self {
            let entry = |id| PutEntry::new(PartitionKey::new("k").unwrap(), payload(id, 10));
            let plan: Vec<Planned> =
                (0..2).map(|id| Planned { at: Duration::ZERO, key: 0, producer: 0, entry: entry(id) }).collect();
            let mut case =
                Self { puts: Puts::new(plan.into(), 1, &PRODUCING), log: Log::default(), records: vec![Vec::new()] };
            for id in 0..2 {
                case.puts.submitted(id, &mut case.log);
                case.puts.queued(id, &case.log);
            }
            case
        }

        fn send(&mut self, id: PutId) {
            self.puts.sent(id, 1, &mut self.log);
        }

        fn store(&mut self, id: PutId, sequence: u64) -> Result<PutReceipt> {
            let entry = self.puts.plan[id as usize].entry.clone();
            let shard_id = ShardId::numbered(0);
            let (key, arrival) = (entry.partition_key.clone(), Timestamp::default());
            self.records[0].push(Record::new(shard_id.clone(), sequence.into(), key, arrival, entry.data.clone()));
            self.puts.stored(&entry, 0, sequence, 1, &mut self.log);
            self.puts.attempt_ended(id, AttemptResult::Stored, &self.log);
            Ok(PutReceipt::new(shard_id, sequence))
        }

        fn end(&mut self, id: PutId, result: &Result<PutReceipt>) {
            let map = ShardMap::uniform("clicks", 1, 1).unwrap();
            let view = StreamView { shards: map.shards(), records: &self.records };
            self.puts.ended(id, result, view, &mut self.log);
        }

        fn broken(&mut self) -> Vec<u8> {
            self.puts.finish(&mut self.log);
            self.log.violations.iter().map(|violation| violation.invariant).collect()
        }
    }

    fn failed(may_have_written: bool) -> Result<PutReceipt> {
        Err(Error::Unavailable { problem: "no".into(), may_have_written, source: None })
    }

    /// A case in which both are stored in order.
    fn good() -> Case {
        let mut case = Case::new();
        for id in 0..2 {
            case.send(id);
            let receipt = case.store(id, 5 + u64::from(id));
            case.end(id, &receipt);
        }
        case
    }

    #[test]
    fn correct_puts_violate_nothing() {
        assert_eq!(good().broken(), Vec::<u8>::new());
    }

    #[test]
    fn a_put_that_ends_twice_or_never() {
        let mut case = good();
        case.end(0, &failed(true));
        assert_eq!(case.broken(), [1]);
        assert_eq!(Case::new().broken(), [1, 1]);
    }

    #[test]
    fn a_receipt_of_another_record_and_a_failed_put_that_is_stored() {
        let mut case = good();
        let elsewhere = Ok(PutReceipt::new(ShardId::numbered(0), 6));
        case.puts.states[0].end = None;
        case.end(0, &elsewhere);
        assert_eq!(case.broken(), [2]);
        let mut case = Case::new();
        case.send(0);
        drop(case.store(0, 5));
        case.end(0, &failed(false));
        case.end(1, &failed(false));
        assert_eq!(case.broken(), [2]);
    }

    #[test]
    fn retries_of_records_in_flight_stored_or_ended() {
        let mut case = Case::new();
        case.send(0);
        case.send(0);
        let receipt = case.store(0, 5);
        case.send(0);
        case.end(0, &receipt);
        case.send(0);
        case.end(1, &failed(true));
        assert_eq!(case.broken(), [2, 2, 1]);
    }

    #[test]
    fn retries_after_a_final_error_or_the_deadline() {
        for (answer, broken) in [(AttemptResult::NotRetryable, 2), (AttemptResult::Failed, 1)] {
            let mut case = Case::new();
            for now in [0, 39_000, 41_000] {
                case.log.now = now;
                case.send(0);
                case.puts.attempt_ended(0, if now < 41_000 { AttemptResult::Failed } else { answer }, &case.log);
            }
            assert_eq!(case.log.violations, []);
            case.send(0);
            assert_eq!(case.log.violations.iter().map(|it| it.invariant).collect::<Vec<_>>(), [broken]);
        }
    }

    #[test]
    fn only_puts_queued_after_the_failure_may_overtake() {
        let run = |fails_first: bool| {
            let mut case = Case::new();
            case.send(0);
            case.log.now = 10;
            if fails_first {
                case.end(0, &failed(true));
                case.puts.queued(1, &case.log);
            }
            case.send(1);
            let receipt = case.store(1, 5);
            case.end(1, &receipt);
            let late = case.store(0, 6);
            if !fails_first {
                case.end(0, &late);
            }
            case.broken()
        };
        assert_eq!(run(true), Vec::<u8>::new());
        assert_eq!(run(false), [3]);
    }
}
