//! The rate of fetches: within the quota for a backlog, and at the poll interval once caught up.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::source::{Plan, Source};
use super::*;
use crate::backend::Quota;

/// A quota of 2 MB and 5 calls per second.
fn with_quota() -> Plan {
    let limits = Limits::KINESIS.with_read_quota(Some(Quota::new(2_000_000, 5)));
    Plan { limits, delay: Duration::from_millis(20), ..Plan::default() }
}

async fn timed_read(source: &Arc<Source>) -> (usize, Duration) {
    let started = Instant::now();
    let records = read_all(source.read(until_caught_up()).await).await;
    (records.len(), started.elapsed())
}

fn throttled(source: &Source) -> usize {
    source.calls().iter().filter(|call| call.is_throttled).count()
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_full_pages_is_read_at_the_quota_of_bytes() {
    let source = Source::new(Plan { record_bytes: |_| 9_999, ..with_quota() }, vec![100_000]);
    let (records, elapsed) = timed_read(&source).await;
    let quota = (1e9 - 10e6) / 2e6;
    assert_eq!((records, throttled(&source)), (100_000, 0));
    let achieved = quota / elapsed.as_secs_f64();
    assert!((0.98..=1.01).contains(&achieved), "{achieved:.3} of the quota");
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_small_pages_is_read_at_the_quota_of_calls() {
    let source = Source::new(Plan { page_records: 100, ..with_quota() }, vec![100_000]);
    let (records, elapsed) = timed_read(&source).await;
    assert_eq!((records, throttled(&source)), (100_000, 0));
    let achieved = 1000.0 / 5.0 / elapsed.as_secs_f64();
    assert!((0.98..=1.01).contains(&achieved), "{achieved:.3} of the quota");
}

#[tokio::test(start_paused = true)]
async fn a_page_of_a_backlog_takes_half_a_second_of_the_quota() {
    // The records of the first page have 1,000 bytes, later ones 10,000.
    let record_bytes = |record| if record < 1_000 { 999 } else { 9_999 };
    let source = Source::new(Plan { record_bytes, ..with_quota() }, vec![10_000]);
    let (records, _) = timed_read(&source).await;
    assert_eq!(records, 10_000);
    let pages: Vec<usize> = source.calls().iter().map(|call| call.records).collect();
    // The size of a fetch depends on the records of the page before it.
    assert!(pages[0] == 1_000 && (985..=1_000).contains(&pages[1]), "{pages:?}");
    assert!(pages[3..pages.len() - 2].iter().all(|records| (99..=100).contains(records)), "{pages:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reader_throttled_by_other_readers_uses_the_rest_of_the_quota_and_recovers() {
    let source = Source::new(Plan { record_bytes: |_| 999, page_bytes: 1_000_000, ..with_quota() }, vec![1_000_000]);
    let mut reader = source.read(ReaderOptions::default()).await;
    let mut rate = async |seconds: u64| {
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut bytes = 0;
        while let Ok(Some(batch)) = tokio::time::timeout_at(until, reader.next_batch()).await {
            bytes += 1000 * batch.unwrap().records.len();
        }
        bytes as f64 / seconds as f64 / 2e6
    };
    assert!(rate(30).await > 0.98);
    source.set_others_share(0.5);
    let contended = rate(60).await;
    assert!((0.35..0.52).contains(&contended), "{contended:.3} of the quota");
    let throttled = throttled(&source);
    assert!((1..60).contains(&throttled), "{throttled} throttled calls");
    source.set_others_share(0.0);
    rate(60).await;
    let recovered = rate(60).await;
    assert!(recovered > 0.98, "{recovered:.3} of the quota");
}

#[tokio::test(start_paused = true)]
async fn polls_of_a_thousand_shards_are_spread_over_the_interval() {
    let plan = Plan { limits: Limits::KINESIS, delay: Duration::from_millis(10), ..Plan::default() };
    let source = Source::new(plan, vec![0; 1000]);
    let mut reader = source.read(ReaderOptions::default()).await;
    let started = Instant::now();
    assert!(timeout(Duration::from_secs(60), reader.next()).await.is_err());
    // From the third second on, after the polls of the start.
    let mut calls_per_tenth = [0; 600];
    let mut calls_per_shard = [0; 1000];
    for call in source.calls() {
        let since = (call.at - started).as_millis() as usize;
        if (2_000..60_000).contains(&since) {
            calls_per_tenth[since / 100] += 1;
            calls_per_shard[call.shard] += 1;
        }
    }
    let (least, most) = (calls_per_tenth[20..].iter().min().unwrap(), calls_per_tenth[20..].iter().max().unwrap());
    assert!(*least > 50 && *most < 150, "{least} to {most} calls in a tenth of a second");
    assert!(
        calls_per_shard.iter().all(|calls| (53..=63).contains(calls)),
        "58 seconds, once a second: {calls_per_shard:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_poll_interval_is_an_option_within_the_quota() {
    for (interval, calls) in [(Duration::from_secs(5), 11..=14), (Duration::ZERO, 250..=300)] {
        let source = Source::new(with_quota(), vec![0]);
        let mut reader = source.read(ReaderOptions::default().with_poll_interval(interval)).await;
        assert!(timeout(Duration::from_secs(60), reader.next()).await.is_err());
        let polls = source.calls().len();
        assert!(calls.contains(&polls), "{polls} calls in a minute, every {interval:?}");
        assert_eq!(throttled(&source), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_with_the_newest_record_is_followed_by_a_pause() {
    let source = Source::new(with_quota(), vec![1]);
    let mut reader = source.read(ReaderOptions::default()).await;
    reader.next().await.unwrap().unwrap();
    for _ in 0..30 {
        // A fetch without a pause would return no records.
        sleep(Duration::from_millis(400)).await;
        source.add(0, 1);
        let added = Instant::now();
        reader.next().await.unwrap().unwrap();
        assert!(added.elapsed() < Duration::from_millis(1150), "{:?}", added.elapsed());
    }
    let (empty, full): (Vec<_>, Vec<_>) = source.calls().into_iter().partition(|call| call.records == 0);
    assert_eq!(full.len(), 31);
    assert!(empty.len() <= 2, "{} empty fetches", empty.len());
}

#[tokio::test(start_paused = true)]
async fn a_reader_until_caught_up_does_not_pause_at_the_end() {
    let source = Source::new(with_quota(), vec![1; 10]);
    let (records, elapsed) = timed_read(&source).await;
    assert_eq!(records, 10);
    assert!(elapsed < Duration::from_millis(300), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_fetches_at_the_same_times() {
    let mut traces = Vec::new();
    for _ in 0..2 {
        let source = Source::new(with_quota(), vec![3, 0, 100_000, 0]);
        let started = Instant::now();
        let mut reader = source.read(ReaderOptions::default()).await;
        while timeout(Duration::from_secs(30), reader.next_batch()).await.is_ok() {}
        traces.push(source.calls().iter().map(|call| (call.shard, call.at - started)).collect::<Vec<_>>());
    }
    assert_eq!(traces[0], traces[1]);
}
