//! One Kinesis stream: its shards, its limits, and puts.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::error::ProvideErrorMetadata as _;
use aws_sdk_kinesis::operation::list_shards::ListShardsOutput;
use aws_sdk_kinesis::types::PutRecordsResultEntry;
use tokio::sync::OnceCell;
use triton_core::{
    Entries, Error, ErrorKind, HashKeyRange, Limits, Position, PutReceipt, Result, Shard, ShardId, ShardReader,
    StreamClient, Timestamp,
};

use crate::connect::Kinesis;
use crate::consumer::Registered;
use crate::polling::{Polling, PollingReader};
use crate::put::put_records;
use crate::subscription::{SubscribingReader, Subscription};
use crate::summary::Summary;
use crate::target::Target;

/// Shards in a page of ListShards: as many as it gives.
const PAGE: i32 = 1_000;
/// How often a listing starts over because its page token expired (they live 300 s) before that is an error.
const MAX_RESTARTS: usize = 3;

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
    target: Target,
    /// Who reads by enhanced fan-out; `None` where reading polls.
    consumer: Option<Registered>,
    facts: OnceCell<Facts>,
    created_at: OnceCell<Timestamp>,
}

/// What is read once of a stream.
#[derive(Clone, Copy, Debug)]
struct Facts {
    limits: Limits,
    /// How long records are kept; `None` where the stream may not be asked.
    retention: Option<Duration>,
}

impl KinesisStream {
    pub(crate) fn new(kinesis: Kinesis, target: Target) -> Self {
        Self(Arc::new(Inner { kinesis, target, consumer: None, facts: OnceCell::new(), created_at: OnceCell::new() }))
    }

    /// The same stream, read by a consumer.
    pub(crate) fn read_by(&self, consumer: Registered) -> Self {
        let (kinesis, target, facts) = (self.kinesis().clone(), self.target().clone(), self.0.facts.clone());
        Self(Arc::new(Inner {
            kinesis,
            target,
            consumer: Some(consumer),
            facts,
            created_at: self.0.created_at.clone(),
        }))
    }

    pub(crate) fn registered(&self) -> Option<&Registered> {
        self.0.consumer.as_ref()
    }

    /// How the stream stands now. [`limits`](StreamClient::limits) is the cheaper question.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`], or what keeps Kinesis from answering.
    pub async fn summary(&self) -> Result<Summary> {
        Summary::read(self.kinesis(), self.target()).await
    }

    pub(crate) fn kinesis(&self) -> &Kinesis {
        &self.0.kinesis
    }

    pub(crate) fn target(&self) -> &Target {
        &self.0.target
    }

    /// How long records are kept, as far as that is known by now.
    pub(crate) fn retention(&self) -> Option<Duration> {
        self.0.facts.get().and_then(|facts| facts.retention)
    }

    async fn facts(&self) -> Result<Facts> {
        self.0.facts.get_or_try_init(|| self.read_facts()).await.copied()
    }

