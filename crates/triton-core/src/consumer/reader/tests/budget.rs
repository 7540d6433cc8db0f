//! The reader's memory stays within its budget, and no record is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::source::{Plan, Source};
use super::*;
use crate::consumer::shard::prefetch::{FETCHES_IN_FLIGHT, PUSHED_RECORDS};
use crate::flow::Budget;

const MIB: usize = 1 << 20;

/// Asserts that each shard's records directly follow those seen before.
fn assert_next(seen: &mut BTreeMap<ShardId, u64>, records: &[Record]) {
    for record in records {
        let last = seen.entry(record.shard_id.clone()).or_default();
        *last += 1;
        assert_eq!(u64::try_from(record.sequence_number).unwrap(), *last, "in order, and none missing");
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_pauses_for_an_hour_keeps_memory_bounded_and_loses_no_records() {
    // Every shard first learns that its pages are small. The pages that follow have 20 MiB.
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
    let mut reader = source.read_within(&budget, ReaderOptions::default()).await;
    let mut seen = BTreeMap::new();
    while seen.values().sum::<u64>() < small * shards as u64 {
        assert_next(&mut seen, &reader.next_batch().await.unwrap().unwrap().records);
    }
    (0..shards).for_each(|shard| source.add(shard, large));
    // Slowly at first: the bytes of one consumed page are enough for the reservations of many small ones.
    for _ in 0..60 {
        assert_next(&mut seen, &reader.next_batch().await.unwrap().unwrap().records);
        sleep(Duration::from_secs(1)).await;
    }
    let fetched = source.calls().len();
    let other = source.read_within(&Budget::new(64 * MIB), until_caught_up()).await;
    let other = tokio::spawn(async move { read_all(other).await.len() });
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(other.await.unwrap(), shards * (small + large) as usize, "a reader with another budget is not affected");
    let max_peak = budget.bytes() + 24 * MIB * FETCHES_IN_FLIGHT;
    assert!(budget.peak() <= max_peak, "{} MiB at once", budget.peak() / MIB);
    assert!(budget.peak() > budget.bytes(), "the budget was exceeded at least once");
    let others_fetches = 2 * shards * (small / 20 + large / 20 + 2) as usize;
    assert!(source.calls().len() < fetched + others_fetches, "no fetch starts without a reservation");

    while seen.values().sum::<u64>() < (small + large) * shards as u64 {
        assert_next(&mut seen, &reader.next_batch().await.unwrap().unwrap().records);
    }
    assert!(budget.peak() <= max_peak, "{} MiB at once", budget.peak() / MIB);
    drop(reader);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(budget.used(), 0, "every byte was returned");
}

#[tokio::test(start_paused = true)]
async fn pages_of_the_expected_size_stay_within_the_budget() {
    let plan = Plan { record_bytes: |_| 1000, page_records: 500, delay: Duration::from_millis(5), ..Plan::default() };
    let source = Source::new(plan, vec![100_000; 20]);
    let budget = Budget::new(8 * MIB);
    let mut reader = source.read_within(&budget, until_caught_up()).await;
    let mut seen = BTreeMap::new();
    while let Some(batch) = reader.next_batch().await {
        assert_next(&mut seen, &batch.unwrap().records);
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(seen.values().sum::<u64>(), 2_000_000);
    assert!(budget.peak() <= budget.bytes(), "{} KiB at once", budget.peak() >> 10);
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_stays_reserved_until_its_last_record_is_returned() {
    let source = Source::new(Plan { page_records: 3, ..Plan::default() }, vec![3]);
    let budget = Budget::new(MIB);
    let mut reader = source.read_within(&budget, ReaderOptions::default()).await;
    for used in [903, 903, 0] {
        reader.next().await.unwrap().unwrap();
        assert_eq!(budget.used(), used);
    }
    source.add(0, 3);
    reader.next().await.unwrap().unwrap();
    assert_eq!(budget.used(), 903);
    assert_eq!(reader.next_batch().await.unwrap().unwrap().records.len(), 2);
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_page_at_a_time_is_fetched_with_a_budget_smaller_than_a_page() {
    let plan = Plan { record_bytes: |_| MIB, page_records: 8, ..Plan::default() };
    let source = Source::new(plan, vec![40; 3]);
    let budget = Budget::new(1);
    let reader = source.read_within(&budget, until_caught_up()).await;
    assert_eq!(read_all(reader).await.len(), 120);
    assert!((8 * MIB..9 * MIB).contains(&budget.peak()), "more than one page at once: {}", budget.peak());
}

#[tokio::test(start_paused = true)]
async fn fetches_that_wait_for_new_records_reserve_nothing_and_block_no_others() {
    let shards = 5 * FETCHES_IN_FLIGHT;
    let plan = Plan { limits: Plan::default().limits.with_pushes(true), ..Plan::default() };
    let source = Source::new(plan, vec![0; shards]);
    let budget = Budget::new(MIB);
    let mut reader = source.read_within(&budget, ReaderOptions::default()).await;
    assert!(timeout(Duration::from_secs(10), reader.next()).await.is_err());
    assert_eq!(budget.used(), 0);
    let polls = source.calls().len();
    assert!(polls < 12 * shards, "{polls} fetches");

    let added = Instant::now();
    source.add(7, 100);
    let first = reader.next_batch().await.unwrap().unwrap();
    assert_eq!((first.records.len(), added.elapsed()), (PUSHED_RECORDS, Duration::ZERO), "a small page at once");
    assert_eq!(reader.next_batch().await.unwrap().unwrap().records.len(), 100 - PUSHED_RECORDS, "then the rest");

    // Every shard wakes repeatedly and nothing is consumed, so each fetches once.
    for _ in 0..100 {
        (0..shards).for_each(|shard| source.add(shard, 10));
        sleep(Duration::from_secs(1)).await;
    }
    let woken = shards * PUSHED_RECORDS * 301;
    assert!(budget.peak() <= budget.bytes() + woken, "{} KiB", budget.peak() >> 10);
    let mut seen = BTreeMap::new();
    seen.insert(ShardId::numbered(7), 100);
    while seen.values().sum::<u64>() < shards as u64 * 1000 + 100 {
        assert_next(&mut seen, &reader.next_batch().await.unwrap().unwrap().records);
    }
}
