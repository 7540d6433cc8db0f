//! Points in time, such as a record's arrival.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::parse::ParseError;
use crate::model::text::serde_as_text;

/// A point in time: milliseconds since 1970-01-01 00:00 UTC, the precision of Kinesis' arrival times.
///
/// As text it is RFC 3339 in UTC with milliseconds. Outside the years -9999 to 9999, which RFC 3339 cannot write, it is
/// the number of milliseconds; both are read back.
///
/// ```
/// use triton_core::Timestamp;
///
/// let time = Timestamp::from_millis(1_433_969_276_172);
/// assert_eq!(time.to_string(), "2015-06-10T20:47:56.172Z");
/// assert_eq!("2015-06-10T22:47:56.172+02:00".parse::<Timestamp>()?, time);
/// # Ok::<(), triton_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since 1970.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// The time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(match time.duration_since(UNIX_EPOCH) {
            Ok(after) => millis(after),
            Err(before) => -millis(before.duration()),
        })
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let time = text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond);
        let millis = time.or_else(|_| text.parse::<i64>());
        millis.map(Self).map_err(|_| ParseError::new(text, "a time (RFC 3339, or milliseconds since 1970)"))
    }
}

serde_as_text!(Timestamp);

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_times_keep_their_milliseconds() {
        let time = UNIX_EPOCH + Duration::from_micros(1_433_969_276_172_019);
        assert_eq!(Timestamp::from(time).as_millis(), 1_433_969_276_172);
        assert_eq!(Timestamp::from(UNIX_EPOCH - Duration::from_secs(1)).as_millis(), -1000);
    }

    #[test]
    fn text_round_trips() {
        for millis in [0, -1, 1_433_969_276_172, i64::MIN, i64::MAX] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(time.to_string().parse(), Ok(time), "{time}");
            assert_eq!(serde_json::from_str::<Timestamp>(&serde_json::to_string(&time).unwrap()).unwrap(), time);
        }
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn arithmetic_saturates() {
        let last = Timestamp::from_millis(i64::MAX);
        assert_eq!(last + Duration::MAX, last);
        assert_eq!(Timestamp::from_millis(5).since(Timestamp::from_millis(9)), Duration::ZERO);
    }
}
