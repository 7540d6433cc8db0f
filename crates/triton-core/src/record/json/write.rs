//! From MessagePack's tokens straight to JSON.

use std::fmt;
use std::io::Write as _;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::error::DecodeError;
use crate::record::Record;
use crate::record::msgpack::{ExtensionTime, Scanner, Token, check};

use super::form::is_form_key;
use super::string::{Escape, write_string};

/// Appends a record as one line; one that came in an aggregate also with its index there, as `sub`.
///
/// # Errors
/// Where the payload is not MessagePack. The record is appended nevertheless, with its payload as `$bytes`.
pub fn write_record(out: &mut Vec<u8>, stream: &str, record: &Record, escape: Escape) -> Result<(), DecodeError> {
    out.extend_from_slice(b"{\"stream\":");
    write_string(out, stream, escape);
    out.extend_from_slice(b",\"shard\":");
    write_string(out, record.shard_id.as_str(), escape);
    // As text, since most readers of JSON would round a number of 56 digits.
    out.extend_from_slice(b",\"seq\":\"");
    append(out, record.sequence_number);
    out.push(b'"');
    if let Some(sub) = record.sub_sequence_number {
        out.extend_from_slice(b",\"sub\":");
        integer(out, sub);
    }
    out.extend_from_slice(b",\"key\":");
    write_string(out, record.partition_key.as_str(), escape);
    out.extend_from_slice(b",\"arrival\":");
    integer(out, record.arrival.as_millis());
    out.extend_from_slice(b",\"data\":");
    let outcome = write_payload(out, &record.data, escape);
    out.extend_from_slice(b"}\n");
    outcome
}

/// Appends a payload, without a newline.
///
/// # Errors
/// Where it is not MessagePack. It is appended nevertheless, as `$bytes`.
pub fn write_payload(out: &mut Vec<u8>, payload: &[u8], escape: Escape) -> Result<(), DecodeError> {
    match check(payload) {
        Ok(()) => Transcoder { scanner: Scanner::new(payload), payload, out, escape, in_key: false }.value(),
        Err(error) => {
            bytes(out, payload);
            Err(error)
        }
    }
}

/// Goes through a payload that was checked, and so is nested no deeper than a stack can take.
struct Transcoder<'a, 'o> {
    scanner: Scanner<'a>,
    payload: &'a [u8],
    out: &'o mut Vec<u8>,
    escape: Escape,
    in_key: bool,
}

impl Transcoder<'_, '_> {
    fn value(&mut self) -> Result<(), DecodeError> {
        let token = self.scanner.token()?;
        self.value_from(token)
    }

    fn value_from(&mut self, token: Token<'_>) -> Result<(), DecodeError> {
        match token {
            Token::Array(values) => {
                self.out.push(b'[');
                for index in 0..values {
                    if index > 0 {
                        self.out.push(b',');
                    }
                    self.value()?;
                }
                self.out.push(b']');
            }
            Token::Map(pairs) => {
                self.out.push(b'{');
                for index in 0..pairs {
                    if index > 0 {
                        self.out.push(b',');
                    }
                    self.key(pairs == 1)?;
                    self.out.push(b':');
                    self.value()?;
                }
                self.out.push(b'}');
            }
            Token::Nil => self.out.extend_from_slice(b"null"),
            Token::Bool(true) => self.out.extend_from_slice(b"true"),
            Token::Bool(false) => self.out.extend_from_slice(b"false"),
            Token::Unsigned(value) => integer(self.out, value),
            Token::Signed(value) => integer(self.out, value),
            Token::Float32(value) => single(self.out, value),
            Token::Float64(value) => double(self.out, value),
            Token::Text(data) | Token::Binary(data) => match str::from_utf8(data) {
                Ok(text) => write_string(self.out, text, self.escape),
                Err(_) => bytes(self.out, data),
            },
            Token::Extension(kind, data) => extension(self.out, kind, data),
        }
        Ok(())
    }

