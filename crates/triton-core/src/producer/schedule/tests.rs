//! The schedule on a clock that is only counted, over a stream that is only remembered.

mod lists;
mod property;

use futures_util::FutureExt as _;

use super::*;
use crate::error::Error;
use crate::flow::RetryPolicy;
use crate::model::hash_key::HashKey;
use crate::model::shard::ShardId;
use crate::model::shard_map::ShardMap;
use crate::producer::outcome::Outcome;
use crate::producer::ticket::{SlotAllocator, Ticket};
use crate::record::PartitionKey;

/// A schedule, and what its caller knows.
struct Driven {
    schedule: Schedule,
    now: Instant,
    flush: FlushId,
    slots: SlotAllocator,
    tickets: Vec<Ticket>,
    /// Outcomes that were reported.
    reported: usize,
}

impl Driven {
    fn new(limits: Limits, options: &ProducerOptions, shards: Option<&[Shard]>) -> Self {
        let now = Instant::now();
        let schedule = Schedule::new("clicks", limits, options, shards, 1, now).unwrap();
        let (flush, slots) = (FlushId::default(), SlotAllocator::new());
        Self { schedule, now, flush, slots, tickets: Vec::new(), reported: 0 }
    }

    /// `k/1` is record 1 of key k.
    fn submit(&mut self, texts: &[&str]) {
        for text in texts {
            let key = PartitionKey::new(text.split('/').next().unwrap().to_owned()).unwrap();
            self.submit_entry(PutEntry::new(key, text.as_bytes().to_vec()));
        }
    }

    fn submit_entry(&mut self, entry: PutEntry) {
        let (slot, ticket) = self.slots.ticket();
        let record = SubmittedRecord { entry, slot, submitted_at: self.now, flush: self.flush };
        self.schedule.accept(std::iter::once(record));
        self.tickets.push(ticket);
    }

    fn advance(&mut self, time: Duration) {
        self.now += time;
    }

    /// What is sent now.
    fn sent(&mut self) -> Vec<(BatchId, Vec<String>)> {
        let texts = |entries: &[PutEntry]| {
            entries.iter().map(|entry| String::from_utf8_lossy(&entry.data).into_owned()).collect()
        };
        self.schedule.poll(self.now).batches.iter().map(|(id, entries)| (*id, texts(entries))).collect()
    }

