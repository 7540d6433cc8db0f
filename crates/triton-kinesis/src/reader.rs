//! Reading a shard by GetRecords: iterators that expire, pages that are empty, and records that were returned before.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use tokio::time::Instant;
use triton_core::{Batch, Error, Position, Result, SequenceNumber, ShardId, ShardReader, Timestamp};

use crate::page::records_of;
use crate::shard::KinesisShard;
use crate::stream::KinesisStream;

/// Where a page does not say how far behind it is, so many empty ones are taken for the end.
const SILENT_PAGES: usize = 3;
/// After so many empty pages, a record that should be there is looked for.
const PATIENT_PAGES: usize = 5;
/// A record may be read a little after the time that it arrived at; a time to go on at lies so much earlier.
const MARGIN: Duration = Duration::from_secs(10);

/// Where a shard is read: what has been returned of it, and where it goes on.
///
/// It opens at a sequence number by AT_SEQUENCE_NUMBER, although what it returned last need not be read again: where that
/// record is not there any more, retention has passed the position, whatever else the server says or does not say of it
/// (an InvalidArgument, a silent jump to the oldest record, or empty pages).
#[derive(Debug)]
pub(crate) struct PollingReader {
    shard: KinesisShard,
    /// `None` when the shard has ended.
    iterator: Option<String>,
    start: Position,
    /// What arrived before is not asked for; where the server would not take that time, it is left out here.
    not_before: Option<Timestamp>,
    /// Every record up to this one was returned, or lies before the start.
    passed: Option<SequenceNumber>,
    /// Every record that the shard had at this time, the server's, was returned.
    reached: Option<Timestamp>,
    /// The record that the next page has to start with, if nothing was lost.
    expected: Option<SequenceNumber>,
    empty_pages: usize,
}

impl PollingReader {
    pub(crate) async fn open(stream: KinesisStream, shard: ShardId, position: Position) -> Result<Self> {
        let opened = Instant::now();
        let mut reader = Self {
            shard: KinesisShard::new(stream, shard),
            iterator: None,
            start: position,
            not_before: None,
            passed: None,
            reached: None,
            expected: None,
            empty_pages: 0,
        };
        if let Position::After(number) = position {
            reader.passed = Some(number);
        }
        reader.open_at(position).await?;
        match position {
            // Another reader that goes on from here must not miss what comes in between.
            Position::Latest => reader.start = Position::AtTime(reader.shard.server_time(opened)),
            Position::AtTime(time) => reader.not_before = Some(time),
            _ => {}
        }
        Ok(reader)
    }

    /// Gets an iterator for a position. When dropped, nothing has changed.
    async fn open_at(&mut self, position: Position) -> Result<()> {
        let refused = match self.shard.iterator(position).await {
            Ok(iterator) => {
                (self.iterator, self.expected, self.empty_pages) = (Some(iterator), named(position), 0);
                return Ok(());
            }
            Err(refused @ Error::Invalid { .. }) => refused,
            Err(error) => return Err(error),
        };
        match position {
            // Another shard's number is a mistake, and no loss; Kinesis says so in these words.
            Position::At(_) | Position::After(_) if refused.to_string().contains("It encodes shardId") => Err(refused),
            Position::At(number) | Position::After(number) => match self.shard.is_lost(number).await? {
                true => self.go_on_after(number).await,
                false => Err(refused),
            },
            // Kinesis refuses a time that its own clock has not reached, be it by a millisecond.
            Position::AtTime(time) if self.shard.server_time(Instant::now()) < time => {
                self.iterator = Some(self.shard.iterator(Position::Latest).await?);
                Ok(())
            }
            _ => Err(refused),
        }
    }

    /// Retention has passed the position: an error, unless everything that it removed had been returned.
    async fn go_on_after(&mut self, position: SequenceNumber) -> Result<()> {
        let Some(reached) = self.reached.filter(|reached| self.shard.keeps(*reached)) else {
            return Err(self.past_retention(position));
        };
        self.iterator = Some(self.shard.iterator(Position::AtTime(reached - MARGIN)).await?);
        self.expected = None;
        Ok(())
    }

    fn past_retention(&self, position: SequenceNumber) -> Error {
        Error::PastRetention { shard: self.shard.id().clone(), position }
    }

    /// Fetches a page; an iterator that has expired is replaced once.
    async fn page(&mut self, max_records: usize) -> Result<Option<(GetRecordsOutput, Instant)>> {
        let Some(iterator) = &self.iterator else { return Ok(None) };
        let sent = Instant::now();
        match self.shard.fetch(iterator, max_records).await {
            Err(Error::IteratorExpired { .. }) => {
                tracing::debug!(shard = %self.shard.id(), "its iterator has expired");
                self.open_at(self.position()).await?;
            }
            page => return page.map(|page| Some((page, sent))),
        }
        let Some(iterator) = &self.iterator else { return Ok(None) };
        let sent = Instant::now();
        self.shard.fetch(iterator, max_records).await.map(|page| Some((page, sent)))
    }

