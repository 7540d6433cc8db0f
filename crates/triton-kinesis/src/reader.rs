//! Reading a shard by GetRecords: iterators that expire, pages that are empty, and positions that retention has passed.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::ShardIteratorType;
use tokio::time::{Instant, sleep};
use triton_core::{
    Batch, Error, PartitionKey, Position, Record, Result, SequenceNumber, ShardId, ShardReader, StreamClient as _,
    Timestamp,
};

use crate::stream::KinesisStream;

/// GetRecords gives no more at once.
const MAX_RECORDS: usize = 10_000;
/// After so many empty pages a record that should be there is looked for.
const PATIENCE: usize = 5;
/// A shard takes five GetRecords a second.
const BETWEEN_FETCHES: Duration = Duration::from_millis(200);

/// Where a shard is read: what has been returned of it, and where it goes on.
///
/// It opens at a sequence number by AT_SEQUENCE_NUMBER, although what it returned last need not be read again: where that
/// record is not there any more, retention has passed the position, whatever else the server says or does not say of it
/// (an InvalidArgument, a silent jump to the oldest record, or empty pages).
#[derive(Debug)]
pub(crate) struct PollingReader {
    stream: KinesisStream,
    shard: ShardId,
    /// `None` when the shard has ended.
    iterator: Option<String>,
    start: Position,
    /// Every record up to this one was returned, or lies before the start.
    passed: Option<Passed>,
    /// The server's time at which there was no record after those.
    caught_up_at: Option<Timestamp>,
    /// What arrived earlier is left out.
    not_before: Option<Timestamp>,
    /// The record that the next page has to start with, if nothing was lost.
    expected: Option<SequenceNumber>,
    empty_pages: usize,
}

#[derive(Clone, Copy, Debug)]
struct Passed {
    number: SequenceNumber,
    /// When it arrived; `None` for one that was not read here.
    arrival: Option<Timestamp>,
}

/// What is to be thought of a page.
enum Verdict {
    Fine,
    /// Retention has passed the position, and the server gives empty pages where it was.
    LeadsNowhere(SequenceNumber),
}

impl PollingReader {
    pub(crate) async fn open(stream: KinesisStream, shard: ShardId, position: Position) -> Result<Self> {
        let opened = Instant::now();
        let passed = match position {
            Position::After(number) => Some(Passed { number, arrival: None }),
            _ => None,
        };
        let mut reader = Self {
            stream,
            shard,
            iterator: None,
            start: position,
            passed,
            caught_up_at: None,
            not_before: None,
            expected: None,
            empty_pages: 0,
        };
        reader.open_at(position).await?;
        if let (Position::Latest, Some(now)) = (position, reader.stream.kinesis().clock().at(opened)) {
            // Another reader that goes on from here must not miss what comes in between.
            reader.start = Position::AtTime(now);
        }
        Ok(reader)
    }

    /// Gets an iterator for a position. When dropped, nothing has changed.
    async fn open_at(&mut self, position: Position) -> Result<()> {
        match self.iterator_at(position).await {
            Ok(iterator) => {
                self.iterator = Some(iterator);
                self.expected = named(position);
                self.empty_pages = 0;
                Ok(())
            }
            Err(error @ Error::Invalid { .. }) => match named(position) {
                // The number of another shard is a mistake, and nothing that was lost.
                Some(number) if !error.to_string().contains("It encodes") && self.is_lost(number).await? => {
                    self.after_loss(number).await
                }
                _ => self.open_at_a_time_to_come(position, error).await,
            },
            Err(error) => Err(error),
        }
    }

