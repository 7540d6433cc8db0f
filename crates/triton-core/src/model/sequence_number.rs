//! Sequence numbers, which order the records of a shard.

use std::fmt;
use std::str::FromStr;

use crate::error::parse::ParseError;
use crate::model::text::serde_as_text;

/// The number of a record in its shard: unsigned, up to 256 bits.
///
/// Sequence numbers grow within a shard and are written in decimal. They compare as numbers, so `9` comes before `10`.
/// Kinesis' own have 56 digits (186 bits); its API allows up to 129, but no stream is known to use them, and they are
/// refused.
///
/// ```
/// use triton_core::SequenceNumber;
///
/// let first: SequenceNumber = "9".parse()?;
/// let second: SequenceNumber = "49551479315998225220804774498660962603757541393499684882".parse()?;
/// assert!(first < second);
/// assert_eq!(second.to_string(), "49551479315998225220804774498660962603757541393499684882");
/// # Ok::<(), triton_core::Error>(())
/// ```
// The field order makes the derived ordering the numeric one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SequenceNumber {
    high: u128,
    low: u128,
}

/// The largest power of ten in 64 bits: numbers are printed in groups of 19 digits.
const GROUP: u64 = 10_000_000_000_000_000_000;
const GROUP_DIGITS: usize = 19;
/// A 256-bit number has at most 78 decimal digits.
const MAX_DIGITS: usize = 78;

impl SequenceNumber {
    /// Zero, before every record.
    pub const ZERO: Self = Self { high: 0, low: 0 };

    fn words(self) -> [u64; 4] {
        [(self.high >> 64) as u64, self.high as u64, (self.low >> 64) as u64, self.low as u64]
    }

    fn from_words([a, b, c, d]: [u64; 4]) -> Self {
        Self { high: u128::from(a) << 64 | u128::from(b), low: u128::from(c) << 64 | u128::from(d) }
    }

    /// `self * factor + addend`, or `None` past 256 bits.
    fn multiply_add(self, factor: u64, addend: u64) -> Option<Self> {
        let mut words = self.words();
        let mut carry = addend;
        for word in words.iter_mut().rev() {
            let product = u128::from(*word) * u128::from(factor) + u128::from(carry);
            *word = product as u64;
            carry = (product >> 64) as u64;
        }
        (carry == 0).then(|| Self::from_words(words))
    }

    fn divide(self, divisor: u64) -> (Self, u64) {
        let mut words = self.words();
        let mut remainder = 0u64;
        for word in &mut words {
            let dividend = u128::from(remainder) << 64 | u128::from(*word);
            *word = (dividend / u128::from(divisor)) as u64;
            remainder = (dividend % u128::from(divisor)) as u64;
        }
        (Self::from_words(words), remainder)
    }
}

impl From<u64> for SequenceNumber {
    fn from(value: u64) -> Self {
        Self { high: 0, low: value.into() }
    }
}

impl TryFrom<SequenceNumber> for u64 {
    type Error = ParseError;

    fn try_from(value: SequenceNumber) -> Result<Self, Self::Error> {
        match value {
            SequenceNumber { high: 0, low } if low <= u128::from(u64::MAX) => Ok(low as u64),
            other => Err(ParseError::new(other.to_string(), "a sequence number of up to 64 bits")),
        }
    }
}

/// The value of eight ASCII digits, by adding up neighbours: digits to pairs, pairs to fours, fours to the whole. A
/// record of Kinesis has a number of 56 digits. Parsed one by one, they would cost more than its payload.
fn eight_digits(digits: [u8; 8]) -> u64 {
    let ones = u64::from_le_bytes(digits) & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (ones * 10 + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours * 10_000 + (fours >> 32)) & 0xffff_ffff
}

impl FromStr for SequenceNumber {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || ParseError::new(text, "a sequence number (decimal, up to 256 bits)");
        let digits = text.as_bytes();
        let canonical = text == "0" || digits.first().is_some_and(|&digit| digit != b'0');
        // No early exit, so that the compiler can check many digits at once.
        let are_digits = digits.iter().fold(true, |all, digit| all & digit.is_ascii_digit());
        if !canonical || digits.len() > MAX_DIGITS || !are_digits {
            return Err(invalid());
        }
        let (start, groups) = digits.split_at(digits.len() % 8);
        let start = start.iter().fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0'));
        groups.chunks_exact(8).try_fold(Self::from(start), |number, group| {
            let group = group.try_into().map_or(0, eight_digits);
            number.multiply_add(100_000_000, group).ok_or_else(invalid)
        })
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [b'0'; MAX_DIGITS];
        let mut start = MAX_DIGITS;
        let mut rest = *self;
        loop {
            let (quotient, mut group) = rest.divide(GROUP);
            let last = quotient == Self::ZERO;
            for _ in 0..GROUP_DIGITS.min(start) {
                if last && group == 0 && start < MAX_DIGITS {
                    break;
                }
                start -= 1;
                buffer[start] = b'0' + (group % 10) as u8;
                group /= 10;
            }
            if last {
                break;
            }
            rest = quotient;
        }
        f.pad_integral(true, "", std::str::from_utf8(&buffer[start..]).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(SequenceNumber);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_number_is_written_and_read() {
        let largest = SequenceNumber { high: u128::MAX, low: u128::MAX };
        let text = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
        assert_eq!(largest.to_string(), text);
        assert_eq!(text.parse::<SequenceNumber>().unwrap(), largest);
    }

    #[test]
    fn what_is_no_canonical_number_is_refused() {
        for text in ["", "01", "-1", "+1", "1 ", "1a", "TRIM_HORIZON", "٣"] {
            assert!(text.parse::<SequenceNumber>().is_err(), "{text:?}");
        }
        let one_over = "115792089237316195423570985008687907853269984665640564039457584007913129639936";
        assert!(one_over.parse::<SequenceNumber>().is_err());
        assert!("9".repeat(129).parse::<SequenceNumber>().is_err());
    }

    proptest! {
        #[test]
        fn text_round_trips(high: u128, low: u128) {
            let number = SequenceNumber { high, low };
            prop_assert_eq!(number.to_string().parse::<SequenceNumber>().unwrap(), number);
        }

        #[test]
        fn small_numbers_read_like_integers(value: u64) {
            prop_assert_eq!(SequenceNumber::from(value).to_string(), value.to_string());
            prop_assert_eq!(u64::try_from(SequenceNumber::from(value)).unwrap(), value);
        }

        #[test]
        fn order_is_that_of_the_digits(a in "[1-9][0-9]{0,70}", b in "[1-9][0-9]{0,70}") {
            let by_digits = (a.len(), &a).cmp(&(b.len(), &b));
            prop_assert_eq!(a.parse::<SequenceNumber>().unwrap().cmp(&b.parse().unwrap()), by_digits);
        }
    }
}
