//! The shards of a stream, and how splits and merges change them.
//!
//! For backends that manage their own shards (memory, local). The results are those of Kinesis.

use crate::error::{Error, Result};
use crate::model::hash_key::{HashKey, HashKeyRange};
use crate::model::sequence_number::SequenceNumber;
use crate::model::shard::{Shard, ShardId};

/// Maximum number of shards in a [`ShardMap`], including closed ones.
pub const MAX_SHARDS: usize = 10_000;

/// The shards of a stream, open and closed, sorted by id. Each hash key belongs to exactly one open shard.
#[derive(Clone, Debug)]
pub struct ShardMap {
    stream: String,
    shards: Vec<Shard>,
}

impl ShardMap {
    /// The shards of a new stream: `count` open shards of equal size, with this first sequence number.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a count of 0 or over [`MAX_SHARDS`].
    pub fn uniform(stream: &str, count: usize, sequence: u64) -> Result<Self> {
        let shards = uniform_ranges(count)?
            .into_iter()
            .enumerate()
            .map(|(number, range)| Shard {
                id: ShardId::numbered(number as u64),
                parent: None,
                adjacent_parent: None,
                hash_key_range: range,
                first_sequence_number: sequence.into(),
                last_sequence_number: None,
            })
            .collect();
        Ok(Self { stream: stream.into(), shards })
    }

    /// The map of existing shards, which must be sorted by id.
    pub fn from_shards(stream: &str, shards: Vec<Shard>) -> Self {
        Self { stream: stream.into(), shards }
    }

    /// Every shard, sorted by id.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The open shards, sorted by id.
    pub fn open(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter(|shard| shard.is_open())
    }

    /// Returns the shard of this id.
    ///
    /// # Errors
    /// [`Error::ShardNotFound`].
    pub fn get(&self, id: &ShardId) -> Result<&Shard> {
        self.index(id).map(|index| &self.shards[index])
    }

    /// The error for a position at a sequence number of which the shard has no record. `next_sequence` is the number that
    /// the stream's next record gets.
    pub fn no_record(shard: &Shard, number: SequenceNumber, next_sequence: u64) -> Error {
        let problem = if number < shard.first_sequence_number {
            format!("the shard begins at {}", shard.first_sequence_number)
        } else if let Some(last) = shard.last_sequence_number.filter(|last| number >= *last) {
            format!("the shard ended at {last}")
        } else if number >= next_sequence.into() {
            "it is ahead of the newest record".into()
        } else {
            "the stream gave that number to another shard".into()
        };
        Error::InvalidPosition { shard: shard.id.clone(), position: number.to_string(), problem }
    }

    fn index(&self, id: &ShardId) -> Result<usize> {
        self.shards
            .binary_search_by(|shard| shard.id.cmp(id))
            .map_err(|_| Error::ShardNotFound { shard: id.clone(), stream: self.stream.clone() })
    }

    /// Splits an open shard at `at`, the first hash key of the second child. Returns the children's ids.
    ///
    /// `*sequence` becomes the last sequence number of the parent, and is increased by one.
    ///
    /// # Errors
    /// [`Error::ShardNotFound`]; [`Error::Invalid`] if the shard is closed, or a child would have no hash keys.
    pub fn split(&mut self, id: &ShardId, at: HashKey, sequence: &mut u64) -> Result<[ShardId; 2]> {
        let index = self.open_index(id)?;
        let range = self.shards[index].hash_key_range;
        if at <= range.first || at > range.last {
            return Err(Error::Invalid {
                problem: format!("{id} cannot be split at {at}: it holds {} to {}", range.first, range.last),
            });
        }
        self.check_count(2)?;
        self.close(index, sequence);
        let lower = HashKeyRange { first: range.first, last: HashKey(at.0 - 1) };
        let upper = HashKeyRange { first: at, last: range.last };
        Ok([self.add(lower, id, None, *sequence), self.add(upper, id, None, *sequence)])
    }

    /// Merges two open shards whose hash keys are adjacent. Returns the child's id.
    ///
    /// `*sequence` becomes the last sequence number of both parents, and is increased by one.
    ///
    /// # Errors
    /// [`Error::ShardNotFound`]; [`Error::Invalid`] if a shard is closed or they are not adjacent.
    pub fn merge(&mut self, id: &ShardId, adjacent: &ShardId, sequence: &mut u64) -> Result<ShardId> {
        let (first, second) = (self.open_index(id)?, self.open_index(adjacent)?);
        let (a, b) = (self.shards[first].hash_key_range, self.shards[second].hash_key_range);
        let (lower, upper) = if a.first <= b.first { (a, b) } else { (b, a) };
        if lower.last.0.checked_add(1) != Some(upper.first.0) {
            return Err(Error::Invalid {
                problem: format!("{id} and {adjacent} cannot be merged: they are not adjacent"),
            });
        }
        self.check_count(1)?;
        let mut closing = *sequence;
        self.close(first, &mut closing);
        self.close(second, sequence);
        Ok(self.add(HashKeyRange { first: lower.first, last: upper.last }, id, Some(adjacent), *sequence))
    }

