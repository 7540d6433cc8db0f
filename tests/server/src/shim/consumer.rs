//! Consumers become ACTIVE after the configured transition: ferrokinesis takes half a second.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ferrokinesis::types::ConsumerStatus;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Shim;
use crate::wire::{Answer, Call};

/// How often, and how many times, to check a consumer that ferrokinesis is still creating.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS: usize = 200;

/// When consumers were registered, by ARN.
pub(super) struct Consumers {
    registered: Mutex<HashMap<String, Instant>>,
    transition: Duration,
}

impl Consumers {
    pub(super) fn new(transition: Duration) -> Self {
        Self { registered: Mutex::default(), transition }
    }

    /// The status of a consumer, given what ferrokinesis reports.
    pub(super) fn status(&self, arn: &str, said: ConsumerStatus) -> ConsumerStatus {
        let is_ready = self.registered().get(arn).is_some_and(|since| since.elapsed() >= self.transition);
        match said {
            ConsumerStatus::Creating if is_ready => ConsumerStatus::Active,
            said => said,
        }
    }

    fn correct(&self, consumer: &mut Value) {
        let is_creating = consumer["ConsumerStatus"] == json!(ConsumerStatus::Creating);
        if let Some(arn) = consumer["ConsumerARN"].as_str().filter(|_| is_creating) {
            consumer["ConsumerStatus"] = json!(self.status(arn, ConsumerStatus::Creating));
        }
    }

    fn registered(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        // No change is left half done by a panic.
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shim {
    pub(super) async fn register_consumer(&self, call: Call) -> Answer {
        let answer = self.inner.forward(call).await;
        let registered = answer.json().unwrap_or_default();
        if let Some(arn) = registered["Consumer"]["ConsumerARN"].as_str() {
            self.consumers.registered().insert(arn.to_owned(), Instant::now());
        }
        answer
    }

    pub(super) async fn describe_consumers(&self, call: Call) -> Answer {
        let answer = self.inner.forward(call).await;
        let Some(mut described) = answer.json() else { return answer };
        if described.get("ConsumerDescription").is_some() {
            self.consumers.correct(&mut described["ConsumerDescription"]);
        }
        for consumer in described["Consumers"].as_array_mut().into_iter().flatten() {
            self.consumers.correct(consumer);
        }
        answer.with_json(&described)
    }

    /// ferrokinesis breaks when a consumer is removed while it is being created.
    pub(super) async fn deregister_consumer(&self, call: Call, body: &Value) -> Answer {
        for _ in 0..LOOKS {
            let found = match (body["ConsumerARN"].as_str(), body["StreamARN"].as_str(), body["ConsumerName"].as_str())
            {
                (Some(arn), _, _) => self.inner.store.get_consumer(arn).await,
                (None, Some(stream), Some(name)) => self.inner.store.find_consumer(stream, name).await,
                _ => None,
            };
            if found.is_none_or(|found| found.consumer_status != ConsumerStatus::Creating) {
                break;
            }
            sleep(LOOK).await;
        }
        self.inner.forward(call).await
    }
}
