//! Where the reading of a shard starts: a checkpoint or a record, as a position that backends know. Backends know no records
//! inside of aggregates: such a start is at the aggregate, and the records before it are dropped.

use crate::error::{Error, Result};
use crate::model::checkpoint::{Checkpoint, Progress};
use crate::model::position::Position;
use crate::model::record_id::{RecordId, Within};
use crate::model::sequence_number::SequenceNumber;
use crate::model::shard::ShardId;
use crate::record::Record;

/// Where the reading of a shard starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::consumer) struct ShardStart {
    pub(in crate::consumer) position: Position,
    /// The records that are dropped at the position.
    pub(super) dropped: Option<Dropped>,
    /// What the consumer has handled before; `None` if the position alone says it.
    pub(super) checkpoint: Option<Checkpoint>,
}

/// The records of an aggregate that come before the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::consumer) struct Dropped {
    /// The aggregate's.
    sequence_number: SequenceNumber,
    /// How many of its records are dropped.
    count: u32,
}

impl From<Position> for ShardStart {
    fn from(position: Position) -> Self {
        Self { position, dropped: None, checkpoint: None }
    }
}

impl ShardStart {
    /// Where a consumer goes on that has handled this much of a shard; `None` at its end.
    pub(in crate::consumer) fn resume(checkpoint: Checkpoint) -> Option<Self> {
        let caught_up_at = checkpoint.caught_up_at;
        let (position, dropped) = match checkpoint.progress {
            Progress::Ended => return None,
            Progress::NotStarted => (caught_up_at.map_or(Position::TrimHorizon, Position::AtTime), None),
            Progress::After { sequence_number, sub_sequence_number: None } => {
                (Position::After { sequence_number, caught_up_at }, None)
            }
            Progress::After { sequence_number, sub_sequence_number: Some(sub) } => {
                (Position::At(sequence_number), Some(Dropped { sequence_number, count: sub.saturating_add(1) }))
            }
        };
        Some(Self { position, dropped, checkpoint: Some(checkpoint) })
    }

    /// At this record.
    pub(in crate::consumer) fn at(record: &RecordId) -> Self {
        let RecordId { sequence_number, sub_sequence_number, .. } = *record;
        let dropped = sub_sequence_number.map(|count| Dropped { sequence_number, count });
        Self { position: Position::At(sequence_number), dropped, checkpoint: None }
    }
}

impl Dropped {
    /// Drops these records from the first page of a shard.
    ///
    /// # Errors
    /// [`Error::InvalidPosition`] if the aggregate has fewer records.
    pub(super) fn drop_from(self, shard: &ShardId, records: &mut Vec<Record>) -> Result<()> {
        let found = records.iter().take_while(|record| record.sequence_number == self.sequence_number).count();
        // Widening.
        let count = self.count as usize;
        if found > 0 && count > found {
            let sub = self.count - 1;
            let position = Within(self.sequence_number, Some(sub)).to_string();
            let problem = match records[0].sub_sequence_number {
                Some(_) => format!("that aggregate has {found} records, from 0"),
                None => "that record is no aggregate".to_owned(),
            };
            return Err(Error::InvalidPosition { shard: shard.clone(), position, problem });
        }
        records.drain(..count.min(found));
        Ok(())
    }
}

