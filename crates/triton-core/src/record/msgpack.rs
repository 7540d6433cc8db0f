//! MessagePack: encoding, decoding, and a [`Scanner`] that reads a payload token by token.
//!
//! A payload is untrusted input and is checked by the scanner before it is decoded. The scanner never allocates, never
//! recurses, and rejects lengths that exceed the payload. Typed decoding is left to serde.

use crate::error::{DecodeError, DecodeErrorKind};

mod decode;
mod encode;
mod timestamp;

pub use self::decode::{decode, decode_value};
pub use self::encode::{Encoder, KeySource};
pub use self::timestamp::ExtensionTime;

/// Maximum depth of nested arrays and maps in a record.
pub const MAX_DEPTH: usize = 128;

/// A scalar value, or the start of an array or map, whose values follow as tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// Nil, the absence of a value.
    Nil,
    /// A boolean.
    Bool(bool),
    /// A non-negative integer.
    Unsigned(u64),
    /// An integer, usually negative: writers may encode non-negative ones like this too.
    Signed(i64),
    /// A single-precision number.
    Float32(f32),
    /// A double-precision number.
    Float64(f64),
    /// Text. Old writers encode bytes as text too, so it may not be UTF-8.
    Text(&'a [u8]),
    /// Bytes.
    Binary(&'a [u8]),
    /// Start of an array, with its number of values.
    Array(usize),
    /// Start of a map, with its number of pairs.
    Map(usize),
    /// An extension: its type and its bytes.
    Extension(i8, &'a [u8]),
}

impl Token<'_> {
    /// Name of the token's type with an article, for messages.
    pub fn describe(&self) -> &'static str {
        match self {
            Token::Nil => "null",
            Token::Bool(_) => "a boolean",
            Token::Unsigned(_) | Token::Signed(_) => "an integer",
            Token::Float32(_) | Token::Float64(_) => "a float",
            Token::Text(_) => "text",
            Token::Binary(_) => "bytes",
            Token::Array(_) => "an array",
            Token::Map(_) => "a map",
            Token::Extension(..) => "an extension",
        }
    }

    /// Number of values inside it.
    fn children(&self) -> usize {
        match *self {
            Token::Array(values) => values,
            Token::Map(pairs) => pairs * 2,
            _ => 0,
        }
    }
}

/// Reads a payload token by token.
///
/// ```
/// use triton_core::record::msgpack::{Scanner, Token};
///
/// let mut scanner = Scanner::new(b"\x81\xa3msg\xa2hi");
/// assert_eq!(scanner.token()?, Token::Map(1));
/// assert_eq!(scanner.token()?, Token::Text(b"msg"));
/// assert_eq!(scanner.token()?, Token::Text(b"hi"));
/// assert_eq!(scanner.offset(), 8);
/// # Ok::<(), triton_core::DecodeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    payload: &'a [u8],
    offset: usize,
}

impl<'a> Scanner<'a> {
    /// Creates a scanner at the first byte.
    pub fn new(payload: &'a [u8]) -> Self {
        Self { payload, offset: 0 }
    }

