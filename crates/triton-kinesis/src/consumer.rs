//! Consumers with enhanced fan-out: registers, finds, lists and removes them. Reading as one is in `reader`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_kinesis::error::ProvideErrorMetadata as _;
use aws_sdk_kinesis::types::{ConsumerDescription, ConsumerStatus};
use triton_core::flow::{Backoff, poll_until, random_seed};
use triton_core::{Error, Result, RetryPolicy, Timestamp};

use crate::clock::to_timestamp;
use crate::error::{contract_violation, quota_exceeded};
use crate::stream::{KinesisStream, Registration};

/// The ceilings of the waits between two descriptions of a consumer that is being registered.
const FIRST_POLL: Duration = Duration::from_millis(20);
const LONGEST_POLL: Duration = Duration::from_secs(2);
/// Time that a registration may take. Kinesis takes some seconds, and as long to remove an earlier consumer of the
/// name.
const DEADLINE: Duration = Duration::from_secs(60);
/// Consumers per page of ListStreamConsumers: its maximum.
const PAGE: i32 = 100;

/// A consumer that is registered with a stream. It costs money as long as it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Consumer {
    /// Its name, unique in the stream.
    pub name: String,
    /// Its ARN. A consumer registered later under the same name has another one.
    pub arn: String,
    /// `CREATING`, `ACTIVE` or `DELETING`.
    pub status: String,
    /// When it was registered.
    pub registered_at: Timestamp,
}

impl KinesisStream {
    /// The same stream, read by enhanced fan-out: Kinesis pushes each shard's records as they come, at up to 2 MB a
    /// second per shard, independent of other readers. Registers the consumer of this name if necessary, which takes
    /// some seconds. It stays registered, and costs money, until [`remove_consumer`](Self::remove_consumer).
    ///
    /// A shard has one reader per consumer: a new reader takes over from the one before, at least five seconds after
    /// that one subscribed. Programs that each want every record need one consumer each.
    ///
    /// Dropping the future may leave the consumer registered; the next call finds it.
    ///
    /// ```no_run
    /// # async fn tail(stream: triton_kinesis::KinesisStream) -> triton_core::Result<()> {
    /// use std::sync::Arc;
    /// use triton_core::{Reader, ReaderOptions, Start};
    ///
    /// let pushed = stream.fan_out("audit").await?;
    /// let mut reader = Reader::start(Arc::new(pushed), Start::All, ReaderOptions::default()).await?;
    /// while let Some(record) = reader.next().await {
    ///     println!("{}", record?.sequence_number);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::StreamNotFound`]; [`Error::Invalid`] for an invalid name, and if the stream has the most consumers
    /// allowed (20, or 50); [`Error::Unavailable`] if the consumer is not active after a minute; the reason why Kinesis
    /// gives no response.
    pub async fn fan_out(&self, consumer: &str) -> Result<Self> {
        let stream_arn = self.arn().await?;
        let is_new = AtomicBool::new(false);
        let active = poll_until(registration_backoff(), || async {
            let found = match self.find_consumer(&stream_arn, consumer).await {
                // The registration goes on: a refused look does not end it.
                Err(Error::Throttled { .. }) => return Ok(None),
                found => found?,
            };
            match found {
                Some(found) if found.status == ConsumerStatus::Active.as_str() => return Ok(Some(found.arn)),
                Some(_) => {}
                // In every round: an earlier consumer of this name may have been removed since the last one.
                None => _ = is_new.fetch_or(self.register(&stream_arn, consumer).await?, Ordering::Relaxed),
            }
            Ok(None)
        });
        match active.await? {
            Some(arn) => Ok(self.with_consumer(Registration { arn, is_new: is_new.into_inner() })),
            None => {
                let (stream, seconds) = (self.stream_ref().name(), DEADLINE.as_secs());
                let problem = format!("consumer '{consumer}' of stream '{stream}' is not active after {seconds} s");
                Err(Error::Unavailable { problem, may_have_written: true, source: None })
            }
        }
    }

