//! What can go wrong, in one enum that every backend maps its own errors onto.
//!
//! A caller asks three questions of an error: what [`kind`](Error::kind) it is, whether
//! [the same call may succeed later](Error::is_retryable), and whether
//! [the data may be in the stream all the same](Error::may_have_written).

mod config;
mod decode;
mod json;
pub(crate) mod parse;
mod submit;

use std::path::PathBuf;
use std::sync::Arc;

use crate::model::sequence_number::SequenceNumber;
use crate::model::shard::ShardId;

pub use self::config::ConfigError;
pub use self::decode::{DecodeError, DecodeErrorKind};
pub use self::json::JsonError;
pub use self::parse::ParseError;
pub use self::submit::TrySubmitError;

/// A result with Triton's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The underlying error of a backend, shared so that one failed call can be told to each of its entries.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Everything that can go wrong in a pipeline.
///
/// `Display` is one lower-case sentence; the underlying error, where there is one, is the
/// [`source`](std::error::Error::source) and is not repeated in it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The config file cannot be read or is not right.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// The config has no stream of this name.
    #[error("no stream '{stream}' in {}", file.display())]
    UnknownStream {
        /// The logical name that was asked for.
        stream: String,
        /// The config file that was read.
        file: PathBuf,
        /// A name in that file that is spelled much the same.
        similar: Option<String>,
    },

    /// A setting cannot be used, whether the config, the environment or the program gives it.
    #[error("{problem}")]
    Setting {
        /// What is wrong with it.
        problem: String,
        /// The next step, where there is one to name.
        help: Option<String>,
    },

    /// Records would go over plain HTTP to another machine.
    #[error("endpoint {url} is plain HTTP to another machine, where anybody on the way reads along")]
    InsecureEndpoint {
        /// The endpoint.
        url: String,
    },

    /// The value cannot become a MessagePack map.
    #[error("the record cannot be encoded: {problem}")]
    Encode {
        /// What is wrong with the value.
        problem: String,
    },

    /// The record has no field of the name that the stream's `partition_key` gives.
    #[error("no field '{field}' (partition_key of '{stream}'); has: {}", present.join(", "))]
    NoPartitionKey {
        /// The field that was looked for.
        field: String,
        /// The stream's logical name.
        stream: String,
        /// The fields that the record has.
        present: Vec<String>,
    },

    /// The partition key's field holds something that is no key.
    #[error(
        "field '{field}' (partition_key of '{stream}') is {found}, not text, a number or a boolean; has: {}",
        present.join(", ")
    )]
    PartitionKeyType {
        /// The field that was looked at.
        field: String,
        /// The stream's logical name.
        stream: String,
        /// What it holds, such as `an array`.
        found: &'static str,
        /// The fields that the record has.
        present: Vec<String>,
    },

    /// A partition key is empty or over 256 characters.
    #[error("a partition key has 1 to 256 characters, this one has {characters}")]
    PartitionKeyLength {
        /// How many Unicode characters it has.
        characters: usize,
    },

    /// A payload is not a MessagePack record.
    #[error(transparent)]
    Decode(#[from] DecodeError),

    /// Text that is no id, time, key or receipt.
    #[error(transparent)]
    Parse(#[from] ParseError),

    /// A line of JSON is no record.
    #[error(transparent)]
    Json(#[from] JsonError),

    /// A record is larger than its stream takes.
    #[error("record of {} is over the stream's limit of {}", Size(*bytes), Size(*limit))]
    RecordTooLarge {
        /// Bytes of the payload and the partition key together.
        bytes: usize,
        /// The stream's limit in bytes.
        limit: usize,
    },

    /// A call holds more than a backend takes at once; nothing was sent.
    #[error(
        "a call of {entries} entries and {} is over the stream's limit of {max_entries} and {}",
        Size(*bytes), Size(*max_bytes)
    )]
    CallTooLarge {
        /// Entries in the call.
        entries: usize,
        /// Bytes of all payloads and keys in the call.
        bytes: usize,
        /// Entries that a call may hold.
        max_entries: usize,
        /// Bytes that a call may hold.
        max_bytes: usize,
    },

    /// The real stream does not exist.
    #[error("stream '{stream}' not found in {place}")]
    StreamNotFound {
        /// The real stream's name.
        stream: String,
        /// The region, or the folder of local streams.
        place: String,
    },

    /// A stream of this name exists already.
    #[error("stream '{stream}' exists already in {place}")]
    StreamExists {
        /// The real stream's name.
        stream: String,
        /// The region, or the folder of local streams.
        place: String,
    },

    /// No shard of this id.
    #[error("no shard '{shard}' in stream '{stream}'")]
    ShardNotFound {
        /// The id that was asked for.
        shard: ShardId,
        /// The real stream's name.
        stream: String,
    },

    /// A shard number is not an index into the stream's list of shards.
    #[error("shard {number} out of range: '{stream}' has {}", shard_numbers(*count))]
    ShardOutOfRange {
        /// The number that was asked for.
        number: usize,
        /// The stream's name.
        stream: String,
        /// How many shards it has, closed ones counted.
        count: usize,
    },

    /// Records between the position and the oldest record kept were lost to retention.
    #[error("{shard}: position {position} is past retention, records after it are gone")]
    PastRetention {
        /// The shard that was read.
        shard: ShardId,
        /// Where reading was to go on.
        position: SequenceNumber,
    },

    /// A shard iterator lived too long unused; open the shard again where the reader stands.
    #[error("the iterator of {shard} has expired")]
    IteratorExpired {
        /// The shard that was read.
        shard: ShardId,
    },

    /// The stream's quota is used up for the moment.
    #[error("throttled: {problem}")]
    Throttled {
        /// What the backend said.
        problem: String,
    },

    /// Nothing says who is calling, or what says so has expired or is not known to the backend.
    #[error("{problem}")]
    Credentials {
        /// What was looked for, or what the backend said.
        problem: String,
        /// The backend's own error.
        #[source]
        source: Option<Cause>,
    },

    /// The caller is known, and may not do this.
    #[error("access denied: {problem}")]
    AccessDenied {
        /// What the backend said.
        problem: String,
    },

    /// The key that the stream is encrypted with cannot be used.
    #[error("the stream's encryption key cannot be used: {problem}")]
    EncryptionKey {
        /// What the backend said.
        problem: String,
    },

    /// The backend could not be reached, or did not answer in time.
    #[error("{problem}")]
    Unavailable {
        /// What was tried and what happened.
        problem: String,
        /// Whether what was put may be in the stream all the same.
        may_have_written: bool,
        /// The backend's own error.
        #[source]
        source: Option<Cause>,
    },

    /// The storage below a stream failed: a full disk, a read-only or corrupt file.
    #[error("{}: {problem}", file.display())]
    Storage {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// Whether what was put may be in the stream all the same.
        may_have_written: bool,
        /// The storage's own error.
        #[source]
        source: Option<Cause>,
    },

    /// What was asked for makes no sense for this stream.
    #[error("{problem}")]
    Invalid {
        /// What is wrong with it.
        problem: String,
    },

    /// The producer was closed or dropped before the record was acknowledged.
    #[error("the producer was closed before the record was acknowledged")]
    Closed {
        /// Whether it may be in the stream all the same.
        may_have_written: bool,
    },

    /// A backend broke its contract.
    #[error("{backend} broke its contract: {problem}")]
    Contract {
        /// The backend or stream.
        backend: String,
        /// What it did.
        problem: String,
    },

    /// Reading one shard failed; the other shards go on.
    #[error("{shard} cannot be read")]
    Shard {
        /// The shard.
        shard: ShardId,
        /// Why.
        source: Box<Error>,
    },

    /// The entry was not sent, because an earlier one of its key may be written late.
    #[error("not sent: an earlier record of the same partition key failed, and may still be written")]
    PredecessorFailed {
        /// Why the earlier one failed.
        source: Box<Error>,
    },
}

