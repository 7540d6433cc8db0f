//! A logical stream: what programs put records into and read records from.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::backend::StreamClient;
use crate::config::StreamConfig;
use crate::consumer::reader::Reader;
use crate::consumer::{ReaderOptions, Start};
use crate::error::{Error, Result};
use crate::flow::seed;
use crate::model::sequence_number::SequenceNumber;
use crate::model::timestamp::Timestamp;
use crate::producer::{Closed, Producer, ProducerOptions};
use crate::record::{Encoder, PutEntry, PutReceipt};

/// A stream under its logical name: encodes, puts and reads.
///
/// ```
/// use std::sync::Arc;
/// use serde::{Deserialize, Serialize};
/// use triton_core::memory::Memory;
/// use triton_core::{Config, ReaderOptions, Start, Stream};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Click { user: u32, page: String }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> triton_core::Result<()> {
/// let config = Config::parse("clicks: {name: clicks_v2, partition_key: user}", "triton.yaml")?;
/// let client = Memory::new().stream("clicks_v2", 4)?;
/// let stream = Stream::new(config.stream("clicks")?, Arc::new(client));
///
/// let receipt = stream.put(&Click { user: 7, page: "/".into() }).await?;
/// println!("stored in {} as {}", receipt.shard_id, receipt.sequence_number);
///
/// let to_the_end = ReaderOptions::default().with_until_caught_up(true);
/// let mut records = stream.reader(Start::All, to_the_end).await?;
/// while let Some(record) = records.next().await {
///     let click: Click = record?.decode()?;
///     assert_eq!(click, Click { user: 7, page: "/".into() });
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Stream {
    config: StreamConfig,
    client: Arc<dyn StreamClient>,
    encoder: Mutex<Encoder>,
    producer: Producer,
}

/// Records that are encoded ahead of those that are being put.
const CHUNK_RECORDS: usize = 10_000;
const CHUNK_BYTES: usize = 8 << 20;

/// Records of a long put, encoded.
#[derive(Default)]
struct Chunk {
    entries: Vec<PutEntry>,
    /// Where in the chunk a record could not be encoded, and why.
    failed: Vec<(usize, Error)>,
}

impl Chunk {
    fn len(&self) -> usize {
        self.entries.len() + self.failed.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an outcome a record: those of the entries, and between them those that could not be encoded.
    fn settle(self, put: Vec<Result<PutReceipt>>, outcomes: &mut Vec<Result<PutReceipt>>) {
        let mut put = put.into_iter();
        let start = outcomes.len();
        for (index, error) in self.failed {
            outcomes.extend(put.by_ref().take(start + index - outcomes.len()));
            outcomes.push(Err(error));
        }
        outcomes.extend(put);
    }
}

impl Stream {
    /// The stream that the config describes, over the client that holds it.
    pub fn new(config: &StreamConfig, client: Arc<dyn StreamClient>) -> Self {
        Self::with_options(config, client, ProducerOptions::default().with_aggregation(config.aggregate))
    }

    /// As [`new`](Self::new), with options for the producer; its seed also decides random partition keys.
    pub fn with_options(config: &StreamConfig, client: Arc<dyn StreamClient>, options: ProducerOptions) -> Self {
        let seed = options.seed.unwrap_or_else(seed::random);
        Self {
            encoder: Mutex::new(Encoder::new(&config.logical_name, config.partition_key.clone(), seed)),
            producer: Producer::new(Arc::clone(&client), options),
            client,
            config: config.clone(),
        }
    }

    /// What the stream's config says.
    pub fn config(&self) -> &StreamConfig {
        &self.config
    }

    /// The client below.
    pub fn client(&self) -> &Arc<dyn StreamClient> {
        &self.client
    }

    /// The producer below, for entries that are encoded already.
    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// Encodes a map or struct and puts it.
    ///
    /// # Errors
    /// As [`Encoder::encode`]; [`Error::RecordTooLarge`](crate::Error::RecordTooLarge); what keeps the stream from taking
    /// it, after the retries: [`may_have_written`](crate::Error::may_have_written) tells whether it may be there all the
    /// same.
    ///
    /// Dropping the future leaves open whether the record is written.
    pub async fn put<T: Serialize + ?Sized>(&self, record: &T) -> Result<PutReceipt> {
        let entry = self.encode(record)?;
        let outcome = self.producer.put_all([entry]).await.pop();
        outcome.unwrap_or_else(|| {
            let problem = "no outcome for a record".into();
            Err(Error::Contract { backend: self.client.name().into(), problem })
        })
    }

