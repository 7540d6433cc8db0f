//! The requests about one shard: iterators, pages, its entry in the shard list. Holds no position.

use std::time::Duration;

use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use tokio::time::Instant;
use triton_core::flow::{poll_until, random_seed};
use triton_core::{Error, Position, Result, RetryPolicy, Shard, ShardId, Timestamp};

use super::position::StartAt;
use crate::connection::Kinesis;
use crate::error::CallContext;
use crate::stream::KinesisStream;

/// Records per GetRecords: its maximum.
pub(crate) const MAX_RECORDS: usize = 10_000;
/// Ceiling of the first wait before a list that lacks the shard is read again.
const FIRST_LISTING_WAIT: Duration = Duration::from_millis(200);
/// Lists lag by seconds. One that lacks the shard for longer has another cause.
const LISTING_DEADLINE: Duration = Duration::from_secs(30);
/// Kinesis' shortest retention.
const MIN_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// One shard of a stream, as the subject of requests.
#[derive(Debug)]
pub(crate) struct ShardRequests {
    stream: KinesisStream,
    id: ShardId,
}

impl ShardRequests {
    pub(crate) fn new(stream: KinesisStream, id: ShardId) -> Self {
        Self { stream, id }
    }

    pub(crate) fn id(&self) -> &ShardId {
        &self.id
    }

    pub(crate) fn kinesis(&self) -> &Kinesis {
        self.stream.kinesis()
    }

    /// Error context of calls about this shard.
    pub(crate) fn context(&self) -> CallContext<'_> {
        self.kinesis().read_context(self.stream.stream_ref().name(), Some(&self.id))
    }

    /// A lower bound of the server's time at `instant`.
    pub(crate) fn server_time(&self, instant: Instant) -> Timestamp {
        self.stream.kinesis().clock().at(instant)
    }

    /// Whether records that arrived at this time or later are still within retention, by the shortest retention of Kinesis
    /// until the stream was described.
    pub(crate) fn retains(&self, arrival: Timestamp) -> bool {
        arrival > self.server_time(Instant::now()) - self.stream.retention().unwrap_or(MIN_RETENTION)
    }

    /// The same by the stream's own retention, unless it may not be described.
    pub(crate) async fn is_retained(&self, arrival: Timestamp) -> Result<bool> {
        self.stream.cached_description().await?;
        Ok(self.retains(arrival))
    }

    /// Gets an iterator at a position.
    pub(crate) async fn iterator(&self, position: Position) -> Result<String> {
        let (kind, number, time) = StartAt::Position(position).to_request();
        let (kinesis, context) = (self.kinesis(), self.context());
        let _permit = kinesis.call_permit().await;
        let response = kinesis
            .control_client()
            .get_shard_iterator()
            .set_stream_name(self.stream.stream_ref().stream_name())
            .set_stream_arn(self.stream.stream_ref().stream_arn())
            .shard_id(self.id.as_str())
            .shard_iterator_type(kind)
            .set_starting_sequence_number(number)
            .set_timestamp(time)
            .send()
            .await;
        match response {
            Ok(response) => response.shard_iterator.ok_or_else(|| context.empty_response()),
            Err(error) => Err(self.distinguish_not_found(context.error(error)).await),
        }
    }

    /// Gets a page of at most `max_records`.
    pub(crate) async fn fetch(&self, iterator: &str, max_records: usize) -> Result<GetRecordsOutput> {
        let (kinesis, context) = (self.kinesis(), self.context());
        let limit = i32::try_from(max_records.clamp(1, MAX_RECORDS)).unwrap_or(i32::MAX);
        let _permit = kinesis.call_permit().await;
        let response = kinesis
            .data_client()
            .get_records()
            .shard_iterator(iterator)
            .limit(limit)
            .set_stream_arn(self.stream.stream_ref().stream_arn())
            .send()
            .await;
        match response {
            Ok(page) if is_empty_body(&page) => Err(context.empty_response()),
            Ok(page) => Ok(page),
            Err(error) => Err(self.distinguish_not_found(context.error(error)).await),
        }
    }

    /// Tells a missing stream from a missing shard: Kinesis reports both as a missing shard.
    pub(crate) async fn distinguish_not_found(&self, error: Error) -> Error {
        let not_found =
            || Error::ShardNotFound { shard: self.id.clone(), stream: self.stream.stream_ref().name().into() };
        match error {
            Error::ShardNotFound { .. } => match self.stream.describe().await {
                Err(missing @ Error::StreamNotFound { .. }) => missing,
                _ => error,
            },
            // A malformed id, such as an empty one.
            Error::Invalid { .. } if self.id.number().is_none() => not_found(),
            error => error,
        }
    }

    /// Whether the shard takes no more records.
    pub(crate) async fn is_closed(&self) -> Result<bool> {
        Ok(!self.listed().await?.is_open())
    }

    /// The shard as the stream lists it. A list may be old, or lack a shard that an earlier one had: absence says nothing, so
    /// the list is read again until it has the shard.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no list has it in time.
    pub(crate) async fn listed(&self) -> Result<Shard> {
        let policy = RetryPolicy::default().with_first(FIRST_LISTING_WAIT).with_deadline(LISTING_DEADLINE);
        let listed = poll_until(policy.backoff(random_seed()), || async {
            Ok(self.stream.list_shards().await?.into_iter().find(|shard| shard.id == self.id))
        });
        listed.await?.ok_or_else(|| {
            let stream = self.stream.stream_ref().name();
            let problem = format!("{} can be read, but the shard list of stream '{stream}' lacks it", self.id);
            Error::Unavailable { problem, may_have_written: false, source: None }
        })
    }
}

/// Whether the response had an empty body, which the SDK parses as a page without records or a next iterator: the end
/// of the shard.
fn is_empty_body(page: &GetRecordsOutput) -> bool {
    page.records.is_empty()
        && page.next_shard_iterator.is_none()
        && page.millis_behind_latest.is_none()
        && page.child_shards.is_none()
}
