//! Positions in a shard: sequence numbers, iterators and trimming.

use std::cmp::Ordering;

use ferrokinesis::sequence::{increment_sequence, parse_sequence, resolve_shard_id, shard_ix_to_hex};
use ferrokinesis::shard_iterator::{create_shard_iterator, decode_shard_iterator};

use super::arrivals::Arrival;

/// Separates an iterator's token from its number of remaining empty pages; not a character of base64.
const EMPTY_PAGES: char = '~';

/// A decoded iterator.
#[derive(Clone)]
pub(super) struct Iterator {
    pub(super) stream: String,
    pub(super) shard: String,
    /// The first sequence number that it reads.
    pub(super) from: String,
    /// The time of its creation, in milliseconds.
    pub(super) made: u64,
    /// Number of remaining empty pages, once known.
    pub(super) empty_pages: Option<u32>,
}

impl Iterator {
    pub(super) fn decode(token: &str) -> Option<Self> {
        let (token, empty_pages) = match token.split_once(EMPTY_PAGES) {
            Some((token, count)) => (token, Some(count.parse().ok()?)),
            None => (token, None),
        };
        let (made, stream, shard, from) = decode_shard_iterator(token).ok()?;
        Some(Self { stream, shard, from, made, empty_pages })
    }

    pub(super) fn encode(&self) -> String {
        let token = create_shard_iterator(&self.stream, &self.shard, &self.from, self.made);
        self.empty_pages.map_or(token.clone(), |count| format!("{token}{EMPTY_PAGES}{count}"))
    }
}

/// The next possible sequence number; the argument itself if it is not a sequence number.
pub(super) fn after(sequence_number: &str) -> String {
    parse_sequence(sequence_number)
        .map_or_else(|_| sequence_number.to_owned(), |parsed| increment_sequence(&parsed, None))
}

/// Compares two sequence numbers as numbers.
pub(super) fn compare(one: &str, other: &str) -> Ordering {
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

/// The first record at or after a sequence number.
pub(super) fn first_not_before(records: &[Arrival], sequence_number: &str) -> usize {
    records.partition_point(|record| compare(&record.sequence_number, sequence_number).is_lt())
}

/// The keys in ferrokinesis' store from a position to the end of its shard.
pub(super) fn key_range(shard: &str, from: &str) -> Option<(String, String)> {
    let (_, index) = resolve_shard_id(shard).ok()?;
    Some((format!("{}/{from}", shard_ix_to_hex(index)), shard_ix_to_hex(index + 1)))
}
