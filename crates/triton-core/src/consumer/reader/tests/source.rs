//! A simulated stream: shards with a backlog, a delay, and a quota that throttles as Kinesis does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::backend::{Batch, Limits, ShardReader, StreamClient};
use crate::consumer::reader::Reader;
use crate::consumer::{ReaderOptions, Start};
use crate::error::{Error, Result};
use crate::flow::Budget;
use crate::model::position::Position;
use crate::model::shard::{Shard, ShardId};
use crate::model::shard_map::ShardMap;
use crate::model::timestamp::Timestamp;
use crate::record::{Entries, PartitionKey, PutReceipt, Record};

/// Configuration of a source, for all of its shards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) limits: Limits,
    /// Maximum records and bytes per page.
    pub(super) page_records: usize,
    pub(super) page_bytes: usize,
    /// Bytes of the record with this number.
    pub(super) record_bytes: fn(u64) -> usize,
    /// Duration of a call.
    pub(super) delay: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            limits: Limits::KINESIS.with_read_quota(None).with_write_quota(None),
            page_records: 10_000,
            page_bytes: 10 << 20,
            record_bytes: |_| 100,
            delay: Duration::ZERO,
        }
    }
}

/// A completed fetch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) shard: usize,
    pub(super) at: Instant,
    pub(super) records: usize,
    pub(super) is_throttled: bool,
}

/// A stream whose records are numbered from 1 per shard. Payloads are slices of one buffer, so that gigabytes cost no
/// memory.
#[derive(Debug)]
pub(super) struct Source {
    shards: Vec<Shard>,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    plan: Plan,
    buffer: Bytes,
    available: watch::Sender<Vec<u64>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    calls: Vec<Call>,
    buckets: Vec<Bucket>,
    /// Share of every shard's quota that other readers use, from 0 to 1.
    others_share: f64,
}

/// Token bucket of a shard: holds at most one second of the quota. The bytes of a page may overdraw it.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    calls: f64,
    bytes: f64,
    filled: Instant,
}

impl Source {
    /// Creates a stream with one shard per backlog.
    pub(super) fn new(plan: Plan, backlogs: Vec<u64>) -> Arc<Self> {
        let shards = ShardMap::uniform("source", backlogs.len(), 1).unwrap().shards().to_vec();
        let quota = plan.limits.read_quota;
        let bucket = Bucket {
            calls: quota.map_or(0.0, |quota| f64::from(quota.count)),
            bytes: quota.map_or(0.0, |quota| f64::from(quota.bytes)),
            filled: Instant::now(),
        };
        let state = State { calls: Vec::new(), buckets: vec![bucket; backlogs.len()], others_share: 0.0 };
        let inner = Inner {
            plan,
            buffer: Bytes::from(vec![0; 1 << 20]),
            available: watch::Sender::new(backlogs),
            state: Mutex::new(state),
        };
        Arc::new(Self { shards, inner: Arc::new(inner) })
    }

    pub(super) async fn read(self: &Arc<Self>, options: ReaderOptions) -> Reader {
        let client: Arc<dyn StreamClient> = Arc::<Self>::clone(self);
        Reader::start(client, Start::All, options.with_seed(1)).await.unwrap()
    }

    /// The same, within a budget.
    pub(super) async fn read_within(self: &Arc<Self>, budget: &Budget, options: ReaderOptions) -> Reader {
        let client: Arc<dyn StreamClient> = Arc::<Self>::clone(self);
        let builder = Reader::builder(client).options(options.with_seed(1)).budget(budget.clone());
        builder.start(Start::All).await.unwrap()
    }

    /// Adds records to a shard.
    pub(super) fn add(&self, shard: usize, records: u64) {
        self.inner.available.send_modify(|available| available[shard] += records);
    }

    /// Sets the share of every shard's quota that other readers use, from 0 to 1.
    pub(super) fn set_others_share(&self, share: f64) {
        self.inner.state.lock().unwrap().others_share = share;
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.inner.state.lock().unwrap().calls.clone()
    }
}

