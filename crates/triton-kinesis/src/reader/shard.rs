//! What is asked of one shard: iterators, pages, and what retention has left of it.

use std::time::Duration;

use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use tokio::time::{Instant, sleep};
use triton_core::{Error, Position, Result, SequenceNumber, ShardId, Timestamp};

use super::position::StartAt;
use crate::connection::Kinesis;
use crate::error::{CallContext, contract_violation};
use crate::stream::KinesisStream;

/// GetRecords gives no more at once.
const MAX_RECORDS: usize = 10_000;
/// A shard takes five GetRecords a second.
const BETWEEN_FETCHES: Duration = Duration::from_millis(200);
/// So many empty pages the oldest record is looked for in: about five seconds.
const OLDEST_PAGES: usize = 25;
/// What every stream keeps at least.
const LEAST_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// One shard of a stream.
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

    /// For the errors of calls about this shard.
    pub(crate) fn context(&self) -> CallContext<'_> {
        self.kinesis().read_context(self.stream.stream_ref().name(), Some(&self.id))
    }

    /// The server's time, never later than it was.
    pub(crate) fn server_time(&self, instant: Instant) -> Timestamp {
        self.stream.kinesis().clock().at(instant)
    }

    /// Whether what arrived at this time, and later, is kept.
    pub(crate) fn retains(&self, arrival: Timestamp) -> bool {
        arrival > self.server_time(Instant::now()) - self.stream.retention().unwrap_or(LEAST_RETENTION)
    }

    pub(crate) fn contract_violation(&self, problem: &str) -> Error {
        contract_violation(&format!("{}: {problem}", self.id))
    }

    /// An iterator for a position.
    pub(crate) async fn iterator(&self, position: Position) -> Result<String> {
        let (kind, number, time) = StartAt::Position(position).to_request();
        let (kinesis, context) = (self.kinesis(), self.context());
        let _permit = kinesis.call_permit().await;
        let answer = kinesis
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
        match answer {
            Ok(answer) => answer.shard_iterator.ok_or_else(|| context.empty_response()),
            Err(error) => Err(self.distinguish_not_found(context.error(error)).await),
        }
    }

    /// A page of at most so many records.
    pub(crate) async fn fetch(&self, iterator: &str, max_records: usize) -> Result<GetRecordsOutput> {
        let (kinesis, context) = (self.kinesis(), self.context());
        let limit = i32::try_from(max_records.clamp(1, MAX_RECORDS)).unwrap_or(i32::MAX);
        let _permit = kinesis.call_permit().await;
        let answer = kinesis
            .data_client()
            .get_records()
            .shard_iterator(iterator)
            .limit(limit)
            .set_stream_arn(self.stream.stream_ref().stream_arn())
            .send()
            .await;
        match answer {
            Ok(page) if is_empty_body(&page) => Err(context.empty_response()),
            Ok(page) => Ok(page),
            Err(error) => Err(self.distinguish_not_found(context.error(error)).await),
        }
    }

    /// Kinesis says of a missing stream, too, that its shard does not exist.
    pub(crate) async fn distinguish_not_found(&self, error: Error) -> Error {
        let not_found =
            || Error::ShardNotFound { shard: self.id.clone(), stream: self.stream.stream_ref().name().into() };
        match error {
            Error::ShardNotFound { .. } => match self.stream.describe().await {
                Err(missing @ Error::StreamNotFound { .. }) => missing,
                _ => error,
            },
            // An id that is not even one, such as an empty one.
            Error::Invalid { .. } if self.id.number().is_none() => not_found(),
            error => error,
        }
    }

    /// Whether no record is to come any more but those that are there.
    pub(crate) async fn is_closed(&self) -> Result<bool> {
        Ok(self.stream.list_shards().await?.iter().any(|shard| shard.id == self.id && !shard.is_open()))
    }

    /// Whether retention has passed a sequence number: no record of it or before it is kept, and the shard did not start
    /// after it.
    pub(crate) async fn is_past_retention(&self, position: SequenceNumber) -> Result<bool> {
        match self.oldest_record().await? {
            OldestRecord::Record(oldest) if oldest <= position => return Ok(false),
            OldestRecord::Record(_) | OldestRecord::None => {}
            OldestRecord::Unknown => {
                tracing::warn!(
                    "{}: its oldest record is not found among empty pages, so that nobody knows whether records after \
                     {position} were lost",
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
        for _ in 0..OLDEST_PAGES {
            let page = self.fetch(&iterator, 1).await?;
            if let Some(record) = page.records.first() {
                let number = record.sequence_number.parse();
                return number
                    .map(OldestRecord::Record)
                    .map_err(|_| self.contract_violation("a record has a sequence number that is none"));
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

/// The oldest record that a shard keeps.
enum OldestRecord {
    Record(SequenceNumber),
    None,
    /// There were only empty pages so far.
    Unknown,
}

/// An empty body, which the SDK takes for a page without records and without a next one: the end of the shard.
fn is_empty_body(page: &GetRecordsOutput) -> bool {
    page.records.is_empty()
        && page.next_shard_iterator.is_none()
        && page.millis_behind_latest.is_none()
        && page.child_shards.is_none()
}
