//! UpdateShardCount as AWS does it: by splits and merges, so that every shard knows its parents. ferrokinesis makes
//! children without parents.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use ferrokinesis::actions::Operation;
use ferrokinesis::types::{Stream, StreamStatus};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::history::{History, is_closed};
use super::stream_of;
use crate::fault::Faults;
use crate::inner::{Inner, refused};
use crate::wire::Answer;

/// How often to check whether a split or merge has finished.
const LOOK: Duration = Duration::from_millis(1);

/// The streams whose shard count is changing.
pub(super) struct Resharding {
    inner: Inner,
    history: Arc<History>,
    faults: Arc<Faults>,
    shard_limit: u32,
    /// The change in progress of each stream. The number tells it from a change of an earlier stream of that name.
    under_way: Mutex<HashMap<String, u64>>,
    next: AtomicU64,
}

/// An open shard: the first and the last of its hash keys, and its name.
struct Open {
    first: u128,
    last: u128,
    id: String,
}

/// A split or a merge.
enum Step {
    Split { shard: String, at: u128 },
    Merge { shard: String, next: String },
}

impl Resharding {
    pub(super) fn new(inner: Inner, history: Arc<History>, faults: Arc<Faults>, shard_limit: u32) -> Self {
        Self { inner, history, faults, shard_limit, under_way: Mutex::default(), next: AtomicU64::new(0) }
    }

    pub(super) fn is_under_way(&self, stream: &str) -> bool {
        self.marks().contains_key(stream)
    }

    pub(super) fn forget(&self, stream: &str) {
        self.marks().remove(stream);
    }

    /// Rejects splits and merges of closed shards, which ferrokinesis accepts.
    pub(super) async fn check(&self, body: &Value) -> Result<(), Answer> {
        let name = stream_of(body);
        // A missing stream is rejected by ferrokinesis.
        let Ok(stream) = self.inner.store.get_stream(name).await else { return Ok(()) };
        if self.is_under_way(name) {
            return Err(self.in_use(name));
        }
        for field in ["ShardToSplit", "ShardToMerge", "AdjacentShardToMerge"] {
            let Some(id) = body[field].as_str() else { continue };
            if stream.shards.iter().any(|shard| shard.shard_id == id && is_closed(shard)) {
                return Err(Answer::invalid(format_args!(
                    "Shard {id} in stream {name} under account {} has already been merged or split, and thus is not \
                     eligible for merging or splitting.",
                    self.inner.store.aws_account_id
                )));
            }
        }
        Ok(())
    }

    /// Starts a change of the shard count and returns while it goes on.
    pub(super) async fn update_shard_count(self: &Arc<Self>, body: &Value) -> Result<Answer, Answer> {
        Inner::validate(Operation::UpdateShardCount, body)?;
        let name = stream_of(body);
        let target = u32::try_from(body["TargetShardCount"].as_u64().unwrap_or_default()).unwrap_or(u32::MAX);
        let stream = self.inner.store.get_stream(name).await.map_err(|why| refused(&why))?;
        if stream.stream_status != StreamStatus::Active || self.is_under_way(name) {
            return Err(self.in_use(name));
        }
        let open = open_shards(&stream);
        let count = u32::try_from(open.len()).unwrap_or(u32::MAX);
        if target > count.saturating_mul(2) {
            return Err(Answer::invalid(
                "UpdateShardCount cannot be scaled up over double your current open shard count.",
            ));
        }
        if target < count.div_ceil(2) {
            return Err(Answer::invalid(
                "UpdateShardCount cannot be scaled down below half your current open shard count.",
            ));
        }
        let all = self.inner.store.sum_open_shards().await;
        if all.saturating_sub(count).saturating_add(target) > self.shard_limit {
            return Err(Answer::refusal(
                "LimitExceededException",
                format_args!("This request would exceed the shard limit of {}.", self.shard_limit),
            ));
        }
        let boundaries = boundaries(target, &open);
        let mark = self.next.fetch_add(1, Ordering::Relaxed);
        self.marks().insert(name.to_owned(), mark);
        tokio::spawn(Arc::clone(self).reshard(name.to_owned(), mark, boundaries));
        let answer = json!({
            "StreamName": name,
            "StreamARN": stream.stream_arn,
            "CurrentShardCount": count,
            "TargetShardCount": target,
        });
        Ok(Answer::of_json(StatusCode::OK, &answer))
    }

