//! Pages by SubscribeToShard: a shard's records, pushed over a connection until the subscription ends.
//!
//! A subscription ends every five minutes, when another one of the same consumer takes over, and with its connection; it
//! is followed by another one, after what came last. Nothing is read from it while nobody asks for a page, so that the
//! server notices a reader that is slow.

use std::error::Error as StdError;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
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
use triton_core::{Error, Position, Result, Timestamp};

use super::position::Start;
use super::record::records_of;
use super::shard::KinesisShard;
use super::source::{Next, Page, Source};
use crate::connection::Kinesis;

/// The waits before another try where a subscription is refused because there was one: from the first, doubling, to the
/// longest, each shortened by up to half. Kinesis refuses for five seconds.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Refused for so long, it is for another reason: the stream or the consumer is being changed, say.
const PATIENCE: Duration = Duration::from_secs(20);

type Events = EventReceiver<SubscribeToShardEventStream, SubscribeToShardEventStreamError>;
type Subscribed = std::result::Result<SubscribeToShardOutput, SdkError<SubscribeToShardError>>;
/// A future that is kept, so that dropping whoever waits for it does not drop what it has done.
type Kept<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A consumer's subscriptions to a shard, one after the other.
pub(crate) struct Subscription {
    /// With a connection of its own: Kinesis allows few streams on one, and one that is not read holds up the others.
    client: Client,
    kinesis: Kinesis,
    consumer_arn: String,
    /// A subscription that says nothing for so long is taken for lost.
    idle_timeout: Duration,
    start: Start,
    /// Where it goes on by itself: what is to come arrived at this time or later.
    resumed_since: Option<Timestamp>,
    state: State,
    /// When the request for the subscription was sent.
    since: Instant,
    /// What has come, until it is handed out.
    event: Option<SubscribeToShardEvent>,
    progress: Option<Progress>,
    refused: Option<Refused>,
}

enum State {
    /// There is none.
    Over,
    Asking(Kept<Subscribed>),
    /// Nothing is read before the future is polled.
    Receiving(Kept<(Box<Events>, Received)>),
}

/// What came of waiting for an event.
enum Received {
    Event(SubscribeToShardEvent),
    /// An event of a kind that is not known here.
    Other,
    Ended,
    Silence,
    /// An error that Kinesis says in the stream.
    Said {
        code: String,
        message: String,
    },
    /// The connection is lost, or what comes over it makes no sense.
    BrokenOff(Box<dyn StdError + Send + Sync>),
}

/// How far the last event came.
#[derive(Debug)]
struct Progress {
    continuation: String,
    /// What comes after it arrived at this time or later.
    next_since: Timestamp,
}

/// A new subscription is refused because there was one before.
#[derive(Clone, Copy, Debug)]
struct Refused {
    first: Instant,
    wait: Duration,
    next: Instant,
}

impl Subscription {
    pub(crate) fn new(kinesis: Kinesis, consumer_arn: String) -> Self {
        Self {
            client: kinesis.subscriber(),
            idle_timeout: kinesis.idle_timeout(),
            kinesis,
            consumer_arn,
            start: Start::At(Position::Latest),
            resumed_since: None,
            state: State::Over,
            since: Instant::now(),
            event: None,
            progress: None,
            refused: None,
        }
    }

    fn ask(&mut self, shard: &KinesisShard) -> Kept<Subscribed> {
        let (kind, number, time) = self.start.in_words();
        let request = self.client.subscribe_to_shard().consumer_arn(&self.consumer_arn).shard_id(shard.id().as_str());
        let kinesis = self.kinesis.clone();
        self.since = Instant::now();
        Box::pin(async move {
            let position = StartingPosition::builder().r#type(kind).set_sequence_number(number).set_timestamp(time);
            let request = request.starting_position(position.build().map_err(SdkError::construction_failure)?);
            // For the call alone: a subscription lives for minutes.
            let _permit = kinesis.permit().await;
            request.send().await
        })
    }

    /// Will wait for the next event.
    fn receive(&self, mut events: Box<Events>) -> State {
        let idle_timeout = self.idle_timeout;
        State::Receiving(Box::pin(async move {
            let received = match timeout(idle_timeout, events.recv()).await {
                Ok(Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event)))) => Received::Event(event),
                Ok(Ok(Some(_))) => Received::Other,
                Ok(Ok(None)) => Received::Ended,
                Ok(Err(SdkError::ServiceError(service))) => Received::Said {
                    code: code_of(service.err()).to_owned(),
                    message: service.err().message().unwrap_or("no reason").to_owned(),
                },
                Ok(Err(error)) => Received::BrokenOff(error.into()),
                Err(_) => Received::Silence,
            };
            (events, received)
        }))
    }

    /// The server refuses because there was a subscription a moment ago: the time to ask again at, or an error where that
    /// has been going on for too long.
    fn wait_after(&mut self, shard: &KinesisShard, message: &str) -> Result<()> {
        let now = Instant::now();
        let refused = match self.refused.take() {
            Some(refused) if now.duration_since(refused.first) > PATIENCE => {
                return Err(shard.context().refused("ResourceInUseException", message));
            }
            Some(refused) => Refused { wait: (refused.wait * 2).min(LONGEST_WAIT), ..refused },
            None => Refused { first: now, wait: FIRST_WAIT, next: now },
        };
        self.refused = Some(Refused { next: now + shortened(refused.wait), ..refused });
        Ok(())
    }

    fn page(&mut self, shard: &KinesisShard) -> Result<Option<Page>> {
        let Some(event) = self.event.take() else { return Ok(None) };
        let records = records_of(shard.id(), event.records)?;
        let millis_behind = u64::try_from(event.millis_behind_latest).unwrap_or(0);
        let is_last = event.continuation_sequence_number.is_empty();
        self.progress = Some(Progress {
            continuation: event.continuation_sequence_number,
            next_since: shard.server_time(self.since) - Duration::from_millis(millis_behind),
        });
        Ok(Some(Page { records, millis_behind: Some(millis_behind), is_last, since: self.since }))
    }

    fn over(&mut self, error: Error) -> Next {
        (self.state, self.event) = (State::Over, None);
        Next::Over(error)
    }

    /// What an error in the stream means.
    fn said(shard: &KinesisShard, code: &str, message: &str) -> Error {
        match code {
            "ResourceInUseException" => {
                tracing::warn!(
                    "{}: another subscription of the same consumer has taken over; two readers of one consumer take \
                     the shard from each other",
                    shard.id()
                );
                ended(shard, "was taken over by another one")
            }
            // What is not there any more shows when it subscribes again.
            "ResourceNotFoundException" => ended(shard, message),
            _ => shard.context().refused(code, message),
        }
    }
}

