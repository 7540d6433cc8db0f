//! Positions without a record: retention has removed it, or the shard never had one of this sequence number.

use std::time::Duration;

use triton_core::{Error, Position, Result, SequenceNumber, Timestamp};

use super::search::{Found, SEARCH_DEADLINE};
use super::shard::ShardRequests;
use super::source::PageSource;
use super::{EMPTY_PAGES_BEFORE_CHECK, KinesisReader, READABLE_WITHIN};

/// Why a record is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Retention has removed it.
    Removed,
    /// The number is the lowest of the shard's range, which a record need not have: the shard's start.
    ShardStart,
    /// The shard never had a record of the number.
    NeverWritten,
}

impl ShardRequests {
    /// Why no record of this number is found. Retention has removed it if the number is within the shard's range, and the
    /// oldest record that is left is after it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the oldest record is not found in time, or if the stream does not list the shard.
    pub(crate) async fn why_missing(&self, number: SequenceNumber) -> Result<Missing> {
        if self.oldest_record().await?.is_some_and(|oldest| oldest <= number) {
            return Ok(Missing::NeverWritten);
        }
        let shard = self.listed().await?;
        Ok(if number == shard.first_sequence_number {
            Missing::ShardStart
        } else if number < shard.first_sequence_number || shard.last_sequence_number.is_some_and(|last| number > last) {
            Missing::NeverWritten
        } else {
            Missing::Removed
        })
    }

    /// The number of the oldest record that retention has left; `None` if there is none.
    async fn oldest_record(&self) -> Result<Option<SequenceNumber>> {
        let iterator = self.iterator(Position::TrimHorizon).await?;
        match self.search(iterator, 1, |_| true).await? {
            Some(Found::Record(oldest)) => Ok(Some(oldest)),
            Some(Found::UpToDate | Found::Ended(_)) => Ok(None),
            None => {
                let seconds = SEARCH_DEADLINE.as_secs();
                let problem = format!(
                    "the oldest record of {} was not found within {seconds} s, so whether records were lost is not known",
                    self.id()
                );
                Err(Error::Unavailable { problem, may_have_written: false, source: None })
            }
        }
    }
}

impl<S: PageSource> KinesisReader<S> {
    /// Checks that the new page has the expected record.
    ///
    /// # Errors
    /// [`Error::PastRetention`] and [`Error::InvalidPosition`].
    pub(super) async fn check_expected(&mut self) -> Result<()> {
        let (Some(expected), Some(page)) = (self.expected, &self.page) else { return Ok(()) };
        let (first, is_last) = (page.first, page.is_last);
        let is_at_the_end = is_last || page.behind == Some(Duration::ZERO);
        let is_missing = match first {
            Some(first) => first > expected,
            // A record that was put just now may be readable a little later.
            None if is_at_the_end => is_last || self.opened_since.elapsed() >= READABLE_WITHIN,
            None => self.empty_pages >= EMPTY_PAGES_BEFORE_CHECK,
        };
        if is_missing { self.explain_missing(expected, first, is_at_the_end).await } else { Ok(()) }
    }

    /// Decides what a missing record means; `first` is the first record of its page. If the record was removed, but nothing
    /// was lost, drops an empty page and opens another position.
    pub(super) async fn explain_missing(
        &mut self,
        expected: SequenceNumber,
        first: Option<SequenceNumber>,
        is_at_the_end: bool,
    ) -> Result<()> {
        match (self.shard.why_missing(expected).await?, first) {
            // The position is gone, and empty pages may go on for ever.
            (Missing::Removed, None) => self.continue_past_retention(expected).await?,
            (Missing::Removed, Some(_)) => {
                self.retained_catch_up().await?.ok_or_else(|| self.past_retention(expected))?;
            }
            (Missing::ShardStart, _) => {}
            (Missing::NeverWritten, Some(_)) => {
                return Err(self.invalid_position(expected, "no record of the shard has this sequence number"));
            }
            (Missing::NeverWritten, None) if is_at_the_end => {
                return Err(self.invalid_position(expected, "it is ahead of the shard's last record"));
            }
            (Missing::NeverWritten, None) => {
                // It may be after these empty pages.
                self.empty_pages = 0;
                return Ok(());
            }
        }
        self.expected = None;
        Ok(())
    }

    /// Retention has passed the position: an error, unless all removed records had been returned.
    pub(super) async fn continue_past_retention(&mut self, position: SequenceNumber) -> Result<()> {
        let caught_up_at = self.retained_catch_up().await?.ok_or_else(|| self.past_retention(position))?;
        self.open_at(Position::AtTime(caught_up_at));
        Ok(())
    }

    /// The time up to which every record was returned, if all records since then are still within retention.
    pub(super) async fn retained_catch_up(&mut self) -> Result<Option<Timestamp>> {
        match self.caught_up_at {
            Some(caught_up_at) if self.shard.is_retained(caught_up_at).await? => Ok(Some(caught_up_at)),
            _ => Ok(None),
        }
    }

    fn past_retention(&self, position: SequenceNumber) -> Error {
        Error::PastRetention { shard: self.shard.id().clone(), position }
    }

    pub(super) fn invalid_position(&self, position: SequenceNumber, problem: impl Into<String>) -> Error {
        let (position, problem) = (position.to_string(), problem.into());
        Error::InvalidPosition { shard: self.shard.id().clone(), position, problem }
    }
}
