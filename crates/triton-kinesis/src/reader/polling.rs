//! Pages by GetRecords. Pacing is the core's part.

use async_trait::async_trait;
use tokio::time::Instant;
use triton_core::{Error, Position, Result, SequenceNumber};

use super::record::to_records;
use super::shard::ShardRequests;
use super::source::{NextPage, Page, PageSource};
use crate::shard_list::to_children;

/// The next iterator, or the position to get it at.
#[derive(Debug)]
pub(crate) enum Polling {
    At(Position),
    Iterator(String),
    /// The shard has ended.
    Ended,
}

#[async_trait]
impl PageSource for Polling {
    fn start(&mut self, position: Position) {
        *self = Self::At(position);
    }

    /// `false`: an expired iterator cannot be continued.
    fn resume(&mut self, _: &ShardRequests) -> bool {
        false
    }

    /// `None`: iterators are opaque.
    fn continuation(&self) -> Option<SequenceNumber> {
        None
    }

    async fn is_ready(&mut self, shard: &ShardRequests, _: Instant) -> Result<bool> {
        if let Self::At(position) = self {
            *self = Self::Iterator(shard.iterator(*position).await?);
        }
        Ok(true)
    }

    async fn next(&mut self, shard: &ShardRequests, max_records: usize, _: Instant) -> Result<NextPage> {
        let Self::Iterator(iterator) = self else { return Ok(NextPage::Pending) };
        let requested_at = Instant::now();
        let page = match shard.fetch(iterator, max_records).await {
            Err(expired @ Error::IteratorExpired { .. }) => return Ok(NextPage::Lapsed(expired)),
            page => page?,
        };
        let children = to_children(page.child_shards());
        let records = to_records(shard.id(), page.records)?;
        let next = page.next_shard_iterator.filter(|iterator| !iterator.is_empty());
        let is_last = next.is_none();
        *self = next.map_or(Self::Ended, Self::Iterator);
        let millis_behind = page.millis_behind_latest.map(|millis| u64::try_from(millis).unwrap_or(0));
        Ok(NextPage::Page(Page { records, millis_behind, is_last, children, requested_at }))
    }
}
