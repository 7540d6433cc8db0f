//! The description of a stream, by DescribeStreamSummary, and the limits that follow from it. Caches nothing.

use std::time::Duration;

use aws_sdk_kinesis::types::{RecordDistributionStrategy, StreamDescriptionSummary, StreamMode};
use triton_core::{Limits, Result, Timestamp};

use crate::clock::to_timestamp;
use crate::connection::Kinesis;
use crate::stream_ref::StreamRef;

/// A stream as it was at one moment, from one DescribeStreamSummary (Kinesis allows 20 a second per account).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamDescription {
    /// The stream's ARN.
    pub arn: String,
    /// `CREATING`, `ACTIVE`, `UPDATING` or `DELETING`.
    pub status: String,
    /// Whether Kinesis chooses the number of shards.
    pub is_on_demand: bool,
    /// Whether Kinesis chooses the shard of each record (record distribution strategy AUTO): partition keys then choose
    /// no shard, and records of one key have no order.
    pub distributes_records: bool,
    /// When the stream was created: distinguishes it from an earlier stream of the same name.
    pub created_at: Timestamp,
    /// Number of open shards.
    pub open_shards: usize,
    /// How long records are kept.
    pub retention: Duration,
    /// Largest record in bytes, key included: 1 to 10 MiB.
    pub max_record_bytes: usize,
}

impl StreamDescription {
    pub(crate) async fn read(kinesis: &Kinesis, stream_ref: &StreamRef) -> Result<Self> {
        let response = kinesis
            .control_client()
            .describe_stream_summary()
            .set_stream_name(stream_ref.stream_name())
            .set_stream_arn(stream_ref.stream_arn())
            .send()
            .await
            .map_err(|error| kinesis.read_context(stream_ref.name(), None).error(error))?;
        match response.stream_description_summary {
            Some(summary) => Ok(Self::from(&summary)),
            None => Err(kinesis.read_context(stream_ref.name(), None).empty_response()),
        }
    }

    /// Whether the stream is ready: not being created, changed or deleted.
    pub fn is_active(&self) -> bool {
        self.status == "ACTIVE"
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits::KINESIS.with_max_record_bytes(self.max_record_bytes).with_key_routed(!self.distributes_records)
    }
}

impl From<&StreamDescriptionSummary> for StreamDescription {
    fn from(summary: &StreamDescriptionSummary) -> Self {
        let positive = |number: i32| usize::try_from(number).ok().filter(|number| *number > 0);
        let mode = summary.stream_mode_details().map(|details| details.stream_mode());
        Self {
            arn: summary.stream_arn().to_owned(),
            status: summary.stream_status().as_str().to_owned(),
            is_on_demand: mode == Some(&StreamMode::OnDemand),
            distributes_records: summary.record_distribution_strategy() == Some(&RecordDistributionStrategy::Auto),
            created_at: to_timestamp(*summary.stream_creation_timestamp()),
            open_shards: positive(summary.open_shard_count()).unwrap_or(0),
            retention: Duration::from_secs(60 * 60 * positive(summary.retention_period_hours()).unwrap_or(24) as u64),
            max_record_bytes: match summary.max_record_size_in_kib().and_then(positive) {
                Some(kib) => kib << 10,
                None => Limits::KINESIS.max_record_bytes,
            },
        }
    }
}