/// What an [`Error`] is about, for decisions and exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration is wrong, or lacks the stream.
    Config,
    /// A record, payload or key is not what it should be.
    BadData,
    /// A stream, shard or position does not exist (any more).
    NotFound,
    /// Records were lost to retention before they were read.
    PastRetention,
    /// A shard iterator has to be renewed.
    IteratorExpired,
    /// A quota is used up for the moment.
    Throttled,
    /// Who is calling is not known.
    Credentials,
    /// Who is calling may not do this.
    AccessDenied,
    /// The stream's encryption key cannot be used.
    EncryptionKey,
    /// The backend cannot be reached or does not answer.
    Unavailable,
    /// The storage below a stream fails.
    Storage,
    /// What was to be made is there already.
    Exists,
    /// The producer was closed.
    Closed,
    /// The request makes no sense.
    Invalid,
    /// A backend broke its contract.
    Contract,
}

impl Error {
    /// What the error is about.
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
            Error::StreamNotFound { .. } | Error::ShardNotFound { .. } | Error::ShardOutOfRange { .. } => {
                ErrorKind::NotFound
            }
            Error::PastRetention { .. } => ErrorKind::PastRetention,
            Error::IteratorExpired { .. } => ErrorKind::IteratorExpired,
            Error::Throttled { .. } => ErrorKind::Throttled,
            Error::Credentials { .. } => ErrorKind::Credentials,
            Error::AccessDenied { .. } => ErrorKind::AccessDenied,
            Error::EncryptionKey { .. } => ErrorKind::EncryptionKey,
            Error::Unavailable { .. } => ErrorKind::Unavailable,
            Error::Storage { .. } => ErrorKind::Storage,
            Error::StreamExists { .. } => ErrorKind::Exists,
            Error::Closed { .. } => ErrorKind::Closed,
            Error::Invalid { .. } | Error::Parse(_) | Error::CallTooLarge { .. } => ErrorKind::Invalid,
            Error::Contract { .. } => ErrorKind::Contract,
            Error::Shard { source, .. } | Error::PredecessorFailed { source } => source.kind(),
        }
    }

    /// Whether the same call may succeed later without a change.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Throttled { .. } | Error::Unavailable { .. } | Error::IteratorExpired { .. } => true,
            Error::Shard { source, .. } => source.is_retryable(),
            _ => false,
        }
    }

    /// Whether what was put may be in the stream although the call failed.
    pub fn may_have_written(&self) -> bool {
        match self {
            Error::Unavailable { may_have_written, .. }
            | Error::Storage { may_have_written, .. }
            | Error::Closed { may_have_written } => *may_have_written,
            // The answer is unusable, so nothing is known of the entries.
            Error::Contract { .. } => true,
            _ => false,
        }
    }
}

/// How many shards there are, and their numbers.
fn shard_numbers(count: usize) -> String {
    match count {
        0 => "no shards".into(),
        1 => "1 shard (0)".into(),
        count => format!("{count} shards (0-{})", count - 1),
    }
}

/// A number of bytes as people read it: `1 MiB`, `1.3 MiB`, `512 B`.
#[derive(Clone, Copy, Debug)]
pub struct Size(
    /// The number of bytes.
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
        // Up to the next tenth: what is over a limit never reads as the limit itself.
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
    fn sizes_are_written_for_people() {
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
    fn a_lost_reply_may_have_written_and_a_throttle_has_not() {
        let lost = Error::Unavailable { problem: "timed out".into(), may_have_written: true, source: None };
        assert!(lost.is_retryable() && lost.may_have_written());
        let throttled = Error::Throttled { problem: "1,000 records/s".into() };
        assert!(throttled.is_retryable() && !throttled.may_have_written());
    }
}
