//! Faults that no server shows on demand, by a client that answers from a script.

mod closing;
mod edges;
mod intake;
mod lists;
mod shards;

use std::sync::Mutex;

use tokio::time::Instant;

use super::*;
use crate::Timestamp;
use crate::backend::ShardReader;
use crate::flow::RetryPolicy;
use crate::model::position::Position;
use crate::model::shard::{Shard, ShardId};
use crate::record::Entries;
use crate::record::PartitionKey;

/// What a call is answered, by its number from 1 and its entries.
type Answer = Box<dyn Fn(usize, &[PutEntry]) -> Result<Vec<Result<PutReceipt>>> + Send + Sync>;

/// Answers call by call; keeps what each call held.
struct Scripted {
    limits: Limits,
    answer: Answer,
    /// Time from a call to its answer.
    latency: Duration,
    calls: Mutex<Vec<Vec<String>>>,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("scripted")
    }
}

impl Scripted {
    /// A producer over a script, and the script to be asked.
    fn shared(limits: Limits, answer: Answer, options: ProducerOptions) -> (Producer, Arc<Self>) {
        Self::built(limits, answer, |builder| builder.options(options.with_seed(1)))
    }

    /// The same, of a producer that is given more than options.
    fn built(
        limits: Limits,
        answer: Answer,
        with: impl FnOnce(ProducerBuilder) -> ProducerBuilder,
    ) -> (Producer, Arc<Self>) {
        let scripted = Arc::new(Self { limits, answer, latency: Duration::ZERO, calls: Mutex::default() });
        (with(Producer::builder(Arc::clone(&scripted) as Arc<dyn StreamClient>)).build(), scripted)
    }

    fn calls(&self) -> Vec<Vec<String>> {
        self.calls.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

#[async_trait::async_trait]
impl StreamClient for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    async fn created_at(&self) -> Result<Timestamp> {
        Ok(Timestamp::default())
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        Ok(Vec::new())
    }

    async fn put_batch(&self, entries: Entries) -> Result<Vec<Result<PutReceipt>>> {
        let count = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(entries.iter().map(|entry| String::from_utf8(entry.data.to_vec()).unwrap()).collect());
            calls.len()
        };
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        (self.answer)(count, &entries)
    }

    async fn open_shard(&self, shard: &ShardId, _: Position) -> Result<Box<dyn ShardReader>> {
        Err(Error::ShardNotFound { shard: shard.clone(), stream: "scripted".into() })
    }

    async fn limits(&self) -> Result<Limits> {
        Ok(self.limits)
    }
}

/// What came of it: the calls, and an outcome an entry.
struct Ran {
    calls: Vec<Vec<String>>,
    outcomes: Vec<Result<PutReceipt>>,
}

async fn run(limits: Limits, texts: &[&str], answer: Answer) -> Ran {
    let (producer, scripted) = Scripted::shared(limits, answer, ProducerOptions::default());
    let outcomes = producer.put_all(texts.iter().map(|text| entry(text)).collect::<Vec<_>>()).await;
    Ran { calls: scripted.calls(), outcomes }
}

