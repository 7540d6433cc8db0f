//! Pages by SubscribeToShard: a shard's records, pushed over a connection until the subscription ends.
//!
//! A subscription ends after five minutes, when another subscription of the same consumer takes over, and when its
//! connection is lost. Then the next one continues after the last event. Events are read only when a page is wanted, so
//! that a slow reader slows down the server.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_kinesis::operation::subscribe_to_shard::{SubscribeToShardError, SubscribeToShardOutput};
use aws_sdk_kinesis::primitives::event_stream::EventReceiver;
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError;
use aws_sdk_kinesis::types::{StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use triton_core::flow::{Backoff, random_seed};
use triton_core::{Error, Position, Result, RetryPolicy, SequenceNumber, Timestamp};

use super::position::StartAt;
use super::record::to_records;
use super::shard::ShardRequests;
use super::source::{NextPage, Page, PageSource};
use crate::connection::Kinesis;
use crate::shard_list::to_children;

/// The ceilings of the waits before a refused subscription is requested again. Kinesis refuses a new one for five
/// seconds after the one before.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A refusal that lasts longer has another cause, such as a stream or a consumer that is being changed.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(20);

type Events = EventReceiver<SubscribeToShardEventStream, SubscribeToShardEventStreamError>;
type Subscribed = std::result::Result<SubscribeToShardOutput, SdkError<SubscribeToShardError>>;
/// A future that outlives the call that polls it, so that dropping the call loses nothing.
type BoxedFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A consumer's subscriptions to a shard, one after the other.
pub(crate) struct Subscription {
    /// On a connection of its own.
    client: Client,
    kinesis: Kinesis,
    consumer_arn: String,
    /// Time without an event after which a subscription counts as lost.
    idle_timeout: Duration,
    start: StartAt,
    /// Set when it continues by itself: the next records arrived at this time or later.
    resumed_since: Option<Timestamp>,
    state: State,
    /// When the request for the subscription was sent.
    requested_at: Instant,
    /// The event that was received and not returned yet.
    event: Option<SubscribeToShardEvent>,
    progress: Option<Progress>,
    refusal: Option<Refusal>,
}

enum State {
    /// There is no subscription.
    Idle,
    Subscribing(BoxedFuture<Subscribed>),
    /// Reads an event only when polled.
    Receiving(BoxedFuture<(Box<Events>, Received)>),
}

/// The outcome of waiting for an event.
enum Received {
    Event(SubscribeToShardEvent),
    /// An event of a type that the SDK does not know.
    UnknownEvent,
    Ended,
    IdleTimeout,
    /// An error that Kinesis sent as an event.
    ErrorEvent {
        code: String,
        message: String,
    },
    /// The connection was lost, or an event could not be parsed.
    ConnectionLost(Box<dyn StdError + Send + Sync>),
}

/// The end of the last event returned.
#[derive(Debug)]
struct Progress {
    continuation: String,
    /// Records after it arrived at this time or later.
    next_since: Timestamp,
}

/// New subscriptions are being refused because of an earlier one.
#[derive(Debug)]
struct Refusal {
    since: Instant,
    /// When the subscription is requested again.
    retry_at: Instant,
    backoff: Backoff,
}

impl Subscription {
    pub(crate) fn new(kinesis: Kinesis, consumer_arn: String) -> Self {
        Self {
            client: kinesis.subscription_client(),
            idle_timeout: kinesis.idle_timeout(),
            kinesis,
            consumer_arn,
            start: StartAt::Position(Position::Latest),
            resumed_since: None,
            state: State::Idle,
            requested_at: Instant::now(),
            event: None,
            progress: None,
            refusal: None,
        }
    }

    fn subscribe(&mut self, shard: &ShardRequests) -> BoxedFuture<Subscribed> {
        let (kind, number, time) = self.start.to_request();
        let request = self.client.subscribe_to_shard().consumer_arn(&self.consumer_arn).shard_id(shard.id().as_str());
        let kinesis = self.kinesis.clone();
        self.requested_at = Instant::now();
        Box::pin(async move {
            let position = StartingPosition::builder().r#type(kind).set_sequence_number(number).set_timestamp(time);
            let request = request.starting_position(position.build().map_err(SdkError::construction_failure)?);
            // Held for the call only: a subscription lives for minutes.
            let _permit = kinesis.call_permit().await;
            request.send().await
        })
    }

    /// The state that waits for the next event.
    fn receive(&self, mut events: Box<Events>) -> State {
        let idle_timeout = self.idle_timeout;
        State::Receiving(Box::pin(async move {
            let received = match timeout(idle_timeout, events.recv()).await {
                Ok(Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event)))) => Received::Event(event),
                Ok(Ok(Some(_))) => Received::UnknownEvent,
                Ok(Ok(None)) => Received::Ended,
                Ok(Err(SdkError::ServiceError(service))) => Received::ErrorEvent {
                    code: code_of(service.err()).to_owned(),
                    message: service.err().message().unwrap_or("no reason").to_owned(),
                },
                Ok(Err(error)) => Received::ConnectionLost(error.into()),
                Err(_) => Received::IdleTimeout,
            };
            (events, received)
        }))
    }

    /// Sets the time of the next request after one that was refused because of an earlier subscription.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if requests have been refused for too long.
    fn schedule_retry(&mut self, shard: &ShardRequests, message: &str) -> Result<()> {
        let now = Instant::now();
        let policy = RetryPolicy::default().with_first(FIRST_WAIT).with_longest(LONGEST_WAIT);
        let refused_since_now = || Refusal { since: now, retry_at: now, backoff: policy.backoff(random_seed()) };
        let mut refusal = self.refusal.take().unwrap_or_else(refused_since_now);
        if now.duration_since(refusal.since) > REFUSAL_DEADLINE {
            return Err(shard.context().code_error("ResourceInUseException", message));
        }
        refusal.retry_at = now + refusal.backoff.next_wait();
        self.refusal = Some(refusal);
        Ok(())
    }

    fn page(&mut self, shard: &ShardRequests) -> Result<Option<Page>> {
        let Some(event) = self.event.take() else { return Ok(None) };
        let children = to_children(event.child_shards());
        let records = to_records(shard.id(), event.records)?;
        let millis_behind = u64::try_from(event.millis_behind_latest).unwrap_or(0);
        let is_last = event.continuation_sequence_number.is_empty();
        self.progress = Some(Progress {
            continuation: event.continuation_sequence_number,
            next_since: shard.server_time(self.requested_at) - Duration::from_millis(millis_behind),
        });
        let millis_behind = Some(millis_behind);
        Ok(Some(Page { records, millis_behind, is_last, children, requested_at: self.requested_at }))
    }

    fn lapsed(&mut self, error: Error) -> NextPage {
        (self.state, self.event) = (State::Idle, None);
        NextPage::Lapsed(error)
    }

    /// Maps an error event.
    fn event_error(shard: &ShardRequests, code: &str, message: &str) -> Error {
        match code {
            "ResourceInUseException" => {
                tracing::warn!(
                    "{}: another subscription of the same consumer has taken over; two readers of one consumer cannot \
                     share a shard",
                    shard.id()
                );
                subscription_ended(shard, "was replaced by another one")
            }
            // The next request tells whether the stream, the shard or the consumer is missing.
            "ResourceNotFoundException" => subscription_ended(shard, message),
            _ => shard.context().code_error(code, message),
        }
    }
}