#[async_trait]
impl StreamClient for Source {
    fn name(&self) -> &str {
        "source"
    }

    async fn created_at(&self) -> Result<Timestamp> {
        Ok(Timestamp::default())
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        Ok(self.shards.clone())
    }

    async fn put_batch(&self, _: Entries) -> Result<Vec<Result<PutReceipt>>> {
        Ok(Vec::new())
    }

    async fn open_shard(&self, shard: &ShardId, position: Position) -> Result<Box<dyn ShardReader>> {
        assert_eq!(position, Position::TrimHorizon, "no iterator of a source expires");
        let number = self.shards.iter().position(|other| other.id == *shard).unwrap();
        let available = self.inner.available.subscribe();
        let (inner, shard) = (Arc::clone(&self.inner), shard.clone());
        Ok(Box::new(SourceShard { inner, available, shard, number, after: 0, is_caught_up: false }))
    }

    async fn limits(&self) -> Result<Limits> {
        Ok(self.inner.plan.limits)
    }
}

#[derive(Debug)]
struct SourceShard {
    inner: Arc<Inner>,
    available: watch::Receiver<Vec<u64>>,
    shard: ShardId,
    number: usize,
    after: u64,
    is_caught_up: bool,
}

#[async_trait]
impl ShardReader for SourceShard {
    async fn next_batch(&mut self, max_records: usize) -> Result<Option<Batch>> {
        let plan = self.inner.plan;
        if plan.limits.pushes && self.is_caught_up {
            let (number, after) = (self.number, self.after);
            let more = self.available.wait_for(|available| available[number] > after);
            drop(timeout(Duration::from_secs(1), more).await);
        }
        if !plan.delay.is_zero() {
            sleep(plan.delay).await;
        }
        let last = self.available.borrow()[self.number];
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut state = self.inner.state.lock().unwrap();
        let call = Call {
            shard: self.number,
            at: Instant::now(),
            records: 0,
            is_throttled: state.throttles(self.number, &plan.limits),
        };
        state.calls.push(call);
        if call.is_throttled {
            return Err(Error::Throttled { problem: "over the quota".into() });
        }
        while self.after < last && records.len() < plan.page_records.min(max_records) && bytes < plan.page_bytes {
            self.after += 1;
            let data = self.inner.buffer.slice(..(plan.record_bytes)(self.after));
            bytes += data.len() + 1;
            let key = PartitionKey::stored("k");
            records.push(Record::new(self.shard.clone(), self.after.into(), key, Timestamp::default(), data));
        }
        state.buckets[self.number].bytes -= bytes as f64;
        if let Some(call) = state.calls.last_mut() {
            call.records = records.len();
        }
        self.is_caught_up = self.after == last;
        Ok(Some(Batch::new(records, Some(Duration::from_millis(last - self.after)))))
    }

    fn position(&self) -> Position {
        Position::after(self.after)
    }
}

impl State {
    /// Whether a call now is over the shard's quota. Otherwise it uses a token.
    fn throttles(&mut self, shard: usize, limits: &Limits) -> bool {
        let Some(quota) = limits.read_quota else { return false };
        let (now, left) = (Instant::now(), 1.0 - self.others_share);
        let (calls, bytes) = (f64::from(quota.count) * left, f64::from(quota.bytes) * left);
        let bucket = &mut self.buckets[shard];
        let seconds = now.duration_since(bucket.filled).as_secs_f64();
        bucket.filled = now;
        bucket.calls = (bucket.calls + calls * seconds).min(calls.max(1.0));
        bucket.bytes = (bucket.bytes + bytes * seconds).min(bytes);
        let is_over = bucket.calls < 1.0 || bucket.bytes <= 0.0;
        if !is_over {
            bucket.calls -= 1.0;
        }
        is_over
    }
}
