//! What a stream takes at once, and how it wants to be used.

use std::time::Duration;

#[cfg(doc)]
use crate::backend::StreamClient;
use crate::error::{Error, Result};
use crate::record::PutEntry;

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
    pub ordered_batches: bool,
    /// Whether a record's hash key chooses its shard. Where it is false, the stream chooses, and nobody can tell beforehand.
    pub key_routed: bool,
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
        ordered_batches: false,
        key_routed: true,
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
    pub const fn with_ordered_batches(self, ordered_batches: bool) -> Self {
        Self { ordered_batches, ..self }
    }

    /// These limits with shards that the hash key chooses, or the stream.
    pub const fn with_key_routed(self, key_routed: bool) -> Self {
        Self { key_routed, ..self }
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
