//! Where a reader stands in a shard, and where a position is.

use rusqlite::{Connection, OptionalExtension};
use triton_core::{Position, SequenceNumber, ShardId, Timestamp};

use crate::layout::{self, ShardRow, StreamRow};

/// Where a reader stands in a shard.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    pub(crate) shard: ShardId,
    pub(crate) number: u64,
    /// First sequence number of the stream: differs if the stream is deleted and created again.
    pub(crate) first_sequence: i64,
    /// Sequence number of the shard's last record before those to read; 0 if there is none.
    pub(crate) after: i64,
    /// Every record that arrived before this time was read.
    pub(crate) caught_up_at: Option<Timestamp>,
}

impl Cursor {
    pub(crate) fn new(shard: ShardId, number: u64, first_sequence: i64, after: i64, position: Position) -> Self {
        let caught_up_at = if let Position::After { caught_up_at, .. } = position { caught_up_at } else { None };
        Self { shard, number, first_sequence, after, caught_up_at }
    }

    pub(crate) fn position(&self) -> Position {
        match self.after {
            0 => Position::TrimHorizon,
            after => Position::After { sequence_number: (after as u64).into(), caught_up_at: self.caught_up_at },
        }
    }
}

/// Where reading from a position starts.
pub(crate) enum Start {
    /// After the shard's record of this sequence number, which may have been removed; 0 is before its first.
    After(i64),
    /// The record of this sequence number has been removed, and with it records to read.
    PastRetention(SequenceNumber),
    /// The shard has and had no record of this sequence number.
    NoRecord(SequenceNumber),
}

impl Start {
    pub(crate) fn find(records: &ShardRecords<'_>, shard: &ShardRow, position: Position) -> rusqlite::Result<Self> {
        let stream = records.stream;
        let last_before = match position {
            Position::Latest => records.last_before(stream.next_sequence)?,
            Position::TrimHorizon => records.last_before_time(stream.oldest(layout::now()))?,
            Position::AtTime(time) => records.last_before_time(time.as_millis())?,
            Position::At(number) | Position::After { sequence_number: number, .. } => {
                let sequence = u64::try_from(number).ok().and_then(|number| i64::try_from(number).ok());
                let can_hold = shard.first_sequence..stream.next_sequence;
                let Some(sequence) = sequence.filter(|sequence| can_hold.contains(sequence)) else {
                    return Ok(Self::NoRecord(number));
                };
                let is_after = matches!(position, Position::After { .. });
                // Among the numbers up to the last removed one, another shard's cannot be told apart.
                if sequence <= shard.removed_through {
                    // Every record after the last removed one is still there.
                    let is_last_removed = sequence == shard.removed_through;
                    return Ok(if is_after && is_last_removed {
                        Self::After(sequence)
                    } else {
                        Self::PastRetention(number)
                    });
                }
                if !records.contains(sequence)? {
                    return Ok(Self::NoRecord(number));
                }
                if is_after { sequence } else { records.last_before(sequence)? }
            }
        };
        Ok(Self::After(last_before.max(shard.removed_through)))
    }
}

/// The records of one shard, by sequence number.
pub(crate) struct ShardRecords<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) stream: &'a StreamRow,
    pub(crate) number: u64,
}

impl ShardRecords<'_> {
    fn id(&self, sequence: i64) -> i64 {
        self.stream.record_id(self.number, sequence)
    }

    fn contains(&self, sequence: i64) -> rusqlite::Result<bool> {
        self.connection.prepare_cached("SELECT 1 FROM record WHERE id = ?1")?.exists([self.id(sequence)])
    }

    /// Sequence number of the last record before this one; 0 without such a record.
    fn last_before(&self, sequence: i64) -> rusqlite::Result<i64> {
        let last: Option<i64> = self
            .connection
            .prepare_cached("SELECT id FROM record WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT 1")?
            .query_row([self.id(self.stream.first_sequence), self.id(sequence)], |row| row.get(0))
            .optional()?;
        Ok(last.map_or(0, |id| self.stream.sequence(id)))
    }

    /// Sequence number of the last record that arrived before `millis`; 0 without such a record.
    fn last_before_time(&self, millis: i64) -> rusqlite::Result<i64> {
        let mut next = self
            .connection
            .prepare_cached("SELECT id, arrival FROM record WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 1")?;
        let mut last = None;
        let mut from = self.id(self.stream.first_sequence);
        let mut to = self.id(self.stream.next_sequence);
        // Arrivals never decrease, so binary search finds the last early enough.
        while from < to {
            let middle = from + (to - from) / 2;
            let found: Option<(i64, i64)> =
                next.query_row([middle, to], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            match found {
                Some((id, arrival)) if arrival < millis => (last, from) = (Some(id), id + 1),
                _ => to = middle,
            }
        }
        Ok(last.map_or(0, |id| self.stream.sequence(id)))
    }
}