/// `k/1` is record 1 of key k.
fn entry(text: &str) -> PutEntry {
    let key = text.split('/').next().unwrap().to_owned();
    PutEntry::new(PartitionKey::new(key).unwrap(), text.as_bytes().to_vec())
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

fn in_order() -> Limits {
    Limits::KINESIS.with_ordered_batches(true)
}

#[tokio::test(start_paused = true)]
async fn only_what_failed_is_sent_again() {
    let answer = |call, entries: &[PutEntry]| {
        Ok(entries
            .iter()
            .map(|entry| if call == 1 && entry.data == "b/1" { Err(throttled()) } else { stored() })
            .collect())
    };
    let ran = run(Limits::KINESIS, &["a/1", "b/1", "c/1"], Box::new(answer)).await;
    assert_eq!(ran.calls, [vec!["a/1", "b/1", "c/1"], vec!["b/1"]]);
    assert!(ran.outcomes.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn a_key_has_one_record_in_a_call_that_may_be_reordered() {
    let answer = |_, entries: &[PutEntry]| Ok(entries.iter().map(|_| stored()).collect());
    let texts = ["a/1", "a/2", "b/1", "a/3", "b/2"];
    let ran = run(Limits::KINESIS, &texts, Box::new(answer)).await;
    assert_eq!(ran.calls, [vec!["a/1", "b/1"], vec!["a/2", "b/2"], vec!["a/3"]]);
    let ran = run(in_order(), &texts, Box::new(answer)).await;
    assert_eq!(ran.calls, [texts.to_vec()], "a call that keeps its order needs no such care");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_record_delays_only_its_own_key() {
    let answer = |call, entries: &[PutEntry]| {
        Ok(entries
            .iter()
            .map(|entry| if call < 3 && entry.data == "a/1" { Err(throttled()) } else { stored() })
            .collect())
    };
    let ran = run(Limits::KINESIS, &["a/1", "a/2", "b/1", "b/2"], Box::new(answer)).await;
    assert_eq!(ran.calls, [vec!["a/1", "b/1"], vec!["a/1", "b/2"], vec!["a/1"], vec!["a/2"]]);
}

#[tokio::test(start_paused = true)]
async fn calls_are_cut_at_the_limits() {
    let answer = |_, entries: &[PutEntry]| Ok(entries.iter().map(|_| stored()).collect());
    let texts: Vec<String> = (0..1200).map(|n| format!("k{n}/1")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let ran = run(Limits::KINESIS, &texts, Box::new(answer)).await;
    assert_eq!(ran.calls.iter().map(Vec::len).collect::<Vec<_>>(), [500, 500, 200]);
    // An entry of "k10/1" counts 5 bytes and its key's 3.
    let ran = run(in_order().with_max_call_bytes(17), &["k10/1", "k11/1", "k12/1"], Box::new(answer)).await;
    assert_eq!(ran.calls, [vec!["k10/1", "k11/1"], vec!["k12/1"]]);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_two_minutes_fails_with_the_cause() {
    let started = Instant::now();
    let answer = |_, entries: &[PutEntry]| Ok(entries.iter().map(|_| Err(throttled())).collect());
    let ran = run(in_order(), &["a/1", "b/1"], Box::new(answer)).await;
    for outcome in ran.outcomes {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Throttled { .. }) && !error.may_have_written());
    }
    assert!((110..=121).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    assert!(ran.calls.len() > 20 && ran.calls.len() < 200, "{} calls", ran.calls.len());
}

#[tokio::test(start_paused = true)]
async fn a_hot_key_fails_alone() {
    let answer = |_, entries: &[PutEntry]| {
        Ok(entries
            .iter()
            .map(|entry| if entry.data.starts_with(b"hot") { Err(throttled()) } else { stored() })
            .collect())
    };
    let texts = ["hot/1", "a/1", "a/2", "a/3"];
    let ran = run(Limits::KINESIS, &texts, Box::new(answer)).await;
    assert_eq!(ran.outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, true, true]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_refused_for_long_fails_even_while_others_are_taken() {
    let answer = |_, entries: &[PutEntry]| {
        Ok(entries.iter().map(|entry| if entry.data == "hot/1" { Err(throttled()) } else { stored() }).collect())
    };
    let (producer, _) = Scripted::shared(Limits::KINESIS, Box::new(answer), ProducerOptions::default());
    let started = Instant::now();
    let hot = tokio::spawn(producer.submit(entry("hot/1")).await.unwrap());
    for second in 0..150 {
        producer.put_all([entry(&format!("k{second}/1"))]).await.remove(0).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let is_over = (110..=121).contains(&started.elapsed().as_secs());
        assert!(is_over || hot.is_finished() == (started.elapsed().as_secs() > 121), "after {second} s");
    }
    assert!(matches!(hot.await.unwrap(), Err(Error::Throttled { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_remembered_when_a_later_try_fails_for_sure() {
    let answer = |call, entries: &[PutEntry]| match call {
        1 => Err(lost()),
        _ => Ok(entries.iter().map(|_| Err(Error::Invalid { problem: "no".into() })).collect()),
    };
    let ran = run(in_order(), &["a/1"], Box::new(answer)).await;
    let error = ran.outcomes.into_iter().next().unwrap().unwrap_err();
    assert!(error.may_have_written(), "{error:?}");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "no");
}

fn torn() -> Error {
    Error::Storage { file: "f".into(), problem: "torn".into(), may_have_written: true, source: None }
}

#[tokio::test(start_paused = true)]
async fn a_dependent_that_is_still_in_the_inbox_fails_with_its_predecessor() {
    let answer = |_: usize, entries: &[PutEntry]| {
        Ok(entries.iter().map(|entry| if entry.data == "a/1" { Err(torn()) } else { stored() }).collect())
    };
    let latency = Duration::from_secs(1);
    let scripted =
        Arc::new(Scripted { limits: in_order(), answer: Box::new(answer), latency, calls: Mutex::default() });
    let producer = Producer::new(Arc::clone(&scripted) as Arc<dyn StreamClient>, ProducerOptions::default());
    let first = producer.submit(entry("a/1")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Queued behind the call in flight; the records after it are not worth waking the task for.
    let other = producer.submit(entry("b/1")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let dependent = producer.submit(entry("a/2")).await.unwrap();
    assert!(first.await.unwrap_err().may_have_written());
    assert!(matches!(dependent.await, Err(Error::PredecessorFailed { .. })));
    assert!(other.await.is_ok());
    assert_eq!(scripted.calls(), [vec!["a/1"], vec!["b/1"]]);
}

#[tokio::test(start_paused = true)]
async fn the_successors_of_a_record_that_may_still_be_written_fail_with_it() {
    let answer = move |_, entries: &[PutEntry]| {
        Ok(entries.iter().map(|entry| if entry.data == "a/1" { Err(torn()) } else { stored() }).collect())
    };
    let ran = run(Limits::KINESIS, &["a/1", "a/2", "b/1", "b/2", "a/3"], Box::new(answer)).await;
    assert_eq!(ran.calls, [vec!["a/1", "b/1"], vec!["b/2"]]);
    assert!(matches!(ran.outcomes[1], Err(Error::PredecessorFailed { .. })));
    assert!(matches!(ran.outcomes[4], Err(Error::PredecessorFailed { .. })));
    assert!(!ran.outcomes[4].as_ref().unwrap_err().may_have_written());
    assert!(ran.outcomes[2].is_ok() && ran.outcomes[3].is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_wrong_number_of_results_is_a_broken_contract() {
    let answer = |_, entries: &[PutEntry]| Ok(entries.iter().skip(1).map(|_| stored()).collect());
    let ran = run(in_order(), &["a/1", "b/1"], Box::new(answer)).await;
    for outcome in &ran.outcomes {
        let error = outcome.as_ref().unwrap_err();
        assert_eq!(error.to_string(), "scripted broke its contract: 1 results for 2 entries");
        assert!(error.may_have_written() && !error.is_retryable());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_was_never_written() {
    let answer = |_, _: &[PutEntry]| Err(lost());
    let ran = run(in_order().with_max_entries(1), &["a/1", "b/1"], Box::new(answer)).await;
    assert!(ran.calls.iter().all(|call| call == &["a/1"]));
    let uncertain: Vec<bool> =
        ran.outcomes.iter().map(|outcome| outcome.as_ref().unwrap_err().may_have_written()).collect();
    assert_eq!(uncertain, [true, false]);
}

#[tokio::test(start_paused = true)]
async fn with_no_time_for_retries_each_record_is_still_sent_once() {
    let answer = |_, entries: &[PutEntry]| {
        Ok(entries.iter().map(|entry| if entry.data == "b/1" { Err(throttled()) } else { stored() }).collect())
    };
    let retry = RetryPolicy::default().with_deadline(Duration::ZERO);
    let options = ProducerOptions::default().with_retry(retry);
    let (producer, _) = Scripted::shared(in_order().with_max_entries(2), Box::new(answer), options);
    let outcomes = producer.put_all(["a/1", "b/1", "c/1", "d/1"].map(entry)).await;
    assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, true]);
}

#[tokio::test(start_paused = true)]
async fn a_whole_call_that_failed_is_sent_again_as_it_was() {
    let answer = |call, entries: &[PutEntry]| match call {
        1 => Err(lost()),
        _ => Ok(entries.iter().map(|_| stored()).collect()),
    };
    let ran = run(in_order(), &["a/1", "a/2"], Box::new(answer)).await;
    assert_eq!(ran.calls, [vec!["a/1", "a/2"], vec!["a/1", "a/2"]]);
    assert!(ran.outcomes.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn no_entries_make_no_call() {
    let ran = run(in_order(), &[], Box::new(|_, _| Err(lost()))).await;
    assert!(ran.calls.is_empty() && ran.outcomes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn limits_that_cannot_be_had_fail_every_entry() {
    let mut client = crate::backend::MockStreamClient::new();
    client.expect_name().return_const("mock".to_owned());
    client.expect_limits().returning(|| Err(lost()));
    let retry = RetryPolicy::default().with_deadline(Duration::from_secs(1));
    let producer = Producer::new(Arc::new(client), ProducerOptions::default().with_retry(retry).with_seed(1));
    let outcomes = producer.put_all([entry("a/1"), entry("b/1")]).await;
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.iter().all(Result::is_err));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_stays_within_its_budget_whether_tickets_are_awaited_or_dropped() {
    const RECORDS: usize = 200_000;
    for awaits in [true, false] {
        let answer = |_, entries: &[PutEntry]| Ok(entries.iter().map(|_| stored()).collect());
        let limits = Limits::KINESIS.with_write_quota(None);
        let (producer, _) = Scripted::built(limits, Box::new(answer), |with| with.budget(Budget::new(1 << 20)));
        let mut held = std::collections::VecDeque::new();
        for number in 0..RECORDS {
            let ticket = producer.submit(entry(&format!("k{}/1", number % 1_000))).await.unwrap();
            if awaits {
                held.push_back(ticket);
            }
            if held.len() > 10_000 {
                held.pop_front().unwrap().await.unwrap();
            }
        }
        let budget = producer.budget().clone();
        let closed = producer.close().await.unwrap();
        assert_eq!((closed.acknowledged, closed.failed), (RECORDS as u64, 0));
        for ticket in held {
            ticket.await.unwrap();
        }
        assert!(budget.peak() <= budget.bytes(), "{} of {}", budget.peak(), budget.bytes());
        assert!(budget.peak() > budget.bytes() / 2, "the budget was not what bounded it: {}", budget.peak());
        assert_eq!(budget.used(), 0);
    }
}
