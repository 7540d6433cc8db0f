//! Shards: ids, hash key ranges and parents.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::hash_key::HashKeyRange;

use crate::error::parse::ParseError;
use crate::model::sequence_number::SequenceNumber;
use crate::model::text::serde_as_text;

/// The id of a shard, such as `shardId-000000000001`. Ids sort in the order of their creation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(Arc<str>);

/// Kinesis' limit, in characters.
const MAX_LENGTH: usize = 128;

impl ShardId {
    /// The id that Kinesis gives to a stream's shard number `number`.
    ///
    /// ```
    /// assert_eq!(triton_core::ShardId::numbered(1).as_str(), "shardId-000000000001");
    /// ```
    pub fn numbered(number: u64) -> Self {
        Self(format!("shardId-{number:012}").into())
    }

    /// The number in an id as [`numbered`](Self::numbered) writes it.
    pub fn number(&self) -> Option<u64> {
        let digits = self.0.strip_prefix("shardId-")?;
        let is_canonical = match digits.len() {
            0..12 => false,
            12 => true,
            _ => !digits.starts_with('0'),
        };
        // `parse` alone would accept a sign.
        let is_number = is_canonical && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { digits.parse().ok() } else { None }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ShardId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl FromStr for ShardId {
    type Err = ParseError;

    /// Reads an id that was stored or typed. It does not check that the shard exists.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(is_valid) {
            Ok(Self(text.into()))
        } else {
            Err(ParseError::new(text, "a shard id (1 to 128 letters, digits, '_', '.' and '-')"))
        }
    }
}

serde_as_text!(ShardId);

/// Allows a set of ids to be searched by text.
impl std::borrow::Borrow<str> for ShardId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A shard as the stream lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its id.
    pub id: ShardId,
    /// The shard that it was split from, or the first of the two that it was merged from. It stays set after retention
    /// has removed the parent.
    pub parent: Option<ShardId>,
    /// The second of the two shards that it was merged from.
    pub adjacent_parent: Option<ShardId>,
    /// The hash keys that it holds.
    pub hash_key_range: HashKeyRange,
    /// The lowest sequence number that it can hold.
    pub first_sequence_number: SequenceNumber,
    /// The highest sequence number that it can hold; `None` while the shard is open.
    pub last_sequence_number: Option<SequenceNumber>,
}

impl Shard {
    /// Whether the shard accepts records: it was neither split nor merged.
    pub fn is_open(&self) -> bool {
        self.last_sequence_number.is_none()
    }

    /// The shards that it was split or merged from.
    pub fn parents(&self) -> impl Iterator<Item = &ShardId> {
        self.parent.iter().chain(&self.adjacent_parent)
    }
}

/// A shard that another one was split or merged into, as the backend names it at the end of that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildShard {
    /// Its id.
    pub id: ShardId,
    /// The one or two shards that it was split or merged from.
    pub parents: Vec<ShardId>,
    /// The hash keys that it holds.
    pub hash_key_range: HashKeyRange,
}

impl From<&Shard> for ChildShard {
    fn from(shard: &Shard) -> Self {
        Self { id: shard.id.clone(), parents: shard.parents().cloned().collect(), hash_key_range: shard.hash_key_range }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_text_wherever_they_go() {
        let id = ShardId::numbered(7);
        assert_eq!("shardId-000000000007".parse(), Ok(id.clone()));
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"shardId-000000000007\"");
        assert_eq!(serde_json::from_str::<ShardId>("\"shardId-000000000007\"").unwrap(), id);
        for wrong in ["", "shardId 7", "shardId:7", "shardId-\u{1b}"] {
            assert!(wrong.parse::<ShardId>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn ids_carry_their_number() {
        assert_eq!(ShardId::numbered(12).number(), Some(12));
        assert_eq!(ShardId::numbered(u64::MAX).number(), Some(u64::MAX));
        for other in ["shard-12", "shardId-12", "shardId-+00000000012", "shardId-0000000000012"] {
            assert_eq!(ShardId::from(other).number(), None, "{other}");
        }
        assert!(ShardId::numbered(9) < ShardId::numbered(10));
    }
}