    /// Kinesis refuses a time that its own clock has not reached, be it by a millisecond. What comes from now on and
    /// before that time is left out.
    async fn open_at_a_time_to_come(&mut self, position: Position, error: Error) -> Result<()> {
        match position {
            Position::AtTime(time) if self.now().is_some_and(|now| now < time) => {
                self.iterator = Some(self.iterator_at(Position::Latest).await?);
                self.not_before = Some(time);
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// A position that retention has passed: lost, unless all that there was had been read.
    async fn after_loss(&mut self, position: SequenceNumber) -> Result<()> {
        let Some(caught_up_at) = self.caught_up_in_retention().await else {
            return Err(Error::PastRetention { shard: self.shard.clone(), position });
        };
        let iterator = self.iterator_at(Position::AtTime(caught_up_at)).await?;
        self.iterator = Some(iterator);
        self.expected = None;
        Ok(())
    }

    /// When the reader had last seen all that there was, if retention has not passed that.
    async fn caught_up_in_retention(&self) -> Option<Timestamp> {
        let (retention, now) = (self.stream.retention().await?, self.now()?);
        self.caught_up_at.filter(|caught_up_at| *caught_up_at > now - retention)
    }

    fn now(&self) -> Option<Timestamp> {
        self.stream.kinesis().clock().at(Instant::now())
    }

    async fn iterator_at(&self, position: Position) -> Result<String> {
        let (kind, number, time) = match position {
            Position::Latest => (ShardIteratorType::Latest, None, None),
            Position::TrimHorizon => (ShardIteratorType::TrimHorizon, None, None),
            Position::At(number) | Position::After(number) => (ShardIteratorType::AtSequenceNumber, Some(number), None),
            Position::AtTime(time) => (ShardIteratorType::AtTimestamp, None, Some(time)),
        };
        let (stream, kinesis) = (&self.stream, self.stream.kinesis());
        let answer = kinesis
            .control()
            .get_shard_iterator()
            .set_stream_name(stream.target().stream_name())
            .set_stream_arn(stream.target().stream_arn())
            .shard_id(self.shard.as_str())
            .shard_iterator_type(kind)
            .set_starting_sequence_number(number.map(|number| number.to_string()))
            .set_timestamp(time.map(|time| DateTime::from_millis(time.as_millis())))
            .send()
            .await;
        match answer {
            Ok(answer) => {
                let context = kinesis.reading(stream.name(), Some(&self.shard));
                answer.shard_iterator.ok_or_else(|| context.empty_answer())
            }
            Err(error) => Err(self.told_apart(kinesis.reading(stream.name(), Some(&self.shard)).error(error)).await),
        }
    }

    /// Kinesis says of a missing stream, too, that its shard does not exist.
    async fn told_apart(&self, error: Error) -> Error {
        match error {
            Error::ShardNotFound { .. } => match self.stream.summary().await {
                Err(missing @ Error::StreamNotFound { .. }) => missing,
                _ => error,
            },
            // A shard's id that is not even one, such as an empty one.
            Error::Invalid { .. } if self.shard.number().is_none() => {
                Error::ShardNotFound { shard: self.shard.clone(), stream: self.stream.name().into() }
            }
            error => error,
        }
    }

    async fn fetch(&self, iterator: &str, max_records: usize) -> Result<GetRecordsOutput> {
        let (stream, kinesis) = (&self.stream, self.stream.kinesis());
        let limit = i32::try_from(max_records.clamp(1, MAX_RECORDS)).unwrap_or(i32::MAX);
        let answer = kinesis
            .data()
            .get_records()
            .shard_iterator(iterator)
            .limit(limit)
            .set_stream_arn(stream.target().stream_arn())
            .send()
            .await;
        match answer {
            Ok(page) if page.next_shard_iterator.is_none() && page.millis_behind_latest.is_none() => {
                Err(kinesis.reading(stream.name(), Some(&self.shard)).empty_answer())
            }
            Ok(page) => Ok(page),
            Err(error) => Err(self.told_apart(kinesis.reading(stream.name(), Some(&self.shard)).error(error)).await),
        }
    }

    /// Fetches a page; an iterator that has expired is replaced once.
    async fn page(&mut self, max_records: usize) -> Result<Option<(GetRecordsOutput, Instant)>> {
        let Some(iterator) = &self.iterator else { return Ok(None) };
        let sent = Instant::now();
        match self.fetch(iterator, max_records).await {
            Err(Error::IteratorExpired { .. }) => {
                tracing::debug!(shard = %self.shard, "its iterator has expired");
                self.open_at(self.position()).await?;
            }
            page => return page.map(|page| Some((page, sent))),
        }
        let Some(iterator) = &self.iterator else { return Ok(None) };
        let sent = Instant::now();
        self.fetch(iterator, max_records).await.map(|page| Some((page, sent)))
    }

    /// What a page shows of records that should have come before it.
    async fn check(&self, page: &GetRecordsOutput, first: Option<SequenceNumber>) -> Result<Verdict> {
        let position = match (self.expected, first) {
            (Some(expected), Some(first)) if first > expected => expected,
            (Some(expected), None) if is_at_the_end(page) || self.empty_pages >= PATIENCE => expected,
            // So far behind that retention may have overtaken the reader between two pages.
            (None, Some(_)) => match self.passed {
                Some(passed) if self.is_overtaken(passed).await => passed.number,
                _ => return Ok(Verdict::Fine),
            },
            _ => return Ok(Verdict::Fine),
        };
        if !self.is_lost(position).await? {
            return Ok(Verdict::Fine);
        }
        match (first, self.caught_up_in_retention().await) {
            (_, None) => Err(Error::PastRetention { shard: self.shard.clone(), position }),
            // A jump over what was gone already, and had been read.
            (Some(_), Some(_)) => Ok(Verdict::Fine),
            (None, Some(_)) => Ok(Verdict::LeadsNowhere(position)),
        }
    }

    /// Whether what was read last is older than any record that is kept, and it was not the newest then.
    async fn is_overtaken(&self, passed: Passed) -> bool {
        let (Some(arrival), Some(now)) = (passed.arrival, self.now()) else { return false };
        if self.caught_up_at.is_some_and(|caught_up_at| caught_up_at > arrival) {
            return false;
        }
        self.stream.retention().await.is_some_and(|retention| arrival < now - retention)
    }

    /// Whether retention has passed a sequence number: no record of it or before it is kept, and the shard did not start
    /// after it.
    async fn is_lost(&self, position: SequenceNumber) -> Result<bool> {
        if self.oldest().await?.is_some_and(|oldest| oldest <= position) {
            return Ok(false);
        }
        let shards = self.stream.shards().await?;
        let starts_after =
            |shard: &triton_core::Shard| shard.id == self.shard && position <= shard.first_sequence_number;
        Ok(!shards.iter().any(starts_after))
    }

    /// The oldest record that the shard keeps; `None` where it keeps none.
    async fn oldest(&self) -> Result<Option<SequenceNumber>> {
        let mut iterator = self.iterator_at(Position::TrimHorizon).await?;
        for _ in 0..=PATIENCE {
            let page = self.fetch(&iterator, 1).await?;
            if let Some(record) = page.records.first() {
                return record.sequence_number.parse().map(Some);
            }
            if is_at_the_end(&page) {
                return Ok(None);
            }
            iterator = page.next_shard_iterator.unwrap_or_default();
            sleep(BETWEEN_FETCHES).await;
        }
        let problem = format!("{}: its oldest record is not found among empty pages", self.shard);
        Err(Error::Unavailable { problem, may_have_written: false, source: None })
    }

    /// Takes a page in: from here on it counts as returned.
    fn take(&mut self, page: GetRecordsOutput, sent: Instant) -> Result<Option<Batch>> {
        let millis_behind = page.millis_behind_latest.map_or(0, |millis| u64::try_from(millis).unwrap_or(0));
        let mut records = Vec::with_capacity(page.records.len());
        let mut passed = self.passed;
        for record in page.records {
            let record = self.record(record)?;
            let is_early = self.not_before.is_some_and(|time| record.arrival < time);
            if !is_early && passed.is_none_or(|passed| record.sequence_number > passed.number) {
                let arrival = Some(record.arrival).filter(|arrival| arrival.as_millis() > 0);
                passed = Some(Passed { number: record.sequence_number, arrival });
                records.push(record);
            }
        }
        self.passed = passed;
        self.iterator = page.next_shard_iterator.filter(|iterator| !iterator.is_empty());
        if records.is_empty() && self.iterator.is_none() {
            return Ok(None);
        }
        if millis_behind == 0 {
            self.caught_up_at = self.caught_up_at.max(self.stream.kinesis().clock().at(sent));
        }
        Ok(Some(Batch::new(records, millis_behind)))
    }

    fn record(&self, record: aws_sdk_kinesis::types::Record) -> Result<Record> {
        // Where a stream distributes its records itself, they may come without a key.
        let key = PartitionKey::stored(record.partition_key.unwrap_or_default());
        let arrival = record.approximate_arrival_timestamp.map_or(Timestamp::default(), to_timestamp);
        let number = record.sequence_number.parse()?;
        Ok(Record::new(self.shard.clone(), number, key, arrival, record.data.into_inner()))
    }
}

#[async_trait]
impl ShardReader for PollingReader {
    async fn next_batch(&mut self, max_records: usize) -> Result<Option<Batch>> {
        loop {
            let Some((page, sent)) = self.page(max_records).await? else { return Ok(None) };
            let first = page.records.first().map(|record| record.sequence_number.parse()).transpose()?;
            if let Verdict::LeadsNowhere(position) = self.check(&page, first).await? {
                self.after_loss(position).await?;
                continue;
            }

            // Nothing is awaited from here to the return, so that a dropped future has taken nothing.
            match first {
                Some(_) => (self.expected, self.empty_pages) = (None, 0),
                None => self.empty_pages += 1,
            }
            match self.take(page, sent)? {
                // The page held nothing but what had been returned before it was opened again.
                Some(batch) if first.is_some() && batch.records.is_empty() => {}
                batch => return Ok(batch),
            }
        }
    }

    fn position(&self) -> Position {
        match (self.passed, self.caught_up_at) {
            (Some(passed), _) => Position::After(passed.number),
            (None, Some(caught_up_at)) => {
                Position::AtTime(self.not_before.map_or(caught_up_at, |time| time.max(caught_up_at)))
            }
            (None, None) => self.start,
        }
    }
}

/// Kinesis writes times as seconds with a fraction, which as a binary one may lie a little below the millisecond meant.
fn to_timestamp(time: DateTime) -> Timestamp {
    let fraction = i64::from(time.subsec_nanos()).saturating_add(500_000) / 1_000_000;
    Timestamp::from_millis(time.secs().saturating_mul(1000).saturating_add(fraction))
}

/// The record that a position names.
fn named(position: Position) -> Option<SequenceNumber> {
    match position {
        Position::At(number) | Position::After(number) => Some(number),
        Position::Latest | Position::TrimHorizon | Position::AtTime(_) => None,
    }
}

/// Whether there is nothing after this page, for now or for ever.
fn is_at_the_end(page: &GetRecordsOutput) -> bool {
    page.millis_behind_latest.unwrap_or(0) == 0 || page.next_shard_iterator.as_deref().is_none_or(str::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_keeps_its_millisecond_through_seconds_with_a_fraction() {
        for millis in 1_795_443_162_000..1_795_443_163_000 {
            let read = DateTime::from_secs_f64(millis as f64 / 1000.0);
            assert_eq!(to_timestamp(read).as_millis(), millis);
        }
        assert_eq!(to_timestamp(DateTime::from_millis(-1)).as_millis(), -1);
    }
}
