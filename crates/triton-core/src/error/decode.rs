//! Why a payload is not a record.

use std::fmt;

/// Why a payload is not a record, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct DecodeError {
    /// What is wrong.
    pub kind: DecodeErrorKind,
    /// Offset of the invalid byte, counted from 0; always 0 for [`Shape`](DecodeErrorKind::Shape).
    pub offset: usize,
}

/// What is wrong with a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The payload is empty.
    Empty,
    /// The byte 0xc1, which MessagePack never uses.
    Reserved,
    /// The payload ends inside the value that starts at the offset.
    Truncated,
    /// A length claims more than the rest of the payload can hold.
    Length {
        /// The length: a number of bytes, array values or map pairs.
        claimed: usize,
    },
    /// Bytes are left over after the value.
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// Arrays and maps are nested deeper than a record may be.
    TooDeep {
        /// Maximum number of levels.
        limit: usize,
    },
    /// The payload is MessagePack, but not of the shape that was asked for.
    Shape {
        /// serde's message.
        problem: String,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.offset;
        match &self.kind {
            DecodeErrorKind::Empty => write!(f, "not MessagePack (empty)"),
            DecodeErrorKind::Reserved => write!(f, "not MessagePack (byte 0xc1 at {offset})"),
            DecodeErrorKind::Truncated => write!(f, "not MessagePack (ends inside the value at {offset})"),
            DecodeErrorKind::Length { claimed } => {
                write!(f, "not MessagePack (the length at {offset} is {claimed}, more than the rest can hold)")
            }
            DecodeErrorKind::Trailing { bytes } => {
                write!(f, "not MessagePack (the value ends at {offset}, trailing bytes: {bytes})")
            }
            DecodeErrorKind::TooDeep { limit } => write!(f, "nested deeper than {limit} levels at {offset}"),
            DecodeErrorKind::Shape { problem } => write!(f, "not of the expected shape: {problem}"),
        }
    }
}
