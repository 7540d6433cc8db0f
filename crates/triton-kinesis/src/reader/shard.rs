//! The requests about one shard: iterators, pages, and whether retention has passed a position. Holds no position.

use std::time::Duration;

use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use tokio::time::{Instant, sleep};
use triton_core::{Error, Position, Result, SequenceNumber, ShardId, Timestamp};

use super::position::StartAt;
use crate::connection::Kinesis;
use crate::error::{CallContext, contract_violation};
use crate::stream::KinesisStream;

/// Records per GetRecords: its maximum.
const MAX_RECORDS: usize = 10_000;
/// Kinesis allows five GetRecords a second per shard.
const BETWEEN_FETCHES: Duration = Duration::from_millis(200);
/// Empty pages after which the search for the oldest record gives up: about five seconds.
const MAX_EMPTY_PAGES: usize = 25;
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

    /// Whether records that arrived at this time or later are still within retention.
    pub(crate) fn retains(&self, arrival: Timestamp) -> bool {
        arrival > self.server_time(Instant::now()) - self.stream.retention().unwrap_or(MIN_RETENTION)
    }

    pub(crate) fn contract_violation(&self, problem: &str) -> Error {
        contract_violation(&format!("{}: {problem}", self.id))
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
        Ok(self.stream.list_shards().await?.iter().any(|shard| shard.id == self.id && !shard.is_open()))
    }

    /// Whether retention has removed the record of a sequence number: the oldest record kept is after it, and the
    /// number is within the shard's range.
    pub(crate) async fn is_past_retention(&self, position: SequenceNumber) -> Result<bool> {
        match self.oldest_record().await? {
            OldestRecord::Record(oldest) if oldest <= position => return Ok(false),
            OldestRecord::Record(_) | OldestRecord::None => {}
            OldestRecord::Unknown => {
                tracing::warn!(
                    "{}: its oldest record was not found within {MAX_EMPTY_PAGES} empty pages, so records after \
                     {position} may have been lost",
                    self.id
                );
                return Ok(false);
            }
        }
        let shards = self.stream.list_shards().await?;
        let is_inside = |shard: &triton_core::Shard| {
            let ends_before = shard.last_sequence_number.is_some_and(|last| position > last);
            shard.id == self.id && position > shard.first_sequence_number && !ends_before
        };
        Ok(shards.iter().any(is_inside))
    }

    async fn oldest_record(&self) -> Result<OldestRecord> {
        let mut iterator = self.iterator(Position::TrimHorizon).await?;
        for _ in 0..MAX_EMPTY_PAGES {
            let page = self.fetch(&iterator, 1).await?;
            if let Some(record) = page.records.first() {
                let number = record.sequence_number.parse();
                return number
                    .map(OldestRecord::Record)
                    .map_err(|_| self.contract_violation("a record has an invalid sequence number"));
            }
            match page.next_shard_iterator {
                Some(next) if page.millis_behind_latest != Some(0) => iterator = next,
                _ => return Ok(OldestRecord::None),
            }
            sleep(BETWEEN_FETCHES).await;
        }
        Ok(OldestRecord::Unknown)
    }
}

/// The oldest record that retention has left.
enum OldestRecord {
    Record(SequenceNumber),
    None,
    /// All pages so far were empty.
    Unknown,
}

/// Whether the response had an empty body, which the SDK parses as a page without records or a next iterator: the end
/// of the shard.
fn is_empty_body(page: &GetRecordsOutput) -> bool {
    page.records.is_empty()
        && page.next_shard_iterator.is_none()
        && page.millis_behind_latest.is_none()
        && page.child_shards.is_none()
}