#[async_trait]
impl PageSource for Subscription {
    fn start(&mut self, position: Position) {
        (self.start, self.resumed_since) = (StartAt::Position(position), None);
        (self.state, self.event, self.progress) = (State::Idle, None, None);
    }

    fn resume(&mut self, shard: &ShardRequests) -> bool {
        match self.progress.take() {
            // The next records are within retention: none was lost meanwhile.
            Some(progress) if shard.retains(progress.next_since) => {
                (self.start, self.state) = (StartAt::After(progress.continuation), State::Idle);
                self.resumed_since = Some(progress.next_since);
                true
            }
            _ => false,
        }
    }

    fn continuation(&self) -> Option<SequenceNumber> {
        self.progress.as_ref()?.continuation.parse().ok()
    }

    async fn is_ready(&mut self, shard: &ShardRequests, until: Instant) -> Result<bool> {
        loop {
            match &mut self.state {
                State::Receiving(_) => return Ok(true),
                State::Idle => {
                    // Requests may have failed for longer than retention.
                    if self.resumed_since.is_some_and(|since| !shard.retains(since)) {
                        return Err(Error::Invalid { problem: "the continuation is past retention".into() });
                    }
                    if let Some(refusal) = &self.refusal {
                        let retry_at = refusal.retry_at;
                        sleep_until(retry_at.min(until)).await;
                        if retry_at > until {
                            return Ok(false);
                        }
                    }
                    self.state = State::Subscribing(self.subscribe(shard));
                }
                State::Subscribing(subscribing) => {
                    let Ok(response) = timeout_at(until, subscribing).await else { return Ok(false) };
                    // A failed request is sent again.
                    self.state = State::Idle;
                    match response {
                        Ok(subscribed) => {
                            self.state = self.receive(Box::new(subscribed.event_stream));
                            self.refusal = None;
                        }
                        Err(error) if error.code() == Some("ResourceInUseException") => {
                            self.schedule_retry(shard, error.message().unwrap_or_default())?;
                        }
                        Err(error) => {
                            let error = shard.context().error(error);
                            return Err(shard.distinguish_not_found(error).await);
                        }
                    }
                }
            }
        }
    }

