//! Custom output formats, with the format letters of kcat.
//!
//! `%t` stream, `%p` shard id, `%o` sequence number (`SEQ.SUB` for a record of an aggregate), `%k` partition key, `%s`
//! payload as JSON, `%S` size of the raw payload in bytes, `%T` arrival in ms since 1970, `%%` a percent sign; and the
//! escapes `\n \t \r \\ \0 \xNN`. No newline is added. The format's literal text is written unescaped, even to a
//! terminal; the data of records is escaped on a terminal.

use std::str::{Chars, FromStr};

use anyhow::{Context as _, bail};
use triton_stream::record::json;
use triton_stream::{DecodeError, Record};

use super::{append, append_sequence, escape, escape_for};

/// A format, parsed once for all records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Vec<u8>),
    Stream,
    Shard,
    Sequence,
    Key,
    Payload,
    Size,
    Arrival,
}

impl Format {
    /// Appends a record. Returns an error if the format has `%s` and the payload is not MessagePack.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        stream: &str,
        record: &Record,
        terminal: bool,
    ) -> Result<(), DecodeError> {
        let mut outcome = Ok(());
        for segment in &self.segments {
            match segment {
                Segment::Literal(bytes) => out.extend_from_slice(bytes),
                Segment::Stream => escape::push(out, stream.as_bytes(), terminal),
                Segment::Shard => escape::push(out, record.shard_id.as_str().as_bytes(), terminal),
                Segment::Sequence => append_sequence(out, record),
                Segment::Key => escape::push(out, record.partition_key.as_str().as_bytes(), terminal),
                Segment::Payload => outcome = json::write_payload(out, &record.data, escape_for(terminal)),
                Segment::Size => append(out, record.data.len()),
                Segment::Arrival => append(out, record.arrival.as_millis()),
            }
        }
        outcome
    }
}

impl FromStr for Format {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut segments = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            let segment = match character {
                '%' => letter(&mut rest)?,
                '\\' => Segment::Literal(vec![escaped(&mut rest)?]),
                plain => Segment::Literal(plain.encode_utf8(&mut [0; 4]).as_bytes().to_vec()),
            };
            match segment {
                Segment::Literal(bytes) => literal.extend(bytes),
                field => {
                    if !literal.is_empty() {
                        segments.push(Segment::Literal(std::mem::take(&mut literal)));
                    }
                    segments.push(field);
                }
            }
        }
        if !literal.is_empty() {
            segments.push(Segment::Literal(literal));
        }
        Ok(Self { segments })
    }
}

fn letter(rest: &mut Chars<'_>) -> anyhow::Result<Segment> {
    Ok(match rest.next().context("the format ends in a lone '%' (%% is a percent sign)")? {
        't' => Segment::Stream,
        'p' => Segment::Shard,
        'o' => Segment::Sequence,
        'k' => Segment::Key,
        's' => Segment::Payload,
        'S' => Segment::Size,
        'T' => Segment::Arrival,
        '%' => Segment::Literal(b"%".to_vec()),
        other => bail!("unknown letter '%{}' in the format (%t %p %o %k %s %S %T %%)", other.escape_debug()),
    })
}

/// Replaces the escapes in `text` and returns its bytes.
pub(crate) fn unescape(text: &str) -> anyhow::Result<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text.chars());
    while let Some(character) = rest.next() {
        match character {
            '\\' => bytes.push(escaped(&mut rest)?),
            plain => bytes.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Ok(bytes)
}

fn escaped(rest: &mut Chars<'_>) -> anyhow::Result<u8> {
    Ok(match rest.next().context(r"a lone '\' at the end (\\ is a backslash)")? {
        'n' => b'\n',
        't' => b'\t',
        'r' => b'\r',
        '\\' => b'\\',
        '0' => 0,
        'x' => {
            let digits = rest.as_str().get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
            let digits = digits.context(r"'\x' needs two hexadecimal digits")?;
            *rest = rest.as_str()[2..].chars();
            u8::from_str_radix(digits, 16)?
        }
        other => bail!(r"unknown escape '\{}' (\n \t \r \\ \0 \xNN)", other.escape_debug()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::record;

    fn shown(format: &str, data: &'static [u8], terminal: bool) -> Vec<u8> {
        let mut out = Vec::new();
        format.parse::<Format>().unwrap().write(&mut out, "clicks", &record(data), terminal).unwrap();
        out
    }

    #[test]
    fn every_letter_and_escape_is_written() {
        assert_eq!(
            shown(r"%t|%p|%o|%k|%s|%S|%T|%%|\n\t\r\\\0\x41\xfF|ñ", b"\x81\xa1a\x01", false),
            [
                &b"clicks|shardId-000000000001|4955|user-1|{\"a\":1}|4|1433969276172|%|\n\t\r\\\0A\xff|"[..],
                "ñ".as_bytes()
            ]
            .concat()
        );
    }

    #[test]
    fn a_format_is_a_few_segments() {
        let format: Format = r"%k: 100%%\n".parse().unwrap();
        assert_eq!(format.segments, [Segment::Key, Segment::Literal(b": 100%\n".to_vec())]);
    }

    #[test]
    fn the_user_may_colour_what_records_may_not() {
        assert_eq!(shown(r"\x1b[1m%s", b"\xa3a\x1bb", true), b"\x1b[1m\"a\\u001bb\"");
    }

    #[test]
    fn mistakes_are_reported() {
        let error = |format: &str| format.parse::<Format>().unwrap_err().to_string();
        assert_eq!(error("%k %q"), "unknown letter '%q' in the format (%t %p %o %k %s %S %T %%)");
        assert_eq!(error("100%"), "the format ends in a lone '%' (%% is a percent sign)");
        assert_eq!(error(r"%k\q"), r"unknown escape '\q' (\n \t \r \\ \0 \xNN)");
        assert_eq!(error(r"%k\"), r"a lone '\' at the end (\\ is a backslash)");
        for format in [r"%k\x4", r"%k\x+1", r"%k\x4ñ"] {
            assert_eq!(error(format), r"'\x' needs two hexadecimal digits");
        }
    }
}
