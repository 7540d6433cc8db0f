//! Reads one shard in order, by polling or by subscription: keeps the position, resumes there, and detects records lost
//! to retention, wrong positions and ends that are not told. Pacing and prefetching are the core's part.

mod end;
mod missing;
pub(crate) mod polling;
mod position;
mod record;
mod search;
mod shard;
mod source;
pub(crate) mod subscription;
#[cfg(test)]
mod tests;

use std::time::Duration;
use std::vec;

use async_trait::async_trait;
use tokio::time::Instant;
use triton_core::{
    Batch, ChildShard, Error, Position, Record, Result, SequenceNumber, ShardId, ShardReader, Timestamp,
};

use self::missing::Missing;
use self::polling::Polling;
use self::shard::ShardRequests;
use self::source::{NextPage, Page, PageSource};
use self::subscription::Subscription;
use crate::error::{problem_of_refused, shard_of_refused};
use crate::stream::KinesisStream;

/// Reads a shard by GetRecords.
pub(crate) type PollingReader = KinesisReader<Polling>;
/// Reads a shard by SubscribeToShard.
pub(crate) type SubscribingReader = KinesisReader<Subscription>;

/// Empty pages after which a reader counts as caught up, with a server that does not send how far behind pages are.
const EMPTY_PAGES_AT_END: usize = 3;
/// Empty pages after which a missing expected record is checked for.
const EMPTY_PAGES_BEFORE_CHECK: usize = 5;
/// Records become readable a little after their arrival time: a time up to which all records were returned is this much
/// before the time of a request that returned the newest one.
const MARGIN: Duration = Duration::from_secs(10);
/// A record that is not readable this long after it was put does not exist.
const READABLE_WITHIN: Duration = Duration::from_secs(5);
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
    /// When it was started there.
    opened_since: Instant,
    start: Position,
    /// Earlier records are left out. The server does so too, unless it has refused the time.
    not_before: Option<Timestamp>,
    /// Last record returned, or the record that reading started after.
    last_returned: Option<SequenceNumber>,
    /// Server time: every record that arrived before it was returned.
    caught_up_at: Option<Timestamp>,
    /// Record that the next page starts with unless it was lost.
    expected: Option<SequenceNumber>,
    empty_pages: usize,
    /// The page that is being returned.
    page: Option<PartlyReturned>,
    /// How far behind the last page is; `None` if the server has not said so since the source was started.
    behind: Option<Duration>,
    has_ended: bool,
    /// The shard's children, once it has ended and if they were named.
    children: Vec<ChildShard>,
}

/// A page whose records are being returned.
#[derive(Debug)]
struct PartlyReturned {
    records: vec::IntoIter<Record>,
    /// Its first record, which may have been returned before.
    first: Option<SequenceNumber>,
    behind: Option<Duration>,
    /// Whether the server itself reports that nothing is newer.
    is_latest: bool,
    is_last: bool,
    children: Vec<ChildShard>,
    requested_at: Instant,
}

impl<S: PageSource> KinesisReader<S> {
    pub(crate) async fn open(stream: KinesisStream, shard: ShardId, position: Position, source: S) -> Result<Self> {
        let opened = Instant::now();
        let mut reader = Self {
            shard: ShardRequests::new(stream, shard),
            source,
            opened_at: None,
            opened_since: opened,
            start: position,
            not_before: None,
            last_returned: None,
            caught_up_at: None,
            expected: None,
            empty_pages: 0,
            page: None,
            behind: None,
            has_ended: false,
            children: Vec::new(),
        };
        if let Position::After { sequence_number, caught_up_at } = position {
            (reader.last_returned, reader.caught_up_at) = (Some(sequence_number), caught_up_at);
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
        (self.opened_at, self.opened_since) = (Some(position), Instant::now());
        (self.expected, self.empty_pages, self.behind) = (named_record(position), 0, None);
        self.page = None;
    }

    /// Opens again at the current position.
    fn reopen(&mut self) {
        self.behind = None;
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
            Some(Position::At(number) | Position::After { sequence_number: number, .. }) => {
                let is_past_retention =
                    shard_of_refused(&refused).is_none() && self.shard.why_missing(number).await? == Missing::Removed;
                if !is_past_retention {
                    return Err(self.invalid_position(number, problem_of_refused(&refused)));
                }
                self.continue_past_retention(number).await?;
            }
            // Kinesis refuses a time that is ahead of its own clock, even by a millisecond.
            Some(Position::AtTime(time)) if self.shard.server_time(Instant::now()) < time => {
                self.open_at(Position::Latest);
            }
            Some(_) => return Err(refused),
        }
        Ok(())
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
        let behind = self.behind_of(&page);
        let first = page.records.first().map(|record| record.sequence_number);
        let (mut records, mut last_returned) = (page.records, self.last_returned);
        records.retain(|record| {
            let is_new = is_new(record, last_returned, self.not_before);
            if is_new {
                last_returned = Some(record.sequence_number);
            }
            is_new
        });
        let is_latest = page.millis_behind == Some(0);
        let Page { is_last, children, requested_at, .. } = page;
        PartlyReturned { records: records.into_iter(), first, behind, is_latest, is_last, children, requested_at }
    }

