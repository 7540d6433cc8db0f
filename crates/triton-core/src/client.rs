//! The two traits that a backend implements, and the values that pass through them.
//!
//! A backend knows one thing: how to reach a stream. Encoding, retries, pacing, the order among keys and following
//! a stream through splits and merges are written once, over these traits, by [`Producer`](crate::Producer),
//! [`Reader`](crate::Reader) and [`Stream`](crate::Stream). The conformance suite (feature `conformance`) holds a
//! backend to what is written here.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::record::{PutEntry, PutReceipt, Record};
use crate::sequence::SequenceNumber;
use crate::shard::{Shard, ShardId};
use crate::timestamp::Timestamp;

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

    /// Every shard, open and closed, sorted by id. Paging is hidden.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`], or what keeps the backend from answering.
    async fn shards(&self) -> Result<Vec<Shard>>;

    /// Puts entries by one request. Answers with exactly one result an entry, in the entries' order; an entry that
    /// failed was not written unless its error says that it may have been.
    ///
    /// # Errors
    /// [`Error::CallTooLarge`] and [`Error::RecordTooLarge`] where [`limits`](Self::limits) are passed: nothing was
    /// sent. Any other outer error means that no entry's own outcome is known.
    async fn put_batch(&self, entries: &[PutEntry]) -> Result<Vec<Result<PutReceipt>>>;

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

    async fn shards(&self) -> Result<Vec<Shard>> {
        (**self).shards().await
    }

    async fn put_batch(&self, entries: &[PutEntry]) -> Result<Vec<Result<PutReceipt>>> {
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

/// Where in a shard reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// After the last record that the shard holds at the moment.
    Latest,
    /// At the oldest record that is kept.
    TrimHorizon,
    /// At the record of this sequence number, or the first after it.
    At(SequenceNumber),
    /// After the record of this sequence number.
    After(SequenceNumber),
    /// At the first record that arrived at this time or later.
    AtTime(Timestamp),
}

/// What one fetch returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch {
    /// The records, in the order of their sequence numbers.
    pub records: Vec<Record>,
    /// How far behind the newest record of the shard the reader stands after these, in milliseconds.
    pub millis_behind: u64,
}

impl Batch {
    /// A batch of these records, read by someone who stands so many milliseconds behind the newest.
    pub fn new(records: Vec<Record>, millis_behind: u64) -> Self {
        Self { records, millis_behind }
    }

    /// Whether the reader has seen all that there is: an empty batch behind the newest record is not that.
    pub fn is_caught_up(&self) -> bool {
        self.records.is_empty() && self.millis_behind == 0
    }
}

/// What a stream takes at once, and how it wants to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Entries in one [`put_batch`](StreamClient::put_batch).
    pub max_entries: usize,
    /// Bytes in one [`put_batch`](StreamClient::put_batch): all payloads and keys.
    pub max_call_bytes: usize,
    /// Bytes in one record: its payload and key.
    pub max_record_bytes: usize,
    /// How long a reader that has caught up waits before it asks again.
    pub idle_poll: Duration,
    /// Whether the entries of one call are stored in their order, and a call is written as a whole or not at all. Where
    /// it is false, a producer that keeps order has at most one record of a key in flight.
    pub keeps_order: bool,
    /// Whether a record's hash key chooses its shard. Where it is false, the stream chooses, and nobody can tell beforehand.
    pub routes_by_key: bool,
    /// Whether a fetch of a reader that has caught up waits for what comes, so that nobody need ask again and again.
    pub pushes: bool,
    /// What every shard takes from all its producers together, records and bytes (payloads and keys); `None` for no quota.
    pub write_quota: Option<Quota>,
    /// What every shard gives to all its readers together, calls and bytes; `None` for no quota.
    pub read_quota: Option<Quota>,
}

/// What one shard takes or gives in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quota {
    /// Bytes a second that can be counted on.
    pub bytes: u32,
    /// Bytes a second that it may turn out to be: Kinesis' documentation writes MB here and MiB there.
    pub most_bytes: u32,
    /// Records (of puts) or calls (of fetches) a second.
    pub count: u32,
}

impl Quota {
    /// What a Kinesis shard takes: 1 MB or 1 MiB, and 1,000 records.
    pub const KINESIS_WRITE: Self = Self { bytes: 1_000_000, most_bytes: 1 << 20, count: 1_000 };
    /// What a Kinesis shard gives: 2 MB or 2 MiB, and 5 calls.
    pub const KINESIS_READ: Self = Self { bytes: 2_000_000, most_bytes: 2 << 20, count: 5 };