    /// Offset of the next token, in bytes.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Returns the next token.
    ///
    /// # Errors
    /// If the payload ends, the byte is reserved, or a length exceeds the rest of the payload.
    #[inline]
    pub fn token(&mut self) -> Result<Token<'a>, DecodeError> {
        let start = self.offset;
        let Some(&marker) = self.payload.get(start) else {
            return Err(match start {
                0 => DecodeError { kind: DecodeErrorKind::Empty, offset: 0 },
                _ => DecodeError { kind: DecodeErrorKind::Truncated, offset: start },
            });
        };
        self.offset += 1;
        Ok(match marker {
            0x00..=0x7f => Token::Unsigned(marker.into()),
            0x80..=0x8f => self.map(start, usize::from(marker & 0x0f))?,
            0x90..=0x9f => self.array(start, usize::from(marker & 0x0f))?,
            0xa0..=0xbf => Token::Text(self.bytes(start, usize::from(marker & 0x1f))?),
            0xc0 => Token::Nil,
            0xc1 => return Err(DecodeError { kind: DecodeErrorKind::Reserved, offset: start }),
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4..=0xc6 => {
                let length = self.length(start, 1 << (marker - 0xc4))?;
                Token::Binary(self.bytes(start, length)?)
            }
            0xc7..=0xc9 => {
                let length = self.length(start, 1 << (marker - 0xc7))?;
                self.extension(start, length)?
            }
            0xca => Token::Float32(f32::from_be_bytes(self.fixed(start)?)),
            0xcb => Token::Float64(f64::from_be_bytes(self.fixed(start)?)),
            0xcc => Token::Unsigned(u8::from_be_bytes(self.fixed(start)?).into()),
            0xcd => Token::Unsigned(u16::from_be_bytes(self.fixed(start)?).into()),
            0xce => Token::Unsigned(u32::from_be_bytes(self.fixed(start)?).into()),
            0xcf => Token::Unsigned(u64::from_be_bytes(self.fixed(start)?)),
            0xd0 => Token::Signed(i8::from_be_bytes(self.fixed(start)?).into()),
            0xd1 => Token::Signed(i16::from_be_bytes(self.fixed(start)?).into()),
            0xd2 => Token::Signed(i32::from_be_bytes(self.fixed(start)?).into()),
            0xd3 => Token::Signed(i64::from_be_bytes(self.fixed(start)?)),
            0xd4..=0xd8 => self.extension(start, 1 << (marker - 0xd4))?,
            0xd9..=0xdb => {
                let length = self.length(start, 1 << (marker - 0xd9))?;
                Token::Text(self.bytes(start, length)?)
            }
            0xdc | 0xdd => {
                let values = self.length(start, 2 << (marker - 0xdc))?;
                self.array(start, values)?
            }
            0xde | 0xdf => {
                let pairs = self.length(start, 2 << (marker - 0xde))?;
                self.map(start, pairs)?
            }
            0xe0..=0xff => Token::Signed(i64::from(marker as i8)),
        })
    }

    /// Skips one complete value, and checks all of it.
    ///
    /// # Errors
    /// Those of [`token`](Self::token), and a value nested deeper than [`MAX_DEPTH`].
    pub fn skip_value(&mut self) -> Result<(), DecodeError> {
        let mut depth = 0;
        let mut left = [0usize; MAX_DEPTH];
        loop {
            let start = self.offset;
            let children = self.token()?.children();
            if children > 0 {
                if depth == MAX_DEPTH {
                    return Err(DecodeError { kind: DecodeErrorKind::TooDeep { limit: MAX_DEPTH }, offset: start });
                }
                left[depth] = children;
                depth += 1;
                continue;
            }
            loop {
                if depth == 0 {
                    return Ok(());
                }
                left[depth - 1] -= 1;
                if left[depth - 1] > 0 {
                    break;
                }
                depth -= 1;
            }
        }
    }

    fn rest(&self) -> usize {
        self.payload.len() - self.offset
    }

    fn bytes(&mut self, start: usize, length: usize) -> Result<&'a [u8], DecodeError> {
        if length > self.rest() {
            return Err(DecodeError { kind: DecodeErrorKind::Length { claimed: length }, offset: start });
        }
        let bytes = &self.payload[self.offset..self.offset + length];
        self.offset += length;
        Ok(bytes)
    }

    fn fixed<const N: usize>(&mut self, start: usize) -> Result<[u8; N], DecodeError> {
        let bytes = self.payload.get(self.offset..self.offset + N).and_then(|bytes| bytes.try_into().ok());
        self.offset += N;
        bytes.ok_or(DecodeError { kind: DecodeErrorKind::Truncated, offset: start })
    }

    fn length(&mut self, start: usize, width: usize) -> Result<usize, DecodeError> {
        Ok(match width {
            1 => u8::from_be_bytes(self.fixed(start)?) as usize,
            2 => u16::from_be_bytes(self.fixed(start)?) as usize,
            _ => u32::from_be_bytes(self.fixed(start)?) as usize,
        })
    }

    fn extension(&mut self, start: usize, length: usize) -> Result<Token<'a>, DecodeError> {
        let [kind] = self.fixed(start)?;
        Ok(Token::Extension(kind as i8, self.bytes(start, length)?))
    }

    // Every value takes at least one byte, so a count above the bytes left must be wrong.
    fn array(&self, start: usize, values: usize) -> Result<Token<'a>, DecodeError> {
        if values > self.rest() {
            return Err(DecodeError { kind: DecodeErrorKind::Length { claimed: values }, offset: start });
        }
        Ok(Token::Array(values))
    }

    fn map(&self, start: usize, pairs: usize) -> Result<Token<'a>, DecodeError> {
        if pairs > self.rest() / 2 {
            return Err(DecodeError { kind: DecodeErrorKind::Length { claimed: pairs }, offset: start });
        }
        Ok(Token::Map(pairs))
    }
}

/// Checks that a payload is exactly one MessagePack value.
///
/// # Errors
/// What is wrong, with its offset.
pub fn check(payload: &[u8]) -> Result<(), DecodeError> {
    let mut scanner = Scanner::new(payload);
    scanner.skip_value()?;
    match scanner.rest() {
        0 => Ok(()),
        bytes => Err(DecodeError { kind: DecodeErrorKind::Trailing { bytes }, offset: scanner.offset }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(payload: &[u8]) -> (DecodeErrorKind, usize) {
        let error = check(payload).unwrap_err();
        (error.kind, error.offset)
    }

    #[test]
    fn every_error_has_a_kind_and_an_offset() {
        assert_eq!(kind(b""), (DecodeErrorKind::Empty, 0));
        assert_eq!(kind(b"\x81\xa1a\xc1"), (DecodeErrorKind::Reserved, 3));
        assert_eq!(kind(b"\x81\xa1a\xcd\x01"), (DecodeErrorKind::Truncated, 3));
        assert_eq!(kind(b"\x81\xa1a"), (DecodeErrorKind::Truncated, 3));
        assert_eq!(kind(b"\x81\xa1a\xd9\x05ab"), (DecodeErrorKind::Length { claimed: 5 }, 3));
        assert_eq!(kind(b"\xdd\xff\xff\xff\xff"), (DecodeErrorKind::Length { claimed: u32::MAX as usize }, 0));
        assert_eq!(kind(b"\x01\x02\x03"), (DecodeErrorKind::Trailing { bytes: 2 }, 1));
    }

    #[test]
    fn depth_is_limited() {
        let nested = |levels: usize| [vec![0x91; levels], vec![0xc0]].concat();
        assert_eq!(check(&nested(MAX_DEPTH)), Ok(()));
        assert_eq!(kind(&nested(MAX_DEPTH + 1)), (DecodeErrorKind::TooDeep { limit: MAX_DEPTH }, MAX_DEPTH));
        // Siblings do not add to the depth.
        assert_eq!(check(&[&[0x9f][..], &[0x91, 0xc0].repeat(15)].concat()), Ok(()));
    }
}
