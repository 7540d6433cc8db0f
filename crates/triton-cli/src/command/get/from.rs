//! The grammar of `--from`.

use std::str::FromStr;
use std::time::Duration;

use triton_stream::{RecordId, SequenceNumber, ShardId, Timestamp};

use crate::command::duration::duration;

/// Where `get` starts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum From {
    Latest,
    All,
    At(Id),
    After(Id),
    Ago(Duration),
    Time(Timestamp),
}

/// The address of a record, as every output prints it: `[SHARD:]SEQ[.SUB]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Id {
    /// `None` if the text names none.
    pub(crate) shard: Option<ShardId>,
    sequence_number: SequenceNumber,
    sub_sequence_number: Option<u32>,
}

impl Id {
    /// The record of this id in this shard.
    pub(crate) fn within(&self, shard: ShardId) -> RecordId {
        let Self { sequence_number, sub_sequence_number, .. } = *self;
        RecordId { shard, sequence_number, sub_sequence_number }
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let has_shard = text.contains([':', ' ']);
        // A shard that is not part of the address.
        let whole = if has_shard { text.to_owned() } else { format!("shard:{text}") };
        let id: RecordId = whole.parse().map_err(|_| format!("'{text}' is not a record id ([SHARD:]SEQ[.SUB])"))?;
        let RecordId { shard, sequence_number, sub_sequence_number } = id;
        Ok(Self { shard: has_shard.then_some(shard), sequence_number, sub_sequence_number })
    }
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(id) = text.strip_prefix("at:") {
            return id.parse().map(Self::At);
        }
        if let Some(id) = text.strip_prefix("after:") {
            return id.parse().map(Self::After);
        }
        if let Some(ago) = text.strip_prefix('-') {
            return duration(ago).map(Self::Ago);
        }
        match text {
            "latest" => Ok(Self::Latest),
            "all" => Ok(Self::All),
            time => match time.parse::<jiff::Timestamp>() {
                Ok(time) => Ok(Self::Time(Timestamp::from_millis(time.as_millisecond()))),
                Err(_) => Err("latest, all, at:ID, after:ID, -10m, or a time such as 2015-06-10T20:47:56Z".into()),
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
        let id = |text: &str| text.parse::<Id>().unwrap();
        assert_eq!(from("at:7"), Ok(From::At(id("7"))));
        assert_eq!(
            (id("7").shard, id("7.3").within(ShardId::numbered(1)).to_string()),
            (None, "shardId-000000000001:7.3".into())
        );
        let printed = "shardId-000000000002:7.3";
        for text in [printed, "shardId-000000000002 7.3"] {
            let Ok(From::After(id)) = from(&format!("after:{text}")) else { panic!("{text}") };
            assert_eq!(id.shard.clone().map(|shard| id.within(shard).to_string()).as_deref(), Some(printed));
        }
        assert_eq!(from("-10m"), Ok(From::Ago(Duration::from_secs(600))));
        assert_eq!(from("2015-06-10T20:47:56Z"), Ok(From::Time(Timestamp::from_millis(1_433_969_276_000))));
        for wrong in ["", "newest", "at:", "after:x", "at:7.", "at:s:x", "at::7", "-10", "-m", "10m", "2015-06-10"] {
            assert!(from(wrong).is_err(), "{wrong:?}");
        }
    }
}
