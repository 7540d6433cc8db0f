//! What a shard's task hands to the consumer.

use std::time::Duration;

use crate::error::Error;
use crate::model::checkpoint::Checkpoint;
use crate::model::shard::ShardId;
use crate::record::Record;

use super::prefetch::PrefetchPermit;

/// Records of one shard, in the order of their sequence numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardBatch {
    /// The shard.
    pub shard: ShardId,
    /// The records, at least one; none in a [`ReaderEvent::Batch`] that only moves the checkpoint of an idle shard.
    pub records: Vec<Record>,
    /// Where a consumer stands that has handled these records, and everything before them.
    pub checkpoint: Checkpoint,
    /// How far the newest of these records was behind the newest record of the shard when they were fetched; `None` if the
    /// backend did not say.
    pub behind: Option<Duration>,
}

/// What happens in a stream that is read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReaderEvent {
    /// Records of one shard.
    Batch(ShardBatch),
    /// Reading a shard has failed for as long as the [`RetryPolicy`](crate::RetryPolicy) allows. It goes on by itself.
    Retrying {
        /// The shard.
        shard: ShardId,
        /// What fails.
        error: Error,
    },
    /// A shard is not read any further. The others are, except for those split or merged from it.
    Failed {
        /// The shard.
        shard: ShardId,
        /// Why.
        error: Error,
    },
    /// Every record of a closed shard was delivered.
    Ended {
        /// The shard.
        shard: ShardId,
        /// The shards that it was split or merged into, whether this reader owns them or not.
        children: Vec<ShardId>,
    },
}

/// An event on its way from a task to the reader.
#[derive(Debug)]
pub(in crate::consumer) struct Delivery {
    pub(in crate::consumer) event: ReaderEvent,
    /// The memory of the records, until they are handed to the caller.
    pub(in crate::consumer) permit: Option<PrefetchPermit>,
}

impl From<ReaderEvent> for Delivery {
    fn from(event: ReaderEvent) -> Self {
        Self { event, permit: None }
    }
}
