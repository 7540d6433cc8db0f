//! Where the consumer of a reader stands: the checkpoints of what was handed to it.

use crate::model::checkpoint::{Checkpoint, Checkpoints, Progress};
use crate::model::sequence_number::SequenceNumber;
use crate::model::shard::ShardId;
use crate::record::Record;

/// The records of one page, of which some were handed out.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) shard: ShardId,
    records: std::vec::IntoIter<Record>,
    /// Once all of them are handed out.
    pub(super) checkpoint: Checkpoint,
    pub(super) behind: Option<std::time::Duration>,
    /// The last record that was handed out: its sequence number, and its index in its aggregate.
    last: Option<(SequenceNumber, Option<u32>)>,
}

impl Page {
    pub(super) fn new(batch: crate::ShardBatch) -> Self {
        let crate::ShardBatch { shard, records, checkpoint, behind } = batch;
        Self { shard, records: records.into_iter(), checkpoint, behind, last: None }
    }

    /// Hands out the next record.
    pub(super) fn next(&mut self) -> Option<Record> {
        let record = self.records.next()?;
        self.last = Some((record.sequence_number, record.sub_sequence_number));
        Some(record)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.len() == 0
    }

    /// The records that were not handed out.
    pub(super) fn rest(self) -> Vec<Record> {
        self.records.collect()
    }

    /// Where a consumer stands that has handled the records that were handed out; `None` if none was.
    fn progress(&self) -> Option<Progress> {
        let (sequence_number, sub_sequence_number) = self.last?;
        let next = self.records.as_slice().first();
        let is_whole = next.is_none_or(|next| next.sequence_number != sequence_number);
        let sub_sequence_number = sub_sequence_number.filter(|_| !is_whole);
        Some(Progress::After { sequence_number, sub_sequence_number })
    }
}

/// The checkpoints, with the page that is being handed out.
pub(super) fn standing(delivered: &Checkpoints, page: Option<&Page>) -> Checkpoints {
    let mut checkpoints = delivered.clone();
    if let Some((page, progress)) = page.and_then(|page| Some((page, page.progress()?))) {
        let before = checkpoints.shards.get(&page.shard);
        let caught_up_at = before.and_then(|checkpoint| checkpoint.caught_up_at);
        checkpoints.shards.insert(page.shard.clone(), Checkpoint { progress, caught_up_at });
    }
    checkpoints
}
