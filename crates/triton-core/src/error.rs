//! Errors: one enum onto which every backend maps its own.
//!
//! An error has a [`kind`](Error::kind). It says whether [the same call may succeed later](Error::is_retryable), and
//! whether [the records may have been written although the call failed](Error::may_have_written).

mod config;
mod decode;
mod json;
pub(crate) mod parse;
mod submit;

use std::path::PathBuf;
use std::sync::Arc;

use crate::model::sequence_number::SequenceNumber;
use crate::model::shard::ShardId;
use crate::model::timestamp::Timestamp;

pub use self::config::ConfigError;
pub use self::decode::{DecodeError, DecodeErrorKind};
pub use self::json::JsonError;
pub use self::parse::ParseError;
pub use self::submit::TrySubmitError;

/// A result with Triton's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The underlying error of a backend, shared so that the error of one call can be returned for each of its entries.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// An error of a stream, its config or its records.
///
/// `Display` is one lower-case sentence. It does not repeat the underlying error, which is the
/// [`source`](std::error::Error::source).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The config file cannot be read or is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// The config has no stream of this name.
    #[error("no stream '{stream}' in {}", file.display())]
    UnknownStream {
        /// The logical name.
        stream: String,
        /// The config file.
        file: PathBuf,
        /// A name in that file with a similar spelling.
        similar: Option<String>,
    },

    /// A setting cannot be used, whether the config, the environment or the program gives it.
    #[error("{problem}")]
    Setting {
        /// What is wrong with it.
        problem: String,
        /// The next step, if there is one.
        help: Option<String>,
    },

    /// Records would go over plain HTTP to another machine.
    #[error("endpoint {url} is plain HTTP to another machine, which anyone on the network can read")]
    InsecureEndpoint {
        /// The endpoint.
        url: String,
    },

    /// The value cannot be encoded as a MessagePack map.
    #[error("the record cannot be encoded: {problem}")]
    Encode {
        /// What is wrong with the value.
        problem: String,
    },

    /// The record lacks the field that the stream's `partition_key` names.
    #[error("no field '{field}' (partition_key of '{stream}'); has: {}", present.join(", "))]
    NoPartitionKey {
        /// The missing field.
        field: String,
        /// The stream's logical name.
        stream: String,
        /// The fields that the record has.
        present: Vec<String>,
    },

    /// The partition key's field has a type that cannot be a key.
    #[error(
        "field '{field}' (partition_key of '{stream}') is {found}, not text, a number or a boolean; has: {}",
        present.join(", ")
    )]
    PartitionKeyType {
        /// The field.
        field: String,
        /// The stream's logical name.
        stream: String,
        /// Its type, such as `an array`.
        found: &'static str,
        /// The fields that the record has.
        present: Vec<String>,
    },

    /// A partition key is empty or longer than 256 characters.
    #[error("a partition key has 1 to 256 characters, this one has {characters}")]
    PartitionKeyLength {
        /// Its number of Unicode characters.
        characters: usize,
    },

    /// A payload cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),

    /// Text that is not an id, time, key or receipt.
    #[error(transparent)]
    Parse(#[from] ParseError),

    /// A line of JSON is not a record.
    #[error(transparent)]
    Json(#[from] JsonError),

    /// A record is larger than the stream's limit.
    #[error("record of {} is over the stream's limit of {}", Size(*bytes), Size(*limit))]
    RecordTooLarge {
        /// Bytes of the payload and the partition key together.
        bytes: usize,
        /// The stream's limit in bytes.
        limit: usize,
    },

    /// A call is larger than the stream's limits. Nothing was sent.
    #[error(
        "a call of {entries} entries and {} is over the stream's limit of {max_entries} and {}",
        Size(*bytes), Size(*max_bytes)
    )]
    CallTooLarge {
        /// Entries in the call.
        entries: usize,
        /// Bytes of all payloads and keys in the call.
        bytes: usize,
        /// Maximum entries per call.
        max_entries: usize,
        /// Maximum bytes per call.
        max_bytes: usize,
    },

    /// The stream does not exist.
    #[error("stream '{stream}' not found in {location}")]
    StreamNotFound {
        /// The real stream's name.
        stream: String,
        /// The region, or the folder of local streams.
        location: String,
    },

    /// A stream of this name exists already.
    #[error("stream '{stream}' exists already in {location}")]
    StreamExists {
        /// The real stream's name.
        stream: String,
        /// The region, or the folder of local streams.
        location: String,
    },

    /// The stream has no shard of this id.
    #[error("no shard '{shard}' in stream '{stream}'")]
    ShardNotFound {
        /// The id.
        shard: ShardId,
        /// The real stream's name.
        stream: String,
    },

    /// A shard number is not an index into the stream's list of shards.
    #[error("shard {number} out of range: '{stream}' has {}", shard_numbers(*count))]
    ShardOutOfRange {
        /// The number.
        number: usize,
        /// The stream's name.
        stream: String,
        /// Number of shards in the list, including closed ones.
        count: usize,
    },

    /// Records after the position have been removed by retention, so reading on would skip them.
    #[error("{shard}: position {position} is past retention, records after it are gone")]
    PastRetention {
        /// The shard.
        shard: ShardId,
        /// The position to read from.
        position: SequenceNumber,
    },

    /// The position names a record that the shard does not have, and never had: another shard's, another stream's, or one that
    /// is still to come.
    #[error("{shard}: no record {position}: {problem}")]
    InvalidPosition {
        /// The shard.
        shard: ShardId,
        /// The position, as `SEQ` or `SEQ.SUB`.
        position: String,
        /// What is wrong with it.
        problem: String,
    },

    /// Retention has removed the shard before it was read to its end, so records of it may be lost.
    #[error("{shard} was removed by retention before it was read to its end, so records of it may be lost")]
    ShardRemoved {
        /// The shard.
        shard: ShardId,
    },

    /// Checkpoints are of another stream that had this name.
    #[error("the checkpoints are of another stream '{stream}', created at {stored}; this one was created at {actual}")]
    AnotherStream {
        /// The stream's name.
        stream: String,
        /// Creation time of the stream that the checkpoints are of.
        stored: Timestamp,
        /// Creation time of this stream.
        actual: Timestamp,
    },

    /// A shard iterator has expired. Open the shard again at the reader's position.
    #[error("the iterator of {shard} has expired")]
    IteratorExpired {
        /// The shard.
        shard: ShardId,
    },

    /// The call is over the stream's quota.
    #[error("throttled: {problem}")]
    Throttled {
        /// The backend's message.
        problem: String,
    },

    /// Credentials are missing, expired or rejected by the backend.
    #[error("{problem}")]
    Credentials {
        /// What is wrong with them.
        problem: String,
        /// The backend's own error.
        #[source]
        source: Option<Cause>,
    },

    /// The caller lacks the permission for this call.
    #[error("access denied: {problem}")]
    AccessDenied {
        /// The backend's message.
        problem: String,
    },

    /// The encryption key of the stream cannot be used.
    #[error("the stream's encryption key cannot be used: {problem}")]
    EncryptionKey {
        /// The backend's message.
        problem: String,
    },

    /// The backend could not be reached, failed, or did not reply in time.
    #[error("{problem}")]
    Unavailable {
        /// What happened.
        problem: String,
        /// Whether the records of a put may have been written.
        may_have_written: bool,
        /// The backend's own error.
        #[source]
        source: Option<Cause>,
    },

    /// The storage of a stream failed, such as a full disk, or a read-only or corrupt file.
    #[error("{}: {problem}", file.display())]
    Storage {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// Whether the records of a put may have been written.
        may_have_written: bool,
        /// The storage's own error.
        #[source]
        source: Option<Cause>,
    },

    /// The request is invalid for this stream.
    #[error("{problem}")]
    Invalid {
        /// What is wrong with it.
        problem: String,
    },

    /// The producer was closed or dropped before the record was acknowledged.
    #[error("the producer was closed before the record was acknowledged")]
    Closed {
        /// Whether the record may have been written.
        may_have_written: bool,
    },

    /// A backend broke its contract.
    #[error("{backend} broke its contract: {problem}")]
    Contract {
        /// The backend or stream.
        backend: String,
        /// How it broke the contract.
        problem: String,
    },

    /// Reading one shard failed for good. The other shards are still read.
    #[error("{shard} cannot be read")]
    Shard {
        /// The shard.
        shard: ShardId,
        /// The failure.
        source: Box<Error>,
    },

    /// The reader has ended without these shards, and those split or merged from them: reading them failed for good.
    #[error("not read to the end: {}", listed(shards))]
    Incomplete {
        /// The shards.
        shards: Vec<ShardId>,
        /// The first of the failures.
        source: Box<Error>,
    },

    /// The record was not sent, because an earlier record of its key failed and may still be written after it.
    #[error("not sent: an earlier record of the same partition key failed, and may still be written")]
    PredecessorFailed {
        /// The error of the earlier record.
        source: Box<Error>,
    },
}

