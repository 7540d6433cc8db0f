//! A producer of aggregates under a shard list that lags, flaps or misses shards: a reader that drops each aggregate with a
//! record of another shard misses nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::shards::{Sharded, filtered};
use super::*;
use crate::backend::StreamAdmin as _;
use crate::flow::Budget;
use crate::memory::Memory;
use crate::model::hash_key::HashKey;
use crate::testing::{Faults, FaultyClient, ListFault};

/// Keys of the records.
const KEYS: usize = 50;

async fn reshard(memory: &Memory, number: usize) {
    let id = ShardId::numbered;
    match number {
        400 => memory.split("clicks", &id(0), HashKey(1 << 126)).await.unwrap(),
        800 => memory.split("clicks", &id(1), HashKey(3 << 126)).await.unwrap(),
        2_400 => memory.merge("clicks", &id(3), &id(4)).await.unwrap(),
        3_200 => memory.reshard("clicks", 8).await.unwrap(),
        _ => {}
    }
}

/// Puts 6,000 records in 30 seconds, while the stream is split, merged and resharded. Returns the number of old lists.
async fn put_through_reshards(faults: impl IntoIterator<Item = ListFault>) -> u64 {
    let memory = Memory::new();
    let sharded = Sharded::new(&memory, 2);
    let stream = sharded.stream.clone();
    let client = FaultyClient::new(sharded, Faults::default(), 1);
    for fault in faults {
        client.inject_list(fault).await.unwrap();
    }
    let injected = client.injected();
    let options = ProducerOptions::default().with_aggregation(true).with_seed(1);
    // Less than what waits for a list of 10 s ago.
    let budget = Budget::new(256 << 10);
    let producer = Producer::builder(Arc::new(client)).options(options).budget(budget.clone()).build();
    let mut tickets = Vec::new();
    for number in 0..6_000 {
        if number % 400 == 0 {
            reshard(&memory, number).await;
        }
        tickets.push(producer.submit(entry(&format!("key-{}/{number:05}", number % KEYS))).await.unwrap());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let started = Instant::now();
    let closed = producer.close().await.unwrap();
    assert_eq!((closed.acknowledged, closed.failed, closed.unknown), (6_000, 0, 0));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    for ticket in tickets {
        ticket.await.unwrap();
    }
    assert!(budget.peak() <= budget.bytes() && budget.used() == 0, "{budget:?}");
    assert_complete_and_in_order(&stream).await;
    injected.lists()
}

async fn assert_complete_and_in_order(stream: &crate::memory::MemoryStream) {
    let (mut seen, mut last) = (BTreeSet::new(), BTreeMap::new());
    for record in filtered(stream).await {
        let text = String::from_utf8(record.data.to_vec()).unwrap();
        if seen.insert(text.clone()) {
            let before = last.insert(record.partition_key.to_string(), text.clone());
            assert!(before < Some(text.clone()), "{before:?} is read before {text}");
        }
    }
    assert_eq!(seen.len(), 6_000, "{} records are missing", 6_000 - seen.len());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_lags_loses_nothing() {
    for seconds in [1, 3, 10] {
        let old = put_through_reshards([ListFault::old(Duration::from_secs(seconds))]).await;
        assert!(old >= 3, "{seconds} s: {old} old lists");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_flaps_loses_nothing() {
    for seconds in [1, 3, 10] {
        let old = put_through_reshards([ListFault::old(Duration::from_secs(seconds)).every(2)]).await;
        assert!(old >= 2, "{seconds} s: {old} old lists");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_misses_shards_loses_nothing() {
    let missing = |number| ListFault::partial([ShardId::numbered(number)]);
    let altered = put_through_reshards([missing(2).times(2), missing(3).times(2), missing(5).times(3)]).await;
    assert!(altered >= 5, "{altered} lists without a shard");
}

#[tokio::test(start_paused = true)]
async fn while_an_aggregate_waits_for_the_list_records_of_other_shards_are_put() {
    let memory = Memory::new();
    let client = FaultyClient::new(Sharded::new(&memory, 2), Faults::default(), 1);
    client.inject_list(ListFault::old(Duration::from_secs(10))).await.unwrap();
    let producer = Producer::new(Arc::new(client), ProducerOptions::default().with_aggregation(true).with_seed(1));
    let one_per_key = |round: usize| (0..KEYS).map(|key| entry(&format!("key-{key}/{round:05}"))).collect::<Vec<_>>();
    producer.put_all(one_per_key(0)).await;
    memory.split("clicks", &ShardId::numbered(0), HashKey(1 << 126)).await.unwrap();
    // Shard 1 is not split: its records wait for no list.
    let of_shard_1 = |entry: &PutEntry| entry.hash_key() >= HashKey(1 << 127);
    let (shard_1, shard_0): (Vec<_>, Vec<_>) = one_per_key(1).into_iter().partition(of_shard_1);
    let waiting = tokio::spawn({
        let producer = producer.clone();
        async move { producer.put_all(shard_0).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let started = Instant::now();
    assert!(producer.put_all(shard_1).await.iter().all(Result::is_ok));
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert!(waiting.await.unwrap().iter().all(Result::is_ok));
    assert!((9..=16).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_close_ends_in_time_whatever_the_list_shows() {
    for limit in [Some(Duration::from_secs(2)), None] {
        let memory = Memory::new();
        let client = FaultyClient::new(Sharded::new(&memory, 1), Faults::default(), 1);
        client.inject_list(ListFault::old(Duration::MAX)).await.unwrap();
        let producer = Producer::new(Arc::new(client), ProducerOptions::default().with_aggregation(true).with_seed(1));
        producer.put(entry("a/1")).await.unwrap();
        memory.split("clicks", &ShardId::numbered(0), HashKey(1 << 127)).await.unwrap();
        for text in ["a/2", "b/1", "c/1"] {
            drop(producer.submit(entry(text)).await.unwrap());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let started = Instant::now();
        let closing = async {
            match limit {
                Some(limit) => producer.close_within(limit).await,
                None => producer.close().await,
            }
        };
        let closed = tokio::time::timeout(Duration::from_secs(300), closing).await.expect("a close that ends").unwrap();
        assert_eq!((closed.acknowledged, closed.failed, closed.unknown), (1, 0, 3));
        let seconds = if limit.is_some() { 2..=2 } else { 115..=126 };
        assert!(seconds.contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_reshard_of_many_shards_costs_few_listings() {
    let memory = Memory::new();
    let client = Arc::new(Sharded::new(&memory, 32));
    let options = ProducerOptions::default().with_aggregation(true).with_seed(1);
    let producer = Producer::new(Arc::clone(&client) as Arc<dyn StreamClient>, options);
    let entries = |round| (0..2_000).map(move |key| entry(&format!("key-{key}/{round:05}")));
    assert!(producer.put_all(entries(0)).await.iter().all(Result::is_ok));
    memory.reshard("clicks", 64).await.unwrap();
    *client.listings.lock().unwrap() = 0;
    let started = Instant::now();
    assert!(producer.put_all(entries(1)).await.iter().all(Result::is_ok));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let listings = *client.listings.lock().unwrap();
    assert!((1..=2).contains(&listings), "{listings}");
}
