//! Records for people: shard and sequence number, then the payload exactly as Python 3 prints it, with map keys sorted.
//!
//! Python cannot sort keys of different kinds. Here the order is null, false and true, numbers by value, text by code
//! point, bytes, extensions, then arrays and maps in the payload's order. Duplicate keys are all shown, in the
//! payload's order. Bytes, and text that is not UTF-8, are shown as `b'..'`.

use triton_stream::record::msgpack::{ExtensionTime, Scanner, Token, check};
use triton_stream::{DecodeError, Record};
use unicode_general_category::{GeneralCategory, get_general_category};

use super::{append, append_float, append_sequence, base64, escape};

/// Appends a record, its payload on one line, and an empty line.
pub(super) fn write(out: &mut Vec<u8>, record: &Record, terminal: bool) -> Result<(), DecodeError> {
    out.extend_from_slice(b"<Record ");
    escape::push(out, record.shard_id.as_str().as_bytes(), terminal);
    out.push(b' ');
    append_sequence(out, record);
    out.extend_from_slice(b">\n");
    let payload = &record.data[..];
    let outcome = match check(payload) {
        Ok(()) => Printer { scanner: Scanner::new(payload), payload, out, pairs: Vec::new() }.value(),
        Err(error) => {
            append(out, format_args!("{{'$bytes': '{}'}}", base64(payload)));
            Err(error)
        }
    };
    out.extend_from_slice(b"\n\n");
    outcome
}

/// Prints a payload that was checked, so its nesting is bounded.
struct Printer<'a, 'o> {
    scanner: Scanner<'a>,
    payload: &'a [u8],
    out: &'o mut Vec<u8>,
    /// Pairs of the maps around the current one, then its own.
    pairs: Vec<Pair>,
}

/// A printed pair of a map: the offset of its key in the payload, and the range of its text in the output.
struct Pair {
    key: usize,
    from: usize,
    to: usize,
}

impl Printer<'_, '_> {
    fn value(&mut self) -> Result<(), DecodeError> {
        match self.scanner.token()? {
            Token::Nil => self.out.extend_from_slice(b"None"),
            Token::Bool(true) => self.out.extend_from_slice(b"True"),
            Token::Bool(false) => self.out.extend_from_slice(b"False"),
            Token::Unsigned(value) => append(self.out, value),
            Token::Signed(value) => append(self.out, value),
            Token::Float32(value) => float(self.out, value.into()),
            Token::Float64(value) => float(self.out, value),
            Token::Text(data) => match str::from_utf8(data) {
                Ok(value) => text(self.out, value),
                Err(_) => bytes(self.out, data),
            },
            Token::Binary(data) => bytes(self.out, data),
            Token::Extension(kind, data) => extension(self.out, kind, data),
            Token::Array(values) => {
                self.out.push(b'[');
                for index in 0..values {
                    if index > 0 {
                        self.out.extend_from_slice(b", ");
                    }
                    self.value()?;
                }
                self.out.push(b']');
            }
            Token::Map(pairs) => {
                self.out.push(b'{');
                self.map(pairs)?;
                self.out.push(b'}');
            }
        }
        Ok(())
    }

    /// Prints the pairs in the payload's order, then sorts their text if keys are out of order. Each value is thus
    /// decoded once, however deep it is nested.
    fn map(&mut self, pairs: usize) -> Result<(), DecodeError> {
        let first = self.pairs.len();
        let start = self.out.len();
        for index in 0..pairs {
            if index > 0 {
                self.out.extend_from_slice(b", ");
            }
            let (key, from) = (self.scanner.offset(), self.out.len());
            self.value()?;
            self.out.extend_from_slice(b": ");
            self.value()?;
            self.pairs.push(Pair { key, from, to: self.out.len() });
        }
        let payload = self.payload;
        let pairs = &mut self.pairs[first..];
        if !pairs.is_sorted_by_key(|pair| SortKey::read(payload, pair.key)) {
            pairs.sort_unstable_by(|one, other| {
                let keys = SortKey::read(payload, one.key).cmp(&SortKey::read(payload, other.key));
                keys.then(one.key.cmp(&other.key))
            });
            let end = self.out.len();
            for (index, pair) in pairs.iter().enumerate() {
                if index > 0 {
                    self.out.extend_from_slice(b", ");
                }
                self.out.extend_from_within(pair.from..pair.to);
            }
            self.out.copy_within(end.., start);
            self.out.truncate(end);
        }
        self.pairs.truncate(first);
        Ok(())
    }
}