    fn sent_one(&mut self) -> (BatchId, Vec<String>) {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    fn answer(&mut self, batch: BatchId, answer: Result<Vec<Result<PutReceipt>>>) {
        self.schedule.answered(batch, answer, self.now);
        self.report();
    }

    /// Resolves the tickets of what was decided.
    fn report(&mut self) {
        for outcome in self.schedule.report().outcomes.drain(..) {
            self.reported += 1;
            match outcome {
                Outcome::Acknowledged { slot, receipt } => slot.resolve(Ok(receipt)),
                Outcome::Failed(failure) => failure.slot.resolve(Err(failure.error)),
            }
        }
    }

    /// The outcome of the record that was submitted as number `index`, if it has one.
    fn outcome(&mut self, index: usize) -> Option<Result<PutReceipt>> {
        (&mut self.tickets[index]).now_or_never()
    }
}

fn options() -> ProducerOptions {
    ProducerOptions::default().with_linger(Duration::ZERO)
}

/// Kinesis, of whose shards nothing is known.
fn unordered() -> Limits {
    Limits::KINESIS.with_write_quota(None)
}

/// A backend that keeps the order of a call.
fn ordered() -> Limits {
    unordered().with_ordered_batches(true)
}

fn stored() -> Result<PutReceipt> {
    Ok(PutReceipt::new(ShardId::numbered(0), 1))
}

fn throttled() -> Error {
    Error::Throttled { problem: "full".into() }
}

fn lost() -> Error {
    Error::Unavailable { problem: "no answer".into(), may_have_written: true, source: None }
}

/// Not worth another attempt, and maybe written.
fn torn() -> Error {
    Error::Storage { file: "f".into(), problem: "torn".into(), may_have_written: true, source: None }
}

#[test]
fn a_record_lingers_unless_its_batch_is_full_or_a_caller_waits() {
    let linger = Duration::from_millis(50);
    let mut driven = Driven::new(unordered().with_max_entries(3), &options().with_linger(linger), None);
    driven.submit(&["a/1"]);
    let poll = driven.schedule.poll(driven.now);
    assert!(poll.batches.is_empty());
    assert_eq!((poll.wake, poll.wake_for), (Some(driven.now + linger), 2), "two more fill the batch");
    driven.advance(Duration::from_millis(20));
    driven.submit(&["b/1"]);
    assert!(driven.sent().is_empty());
    driven.advance(Duration::from_millis(30));
    assert_eq!(driven.sent_one().1, ["a/1", "b/1"]);
    driven.submit(&["c/1", "d/1", "e/1", "f/1"]);
    assert_eq!(driven.sent_one().1, ["c/1", "d/1", "e/1"]);
    driven.schedule.hurry(driven.now);
    assert_eq!(driven.sent_one().1, ["f/1"]);
}

#[test]
fn without_order_inside_a_call_one_record_of_a_key_is_in_flight() {
    let mut driven = Driven::new(unordered(), &options(), None);
    driven.submit(&["a/1", "a/2", "b/1"]);
    let (first, texts) = driven.sent_one();
    assert_eq!(texts, ["a/1", "b/1"]);
    driven.submit(&["a/3", "c/1"]);
    let (second, texts) = driven.sent_one();
    assert_eq!(texts, ["c/1"]);
    driven.answer(first, Ok(vec![stored(), stored()]));
    assert_eq!(driven.sent_one().1, ["a/2"]);
    driven.answer(second, Ok(vec![stored()]));
    assert!(driven.sent().is_empty());
}

#[test]
fn with_order_inside_a_call_one_batch_is_in_flight() {
    let mut driven = Driven::new(ordered(), &options(), None);
    driven.submit(&["a/1", "a/2"]);
    let (first, texts) = driven.sent_one();
    assert_eq!(texts, ["a/1", "a/2"]);
    driven.submit(&["b/1"]);
    assert!(driven.sent().is_empty());
    driven.answer(first, Ok(vec![stored(), stored()]));
    assert_eq!(driven.sent_one().1, ["b/1"]);
}

#[test]
fn aggregates_of_one_shard_follow_each_other_and_of_two_shards_do_not() {
    let shards = ShardMap::uniform("clicks", 2, 0).unwrap();
    let mut driven = Driven::new(unordered(), &options().with_aggregation(true), Some(shards.shards()));
    let keys = ["a/1", "b/1", "c/1", "d/1", "e/1", "f/1"];
    driven.submit(&keys);
    let (first, entries) = driven.sent_one();
    assert_eq!(entries.len(), 2, "one aggregate per shard");
    driven.submit(&keys);
    assert!(driven.sent().is_empty());
    let receipt = |shard| Ok(PutReceipt::new(ShardId::numbered(shard), 1));
    // The first of the two is of the shard of "a".
    let shard_of_a = u64::from(PartitionKey::new("a").unwrap().hash_key() >= HashKey(1 << 127));
    driven.answer(first, Ok(vec![receipt(shard_of_a), Err(throttled())]));
    let (_, entries) = driven.sent_one();
    assert_eq!(entries.len(), 1, "the throttled shard waits");
}

#[test]
fn a_record_before_one_that_failed_is_sent_again_and_those_behind_fail_with_it() {
    let mut driven = Driven::new(ordered(), &options(), None);
    driven.submit(&["a/1", "a/2", "a/3", "b/1"]);
    let (batch, _) = driven.sent_one();
    driven.submit(&["a/4", "b/2"]);
    driven.answer(batch, Ok(vec![Err(throttled()), Err(torn()), Err(throttled()), Err(throttled())]));
    assert!(matches!(driven.outcome(1), Some(Err(Error::Storage { .. }))));
    for dependent in [2, 4] {
        assert!(matches!(driven.outcome(dependent), Some(Err(Error::PredecessorFailed { .. }))), "{dependent}");
    }
    driven.advance(Duration::from_secs(1));
    assert_eq!(driven.sent_one().1, ["a/1", "b/1", "b/2"]);
}

#[test]
fn a_producer_that_may_overtake_fails_no_dependents() {
    let mut driven = Driven::new(ordered(), &options().with_fail_dependents(false), None);
    driven.submit(&["a/1", "a/2"]);
    let (batch, _) = driven.sent_one();
    driven.answer(batch, Ok(vec![Err(torn()), stored()]));
    assert!(matches!(driven.outcome(1), Some(Ok(_))));
}

#[test]
fn a_failed_call_fails_its_records_and_the_queued_ones_of_their_keys() {
    let mut driven = Driven::new(ordered().with_max_entries(100), &options(), None);
    let texts: Vec<String> = (0..300).map(|n| format!("k{}/{n}", n % 150)).collect();
    driven.submit(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let (batch, _) = driven.sent_one();
    driven.answer(batch, Err(torn()));
    for number in 0..300 {
        let outcome = driven.outcome(number);
        match number {
            0..100 => assert!(matches!(outcome, Some(Err(Error::Storage { .. }))), "{number}"),
            150..250 => assert!(matches!(outcome, Some(Err(Error::PredecessorFailed { .. }))), "{number}"),
            _ => assert!(outcome.is_none(), "{number}"),
        }
    }
}

#[test]
fn after_three_failed_calls_nothing_is_sent_for_a_while() {
    let mut driven = Driven::new(unordered().with_max_entries(1), &options(), None);
    driven.submit(&["a/1", "b/1", "c/1"]);
    let sent = driven.sent();
    assert_eq!(sent.len(), 3);
    for (batch, _) in sent {
        driven.answer(batch, Err(lost()));
    }
    let poll = driven.schedule.poll(driven.now);
    assert!(poll.batches.is_empty() && poll.wake > Some(driven.now));
    driven.now = poll.wake.unwrap();
    assert_eq!(driven.sent().len(), 3, "then each is tried again");
}

#[test]
fn what_is_abandoned_ends_as_it_stands() {
    let mut driven = Driven::new(unordered().with_max_entries(2), &options(), None);
    driven.submit(&["a/1", "b/1", "a/2"]);
    let _in_flight = driven.sent_one();
    driven.schedule.abandon();
    driven.report();
    let may_have_written = |outcome: Option<Result<PutReceipt>>| match outcome {
        Some(Err(Error::Closed { may_have_written })) => may_have_written,
        outcome => panic!("{outcome:?}"),
    };
    assert_eq!([0, 1, 2].map(|index| may_have_written(driven.outcome(index))), [true, true, false]);
    assert!(driven.schedule.is_empty());
}

#[test]
fn a_flush_is_open_while_a_record_before_it_has_no_outcome() {
    let mut driven = Driven::new(unordered(), &options(), None);
    driven.submit(&["a/1"]);
    let flush = driven.flush.advance();
    driven.submit(&["b/1"]);
    let (batch, _) = driven.sent_one();
    assert_eq!(driven.schedule.oldest_flush(), Some(flush));
    driven.answer(batch, Ok(vec![stored(), Err(throttled())]));
    assert_eq!(driven.schedule.oldest_flush(), Some(driven.flush));
}
