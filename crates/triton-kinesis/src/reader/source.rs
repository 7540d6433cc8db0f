//! The contract between a reader and the source of its pages. Positions and losses are the reader's part.

use std::fmt;

use async_trait::async_trait;
use tokio::time::Instant;
use triton_core::{ChildShard, Error, Position, Record, Result, SequenceNumber};

use super::shard::ShardRequests;

/// A source of a shard's pages. Every method is cancel safe, and returns at `until` or soon after it.
#[async_trait]
pub(crate) trait PageSource: Send + fmt::Debug {
    /// Sets the position to start at. Sends nothing.
    fn start(&mut self, position: Position);

    /// Continues right after the last page. `false` if it cannot, or if records might be lost unnoticed.
    fn resume(&mut self, shard: &ShardRequests) -> bool;

    /// Sequence number up to which its pages so far have every record, if they say so: it need not be a record's.
    fn continuation(&self) -> Option<SequenceNumber>;

    /// Starts, unless it has. `false` if it has not started by `until`; call it again then.
    async fn is_ready(&mut self, shard: &ShardRequests, until: Instant) -> Result<bool>;

    /// Returns the next page. To be called once `is_ready` has returned `true`.
    async fn next(&mut self, shard: &ShardRequests, max_records: usize, until: Instant) -> Result<NextPage>;
}

/// The outcome of waiting for a page.
#[derive(Debug)]
pub(crate) enum NextPage {
    Page(Page),
    /// Nothing came by `until`.
    Pending,
    /// The iterator has expired, or the subscription has ended: the source has to be started again.
    Lapsed(Error),
}

/// The records of one response.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) records: Vec<Record>,
    /// Milliseconds behind the newest record; `None` if the server did not send it.
    pub(crate) millis_behind: Option<u64>,
    /// Whether the shard ends with this page.
    pub(crate) is_last: bool,
    /// The shard's children, if this is the last page and names them.
    pub(crate) children: Vec<ChildShard>,
    /// Time of the request: the server made the page then or later.
    pub(crate) requested_at: Instant,
}
