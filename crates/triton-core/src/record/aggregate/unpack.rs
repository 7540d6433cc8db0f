//! Unpacks the aggregates among the records that were read.
//!
//! An aggregate is untrusted input. Every length and index is checked, and allocations are bounded by the number of
//! bytes read. Therefore fields are parsed in place instead of being decoded into a struct first.

use bytestring::ByteString;
use md5::{Digest, Md5};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::{DIGEST, MAGIC, field};
use crate::record::{PartitionKey, Record};

/// Returns the records of an aggregate in order, or `None` if the record is not an aggregate.
///
/// Each has its own partition key and payload, and its index as [`sub_sequence_number`](Record::sub_sequence_number).
/// Shard, sequence number and arrival are the aggregate's. Payloads are slices of the aggregate and keep all of it in
/// memory; a partition key keeps the aggregate's keys in memory. Records whose hash key lies outside the shard are
/// included.
///
/// A record is not an aggregate if it lacks the magic bytes, its MD5 is wrong, or its message is empty or does not
/// parse. The same holds if a record in it refers to a missing key, or to an explicit hash key that is not a 128-bit
/// number. As with the KCL, such a record is delivered unchanged, and an aggregate that holds no record delivers
/// nothing (an empty list).
pub fn unpack(record: &Record) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    unpack_into(record, &mut records).map(|()| records)
}

/// Replaces each aggregate in the list by its records, as [`unpack`] returns them.
///
/// A list without aggregates is returned unchanged, at the cost of comparing four bytes per record.
pub fn unpack_all(records: Vec<Record>) -> Vec<Record> {
    if !records.iter().any(is_marked) {
        return records;
    }
    let mut unpacked = Vec::with_capacity(records.len());
    for record in records {
        let start = unpacked.len();
        if unpack_into(&record, &mut unpacked).is_none() {
            unpacked.truncate(start);
            unpacked.push(record);
        }
    }
    unpacked
}

/// Whether the record starts with an aggregate's magic bytes.
#[inline]
fn is_marked(record: &Record) -> bool {
    record.data.starts_with(&MAGIC)
}

/// Appends the aggregate's records. If it returns `None`, the caller must remove those already appended.
#[inline]
fn unpack_into(record: &Record, out: &mut Vec<Record>) -> Option<()> {
    if !is_marked(record) {
        return None;
    }
    unpack_marked(record, out)
}

fn unpack_marked(outer: &Record, out: &mut Vec<Record>) -> Option<()> {
    let (message, digest) = outer.data[MAGIC.len()..].split_last_chunk::<DIGEST>()?;
    if message.is_empty() || Md5::digest(message)[..] != *digest {
        return None;
    }
    let tables = Tables::read(message)?;
    out.reserve_exact(tables.records);
    let mut number = 0;
    for field in Fields(message) {
        let (field::RECORD, Value::Bytes(message)) = field? else { continue };
        let Inner { key, data } = Inner::read(message, &tables)?;
        out.push(Record {
            shard_id: outer.shard_id.clone(),
            sequence_number: outer.sequence_number,
            sub_sequence_number: Some(number),
            partition_key: key.clone(),
            arrival: outer.arrival,
            data: outer.data.slice_ref(data),
        });
        number = number.checked_add(1)?;
    }
    Some(())
}

/// The tables that the records of an aggregate refer to.
struct Tables {
    keys: Vec<PartitionKey>,
    /// For each explicit hash key, whether it is a 128-bit number. As for the KCL, only those that a record refers to
    /// matter.
    valid_hash_keys: Vec<bool>,
    /// Number of records.
    records: usize,
}

impl Tables {
    fn read(message: &[u8]) -> Option<Self> {
        let mut tables = Self { keys: Vec::new(), valid_hash_keys: Vec::new(), records: 0 };
        // One allocation for all keys.
        let (mut texts, mut ends) = (String::new(), Vec::new());
        for field in Fields(message) {
            match field? {
                (field::PARTITION_KEY, Value::Bytes(key)) => {
                    texts.push_str(str::from_utf8(key).ok()?);
                    ends.push(texts.len());
                }
                (field::EXPLICIT_HASH_KEY, Value::Bytes(hash_key)) => {
                    tables.valid_hash_keys.push(str::from_utf8(hash_key).ok()?.parse::<u128>().is_ok());
                }
                // Bounds the memory that is reserved for the records.
                (field::RECORD, Value::Bytes(record)) if record.len() < Inner::MIN_BYTES => return None,
                (field::RECORD, Value::Bytes(_)) => tables.records += 1,
                _ => {}
            }
        }
        let (texts, mut start) = (ByteString::from(texts), 0);
        tables.keys = ends
            .into_iter()
            .map(|end| PartitionKey::stored(texts.slice_ref(&texts[std::mem::replace(&mut start, end)..end])))
            .collect();
        Some(tables)
    }
}

/// A record in an aggregate.
struct Inner<'a, 't> {
    key: &'t PartitionKey,
    data: &'a [u8],
}

impl<'a, 't> Inner<'a, 't> {
    /// Bytes of the shortest record: an index below 128 and an empty payload.
    const MIN_BYTES: usize = 4;

    fn read(message: &'a [u8], tables: &'t Tables) -> Option<Self> {
        let (mut key, mut hash_key, mut data) = (None, None, None);
        for field in Fields(message) {
            match field? {
                (field::PARTITION_KEY_INDEX, Value::Number(index)) => key = Some(index),
                (field::EXPLICIT_HASH_KEY_INDEX, Value::Number(index)) => hash_key = Some(index),
                (field::DATA, Value::Bytes(bytes)) => data = Some(bytes),
                _ => {}
            }
        }
        if let Some(index) = hash_key
            && !*tables.valid_hash_keys.get(usize::try_from(index).ok()?)?
        {
            return None;
        }
        Some(Self { key: tables.keys.get(usize::try_from(key?).ok()?)?, data: data? })
    }
}

/// Iterator over a message's fields, each with its number. Yields `None` as the last item if the message does not
/// parse.
struct Fields<'a>(&'a [u8]);

/// A field's value. `Other` is of a kind that aggregates do not use.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let (number, wire_type) = decode_key(&mut self.0).ok()?;
        let value = match wire_type {
            WireType::Varint => Value::Number(decode_varint(&mut self.0).ok()?),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut self.0).ok()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => {
                skip_field(wire_type, number, &mut self.0, DecodeContext::default()).ok()?;
                Value::Other
            }
        };
        Some((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u32, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}
