//! The JSON form of records, in both directions: one object per line.
//!
//! What JSON has no word for is written in one of four forms, each an object with one key:
//!
//! | MessagePack | JSON |
//! | --- | --- |
//! | bytes (or text) that are not UTF-8 | `{"$bytes":"BASE64"}`; bytes that are UTF-8 become plain text |
//! | extension | `{"$ext":{"type":5,"data":"BASE64"}}` |
//! | timestamp, years -9999 to 9999 | `{"$timestamp":"2015-06-10T20:47:56.172019Z"}` |
//! | float that is no number | `{"$float":"nan"}`, `"inf"`, `"-inf"` |
//!
//! A map that has such a name as its only key gets one more dollar sign there (`{"$$bytes":1}`), which reading takes
//! away. Keys that are not text become text: numbers, booleans and null as JSON writes them, the rest as the JSON form
//! in a string. Inside a key, an array or map that is itself a key is shown as `$bytes`, for quotes in quotes in quotes
//! double at each level.
//!
//! [`parse`] reads the same forms back as bytes, extensions, timestamps and floats; an object that only resembles one of
//! them stays an object. Keys read from JSON are always text, so a key that was a number before stays text. The order of
//! keys is kept, and so are duplicates. An integer past 64 bits is read as a float, as other readers of JSON do.
//!
//! ```
//! use triton_core::record::json;
//!
//! let record = json::parse(br#"{"user": 7, "photo": {"$bytes": "//4="}}"#)?;
//! let payload = rmp_serde::to_vec(&record).unwrap();
//! let mut text = Vec::new();
//! json::write_payload(&mut text, &payload, json::Escape::Json)?;
//! assert_eq!(text, br#"{"user":7,"photo":{"$bytes":"//4="}}"#);
//! # Ok::<(), triton_core::Error>(())
//! ```

mod form;
mod read;
mod string;
mod write;

pub use self::read::{JsonRecord, parse};
pub use self::string::{Escape, is_terminal_control};
pub use self::write::{write_payload, write_record};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::model::sequence_number::SequenceNumber;
    use crate::model::shard::ShardId;
    use crate::model::timestamp::Timestamp;
    use crate::record::{PartitionKey, Record};

    pub(super) fn record(data: impl Into<bytes::Bytes>) -> Record {
        Record::new(
            ShardId::numbered(1),
            SequenceNumber::from(4955),
            PartitionKey::stored("user-1"),
            Timestamp::from_millis(1_433_969_276_172),
            data,
        )
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[\\x00-\\x7f]{0,12}",
            prop::collection::vec(prop::char::ranges(vec!['\u{7f}'..='\u{a0}', '\u{2020}'..='\u{2070}'].into()), 0..6)
                .prop_map(String::from_iter),
            r"\${1,3}(bytes|ext|timestamp|float)",
            Just("nan".to_owned()),
        ]
    }

    fn sized(marker: u8, bytes: &[u8]) -> Vec<u8> {
        [&[marker, bytes.len() as u8][..], bytes].concat()
    }

    fn extension(kind: i8, data: &[u8]) -> Vec<u8> {
        [&[0xc7, data.len() as u8, kind as u8][..], data].concat()
    }

    /// Any MessagePack value, encoded: every kind, every kind of key, duplicates, and what looks like a form of ours.
    pub(super) fn payload() -> impl Strategy<Value = Vec<u8>> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..12);
        let leaf = prop_oneof![
            Just(vec![0xc0]),
            any::<bool>().prop_map(|value| vec![0xc2 + u8::from(value)]),
            any::<u64>().prop_map(|value| [&[0xcf][..], &value.to_be_bytes()].concat()),
            any::<i64>().prop_map(|value| [&[0xd3][..], &value.to_be_bytes()].concat()),
            any::<u32>().prop_map(|bits| [&[0xca][..], &bits.to_be_bytes()].concat()),
            any::<u64>().prop_map(|bits| [&[0xcb][..], &bits.to_be_bytes()].concat()),
            (0u8..4).prop_map(|number| vec![number]),
            text().prop_map(|text| sized(0xd9, &text.as_bytes()[..text.floor_char_boundary(255)])),
            bytes().prop_map(|bytes| sized(0xd9, &bytes)),
            bytes().prop_map(|bytes| sized(0xc4, &bytes)),
            text().prop_map(|text| sized(0xc4, &text.as_bytes()[..text.floor_char_boundary(255)])),
            (any::<i8>(), bytes()).prop_map(|(kind, data)| extension(kind, &data)),
            (any::<i64>(), 0u32..1_100_000_000).prop_map(|(seconds, nanoseconds)| {
                extension(-1, &[&nanoseconds.to_be_bytes()[..], &(seconds >> 20).to_be_bytes()].concat())
            }),
            any::<[u8; 8]>().prop_map(|data| extension(-1, &data)),
            any::<[u8; 4]>().prop_map(|data| extension(-1, &data)),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(|values| [
                    &[0xdc, 0, values.len() as u8][..],
                    &values.concat()
                ]
                .concat()),
                prop::collection::vec((inner.clone(), inner), 0..4).prop_map(|pairs| {
                    let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| [key, value].concat()).collect();
                    [&[0xde, 0, pairs.len() as u8][..], &pairs.concat()].concat()
                }),
            ]
        })
    }
}
