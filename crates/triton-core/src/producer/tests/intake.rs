//! What a producer accepts, how long it waits for company, and how it ends.

use super::*;
use crate::flow::Budget;

fn stores_all() -> Answer {
    Box::new(|_, entries| Ok(entries.iter().map(|_| stored()).collect()))
}

fn options() -> ProducerOptions {
    ProducerOptions::default().with_seed(1)
}

#[tokio::test(start_paused = true)]
async fn a_record_waits_for_company_no_longer_than_it_lingers() {
    let (producer, scripted) = Scripted::shared(Limits::KINESIS, stores_all(), options());
    let started = Instant::now();
    let first = producer.submit(entry("a/1")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let second = producer.submit(entry("b/1")).await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(scripted.calls(), [vec!["a/1", "b/1"]]);
    assert!((50..60).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_linger_and_in_put_all_nothing_waits() {
    let (producer, _) = Scripted::shared(Limits::KINESIS, stores_all(), options().with_linger(Duration::ZERO));
    let started = Instant::now();
    producer.submit(entry("a/1")).await.unwrap().await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
    let (producer, _) = Scripted::shared(Limits::KINESIS, stores_all(), options());
    producer.put_all([entry("a/1")]).await.remove(0).unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn where_one_call_is_made_at_a_time_nothing_lingers() {
    let (producer, _) = Scripted::shared(in_order(), stores_all(), options());
    let started = Instant::now();
    producer.submit(entry("a/1")).await.unwrap().await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_full_call_does_not_linger() {
    let limits = Limits::KINESIS.with_max_entries(10);
    let (producer, scripted) = Scripted::shared(limits, stores_all(), options().with_linger(Duration::from_secs(9)));
    let started = Instant::now();
    let mut tickets = Vec::new();
    for n in 0..10 {
        tickets.push(producer.submit(entry(&format!("k{n}/1"))).await.unwrap());
    }
    for ticket in tickets {
        ticket.await.unwrap();
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(scripted.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_budget_ends_the_linger_and_is_let_in() {
    // Room for two records of 3 bytes and their key.
    let budget = Budget::new(2 * (200 + 4));
    let options = options().with_linger(Duration::from_secs(3600));
    let (producer, _) =
        Scripted::built(Limits::KINESIS, stores_all(), |with| with.options(options).budget(budget.clone()));
    let started = Instant::now();
    for n in 0..100 {
        drop(producer.submit(entry(&format!("{}/1", n % 10))).await.unwrap());
    }
    assert!(started.elapsed() < Duration::from_secs(1));
    let closed = producer.close().await.unwrap();
    assert_eq!((closed.acknowledged, closed.failed), (100, 0));
    assert!(budget.peak() <= budget.bytes() && budget.used() == 0, "{budget:?}");
}

#[tokio::test(start_paused = true)]
async fn try_submit_gives_back_what_there_is_no_room_for() {
    let options = options().with_linger(Duration::from_secs(3600));
    let (producer, _) =
        Scripted::built(Limits::KINESIS, stores_all(), |with| with.options(options).budget(Budget::new(300)));
    let ticket = producer.try_submit(entry("a/1")).unwrap();
    let Err(TrySubmitError::Full(back)) = producer.try_submit(entry("b/1")) else { panic!("there is no room") };
    assert_eq!(back, entry("b/1"));
    ticket.await.unwrap();
    tokio::task::yield_now().await;
    drop(producer.try_submit(back).unwrap());
}

#[test]
fn try_submit_outside_a_runtime_is_refused_and_does_not_panic() {
    let (producer, _) = Scripted::shared(Limits::KINESIS, stores_all(), options());
    assert!(matches!(producer.try_submit(entry("a/1")), Err(TrySubmitError::Refused(_, _))));
}

#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_what_was_accepted_before_it_and_for_nothing_else() {
    let answer: Answer = Box::new(|call, entries| match call {
        1..5 => Ok(entries.iter().map(|_| Err(throttled())).collect()),
        _ => Ok(entries.iter().map(|_| stored()).collect()),
    });
    let (producer, _) = Scripted::shared(Limits::KINESIS, answer, options().with_linger(Duration::from_secs(60)));
    let producer = Arc::new(producer);
    let ticket = producer.submit(entry("a/1")).await.unwrap();
    let flushing = tokio::spawn({
        let producer = Arc::clone(&producer);
        async move { producer.flush().await }
    });
    tokio::task::yield_now().await;
    let later = tokio::spawn(producer.submit(entry("b/1")).await.unwrap());
    flushing.await.unwrap();
    assert!(futures_util::FutureExt::now_or_never(ticket).unwrap().is_ok(), "it has its outcome");
    producer.flush().await;
    later.await.unwrap().unwrap();
    // With nothing to wait for.
    producer.flush().await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_producer_tells_each_ticket_and_gives_its_budget_back() {
    let answer: Answer = Box::new(|_, entries| Ok(entries.iter().map(|_| Err(throttled())).collect()));
    let budget = Budget::new(1 << 20);
    let (producer, scripted) =
        Scripted::built(Limits::KINESIS, answer, |with| with.options(options()).budget(budget.clone()));
    let ticket = producer.submit(entry("a/1")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!scripted.calls().is_empty());
    drop(producer);
    assert!(matches!(ticket.await, Err(Error::Closed { .. })));
    tokio::task::yield_now().await;
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_handed_to_the_hook_and_counted() {
    let failed = Arc::new(Mutex::new(Vec::new()));
    let hook = Arc::clone(&failed);
    let answer: Answer = Box::new(|_, entries| {
        let refused = || Err(Error::Invalid { problem: "no".into() });
        Ok(entries.iter().map(|entry| if entry.data == "b/1" { refused() } else { stored() }).collect())
    });
    let (producer, _) = Scripted::built(Limits::KINESIS, answer, |with| {
        with.options(options()).on_failed(move |failed| hook.lock().unwrap().push(failed))
    });
    let huge = PutEntry::new(PartitionKey::new("c").unwrap(), vec![0; 2 << 20]);
    for entry in [entry("a/1"), entry("b/1"), huge] {
        drop(producer.submit(entry).await.unwrap());
    }
    let closed = producer.close().await.unwrap();
    assert_eq!((closed.acknowledged, closed.failed), (1, 2));
    let failed = failed.lock().unwrap();
    let errors: Vec<String> = failed.iter().map(|failed| failed.error.to_string()).collect();
    assert_eq!(errors.len(), 2);
    assert!(errors.contains(&"no".into()), "{errors:?}");
    assert!(errors.iter().any(|error| error.starts_with("record of 2.1 MiB")), "{errors:?}");
    assert!(failed.iter().any(|failed| failed.entry == entry("b/1")));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_panics_fails_its_call_and_nothing_else() {
    let answer: Answer = Box::new(|call, entries| {
        assert!(call != 1, "planted");
        Ok(entries.iter().map(|_| stored()).collect())
    });
    let (producer, _) = Scripted::shared(Limits::KINESIS, answer, options());
    let outcome = producer.put_all([entry("a/1"), entry("a/2")]).await;
    assert!(matches!(&outcome[0], Err(error @ Error::Contract { .. }) if error.may_have_written()));
    assert!(matches!(&outcome[1], Err(Error::PredecessorFailed { .. })));
    assert!(producer.put_all([entry("a/3")]).await.remove(0).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_linger_without_end_is_ended_by_a_flush() {
    let (producer, _) = Scripted::shared(Limits::KINESIS, stores_all(), options().with_linger(Duration::MAX));
    let ticket = producer.submit(entry("a/1")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    producer.flush().await;
    ticket.await.unwrap();
}

#[test]
fn a_runtime_that_has_ended_leaves_no_caller_waiting() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let budget = Budget::new(1 << 20);
    let options = options().with_linger(Duration::from_secs(3600));
    let (producer, _) =
        Scripted::built(Limits::KINESIS, stores_all(), |with| with.options(options).budget(budget.clone()));
    let first = runtime();
    let (mut taken, mut not_taken) = (None, None);
    first.block_on(async {
        taken = producer.submit(entry("a/1")).await.ok();
        tokio::task::yield_now().await;
        not_taken = producer.submit(entry("b/1")).await.ok();
    });
    let (taken, not_taken) = (taken.unwrap(), not_taken.unwrap());
    drop(first);
    runtime().block_on(async {
        let all = async {
            assert!(matches!(taken.await, Err(Error::Closed { may_have_written: false })));
            assert!(matches!(not_taken.await, Err(Error::Closed { may_have_written: false })));
            assert_eq!(budget.used(), 0);
            producer.flush().await;
            assert!(producer.put_all([entry("c/1")]).await.remove(0).is_ok(), "it works on where it is used next");
            producer.close().await.unwrap()
        };
        let closed = tokio::time::timeout(Duration::from_secs(5), all).await.unwrap();
        assert_eq!(closed.acknowledged, 1);
    });
}

#[test]
fn closing_a_producer_that_never_started_reports_every_record() {
    let mut client = crate::backend::MockStreamClient::new();
    client.expect_name().return_const("mock".to_owned());
    client.expect_limits().returning(|| Err(lost()));
    let retry = RetryPolicy::default().with_deadline(Duration::ZERO);
    #[expect(clippy::disallowed_methods, reason = "a hook that takes its time, whatever the clock")]
    let slow = |_| std::thread::sleep(Duration::from_millis(50));
    let producer = Producer::builder(Arc::new(client)).options(options().with_retry(retry)).on_failed(slow).build();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tickets = runtime.block_on(async {
        let tickets = [producer.submit(entry("a/1")).await.unwrap(), producer.submit(entry("b/1")).await.unwrap()];
        tokio::task::yield_now().await;
        tickets
    });
    // As on two threads of one runtime: one runs the task, the other closes the producer.
    let driving = std::thread::spawn(move || {
        runtime.block_on(async {
            for ticket in tickets {
                assert!(!ticket.await.unwrap_err().may_have_written(), "nothing was sent");
            }
        });
    });
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let closed = other.block_on(producer.close()).unwrap();
    driving.join().unwrap();
    assert_eq!(closed.failed, 2);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_hook_loses_no_outcome() {
    let answer: Answer = Box::new(|_, entries| {
        let refused = || Err(Error::Invalid { problem: "no".into() });
        Ok(entries.iter().map(|entry| if entry.data == "b/1" { refused() } else { stored() }).collect())
    });
    let (producer, _) =
        Scripted::built(Limits::KINESIS, answer, |with| with.options(options()).on_failed(|_| panic!("planted")));
    let outcomes = producer.put_all(["a/1", "b/1", "c/1"].map(entry)).await;
    assert!(outcomes[0].is_ok() && matches!(outcomes[1], Err(Error::Invalid { .. })) && outcomes[2].is_ok());
    let closed = producer.close().await.unwrap();
    assert_eq!((closed.acknowledged, closed.failed), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_no_call_takes_fails() {
    let answer: Answer = Box::new(|_, _| Err(Error::Invalid { problem: "over the limits".into() }));
    let (producer, _) = Scripted::shared(Limits::KINESIS.with_max_call_bytes(3), answer, options());
    let put = tokio::time::timeout(Duration::from_secs(60), producer.put_all([entry("a/1")]));
    assert!(matches!(put.await.unwrap().remove(0), Err(Error::Invalid { .. })));
}
