//! The grammar of `--from`.

use std::str::FromStr;
use std::time::Duration;

use triton_stream::{SequenceNumber, Timestamp};

use crate::command::duration::duration;

/// Where `get` starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum From {
    Latest,
    All,
    At(SequenceNumber),
    After(SequenceNumber),
    Ago(Duration),
    Time(Timestamp),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sequence = |number: &str| number.parse::<SequenceNumber>().map_err(|error| error.to_string());
        if let Some(number) = text.strip_prefix("at:") {
            return sequence(number).map(Self::At);
        }
        if let Some(number) = text.strip_prefix("after:") {
            return sequence(number).map(Self::After);
        }
        if let Some(ago) = text.strip_prefix('-') {
            return duration(ago).map(Self::Ago);
        }
        match text {
            "latest" => Ok(Self::Latest),
            "all" => Ok(Self::All),
            time => match time.parse::<jiff::Timestamp>() {
                Ok(time) => Ok(Self::Time(Timestamp::from_millis(time.as_millisecond()))),
                Err(_) => Err("latest, all, at:SEQ, after:SEQ, -10m, or a time such as 2015-06-10T20:47:56Z".into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_words_positions_and_times() {
        let from = |text: &str| text.parse::<From>();
        assert_eq!(from("latest"), Ok(From::Latest));
        assert_eq!(from("at:7"), Ok(From::At(7.into())));
        assert_eq!(from("-10m"), Ok(From::Ago(Duration::from_secs(600))));
        assert_eq!(from("2015-06-10T20:47:56Z"), Ok(From::Time(Timestamp::from_millis(1_433_969_276_000))));
        for wrong in ["", "newest", "at:", "after:x", "-10", "-m", "10m", "2015-06-10"] {
            assert!(from(wrong).is_err(), "{wrong:?}");
        }
    }
}
