//! Reads one shard in order, by polling or by subscription: keeps the position, resumes there, and detects records lost
//! to retention. Pacing and prefetching are the core's part.

pub(crate) mod polling;
mod position;
mod record;
mod shard;
mod source;
pub(crate) mod subscription;

use std::time::Duration;
use std::vec;

use async_trait::async_trait;
use tokio::time::Instant;
use triton_core::{Batch, Error, Position, Record, Result, SequenceNumber, ShardId, ShardReader, Timestamp};

use self::polling::Polling;
use self::shard::ShardRequests;
use self::source::{NextPage, Page, PageSource};
use self::subscription::Subscription;
use crate::error::is_of_another_shard;
use crate::stream::KinesisStream;

/// Reads a shard by GetRecords.
pub(crate) type PollingReader = KinesisReader<Polling>;
/// Reads a shard by SubscribeToShard.
pub(crate) type SubscribingReader = KinesisReader<Subscription>;

/// Empty pages after which a reader counts as caught up, with a server that does not send how far behind pages are.
const EMPTY_PAGES_AT_END: usize = 3;
/// Empty pages after which a missing expected record is checked for.
const EMPTY_PAGES_BEFORE_CHECK: usize = 5;
/// Records become readable a little after their arrival time: positions by time are moved back by this much.
const MARGIN: Duration = Duration::from_secs(10);
/// Longest wait for a batch.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A reader of one shard, whatever the source of its pages.
///
/// A sequence number is opened by AT_SEQUENCE_NUMBER, even if its record has been returned: if that record is gone,
/// retention has passed the position. Kinesis itself reports this in several ways: by InvalidArgument, by a silent jump
/// to the oldest record, or by empty pages.
#[derive(Debug)]
pub(crate) struct KinesisReader<S> {
    shard: ShardRequests,
    source: S,
    /// Position that the source was started at; `None` after it has resumed by itself.
    opened_at: Option<Position>,
    start: Position,
    /// Earlier records are left out. The server does so too, unless it has refused the time.
    not_before: Option<Timestamp>,
    /// Last record returned, or the record that reading started after.
    last_returned: Option<SequenceNumber>,
    /// Server time up to which all records have been returned.
    caught_up_at: Option<Timestamp>,
    /// Record that the next page starts with unless it was lost.
    expected: Option<SequenceNumber>,
    empty_pages: usize,
    /// The page that is being returned.
    page: Option<PartlyReturned>,
    /// Milliseconds behind, reported while no page comes.
    millis_behind: u64,
    has_ended: bool,
}

/// A page whose records are being returned.
#[derive(Debug)]
struct PartlyReturned {
    records: vec::IntoIter<Record>,
    /// Its first record, which may have been returned before.
    first: Option<SequenceNumber>,
    millis_behind: u64,
    is_latest: bool,
    is_last: bool,
    requested_at: Instant,
}

impl<S: PageSource> KinesisReader<S> {
    pub(crate) async fn open(stream: KinesisStream, shard: ShardId, position: Position, source: S) -> Result<Self> {
        let opened = Instant::now();
        let mut reader = Self {
            shard: ShardRequests::new(stream, shard),
            source,
            opened_at: None,
            start: position,
            not_before: None,
            last_returned: None,
            caught_up_at: None,
            expected: None,
            empty_pages: 0,
            page: None,
            millis_behind: 1,
            has_ended: false,
        };
        if let Position::After { sequence_number: number, .. } = position {
            reader.last_returned = Some(number);
        }
        reader.open_at(position);
        while !reader.is_ready(Instant::now() + LONGEST_WAIT).await? {}
        match position {
            // A reader that resumes from this position must not miss the records in between.
            Position::Latest => reader.start = Position::AtTime(reader.shard.server_time(opened)),
            Position::AtTime(time) => reader.not_before = Some(time),
            _ => {}
        }
        Ok(reader)
    }

    fn open_at(&mut self, position: Position) {
        self.source.start(position);
        (self.opened_at, self.expected, self.empty_pages) = (Some(position), named_record(position), 0);
        self.page = None;
    }

    /// Opens again at the current position.
    fn reopen(&mut self) {
        self.millis_behind = self.millis_behind.max(1);
        // An expected record is still to be checked for.
        if self.expected.is_none() && self.source.resume(&self.shard) {
            self.opened_at = None;
        } else {
            self.open_at(self.position());
        }
    }

