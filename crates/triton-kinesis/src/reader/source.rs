//! Where a shard's pages come from.

use std::fmt;

use async_trait::async_trait;
use tokio::time::Instant;
use triton_core::{Error, Position, Record, Result};

use super::shard::ShardRequests;

/// Where a shard's pages come from. Every method is cancel safe, and none goes on past `until` for longer than a request
/// takes.
#[async_trait]
pub(crate) trait PageSource: Send + fmt::Debug {
    /// Will start at a position. Nothing is sent yet.
    fn start(&mut self, position: Position);

    /// Will go on right after the last page; whether it can, without records lost unnoticed.
    fn resume(&mut self, shard: &ShardRequests) -> bool;

    /// Starts where it was told to, unless it has. `false`: not until now, and it may be asked again.
    async fn is_ready(&mut self, shard: &ShardRequests, until: Instant) -> Result<bool>;

    /// The next page, once it is ready. A page counts as taken when this returns it.
    async fn next(&mut self, shard: &ShardRequests, max_records: usize, until: Instant) -> Result<NextPage>;
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum NextPage {
    Page(Page),
    /// Nothing was pushed until now.
    Pending,
    /// What it read by is over, as an iterator that has expired; it has to be told where to start again.
    Lapsed(Error),
}

/// Records, and what was said with them.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) records: Vec<Record>,
    /// How far behind the newest record it is, where it says so.
    pub(crate) millis_behind: Option<u64>,
    /// Whether the shard ends with it.
    pub(crate) is_last: bool,
    /// The server made it at this time or later.
    pub(crate) since: Instant,
}
