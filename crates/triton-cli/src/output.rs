//! Formats of a record: for people, JSON, raw, or the user's own.
//!
//! Records are appended to a buffer. The caller writes it out, and warns of payloads that are not MessagePack. The JSON
//! form is the core's.

pub(crate) mod escape;
mod format;
mod pretty;
pub(crate) mod table;

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use anyhow::bail;
use base64::display::Base64Display;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use serde::Serialize;
use triton_stream::record::json::{self, Escape};
use triton_stream::{DecodeError, Record};

pub(crate) use self::format::{Format, unescape};

/// The values of `-o`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Shard and sequence number, then the payload as Python prints it, then an empty line.
    Pretty,
    /// One JSON object a line.
    Json,
    /// The payload's bytes and a newline.
    Raw,
    /// The user's own format.
    Format(Format),
}

impl Output {
    /// Appends a record. For a `terminal`, control characters are escaped.
    ///
    /// # Errors
    /// The payload is not MessagePack. The record is appended nevertheless, with its payload in base64. Raw output, and
    /// a format without `%s`, do not decode the payload and never fail.
    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        stream: &str,
        record: &Record,
        terminal: bool,
    ) -> Result<(), DecodeError> {
        match self {
            Output::Pretty => pretty::write(out, record, terminal),
            Output::Json => json::write_record(out, stream, record, escape_for(terminal)),
            Output::Raw => {
                escape::push(out, &record.data, terminal);
                out.push(b'\n');
                Ok(())
            }
            Output::Format(format) => format.write(out, stream, record, terminal),
        }
    }
}

impl FromStr for Output {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "pretty" => Output::Pretty,
            "json" => Output::Json,
            "raw" => Output::Raw,
            format if format.contains('%') => Output::Format(format.parse()?),
            other => {
                bail!("unknown output '{}' (pretty, json, raw, or a format such as '%k %s\\n')", other.escape_debug())
            }
        })
    }
}

/// Which characters of JSON strings are escaped.
fn escape_for(terminal: bool) -> Escape {
    if terminal { Escape::Terminal } else { Escape::Json }
}

/// Bytes in the base64 that every output uses.
fn base64(bytes: &[u8]) -> Base64Display<'_, 'static, GeneralPurpose> {
    Base64Display::new(bytes, &STANDARD)
}

/// Appends a finite `f32` or `f64` with the fewest digits that read back as the same value.
///
/// Where two such texts are equally near, serde_json takes the even one, as Python does and Rust's own printing does
/// not.
fn append_float(out: &mut Vec<u8>, value: impl Serialize) {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(out, &value);
}

/// Appends a record's sequence number: `SEQ`, or `SEQ.SUB` for a record of an aggregate.
fn append_sequence(out: &mut Vec<u8>, record: &Record) {
    append(out, record.sequence_number);
    if let Some(sub) = record.sub_sequence_number {
        append(out, format_args!(".{sub}"));
    }
}

