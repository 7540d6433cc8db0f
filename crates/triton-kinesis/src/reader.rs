//! Where a shard is read and where it goes on, whether its records are polled or pushed.

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
use crate::stream::KinesisStream;

/// Reads a shard by asking for pages.
pub(crate) type PollingReader = KinesisReader<Polling>;
/// Reads a shard by taking what is pushed.
pub(crate) type SubscribingReader = KinesisReader<Subscription>;

/// Where a page does not say how far behind it is, so many empty ones are taken for the end.
const EMPTY_PAGES_AT_END: usize = 3;
/// After so many empty pages, a record that should be there is looked for.
const EMPTY_PAGES_BEFORE_CHECK: usize = 5;
/// A record may be read a little after the time that it arrived at; a time to go on at lies so much earlier.
const MARGIN: Duration = Duration::from_secs(10);
/// A batch may be waited for so long.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A place in a shard: what has been returned of it, and where it goes on.
///
/// It opens at a sequence number by AT_SEQUENCE_NUMBER, although what it returned last need not be read again: where that
/// record is not there any more, retention has last_returned the position, whatever else the server says or does not say of it
/// (an InvalidArgument, a silent jump to the oldest record, or empty pages).
#[derive(Debug)]
pub(crate) struct KinesisReader<S> {
    shard: ShardRequests,
    source: S,
    /// Where the source was told to start; `None` where it goes on by itself.
    opened_at: Option<Position>,
    start: Position,
    /// What arrived before is not asked for; where the server would not take that time, it is left out here.
    not_before: Option<Timestamp>,
    /// Every record up to this one was returned, or lies before the start.
    last_returned: Option<SequenceNumber>,
    /// Every record that the shard had at this time, the server's, was returned.
    caught_up_at: Option<Timestamp>,
    /// The record that the next page has to start with, if nothing was lost.
    expected: Option<SequenceNumber>,
    empty_pages: usize,
    /// What has come and is not returned yet.
    page: Option<PartlyReturned>,
    /// How far behind it stands when nothing comes.
    millis_behind: u64,
    has_ended: bool,
}