    async fn next(&mut self, shard: &ShardRequests, _: usize, until: Instant) -> Result<NextPage> {
        while self.event.is_none() {
            let State::Receiving(receiving) = &mut self.state else {
                return Ok(self.lapsed(subscription_ended(shard, "is over")));
            };
            let Ok((events, received)) = timeout_at(until, receiving).await else { return Ok(NextPage::Pending) };
            // No await between receiving an event and storing it.
            let error = match received {
                Received::Event(event) => {
                    (self.state, self.event) = (self.receive(events), Some(event));
                    continue;
                }
                Received::UnknownEvent => {
                    self.state = self.receive(events);
                    continue;
                }
                Received::Ended => subscription_ended(shard, "has ended"),
                Received::IdleTimeout => subscription_ended(shard, "sent no event in time"),
                Received::ErrorEvent { code, message } => Self::event_error(shard, &code, &message),
                Received::ConnectionLost(error) => shard.context().connection_lost(&*error),
            };
            return Ok(self.lapsed(error));
        }
        if self.event.as_ref().is_some_and(is_bare) && !shard.is_closed().await? {
            return Ok(self.lapsed(subscription_ended(shard, "sent an empty event")));
        }
        Ok(self.page(shard)?.map_or(NextPage::Pending, NextPage::Page))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.kinesis.recycle(self.client.clone());
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("consumer", &self.consumer_arn)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

/// The code of an error event, of which the SDK keeps only the type.
fn code_of(error: &SubscribeToShardEventStreamError) -> &str {
    use SubscribeToShardEventStreamError as Kind;
    match error {
        Kind::ResourceNotFoundException(_) => "ResourceNotFoundException",
        Kind::ResourceInUseException(_) => "ResourceInUseException",
        Kind::KmsDisabledException(_) => "KMSDisabledException",
        Kind::KmsInvalidStateException(_) => "KMSInvalidStateException",
        Kind::KmsAccessDeniedException(_) => "KMSAccessDeniedException",
        Kind::KmsNotFoundException(_) => "KMSNotFoundException",
        Kind::KmsOptInRequired(_) => "KMSOptInRequired",
        Kind::KmsThrottlingException(_) => "KMSThrottlingException",
        Kind::InternalFailureException(_) => "InternalFailureException",
        // An unknown error may be transient.
        other => other.code().unwrap_or("InternalFailureException"),
    }
}

/// Whether an event has neither a continuation nor child shards. A shard's last event names the children, so this one
/// is an empty message that the SDK has parsed as an event.
fn is_bare(event: &SubscribeToShardEvent) -> bool {
    event.continuation_sequence_number.is_empty() && event.child_shards().is_empty()
}

/// The subscription has ended; the next one continues it.
fn subscription_ended(shard: &ShardRequests, how: &str) -> Error {
    let problem = format!("the subscription to {} {how}", shard.id());
    Error::Unavailable { problem, may_have_written: false, source: None }
}