/// What a reader that was opened here has handled: the part of its checkpoint that a position says.
pub(super) fn checkpoint_at(position: Position) -> Option<Checkpoint> {
    match position {
        // Only a record after this one has a checkpoint.
        Position::At(_) | Position::Latest => None,
        Position::TrimHorizon => Some(Checkpoint::NOT_STARTED),
        Position::AtTime(time) => Some(Checkpoint::NOT_STARTED.with_caught_up_at(time)),
        Position::After { sequence_number, caught_up_at } => {
            Some(Checkpoint { progress: Progress::After { sequence_number, sub_sequence_number: None }, caught_up_at })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::timestamp::Timestamp;
    use crate::record::PartitionKey;

    fn id(sequence_number: u64, sub: Option<u32>) -> RecordId {
        RecordId { sub_sequence_number: sub, ..RecordId::new(ShardId::numbered(0), sequence_number) }
    }

    /// Records `(sequence number, sub-sequence number)` after those that a start drops.
    fn left(start: ShardStart, page: &[(u64, Option<u32>)]) -> Result<Vec<(u64, Option<u32>)>> {
        let record = |&(number, sub): &(u64, Option<u32>)| {
            let key = PartitionKey::stored("k");
            let mut record = Record::new(ShardId::numbered(0), number.into(), key, Timestamp::from_millis(0), "");
            record.sub_sequence_number = sub;
            record
        };
        let mut records: Vec<Record> = page.iter().map(record).collect();
        if let Some(dropped) = start.dropped {
            dropped.drop_from(&ShardId::numbered(0), &mut records)?;
        }
        let number = |record: &Record| u64::try_from(record.sequence_number).unwrap();
        Ok(records.iter().map(|record| (number(record), record.sub_sequence_number)).collect())
    }

    const PAGE: [(u64, Option<u32>); 4] = [(7, Some(0)), (7, Some(1)), (7, Some(2)), (8, None)];

    #[test]
    fn inside_an_aggregate_the_rest_of_it_follows() {
        let after = |sub| ShardStart::resume(Checkpoint::after(&id(7, Some(sub)))).unwrap();
        assert_eq!(after(0).position, Position::At(7.into()));
        assert_eq!(left(after(0), &PAGE).unwrap(), PAGE[1..]);
        assert_eq!(left(after(1), &PAGE).unwrap(), PAGE[2..]);
        assert_eq!(left(after(2), &PAGE).unwrap(), PAGE[3..]);
        assert_eq!(left(ShardStart::at(&id(7, Some(1))), &PAGE).unwrap(), PAGE[1..]);
        assert_eq!(left(ShardStart::at(&id(7, Some(0))), &PAGE).unwrap(), PAGE);
        assert_eq!(left(ShardStart::at(&id(7, None)), &PAGE).unwrap(), PAGE);
    }

    #[test]
    fn sub_sequence_number_0_of_a_plain_record_is_that_record() {
        let start = ShardStart::resume(Checkpoint::after(&id(8, Some(0)))).unwrap();
        assert_eq!(left(start, &[(8, None), (9, None)]).unwrap(), [(9, None)]);
        assert_eq!(left(ShardStart::at(&id(8, Some(0))), &[(8, None)]).unwrap(), [(8, None)]);
    }

    #[test]
    fn a_record_that_the_aggregate_does_not_have_is_refused() {
        let after = |number, sub| ShardStart::resume(Checkpoint::after(&id(number, Some(sub)))).unwrap();
        let error = left(after(7, 3), &PAGE).unwrap_err();
        assert_eq!(error.to_string(), "shardId-000000000000: no record 7.3: that aggregate has 3 records, from 0");
        let error = left(after(8, 1), &PAGE[3..]).unwrap_err();
        assert_eq!(error.to_string(), "shardId-000000000000: no record 8.1: that record is no aggregate");
    }

    #[test]
    fn a_checkpoint_says_where_its_shard_is_opened() {
        let position = |checkpoint| ShardStart::resume(checkpoint).map(|start| start.position);
        let time = Timestamp::from_millis(5);
        assert_eq!(position(Checkpoint::ENDED), None);
        assert_eq!(position(Checkpoint::NOT_STARTED), Some(Position::TrimHorizon));
        assert_eq!(position(Checkpoint::NOT_STARTED.with_caught_up_at(time)), Some(Position::AtTime(time)));
        let after = Checkpoint::after(&id(7, None)).with_caught_up_at(time);
        let expected = Position::After { sequence_number: 7.into(), caught_up_at: Some(time) };
        assert_eq!(position(after), Some(expected));
        assert_eq!(checkpoint_at(expected), Some(after));
    }
}