    /// How far behind a page is. If the server does not say, several empty pages count as caught up.
    fn behind_of(&self, page: &Page) -> Option<Duration> {
        let is_caught_up = || page.records.is_empty() && self.empty_pages >= EMPTY_PAGES_AT_END;
        page.millis_behind.map(Duration::from_millis).or_else(|| is_caught_up().then_some(Duration::ZERO))
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
            let behind = page.behind.map(|behind| behind.max(Duration::from_millis(1)));
            return PageOutcome::Batch(Some(self.batch(records, behind)));
        }
        let (first, is_latest, is_last, requested_at) = (page.first, page.is_latest, page.is_last, page.requested_at);
        self.behind = page.behind;
        if is_last {
            self.children = std::mem::take(&mut page.children);
        }
        self.page = None;
        self.has_ended = is_last;
        self.empty_pages = if first.is_none() { self.empty_pages + 1 } else { 0 };
        if first.is_some() || is_last {
            self.expected = None;
        }
        if self.expected.is_some() {
            // Until the expected record comes or is known to be lost, the reader does not count as caught up.
            self.behind = None;
        } else if is_latest {
            // Only if the server itself reports it: an empty page alone proves nothing.
            self.caught_up(requested_at);
        }
        match (records.is_empty(), is_last) {
            (true, true) => PageOutcome::Batch(None),
            (true, false) if first.is_some() && self.behind != Some(Duration::ZERO) => PageOutcome::NothingNew,
            _ => PageOutcome::Batch(Some(self.batch(records, self.behind))),
        }
    }

    /// Notes that every record that was readable at this time was returned.
    fn caught_up(&mut self, instant: Instant) {
        let caught_up_at = self.shard.server_time(instant) - MARGIN;
        let start = if let Position::AtTime(start) = self.start { Some(start) } else { None };
        self.caught_up_at = self.caught_up_at.max(Some(caught_up_at)).max(start);
    }

    fn batch(&self, records: Vec<Record>, behind: Option<Duration>) -> Batch {
        let batch = Batch::new(records, behind);
        match self.caught_up_at {
            Some(caught_up_at) => batch.with_caught_up_at(caught_up_at),
            None => batch,
        }
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
                return Ok(Some(self.batch(Vec::new(), self.behind)));
            }
            self.check_expected().await?;
            // No await from here on.
            if let PageOutcome::Batch(batch) = self.take_batch(max_records) {
                return Ok(batch);
            }
        }
        Ok(Some(self.batch(Vec::new(), self.behind)))
    }

    fn position(&self) -> Position {
        match (self.last_returned, self.caught_up_at, self.start) {
            (Some(sequence_number), caught_up_at, _) => Position::After { sequence_number, caught_up_at },
            // No record was returned, so none is returned twice.
            (None, Some(caught_up_at), Position::AtTime(_) | Position::TrimHorizon) => Position::AtTime(caught_up_at),
            (None, _, start) => start,
        }
    }

    fn children(&self) -> Vec<ChildShard> {
        self.children.clone()
    }

    async fn is_drained(&mut self) -> Result<bool> {
        if self.has_ended || self.page.is_some() {
            return Ok(self.has_ended);
        }
        self.look_for_end().await
    }
}

/// The outcome of taking records from a page.
enum PageOutcome {
    Batch(Option<Batch>),
    /// All its records had been returned before.
    NothingNew,
}

/// Whether a record comes after the last one returned, and is not too early.
fn is_new(record: &Record, last_returned: Option<SequenceNumber>, not_before: Option<Timestamp>) -> bool {
    last_returned.is_none_or(|last_returned| record.sequence_number > last_returned)
        && not_before.is_none_or(|time| record.arrival >= time)
}

/// The sequence number that a position names.
fn named_record(position: Position) -> Option<SequenceNumber> {
    match position {
        Position::At(number) | Position::After { sequence_number: number, .. } => Some(number),
        Position::Latest | Position::TrimHorizon | Position::AtTime(_) => None,
    }
}
