//! Clients that panic, runtimes that end early, and records that wait behind others.

use super::*;

/// A hand-written client: what panics does so when it is called, before there is a future.
#[derive(Debug)]
struct Eager;

#[async_trait::async_trait]
impl StreamClient for Eager {
    fn name(&self) -> &str {
        "eager"
    }
    async fn created_at(&self) -> Result<Timestamp> {
        Ok(Timestamp::default())
    }
    async fn shards(&self) -> Result<Vec<Shard>> {
        Ok(Vec::new())
    }
    fn put_batch<'life0, 'async_trait>(
        &'life0 self,
        _: Entries,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Vec<Result<PutReceipt>>>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        panic!("planted");
    }
    async fn open_shard(&self, shard: &ShardId, _: Position) -> Result<Box<dyn ShardReader>> {
        Err(Error::ShardNotFound { shard: shard.clone(), stream: "eager".into() })
    }
    async fn limits(&self) -> Result<Limits> {
        Ok(Limits::KINESIS)
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_panics_before_its_future_fails_its_call() {
    let producer = Producer::new(Arc::new(Eager), ProducerOptions::default().with_seed(1));
    let put = tokio::time::timeout(Duration::from_secs(3600), producer.put(entry("a/1"))).await;
    assert!(matches!(put.expect("the ticket resolves"), Err(Error::Contract { .. })));
    tokio::time::timeout(Duration::from_secs(3600), producer.close()).await.expect("close ends").unwrap();
}

#[test]
fn a_runtime_that_ends_before_the_task_ran_leaves_no_ticket_waiting() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer: Answer = Box::new(|_, entries| Ok(entries.iter().map(|_| stored()).collect()));
    let (producer, _) = Scripted::shared(Limits::KINESIS, answer, ProducerOptions::default());
    let first = runtime();
    let ticket = first.block_on(producer.submit(entry("a/1"))).unwrap();
    drop(first);
    runtime().block_on(async {
        producer.flush().await;
        assert_eq!(producer.stats().pending, 0, "a flush waits for every record that was accepted");
        let outcome = tokio::time::timeout(Duration::from_secs(2), ticket).await.expect("the ticket resolves");
        assert!(matches!(outcome, Err(Error::Closed { may_have_written: false })));
    });
}

#[tokio::test(start_paused = true)]
async fn a_closed_producer_says_so_though_others_use_up_the_budget() {
    let budget = Budget::new(1_000);
    let answer = || -> Answer { Box::new(|_, entries| Ok(entries.iter().map(|_| stored()).collect())) };
    let (producer, _) = Scripted::built(Limits::KINESIS, answer(), |with| with.budget(budget.clone()));
    producer.close().await.unwrap();
    let _other = budget.reserve(1_000).await;
    let tried = producer.try_submit(entry("a/1"));
    let submitted = tokio::time::timeout(Duration::from_secs(3600), producer.submit(entry("a/1"))).await;
    assert!(matches!(tried, Err(TrySubmitError::Closed(_))), "{tried:?}");
    assert!(matches!(submitted.expect("it does not wait"), Err(Error::Closed { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_panics_at_the_start_is_not_a_closed_producer() {
    let mut client = crate::backend::MockStreamClient::new();
    client.expect_name().return_const("mock".to_owned());
    client.expect_limits().returning(|| panic!("planted"));
    let producer = Producer::new(Arc::new(client), ProducerOptions::default().with_seed(1));
    let outcome = producer.put(entry("a/1")).await;
    assert!(!matches!(outcome, Err(Error::Closed { .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_hand_counts_at_the_deadline() {
    let answer: Answer = Box::new(|_, entries| Ok(entries.iter().map(|_| stored()).collect()));
    let (producer, scripted) = Scripted::shared(in_order(), answer, ProducerOptions::default());
    let ticket = producer.submit(entry("a/1")).await.unwrap();
    while scripted.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    let closed = producer.close_within(Duration::ZERO).await.unwrap();
    assert_eq!((closed.acknowledged, closed.unknown), (1, 0));
    ticket.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_put_and_a_flush_do_not_linger_behind_a_later_record_of_another_key() {
    let options = ProducerOptions::default().with_seed(1).with_linger(Duration::from_secs(3600));
    let answer: Answer = Box::new(|_, entries| Ok(entries.iter().map(|_| stored()).collect()));
    let (limits, latency, calls) = (Limits::KINESIS, Duration::from_secs(1), Mutex::default());
    let producer = Producer::new(Arc::new(Scripted { limits, answer, latency, calls }), options);
    let started = Instant::now();
    let put = |text: &'static str| {
        let producer = producer.clone();
        tokio::spawn(async move { producer.put(entry(text)).await })
    };
    let first = put("k/1");
    tokio::time::sleep(Duration::from_millis(100)).await;
    // It waits for its predecessor, which is in flight, and nothing may linger in its way.
    let second = put("k/2");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let flushing = producer.clone();
    let flush = tokio::spawn(async move { flushing.flush().await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let later = producer.submit(entry("x/1")).await.unwrap();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    flush.await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
    producer.flush().await;
    later.await.unwrap();
}
