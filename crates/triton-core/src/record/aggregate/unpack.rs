//! Unpacking what was read.
//!
//! What stands in an aggregate comes from outside: no length or index is believed, and nothing is allocated for more
//! than the bytes hold. That is why fields are walked through in place, and not decoded into a struct first.

use bytestring::ByteString;
use md5::{Digest, Md5};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::{DIGEST, MAGIC, field};
use crate::record::{PartitionKey, Record};

/// The records inside a record, if it is an aggregate.
///
/// They come in their order, with their own partition keys and payloads, the aggregate's shard, sequence number and
/// arrival, and their index as [`sub_sequence_number`](Record::sub_sequence_number). Payloads are slices of the
/// aggregate's, and keep all of it in memory; a partition key keeps the aggregate's keys. Records whose hash key lies
/// outside the shard are there too.
///
/// `None` stands for a record of its own: one without the magic bytes, with a wrong MD5, or with a message that does not
/// parse, refers to a key that is not there, or to an explicit hash key that is no number of 128 bits. Such a record is
/// to be delivered as it is, as the KCL does. Of a message that parses and has no record in it, the KCL delivers nothing,
/// and this returns an empty list; a message of 0 bytes makes no aggregate for either.
pub fn unpack(record: &Record) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    unpack_into(record, &mut records).map(|()| records)
}

/// What was read from a shard, with the records inside it in the place of each aggregate, as [`unpack`] tells them apart.
///
/// A list without an aggregate is returned as it came, at the price of a look at four bytes a record. A list of
/// aggregates without a record becomes empty.
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

/// Whether the record claims to be an aggregate.
#[inline]
fn is_marked(record: &Record) -> bool {
    record.data.starts_with(&MAGIC)
}

/// Appends the records inside; where it returns `None`, what it has appended until then is void.
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

/// What the records of an aggregate refer to.
struct Tables {
    keys: Vec<PartitionKey>,
    /// Whether each is one. Only those that a record refers to need be, as for the KCL.
    are_hash_keys: Vec<bool>,
    /// How many there are.
    records: usize,
}

impl Tables {
    fn read(message: &[u8]) -> Option<Self> {
        let mut tables = Self { keys: Vec::new(), are_hash_keys: Vec::new(), records: 0 };
        // One allocation for all keys.
        let (mut texts, mut ends) = (String::new(), Vec::new());
        for field in Fields(message) {
            match field? {
                (field::PARTITION_KEY, Value::Bytes(key)) => {
                    texts.push_str(str::from_utf8(key).ok()?);
                    ends.push(texts.len());
                }
                (field::EXPLICIT_HASH_KEY, Value::Bytes(hash_key)) => {
                    tables.are_hash_keys.push(str::from_utf8(hash_key).ok()?.parse::<u128>().is_ok());
                }
                // Before there is memory for as many.
                (field::RECORD, Value::Bytes(record)) if record.len() < Inner::LEAST => return None,
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
    /// Bytes of the shortest: an index below 128, and a payload of 0 bytes.
    const LEAST: usize = 4;

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
            && !*tables.are_hash_keys.get(usize::try_from(index).ok()?)?
        {
            return None;
        }
        Some(Self { key: tables.keys.get(usize::try_from(key?).ok()?)?, data: data? })
    }
}

/// The fields of a message, one after the other, each with its number; `None` where the message does not parse, after
/// which there is no more of it.
struct Fields<'a>(&'a [u8]);

/// A field's value, of the kinds that an aggregate has.
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