    /// Encodes and puts many records, in as few calls as the stream's limits allow. Answers with one result a record, in
    /// their order; one that fails does not keep the others from being put.
    ///
    /// Records are encoded while those before them are put, at most 20,000 or 16 MiB ahead, so that any number may be given.
    ///
    /// Dropping the future leaves open which records are written.
    pub async fn put_many<'a, T, I>(&self, records: I) -> Vec<Result<PutReceipt>>
    where
        T: Serialize + Sync + 'a,
        I: IntoIterator<Item = &'a T>,
        I::IntoIter: Send,
    {
        let mut records = records.into_iter();
        let mut outcomes = Vec::with_capacity(records.size_hint().0);
        let mut before = None;
        loop {
            let mut chunk = self.encode_chunk(&mut records);
            let is_last = chunk.is_empty();
            // It is there by the time that those before it are put.
            let accepted = self.producer.accept_all(std::mem::take(&mut chunk.entries).into_iter()).await;
            if let Some((chunk, accepted)) = before.replace((chunk, accepted)) {
                let mut put = Vec::with_capacity(CHUNK_RECORDS);
                accepted.outcomes(&mut put).await;
                chunk.settle(put, &mut outcomes);
            }
            if is_last {
                return outcomes;
            }
        }
    }

    fn encode_chunk<'a, T: Serialize + 'a>(&self, records: &mut impl Iterator<Item = &'a T>) -> Chunk {
        let mut encoder = self.encoder.lock().unwrap_or_else(PoisonError::into_inner);
        let mut chunk = Chunk::default();
        let mut bytes = 0;
        while chunk.len() < CHUNK_RECORDS
            && bytes < CHUNK_BYTES
            && let Some(record) = records.next()
        {
            match encoder.encode(record) {
                Ok(entry) => {
                    bytes += entry.size();
                    chunk.entries.push(entry);
                }
                Err(error) => chunk.failed.push((chunk.len(), error)),
            }
        }
        chunk
    }

    /// Encodes a map or struct without putting it.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode<T: Serialize + ?Sized>(&self, record: &T) -> Result<PutEntry> {
        self.encoder.lock().unwrap_or_else(PoisonError::into_inner).encode(record)
    }

    /// Puts nothing more, and waits until everything that the producer has accepted has its outcome.
    pub async fn close(self) -> Closed {
        self.producer.close().await
    }

    /// Reads every shard from now on.
    ///
    /// # Errors
    /// As [`Reader::start`].
    pub async fn from_latest(&self) -> Result<Reader> {
        self.reader(Start::Latest, ReaderOptions::default()).await
    }

    /// Reads every shard from its oldest record on.
    ///
    /// # Errors
    /// As [`Reader::start`].
    pub async fn from_all(&self) -> Result<Reader> {
        self.reader(Start::All, ReaderOptions::default()).await
    }

    /// Reads one shard, by its number, after a record of it, and then the shards that come from it.
    ///
    /// # Errors
    /// As [`Reader::start`].
    pub async fn from_sequence_number(&self, shard: usize, sequence_number: SequenceNumber) -> Result<Reader> {
        self.reader(Start::After { shard, sequence_number }, ReaderOptions::default()).await
    }

    /// Reads every shard from the first record on that arrived at this time or later.
    ///
    /// # Errors
    /// As [`Reader::start`].
    pub async fn from_time(&self, time: Timestamp) -> Result<Reader> {
        self.reader(Start::Time(time), ReaderOptions::default()).await
    }

    /// Reads from `start` on; the options choose shards, and whether reading ends when it has caught up.
    ///
    /// ```
    /// # use triton_core::{Config, ReaderOptions, Start, Stream, StreamConfig, memory::Memory};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> triton_core::Result<()> {
    /// # let stream = Stream::new(&StreamConfig::local("clicks"), std::sync::Arc::new(Memory::new().stream("clicks", 4)?));
    /// // The first of two programs that share a stream of four shards.
    /// let records = stream.reader(Start::Latest, ReaderOptions::default().with_shards([0, 1])).await?;
    /// // Elsewhere, to end it: what was fetched is still delivered.
    /// records.stop_handle().stop();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Reader::start`].
    pub async fn reader(&self, start: Start, options: ReaderOptions) -> Result<Reader> {
        Reader::start(Arc::clone(&self.client), start, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::memory::Memory;
    use serde_json::json;

    #[tokio::test]
    async fn many_records_have_their_outcomes_in_their_places() {
        let config = Config::parse("clicks: {name: clicks, partition_key: user}", "triton.yaml").unwrap();
        let client = Memory::new().stream("clicks", 2).unwrap();
        let stream = Stream::new(config.stream("clicks").unwrap(), Arc::new(client));
        // More than two chunks; the first, the last and every seventh have no key.
        let is_bad = |n: usize| n.is_multiple_of(7) || n == 25_000;
        let records: Vec<_> =
            (0..=25_000).map(|n| if is_bad(n) { json!({"n": n}) } else { json!({"user": n, "n": n}) }).collect();
        let outcomes = stream.put_many(&records).await;
        assert_eq!(outcomes.len(), records.len());
        let mut last = SequenceNumber::ZERO;
        for (n, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Ok(receipt) => {
                    assert!(!is_bad(n) && receipt.sequence_number > last, "record {n}");
                    last = receipt.sequence_number;
                }
                Err(error) => assert!(is_bad(n) && matches!(error, Error::NoPartitionKey { .. }), "record {n}"),
            }
        }
    }
}
