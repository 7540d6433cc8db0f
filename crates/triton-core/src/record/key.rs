//! Partition keys.

use std::fmt;
use std::str::FromStr;

use bytestring::ByteString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::model::hash_key::HashKey;

/// Text that selects a record's shard. Records of one key keep their order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey(ByteString);

/// Kinesis' limit in Unicode characters.
const MAX_CHARACTERS: usize = 256;

impl PartitionKey {
    /// The key of a record to be put.
    ///
    /// # Errors
    /// [`Error::PartitionKeyLength`] if it is empty or longer than 256 characters.
    pub fn new(key: impl Into<ByteString>) -> Result<Self> {
        let key = key.into();
        // Keys of at most 256 bytes need no count of characters.
        let characters = if key.len() <= MAX_CHARACTERS { key.len() } else { key.chars().count() };
        match characters {
            1..=MAX_CHARACTERS => Ok(Self(key)),
            characters => Err(Error::PartitionKeyLength { characters }),
        }
    }

    /// The key of a record that was read. Not checked: streams that store no keys return empty ones.
    pub fn stored(key: impl Into<ByteString>) -> Self {
        Self(key.into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hash key that selects the shard: the MD5 of the text.
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
    fn the_length_of_a_key_is_limited_in_characters() {
        assert!(PartitionKey::new("").is_err());
        assert!(PartitionKey::new("日".repeat(256)).is_ok());
        let error = PartitionKey::new("日".repeat(257)).unwrap_err();
        assert_eq!(error.to_string(), "a partition key has 1 to 256 characters, this one has 257");
    }
}
