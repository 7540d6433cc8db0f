//! Hash keys, which decide which shard holds a record.

use std::fmt;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use crate::error::parse::ParseError;
use crate::model::text::serde_as_text;

/// A 128-bit number that decides which shard holds a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashKey(
    /// The number.
    pub u128,
);

impl HashKey {
    /// The smallest hash key.
    pub const MIN: Self = Self(0);
    /// The largest hash key.
    pub const MAX: Self = Self(u128::MAX);

    /// The hash key of a partition key: the MD5 of its UTF-8, read as a big-endian number, as Kinesis does.
    ///
    /// ```
    /// use triton_core::HashKey;
    /// assert_eq!(HashKey::of("user-1").to_string(), "285573413173782752570879317399258818820");
    /// ```
    pub fn of(partition_key: &str) -> Self {
        Self(u128::from_be_bytes(Md5::digest(partition_key).into()))
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::str::FromStr for HashKey {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| ParseError::new(text, "a hash key (decimal, 0 to 2^128 - 1)"))
    }
}

serde_as_text!(HashKey);

/// The hash keys of one shard, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HashKeyRange {
    /// The lowest hash key in it.
    pub first: HashKey,
    /// The highest hash key in it.
    pub last: HashKey,
}

impl HashKeyRange {
    /// Every hash key.
    pub const ALL: Self = Self { first: HashKey::MIN, last: HashKey::MAX };

    /// Whether the key lies inside.
    pub fn contains(&self, key: HashKey) -> bool {
        (self.first..=self.last).contains(&key)
    }

    /// Whether a key lies in both ranges.
    pub(crate) fn overlaps(&self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether each key of this range lies in one of those.
    pub(crate) fn is_covered_by(&self, ranges: impl IntoIterator<Item = Self>) -> bool {
        let mut ranges: Vec<Self> = ranges.into_iter().collect();
        ranges.sort_unstable_by_key(|range| range.first);
        // The first key that is not covered so far.
        let mut next = self.first;
        for range in ranges {
            if range.first > next {
                return false;
            }
            if range.last >= self.last {
                return true;
            }
            next = next.max(HashKey(range.last.0 + 1));
        }
        false
    }

    /// The first hash key of the upper half; `None` for a range of one key.
    pub fn middle(&self) -> Option<HashKey> {
        let length = self.last.0 - self.first.0;
        (length > 0).then(|| HashKey(self.first.0 + length / 2 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_as_kinesis_hashes_them() {
        let golden: Vec<serde_json::Value> = serde_json::from_str(include_str!("../../golden/hash_keys.json")).unwrap();
        assert_eq!(golden.len(), 100);
        for case in golden {
            let key = case["partition_key"].as_str().unwrap();
            assert_eq!(HashKey::of(key).to_string(), case["hash_key"].as_str().unwrap(), "{key:?}");
        }
    }

    #[test]
    fn a_range_is_covered_where_no_key_is_missing() {
        let range = |first, last| HashKeyRange { first: HashKey(first), last: HashKey(last) };
        assert!(range(5, 9).is_covered_by([range(7, 12), range(0, 3), range(4, 6)]));
        assert!(range(5, 9).is_covered_by([range(5, 9), range(6, 6)]));
        assert!(!range(5, 9).is_covered_by([range(5, 6), range(8, 9)]), "7 is missing");
        assert!(!range(5, 9).is_covered_by([range(6, 9)]) && !range(5, 9).is_covered_by([range(5, 8)]));
        assert!(!range(5, 9).is_covered_by([]));
        assert!(HashKeyRange::ALL.is_covered_by([HashKeyRange::ALL]));
    }

    #[test]
    fn ranges_overlap_where_they_share_a_key() {
        let range = |first, last| HashKeyRange { first: HashKey(first), last: HashKey(last) };
        assert!(range(5, 9).overlaps(range(9, 12)) && range(5, 9).overlaps(range(0, 5)));
        assert!(range(5, 9).overlaps(range(6, 7)) && range(6, 7).overlaps(range(5, 9)));
        assert!(!range(5, 9).overlaps(range(10, 12)) && !range(5, 9).overlaps(range(0, 4)));
    }

    #[test]
    fn the_middle_halves_a_range() {
        assert_eq!(HashKeyRange::ALL.middle(), Some(HashKey(1 << 127)));
        let of = |first, last| HashKeyRange { first: HashKey(first), last: HashKey(last) }.middle();
        assert_eq!(of(5, 5), None);
        assert_eq!(of(5, 6), Some(HashKey(6)));
    }
}
