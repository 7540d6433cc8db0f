//! Which part of a stream a reader reads.

use std::collections::BTreeSet;

use crate::model::hash_key::HashKeyRange;
use crate::model::shard::ShardId;

/// The shards that a reader owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::consumer) enum Share {
    All,
    /// These, and their descendants. A merged shard descends from its first parent.
    Shards(BTreeSet<ShardId>),
    /// Those whose first hash key lies in this range.
    HashKeys(HashKeyRange),
}

impl Share {
    /// The shards that were chosen by their ids.
    pub(in crate::consumer) fn chosen(&self) -> impl Iterator<Item = &ShardId> {
        let chosen = if let Self::Shards(chosen) = self { Some(chosen) } else { None };
        chosen.into_iter().flatten()
    }
}
