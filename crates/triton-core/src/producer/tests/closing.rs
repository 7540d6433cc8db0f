//! How a producer ends: each row of the table "Closing".

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;
use crate::captured_warnings::CapturedWarnings;

/// A stream that stores nothing before it is let, one call at a time.
#[derive(Debug)]
struct Held {
    let_through: Semaphore,
    calls: AtomicUsize,
}

impl Held {
    fn new() -> Arc<Self> {
        Arc::new(Self { let_through: Semaphore::new(0), calls: AtomicUsize::new(0) })
    }

    fn producer(self: &Arc<Self>) -> Producer {
        Producer::new(Arc::clone(self) as Arc<dyn StreamClient>, ProducerOptions::default().with_seed(1))
    }

    /// A producer whose hook keeps the payloads that it is called with.
    fn hooked(self: &Arc<Self>) -> (Producer, Arc<Mutex<Vec<String>>>) {
        let failed = Arc::new(Mutex::new(Vec::new()));
        let hook = Arc::clone(&failed);
        let producer = Producer::builder(Arc::clone(self) as Arc<dyn StreamClient>)
            .options(ProducerOptions::default().with_seed(1))
            .on_failed(move |failed| {
                hook.lock().unwrap().push(String::from_utf8_lossy(&failed.entry.data).into_owned())
            })
            .build();
        (producer, failed)
    }
}

#[async_trait::async_trait]
impl StreamClient for Held {
    fn name(&self) -> &str {
        "held"
    }

    async fn created_at(&self) -> Result<Timestamp> {
        Ok(Timestamp::default())
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        Ok(Vec::new())
    }

    async fn put_batch(&self, entries: Entries) -> Result<Vec<Result<PutReceipt>>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.let_through.acquire().await.unwrap().forget();
        Ok(entries.iter().map(|_| stored()).collect())
    }

    async fn open_shard(&self, shard: &ShardId, _: Position) -> Result<Box<dyn ShardReader>> {
        Err(Error::ShardNotFound { shard: shard.clone(), stream: "held".into() })
    }

    async fn limits(&self) -> Result<Limits> {
        // One call at a time, of two entries.
        Ok(in_order().with_max_entries(2))
    }
}

async fn submit(producer: &Producer, texts: &[&str]) -> Vec<Ticket> {
    let mut tickets = Vec::new();
    for text in texts {
        tickets.push(producer.submit(entry(text)).await.unwrap());
    }
    tickets
}

/// Until everything that can happen without more time has happened.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

