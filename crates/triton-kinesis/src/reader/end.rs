//! The end of a closed shard that the server does not tell: some never end a subscription, or keep returning iterators.

use tokio::time::sleep;
use triton_core::{ChildShard, Error, Position, Result, ShardReader as _};

use super::search::Found;
use super::shard::MAX_RECORDS;
use super::source::PageSource;
use super::{KinesisReader, READABLE_WITHIN, is_new};

impl<S: PageSource> KinesisReader<S> {
    /// Compares the end of the shard with the source's continuation, and searches for more records by GetRecords, with
    /// fan-out too: a subscription that is stuck would not return them.
    pub(super) async fn look_for_end(&mut self) -> Result<bool> {
        let Some(last) = self.shard.listed().await?.last_sequence_number else { return Ok(false) };
        if self.expected.is_none() && self.source.continuation().is_some_and(|continuation| continuation >= last) {
            self.end(Vec::new());
            return Ok(true);
        }
        let (expected, last_returned, not_before) = (self.expected, self.last_returned, self.not_before);
        let mut was_up_to_date = false;
        loop {
            let Some(iterator) = self.iterator_after_returned().await? else { break };
            let mut is_missing = expected.is_some();
            let search = self.shard.search(iterator, MAX_RECORDS, |record| {
                is_missing &= Some(record.sequence_number) != expected;
                is_new(record, last_returned, not_before)
            });
            match (search.await?, expected) {
                (None, _) => return Ok(false),
                (Some(Found::Record(_)), _) => break,
                (Some(Found::Ended(_) | Found::UpToDate), Some(expected)) if is_missing => {
                    self.explain_missing(expected, None, true).await?;
                    return Ok(false);
                }
                (Some(Found::Ended(children)), _) => {
                    self.end(children);
                    return Ok(true);
                }
                (Some(Found::UpToDate), _) if was_up_to_date => {
                    self.end(Vec::new());
                    return Ok(true);
                }
                // A record that was put just before the end may be readable a little later.
                (Some(Found::UpToDate), _) => {
                    was_up_to_date = true;
                    sleep(READABLE_WITHIN).await;
                }
            }
        }
        // There are records that the source does not return. It is started again.
        self.open_at(self.position());
        Ok(false)
    }

    /// An iterator after the records that were returned; `None` if the server refuses it.
    async fn iterator_after_returned(&mut self) -> Result<Option<String>> {
        match self.shard.iterator(self.position()).await {
            Err(Error::Invalid { .. }) => {}
            iterator => return iterator.map(Some),
        }
        // Retention may have passed the position.
        let Some(caught_up_at) = self.retained_catch_up().await? else { return Ok(None) };
        match self.shard.iterator(Position::AtTime(caught_up_at)).await {
            Err(Error::Invalid { .. }) => Ok(None),
            iterator => iterator.map(Some),
        }
    }

    fn end(&mut self, children: Vec<ChildShard>) {
        (self.has_ended, self.children) = (true, children);
    }
}