    /// Whether the consumer is new: registered by the [`fan_out`](Self::fan_out) that returned this client.
    pub fn has_new_consumer(&self) -> bool {
        self.registration().is_some_and(|consumer| consumer.is_new)
    }

    /// The consumers that are registered with the stream, sorted by name.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`], or the reason why Kinesis gives no response.
    pub async fn consumers(&self) -> Result<Vec<Consumer>> {
        let stream_arn = self.arn().await?;
        let (mut consumers, mut token): (Vec<Consumer>, Option<String>) = (Vec::new(), None);
        loop {
            let request =
                self.kinesis().control_client().list_stream_consumers().stream_arn(&stream_arn).max_results(PAGE);
            let page = request.set_next_token(token.clone()).send().await;
            let page =
                page.map_err(|error| self.kinesis().read_context(self.stream_ref().name(), None).error(error))?;
            consumers.extend(page.consumers.unwrap_or_default().into_iter().map(|consumer| Consumer {
                name: consumer.consumer_name,
                arn: consumer.consumer_arn,
                status: consumer.consumer_status.as_str().to_owned(),
                registered_at: to_timestamp(consumer.consumer_creation_timestamp),
            }));
            let next = page.next_token.filter(|token| !token.is_empty());
            if next.is_some() && next == token {
                return Err(contract_violation("ListStreamConsumers goes round in a circle"));
            }
            token = next;
            if token.is_none() {
                consumers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
                return Ok(consumers);
            }
        }
    }

    /// Removes a consumer, which ends its subscriptions. `false` if there was none of this name.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`], or the reason why Kinesis gives no response.
    pub async fn remove_consumer(&self, consumer: &str) -> Result<bool> {
        let stream_arn = self.arn().await?;
        let request = self.kinesis().control_client().deregister_stream_consumer();
        match request.stream_arn(&stream_arn).consumer_name(consumer).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(false),
            Err(error) => Err(self.kinesis().write_context(self.stream_ref().name(), None).error(error)),
        }
    }

    async fn arn(&self) -> Result<String> {
        match self.stream_ref().stream_arn() {
            Some(arn) => Ok(arn),
            None => Ok(self.describe().await?.arn),
        }
    }

    async fn find_consumer(&self, stream_arn: &str, consumer: &str) -> Result<Option<Consumer>> {
        let request = self.kinesis().control_client().describe_stream_consumer();
        match request.stream_arn(stream_arn).consumer_name(consumer).send().await {
            Ok(answer) => match answer.consumer_description {
                Some(found) => Ok(Some(found.into())),
                None => Err(self.kinesis().read_context(self.stream_ref().name(), None).empty_response()),
            },
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(self.kinesis().read_context(self.stream_ref().name(), None).error(error)),
        }
    }

    /// Registers a consumer; `false` if another client has done so meanwhile.
    async fn register(&self, stream_arn: &str, consumer: &str) -> Result<bool> {
        let request = self.kinesis().control_client().register_stream_consumer();
        match request.stream_arn(stream_arn).consumer_name(consumer).send().await {
            Ok(_) => Ok(true),
            Err(error) => match error.code() {
                Some("ResourceInUseException") => Ok(false),
                Some("LimitExceededException") => Err(quota_exceeded(&error)),
                _ => Err(self.kinesis().write_context(self.stream_ref().name(), None).error(error)),
            },
        }
    }
}

fn registration_backoff() -> Backoff {
    let policy = RetryPolicy::default().with_first(FIRST_POLL).with_longest(LONGEST_POLL);
    policy.with_deadline(DEADLINE).backoff(random_seed())
}

impl From<ConsumerDescription> for Consumer {
    fn from(consumer: ConsumerDescription) -> Self {
        Self {
            name: consumer.consumer_name,
            arn: consumer.consumer_arn,
            status: consumer.consumer_status.as_str().to_owned(),
            registered_at: to_timestamp(consumer.consumer_creation_timestamp),
        }
    }
}