    async fn reshard(self: Arc<Self>, name: String, mark: u64, boundaries: Vec<u128>) {
        // Also stops when the stream is deleted or the shard limit is reached.
        while self.marks().get(&name) == Some(&mark)
            && let Ok(stream) = self.inner.store.get_stream(&name).await
        {
            self.history.note(&stream);
            if stream.stream_status == StreamStatus::Updating || self.faults.holds_resharding() {
                sleep(LOOK).await;
                continue;
            }
            let Some(step) = next_step(&open_shards(&stream), &boundaries) else { break };
            let taken = match step {
                Step::Split { shard, at } => {
                    let body = json!({"StreamName": name, "ShardToSplit": shard, "NewStartingHashKey": at.to_string()});
                    self.inner.perform(Operation::SplitShard, body).await
                }
                Step::Merge { shard, next } => {
                    let body = json!({"StreamName": name, "ShardToMerge": shard, "AdjacentShardToMerge": next});
                    self.inner.perform(Operation::MergeShards, body).await
                }
            };
            if taken.is_err() {
                break;
            }
        }
        let mut marks = self.marks();
        if marks.get(&name) == Some(&mark) {
            marks.remove(&name);
        }
    }

    fn in_use(&self, stream: &str) -> Answer {
        let account = &self.inner.store.aws_account_id;
        Answer::refusal(
            "ResourceInUseException",
            format_args!("Stream {stream} under account {account} not ACTIVE, instead in state UPDATING"),
        )
    }

    fn marks(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        // No change is left half done by a panic.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The open shards in the order of their hash keys.
fn open_shards(stream: &Stream) -> Vec<Open> {
    let open = stream.shards.iter().filter(|shard| !is_closed(shard));
    let mut open: Vec<_> = open
        .map(|shard| Open {
            first: shard.hash_key_range.start_u128(),
            last: shard.hash_key_range.end_u128(),
            id: shard.shard_id.clone(),
        })
        .collect();
    open.sort_unstable_by_key(|shard| shard.first);
    open
}

/// The first hash keys of the target shards, without the first shard's. A boundary that differs from an existing one
/// only by rounding is the existing one: no shard should be a few hash keys wide.
fn boundaries(target: u32, open: &[Open]) -> Vec<u128> {
    if target < 2 {
        return Vec::new();
    }
    let count = u128::from(target);
    // 2^128 = width * count + rest, though 2^128 itself does not fit.
    let (width, rest) = match (u128::MAX / count, u128::MAX % count + 1) {
        (width, rest) if rest == count => (width + 1, 0),
        division => division,
    };
    (1..count)
        .map(|place| {
            let exact = place * width + place * rest / count;
            open.iter().map(|shard| shard.first).find(|first| first.abs_diff(exact) <= 2 * count).unwrap_or(exact)
        })
        .collect()
}

/// The next step: first every split, then every merge.
fn next_step(open: &[Open], boundaries: &[u128]) -> Option<Step> {
    for shard in open {
        let inside = boundaries.partition_point(|boundary| *boundary <= shard.first);
        if let Some(at) = boundaries.get(inside).filter(|at| **at <= shard.last) {
            return Some(Step::Split { shard: shard.id.clone(), at: *at });
        }
    }
    let mut pairs = open.windows(2);
    let pair = pairs.find(|pair| boundaries.binary_search(&pair[1].first).is_err())?;
    Some(Step::Merge { shard: pair[0].id.clone(), next: pair[1].id.clone() })
}
