//! Partition keys.

use std::fmt;
use std::str::FromStr;

use bytestring::ByteString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::model::hash_key::HashKey;

/// The text that chooses a record's shard, and among whose records order is kept.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey(ByteString);

/// Kinesis' limit, in Unicode characters.
const MAX_CHARACTERS: usize = 256;

impl PartitionKey {
    /// A key for a record to be put.
    ///
    /// # Errors
    /// [`Error::PartitionKeyLength`] where it is empty or over 256 characters.
    pub fn new(key: impl Into<ByteString>) -> Result<Self> {
        let key = key.into();
        // A character takes a byte at least, so short keys need not be counted.
        let characters = if key.len() <= MAX_CHARACTERS { key.len() } else { key.chars().count() };
        match characters {
            1..=MAX_CHARACTERS => Ok(Self(key)),
            characters => Err(Error::PartitionKeyLength { characters }),
        }
    }

    /// The key of a record that a stream holds; may be empty where the stream keeps none.
    pub fn stored(key: impl Into<ByteString>) -> Self {
        Self(key.into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its place among the shards.
    pub fn hash_key(&self) -> HashKey {
        HashKey::of(&self.0)
    }
}

impl FromStr for PartitionKey {
    type Err = Error;

    /// A key for a record to be put, as [`new`](Self::new).
    fn from_str(key: &str) -> Result<Self> {
        Self::new(key)
    }
}

impl Serialize for PartitionKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for PartitionKey {
    /// Any key that a stream may hold, as [`stored`](Self::stored).
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::stored)
    }
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_1_to_256_characters_however_many_bytes() {
        assert!(PartitionKey::new("").is_err());
        assert!(PartitionKey::new("日".repeat(256)).is_ok());
        let error = PartitionKey::new("日".repeat(257)).unwrap_err();
        assert_eq!(error.to_string(), "a partition key has 1 to 256 characters, this one has 257");
    }
}
