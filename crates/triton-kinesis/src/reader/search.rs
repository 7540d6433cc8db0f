//! Searches of a shard by GetRecords, beside its reading.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use triton_core::{ChildShard, Record, Result, SequenceNumber};

use super::EMPTY_PAGES_AT_END;
use super::record::to_records;
use super::shard::ShardRequests;
use crate::shard_list::to_children;

/// Kinesis allows five GetRecords a second per shard.
const BETWEEN_FETCHES: Duration = Duration::from_millis(200);
/// Time after which a search gives up.
pub(crate) const SEARCH_DEADLINE: Duration = Duration::from_secs(60);

/// The outcome of a search.
#[derive(Debug)]
pub(crate) enum Found {
    /// The first record that is searched for.
    Record(SequenceNumber),
    /// No such record, and nothing newer now.
    UpToDate,
    /// No such record, and the shard ends here. Its children, if they are named.
    Ended(Vec<ChildShard>),
}

impl ShardRequests {
    /// Searches for the first such record from an iterator on, in pages of at most `max_records`. `None` if neither that nor
    /// the newest record is reached in time: a shard that is mostly empty has many empty pages.
    pub(crate) async fn search(
        &self,
        mut iterator: String,
        max_records: usize,
        mut is_match: impl FnMut(&Record) -> bool + Send,
    ) -> Result<Option<Found>> {
        let started = Instant::now();
        let mut empty_pages = 0;
        while started.elapsed() < SEARCH_DEADLINE {
            let page = self.fetch(&iterator, max_records).await?;
            let children = to_children(page.child_shards());
            let records = to_records(self.id(), page.records)?;
            if let Some(found) = records.iter().find(|record| is_match(record)) {
                return Ok(Some(Found::Record(found.sequence_number)));
            }
            match page.next_shard_iterator {
                Some(next) if !next.is_empty() => iterator = next,
                _ => return Ok(Some(Found::Ended(children))),
            }
            empty_pages = if records.is_empty() { empty_pages + 1 } else { 0 };
            let is_up_to_date =
                page.millis_behind_latest.map_or(empty_pages > EMPTY_PAGES_AT_END, |millis| millis == 0);
            if is_up_to_date {
                return Ok(Some(Found::UpToDate));
            }
            sleep(BETWEEN_FETCHES).await;
        }
        Ok(None)
    }
}
