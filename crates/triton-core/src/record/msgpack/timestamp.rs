//! MessagePack's timestamps, the extension of type -1.

/// The time in a MessagePack timestamp, the extension of type -1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionTime {
    /// Since 1970-01-01 00:00 UTC.
    pub seconds: i64,
    /// After those seconds; below 1,000,000,000.
    pub nanoseconds: u32,
}

impl ExtensionTime {
    /// The extension type of timestamps.
    pub const KIND: i8 = -1;

    /// The time in an extension; `None` where it is of another type, or no timestamp that MessagePack knows.
    pub fn decode(kind: i8, data: &[u8]) -> Option<Self> {
        if kind != Self::KIND {
            return None;
        }
        let (seconds, nanoseconds) = match data.len() {
            4 => (u32::from_be_bytes(data.try_into().ok()?).into(), 0),
            8 => {
                let both = u64::from_be_bytes(data.try_into().ok()?);
                ((both & SECONDS_IN_8) as i64, (both >> 34) as u32)
            }
            12 => {
                let (nanoseconds, seconds) = data.split_at(4);
                (i64::from_be_bytes(seconds.try_into().ok()?), u32::from_be_bytes(nanoseconds.try_into().ok()?))
            }
            _ => return None,
        };
        (nanoseconds < 1_000_000_000).then_some(Self { seconds, nanoseconds })
    }

    /// Its bytes in the shortest of MessagePack's three forms.
    pub fn encode(self) -> Vec<u8> {
        let Self { seconds, nanoseconds } = self;
        match u64::try_from(seconds) {
            Ok(seconds) if nanoseconds == 0 && seconds <= u32::MAX.into() => (seconds as u32).to_be_bytes().into(),
            Ok(seconds) if seconds <= SECONDS_IN_8 => (u64::from(nanoseconds) << 34 | seconds).to_be_bytes().into(),
            _ => [&nanoseconds.to_be_bytes()[..], &seconds.to_be_bytes()[..]].concat(),
        }
    }
}

/// The form of 8 bytes has 34 bits for the seconds.
const SECONDS_IN_8: u64 = (1 << 34) - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn extension_times_come_back(seconds in any::<i64>(), shift in 0..64, nanoseconds in 0u32..1_000_000_000) {
            for nanoseconds in [nanoseconds, 0] {
                let time = ExtensionTime { seconds: seconds >> shift, nanoseconds };
                prop_assert_eq!(ExtensionTime::decode(-1, &time.encode()), Some(time));
            }
        }
    }
}
