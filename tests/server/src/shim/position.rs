//! Places in a shard: sequence numbers, iterators, and what is left after trimming.

use std::cmp::Ordering;

use ferrokinesis::sequence::{increment_sequence, parse_sequence, resolve_shard_id, shard_ix_to_hex};
use ferrokinesis::shard_iterator::{create_shard_iterator, decode_shard_iterator};

use super::arrivals::Arrival;

/// Stands between an iterator and how many empty pages it still gives; not a letter of base64.
const EMPTY_PAGES: char = '~';

/// What an iterator holds.
#[derive(Clone)]
pub(super) struct Iterator {
    pub(super) stream: String,
    pub(super) shard: String,
    /// The first place that it reads.
    pub(super) from: String,
    /// When it was made, in milliseconds.
    pub(super) made: u64,
    /// How many empty pages it still gives, where that is settled.
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

/// The first place after a sequence number; itself, where it is none.
pub(super) fn after(sequence_number: &str) -> String {
    parse_sequence(sequence_number)
        .map_or_else(|_| sequence_number.to_owned(), |parsed| increment_sequence(&parsed, None))
}

/// The order of two sequence numbers: that of the numbers they are.
pub(super) fn compare(one: &str, other: &str) -> Ordering {
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

/// The first record at or after a sequence number.
pub(super) fn first_not_before(records: &[Arrival], sequence_number: &str) -> usize {
    records.partition_point(|record| compare(&record.sequence_number, sequence_number).is_lt())
}

/// The keys of ferrokinesis' store from a place to the end of its shard.
pub(super) fn key_range(shard: &str, from: &str) -> Option<(String, String)> {
    let (_, index) = resolve_shard_id(shard).ok()?;
    Some((format!("{}/{from}", shard_ix_to_hex(index)), shard_ix_to_hex(index + 1)))
}
