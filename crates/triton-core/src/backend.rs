//! The contract between backends and everything above them.
//!
//! A backend reaches streams, and does nothing else. Encoding, retries, pacing, order per key, and following a stream
//! through splits and merges are written once, over these traits, in [`Producer`](crate::Producer),
//! [`Reader`](crate::Reader) and [`Stream`](crate::Stream). The conformance suite (feature `testing`) checks a backend
//! against this contract.

mod admin;
mod check;
mod limits;
mod registry;
mod shard_ids;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::model::position::Position;
use crate::model::shard::{ChildShard, Shard, ShardId};
use crate::model::timestamp::Timestamp;
use crate::record::{Entries, PutReceipt, Record};

pub use self::admin::{CreateOptions, StreamAdmin};
pub use self::check::{Check, CheckOutcome};
pub use self::limits::{Limits, Quota};
pub use self::registry::{Backend, Registry};
pub use self::shard_ids::shard_ids;

/// One real stream.
///
/// # Contract
/// - Every method may be called from many tasks concurrently.
/// - A failed call returns an error whose [`is_retryable`](Error::is_retryable) and
///   [`may_have_written`](Error::may_have_written) are correct for that failure. The client does not retry puts or fetches.
/// - After the future of [`put_batch`](Self::put_batch) is dropped, any of its entries may have been written. Dropping any
///   other future has no effect.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait StreamClient: Send + Sync + fmt::Debug {
    /// The real stream's name.
    fn name(&self) -> &str;

    /// When the stream was created, which identifies it: a stream that was deleted and created again under the same name has
    /// another creation time. Cached after the first call.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`], or the error of the request.
    async fn created_at(&self) -> Result<Timestamp>;

    /// Lists every shard, open and closed, sorted by id. Paging is hidden.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`], or the error of the request.
    async fn shards(&self) -> Result<Vec<Shard>>;

    /// Puts entries with one request. Returns exactly one result per entry, in order; a failed entry was not written unless
    /// its error says that it may have been.
    ///
    /// # Errors
    /// [`Error::CallTooLarge`] or [`Error::RecordTooLarge`] for a call over the [`limits`](Self::limits), which is not sent.
    /// After any other outer error, the outcome of each entry is unknown.
    async fn put_batch(&self, entries: Entries) -> Result<Vec<Result<PutReceipt>>>;

    /// Opens a shard for reading from a position.
    ///
    /// # Errors
    /// [`Error::ShardNotFound`], also for a shard that retention has removed from the list; [`Error::PastRetention`] if records
    /// after the position have been removed by retention; [`Error::InvalidPosition`] if the shard has and had no record of that
    /// sequence number.
    async fn open_shard(&self, shard: &ShardId, position: Position) -> Result<Box<dyn ShardReader>>;

    /// The stream's limits and quotas. Cached after the first call.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`], or the error of the request.
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

/// Reads one shard's records in the order of their sequence numbers.
#[async_trait]
pub trait ShardReader: Send + fmt::Debug {
    /// Fetches the next records: at most `max_records`, which is at least 1.
    ///
    /// An empty batch means that there are no records now; [`Batch::is_caught_up`] tells whether the next call may return
    /// some at once. `None` means that the shard is closed and every record of it was returned: every later call returns
    /// `None` too, and [`children`](Self::children) may name the shard's children. The call may wait up to a second for records
    /// that the backend pushes. It does not wait for a quota: pacing is the caller's job.
    ///
    /// Cancel safe: a dropped future loses no record.
    ///
    /// # Errors
    /// [`Error::IteratorExpired`]: open the shard again at [`position`](Self::position). [`Error::PastRetention`] if
    /// records were removed before they were read.
    async fn next_batch(&mut self, max_records: usize) -> Result<Option<Batch>>;

    /// The position at which another reader continues after the records that this one has returned, if any, without loss
    /// or repeats.
    fn position(&self) -> Position;

    /// After the end: the shards that this one was split or merged into, where the backend names them. Empty if it does not;
    /// then [`StreamClient::shards`] lists them, perhaps some time later.
    fn children(&self) -> Vec<ChildShard> {
        Vec::new()
    }

    /// Whether a closed shard holds no record after those that this reader has returned. Called where the stream lists the
    /// shard as closed, and the reader has been silent for long: some servers never tell the end. `false` if that cannot be
    /// told, or if reading just has to go on.
    ///
    /// # Errors
    /// The error of the request.
    async fn is_drained(&mut self) -> Result<bool> {
        Ok(false)
    }
}

/// The result of one fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch {
    /// The records, in the order of their sequence numbers.
    pub records: Vec<Record>,
    /// How far the reader is behind the newest record of the shard, after these records; `None` if the backend does not say.
    /// Zero means that nothing is newer. Every record that arrived earlier than this ago was returned.
    pub behind: Option<Duration>,
    /// Every record that arrived before this time, by the stream's clock, was returned by now; `None` if that is not known.
    pub caught_up_at: Option<Timestamp>,
}

impl Batch {
    /// A batch of these records, this far behind the newest one.
    pub fn new(records: Vec<Record>, behind: Option<Duration>) -> Self {
        Self { records, behind, caught_up_at: None }
    }

    /// An empty batch of a reader that has returned every record.
    pub fn caught_up() -> Self {
        Self::new(Vec::new(), Some(Duration::ZERO))
    }

    /// Notes that every record that arrived before this time was returned.
    pub fn with_caught_up_at(self, time: Timestamp) -> Self {
        Self { caught_up_at: Some(time), ..self }
    }

    /// Whether the reader has returned every record: with those of this batch, the backend says that nothing is left.
    pub fn is_caught_up(&self) -> bool {
        self.behind == Some(Duration::ZERO)
    }
}
