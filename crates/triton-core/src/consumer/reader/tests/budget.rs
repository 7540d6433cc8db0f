//! How much waits for a caller, and that nothing of it is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::source::{Plan, Source};
use super::*;
use crate::consumer::shard::prefetch::{FETCHES_IN_FLIGHT, PUSHED_RECORDS};
use crate::flow::Budget;

const MIB: usize = 1 << 20;

/// Each shard's records are the next ones.
fn check_in(seen: &mut BTreeMap<ShardId, u64>, records: &[Record]) {
    for record in records {
        let last = seen.entry(record.shard_id.clone()).or_default();
        *last += 1;
        assert_eq!(u64::try_from(record.sequence_number).unwrap(), *last, "in order, and none missing");
    }
}

#[tokio::test(start_paused = true)]
async fn an_hour_without_a_consumer_fills_the_budget_and_no_more_and_loses_nothing() {
    // Many small pages teach every shard that its pages are small; then each of them is 20 MiB.
    let (shards, small, large) = (200, 800, 100);
    let plan = Plan {
        page_records: 20,
        page_bytes: 20 * MIB,
        record_bytes: |number| if number <= 800 { 100 } else { MIB },
        delay: Duration::from_millis(20),
        ..Plan::default()
    };
    let source = Source::new(plan, vec![small; shards]);
    let budget = Budget::new(64 * MIB);
    let mut reader = source.read(ReaderOptions::default().with_budget(budget.clone())).await;
    let mut seen = BTreeMap::new();
    while seen.values().sum::<u64>() < small * shards as u64 {
        check_in(&mut seen, &reader.next_batch().await.unwrap().unwrap());
    }
    (0..shards).for_each(|shard| source.add(shard, large));
    // Slowly at first: what one page gives back is enough for the reservations of many small ones.
    for _ in 0..60 {
        check_in(&mut seen, &reader.next_batch().await.unwrap().unwrap());
        sleep(Duration::from_secs(1)).await;
    }
    let fetched = source.calls().len();
    let other = source.read(to_the_end().with_budget(Budget::new(64 * MIB))).await;
    let other = tokio::spawn(async move { all(other).await.len() });
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(other.await.unwrap(), shards * (small + large) as usize, "a budget of its own");
    let most = budget.bytes() + 24 * MIB * FETCHES_IN_FLIGHT;
    assert!(budget.peak() <= most, "{} MiB at once", budget.peak() / MIB);
    assert!(budget.peak() > budget.bytes(), "as far as it was put to the test");
    let others_fetches = 2 * shards * (small / 20 + large / 20 + 2) as usize;
    assert!(source.calls().len() < fetched + others_fetches, "nothing is asked for that there is no room for");

    while seen.values().sum::<u64>() < (small + large) * shards as u64 {
        check_in(&mut seen, &reader.next_batch().await.unwrap().unwrap());
    }
    assert!(budget.peak() <= most, "{} MiB at once", budget.peak() / MIB);
    drop(reader);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(budget.used(), 0, "every byte was given back");
}

#[tokio::test(start_paused = true)]
async fn pages_of_the_expected_size_stay_within_the_budget() {
    let plan = Plan { record_bytes: |_| 1000, page_records: 500, delay: Duration::from_millis(5), ..Plan::default() };
    let source = Source::new(plan, vec![100_000; 20]);
    let budget = Budget::new(8 * MIB);
    let mut reader = source.read(to_the_end().with_budget(budget.clone())).await;
    let mut seen = BTreeMap::new();
    while let Some(batch) = reader.next_batch().await {
        check_in(&mut seen, &batch.unwrap());
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(seen.values().sum::<u64>(), 2_000_000);
    assert!(budget.peak() <= budget.bytes(), "{} KiB at once", budget.peak() >> 10);
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_next_is_handing_out_stays_reserved_until_its_last_record() {
    let source = Source::new(Plan { page_records: 3, ..Plan::default() }, vec![3]);
    let budget = Budget::new(MIB);
    let mut reader = source.read(ReaderOptions::default().with_budget(budget.clone())).await;
    for used in [903, 903, 0] {
        reader.next().await.unwrap().unwrap();
        assert_eq!(budget.used(), used);
    }
    source.add(0, 3);
    reader.next().await.unwrap().unwrap();
    assert_eq!(budget.used(), 903);
    assert_eq!(reader.next_batch().await.unwrap().unwrap().len(), 2);
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_page_goes_ahead_however_small_the_budget() {
    let plan = Plan { record_bytes: |_| MIB, page_records: 8, ..Plan::default() };
    let source = Source::new(plan, vec![40; 3]);
    let budget = Budget::new(1);
    let reader = source.read(to_the_end().with_budget(budget.clone())).await;
    assert_eq!(all(reader).await.len(), 120);
    assert!((8 * MIB..9 * MIB).contains(&budget.peak()), "one after the other: {}", budget.peak());
}

#[tokio::test(start_paused = true)]
async fn fetches_that_wait_for_what_comes_neither_reserve_nor_keep_others_waiting() {
    let shards = 5 * FETCHES_IN_FLIGHT;
    let plan = Plan { limits: Plan::default().limits.with_pushes(true), ..Plan::default() };
    let source = Source::new(plan, vec![0; shards]);
    let budget = Budget::new(MIB);
    let mut reader = source.read(ReaderOptions::default().with_budget(budget.clone())).await;
    assert!(timeout(Duration::from_secs(10), reader.next()).await.is_err());
    assert_eq!(budget.used(), 0);
    let polls = source.calls().len();
    assert!(polls < 12 * shards, "{polls} fetches");

    let added = Instant::now();
    source.add(7, 100);
    let first = reader.next_batch().await.unwrap().unwrap();
    assert_eq!((first.len(), added.elapsed()), (PUSHED_RECORDS, Duration::ZERO), "at once, and few");
    assert_eq!(reader.next_batch().await.unwrap().unwrap().len(), 100 - PUSHED_RECORDS, "then the rest");

    // All wake again and again, and nobody takes: each has fetched once.
    for _ in 0..100 {
        (0..shards).for_each(|shard| source.add(shard, 10));
        sleep(Duration::from_secs(1)).await;
    }
    let woken = shards * PUSHED_RECORDS * 301;
    assert!(budget.peak() <= budget.bytes() + woken, "{} KiB", budget.peak() >> 10);
    let mut seen = BTreeMap::new();
    seen.insert(ShardId::numbered(7), 100);
    while seen.values().sum::<u64>() < shards as u64 * 1000 + 100 {
        check_in(&mut seen, &reader.next_batch().await.unwrap().unwrap());
    }
}
