//! Shard lists other than the current one: those of some time ago, and partial ones.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ferrokinesis::types::{Shard, Stream, StreamStatus};
use serde_json::Value;
use tokio::time::sleep;

use crate::inner::Inner;
use crate::mode::{MissingShards, View};
use crate::wire::now_ms;

/// How often to check whether a split or merge has finished.
const LOOK: Duration = Duration::from_millis(1);

/// When splits and merges opened and closed the shards of each stream.
pub(super) struct History {
    inner: Inner,
    streams: Mutex<HashMap<String, Times>>,
}

/// Times in milliseconds of the wall clock, by shard. The shards that a stream was created with have no opening time.
#[derive(Default)]
struct Times {
    opened: HashMap<String, u64>,
    closed: HashMap<String, u64>,
}

impl History {
    pub(super) fn new(inner: Inner) -> Self {
        Self { inner, streams: Mutex::default() }
    }

    /// Notes the end of a split or merge that was accepted. ferrokinesis does not say when it is done.
    pub(super) async fn watch(&self, name: &str) {
        while let Ok(stream) = self.inner.store.get_stream(name).await {
            if stream.stream_status != StreamStatus::Updating {
                self.note(&stream);
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Notes the shards that have been opened or closed since the last call.
    pub(super) fn note(&self, stream: &Stream) {
        let now = now_ms();
        let mut streams = self.streams();
        let Times { opened, closed } = streams.entry(stream.stream_name.clone()).or_default();
        for shard in &stream.shards {
            if shard.parent_shard_id.is_some() {
                opened.entry(shard.shard_id.clone()).or_insert(now);
            }
            if is_closed(shard) {
                closed.entry(shard.shard_id.clone()).or_insert(now);
            }
        }
    }

    /// Forgets a stream.
    pub(super) fn forget(&self, stream: &str) {
        self.streams().remove(stream);
    }

    /// Changes the current list of a stream, or a page of it, to another view; returns whether they differ.
    pub(super) async fn show(&self, view: View, name: &str, list: &mut Vec<Value>) -> bool {
        // A stream that is missing by now has no list.
        let Ok(stream) = self.inner.store.get_stream(name).await else { return false };
        let (hidden, reopened) = match view {
            View::Current => return false,
            View::AsOf(ms) => {
                // A change that `watch` has not seen yet is later.
                self.note(&stream);
                self.later_than(ms, name)
            }
            View::Without(MissingShards::Parents) => (parents(&stream.shards), HashSet::new()),
            View::Without(MissingShards::SecondChildren) => (second_children(&stream.shards), HashSet::new()),
        };
        let is_in = |ids: &HashSet<String>, shard: &Value| shard["ShardId"].as_str().is_some_and(|id| ids.contains(id));
        let before = list.len();
        list.retain(|shard| !is_in(&hidden, shard));
        let mut differs = list.len() < before;
        for shard in list.iter_mut().filter(|shard| is_in(&reopened, shard)) {
            if let Some(range) = shard["SequenceNumberRange"].as_object_mut() {
                differs |= range.shift_remove("EndingSequenceNumber").is_some();
            }
        }
        differs
    }

    /// The shards that were opened, and those that were closed, after a time.
    fn later_than(&self, ms: u64, name: &str) -> (HashSet<String>, HashSet<String>) {
        let later = |times: &HashMap<String, u64>| {
            times.iter().filter(|(_, time)| **time > ms).map(|(shard, _)| shard.clone()).collect()
        };
        self.streams().get(name).map(|times| (later(&times.opened), later(&times.closed))).unwrap_or_default()
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<String, Times>> {
        // No change is left half done by a panic.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn is_closed(shard: &Shard) -> bool {
    shard.sequence_number_range.ending_sequence_number.is_some()
}

fn parents(shards: &[Shard]) -> HashSet<String> {
    shards.iter().filter(|shard| is_closed(shard)).map(|shard| shard.shard_id.clone()).collect()
}

/// The second child of each split. The child of a merge has two parents and is the only one.
fn second_children(shards: &[Shard]) -> HashSet<String> {
    let mut split = HashSet::new();
    let of_splits = shards.iter().filter(|shard| shard.adjacent_parent_shard_id.is_none());
    of_splits
        .filter(|shard| shard.parent_shard_id.as_ref().is_some_and(|parent| !split.insert(parent)))
        .map(|shard| shard.shard_id.clone())
        .collect()
}
