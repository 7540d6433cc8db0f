//! The two traits that a backend implements, and the values that pass through them.
//!
//! A backend knows one thing: how to reach a stream. Encoding, retries, pacing, the order among keys and following
//! a stream through splits and merges are written once, over these traits, by [`Producer`](crate::Producer),
//! [`Reader`](crate::Reader) and [`Stream`](crate::Stream). The conformance suite (feature `conformance`) holds a
//! backend to what is written here.

mod admin;
mod limits;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::model::position::Position;
use crate::model::shard::{Shard, ShardId};
use crate::model::timestamp::Timestamp;
use crate::record::{Entries, PutReceipt, Record};

pub use self::admin::{CreateOptions, StreamAdmin};
pub use self::limits::{Limits, Quota};

/// One real stream.
///
/// # Contract
/// - Every method may be called from many tasks at once.
/// - A call that fails has an error whose [`is_retryable`](Error::is_retryable) and
///   [`may_have_written`](Error::may_have_written) are true to what happened; the client itself does not retry puts
///   or fetches.
/// - Dropping a future of [`put_batch`](Self::put_batch) leaves open which of its entries are written; dropping any
///   other future changes nothing.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait StreamClient: Send + Sync + fmt::Debug {
    /// The real stream's name.
    fn name(&self) -> &str;

    /// When the stream was created: its identity. A stream that was deleted and created again under the same name has
    /// another one. Returned from memory after the first call.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`], or what keeps the backend from answering.
    async fn created_at(&self) -> Result<Timestamp>;

    /// Every shard, open and closed, sorted by id. Paging is hidden.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`], or what keeps the backend from answering.
    async fn shards(&self) -> Result<Vec<Shard>>;

    /// Puts entries by one request. Returns exactly one result per entry, in order; an entry that failed was not written
    /// unless its error says that it may have been.
    ///
    /// # Errors
    /// [`Error::CallTooLarge`] and [`Error::RecordTooLarge`] where [`limits`](Self::limits) are passed: nothing was
    /// sent. Any other outer error means that no entry's own outcome is known.
    async fn put_batch(&self, entries: Entries) -> Result<Vec<Result<PutReceipt>>>;

    /// Starts reading a shard.
    ///
    /// # Errors
    /// [`Error::ShardNotFound`]; [`Error::PastRetention`] where the position names a record after which others have
    /// been lost.
    async fn open_shard(&self, shard: &ShardId, position: Position) -> Result<Box<dyn ShardReader>>;

    /// What a call may hold and how the stream wants to be used. Answered from memory after the first call.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`], or what keeps the backend from answering.
    async fn limits(&self) -> Result<Limits>;
}

#[async_trait]
impl<C: StreamClient + ?Sized> StreamClient for std::sync::Arc<C> {
    fn name(&self) -> &str {
        (**self).name()
    }

    async fn created_at(&self) -> Result<Timestamp> {
        (**self).created_at().await
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        (**self).shards().await
    }

    async fn put_batch(&self, entries: Entries) -> Result<Vec<Result<PutReceipt>>> {
        (**self).put_batch(entries).await
    }

    async fn open_shard(&self, shard: &ShardId, position: Position) -> Result<Box<dyn ShardReader>> {
        (**self).open_shard(shard, position).await
    }

    async fn limits(&self) -> Result<Limits> {
        (**self).limits().await
    }
}

/// A place in one shard, from which records are read in the order of their sequence numbers.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait ShardReader: Send + fmt::Debug {
    /// The next records: at most `max_records`, which is at least 1.
    ///
    /// An empty batch means that there are none now; [`Batch::is_caught_up`] tells whether there may be more right
    /// away. `None` means that the shard is closed and every record of it was returned; it stays `None`, and the
    /// shard's children are in [`StreamClient::shards`]. The call may wait up to a second for records that the backend
    /// pushes, never to pace: that is the caller's part.
    ///
    /// Cancel safe: a dropped future loses no record.
    ///
    /// # Errors
    /// [`Error::IteratorExpired`]: open the shard again at [`position`](Self::position). [`Error::PastRetention`]
    /// where records were lost before they could be read.
    async fn next_batch(&mut self, max_records: usize) -> Result<Option<Batch>>;

    /// Where another reader has to be opened to go on after what this one has returned, without loss and without
    /// repeats, even if nothing was returned yet.
    fn position(&self) -> Position;
}

/// What one fetch returned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch {
    /// The records, in the order of their sequence numbers.
    pub records: Vec<Record>,
    /// How far behind the newest record of the shard the reader stands after these; `None` where the backend did not say.
    pub behind: Option<Duration>,
}

impl Batch {
    /// A batch of these records; after them, the reader stands this far behind the newest one.
    pub fn new(records: Vec<Record>, behind: Option<Duration>) -> Self {
        Self { records, behind }
    }

    /// An empty batch: the reader stands behind the newest record.
    pub fn caught_up() -> Self {
        Self::new(Vec::new(), Some(Duration::ZERO))
    }

    /// Whether the reader has seen every record: the batch is empty, and the backend says that nothing is left.
    pub fn is_caught_up(&self) -> bool {
        self.records.is_empty() && self.behind == Some(Duration::ZERO)
    }
}
