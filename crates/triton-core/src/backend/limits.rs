//! Limits and quotas of a stream.

use std::time::Duration;

#[cfg(doc)]
use crate::backend::StreamClient;
use crate::error::{Error, Result};
use crate::record::PutEntry;

/// A stream's limits per call, its quotas per shard, and how it is written and polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Maximum number of entries per [`put_batch`](StreamClient::put_batch).
    pub max_entries: usize,
    /// Maximum bytes per [`put_batch`](StreamClient::put_batch): payloads and keys.
    pub max_call_bytes: usize,
    /// Maximum bytes per record: payload and key.
    pub max_record_bytes: usize,
    /// Time between two polls of a reader that has caught up.
    pub idle_poll: Duration,
    /// Whether a call is atomic and keeps its entries in order: either all are written, in order, or none is. If not, a
    /// producer that keeps the order per key has at most one record of each key in flight.
    pub ordered_batches: bool,
    /// Whether a record's hash key chooses its shard. If not, the stream chooses, and the shard is known only afterwards.
    pub key_routed: bool,
    /// Whether the backend holds the fetch of a caught-up reader until records arrive, so that the reader does not poll.
    pub pushes: bool,
    /// Records and bytes (payloads and keys) per second that a shard accepts from all producers together; `None` for no quota.
    pub write_quota: Option<Quota>,
    /// Calls and bytes per second that a shard serves to all readers together; `None` for no quota.
    pub read_quota: Option<Quota>,
}

/// Quota of one shard, per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quota {
    /// Bytes per second that are guaranteed.
    pub bytes: u32,
    /// Upper bound of `bytes`, where the actual quota is uncertain: Kinesis' documentation says MB in one place and MiB in
    /// another.
    pub max_bytes: u32,
    /// Records (of puts) or calls (of fetches) per second.
    pub count: u32,
}

impl Quota {
    /// Write quota of a Kinesis shard: 1 MB or 1 MiB, and 1,000 records.
    pub const KINESIS_WRITE: Self = Self { bytes: 1_000_000, max_bytes: 1 << 20, count: 1_000 };
    /// Read quota of a Kinesis shard: 2 MB or 2 MiB, and 5 calls.
    pub const KINESIS_READ: Self = Self { bytes: 2_000_000, max_bytes: 2 << 20, count: 5 };

    /// A quota of these bytes, and records or calls, per second.
    pub const fn new(bytes: u32, count: u32) -> Self {
        Self { bytes, max_bytes: bytes, count }
    }

    /// This quota, with an upper bound for its bytes per second. See [`max_bytes`](Self::max_bytes).
    pub const fn with_max_bytes(self, max_bytes: u32) -> Self {
        Self { max_bytes, ..self }
    }
}

impl Limits {
    /// Kinesis' documented limits for a stream with the default record size: 500 entries and 10 MiB per call, 1 MiB per
    /// record, a second between polls of an idle shard, no order within a call, and a shard's quotas.
    pub const KINESIS: Self = Self {
        max_entries: 500,
        max_call_bytes: 10 << 20,
        max_record_bytes: 1 << 20,
        idle_poll: Duration::from_secs(1),
        ordered_batches: false,
        key_routed: true,
        pushes: false,
        write_quota: Some(Quota::KINESIS_WRITE),
        read_quota: Some(Quota::KINESIS_READ),
    };

    /// These limits with this many entries per call.
    pub const fn with_max_entries(self, max_entries: usize) -> Self {
        Self { max_entries, ..self }
    }

    /// These limits with this many bytes per call.
    pub const fn with_max_call_bytes(self, max_call_bytes: usize) -> Self {
        Self { max_call_bytes, ..self }
    }

    /// These limits with this many bytes per record.
    pub const fn with_max_record_bytes(self, max_record_bytes: usize) -> Self {
        Self { max_record_bytes, ..self }
    }

    /// These limits with this time between polls.
    pub const fn with_idle_poll(self, idle_poll: Duration) -> Self {
        Self { idle_poll, ..self }
    }

    /// These limits with or without order within a call.
    pub const fn with_ordered_batches(self, ordered_batches: bool) -> Self {
        Self { ordered_batches, ..self }
    }

    /// These limits with shards chosen by the hash key, or by the stream.
    pub const fn with_key_routed(self, key_routed: bool) -> Self {
        Self { key_routed, ..self }
    }

    /// These limits with or without fetches that wait for new records.
    pub const fn with_pushes(self, pushes: bool) -> Self {
        Self { pushes, ..self }
    }

    /// These limits with this write quota per shard.
    pub const fn with_write_quota(self, write_quota: Option<Quota>) -> Self {
        Self { write_quota, ..self }
    }

    /// These limits with this read quota per shard.
    pub const fn with_read_quota(self, read_quota: Option<Quota>) -> Self {
        Self { read_quota, ..self }
    }

    /// Checks a call against the limits, before anything is sent.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`] for the first record over the limit; otherwise [`Error::CallTooLarge`].
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

    /// Checks a record against the limit.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`].
    pub fn check_record(&self, entry: &PutEntry) -> Result<()> {
        let bytes = entry.size();
        if bytes > self.max_record_bytes {
            return Err(Error::RecordTooLarge { bytes, limit: self.max_record_bytes });
        }
        Ok(())
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