    /// The position that a page shows to be past retention, as far as the page alone can tell.
    fn suspects(&self, page: &GetRecordsOutput, first: Option<SequenceNumber>) -> Option<SequenceNumber> {
        let expected = self.expected?;
        match first {
            Some(first) => (first > expected).then_some(expected),
            None => (self.is_at_the_end(page) || self.empty_pages >= PATIENT_PAGES).then_some(expected),
        }
    }

    fn is_at_the_end(&self, page: &GetRecordsOutput) -> bool {
        self.millis_behind(page) == 0 || page.next_shard_iterator.as_deref().is_none_or(str::is_empty)
    }

    /// How far behind the newest record a page is. A server that does not say so is believed to be at the end after
    /// some empty pages.
    fn millis_behind(&self, page: &GetRecordsOutput) -> u64 {
        match page.millis_behind_latest {
            Some(millis) => u64::try_from(millis).unwrap_or(0),
            None => u64::from(!page.records.is_empty() || self.empty_pages < SILENT_PAGES),
        }
    }

    /// Takes a page in: from here on it counts as returned.
    fn take(&mut self, page: GetRecordsOutput, sent: Instant) -> Result<Taken> {
        let millis_behind = self.millis_behind(&page);
        let (is_empty, says_latest) = (page.records.is_empty(), page.millis_behind_latest == Some(0));
        let mut records = records_of(self.shard.id(), page.records)?;
        let mut passed = self.passed;
        records.retain(|record| {
            let is_new = passed.is_none_or(|passed| record.sequence_number > passed)
                && self.not_before.is_none_or(|time| record.arrival >= time);
            if is_new {
                passed = Some(record.sequence_number);
            }
            is_new
        });
        self.passed = passed;
        self.expected = None;
        self.empty_pages = if is_empty { self.empty_pages + 1 } else { 0 };
        self.iterator = page.next_shard_iterator.filter(|iterator| !iterator.is_empty());
        if records.is_empty() && self.iterator.is_none() {
            return Ok(Taken::Batch(None));
        }
        // Only what the server says itself: a page that does not say how far behind it is proves nothing.
        if says_latest {
            self.reached = self.reached.max(Some(self.shard.server_time(sent)));
        }
        match records.is_empty() && !is_empty {
            true => Ok(Taken::NothingNew),
            false => Ok(Taken::Batch(Some(Batch::new(records, millis_behind)))),
        }
    }
}

#[async_trait]
impl ShardReader for PollingReader {
    async fn next_batch(&mut self, max_records: usize) -> Result<Option<Batch>> {
        match self.next_page(max_records).await? {
            // Nothing but the record that it was opened at: what is wanted comes after it.
            Taken::NothingNew => match self.next_page(max_records).await? {
                Taken::NothingNew => Ok(Some(Batch::new(Vec::new(), 1))),
                Taken::Batch(batch) => Ok(batch),
            },
            Taken::Batch(batch) => Ok(batch),
        }
    }

    fn position(&self) -> Position {
        match (self.passed, self.reached, self.start) {
            (Some(passed), _, _) => Position::After(passed),
            // Nothing was returned, so that what is read once more is not returned twice.
            (None, Some(reached), Position::AtTime(start)) => Position::AtTime(start.max(reached - MARGIN)),
            (None, Some(reached), Position::TrimHorizon) => Position::AtTime(reached - MARGIN),
            (None, _, start) => start,
        }
    }
}

impl PollingReader {
    /// Fetches a page and takes it in.
    async fn next_page(&mut self, max_records: usize) -> Result<Taken> {
        let Some((page, sent)) = self.page(max_records).await? else { return Ok(Taken::Batch(None)) };
        let first = page.records.first().map(|record| record.sequence_number.parse()).transpose();
        let first = first.map_err(|_| self.shard.broken("a record has a sequence number that is none"))?;
        if let Some(position) = self.suspects(&page, first)
            && self.shard.is_lost(position).await?
        {
            let had_been_read = self.reached.is_some_and(|reached| self.shard.keeps(reached));
            match (had_been_read, first) {
                (false, _) => return Err(self.past_retention(position)),
                // A jump over what was gone already.
                (true, Some(_)) => {}
                // Empty pages where the position was; they may go on for ever.
                (true, None) => {
                    self.go_on_after(position).await?;
                    return Ok(Taken::NothingNew);
                }
            }
        }
        if first.is_none() && self.expected.is_some() && !self.is_at_the_end(&page) {
            // The record that is expected may still come; until then nobody knows what was reached.
            let (expected, reached) = (self.expected, self.reached);
            let taken = self.take(page, sent)?;
            (self.expected, self.reached) = (expected, reached);
            return Ok(taken);
        }
        // Nothing is awaited from here on, so that a dropped future has taken nothing.
        self.take(page, sent)
    }
}

/// What became of a page.
enum Taken {
    Batch(Option<Batch>),
    /// It held nothing but what had been returned before.
    NothingNew,
}

/// The record that a position names.
fn named(position: Position) -> Option<SequenceNumber> {
    match position {
        Position::At(number) | Position::After(number) => Some(number),
        Position::Latest | Position::TrimHorizon | Position::AtTime(_) => None,
    }
}