/// A page of which records are being returned.
#[derive(Debug)]
struct PartlyReturned {
    records: vec::IntoIter<Record>,
    /// Its first record, which may be one that was returned before.
    first: Option<SequenceNumber>,
    millis_behind: u64,
    says_latest: bool,
    is_last: bool,
    since: Instant,
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
        if let Position::After(number) = position {
            reader.last_returned = Some(number);
        }
        reader.open_at(position);
        while !reader.is_ready(Instant::now() + LONGEST_WAIT).await? {}
        match position {
            // Another reader that goes on from here must not miss what comes in between.
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

    /// Opens again where it stands.
    fn reopen(&mut self) {
        self.millis_behind = self.millis_behind.max(1);
        // A record that is expected has to be looked for again.
        match self.expected.is_none() && self.source.resume(&self.shard) {
            true => self.opened_at = None,
            false => self.open_at(self.position()),
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

    /// The server does not take the position: finds out why, and whether there is another.
    async fn reopen_after_refusal(&mut self, refused: Error) -> Result<()> {
        match self.opened_at {
            None => self.open_at(self.position()),
            // Another shard's number is a mistake, and no loss; Kinesis says so in these words.
            Some(Position::At(_) | Position::After(_)) if refused.to_string().contains("It encodes shardId") => {
                return Err(refused);
            }
            Some(Position::At(number) | Position::After(number)) => match self.shard.is_past_retention(number).await? {
                true => self.continue_past_retention(number)?,
                false => return Err(refused),
            },
            // Kinesis refuses a time that its own clock has not caught_up_at, be it by a millisecond.
            Some(Position::AtTime(time)) if self.shard.server_time(Instant::now()) < time => {
                self.open_at(Position::Latest);
            }
            Some(_) => return Err(refused),
        }
        Ok(())
    }

    /// Retention has last_returned the position: an error, unless everything that it removed had been returned.
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

    /// Gets a page; what it reads by is replaced once. `false` where nothing has come until now.
    async fn fill(&mut self, max_records: usize, until: Instant) -> Result<bool> {
        let mut was_replaced = false;
        loop {
            if !self.is_ready(until).await? {
                return Ok(false);
            }
            match self.source.next(&self.shard, max_records, until).await? {
                // Nothing is awaited before it is kept, so that a dropped future has taken nothing.
                NextPage::Page(page) => {
                    self.page = Some(self.partly_returned(page));
                    return Ok(true);
                }
                NextPage::Pending => return Ok(false),
                NextPage::Lapsed(error) => {
                    tracing::debug!(shard = %self.shard.id(), %error, "opening it again");
                    self.reopen();
                    if was_replaced || !(error.is_retryable()) {
                        return Err(error);
                    }
                    was_replaced = true;
                }
            }
        }
    }

    /// A page without what was returned before.
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
        let says_latest = page.millis_behind == Some(0);
        let (records, is_last, since) = (records.into_iter(), page.is_last, page.since);
        PartlyReturned { records, first, millis_behind, says_latest, is_last, since }
    }

    /// A server that does not say how far behind a page is is believed to be at the end after some empty ones.
    fn millis_behind_of(&self, page: &Page) -> u64 {
        let unsaid = u64::from(!page.records.is_empty() || self.empty_pages < EMPTY_PAGES_AT_END);
        page.millis_behind.unwrap_or(unsaid)
    }

    /// Whether the page that has come shows a loss, as far as that can be found out. Where nothing was lost and the
    /// position is gone, another place is opened, and there is no page any more.
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
            // A jump over what was gone already.
            (true, Some(_)) => Ok(()),
            // Empty pages where the position was; they may go on for ever.
            (true, None) => self.continue_past_retention(expected),
        }
    }

    /// Takes records of the page that has come: from here on they count as returned.
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
        // A record that is expected may still come; until then nobody knows what was caught_up_at.
        if page.first.is_some() || page.is_at_the_end() {
            self.expected = None;
        }
        // Only what the server says itself: a page that does not say how far behind it is proves nothing.
        if page.says_latest && self.expected.is_none() {
            self.caught_up_at = self.caught_up_at.max(Some(self.shard.server_time(page.since)));
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
        // The first page may hold nothing but the record that it was opened at: what is wanted comes after it.
        for _ in 0..2 {
            if self.has_ended {
                return Ok(None);
            }
            if self.page.is_none() && !self.fill(max_records, until).await? {
                return Ok(Some(Batch::new(Vec::new(), Some(Duration::from_millis(self.millis_behind)))));
            }
            self.check_for_loss().await?;
            // Nothing is awaited from here on.
            if let PageOutcome::Batch(batch) = self.take_batch(max_records) {
                return Ok(batch);
            }
        }
        Ok(Some(Batch::new(Vec::new(), Some(Duration::from_millis(1)))))
    }

    fn position(&self) -> Position {
        match (self.last_returned, self.caught_up_at, self.start) {
            (Some(last_returned), _, _) => Position::After(last_returned),
            // Nothing was returned, so that what is read once more is not returned twice.
            (None, Some(caught_up_at), Position::AtTime(start)) => Position::AtTime(start.max(caught_up_at - MARGIN)),
            (None, Some(caught_up_at), Position::TrimHorizon) => Position::AtTime(caught_up_at - MARGIN),
            (None, _, start) => start,
        }
    }
}

/// What became of a page.
enum PageOutcome {
    Batch(Option<Batch>),
    /// It held nothing but what had been returned before.
    NothingNew,
}

/// The record that a position names.
fn named_record(position: Position) -> Option<SequenceNumber> {
    match position {
        Position::At(number) | Position::After(number) => Some(number),
        Position::Latest | Position::TrimHorizon | Position::AtTime(_) => None,
    }
}
