//! The end of a closed shard: the last page names the child shards, which ferrokinesis does not do.

use ferrokinesis::types::Shard;
use serde_json::{Value, json};

use super::Shim;
use super::history::is_closed;
use crate::mode::EndMode;

/// The field of a shard's last page and of its last event.
pub(super) const CHILD_SHARDS: &str = "ChildShards";

impl Shim {
    /// Makes a page without later records the last one, if its shard is closed and its end is reported; returns whether
    /// it is the last.
    pub(super) async fn end_page(&self, stream: &str, shard: &str, page: &mut Value) -> bool {
        let Ok(stream) = self.inner.store.get_stream(stream).await else { return false };
        if !stream.shards.iter().any(|found| found.shard_id == shard && is_closed(found)) {
            return false;
        }
        let children = match self.faults.end_mode() {
            EndMode::WithChildren => Some(children(&stream.shards, shard)),
            EndMode::WithoutChildren => None,
            EndMode::Never => return false,
        };
        if let Some(fields) = page.as_object_mut() {
            fields.shift_remove("NextShardIterator");
            fields.extend(children.map(|children| (CHILD_SHARDS.to_owned(), children)));
        }
        true
    }
}

fn children(shards: &[Shard], parent: &str) -> Value {
    let children = shards.iter().filter_map(|child| {
        let parents = [child.parent_shard_id.as_deref(), child.adjacent_parent_shard_id.as_deref()];
        let parents: Vec<&str> = parents.into_iter().flatten().collect();
        let keys = &child.hash_key_range;
        parents
            .contains(&parent)
            .then(|| json!({"ShardId": child.shard_id, "ParentShards": parents, "HashKeyRange": keys}))
    });
    children.collect()
}