    /// Splits and merges until there are `count` open shards of equal size. Changes nothing if there are such shards already.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a count of 0 or over [`MAX_SHARDS`], or if the stream would have more shards, including
    /// closed ones.
    pub fn reshard(&mut self, count: usize, sequence: &mut u64) -> Result<()> {
        let ranges = uniform_ranges(count)?;
        for shard in self.open().cloned().collect::<Vec<_>>() {
            let inside = |range: &&HashKeyRange| {
                range.first > shard.hash_key_range.first && range.first <= shard.hash_key_range.last
            };
            let cuts: Vec<HashKey> = ranges.iter().filter(inside).map(|range| range.first).collect();
            self.split_at_all(&shard.id, &cuts, sequence)?;
        }
        for range in ranges {
            self.merge_within(range, sequence)?;
        }
        Ok(())
    }

    /// Splits the shard at each of these hash keys. Starts in the middle, to keep the lineage shallow.
    fn split_at_all(&mut self, id: &ShardId, cuts: &[HashKey], sequence: &mut u64) -> Result<()> {
        let Some(&cut) = cuts.get(cuts.len() / 2) else { return Ok(()) };
        let [lower, upper] = self.split(id, cut, sequence)?;
        self.split_at_all(&lower, &cuts[..cuts.len() / 2], sequence)?;
        self.split_at_all(&upper, &cuts[cuts.len() / 2 + 1..], sequence)
    }

    /// Merges the open shards inside `range` pair by pair until one is left.
    fn merge_within(&mut self, range: HashKeyRange, sequence: &mut u64) -> Result<()> {
        loop {
            let mut inside: Vec<&Shard> =
                self.open().filter(|shard| range.contains(shard.hash_key_range.first)).collect();
            inside.sort_by_key(|shard| shard.hash_key_range.first);
            let pairs: Vec<(ShardId, ShardId)> =
                inside.chunks_exact(2).map(|pair| (pair[0].id.clone(), pair[1].id.clone())).collect();
            if pairs.is_empty() {
                return Ok(());
            }
            for (lower, upper) in pairs {
                self.merge(&lower, &upper, sequence)?;
            }
        }
    }

    fn open_index(&self, id: &ShardId) -> Result<usize> {
        let index = self.index(id)?;
        if self.shards[index].is_open() {
            Ok(index)
        } else {
            Err(Error::Invalid { problem: format!("{id} is closed: it was split or merged before") })
        }
    }

    fn check_count(&self, new: usize) -> Result<()> {
        if self.shards.len() + new <= MAX_SHARDS {
            Ok(())
        } else {
            Err(Error::Invalid {
                problem: format!("'{}' would have over {MAX_SHARDS} shards, including closed ones", self.stream),
            })
        }
    }

    fn close(&mut self, index: usize, sequence: &mut u64) {
        self.shards[index].last_sequence_number = Some(SequenceNumber::from(*sequence));
        *sequence += 1;
    }

    fn add(&mut self, range: HashKeyRange, parent: &ShardId, adjacent: Option<&ShardId>, sequence: u64) -> ShardId {
        // The newest shard is always open, so retention never removes it and no number is used twice.
        let newest = self.shards.last().and_then(|shard| shard.id.number()).unwrap_or(0);
        let id = ShardId::numbered(newest + 1);
        self.shards.push(Shard {
            id: id.clone(),
            parent: Some(parent.clone()),
            adjacent_parent: adjacent.cloned(),
            hash_key_range: range,
            first_sequence_number: sequence.into(),
            last_sequence_number: None,
        });
        id
    }
}

