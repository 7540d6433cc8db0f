//! The compatibility shim: corrects where ferrokinesis differs from AWS, one file per concept. CBOR requests bypass it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;

use self::arrivals::Arrivals;
use self::consumer::Consumers;
use self::history::History;
use self::key::LongKeys;
use self::reshard::Resharding;
use self::subscribe::Subscriptions;
use crate::ServerOptions;
use crate::fault::{Faults, Operation};
use crate::inner::Inner;
use crate::wire::{Answer, Call};

mod arrivals;
mod consumer;
mod describe;
mod end;
mod history;
mod key;
mod list;
mod name;
mod position;
mod put;
mod read;
mod reshard;
mod subscribe;

pub(crate) use self::subscribe::Subscription;

/// Makes ferrokinesis behave as AWS does.
pub(crate) struct Shim {
    inner: Inner,
    faults: Arc<Faults>,
    /// Arrival times. The lock is held during each write or read, so that sequence numbers and
    /// arrivals have the same order and no reader passes a record that is still being written.
    arrivals: Mutex<Arrivals>,
    long_keys: LongKeys,
    history: Arc<History>,
    resharding: Arc<Resharding>,
    consumers: Consumers,
    subscriptions: Subscriptions,
    iterator_ttl: Duration,
}

impl Shim {
    pub(crate) fn new(inner: Inner, options: &ServerOptions, faults: Arc<Faults>) -> Self {
        let history = Arc::new(History::new(inner.clone()));
        let resharding = Resharding::new(inner.clone(), Arc::clone(&history), Arc::clone(&faults), options.shard_limit);
        Self {
            inner,
            faults,
            arrivals: Mutex::default(),
            long_keys: LongKeys::default(),
            history,
            resharding: Arc::new(resharding),
            consumers: Consumers::new(options.transition),
            subscriptions: Subscriptions::new(options),
            iterator_ttl: options.iterator_ttl,
        }
    }

    /// Handles a request; `body` is set for JSON requests.
    pub(crate) async fn answer(&self, call: Call, body: Option<Value>) -> Answer {
        let answered = match body {
            Some(body) => self.answer_json(call, body).await,
            None => {
                let _arrivals = self.arrivals.lock().await;
                Ok(self.inner.forward(call).await)
            }
        };
        answered.unwrap_or_else(|refusal| refusal)
    }

    async fn answer_json(&self, mut call: Call, mut body: Value) -> Result<Answer, Answer> {
        if name::by_name(&mut body, &call.parts.headers)? {
            call = call.with_json(&body);
        }
        let mut has_long_key = self.long_keys.shorten(&mut body);
        for record in body["Records"].as_array_mut().into_iter().flatten() {
            has_long_key |= self.long_keys.shorten(record);
        }
        if has_long_key {
            call = call.with_json(&body);
        }
        match call.operation {
            Operation::PutRecord => Ok(self.put_record(call, &body).await),
            Operation::PutRecords => self.put_records(call, body).await,
            Operation::GetShardIterator => self.get_shard_iterator(call, body).await,
            Operation::GetRecords => self.get_records(call, body).await,
            Operation::ListShards => self.list_shards(call, body).await,
            Operation::DescribeStream => Ok(self.describe(call, &body, describe::DESCRIPTION).await),
            Operation::DescribeStreamSummary => Ok(self.describe(call, &body, describe::SUMMARY).await),
            Operation::SplitShard | Operation::MergeShards => {
                self.resharding.check(&body).await?;
                let answer = self.inner.forward(call).await;
                if answer.status.is_success() {
                    let (history, stream) = (Arc::clone(&self.history), stream_of(&body).to_owned());
                    tokio::spawn(async move { history.watch(&stream).await });
                }
                Ok(answer)
            }
            Operation::UpdateShardCount => self.resharding.update_shard_count(&body).await,
            Operation::RegisterStreamConsumer => Ok(self.register_consumer(call).await),
            Operation::DescribeStreamConsumer | Operation::ListStreamConsumers => {
                Ok(self.describe_consumers(call).await)
            }
            Operation::DeregisterStreamConsumer => Ok(self.deregister_consumer(call, &body).await),
            Operation::CreateStream | Operation::DeleteStream => {
                let answer = self.inner.forward(call).await;
                if answer.status.is_success() {
                    self.forget(stream_of(&body)).await;
                }
                Ok(answer)
            }
            _ => Ok(self.inner.forward(call).await),
        }
    }

    /// Forgets a stream that is deleted or replaced by another of its name.
    async fn forget(&self, stream: &str) {
        self.arrivals.lock().await.forget(stream);
        self.faults.forget(stream);
        self.history.forget(stream);
        self.resharding.forget(stream);
    }
}

/// The stream name of a request whose ARN was replaced by the name.
fn stream_of(body: &Value) -> &str {
    body["StreamName"].as_str().unwrap_or_default()
}