/// Category of an [`Error`], for decisions and exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The config is invalid, or lacks the stream.
    Config,
    /// A record, payload or key is invalid.
    BadData,
    /// A stream, shard or position does not exist.
    NotFound,
    /// Retention has removed records before they were read.
    PastRetention,
    /// A shard iterator has expired.
    IteratorExpired,
    /// A call is over a quota.
    Throttled,
    /// Credentials are missing or not accepted.
    Credentials,
    /// The caller lacks a permission.
    AccessDenied,
    /// The encryption key of the stream cannot be used.
    EncryptionKey,
    /// The backend cannot be reached, fails, or does not reply.
    Unavailable,
    /// The storage of a stream fails.
    Storage,
    /// The stream to be created exists already.
    Exists,
    /// The producer was closed.
    Closed,
    /// The request is invalid.
    Invalid,
    /// A backend broke its contract.
    Contract,
}

impl Error {
    /// Category of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Config(_) | Error::UnknownStream { .. } | Error::Setting { .. } | Error::InsecureEndpoint { .. } => {
                ErrorKind::Config
            }
            Error::Encode { .. }
            | Error::NoPartitionKey { .. }
            | Error::PartitionKeyType { .. }
            | Error::PartitionKeyLength { .. }
            | Error::Decode(_)
            | Error::Json(_)
            | Error::RecordTooLarge { .. } => ErrorKind::BadData,
            Error::StreamNotFound { .. }
            | Error::ShardNotFound { .. }
            | Error::ShardOutOfRange { .. }
            | Error::InvalidPosition { .. } => ErrorKind::NotFound,
            Error::PastRetention { .. } | Error::ShardRemoved { .. } => ErrorKind::PastRetention,
            Error::IteratorExpired { .. } => ErrorKind::IteratorExpired,
            Error::Throttled { .. } => ErrorKind::Throttled,
            Error::Credentials { .. } => ErrorKind::Credentials,
            Error::AccessDenied { .. } => ErrorKind::AccessDenied,
            Error::EncryptionKey { .. } => ErrorKind::EncryptionKey,
            Error::Unavailable { .. } => ErrorKind::Unavailable,
            Error::Storage { .. } => ErrorKind::Storage,
            Error::StreamExists { .. } => ErrorKind::Exists,
            Error::Closed { .. } => ErrorKind::Closed,
            Error::Invalid { .. } | Error::Parse(_) | Error::CallTooLarge { .. } | Error::AnotherStream { .. } => {
                ErrorKind::Invalid
            }
            Error::Contract { .. } => ErrorKind::Contract,
            Error::Shard { source, .. } | Error::Incomplete { source, .. } | Error::PredecessorFailed { source } => {
                source.kind()
            }
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Throttled { .. } | Error::Unavailable { .. } | Error::IteratorExpired { .. } => true,
            Error::Shard { source, .. } => source.is_retryable(),
            _ => false,
        }
    }

    /// Whether the records of a failed put may have been written.
    pub fn may_have_written(&self) -> bool {
        match self {
            Error::Unavailable { may_have_written, .. }
            | Error::Storage { may_have_written, .. }
            | Error::Closed { may_have_written } => *may_have_written,
            // The reply is unusable, so no entry's outcome is known.
            Error::Contract { .. } => true,
            _ => false,
        }
    }
}

