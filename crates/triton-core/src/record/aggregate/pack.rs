//! Packs entries into an aggregate.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use bytestring::ByteString;
use hashbrown::HashTable;
use md5::{Digest, Md5};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::{DIGEST, MAGIC, field};
use crate::record::{PartitionKey, PutEntry};

/// Partition key of an aggregate, as the KPL sets it. The explicit hash key selects the shard.
const OUTER_KEY: &str = "a";

/// Bytes of a field's tag: one, as every field number here is below 16.
const TAG: usize = 1;

/// Packs entries into one, in the order of the pushes.
///
/// Entries are encoded when they are pushed, so a packer holds their encoding only. It has no size limit: keep an
/// aggregate below the stream's limit for a record with [`size_with`](Self::size_with) or
/// [`push_within`](Self::push_within). (The KPL stops at 51,200 bytes by default.) An entry whose payload is an
/// aggregate is packed like any other, and [`unpack`](super::unpack) returns it as an aggregate.
#[derive(Debug, Default)]
pub struct Packer {
    /// Returned unpacked if it stays the only entry; also gives the aggregate its hash key.
    first: Option<PutEntry>,
    len: usize,
    keys: Table,
    hash_keys: Table,
    /// The records, encoded.
    records: Vec<u8>,
    /// Randomly seeded, so that nobody can choose keys whose hashes collide. The encoding does not depend on it,
    /// because the tables are never iterated in hash order.
    hasher: RandomState,
}

/// Indexes and sizes of an entry, computed before it is encoded.
struct Plan {
    key: TableIndex,
    hash_key: Option<(TableIndex, String)>,
    /// Bytes of the record's message.
    record: usize,
    /// Bytes by which the aggregate grows.
    growth: usize,
}

impl Packer {
    /// An empty packer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Exact [size](PutEntry::size) of the entry that [`finish`](Self::finish) would return now; 0 if none.
    pub fn size(&self) -> usize {
        match &self.first {
            Some(first) if self.len == 1 => first.size(),
            Some(_) => self.packed_size(),
            None => 0,
        }
    }

    /// Exact [size](PutEntry::size) of the entry that [`finish`](Self::finish) would return after a push of this entry.
    pub fn size_with(&self, entry: &PutEntry) -> usize {
        match &self.first {
            Some(_) => self.packed_size() + self.plan(entry).growth,
            None => entry.size(),
        }
    }

    /// Adds an entry at the end.
    pub fn push(&mut self, entry: &PutEntry) {
        let plan = self.plan(entry);
        self.encode(entry, plan);
    }

    /// Adds an entry at the end if [`size_with`](Self::size_with) is at most `max_bytes`. Returns whether the entry was
    /// added.
    ///
    /// Looks up the entry's keys once; `size_with` followed by `push` does it twice.
    #[must_use = "an entry that did not fit was not added"]
    pub fn push_within(&mut self, entry: &PutEntry, max_bytes: usize) -> bool {
        let plan = self.plan(entry);
        let size = if self.is_empty() { entry.size() } else { self.packed_size() + plan.growth };
        let fits = size <= max_bytes;
        if fits {
            self.encode(entry, plan);
        }
        fits
    }

    /// Returns the entry to put. A single entry is returned unchanged; several become an aggregate with the partition
    /// key `a` and the hash key of the first. Returns `None` if nothing was pushed.
    pub fn finish(self) -> Option<PutEntry> {
        let size = self.packed_size();
        let first = self.first?;
        if self.len == 1 {
            return Some(first);
        }
        let mut data = Vec::with_capacity(size - OUTER_KEY.len());
        data.extend_from_slice(&MAGIC);
        for part in [&self.keys.fields, &self.hash_keys.fields, &self.records] {
            data.extend_from_slice(part);
        }
        let digest: [u8; DIGEST] = Md5::digest(&data[MAGIC.len()..]).into();
        data.extend_from_slice(&digest);
        let key = PartitionKey::stored(ByteString::from_static(OUTER_KEY));
        Some(PutEntry::new(key, Bytes::from(data)).with_explicit_hash_key(first.hash_key()))
    }