/// Appends what a value prints.
fn append(out: &mut Vec<u8>, value: impl fmt::Display) {
    // Writing to memory does not fail.
    let _ = write!(out, "{value}");
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use triton_stream::record::PartitionKey;
    use triton_stream::{SequenceNumber, ShardId, Timestamp};

    pub(crate) fn record(data: impl Into<bytes::Bytes>) -> Record {
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
    pub(crate) fn payload() -> impl Strategy<Value = Vec<u8>> {
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

    fn shown(output: &str, record: &Record, terminal: bool) -> String {
        let mut out = Vec::new();
        output.parse::<Output>().unwrap().write(&mut out, "clicks", record, terminal).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_output_shows_the_same_record() {
        let record = record(&b"\x82\xa3msg\xa3hi\n\xa2ts\xcb\x41\xd5\x5e\x28\x9f\x0b\x02\x5c"[..]);
        assert_eq!(
            shown("pretty", &record, false),
            "<Record shardId-000000000001 4955>\n{'msg': 'hi\\n', 'ts': 1433969276.172019}\n\n"
        );
        assert_eq!(
            shown("json", &record, false),
            r#"{"stream":"clicks","shard":"shardId-000000000001","seq":"4955","key":"user-1","arrival":1433969276172,"#
                .to_owned()
                + "\"data\":{\"msg\":\"hi\\n\",\"ts\":1433969276.172019}}\n"
        );
        assert_eq!(shown("%k %S %s%%", &record, false), r#"user-1 21 {"msg":"hi\n","ts":1433969276.172019}%"#);
        let mut out = b"before ".to_vec();
        Output::Raw.write(&mut out, "clicks", &record, false).unwrap();
        assert_eq!(out, [b"before ", &record.data[..], b"\n"].concat());
    }

    #[test]
    fn a_record_of_an_aggregate_is_shown_with_its_sub_sequence_number() {
        let mut record = record(&b"\x01"[..]);
        record.sub_sequence_number = Some(0);
        assert_eq!(shown("pretty", &record, false), "<Record shardId-000000000001 4955.0>\n1\n\n");
        assert_eq!(
            shown("json", &record, false),
            r#"{"stream":"clicks","shard":"shardId-000000000001","seq":"4955","sub":0,"key":"user-1","#.to_owned()
                + "\"arrival\":1433969276172,\"data\":1}\n"
        );
        record.sub_sequence_number = Some(12);
        assert_eq!(shown("%p %o", &record, false), "shardId-000000000001 4955.12");
    }

    #[test]
    fn a_payload_that_is_not_messagepack_is_shown_and_reported() {
        let record = record(&b"\xc1hi"[..]);
        let written = |output: &str| {
            let mut out = Vec::new();
            let outcome = output.parse::<Output>().unwrap().write(&mut out, "clicks", &record, true);
            (String::from_utf8(out).unwrap(), outcome.map_err(|error| error.to_string()))
        };
        let error = Err("not MessagePack (byte 0xc1 at 0)".to_owned());
        assert_eq!(
            written("pretty"),
            ("<Record shardId-000000000001 4955>\n{'$bytes': 'wWhp'}\n\n".to_owned(), error.clone())
        );
        let (json, outcome) = written("json");
        assert!(json.ends_with(",\"data\":{\"$bytes\":\"wWhp\"}}\n"), "{json}");
        assert_eq!(outcome, error);
        assert_eq!(written("%k %s,"), (r#"user-1 {"$bytes":"wWhp"},"#.to_owned(), error));
        assert_eq!(written("%k %S"), ("user-1 3".to_owned(), Ok(())));
        assert_eq!(written("raw"), ("\\xc1hi\n".to_owned(), Ok(())));
    }

    #[test]
    fn an_unknown_output_is_reported_with_the_known_ones() {
        let error = "jsn".parse::<Output>().unwrap_err();
        assert_eq!(error.to_string(), r"unknown output 'jsn' (pretty, json, raw, or a format such as '%k %s\n')");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_terminal_gets_no_control_character_but_our_newlines(
            data in prop_oneof![payload(), prop::collection::vec(any::<u8>(), 0..60)],
            (stream, shard, key) in (text(), text(), text()),
        ) {
            let record = Record::new(
                ShardId::from(shard.as_str()),
                SequenceNumber::ZERO,
                PartitionKey::stored(key),
                Timestamp::default(),
                data,
            );
            for (output, newlines) in [("pretty", 3), ("json", 1), ("raw", 1), (r"%t %p %o %k %s %S %T\n", 1)] {
                let mut out = Vec::new();
                let _ = output.parse::<Output>().unwrap().write(&mut out, &stream, &record, true);
                let text = String::from_utf8(out).unwrap();
                prop_assert_eq!(text.matches('\n').count(), newlines, "{:?}", text);
                let smuggled = |character: char| {
                    character.is_control() && character != '\n'
                        || ('\u{202a}'..='\u{202e}').contains(&character)
                        || ('\u{2066}'..='\u{2069}').contains(&character)
                };
                prop_assert!(!text.contains(smuggled), "{:?}", text);
            }
        }
    }
}