    /// A quota of so many bytes and records or calls a second.
    pub const fn new(bytes: u32, count: u32) -> Self {
        Self { bytes, most_bytes: bytes, count }
    }

    /// This quota, of which it is not known whether it is so many bytes.
    pub const fn with_most_bytes(self, most_bytes: u32) -> Self {
        Self { most_bytes, ..self }
    }
}

impl Limits {
    /// Kinesis' documented limits for a stream with the default record size: 500 entries and 10 MiB a call, 1 MiB a
    /// record, a second between the polls of an idle shard, no order inside a call, and the quotas of a shard.
    pub const KINESIS: Self = Self {
        max_entries: 500,
        max_call_bytes: 10 << 20,
        max_record_bytes: 1 << 20,
        idle_poll: Duration::from_secs(1),
        keeps_order: false,
        routes_by_key: true,
        pushes: false,
        write_quota: Some(Quota::KINESIS_WRITE),
        read_quota: Some(Quota::KINESIS_READ),
    };

    /// These limits with so many entries a call.
    pub const fn with_max_entries(self, max_entries: usize) -> Self {
        Self { max_entries, ..self }
    }

    /// These limits with so many bytes a call.
    pub const fn with_max_call_bytes(self, max_call_bytes: usize) -> Self {
        Self { max_call_bytes, ..self }
    }

    /// These limits with so many bytes a record.
    pub const fn with_max_record_bytes(self, max_record_bytes: usize) -> Self {
        Self { max_record_bytes, ..self }
    }

    /// These limits with another wait between polls.
    pub const fn with_idle_poll(self, idle_poll: Duration) -> Self {
        Self { idle_poll, ..self }
    }

    /// These limits with or without order inside a call.
    pub const fn with_keeps_order(self, keeps_order: bool) -> Self {
        Self { keeps_order, ..self }
    }

    /// These limits with shards that the hash key chooses, or the stream.
    pub const fn with_routes_by_key(self, routes_by_key: bool) -> Self {
        Self { routes_by_key, ..self }
    }

    /// These limits with fetches that wait for what comes, or do not.
    pub const fn with_pushes(self, pushes: bool) -> Self {
        Self { pushes, ..self }
    }

    /// These limits with another quota for what a shard takes.
    pub const fn with_write_quota(self, write_quota: Option<Quota>) -> Self {
        Self { write_quota, ..self }
    }

    /// These limits with another quota for what a shard gives.
    pub const fn with_read_quota(self, read_quota: Option<Quota>) -> Self {
        Self { read_quota, ..self }
    }

    /// Refuses a call that is over the limits, before anything is sent.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`] for the first such record, [`Error::CallTooLarge`].
    pub fn check(&self, entries: &[PutEntry]) -> Result<()> {
        let mut bytes = 0;
        for entry in entries {
            self.check_record(entry)?;
            bytes += entry.size();
        }
        if entries.len() > self.max_entries || bytes > self.max_call_bytes {
            return Err(Error::CallTooLarge {
                entries: entries.len(),
                bytes,
                max_entries: self.max_entries,
                max_bytes: self.max_call_bytes,
            });
        }
        Ok(())
    }

    /// Refuses a record that is over the limit.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`].
    pub fn check_record(&self, entry: &PutEntry) -> Result<()> {
        match entry.size() {
            bytes if bytes > self.max_record_bytes => {
                Err(Error::RecordTooLarge { bytes, limit: self.max_record_bytes })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::PartitionKey;

    #[test]
    fn a_call_over_the_limits_is_refused_with_sizes() {
        let entry = |bytes: usize| PutEntry::new(PartitionKey::new("k").unwrap(), vec![0; bytes]);
        let limits = Limits::KINESIS;
        assert!(limits.check(&vec![entry(10); 500]).is_ok());
        assert_eq!(
            limits.check(&vec![entry(10); 501]).unwrap_err().to_string(),
            "a call of 501 entries and 5.4 KiB is over the stream's limit of 500 and 10 MiB"
        );
        assert!(limits.check(&[entry((1 << 20) - 1)]).is_ok(), "the key counts too");
        assert_eq!(
            limits.check(&[entry(1 << 20)]).unwrap_err().to_string(),
            "record of 1.1 MiB is over the stream's limit of 1 MiB"
        );
        assert!(matches!(limits.check(&vec![entry(1 << 19); 21]), Err(Error::CallTooLarge { .. })));
    }
}
