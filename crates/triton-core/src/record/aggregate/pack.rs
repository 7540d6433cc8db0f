//! Packing records into one.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use bytestring::ByteString;
use hashbrown::HashTable;
use md5::{Digest, Md5};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use super::{DIGEST, MAGIC, field};
use crate::record::{PartitionKey, PutEntry};

/// The partition key of an aggregate. Its shard follows from its explicit hash key.
const OUTER_KEY: &str = "a";

/// Every field here has a number below 16, whose tag takes one byte.
const TAG: usize = 1;

/// Packs entries into one, in the order in which they are pushed.
///
/// Entries are encoded as they come, so a packer holds their bytes and not the entries. It knows no limit of its own:
/// [`size_with`](Self::size_with) and [`push_within`](Self::push_within) keep an aggregate below the size of a record
/// that the stream takes (the KPL stops at 51,200 bytes by default). An entry whose payload is an aggregate is packed as
/// it is, and comes out of [`unpack`](super::unpack) as that aggregate.
#[derive(Debug, Default)]
pub struct Packer {
    /// For one entry alone, and for the hash key of all.
    first: Option<PutEntry>,
    len: usize,
    keys: Table,
    hash_keys: Table,
    /// The records, encoded.
    records: Vec<u8>,
    /// Seeded by the system, lest somebody choose keys that all hash the same. Keys are only looked up, never gone
    /// through in its order, so nothing that is packed depends on it.
    hasher: RandomState,
}

/// How an entry is going to be encoded.
struct Plan {
    key: Slot,
    hash_key: Option<(Slot, String)>,
    /// Bytes of the record's message.
    record: usize,
    /// Bytes by which the aggregate grows.
    growth: usize,
}

impl Packer {
    /// A packer that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The exact [size](PutEntry::size) of what [`finish`](Self::finish) would return now; 0 if that is nothing.
    pub fn size(&self) -> usize {
        match &self.first {
            Some(first) if self.len == 1 => first.size(),
            Some(_) => self.packed_size(),
            None => 0,
        }
    }

    /// The exact [size](PutEntry::size) of what [`finish`](Self::finish) would return if this entry were pushed before.
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

    /// Adds an entry at the end if [`size_with`](Self::size_with) is at most `max_bytes` then, and tells whether it did.
    /// This looks for the entry's keys once, where asking first and pushing then would do it twice.
    #[must_use = "an entry that did not fit is not in the packer"]
    pub fn push_within(&mut self, entry: &PutEntry, max_bytes: usize) -> bool {
        let plan = self.plan(entry);
        let size = if self.is_empty() { entry.size() } else { self.packed_size() + plan.growth };
        let fits = size <= max_bytes;
        if fits {
            self.encode(entry, plan);
        }
        fits
    }

    /// The entry to put: of one entry, itself; of more, an aggregate with the partition key `a`, for the shard of the
    /// first. `None` if nothing was pushed.
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

    /// What the entries would count as an aggregate, be they as few as they are.
    fn packed_size(&self) -> usize {
        let message = self.keys.fields.len() + self.hash_keys.fields.len() + self.records.len();
        MAGIC.len() + message + DIGEST + OUTER_KEY.len()
    }

    fn plan(&self, entry: &PutEntry) -> Plan {
        let text = entry.partition_key.as_str();
        let key = self.keys.slot(text, &self.hasher);
        let mut record = TAG + encoded_len_varint(key.number) + field_size(entry.data.len());
        let mut growth = key.growth(text);
        let hash_key = entry.explicit_hash_key.map(|hash_key| {
            let text = hash_key.to_string();
            let slot = self.hash_keys.slot(&text, &self.hasher);
            record += TAG + encoded_len_varint(slot.number);
            growth += slot.growth(&text);
            (slot, text)
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
        if let Some((slot, _)) = &plan.hash_key {
            encode_key(field::EXPLICIT_HASH_KEY_INDEX, WireType::Varint, records);
            encode_varint(slot.number, records);
        }
        encode_bytes(field::DATA, &entry.data, records);
        self.keys.fill(plan.key, field::PARTITION_KEY, entry.partition_key.as_str());
        if let Some((slot, text)) = plan.hash_key {
            self.hash_keys.fill(slot, field::EXPLICIT_HASH_KEY, &text);
        }
        self.len += 1;
        self.first.get_or_insert_with(|| entry.clone());
    }
}

/// The size of a field of so many bytes.
fn field_size(bytes: usize) -> usize {
    TAG + encoded_len_varint(bytes as u64) + bytes
}

fn encode_bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Texts that an aggregate holds once each. Records refer to them by number.
#[derive(Debug, Default)]
struct Table {
    /// The texts, encoded, in the order of their numbers.
    fields: Vec<u8>,
    places: HashTable<Place>,
}

/// Where in a table's fields a text stands.
#[derive(Debug)]
struct Place {
    /// Of the text, lest it be hashed anew whenever the table grows.
    hash: u64,
    number: u64,
    start: usize,
    end: usize,
}

/// Which number a text has in a table, or is going to have.
struct Slot {
    number: u64,
    /// The text's hash, if the table lacks it.
    new: Option<u64>,
}

impl Slot {
    /// The bytes that the text is going to add to its table.
    fn growth(&self, text: &str) -> usize {
        self.new.map_or(0, |_| field_size(text.len()))
    }
}

impl Table {
    fn slot(&self, text: &str, hasher: &RandomState) -> Slot {
        let hash = hasher.hash_one(text);
        let is_text = |place: &Place| place.hash == hash && self.fields[place.start..place.end] == *text.as_bytes();
        match self.places.find(hash, is_text) {
            Some(place) => Slot { number: place.number, new: None },
            None => Slot { number: self.places.len() as u64, new: Some(hash) },
        }
    }

    fn fill(&mut self, slot: Slot, field: u32, text: &str) {
        if let Slot { number, new: Some(hash) } = slot {
            encode_bytes(field, text.as_bytes(), &mut self.fields);
            let end = self.fields.len();
            let place = Place { hash, number, start: end - text.len(), end };
            self.places.insert_unique(hash, place, |place| place.hash);
        }
    }
}