    async fn is_ready(&mut self, until: Instant) -> Result<bool> {
        loop {
            match self.source.is_ready(&self.shard, until).await {
                Err(refused @ Error::Invalid { .. }) => self.reopen_after_refusal(refused).await?,
                outcome => return outcome,
            }
        }
    }

    /// Handles a position that the server has refused: opens another one, or fails.
    async fn reopen_after_refusal(&mut self, refused: Error) -> Result<()> {
        match self.opened_at {
            None => self.open_at(self.position()),
            // Another shard's number is a mistake, not a loss.
            Some(Position::At(_) | Position::After { .. }) if is_of_another_shard(&refused) => return Err(refused),
            Some(Position::At(number) | Position::After { sequence_number: number, .. }) => {
                if !self.shard.is_past_retention(number).await? {
                    return Err(refused);
                }
                self.continue_past_retention(number)?;
            }
            // Kinesis refuses a time that is ahead of its own clock, even by a millisecond.
            Some(Position::AtTime(time)) if self.shard.server_time(Instant::now()) < time => {
                self.open_at(Position::Latest);
            }
            Some(_) => return Err(refused),
        }
        Ok(())
    }

    /// Retention has passed the position: an error, unless all removed records had been returned.
    fn continue_past_retention(&mut self, position: SequenceNumber) -> Result<()> {
        let Some(caught_up_at) = self.caught_up_at.filter(|caught_up_at| self.shard.retains(*caught_up_at)) else {
            return Err(self.past_retention(position));
        };
        self.open_at(Position::AtTime(caught_up_at - MARGIN));
        Ok(())
    }

    fn past_retention(&self, position: SequenceNumber) -> Error {
        Error::PastRetention { shard: self.shard.id().clone(), position }
    }

    /// Gets a page, and reopens the source at most once. `false` if nothing came by `until`.
    async fn fill(&mut self, max_records: usize, until: Instant) -> Result<bool> {
        let mut was_reopened = false;
        loop {
            if !self.is_ready(until).await? {
                return Ok(false);
            }
            match self.source.next(&self.shard, max_records, until).await? {
                // No await between receiving a page and storing it: a dropped future loses nothing.
                NextPage::Page(page) => {
                    self.page = Some(self.partly_returned(page));
                    return Ok(true);
                }
                NextPage::Pending => return Ok(false),
                NextPage::Lapsed(error) => {
                    tracing::debug!(shard = %self.shard.id(), %error, "reopening");
                    self.reopen();
                    if was_reopened || !error.is_retryable() {
                        return Err(error);
                    }
                    was_reopened = true;
                }
            }
        }
    }

    /// The page without the records returned before.
    fn partly_returned(&self, page: Page) -> PartlyReturned {
        let millis_behind = self.millis_behind_of(&page);
        let first = page.records.first().map(|record| record.sequence_number);
        let (mut records, mut last_returned) = (page.records, self.last_returned);
        records.retain(|record| {
            let is_new = last_returned.is_none_or(|last_returned| record.sequence_number > last_returned)
                && self.not_before.is_none_or(|time| record.arrival >= time);
            if is_new {
                last_returned = Some(record.sequence_number);
            }
            is_new
        });
        let is_latest = page.millis_behind == Some(0);
        let (records, is_last, requested_at) = (records.into_iter(), page.is_last, page.requested_at);
        PartlyReturned { records, first, millis_behind, is_latest, is_last, requested_at }
    }

    /// Milliseconds behind. If the server does not send it, several empty pages count as caught up.
    fn millis_behind_of(&self, page: &Page) -> u64 {
        let unsaid = u64::from(!page.records.is_empty() || self.empty_pages < EMPTY_PAGES_AT_END);
        page.millis_behind.unwrap_or(unsaid)
    }