#[async_trait]
impl Source for Subscription {
    fn start(&mut self, position: Position) {
        (self.start, self.resumed_since) = (Start::At(position), None);
        (self.state, self.event, self.progress) = (State::Over, None, None);
    }

    fn resume(&mut self, shard: &KinesisShard) -> bool {
        match self.progress.take() {
            // What comes next is younger than retention: none of it was lost meanwhile.
            Some(progress) if shard.keeps(progress.next_since) => {
                (self.start, self.state) = (Start::After(progress.continuation), State::Over);
                self.resumed_since = Some(progress.next_since);
                true
            }
            _ => false,
        }
    }

    async fn is_ready(&mut self, shard: &KinesisShard, until: Instant) -> Result<bool> {
        loop {
            match &mut self.state {
                State::Receiving(_) => return Ok(true),
                State::Over => {
                    // It may have been asking in vain for longer than records are kept.
                    if self.resumed_since.is_some_and(|since| !shard.keeps(since)) {
                        return Err(Error::Invalid { problem: "the continuation is past retention".into() });
                    }
                    if let Some(refused) = self.refused {
                        sleep_until(refused.next.min(until)).await;
                        if refused.next > until {
                            return Ok(false);
                        }
                    }
                    self.state = State::Asking(self.ask(shard));
                }
                State::Asking(asking) => {
                    let Ok(answer) = timeout_at(until, asking).await else { return Ok(false) };
                    // Where it was not granted, it is to be asked for again.
                    self.state = State::Over;
                    match answer {
                        Ok(subscribed) => {
                            self.state = self.receive(Box::new(subscribed.event_stream));
                            self.refused = None;
                        }
                        Err(error) if error.code() == Some("ResourceInUseException") => {
                            self.wait_after(shard, error.message().unwrap_or_default())?;
                        }
                        Err(error) => {
                            let error = shard.context().error(error);
                            return Err(shard.told_apart(error).await);
                        }
                    }
                }
            }
        }
    }

    async fn next(&mut self, shard: &KinesisShard, _: usize, until: Instant) -> Result<Next> {
        while self.event.is_none() {
            let State::Receiving(receiving) = &mut self.state else { return Ok(self.over(ended(shard, "is over"))) };
            let Ok((events, received)) = timeout_at(until, receiving).await else { return Ok(Next::Nothing) };
            // Nothing is awaited before what was received is kept.
            let error = match received {
                Received::Event(event) => {
                    (self.state, self.event) = (self.receive(events), Some(event));
                    continue;
                }
                Received::Other => {
                    self.state = self.receive(events);
                    continue;
                }
                Received::Ended => ended(shard, "has ended"),
                Received::Silence => ended(shard, "has gone silent"),
                Received::Said { code, message } => Self::said(shard, &code, &message),
                Received::BrokenOff(error) => shard.context().lost(&*error),
            };
            return Ok(self.over(error));
        }
        if self.event.as_ref().is_some_and(looks_bare) && !shard.is_closed().await? {
            return Ok(self.over(ended(shard, "has sent an event that says nothing")));
        }
        Ok(self.page(shard)?.map_or(Next::Nothing, Next::Page))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.kinesis.give_back(self.client.clone());
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

/// The SDK keeps the kind of an error in a stream, and not its code.
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
        // What nobody knows may pass.
        other => other.code().unwrap_or("InternalFailureException"),
    }
}

/// A shard's last event has no continuation, and names the shard's children. One that says nothing at all is no such
/// event, although the SDK makes one of it.
fn looks_bare(event: &SubscribeToShardEvent) -> bool {
    event.continuation_sequence_number.is_empty() && event.child_shards().is_empty()
}

/// That a subscription is over, which the next one makes up for.
fn ended(shard: &KinesisShard, how: &str) -> Error {
    let problem = format!("the subscription to {} {how}", shard.id());
    Error::Unavailable { problem, may_have_written: false, source: None }
}

/// Half of a wait to all of it, at random: what was refused together should not ask again together.
fn shortened(wait: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1_000;
    wait.mul_f64(0.5 + random as f64 / 2_000.0)
}