/// The first shards by name, and the number of the others.
fn listed(shards: &[ShardId]) -> String {
    const NAMED: usize = 8;
    let names: Vec<&str> = shards.iter().take(NAMED).map(ShardId::as_str).collect();
    match shards.len() {
        0..=NAMED => names.join(", "),
        count => format!("{} and {} more shards", names.join(", "), count - NAMED),
    }
}

/// Text of a number of shards and the range of their numbers.
fn shard_numbers(count: usize) -> String {
    match count {
        0 => "no shards".into(),
        1 => "1 shard (0)".into(),
        count => format!("{count} shards (0-{})", count - 1),
    }
}

/// A human-readable number of bytes: `1 MiB`, `1.3 MiB`, `512 B`.
#[derive(Clone, Copy, Debug)]
pub struct Size(
    /// Number of bytes.
    pub usize,
);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        // Rounded up, so that a size above a limit never reads as the limit.
        let tenths = (value * 10.0).ceil() as u64;
        if tenths.is_multiple_of(10) {
            write!(f, "{} {}", tenths / 10, UNITS[unit])
        } else {
            write!(f, "{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_human_readable_and_rounded_up() {
        let text = |bytes| Size(bytes).to_string();
        assert_eq!(text(0), "0 B");
        assert_eq!(text(1023), "1023 B");
        assert_eq!(text(1 << 20), "1 MiB");
        assert_eq!(text((1 << 20) + 1), "1.1 MiB");
        assert_eq!(text(1_363_148), "1.3 MiB");
        assert_eq!(text(3 << 30), "3 GiB");
    }

    #[test]
    fn a_display_does_not_repeat_its_source() {
        let cause: Cause = Arc::new(std::io::Error::other("connection refused"));
        let error = Error::Unavailable {
            problem: "the stream cannot be reached".into(),
            may_have_written: false,
            source: Some(cause),
        };
        assert_eq!(error.to_string(), "the stream cannot be reached");
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "connection refused");
    }

    #[test]
    fn a_call_with_a_lost_reply_may_have_written_and_a_throttled_call_has_not() {
        let lost = Error::Unavailable { problem: "timed out".into(), may_have_written: true, source: None };
        assert!(lost.is_retryable() && lost.may_have_written());
        let throttled = Error::Throttled { problem: "1,000 records/s".into() };
        assert!(throttled.is_retryable() && !throttled.may_have_written());
    }
}