    /// Checks the new page for lost records. If the position is gone and nothing was lost, drops the page and opens
    /// another position.
    ///
    /// # Errors
    /// [`Error::PastRetention`].
    async fn check_for_loss(&mut self) -> Result<()> {
        let (Some(expected), Some(page)) = (self.expected, &self.page) else { return Ok(()) };
        let first = page.first;
        let is_suspect = match first {
            Some(first) => first > expected,
            None => page.is_at_the_end() || self.empty_pages >= EMPTY_PAGES_BEFORE_CHECK,
        };
        if !is_suspect || !self.shard.is_past_retention(expected).await? {
            return Ok(());
        }
        let had_been_read = self.caught_up_at.is_some_and(|caught_up_at| self.shard.retains(caught_up_at));
        match (had_been_read, first) {
            (false, _) => Err(self.past_retention(expected)),
            // The gap had been returned before it was removed.
            (true, Some(_)) => Ok(()),
            // The position is gone, and empty pages may go on for ever.
            (true, None) => self.continue_past_retention(expected),
        }
    }

    /// Takes records of the page, which count as returned from here on.
    fn take_batch(&mut self, max_records: usize) -> PageOutcome {
        let Some(page) = &mut self.page else { return PageOutcome::NothingNew };
        let records: Vec<Record> = page.records.by_ref().take(max_records.max(1)).collect();
        if let Some(last) = records.last() {
            self.last_returned = Some(last.sequence_number);
        }
        if !page.records.as_slice().is_empty() {
            self.expected = None;
            return PageOutcome::Batch(Some(Batch::new(
                records,
                Some(Duration::from_millis(page.millis_behind.max(1))),
            )));
        }
        // Until the expected record comes or is known to be lost, the reader does not count as caught up.
        if page.first.is_some() || page.is_at_the_end() {
            self.expected = None;
        }
        // Only if the server itself reports it: an empty page alone proves nothing.
        if page.is_latest && self.expected.is_none() {
            self.caught_up_at = self.caught_up_at.max(Some(self.shard.server_time(page.requested_at)));
        }
        let (millis_behind, is_last, was_empty) = (page.millis_behind, page.is_last, page.first.is_none());
        self.page = None;
        self.millis_behind = millis_behind;
        self.has_ended = is_last;
        self.empty_pages = if was_empty { self.empty_pages + 1 } else { 0 };
        match (records.is_empty(), is_last) {
            (true, true) => PageOutcome::Batch(None),
            (true, false) if !was_empty => PageOutcome::NothingNew,
            _ => PageOutcome::Batch(Some(Batch::new(records, Some(Duration::from_millis(millis_behind))))),
        }
    }
}

impl PartlyReturned {
    fn is_at_the_end(&self) -> bool {
        self.millis_behind == 0 || self.is_last
    }
}

#[async_trait]
impl<S: PageSource> ShardReader for KinesisReader<S> {
    async fn next_batch(&mut self, max_records: usize) -> Result<Option<Batch>> {
        let until = Instant::now() + LONGEST_WAIT;
        // The first page may hold only the record that it was opened at; the next one has new records.
        for _ in 0..2 {
            if self.has_ended {
                return Ok(None);
            }
            if self.page.is_none() && !self.fill(max_records, until).await? {
                return Ok(Some(Batch::new(Vec::new(), Some(Duration::from_millis(self.millis_behind)))));
            }
            self.check_for_loss().await?;
            // No await from here on.
            if let PageOutcome::Batch(batch) = self.take_batch(max_records) {
                return Ok(batch);
            }
        }
        Ok(Some(Batch::new(Vec::new(), Some(Duration::from_millis(1)))))
    }

    fn position(&self) -> Position {
        match (self.last_returned, self.caught_up_at, self.start) {
            (Some(last_returned), _, _) => Position::after(last_returned),
            // No record was returned, so none is returned twice.
            (None, Some(caught_up_at), Position::AtTime(start)) => Position::AtTime(start.max(caught_up_at - MARGIN)),
            (None, Some(caught_up_at), Position::TrimHorizon) => Position::AtTime(caught_up_at - MARGIN),
            (None, _, start) => start,
        }
    }
}

/// The outcome of taking records from a page.
enum PageOutcome {
    Batch(Option<Batch>),
    /// All its records had been returned before.
    NothingNew,
}

/// The sequence number that a position names.
fn named_record(position: Position) -> Option<SequenceNumber> {
    match position {
        Position::At(number) | Position::After { sequence_number: number, .. } => Some(number),
        Position::Latest | Position::TrimHorizon | Position::AtTime(_) => None,
    }
}
