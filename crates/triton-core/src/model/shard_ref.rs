//! How a user names a shard: by its id, or by its number.

use std::fmt;
use std::str::FromStr;

use super::shard::ShardId;
use crate::error::ParseError;

/// A shard, named by its id or by its number.
///
/// A number is an index into the current list of shards, open and closed, sorted by id. It names another shard once retention
/// has removed an earlier one from the list: whatever is stored, or handed to another process, takes ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardRef {
    /// By its id.
    Id(ShardId),
    /// By its number, from 0.
    Number(usize),
}

impl ShardRef {
    /// The number; `None` if the shard is named by its id.
    pub fn number(&self) -> Option<usize> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }
}

impl From<ShardId> for ShardRef {
    fn from(id: ShardId) -> Self {
        Self::Id(id)
    }
}

impl From<usize> for ShardRef {
    fn from(number: usize) -> Self {
        Self::Number(number)
    }
}

impl FromStr for ShardRef {
    type Err = ParseError;

    /// Digits alone are a number.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = text.parse();
            return number.map(Self::Number).map_err(|_| ParseError::new(text, "a shard number"));
        }
        text.parse().map(Self::Id)
    }
}

impl fmt::Display for ShardRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}