/// The sort key of a map key; the order of the variants is that of the kinds.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum SortKey<'a> {
    Nil,
    Bool(bool),
    /// Ordered as a float; two that are equal as floats, as the integers that they are.
    Number(i64, i128),
    Text(&'a str),
    Bytes(&'a [u8]),
    Extension(i8, &'a [u8]),
    Container,
}

impl<'a> SortKey<'a> {
    /// The key at an offset of a payload that was checked.
    fn read(payload: &'a [u8], offset: usize) -> Self {
        match Scanner::new(&payload[offset..]).token() {
            Ok(Token::Nil) | Err(_) => SortKey::Nil,
            Ok(Token::Bool(value)) => SortKey::Bool(value),
            Ok(Token::Unsigned(value)) => SortKey::Number(sortable(value as f64), value.into()),
            Ok(Token::Signed(value)) => SortKey::Number(sortable(value as f64), value.into()),
            Ok(Token::Float32(value)) => SortKey::Number(sortable(value.into()), value as i128),
            Ok(Token::Float64(value)) => SortKey::Number(sortable(value), value as i128),
            Ok(Token::Text(data)) => str::from_utf8(data).map_or(SortKey::Bytes(data), SortKey::Text),
            Ok(Token::Binary(data)) => SortKey::Bytes(data),
            Ok(Token::Extension(kind, data)) => SortKey::Extension(kind, data),
            Ok(Token::Array(_) | Token::Map(_)) => SortKey::Container,
        }
    }
}

/// A float as an integer of the same order; the two zeros are one.
fn sortable(value: f64) -> i64 {
    let bits = (value + 0.0).to_bits() as i64;
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

fn float(out: &mut Vec<u8>, value: f64) {
    match value {
        f64::INFINITY => return out.extend_from_slice(b"inf"),
        f64::NEG_INFINITY => return out.extend_from_slice(b"-inf"),
        value if value.is_nan() => return out.extend_from_slice(b"nan"),
        _ => {}
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let start = out.len();
    append_float(out, value.abs());
    // The digits are those of Python; its exponents begin one digit earlier, and have at least two digits.
    if out[start..].starts_with(b"0.0000") {
        out.drain(start..start + 6);
        if out.len() - start > 1 {
            out.insert(start + 1, b'.');
        }
        out.extend_from_slice(b"e-05");
    } else if let Some(at) = out[start..].iter().position(|&byte| byte == b'e') {
        let digits = start + at + "e+".len();
        if out.len() - digits == 1 {
            out.insert(digits, b'0');
        }
    }
}

fn extension(out: &mut Vec<u8>, kind: i8, data: &[u8]) {
    match ExtensionTime::decode(kind, data) {
        Some(ExtensionTime { seconds, nanoseconds }) => {
            append(out, format_args!("Timestamp(seconds={seconds}, nanoseconds={nanoseconds})"));
        }
        None => {
            append(out, format_args!("ExtType(code={kind}, data="));
            bytes(out, data);
            out.push(b')');
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    let quote = quote_for(text.as_bytes());
    out.push(quote);
    let mut done = 0;
    for (at, character) in text.char_indices() {
        let plain = if character.is_ascii() { is_plain(character, quote) } else { is_printable(character) };
        if !plain {
            out.extend_from_slice(&text.as_bytes()[done..at]);
            escape_character(out, character);
            done = at + character.len_utf8();
        }
    }
    out.extend_from_slice(&text.as_bytes()[done..]);
    out.push(quote);
}

fn bytes(out: &mut Vec<u8>, data: &[u8]) {
    let quote = quote_for(data);
    out.extend_from_slice(&[b'b', quote]);
    for &byte in data {
        if is_plain(byte.into(), quote) {
            out.push(byte);
        } else {
            escape_character(out, byte.into());
        }
    }
    out.push(quote);
}

/// Python's choice of quotes.
fn quote_for(data: &[u8]) -> u8 {
    if data.contains(&b'\'') && !data.contains(&b'"') { b'"' } else { b'\'' }
}

fn is_plain(character: char, quote: u8) -> bool {
    matches!(character, ' '..='~') && character != '\\' && character != char::from(quote)
}

/// Python's `str.isprintable` for characters outside ASCII.
fn is_printable(character: char) -> bool {
    use GeneralCategory as Is;
    !matches!(
        get_general_category(character),
        Is::Control
            | Is::Format
            | Is::Surrogate
            | Is::PrivateUse
            | Is::Unassigned
            | Is::LineSeparator
            | Is::ParagraphSeparator
            | Is::SpaceSeparator
    )
}

fn escape_character(out: &mut Vec<u8>, character: char) {
    match u32::from(character) {
        0x0a => out.extend_from_slice(b"\\n"),
        0x0d => out.extend_from_slice(b"\\r"),
        0x09 => out.extend_from_slice(b"\\t"),
        0x5c => out.extend_from_slice(b"\\\\"),
        0x27 => out.extend_from_slice(b"\\'"),
        code @ ..=0xff => append(out, format_args!("\\x{code:02x}")),
        code @ ..=0xffff => append(out, format_args!("\\u{code:04x}")),
        code => append(out, format_args!("\\U{code:08x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::record;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use triton_stream::record::msgpack::MAX_DEPTH;

    fn repr(payload: Vec<u8>) -> String {
        let mut out = b"above\n".to_vec();
        write(&mut out, &record(payload), false).unwrap();
        let text = String::from_utf8(out).unwrap();
        let repr = text.strip_prefix("above\n<Record shardId-000000000001 4955>\n").unwrap();
        repr.strip_suffix("\n\n").unwrap().to_owned()
    }

    #[test]
    fn golden_payloads_print_as_python_prints_them() {
        let cases: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../golden/python_repr.json")).unwrap();
        assert!(cases.len() >= 200);
        for case in cases {
            let payload = STANDARD.decode(case["payload"].as_str().unwrap()).unwrap();
            assert_eq!(repr(payload), case["repr"].as_str().unwrap(), "{}", case["what"]);
        }
    }

    #[test]
    fn keys_that_are_the_same_are_all_shown_in_their_order() {
        assert_eq!(repr(b"\x84\xa1b\x01\xa1a\x02\xa1b\x03\xa1a\x04".into()), "{'a': 2, 'a': 4, 'b': 1, 'b': 3}");
        let many = (0..100).flat_map(|n| [0xa1, b'a' + (99 - n) / 50, n]).collect();
        let texts = repr([vec![0xde, 0, 100], many].concat());
        assert!(texts.starts_with("{'a': 50, 'a': 51, ") && texts.ends_with(", 'b': 48, 'b': 49}"), "{texts}");
    }

    #[test]
    fn keys_of_all_kinds_have_an_order() {
        let keys: [&[u8]; 10] = [
            b"\x81\x01\x02",
            b"\x91\x01",
            b"\xd4\x05a",
            b"\xc4\x01a",
            b"\xa1\xff",
            b"\xa1a",
            b"\x01",
            b"\xc3",
            b"\xc2",
            b"\xc0",
        ];
        let pairs: Vec<u8> = keys.iter().flat_map(|key| [key, &b"\x00"[..]].concat()).collect();
        assert_eq!(
            repr([vec![0x8a], pairs].concat()),
            "{None: 0, False: 0, True: 0, 1: 0, 'a': 0, b'a': 0, b'\\xff': 0, ExtType(code=5, data=b'a'): 0, \
             {1: 2}: 0, [1]: 0}"
        );
    }

    #[test]
    fn numbers_sort_by_value_even_where_floats_are_too_coarse() {
        let numbers = [i128::from(u64::MAX), 1 << 53, (1 << 53) + 1, i128::from(i64::MIN), 0, -1];
        let mut keys: Vec<Vec<u8>> = numbers
            .iter()
            .map(|&number| match u64::try_from(number) {
                Ok(number) => [&[0xcf][..], &number.to_be_bytes()].concat(),
                Err(_) => [&[0xd3][..], &(number as i64).to_be_bytes()].concat(),
            })
            .collect();
        for float in [f64::NAN, 1e300, 0.5, -0.5, f64::NEG_INFINITY, 9007199254740992.0] {
            keys.push([&[0xcb][..], &float.to_be_bytes()].concat());
        }
        let pairs: Vec<u8> = keys.iter().flat_map(|key| [&key[..], b"\x00"].concat()).collect();
        assert_eq!(
            repr([vec![0x8c], pairs].concat()).replace(": 0", ""),
            "{-inf, -9223372036854775808, -1, -0.5, 0, 0.5, 9007199254740992, 9007199254740992.0, 9007199254740993, \
             18446744073709551615, 1e+300, nan}"
        );
    }

    #[test]
    fn sorting_moves_whole_values() {
        // {"b": {"d": [1], "c": {}}, "a": {"y": 1, "x": "long enough to matter"}}
        let payload =
            [&b"\x82\xa1b\x82\xa1d\x91\x01\xa1c\x80\xa1a\x82\xa1y\x01\xa1x\xb5"[..], b"long enough to matter"];
        assert_eq!(repr(payload.concat()), "{'a': {'x': 'long enough to matter', 'y': 1}, 'b': {'c': {}, 'd': [1]}}");
    }

    #[test]
    fn the_deepest_payload_prints() {
        for (opening, closing) in [(&b"\x91"[..], &b""[..]), (b"\x81\xa1a", b""), (b"\x81", b"\x01")] {
            repr([opening.repeat(MAX_DEPTH), vec![0xc0], closing.repeat(MAX_DEPTH)].concat());
        }
    }
}
