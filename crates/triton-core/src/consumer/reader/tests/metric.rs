//! The numbers that a reader counts.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::source::{Plan, Source};
use super::*;
use crate::Budget;

/// Counters and gauges by their names and labels.
#[derive(Default)]
struct Recorded {
    numbers: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    gauges: Mutex<Vec<String>>,
    /// Handles that were made.
    made: AtomicU64,
}

impl Recorded {
    fn number(&self, key: &Key) -> Arc<AtomicU64> {
        self.made.fetch_add(1, Ordering::Relaxed);
        Arc::clone(self.numbers.lock().unwrap().entry(name(key)).or_default())
    }

    fn counter(&self, name: &str) -> u64 {
        self.numbers.lock().unwrap()[name].load(Ordering::Relaxed)
    }

    fn gauge(&self, name: &str) -> f64 {
        assert!(self.gauges.lock().unwrap().iter().any(|gauge| gauge == name));
        f64::from_bits(self.counter(name))
    }
}

fn name(key: &Key) -> String {
    key.labels().fold(key.name().to_owned(), |name, label| format!("{name} {}={}", label.key(), label.value()))
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.number(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.gauges.lock().unwrap().push(name(key));
        Gauge::from_arc(self.number(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

const FIRST: &str = "stream=source shard=shardId-000000000000";
const SECOND: &str = "stream=source shard=shardId-000000000001";

/// On this thread alone, where a paused runtime runs its tasks.
#[tokio::test(start_paused = true)]
async fn what_is_fetched_is_counted_by_shard_and_what_ended_is_not_behind() {
    let recorded = Recorded::default();
    let guard = metrics::set_default_local_recorder(&recorded);
    let source = Source::new(Plan { page_records: 10, ..Plan::default() }, vec![25, 0]);
    // A page of 10 records of 100 bytes, with a key of 1, costs 3,010.
    let options = ReaderOptions::default().with_budget(Budget::new(8_000));
    let mut reader = source.read(options).await;
    let made = recorded.made.load(Ordering::Relaxed);
    reader.next_batch().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    while recorded.counter(&format!("triton_reader_records_total {FIRST}")) < 25 {
        let used = recorded.gauge("triton_reader_budget_used_bytes stream=source");
        assert!(used >= 3_010.0, "a page waits, or is under way: {used}");
        let behind = recorded.gauge(&format!("triton_reader_millis_behind {FIRST}"));
        assert_eq!(behind, 25.0 - recorded.counter(&format!("triton_reader_records_total {FIRST}")) as f64);
        reader.next_batch().await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(recorded.counter(&format!("triton_reader_bytes_total {FIRST}")), 25 * 101);
    assert_eq!(recorded.counter(&format!("triton_reader_records_total {SECOND}")), 0);
    assert!(recorded.counter(&format!("triton_reader_fetches_total {SECOND}")) >= 1);
    let fetches = source.calls().iter().filter(|call| call.shard == 0).count() as u64;
    assert_eq!(recorded.counter(&format!("triton_reader_fetches_total {FIRST}")), fetches);
    assert_eq!(recorded.made.load(Ordering::Relaxed), made, "handles are made once a shard");
    reader.stop_handle().stop();
    all(reader).await;
    assert_eq!(recorded.gauge("triton_reader_budget_used_bytes stream=source"), 0.0, "all was given back");
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn who_is_stopped_behind_is_not_behind_any_more_and_who_fails_stays_so() {
    let recorded = Recorded::default();
    let guard = metrics::set_default_local_recorder(&recorded);
    let throttled = Fetch::Fails(Error::Throttled { problem: "over the quota".into() });
    let client =
        Scripted::new(vec![vec![Fetch::Empty(7000), throttled, broken()], vec![Fetch::Empty(5000), Fetch::Hangs]]);
    let reader = client.read(ReaderOptions::default()).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let of = |name: &str, shard| format!("triton_reader_{name} stream=scripted shard=shardId-00000000000{shard}");
    assert_eq!(recorded.gauge(&of("millis_behind", 1)), 5000.0);
    reader.stop_handle().stop();
    assert_eq!(all(reader).await.len(), 1);
    assert_eq!(recorded.gauge(&of("millis_behind", 0)), 7000.0, "it was never read to its end");
    assert_eq!(recorded.gauge(&of("millis_behind", 1)), 0.0);
    assert_eq!(recorded.counter(&of("throttles_total", 0)), 1);
    assert_eq!(recorded.counter(&of("fetches_total", 0)), 3, "failed ones count");
    drop(guard);
}
