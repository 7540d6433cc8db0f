//! A Kinesis stream as a [`StreamClient`]: checks calls against the limits and turns responses into receipts. The
//! requests themselves are in `put`, `shard_list` and `reader`.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::types::PutRecordsResultEntry;
use triton_core::{
    Entries, Limits, Position, PutReceipt, Result, SequenceNumber, Shard, ShardId, ShardReader, StreamClient, Timestamp,
};

use crate::error::contract_violation;
use crate::put::put_records;
use crate::reader::polling::Polling;
use crate::reader::subscription::Subscription;
use crate::reader::{PollingReader, SubscribingReader};
use crate::stream::KinesisStream;

#[async_trait]
impl StreamClient for KinesisStream {
    fn name(&self) -> &str {
        self.stream_ref().name()
    }

    async fn created_at(&self) -> Result<Timestamp> {
        self.creation_time().await
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        self.list_shards().await
    }

    async fn put_batch(&self, entries: Entries) -> Result<Vec<Result<PutReceipt>>> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        self.limits().await?.check(&entries)?;
        let _permit = self.kinesis().call_permit().await;
        let response = put_records(self.kinesis().data_client(), self.kinesis().buffers(), self.stream_ref(), &entries)
            .await
            .map_err(|error| self.kinesis().write_context(self.name(), None).error(error))?;
        if response.records.is_empty() {
            return Err(self.kinesis().write_context(self.name(), None).empty_response());
        }
        if response.records.len() != entries.len() {
            let problem = format!("PutRecords gave {} results for {} records", response.records.len(), entries.len());
            return Err(contract_violation(&problem));
        }
        let mut shards = BTreeSet::new();
        Ok(response.records.into_iter().map(|result| self.receipt(result, &mut shards)).collect())
    }

    async fn open_shard(&self, shard: &ShardId, position: Position) -> Result<Box<dyn ShardReader>> {
        let (stream, shard) = (self.clone(), shard.clone());
        match self.registration() {
            Some(consumer) => {
                let source = Subscription::new(self.kinesis().clone(), consumer.arn.clone());
                Ok(Box::new(SubscribingReader::open(stream, shard, position, source).await?))
            }
            None => Ok(Box::new(PollingReader::open(stream, shard, position, Polling::At(position)).await?)),
        }
    }

    async fn limits(&self) -> Result<Limits> {
        let limits = self.polling_limits().await?;
        Ok(match self.registration() {
            // Each consumer has a read quota of its own, and pushed records need no polls.
            Some(_) => limits.with_pushes(true).with_read_quota(None).with_idle_poll(Duration::ZERO),
            None => limits,
        })
    }
}

impl KinesisStream {
    /// The receipt or the error of one entry.
    fn receipt(&self, result: PutRecordsResultEntry, shards: &mut BTreeSet<ShardId>) -> Result<PutReceipt> {
        if let Some(code) = &result.error_code {
            let message = result.error_message.as_deref().unwrap_or(code);
            return Err(self.kinesis().write_context(self.stream_ref().name(), None).code_error(code, message));
        }
        let (Some(shard), Some(number)) = (&result.shard_id, &result.sequence_number) else {
            return Err(contract_violation("a result of PutRecords has neither an error nor a sequence number"));
        };
        // The entries of a call go to few shards: their ids are allocated once.
        let shard_id = shards.get(shard.as_str()).cloned().unwrap_or_else(|| {
            let id = ShardId::from(shard.as_str());
            shards.insert(id.clone());
            id
        });
        let sequence_number = number
            .parse::<SequenceNumber>()
            .map_err(|_| contract_violation("a result of PutRecords has no sequence number"))?;
        Ok(PutReceipt::new(shard_id, sequence_number))
    }
}
