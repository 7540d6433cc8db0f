//! One Kinesis stream: its connection, its name, and the cached description. Puts, reads and shard lists build on it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use triton_core::{Error, ErrorKind, Limits, Result, Timestamp};

use crate::connection::Kinesis;
use crate::description::StreamDescription;
use crate::stream_ref::StreamRef;

/// One Kinesis stream, as a [`StreamClient`](triton_core::StreamClient). Cheap to clone; made by [`Kinesis::stream`].
///
/// # Requests
/// A put is one PutRecords with one attempt. Reading polls with GetRecords, one attempt each, unless the client was
/// made by [`fan_out`](Self::fan_out): then it subscribes, and Kinesis pushes. The limits come from one
/// DescribeStreamSummary. If that is denied or throttled, as for producers that may only call PutRecords, Kinesis'
/// default limits apply and a warning is logged.
#[derive(Clone)]
pub struct KinesisStream(Arc<Inner>);

struct Inner {
    kinesis: Kinesis,
    stream_ref: StreamRef,
    /// The consumer that reads by enhanced fan-out; `None` where reading polls.
    consumer: Option<Registration>,
    /// Read once; `None` inside if the stream may not be described.
    description: OnceCell<Option<StreamDescription>>,
}

/// The consumer that a client reads as.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub(crate) arn: String,
    /// Whether this client registered it.
    pub(crate) is_new: bool,
}

impl Kinesis {
    /// Returns a client for the stream of this name, or of this ARN if another account owns it. Sends nothing, so that
    /// a missing stream shows in the first call.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that starts with `arn:` and is not a stream's ARN, and for the ARN of another
    /// region.
    pub fn stream(&self, name: &str) -> Result<KinesisStream> {
        let stream_ref = StreamRef::parse(name)?;
        match stream_ref.region() {
            Some(region) if region != self.region() => {
                let problem = format!("stream '{name}' is in {region}, but this connection is to {}", self.region());
                Err(Error::Invalid { problem })
            }
            _ => Ok(KinesisStream::new(self.clone(), stream_ref, None, OnceCell::new())),
        }
    }
}

impl KinesisStream {
    fn new(
        kinesis: Kinesis,
        stream_ref: StreamRef,
        consumer: Option<Registration>,
        description: OnceCell<Option<StreamDescription>>,
    ) -> Self {
        Self(Arc::new(Inner { kinesis, stream_ref, consumer, description }))
    }

    /// The same stream, read as a consumer.
    pub(crate) fn with_consumer(&self, consumer: Registration) -> Self {
        Self::new(self.kinesis().clone(), self.stream_ref().clone(), Some(consumer), self.0.description.clone())
    }

    pub(crate) fn registration(&self) -> Option<&Registration> {
        self.0.consumer.as_ref()
    }

    pub(crate) fn kinesis(&self) -> &Kinesis {
        &self.0.kinesis
    }

    pub(crate) fn stream_ref(&self) -> &StreamRef {
        &self.0.stream_ref
    }

    /// Describes the stream as it is now, by one DescribeStreamSummary.
    /// [`limits`](triton_core::StreamClient::limits) are cached instead. Cancel safe.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`], or the reason why Kinesis gives no response.
    pub async fn describe(&self) -> Result<StreamDescription> {
        StreamDescription::read(self.kinesis(), self.stream_ref()).await
    }

    /// How long records are kept; `None` before the first description, and without one.
    pub(crate) fn retention(&self) -> Option<Duration> {
        self.0.description.get()?.as_ref().map(|description| description.retention)
    }

    /// The stream's limits while it is polled.
    pub(crate) async fn polling_limits(&self) -> Result<Limits> {
        let description = self.cached_description().await?;
        Ok(description.map_or(Limits::KINESIS, StreamDescription::limits))
    }

    pub(crate) async fn creation_time(&self) -> Result<Timestamp> {
        match self.cached_description().await? {
            Some(description) => Ok(description.created_at),
            // It could not be described, and there is no default for this.
            None => Ok(self.describe().await?.created_at),
        }
    }

    pub(crate) async fn cached_description(&self) -> Result<Option<&StreamDescription>> {
        let description = self.0.description.get_or_try_init(|| self.describe_if_allowed()).await?;
        Ok(description.as_ref())
    }

    async fn describe_if_allowed(&self) -> Result<Option<StreamDescription>> {
        let stream = self.stream_ref().name();
        match self.describe().await {
            Ok(description) => {
                if description.distributes_records {
                    tracing::warn!(
                        "stream '{stream}' distributes its records itself (AUTO): partition keys choose no shard, and \
                         records of one key have no order"
                    );
                }
                Ok(Some(description))
            }
            Err(error) if matches!(error.kind(), ErrorKind::AccessDenied | ErrorKind::Throttled) => {
                tracing::warn!("stream '{stream}': using Kinesis' default limits, its own cannot be read ({error})");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for KinesisStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KinesisStream").field("name", &self.stream_ref().name()).field("at", self.kinesis()).finish()
    }
}
