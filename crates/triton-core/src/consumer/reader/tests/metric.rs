//! The metrics of a reader.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::source::{Plan, Source};
use super::*;

/// A recorder of counters and gauges, by name and labels.
#[derive(Default)]
struct Recorded {
    numbers: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    gauges: Mutex<Vec<String>>,
    /// Number of registrations.
    registrations: AtomicU64,
}

impl Recorded {
    fn number(&self, key: &Key) -> Arc<AtomicU64> {
        self.registrations.fetch_add(1, Ordering::Relaxed);
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

/// A thread-local recorder is enough: the runtime runs every task on this thread.
#[tokio::test(start_paused = true)]
async fn fetches_are_counted_per_shard_and_a_stopped_reader_has_reserved_nothing() {
    let recorded = Recorded::default();
    let guard = metrics::set_default_local_recorder(&recorded);
    let source = Source::new(Plan { page_records: 10, ..Plan::default() }, vec![25, 0]);
    // Ten records of 100 bytes with a key of 1 byte cost 3,010 bytes.
    let mut reader = source.read_within(&Budget::new(8_000), ReaderOptions::default()).await;
    let registrations = recorded.registrations.load(Ordering::Relaxed);
    reader.next_batch().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    while recorded.counter(&format!("triton_reader_records_total {FIRST}")) < 25 {
        let used = recorded.gauge("triton_reader_budget_used_bytes stream=source");
        assert!(used >= 3_010.0, "a page is queued or being fetched: {used}");
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
    assert_eq!(recorded.registrations.load(Ordering::Relaxed), registrations, "metrics are registered once per shard");
    reader.stop_handle().stop();
    read_all(reader).await;
    assert_eq!(recorded.gauge("triton_reader_budget_used_bytes stream=source"), 0.0, "every byte was returned");
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn millis_behind_is_reset_by_a_stop_and_kept_after_a_failure() {
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
    assert_eq!(read_all(reader).await.len(), 2, "the failure, and that the shard is incomplete");
    assert_eq!(recorded.gauge(&of("millis_behind", 0)), 7000.0, "the failed shard is still behind");
    assert_eq!(recorded.gauge(&of("millis_behind", 1)), 0.0);
    assert_eq!(recorded.counter(&of("throttles_total", 0)), 1);
    assert_eq!(recorded.counter(&of("fetches_total", 0)), 3, "failed fetches count");
    drop(guard);
}