    async fn read_facts(&self) -> Result<Facts> {
        let stream = self.target().name();
        match self.summary().await {
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

    /// All pages of a listing, or `None` where a page token expired on the way.
    async fn list(&self) -> Result<Option<Vec<Shard>>> {
        let (mut shards, mut token): (_, Option<String>) = (Vec::new(), None);
        loop {
            let request = self.kinesis().control().list_shards().max_results(PAGE);
            // A token stands for the stream as well; a request may not have both.
            let request = match token.clone() {
                Some(token) => request.next_token(token),
                None => request.set_stream_name(self.target().stream_name()).set_stream_arn(self.target().stream_arn()),
            };
            let page: ListShardsOutput = match request.send().await {
                Ok(page) => page,
                Err(error) if error.code() == Some("ExpiredNextTokenException") => return Ok(None),
                Err(error) => return Err(self.kinesis().reading(self.target().name(), None).error(error)),
            };
            let Some(page_of_shards) = page.shards else {
                return Err(self.kinesis().reading(self.target().name(), None).empty_answer());
            };
            for shard in page_of_shards {
                shards.push(to_shard(shard)?);
            }
            let next = page.next_token.filter(|token| !token.is_empty());
            if next.is_some() && next == token {
                return Err(broken("ListShards goes round in a circle"));
            }
            token = next;
            if token.is_none() {
                shards.sort_unstable_by(|a, b| a.id.cmp(&b.id));
                return Ok(Some(shards));
            }
        }
    }

    /// What one entry's result says.
    fn receipt(&self, result: PutRecordsResultEntry, shards: &mut BTreeSet<ShardId>) -> Result<PutReceipt> {
        if let Some(code) = &result.error_code {
            let message = result.error_message.as_deref().unwrap_or(code);
            return Err(self.kinesis().writing(self.target().name(), None).refused(code, message));
        }
        let (Some(shard), Some(number)) = (&result.shard_id, &result.sequence_number) else {
            return Err(broken("a result of PutRecords has neither an error nor a sequence number"));
        };
        // A call's entries share a few shards, whose ids are kept once.
        let shard_id = shards.get(shard.as_str()).cloned().unwrap_or_else(|| {
            let id = ShardId::from(shard.as_str());
            shards.insert(id.clone());
            id
        });
        let sequence_number = number.parse().map_err(|_| broken("a result of PutRecords has no sequence number"))?;
        Ok(PutReceipt { shard_id, sequence_number })
    }
}

#[async_trait]
impl StreamClient for KinesisStream {
    fn name(&self) -> &str {
        self.target().name()
    }

    async fn created_at(&self) -> Result<Timestamp> {
        let read = || async { Ok(self.summary().await?.created_at) };
        self.0.created_at.get_or_try_init(read).await.copied()
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        for _ in 0..=MAX_RESTARTS {
            if let Some(shards) = self.list().await? {
                return Ok(shards);
            }
            tracing::debug!(stream = self.name(), "a page token expired; listing again");
        }
        let problem = format!("listing the shards of '{}' takes longer than its page tokens live", self.name());
        Err(Error::Unavailable { problem, may_have_written: false, source: None })
    }

    async fn put_batch(&self, entries: Entries) -> Result<Vec<Result<PutReceipt>>> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        self.limits().await?.check(&entries)?;
        let _permit = self.kinesis().permit().await;
        let answer = put_records(self.kinesis().data(), self.kinesis().buffers(), self.target(), &entries)
            .await
            .map_err(|error| self.kinesis().writing(self.name(), None).error(error))?;
        if answer.records.is_empty() {
            return Err(self.kinesis().writing(self.name(), None).empty_answer());
        }
        if answer.records.len() != entries.len() {
            let problem = format!("PutRecords gave {} results for {} records", answer.records.len(), entries.len());
            return Err(broken(&problem));
        }
        let mut shards = BTreeSet::new();
        Ok(answer.records.into_iter().map(|result| self.receipt(result, &mut shards)).collect())
    }

    async fn open_shard(&self, shard: &ShardId, position: Position) -> Result<Box<dyn ShardReader>> {
        let (stream, shard) = (self.clone(), shard.clone());
        match self.registered() {
            Some(consumer) => {
                let source = Subscription::new(self.kinesis().clone(), consumer.arn.clone());
                Ok(Box::new(SubscribingReader::open(stream, shard, position, source).await?))
            }
            None => Ok(Box::new(PollingReader::open(stream, shard, position, Polling::At(position)).await?)),
        }
    }

    async fn limits(&self) -> Result<Limits> {
        let limits = self.facts().await?.limits;
        Ok(match self.registered() {
            // Each consumer has a quota of its own, and what is pushed need not be asked for.
            Some(_) => limits.with_pushes(true).with_read_quota(None).with_idle_poll(Duration::ZERO),
            None => limits,
        })
    }
}

impl fmt::Debug for KinesisStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KinesisStream").field("name", &self.name()).field("at", self.kinesis()).finish()
    }
}

pub(crate) fn broken(problem: &str) -> Error {
    Error::Contract { backend: "Kinesis".into(), problem: problem.to_owned() }
}

fn to_shard(shard: aws_sdk_kinesis::types::Shard) -> Result<Shard> {
    let missing = |what| move || broken(&format!("a shard in the list has no {what}"));
    let keys = shard.hash_key_range.ok_or_else(missing("hash keys"))?;
    let numbers = shard.sequence_number_range.ok_or_else(missing("sequence numbers"))?;
    let (first, last) = (numbers.starting_sequence_number, numbers.ending_sequence_number);
    Ok(Shard {
        id: ShardId::from(shard.shard_id.as_str()),
        parent: shard.parent_shard_id.as_deref().map(ShardId::from),
        adjacent_parent: shard.adjacent_parent_shard_id.as_deref().map(ShardId::from),
        hash_key_range: HashKeyRange {
            first: keys.starting_hash_key.parse().map_err(|_| missing("hash keys")())?,
            last: keys.ending_hash_key.parse().map_err(|_| missing("hash keys")())?,
        },
        first_sequence_number: first.parse().map_err(|_| missing("sequence numbers")())?,
        last_sequence_number: last.map(|last| last.parse().map_err(|_| missing("sequence numbers")())).transpose()?,
    })
}