    fn key(&mut self, only: bool) -> Result<(), DecodeError> {
        let mut whole = self.scanner.clone();
        let token = self.scanner.token()?;
        if let Token::Text(data) | Token::Binary(data) = token
            && let Ok(text) = str::from_utf8(data)
        {
            match only && is_form_key(text) {
                true => append(self.out, format_args!("\"${text}\"")),
                false => write_string(self.out, text, self.escape),
            }
            return Ok(());
        }
        let start = self.out.len();
        match token {
            Token::Array(_) | Token::Map(_) if self.in_key => {
                let from = whole.offset();
                whole.skip_value()?;
                bytes(self.out, &self.payload[from..whole.offset()]);
                self.scanner = whole;
            }
            Token::Array(_) | Token::Map(_) => {
                self.in_key = true;
                self.value_from(token)?;
                self.in_key = false;
            }
            scalar => self.value_from(scalar)?,
        }
        quote(self.out, start);
        Ok(())
    }
}

fn integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn double(out: &mut Vec<u8>, value: f64) {
    match value {
        f64::INFINITY => out.extend_from_slice(br#"{"$float":"inf"}"#),
        f64::NEG_INFINITY => out.extend_from_slice(br#"{"$float":"-inf"}"#),
        value if value.is_nan() => out.extend_from_slice(br#"{"$float":"nan"}"#),
        value => append_float(out, value),
    }
}

/// The few digits of single precision, in the notation of double, which is what they are read back as.
fn single(out: &mut Vec<u8>, value: f32) {
    let mut widened = f64::from(value);
    if value.is_finite() {
        let start = out.len();
        append_float(out, value);
        widened = str::from_utf8(&out[start..]).ok().and_then(|text| text.parse().ok()).unwrap_or(widened);
        out.truncate(start);
    }
    double(out, widened);
}

fn bytes(out: &mut Vec<u8>, data: &[u8]) {
    append(out, format_args!(r#"{{"$bytes":"{}"}}"#, base64(data)));
}

fn extension(out: &mut Vec<u8>, kind: i8, data: &[u8]) {
    let time = ExtensionTime::decode(kind, data)
        .and_then(|time| jiff::Timestamp::new(time.seconds, time.nanoseconds as i32).ok());
    match time {
        Some(time) => append(out, format_args!(r#"{{"$timestamp":"{time}"}}"#)),
        None => append(out, format_args!(r#"{{"$ext":{{"type":{kind},"data":"{}"}}}}"#, base64(data))),
    }
}

/// Appends a finite `f32` or `f64` with as few digits as tell it from others of its precision.
///
/// Where two such texts are equally near, serde_json takes the even one, as Python does and Rust's own printing does
/// not.
fn append_float(out: &mut Vec<u8>, value: impl Serialize) {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(out, &value);
}

fn base64(bytes: &[u8]) -> impl fmt::Display {
    Base64Display::new(bytes, &STANDARD)
}

/// Appends what a value prints.
fn append(out: &mut Vec<u8>, value: impl fmt::Display) {
    // Writing to memory does not fail.
    let _ = write!(out, "{value}");
}

/// Makes a JSON string of the JSON from `start` on; its only characters that need escaping are quotes and backslashes.
fn quote(out: &mut Vec<u8>, start: usize) {
    let end = out.len();
    out.push(b'"');
    for at in start..end {
        let byte = out[at];
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
    out.drain(start..end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::json::tests::{payload as any_payload, record};
    use crate::record::msgpack::MAX_DEPTH;
    use proptest::prelude::*;

    fn json(data: &[u8]) -> String {
        let mut out = Vec::new();
        write_payload(&mut out, data, Escape::Json).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn scalars_are_jsons_own() {
        assert_eq!(json(b"\x97\xc0\xc2\xc3\x05\xd0\x05\xe0\xa2hi"), r#"[null,false,true,5,5,-32,"hi"]"#);
        assert_eq!(json(&[&[0xcf][..], &[0xff; 8]].concat()), "18446744073709551615");
        assert_eq!(json(b"\xd3\x80\0\0\0\0\0\0\0"), "-9223372036854775808");
    }

    #[test]
    fn floats_are_as_short_as_their_precision_allows() {
        let double = |value: f64| json(&[&[0xcb][..], &value.to_be_bytes()].concat());
        let single = |value: f32| json(&[&[0xca][..], &value.to_be_bytes()].concat());
        assert_eq!(double(1.0), "1.0");
        assert_eq!(double(-0.0), "-0.0");
        assert_eq!(double(1_433_969_276.172_019), "1433969276.172019");
        assert_eq!(double(5e-324), "5e-324");
        assert_eq!(double(1e22), "1e+22");
        assert_eq!(single(0.1), "0.1");
        assert_eq!(single(1e14), "100000000000000.0");
        assert_eq!(double(2_039_718_370_663_479.0 + 0.25), "2039718370663479.2");
        assert_eq!(double(f64::NAN), r#"{"$float":"nan"}"#);
        assert_eq!(single(f32::INFINITY), r#"{"$float":"inf"}"#);
        assert_eq!(double(f64::NEG_INFINITY), r#"{"$float":"-inf"}"#);
    }

    #[test]
    fn bytes_are_text_where_they_can_be() {
        assert_eq!(json(b"\x93\xc4\x02hi\xa2\xff\xfe\xc4\x01\x80"), r#"["hi",{"$bytes":"//4="},{"$bytes":"gA=="}]"#);
    }

    #[test]
    fn extensions_and_timestamps_have_their_forms() {
        assert_eq!(json(b"\xc7\x03\x05abc"), r#"{"$ext":{"type":5,"data":"YWJj"}}"#);
        assert_eq!(json(b"\xd6\xff\x55\x78\xa2\x7c"), r#"{"$timestamp":"2015-06-10T20:47:56Z"}"#);
        let at = |nanoseconds: u32, seconds: i64| {
            json(&[&b"\xc7\x0c\xff"[..], &nanoseconds.to_be_bytes(), &seconds.to_be_bytes()].concat())
        };
        assert_eq!(at(172_019_000, 1_433_969_276), r#"{"$timestamp":"2015-06-10T20:47:56.172019Z"}"#);
        assert_eq!(at(500_000_000, -1), r#"{"$timestamp":"1969-12-31T23:59:59.5Z"}"#);
        assert_eq!(at(0, i64::MAX), r#"{"$ext":{"type":-1,"data":"AAAAAH//////////"}}"#);
        assert_eq!(at(1_000_000_000, 0), r#"{"$ext":{"type":-1,"data":"O5rKAAAAAAAAAAAA"}}"#);
        assert_eq!(json(b"\xd4\xff\x01"), r#"{"$ext":{"type":-1,"data":"AQ=="}}"#);
    }

    #[test]
    fn maps_keep_their_order_and_duplicates_and_get_text_for_keys() {
        assert_eq!(json(b"\x83\xa1b\x01\xa1a\x02\xa1b\x03"), r#"{"b":1,"a":2,"b":3}"#);
        assert_eq!(
            json(b"\x86\x01\x01\xca\x3f\xc0\0\0\x01\xc3\x01\xc0\x01\xc4\x01x\x01\xa1\xff\x01"),
            r#"{"1":1,"1.5":1,"true":1,"null":1,"x":1,"{\"$bytes\":\"/w==\"}":1}"#
        );
        assert_eq!(json(b"\x81\x92\x01\xa1\"\x02"), r#"{"[1,\"\\\"\"]":2}"#);
    }

    #[test]
    fn a_map_that_looks_like_a_form_gets_a_dollar_sign_more() {
        assert_eq!(json(b"\x81\xa6$bytes\xa4aGk="), r#"{"$$bytes":"aGk="}"#);
        assert_eq!(json(b"\x81\xa5$$ext\x01"), r#"{"$$$ext":1}"#);
        assert_eq!(json(b"\x81\xa6$other\x01"), r#"{"$other":1}"#);
        assert_eq!(json(b"\x82\xa6$bytes\x01\xa1a\x02"), r#"{"$bytes":1,"a":2}"#);
    }

    #[test]
    fn keys_in_keys_in_keys_stay_small() {
        let nested = [vec![0x81; MAX_DEPTH], vec![0xc0], vec![0x01; MAX_DEPTH]].concat();
        let text = json(&nested);
        assert!(text.starts_with(r#"{"{\"{\\\"$bytes\\\":\\\""#), "{text}");
        assert!(text.len() < 500, "{} bytes", text.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_record_is_one_line_of_json(
            data in any_payload(),
            stream in any::<String>(),
            terminal in any::<bool>(),
        ) {
            let mut out = Vec::new();
            let escape = if terminal { Escape::Terminal } else { Escape::Json };
            write_record(&mut out, &stream, &record(data), escape).unwrap();
            prop_assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1);
            let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(line["stream"].as_str(), Some(&*stream));
            let names: Vec<_> = line.as_object().unwrap().keys().collect();
            prop_assert_eq!(names, ["stream", "shard", "seq", "key", "arrival", "data"]);
        }
    }
}
