//! What is handed over: in turns, all that was fetched, and nothing lost with a future that is dropped.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::source::{Plan, Source};
use super::*;

fn fetched(source: &Source) -> usize {
    source.calls().iter().map(|call| call.records).sum()
}

#[tokio::test(start_paused = true)]
async fn a_shard_with_much_does_not_keep_the_others_waiting() {
    // 1 has a thousand pages, 20 others have 30 each.
    let mut backlogs = vec![30; 21];
    backlogs[0] = 1000;
    let plan = Plan { page_records: 1, delay: Duration::from_millis(3), ..Plan::default() };
    let source = Source::new(plan, backlogs);
    let mut reader = source.read(to_the_end()).await;
    // Much of the huge one waits already.
    sleep(Duration::from_secs(60)).await;
    let huge = ShardId::numbered(0);
    let (mut small, mut taken) = (0, 0);
    while small < 20 * 30 {
        let records = reader.next_batch().await.unwrap().unwrap();
        small += usize::from(records[0].shard_id != huge);
        taken += 1;
    }
    assert_eq!(taken, 21 * 30, "one of each in turn");
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_gets_something_now_and_then_waits_for_one_page_of_each_other() {
    let plan = Plan { page_records: 10, delay: Duration::from_millis(1), ..Plan::default() };
    let source = Source::new(Plan { limits: plan.limits.with_pushes(true), ..plan }, vec![1_000_000, 1_000_000, 0]);
    let mut reader = source.read(ReaderOptions::default()).await;
    for _ in 0..100 {
        source.add(2, 1);
        sleep(Duration::from_millis(20)).await;
        let mut before = 0;
        while reader.next_batch().await.unwrap().unwrap()[0].shard_id != ShardId::numbered(2) {
            before += 1;
        }
        assert!(before <= 2, "{before} pages before it");
    }
}

#[tokio::test(start_paused = true)]
async fn all_that_was_fetched_ahead_is_delivered_after_a_stop() {
    let plan = Plan { page_records: 100, delay: Duration::from_millis(7), ..Plan::default() };
    let source = Source::new(plan, vec![1_000_000; 10]);
    let mut reader = source.read(ReaderOptions::default()).await;
    reader.next().await.unwrap().unwrap();
    sleep(Duration::from_secs(1)).await;
    reader.stop_handle().stop();
    let before = fetched(&source);
    assert_eq!(before, 10 * 3 * 100 + 100, "three pages of each shard ahead");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(all(reader).await.len(), before - 1);
    assert_eq!(fetched(&source), before, "nothing new was fetched");
}

#[tokio::test(start_paused = true)]
async fn a_next_that_is_dropped_loses_nothing() {
    let plan = Plan { page_records: 7, delay: Duration::from_millis(5), ..Plan::default() };
    let source = Source::new(plan, vec![500; 4]);
    let mut reader = source.read(to_the_end()).await;
    let mut last = BTreeMap::new();
    let mut dropped = 0;
    loop {
        let records = match dropped % 3 {
            // Now the rest of a page, now a record.
            0 => timeout(Duration::from_millis(1), reader.next_batch()).await.map(|batch| batch.transpose().unwrap()),
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
async fn a_reader_that_always_has_something_lets_other_tasks_run() {
    let source = Source::new(Plan { page_records: 1, ..Plan::default() }, vec![1000; 1000]);
    let mut reader = source.read(ReaderOptions::default()).await;
    sleep(Duration::from_secs(1)).await;
    let stop = reader.stop_handle();
    let stopping = tokio::spawn(async move { stop.stop() });
    let mut taken = 0;
    while !stopping.is_finished() {
        reader.next_batch().await.unwrap().unwrap();
        taken += 1;
    }
    assert!(taken < 1000, "{taken} before another task had its turn");
}
