//! SubscribeToShard as AWS does it, over the same pages as GetRecords: ferrokinesis knows neither the five seconds
//! between subscriptions nor `MillisBehindLatest`, and does not end a closed shard.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use bytes::Bytes;
use ferrokinesis::actions::Operation;
use ferrokinesis::event_stream::{encode_exception, encode_initial_response, encode_subscribe_event};
use ferrokinesis::types::ConsumerStatus;
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Shim;
use super::end::CHILD_SHARDS;
use super::position::{self, Iterator};
use super::read::empty_page;
use crate::ServerOptions;
use crate::fault::{Fault, PastRetention};
use crate::inner::Inner;
use crate::wire::{Answer, entries, now_ms};

/// How often a subscription looks for records.
const LOOK: Duration = Duration::from_millis(10);
/// How often to check for a closed or trimmed shard, which is slower. Multiplied by the number of subscriptions.
const LONG_LOOK: Duration = Duration::from_millis(5);
/// How long a silent subscription stays open.
const SILENCE: Duration = Duration::from_secs(5 * 60);
/// The most records of an event.
const RECORDS: usize = 10_000;

/// The latest subscription of each consumer and shard.
pub(super) struct Subscriptions {
    latest: Mutex<HashMap<(String, String), Started>>,
    /// The time after a subscription in which a new one is rejected.
    interval: Duration,
    lifetime: Duration,
    heartbeat: Duration,
}

#[derive(Clone, Copy)]
struct Started {
    number: u64,
    at: Instant,
}

/// A subscription that was granted.
pub(crate) struct Subscription {
    consumer: String,
    stream: String,
    shard: String,
    started: Started,
    next: Iterator,
    /// The number of records and the time of the last check that found no more.
    looked: Option<(usize, Instant)>,
    continuation: Value,
}

/// The next event of a subscription.
enum Next {
    Event { event: Value, is_last: bool },
    Nothing,
}

impl Subscriptions {
    pub(super) fn new(options: &ServerOptions) -> Self {
        Self {
            latest: Mutex::default(),
            interval: options.subscription_interval,
            lifetime: options.subscription_lifetime,
            heartbeat: options.heartbeat,
        }
    }

    /// Grants a subscription, which replaces the one before, unless that is younger than the interval.
    fn start(&self, consumer: &str, shard: &str) -> Result<Started, Answer> {
        let mut latest = self.latest();
        let key = (consumer.to_owned(), shard.to_owned());
        let before = latest.get(&key).copied();
        if before.is_some_and(|before| before.at.elapsed() < self.interval) {
            return Err(Answer::refusal(
                "ResourceInUseException",
                format_args!("Another active subscription exists for this consumer: {consumer} on {shard}"),
            ));
        }
        let started = Started { number: before.map_or(0, |before| before.number + 1), at: Instant::now() };
        latest.insert(key, started);
        Ok(started)
    }

    fn count(&self) -> u32 {
        u32::try_from(self.latest().len()).unwrap_or(u32::MAX)
    }

    fn was_taken_over(&self, subscription: &Subscription) -> bool {
        let key = (subscription.consumer.clone(), subscription.shard.clone());
        self.latest().get(&key).is_some_and(|latest| latest.number != subscription.started.number)
    }

    fn latest(&self) -> MutexGuard<'_, HashMap<(String, String), Started>> {
        // No change is left half done by a panic.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shim {
    /// Handles SubscribeToShard.
    pub(crate) async fn subscribe(&self, body: &Value) -> Result<Subscription, Answer> {
        Inner::validate(Operation::SubscribeToShard, body)?;
        let consumer = body["ConsumerARN"].as_str().unwrap_or_default().to_owned();
        let shard = body["ShardId"].as_str().unwrap_or_default().to_owned();
        let not_found = || Answer::refusal("ResourceNotFoundException", format_args!("Consumer {consumer} not found."));
        let found = self.inner.store.get_consumer(&consumer).await.ok_or_else(not_found)?;
        let status = self.consumers.status(&consumer, found.consumer_status);
        if status != ConsumerStatus::Active {
            return Err(Answer::refusal(
                "ResourceInUseException",
                format_args!("Consumer {consumer} is not ACTIVE, instead in state {status}"),
            ));
        }
        let of_stream =
            consumer.split_once("/consumer/").map(|(arn, _)| arn).and_then(|arn| arn.split_once(":stream/"));
        let stream = of_stream.map(|(_, name)| name.to_owned()).ok_or_else(not_found)?;
        let next = self.start_of(&stream, &shard, &body["StartingPosition"]).await?;
        let started = self.subscriptions.start(&consumer, &shard)?;
        Ok(Subscription { consumer, stream, shard, started, next, looked: None, continuation: Value::Null })
    }

