//! One Kinesis stream: its name, its connection, and what is known of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use triton_core::{Error, ErrorKind, Limits, Result, Timestamp};

use crate::connection::Kinesis;
use crate::description::StreamDescription;
use crate::stream_ref::StreamRef;

/// One Kinesis stream, as a [`StreamClient`]. Cheap to clone; made by [`Kinesis::stream`].
///
/// # What it asks for
/// Puts are PutRecords, one request and one attempt each. Reading polls with GetRecords, one attempt each, unless the
/// client was made by [`fan_out`](Self::fan_out): then it subscribes, and Kinesis pushes. The limits
/// come from one DescribeStreamSummary; where that is denied or throttled, as for producers that may do nothing but
/// PutRecords, Kinesis' defaults are taken and a warning says so.
#[derive(Clone)]
pub struct KinesisStream(Arc<Inner>);

struct Inner {
    kinesis: Kinesis,
    stream_ref: StreamRef,
    /// Who reads by enhanced fan-out; `None` where reading polls.
    consumer: Option<Registration>,
    facts: OnceCell<Facts>,
    created_at: OnceCell<Timestamp>,
}

/// The consumer that a client reads by.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub(crate) arn: String,
    pub(crate) is_new: bool,
}

/// What is read once of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) limits: Limits,
    /// How long records are kept; `None` where the stream may not be asked.
    retention: Option<Duration>,
}

impl Kinesis {
    /// A client for a stream, which is not asked for yet. Streams of other accounts are named by their ARN.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that starts as an ARN and is none, or one of another region.
    pub fn stream(&self, name: &str) -> Result<KinesisStream> {
        let stream_ref = StreamRef::parse(name)?;
        match stream_ref.region() {
            Some(region) if region != self.region() => {
                let problem = format!("stream '{name}' is in {region}, and this connection goes to {}", self.region());
                Err(Error::Invalid { problem })
            }
            _ => Ok(KinesisStream::new(self.clone(), stream_ref)),
        }
    }
}

impl KinesisStream {
    pub(crate) fn new(kinesis: Kinesis, stream_ref: StreamRef) -> Self {
        Self(Arc::new(Inner {
            kinesis,
            stream_ref,
            consumer: None,
            facts: OnceCell::new(),
            created_at: OnceCell::new(),
        }))
    }

    /// The same stream, read by a consumer.
    pub(crate) fn with_consumer(&self, consumer: Registration) -> Self {
        let (kinesis, stream_ref, facts) = (self.kinesis().clone(), self.stream_ref().clone(), self.0.facts.clone());
        Self(Arc::new(Inner {
            kinesis,
            stream_ref,
            consumer: Some(consumer),
            facts,
            created_at: self.0.created_at.clone(),
        }))
    }

    pub(crate) fn registration(&self) -> Option<&Registration> {
        self.0.consumer.as_ref()
    }

    /// How the stream stands now. [`limits`](StreamClient::limits) is the cheaper question.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`], or what keeps Kinesis from answering.
    pub async fn describe(&self) -> Result<StreamDescription> {
        StreamDescription::read(self.kinesis(), self.stream_ref()).await
    }

    pub(crate) fn kinesis(&self) -> &Kinesis {
        &self.0.kinesis
    }

    pub(crate) fn stream_ref(&self) -> &StreamRef {
        &self.0.stream_ref
    }

    /// How long records are kept, as far as that is known by now.
    pub(crate) fn retention(&self) -> Option<Duration> {
        self.0.facts.get().and_then(|facts| facts.retention)
    }

    pub(crate) async fn creation_time(&self) -> Result<Timestamp> {
        let read = || async { Ok(self.describe().await?.created_at) };
        self.0.created_at.get_or_try_init(read).await.copied()
    }

    pub(crate) async fn facts(&self) -> Result<Facts> {
        self.0.facts.get_or_try_init(|| self.read_facts()).await.copied()
    }

    async fn read_facts(&self) -> Result<Facts> {
        let stream = self.stream_ref().name();
        match self.describe().await {
            Ok(summary) => {
                if summary.distributes_records {
                    tracing::warn!(
                        "stream '{stream}' distributes its records itself (AUTO): partition keys choose no shard, and \
                         records of one key have no order"
                    );
                }
                Ok(Facts { limits: summary.limits(), retention: Some(summary.retention) })
            }
            Err(error) if matches!(error.kind(), ErrorKind::AccessDenied | ErrorKind::Throttled) => {
                tracing::warn!(
                    "stream '{stream}': going on with Kinesis' default limits (its own cannot be read: {error})"
                );
                Ok(Facts { limits: Limits::KINESIS, retention: None })
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