/// Divides all hash keys into `count` ranges of equal size, as Kinesis does.
fn uniform_ranges(count: usize) -> Result<Vec<HashKeyRange>> {
    if !(1..=MAX_SHARDS).contains(&count) {
        return Err(Error::Invalid { problem: format!("a stream has 1 to {MAX_SHARDS} shards, not {count}") });
    }
    let n = count as u128;
    // The i-th range starts at floor(i * 2^128 / n), computed from 2^128 - 1 to stay inside 128 bits.
    let (quotient, remainder) = (u128::MAX / n, u128::MAX % n + 1);
    let start = |i: u128| i * quotient + i * remainder / n;
    Ok((0..n)
        .map(|i| HashKeyRange {
            first: HashKey(start(i)),
            last: if i + 1 == n { HashKey::MAX } else { HashKey(start(i + 1) - 1) },
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(count: usize) -> ShardMap {
        ShardMap::uniform("clicks", count, 1).unwrap()
    }

    fn id(number: u64) -> ShardId {
        ShardId::numbered(number)
    }

    /// Asserts that each hash key belongs to exactly one open shard.
    fn assert_covered(map: &ShardMap) {
        let mut ranges: Vec<_> = map.open().map(|shard| shard.hash_key_range).collect();
        ranges.sort_by_key(|range| range.first);
        assert_eq!(ranges.first().unwrap().first, HashKey::MIN);
        assert_eq!(ranges.last().unwrap().last, HashKey::MAX);
        for pair in ranges.windows(2) {
            assert_eq!(pair[0].last.0 + 1, pair[1].first.0);
        }
    }

    #[test]
    fn three_shards_have_the_ranges_that_kinesis_gives_them() {
        let starts: Vec<_> = map(3).open().map(|shard| shard.hash_key_range.first.to_string()).collect();
        assert_eq!(starts, ["0", "113427455640312821154458202477256070485", "226854911280625642308916404954512140970"]);
    }

    #[test]
    fn a_split_closes_the_parent_and_opens_two_children() {
        let mut map = map(1);
        let mut sequence = 10;
        let children = map.split(&id(0), HashKey(1 << 127), &mut sequence).unwrap();
        assert_eq!(children, [id(1), id(2)]);
        assert_eq!(map.get(&id(0)).unwrap().last_sequence_number, Some(10.into()));
        let child = map.get(&id(2)).unwrap();
        assert_eq!(child.parents().collect::<Vec<_>>(), [&id(0)]);
        assert_eq!(child.hash_key_range.first, HashKey(1 << 127));
        assert_eq!(child.first_sequence_number, sequence.into());
        assert_covered(&map);
    }

    #[test]
    fn the_child_of_a_merge_names_both_parents() {
        let mut map = map(2);
        let child = map.merge(&id(1), &id(0), &mut 10).unwrap();
        let child = map.get(&child).unwrap();
        assert_eq!((child.parent.clone(), child.adjacent_parent.clone()), (Some(id(1)), Some(id(0))));
        assert_covered(&map);
    }

    #[test]
    fn an_invalid_change_is_refused_and_changes_nothing() {
        let mut map = map(3);
        let before = format!("{map:?}");
        assert!(map.split(&id(9), HashKey(1), &mut 1).is_err(), "no such shard");
        assert!(map.split(&id(0), HashKey(0), &mut 1).is_err(), "a child without hash keys");
        assert!(map.split(&id(0), HashKey::MAX, &mut 1).is_err(), "outside the shard");
        assert!(map.merge(&id(0), &id(2), &mut 1).is_err(), "not adjacent");
        assert!(map.merge(&id(0), &id(0), &mut 1).is_err(), "with itself");
        assert!(map.reshard(0, &mut 1).is_err(), "no shards");
        assert_eq!(format!("{map:?}"), before);
        map.merge(&id(0), &id(1), &mut 1).unwrap();
        assert!(map.split(&id(0), HashKey(1), &mut 1).is_err(), "closed");
    }

    #[test]
    fn a_number_without_a_record_is_refused_with_its_cause() {
        let mut map = map(2);
        map.split(&id(0), HashKey(1), &mut 10).unwrap();
        let problem =
            |shard, number: u64| ShardMap::no_record(map.get(&id(shard)).unwrap(), number.into(), 20).to_string();
        assert_eq!(problem(2, 7), "shardId-000000000002: no record 7: the shard begins at 11");
        assert_eq!(problem(0, 10), "shardId-000000000000: no record 10: the shard ended at 10");
        assert_eq!(problem(1, 20), "shardId-000000000001: no record 20: it is ahead of the newest record");
        assert_eq!(problem(1, 19), "shardId-000000000001: no record 19: the stream gave that number to another shard");
    }

    proptest! {
        #[test]
        fn a_reshard_gives_shards_of_equal_size(counts in prop::collection::vec(1usize..40, 1..5)) {
            let mut map = map(3);
            let mut sequence = 1;
            for count in counts {
                map.reshard(count, &mut sequence).unwrap();
                assert_covered(&map);
                let mut ranges: Vec<_> = map.open().map(|shard| shard.hash_key_range).collect();
                ranges.sort_by_key(|range| range.first);
                prop_assert_eq!(ranges, uniform_ranges(count).unwrap());
            }
            prop_assert!(map.shards().is_sorted_by_key(|shard| &shard.id));
        }
    }
}