    /// Size of the aggregate, even for less than two entries.
    fn packed_size(&self) -> usize {
        let message = self.keys.fields.len() + self.hash_keys.fields.len() + self.records.len();
        MAGIC.len() + message + DIGEST + OUTER_KEY.len()
    }

    fn plan(&self, entry: &PutEntry) -> Plan {
        let text = entry.partition_key.as_str();
        let key = self.keys.find(text, &self.hasher);
        let mut record = TAG + encoded_len_varint(key.number) + field_size(entry.data.len());
        let mut growth = key.growth(text);
        let hash_key = entry.explicit_hash_key.map(|hash_key| {
            let text = hash_key.to_string();
            let index = self.hash_keys.find(&text, &self.hasher);
            record += TAG + encoded_len_varint(index.number);
            growth += index.growth(&text);
            (index, text)
        });
        growth += field_size(record);
        Plan { key, hash_key, record, growth }
    }

    fn encode(&mut self, entry: &PutEntry, plan: Plan) {
        let records = &mut self.records;
        encode_key(field::RECORD, WireType::LengthDelimited, records);
        encode_varint(plan.record as u64, records);
        encode_key(field::PARTITION_KEY_INDEX, WireType::Varint, records);
        encode_varint(plan.key.number, records);
        if let Some((index, _)) = &plan.hash_key {
            encode_key(field::EXPLICIT_HASH_KEY_INDEX, WireType::Varint, records);
            encode_varint(index.number, records);
        }
        encode_bytes(field::DATA, &entry.data, records);
        self.keys.insert(plan.key, field::PARTITION_KEY, entry.partition_key.as_str());
        if let Some((index, text)) = plan.hash_key {
            self.hash_keys.insert(index, field::EXPLICIT_HASH_KEY, &text);
        }
        self.len += 1;
        self.first.get_or_insert_with(|| entry.clone());
    }
}

/// Encoded size of a field with a value of this many bytes.
fn field_size(bytes: usize) -> usize {
    TAG + encoded_len_varint(bytes as u64) + bytes
}

fn encode_bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Distinct texts of an aggregate. Records refer to them by number.
#[derive(Debug, Default)]
struct Table {
    /// The encoded texts, in the order of their numbers.
    fields: Vec<u8>,
    entries: HashTable<TableEntry>,
}

/// A text's number and its range in the table's fields.
#[derive(Debug)]
struct TableEntry {
    /// Hash of the text, kept for when the table grows.
    hash: u64,
    number: u64,
    start: usize,
    end: usize,
}

/// The number of a text in a table.
struct TableIndex {
    number: u64,
    /// The text's hash, if it is not in the table yet.
    new: Option<u64>,
}

impl TableIndex {
    /// Bytes that an insertion of the text adds to its table.
    fn growth(&self, text: &str) -> usize {
        self.new.map_or(0, |_| field_size(text.len()))
    }
}

impl Table {
    fn find(&self, text: &str, hasher: &RandomState) -> TableIndex {
        let hash = hasher.hash_one(text);
        let is_text =
            |entry: &TableEntry| entry.hash == hash && self.fields[entry.start..entry.end] == *text.as_bytes();
        match self.entries.find(hash, is_text) {
            Some(entry) => TableIndex { number: entry.number, new: None },
            None => TableIndex { number: self.entries.len() as u64, new: Some(hash) },
        }
    }

    /// Adds the text, unless the table holds it already.
    fn insert(&mut self, index: TableIndex, field: u32, text: &str) {
        if let TableIndex { number, new: Some(hash) } = index {
            encode_bytes(field, text.as_bytes(), &mut self.fields);
            let end = self.fields.len();
            let entry = TableEntry { hash, number, start: end - text.len(), end };
            self.entries.insert_unique(hash, entry, |entry| entry.hash);
        }
    }
}
