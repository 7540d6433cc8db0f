//! How fast a shard is read, and how often one that has caught up is asked.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::source::{Plan, Source};
use super::*;
use crate::backend::Quota;

/// 2 MB/s and 5 calls.
fn with_quota() -> Plan {
    let limits = Limits::KINESIS.with_read_quota(Some(Quota::new(2_000_000, 5)));
    Plan { limits, delay: Duration::from_millis(20), ..Plan::default() }
}

async fn read_all(source: &Arc<Source>) -> (usize, Duration) {
    let started = Instant::now();
    let records = all(source.read(to_the_end()).await).await;
    (records.len(), started.elapsed())
}

fn throttled(source: &Source) -> usize {
    source.calls().iter().filter(|call| call.is_throttled).count()
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_full_pages_takes_the_time_that_the_bytes_take() {
    let source = Source::new(Plan { record_bytes: |_| 9_999, ..with_quota() }, vec![100_000]);
    let (records, elapsed) = read_all(&source).await;
    let quota = (1e9 - 10e6) / 2e6;
    assert_eq!((records, throttled(&source)), (100_000, 0));
    let achieved = quota / elapsed.as_secs_f64();
    assert!((0.98..=1.01).contains(&achieved), "{achieved:.3} of the quota");
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_small_pages_takes_the_time_that_the_calls_take() {
    let source = Source::new(Plan { page_records: 100, ..with_quota() }, vec![100_000]);
    let (records, elapsed) = read_all(&source).await;
    assert_eq!((records, throttled(&source)), (100_000, 0));
    let achieved = 1000.0 / 5.0 / elapsed.as_secs_f64();
    assert!((0.98..=1.01).contains(&achieved), "{achieved:.3} of the quota");
}

#[tokio::test(start_paused = true)]
async fn the_pages_of_a_backlog_are_what_the_quota_gives_in_half_a_second() {
    // The first page's records are of 1,000 bytes, those behind it ten times as large.
    let record_bytes = |record| if record < 1_000 { 999 } else { 9_999 };
    let source = Source::new(Plan { record_bytes, ..with_quota() }, vec![10_000]);
    let (records, _) = read_all(&source).await;
    assert_eq!(records, 10_000);
    let pages: Vec<usize> = source.calls().iter().map(|call| call.records).collect();
    // What is asked for follows from the page before.
    assert!(pages[0] == 1_000 && (985..=1_000).contains(&pages[1]), "{pages:?}");
    assert!(pages[3..pages.len() - 2].iter().all(|records| (99..=100).contains(records)), "{pages:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_throttled_by_others_takes_what_is_left_and_all_of_it_again_later() {
    let source = Source::new(Plan { record_bytes: |_| 999, page_bytes: 1_000_000, ..with_quota() }, vec![1_000_000]);
    let mut reader = source.read(ReaderOptions::default()).await;
    let mut rate = async |seconds: u64| {
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut bytes = 0;
        while let Ok(Some(batch)) = tokio::time::timeout_at(until, reader.next_batch()).await {
            bytes += 1000 * batch.unwrap().len();
        }
        bytes as f64 / seconds as f64 / 2e6
    };
    assert!(rate(30).await > 0.98);
    source.others_take(0.5);
    let contended = rate(60).await;
    assert!((0.35..0.52).contains(&contended), "{contended:.3} of the quota");
    let refused = throttled(&source);
    assert!((1..60).contains(&refused), "{refused} throttled calls");
    source.others_take(0.0);
    rate(60).await;
    let recovered = rate(60).await;
    assert!(recovered > 0.98, "{recovered:.3} of the quota");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_shards_that_have_caught_up_are_not_asked_in_step() {
    let plan = Plan { limits: Limits::KINESIS, delay: Duration::from_millis(10), ..Plan::default() };
    let source = Source::new(plan, vec![0; 1000]);
    let mut reader = source.read(ReaderOptions::default()).await;
    let started = Instant::now();
    assert!(timeout(Duration::from_secs(60), reader.next()).await.is_err());
    // After the first round, which nobody waits for.
    let mut in_tenths = [0; 600];
    let mut of_one = [0; 1000];
    for call in source.calls() {
        let since = (call.at - started).as_millis() as usize;
        if (2_000..60_000).contains(&since) {
            in_tenths[since / 100] += 1;
            of_one[call.shard] += 1;
        }
    }
    let (least, most) = (in_tenths[20..].iter().min().unwrap(), in_tenths[20..].iter().max().unwrap());
    assert!(*least > 50 && *most < 150, "{least} to {most} calls in a tenth of a second");
    assert!(of_one.iter().all(|calls| (53..=63).contains(calls)), "58 seconds, once a second: {of_one:?}");
}

#[tokio::test(start_paused = true)]
async fn the_poll_interval_is_an_option_within_the_quota() {
    for (interval, calls) in [(Duration::from_secs(5), 11..=14), (Duration::ZERO, 250..=300)] {
        let source = Source::new(with_quota(), vec![0]);
        let mut reader = source.read(ReaderOptions::default().with_poll_interval(interval)).await;
        assert!(timeout(Duration::from_secs(60), reader.next()).await.is_err());
        let made = source.calls().len();
        assert!(calls.contains(&made), "{made} calls in a minute, every {interval:?}");
        assert_eq!(throttled(&source), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_with_the_newest_record_is_followed_by_a_poll_and_not_by_a_call_at_once() {
    let source = Source::new(with_quota(), vec![1]);
    let mut reader = source.read(ReaderOptions::default()).await;
    reader.next().await.unwrap().unwrap();
    for _ in 0..30 {
        // Who asked at once would find nothing.
        sleep(Duration::from_millis(400)).await;
        source.add(0, 1);
        let added = Instant::now();
        reader.next().await.unwrap().unwrap();
        assert!(added.elapsed() < Duration::from_millis(1150), "{:?}", added.elapsed());
    }
    let (empty, full): (Vec<_>, Vec<_>) = source.calls().into_iter().partition(|call| call.records == 0);
    assert_eq!(full.len(), 31);
    assert!(empty.len() <= 2, "{} calls for nothing", empty.len());
}

#[tokio::test(start_paused = true)]
async fn who_reads_to_the_end_does_not_wait_for_a_poll_to_see_it() {
    let source = Source::new(with_quota(), vec![1; 10]);
    let (records, elapsed) = read_all(&source).await;
    assert_eq!(records, 10);
    assert!(elapsed < Duration::from_millis(300), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_asks_at_the_same_times() {
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
