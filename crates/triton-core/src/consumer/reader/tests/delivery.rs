//! Delivery: shards take turns, every fetched record is delivered, and a dropped future loses none.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::source::{Plan, Source};
use super::*;

fn fetched(source: &Source) -> usize {
    source.calls().iter().map(|call| call.records).sum()
}

#[tokio::test(start_paused = true)]
async fn a_shard_with_a_large_backlog_does_not_delay_the_others() {
    // One shard has 1,000 pages, the 20 others have 30 each.
    let mut backlogs = vec![30; 21];
    backlogs[0] = 1000;
    let plan = Plan { page_records: 1, delay: Duration::from_millis(3), ..Plan::default() };
    let source = Source::new(plan, backlogs);
    let mut reader = source.read(until_caught_up()).await;
    // By then, pages of the large backlog are queued.
    sleep(Duration::from_secs(60)).await;
    let large = ShardId::numbered(0);
    let (mut small, mut batches) = (0, 0);
    while small < 20 * 30 {
        let records = reader.next_batch().await.unwrap().unwrap().records;
        small += usize::from(records[0].shard_id != large);
        batches += 1;
    }
    assert_eq!(batches, 21 * 30, "one page of each shard in turn");
}

#[tokio::test(start_paused = true)]
async fn a_shard_with_few_records_waits_for_at_most_one_page_of_each_other_shard() {
    let plan = Plan { page_records: 10, delay: Duration::from_millis(1), ..Plan::default() };
    let source = Source::new(Plan { limits: plan.limits.with_pushes(true), ..plan }, vec![1_000_000, 1_000_000, 0]);
    let mut reader = source.read(ReaderOptions::default()).await;
    for _ in 0..100 {
        source.add(2, 1);
        sleep(Duration::from_millis(20)).await;
        let mut before = 0;
        while reader.next_batch().await.unwrap().unwrap().shard != ShardId::numbered(2) {
            before += 1;
        }
        assert!(before <= 2, "{before} pages of other shards first");
    }
}

#[tokio::test(start_paused = true)]
async fn prefetched_records_are_delivered_after_a_stop() {
    let plan = Plan { page_records: 100, delay: Duration::from_millis(7), ..Plan::default() };
    let source = Source::new(plan, vec![1_000_000; 10]);
    let mut reader = source.read(ReaderOptions::default()).await;
    reader.next().await.unwrap().unwrap();
    sleep(Duration::from_secs(1)).await;
    reader.stop_handle().stop();
    let before = fetched(&source);
    assert_eq!(before, 10 * 3 * 100 + 100, "three pages of each shard are prefetched");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(read_all(reader).await.len(), before - 1);
    assert_eq!(fetched(&source), before, "nothing new was fetched");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_next_loses_no_records() {
    let plan = Plan { page_records: 7, delay: Duration::from_millis(5), ..Plan::default() };
    let source = Source::new(plan, vec![500; 4]);
    let mut reader = source.read(until_caught_up()).await;
    let mut last = BTreeMap::new();
    let mut dropped = 0;
    loop {
        let records = match dropped % 3 {
            // Alternates between the rest of a page and a single record.
            0 => timeout(Duration::from_millis(1), reader.next_batch())
                .await
                .map(|batch| batch.transpose().unwrap().map(|batch| batch.records)),
            _ => timeout(Duration::from_millis(1), reader.next())
                .await
                .map(|record| record.transpose().unwrap().map(|record| vec![record])),
        };
        match records {
            Ok(Some(records)) => {
                for record in records {
                    let number = u64::try_from(record.sequence_number).unwrap();
                    assert_eq!(last.insert(record.shard_id.clone(), number).unwrap_or(0) + 1, number);
                }
            }
            Ok(None) => break,
            Err(_) => dropped += 1,
        }
    }
    assert!(dropped > 100, "{dropped}");
    assert_eq!(last.values().collect::<Vec<_>>(), [&500; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_always_has_records_yields_to_other_tasks() {
    let source = Source::new(Plan { page_records: 1, ..Plan::default() }, vec![1000; 1000]);
    let mut reader = source.read(ReaderOptions::default()).await;
    sleep(Duration::from_secs(1)).await;
    let stop = reader.stop_handle();
    let stopping = tokio::spawn(async move { stop.stop() });
    let mut batches = 0;
    while !stopping.is_finished() {
        reader.next_batch().await.unwrap().unwrap();
        batches += 1;
    }
    assert!(batches < 1000, "{batches} batches before another task ran");
}