fn may_have_written(outcome: Result<PutReceipt>) -> bool {
    match outcome {
        Err(Error::Closed { may_have_written }) => may_have_written,
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_on_any_clone_flushes_and_ends_the_submits_of_all() {
    let held = Held::new();
    let producer = held.producer();
    let other = producer.clone();
    let tickets = submit(&producer, &["a/1", "b/1", "c/1"]).await;
    let closing = tokio::spawn(async move { other.close().await });
    settle().await;
    assert!(!closing.is_finished());
    assert!(matches!(producer.submit(entry("d/1")).await, Err(Error::Closed { may_have_written: false })));
    let Err(TrySubmitError::Closed(back)) = producer.try_submit(entry("d/1")) else { panic!("it is closed") };
    assert_eq!(back, entry("d/1"));
    assert!(matches!(producer.put(entry("d/1")).await, Err(Error::Closed { .. })));
    held.let_through.add_permits(2);
    let summary = closing.await.unwrap().unwrap();
    assert_eq!(summary, CloseSummary { acknowledged: 3, failed: 0, unknown: 0 });
    for ticket in tickets {
        ticket.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn every_caller_of_close_gets_the_same_summary_at_any_time() {
    let answer: Answer = Box::new(|_, entries| {
        let result = |entry: &PutEntry| match &*entry.data {
            b"b/1" => Err(Error::Invalid { problem: "no".into() }),
            b"c/1" => {
                Err(Error::Storage { file: "f".into(), problem: "torn".into(), may_have_written: true, source: None })
            }
            _ => stored(),
        };
        Ok(entries.iter().map(result).collect())
    });
    let (producer, _) = Scripted::shared(Limits::KINESIS, answer, ProducerOptions::default());
    drop(submit(&producer, &["a/1", "b/1", "c/1", "c/2"]).await);
    let (first, second) = tokio::join!(producer.close(), producer.close());
    let summary = CloseSummary { acknowledged: 1, failed: 2, unknown: 1 };
    assert_eq!((first.unwrap(), second.unwrap()), (summary, summary));
    assert_eq!(producer.clone().close().await.unwrap(), summary);
    assert_eq!(producer.close_within(Duration::ZERO).await.unwrap(), summary);
    let stats = ProducerStats { accepted: 4, acknowledged: 1, failed: 2, unknown: 1, pending: 0 };
    assert_eq!(producer.stats(), stats);
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_was_never_used_closes_at_once() {
    let producer = Held::new().producer();
    assert_eq!(producer.close().await.unwrap(), CloseSummary::default());
    assert!(matches!(producer.submit(entry("a/1")).await, Err(Error::Closed { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_of_close_leaves_the_close_going_on() {
    let held = Held::new();
    let producer = held.producer();
    let tickets = submit(&producer, &["a/1", "b/1", "c/1"]).await;
    assert!(tokio::time::timeout(Duration::from_secs(1), producer.close()).await.is_err());
    held.let_through.add_permits(2);
    settle().await;
    assert_eq!(producer.stats().acknowledged, 3);
    for ticket in tickets {
        ticket.await.unwrap();
    }
    assert_eq!(producer.close().await.unwrap().acknowledged, 3);
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_of_a_close_what_is_left_fails_once_by_what_became_of_it() {
    let held = Held::new();
    let (producer, failed) = held.hooked();
    held.let_through.add_permits(1);
    let tickets = submit(&producer, &["a/1"]).await;
    settle().await;
    let started = Instant::now();
    let rest = submit(&producer, &["b/1", "c/1", "d/1", "e/1"]).await;
    let summary = producer.close_within(Duration::from_secs(5)).await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 5);
    assert_eq!(summary, CloseSummary { acknowledged: 1, failed: 2, unknown: 2 });
    for ticket in tickets {
        ticket.await.unwrap();
    }
    let mut unknown = Vec::new();
    for ticket in rest {
        unknown.push(may_have_written(ticket.await));
    }
    assert_eq!(unknown, [true, true, false, false], "a call of two was in flight");
    assert_eq!(*failed.lock().unwrap(), ["b/1", "c/1", "d/1", "e/1"]);
    assert_eq!(producer.budget().used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_close_within_a_time_holds_though_its_future_was_dropped_and_others_wait_for_longer() {
    let held = Held::new();
    let producer = held.producer();
    let tickets = submit(&producer, &["a/1"]).await;
    assert!(tokio::time::timeout(Duration::ZERO, producer.close_within(Duration::from_secs(5))).await.is_err());
    let started = Instant::now();
    let summary = producer.close().await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 5);
    assert_eq!(summary.unknown, 1);
    for ticket in tickets {
        assert!(may_have_written(ticket.await));
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_within_a_time_holds_while_the_stream_is_not_known_yet() {
    let mut client = crate::backend::MockStreamClient::new();
    client.expect_name().return_const("mock".to_owned());
    client.expect_limits().returning(|| Err(throttled()));
    let producer = Producer::new(Arc::new(client), ProducerOptions::default().with_seed(1));
    let tickets = submit(&producer, &["a/1"]).await;
    settle().await;
    let started = Instant::now();
    let summary = producer.close_within(Duration::from_secs(5)).await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 5);
    assert_eq!(summary, CloseSummary { acknowledged: 0, failed: 1, unknown: 0 });
    for ticket in tickets {
        assert!(!may_have_written(ticket.await));
    }
}

#[tokio::test(start_paused = true)]
async fn with_the_last_clone_the_task_ends_and_every_record_with_it() {
    for is_started in [true, false] {
        let held = Held::new();
        let (producer, failed) = held.hooked();
        let captured = CapturedWarnings::start();
        let budget = producer.budget().clone();
        let tickets = submit(&producer, &["a/1", "b/1", "c/1"]).await;
        let clone = producer.clone();
        drop(producer);
        if is_started {
            settle().await;
            assert_eq!(clone.stats().pending, 3, "another clone keeps it");
        }
        // Nobody asks the task to close in an orderly way; it has no chance to run before either.
        drop(clone);
        let mut unknown = Vec::new();
        for ticket in tickets {
            unknown.push(may_have_written(ticket.await));
        }
        let was_sent = is_started;
        assert_eq!(unknown, [was_sent, was_sent, false]);
        settle().await;
        assert_eq!(*failed.lock().unwrap(), ["a/1", "b/1", "c/1"]);
        assert_eq!(budget.used(), 0);
        assert_eq!(Arc::strong_count(&held), 1, "the task holds its client no more");
        let warnings = captured.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("dropped with 3 records"), "{warnings:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_is_dropped_after_its_close_warns_of_nothing() {
    let held = Held::new();
    let captured = CapturedWarnings::start();
    let producer = held.producer();
    held.let_through.add_permits(1);
    let tickets = submit(&producer, &["a/1"]).await;
    producer.close().await.unwrap();
    drop((producer, tickets));
    settle().await;
    assert_eq!(captured.warnings(), Vec::<String>::new());
}

#[test]
fn a_close_that_its_runtime_cuts_off_is_an_error_for_every_caller() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let held = Held::new();
    let (producer, failed) = held.hooked();
    let first = runtime();
    let tickets = first.block_on(async {
        let tickets = submit(&producer, &["a/1"]).await;
        assert!(tokio::time::timeout(Duration::from_millis(50), producer.close()).await.is_err());
        tickets
    });
    drop(first);
    runtime().block_on(async {
        for ticket in tickets {
            assert!(may_have_written(ticket.await));
        }
        for _ in 0..2 {
            assert!(matches!(producer.close().await, Err(Error::Closed { may_have_written: true })));
        }
    });
    assert_eq!(*failed.lock().unwrap(), ["a/1"]);
    assert_eq!(producer.stats().unknown, 1);
}
