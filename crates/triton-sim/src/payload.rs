//! Payloads of a run. Each contains the number of its put.
//!
//! Aggregates are decoded independently of the code under test.

use bytes::Bytes;
use triton_core::{HashKey, PartitionKey};

/// The number of a put: its index in the plan.
pub(crate) type PutId = u32;

const ID_BYTES: usize = size_of::<PutId>();

/// A payload of at least four bytes that identifies its put.
pub(crate) fn payload(id: PutId, size: usize) -> Bytes {
    let mut payload = vec![id.wrapping_mul(31) as u8; size.max(ID_BYTES)];
    payload[..ID_BYTES].copy_from_slice(&id.to_le_bytes());
    payload.into()
}

/// The put that a payload identifies.
pub(crate) fn id_of(payload: &[u8]) -> Option<PutId> {
    payload.first_chunk().map(|bytes| PutId::from_le_bytes(*bytes))
}

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
const DIGEST_BYTES: usize = 16;

/// A record inside an aggregate, or one that stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inner<'a> {
    pub(crate) key: &'a str,
    /// In decimal, as aggregates store it.
    pub(crate) explicit_hash_key: Option<&'a str>,
    pub(crate) data: &'a [u8],
}

impl Inner<'_> {
    /// The hash key that decides which shard it belongs to.
    pub(crate) fn hash_key(&self) -> HashKey {
        let explicit = self.explicit_hash_key.and_then(|key| key.parse().ok());
        explicit.unwrap_or_else(|| HashKey::of(self.key))
    }
}

/// Calls `each` with every record of an aggregate and its index, or with the record itself and `None` if it is not an
/// aggregate.
pub(crate) fn each_inner<'a>(key: &'a PartitionKey, data: &'a [u8], mut each: impl FnMut(Inner<'a>, Option<u32>)) {
    match packed(data) {
        None => each(Inner { key: key.as_str(), explicit_hash_key: None, data }, None),
        Some(records) => {
            for (index, record) in (0..).zip(records) {
                each(record, Some(index));
            }
        }
    }
}

/// Number of records that a reader delivers for this one.
pub(crate) fn count(data: &[u8]) -> u32 {
    match data.starts_with(&MAGIC) {
        true => packed(data).map_or(1, |records| records.len() as u32),
        false => 1,
    }
}

fn packed(data: &[u8]) -> Option<Vec<Inner<'_>>> {
    let message = data.strip_prefix(&MAGIC)?;
    let message = message.get(..message.len().checked_sub(DIGEST_BYTES)?)?;
    let (mut keys, mut hash_keys, mut records) = (Vec::new(), Vec::new(), Vec::new());
    let mut fields = Fields(message);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(key)) => keys.push(std::str::from_utf8(key).ok()?),
            (2, Value::Bytes(key)) => hash_keys.push(std::str::from_utf8(key).ok()?),
            (3, Value::Bytes(record)) => records.push(record),
            _ => {}
        }
    }
    records.into_iter().map(|record| inner(record, &keys, &hash_keys)).collect()
}

fn inner<'a>(record: &'a [u8], keys: &[&'a str], hash_keys: &[&'a str]) -> Option<Inner<'a>> {
    let (mut key, mut explicit_hash_key, mut data) = (None, None, None);
    let mut fields = Fields(record);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Number(index)) => key = Some(*keys.get(index as usize)?),
            (2, Value::Number(index)) => explicit_hash_key = Some(*hash_keys.get(index as usize)?),
            (3, Value::Bytes(bytes)) => data = Some(bytes),
            _ => {}
        }
    }
    Some(Inner { key: key?, explicit_hash_key, data: data? })
}

/// The fields of a protobuf message, of the two wire types that aggregates use.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    /// The next field and its number; the outer `None` means that the message is malformed.
    #[expect(clippy::option_option, reason = "an error without details, and an end")]
    fn next(&mut self) -> Option<Option<(u64, Value<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            2 => {
                let length = self.number()? as usize;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        Some(Some((tag >> 3, value)))
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aggregate_is_taken_apart() {
        let mut data = MAGIC.to_vec();
        data.extend(*b"\x0a\x01a\x0a\x01b\x12\x0217");
        data.extend(*b"\x1a\x07\x08\x00\x1a\x03one");
        data.extend(*b"\x1a\x09\x08\x01\x10\x00\x1a\x03two");
        data.extend([0; DIGEST_BYTES]);
        let key = PartitionKey::new("a").unwrap();
        let mut seen = Vec::new();
        each_inner(&key, &data, |inner, index| seen.push((inner, index)));
        let one = Inner { key: "a", explicit_hash_key: None, data: b"one" };
        let two = Inner { key: "b", explicit_hash_key: Some("17"), data: b"two" };
        assert_eq!(seen, [(one, Some(0)), (two, Some(1))]);
        assert_eq!(count(&data), 2);
    }

    #[test]
    fn any_other_record_stands_alone() {
        let key = PartitionKey::new("k").unwrap();
        let data = payload(7, 100);
        let mut seen = Vec::new();
        each_inner(&key, &data, |inner, index| seen.push((id_of(inner.data), index)));
        assert_eq!(seen, [(Some(7), None)]);
        assert_eq!((count(&data), data.len(), payload(7, 0).len()), (1, 100, 4));
    }
}