    /// The iterator of a starting position.
    async fn start_of(&self, stream: &str, shard: &str, position: &Value) -> Result<Iterator, Answer> {
        let mut request = json!({"StreamName": stream, "ShardId": shard, "ShardIteratorType": position["Type"]});
        for (given, wanted) in [("SequenceNumber", "StartingSequenceNumber"), ("Timestamp", "Timestamp")] {
            if let Some(value) = position.get(given) {
                request[wanted] = value.clone();
            }
        }
        Inner::validate(Operation::GetShardIterator, &request)?;
        let arrivals = self.arrivals.lock().await;
        let corrected = self.corrected_position(&arrivals, request.clone())?;
        let answer = self.inner.ask(Operation::GetShardIterator, corrected).await?;
        self.check_ahead(&arrivals, &request).await?;
        let iterator = answer["ShardIterator"].as_str().and_then(Iterator::decode);
        iterator.ok_or_else(|| Answer::invalid("There is no such place."))
    }

    /// The response: its body goes on until the subscription ends.
    pub(crate) fn events(self: &Arc<Self>, subscription: Subscription, fault: Option<Fault>) -> Response<Body> {
        let (sender, receiver) = Channel::new(1);
        tokio::spawn(Arc::clone(self).send_events(subscription, fault, sender));
        let mut response = Response::new(Body::new(receiver.boxed_unsync()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/vnd.amazon.eventstream"));
        response
    }

    async fn send_events(
        self: Arc<Self>,
        mut subscription: Subscription,
        fault: Option<Fault>,
        mut sender: Sender<Bytes, std::io::Error>,
    ) {
        let mut sent_at: Option<Instant> = None;
        if sender.send_data(encode_initial_response().into()).await.is_err() {
            return;
        }
        loop {
            if self.subscriptions.was_taken_over(&subscription) {
                let taken = encode_exception("ResourceInUseException", "Another subscription has taken over.");
                let _ = sender.send_data(taken.into()).await;
                return;
            }
            if subscription.started.at.elapsed() >= self.subscriptions.lifetime {
                return;
            }
            let is_due = sent_at.is_none_or(|sent| sent.elapsed() >= self.subscriptions.heartbeat);
            let (event, is_last) = match self.next_event(&mut subscription, is_due).await {
                Ok(Next::Event { event, is_last }) => (event, is_last),
                Ok(Next::Nothing) => {
                    sleep(LOOK).await;
                    continue;
                }
                Err(refusal) => {
                    let kind = match refusal.status.is_server_error() {
                        true => "InternalFailureException",
                        false => "ResourceNotFoundException",
                    };
                    let why = String::from_utf8_lossy(&refusal.body).into_owned();
                    let _ = sender.send_data(encode_exception(kind, &why).into()).await;
                    return;
                }
            };
            let event = encode_subscribe_event(event.to_string().as_bytes(), "application/json");
            // A mid-stream fault comes after the first event.
            if let Some(fault) = fault
                && sent_at.is_some()
            {
                return break_off(fault, event, sender).await;
            }
            if sender.send_data(event.into()).await.is_err() || is_last {
                return;
            }
            sent_at = Some(Instant::now());
        }
    }

    /// The next event: records, the end of the shard, or no records if a heartbeat is due.
    async fn next_event(&self, subscription: &mut Subscription, is_due: bool) -> Result<Next, Answer> {
        let arrivals = self.arrivals.lock().await;
        let Subscription { stream, shard, next: iterator, looked, continuation, .. } = subscription;
        let count = arrivals.shard(stream, shard).len();
        if looked.is_some_and(|(seen, at)| seen == count && at.elapsed() < LONG_LOOK * self.subscriptions.count()) {
            let sign = json!({"Records": [], "MillisBehindLatest": 0, "ContinuationSequenceNumber": continuation});
            return Ok(if is_due { Next::Event { event: sign, is_last: false } } else { Next::Nothing });
        }
        let mut page = None;
        if let Some((up_to, form)) = self.faults.trimmed(stream, shard)
            && position::compare(&iterator.from, &up_to).is_le()
        {
            page = (form == PastRetention::EmptyPages).then(|| empty_page(iterator)).flatten();
            if page.is_none() {
                *iterator = Iterator { from: position::after(&up_to), empty_pages: None, ..iterator.clone() };
            }
        }
        let page = match page {
            Some(page) => page,
            None => {
                iterator.made = now_ms();
                let request = json!({"ShardIterator": iterator.encode(), "Limit": RECORDS});
                let mut page = self.inner.ask(Operation::GetRecords, request).await?;
                self.correct_page(&arrivals, iterator, &mut page).await;
                page
            }
        };
        let next = page["NextShardIterator"].as_str().and_then(Iterator::decode);
        let is_last = next.is_none();
        *looked = (page["MillisBehindLatest"] == 0).then(|| (count, Instant::now()));
        if entries(&page, "Records").is_empty() && !is_last && !is_due {
            return Ok(Next::Nothing);
        }
        let mut event = json!({"Records": page["Records"], "MillisBehindLatest": page["MillisBehindLatest"]});
        match next {
            Some(next) => {
                *iterator = next;
                let records = arrivals.shard(stream, shard);
                let before = position::first_not_before(records, &iterator.from).checked_sub(1);
                event["ContinuationSequenceNumber"] = match before.and_then(|place| records.get(place)) {
                    Some(last) => json!(last.sequence_number),
                    None => self.first_number(stream, shard).await,
                };
                *continuation = event["ContinuationSequenceNumber"].clone();
            }
            None => {
                if let Some(children) = page.get(CHILD_SHARDS) {
                    event[CHILD_SHARDS] = children.clone();
                }
            }
        }
        Ok(Next::Event { event, is_last })
    }

    async fn first_number(&self, stream: &str, shard: &str) -> Value {
        let Ok(stream) = self.inner.store.get_stream(stream).await else { return Value::Null };
        let found = stream.shards.iter().find(|found| found.shard_id == shard);
        found.map_or(Value::Null, |found| json!(found.sequence_number_range.starting_sequence_number))
    }
}

/// Ends a subscription with a fault; `event` would be the next event.
async fn break_off(fault: Fault, event: Vec<u8>, mut sender: Sender<Bytes, std::io::Error>) {
    let sent = match fault {
        Fault::ResetMidStream => {
            let half = Bytes::from(event).split_to(20);
            let _ = sender.send_data(half).await;
            // Let the half reach the client before the connection ends.
            sleep(LOOK).await;
            return sender.abort(std::io::Error::other("a reset in mid-stream was asked for"));
        }
        Fault::SilenceMidStream => {
            sleep(SILENCE).await;
            return;
        }
        Fault::FailureMidStream => encode_exception("InternalFailureException", "Internal service failure."),
        Fault::TakenMidStream => encode_exception("ResourceInUseException", "Another subscription has taken over."),
        Fault::GarbageMidStream => {
            let mut garbage = event;
            garbage.iter_mut().skip(16).for_each(|byte| *byte ^= 0x55);
            garbage
        }
        Fault::BareMidStream => encode_subscribe_event(b"{}", "application/json"),
        _ => return,
    };
    // An error is a client that went away.
    let _ = sender.send_data(sent.into()).await;
}
