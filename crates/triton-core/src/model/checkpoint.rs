//! Checkpoints: where a consumer stands in a shard, and in a stream.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::record_id::{RecordId, Within};
use crate::model::sequence_number::SequenceNumber;
use crate::model::shard::ShardId;
use crate::model::timestamp::Timestamp;

/// Where a consumer stands in a shard, to be stored and resumed from.
///
/// Serialised as a map: `{"version": 1, "progress": "4955.3", "caught_up_at": 1433969276172}`. The progress is
/// `not-started`, `ended`, or the last handled record as `SEQ` or `SEQ.SUB`; the time is in milliseconds since 1970, or
/// absent. Fields that a later version adds are ignored; a version that changes a meaning has another number, and is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// What was handled.
    pub progress: Progress,
    /// Every record that arrived before this time, by the stream's clock, was handled. Where retention has removed the
    /// record that `progress` names, reading goes on from here without a loss.
    pub caught_up_at: Option<Timestamp>,
}

/// How much of a shard was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// No record.
    NotStarted,
    /// Every record up to and including this one.
    After {
        /// Its sequence number.
        sequence_number: SequenceNumber,
        /// Its index in its aggregate; `None` for a record that was not aggregated, and for an aggregate as a whole.
        sub_sequence_number: Option<u32>,
    },
    /// The shard is closed, and every record of it was handled.
    Ended,
}

impl Checkpoint {
    /// Before every record of the shard.
    pub const NOT_STARTED: Self = Self { progress: Progress::NotStarted, caught_up_at: None };
    /// After every record of a closed shard.
    pub const ENDED: Self = Self { progress: Progress::Ended, caught_up_at: None };

    /// After this record, and every one before it.
    pub fn after(record: &RecordId) -> Self {
        let RecordId { sequence_number, sub_sequence_number, .. } = *record;
        Self { progress: Progress::After { sequence_number, sub_sequence_number }, caught_up_at: None }
    }

    /// Notes that every record that arrived before this time was handled.
    pub fn with_caught_up_at(self, time: Timestamp) -> Self {
        Self { caught_up_at: Some(time), ..self }
    }

    /// Whether the shard is closed and was handled to its end.
    pub fn is_ended(&self) -> bool {
        self.progress == Progress::Ended
    }
}

/// The text of a progress, as it is stored and shown: `not-started`, `SEQ`, `SEQ.SUB` or `ended`.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotStarted => f.pad(NOT_STARTED),
            Self::Ended => f.pad(ENDED),
            Self::After { sequence_number, sub_sequence_number } => {
                write!(f, "{}", Within(sequence_number, sub_sequence_number))
            }
        }
    }
}

const NOT_STARTED: &str = "not-started";
const ENDED: &str = "ended";

/// The format that is written. A reader of another one refuses it.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    progress: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    caught_up_at: Option<i64>,
}

impl Serialize for Checkpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let caught_up_at = self.caught_up_at.map(Timestamp::as_millis);
        Stored { version: VERSION, progress: self.progress.to_string(), caught_up_at }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Checkpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Stored { version, progress, caught_up_at } = Stored::deserialize(deserializer)?;
        if version != VERSION {
            return Err(serde::de::Error::custom(format_args!(
                "a checkpoint of version {version}, which a later Triton wrote; this one reads version {VERSION}"
            )));
        }
        let progress = match progress.as_str() {
            NOT_STARTED => Progress::NotStarted,
            ENDED => Progress::Ended,
            within => {
                let Within(sequence_number, sub_sequence_number) = within.parse().map_err(serde::de::Error::custom)?;
                Progress::After { sequence_number, sub_sequence_number }
            }
        };
        Ok(Self { progress, caught_up_at: caught_up_at.map(Timestamp::from_millis) })
    }
}

/// Where a consumer stands in a stream: a checkpoint for each shard that it has begun.
///
/// A shard without a checkpoint needs none: it is an ancestor of one with a checkpoint, and was read to its end; or a
/// descendant of one, and is read from its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Checkpoints {
    /// When the stream was created, which tells it apart from another one of the same name; `None` if that is not known.
    #[serde(default, with = "millis", skip_serializing_if = "Option::is_none")]
    pub stream_created_at: Option<Timestamp>,
    /// The checkpoint of each shard.
    pub shards: BTreeMap<ShardId, Checkpoint>,
}

impl Checkpoints {
    /// Checkpoints of these shards.
    pub fn new(shards: impl IntoIterator<Item = (ShardId, Checkpoint)>) -> Self {
        Self { stream_created_at: None, shards: shards.into_iter().collect() }
    }
}

/// Times as milliseconds since 1970.
mod millis {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Timestamp};

    pub(super) fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(Timestamp::as_millis).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<i64>::deserialize(deserializer)?.map(Timestamp::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_reads_back_as_it_was_stored() {
        let inside = Checkpoint::after(&RecordId::new(ShardId::numbered(0), 4955).with_sub_sequence_number(3));
        let cases = [
            (Checkpoint::NOT_STARTED, r#"{"version":1,"progress":"not-started"}"#),
            (Checkpoint::ENDED, r#"{"version":1,"progress":"ended"}"#),
            (
                inside.with_caught_up_at(Timestamp::from_millis(5)),
                r#"{"version":1,"progress":"4955.3","caught_up_at":5}"#,
            ),
        ];
        for (checkpoint, json) in cases {
            assert_eq!(serde_json::to_string(&checkpoint).unwrap(), json);
            assert_eq!(serde_json::from_str::<Checkpoint>(json).unwrap(), checkpoint);
        }
        let later = serde_json::from_str::<Checkpoint>(r#"{"version":1,"progress":"7","more":true}"#).unwrap();
        assert_eq!(later, Checkpoint::after(&RecordId::new(ShardId::numbered(0), 7)));
    }

    #[test]
    fn a_checkpoint_of_another_version_is_refused() {
        let error = serde_json::from_str::<Checkpoint>(r#"{"version":2,"progress":"7"}"#).unwrap_err();
        assert!(error.to_string().starts_with("a checkpoint of version 2, which a later Triton wrote"), "{error}");
        assert!(serde_json::from_str::<Checkpoint>(r#"{"version":1,"progress":"soon"}"#).is_err());
    }

    #[test]
    fn the_checkpoints_of_a_stream_read_back_as_they_were_stored() {
        let mut checkpoints = Checkpoints::new([(ShardId::numbered(1), Checkpoint::ENDED)]);
        checkpoints.stream_created_at = Some(Timestamp::from_millis(9));
        let json = serde_json::to_string(&checkpoints).unwrap();
        let expected = r#"{"stream_created_at":9,"shards":{"shardId-000000000001":{"version":1,"progress":"ended"}}}"#;
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<Checkpoints>(&json).unwrap(), checkpoints);
        assert_eq!(serde_json::from_str::<Checkpoints>(r#"{"shards":{}}"#).unwrap(), Checkpoints::default());
    }
}
