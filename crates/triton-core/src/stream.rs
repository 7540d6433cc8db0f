//! A logical stream: what programs put records into and read records from.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

use crate::backend::StreamClient;
use crate::config::StreamConfig;
use crate::consumer::reader::Reader;
use crate::consumer::{ReaderOptions, Start};
use crate::error::{Error, Result, TrySubmitError};
use crate::flow::Budget;
use crate::flow::seed;
use crate::producer::{CloseSummary, FailedPut, Producer, ProducerBuilder, ProducerOptions, ProducerStats, Ticket};
use crate::record::{Encoder, KeySource, PutEntry, PutReceipt};

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
///
/// It is cheap to clone; clones share the producer. [`Producer`] says what happens when it is closed, and when the last
/// clone is dropped.
#[derive(Clone)]
pub struct Stream(Arc<Inner>);

struct Inner {
    config: StreamConfig,
    client: Arc<dyn StreamClient>,
    encoders: EncoderPool,
    producer: Producer,
}

/// A pool of encoders. An encoder is outside the pool while it encodes, so that no lock is held while a value's own
/// `Serialize` runs: it may be slow, panic, or put records itself.
struct EncoderPool {
    stream: String,
    partition_key: KeySource,
    pool: Mutex<Encoders>,
}

struct Encoders {
    /// At most as many as were ever used at once.
    #[expect(clippy::vec_box, reason = "taken and put back for each record, and several hundred bytes large")]
    idle: Vec<Box<Encoder>>,
    /// Source of the next encoder's seed.
    random: StdRng,
}

impl EncoderPool {
    fn new(config: &StreamConfig, seed: u64) -> Self {
        Self {
            stream: config.logical_name.clone(),
            partition_key: config.partition_key.clone(),
            // A single caller always gets this encoder, so that its random keys follow from the seed.
            pool: Mutex::new(Encoders {
                idle: vec![Box::new(Encoder::new(&config.logical_name, config.partition_key.clone(), seed))],
                random: StdRng::seed_from_u64(seed),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Encoders> {
        // A panic cannot leave the pool inconsistent: encoders in use are not in it.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `encode` with an encoder of its own.
    fn with<T>(&self, encode: impl FnOnce(&mut Encoder) -> T) -> T {
        let mut encoder = self.take();
        let encoded = encode(&mut encoder);
        self.lock().idle.push(encoder);
        encoded
    }

    fn take(&self) -> Box<Encoder> {
        let mut pool = self.lock();
        if let Some(encoder) = pool.idle.pop() {
            return encoder;
        }
        let seed = pool.random.random();
        Box::new(Encoder::new(&self.stream, self.partition_key.clone(), seed))
    }
}

/// Maximum records and bytes of a chunk. One chunk is encoded while the one before it is put.
const CHUNK_RECORDS: usize = 10_000;
const CHUNK_BYTES: usize = 8 << 20;

/// Encoded records of a long put.
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

    /// Appends one outcome per record: those of the entries, and between them those of records that could not be encoded.
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
        Self::builder(config, client).build()
    }

    /// As [`new`](Self::new), with options for the producer. Options that are `None` come from the config. The seed
    /// also decides random partition keys.
    pub fn with_options(config: &StreamConfig, client: Arc<dyn StreamClient>, options: ProducerOptions) -> Self {
        Self::builder(config, client).options(options).build()
    }

    /// A builder, which takes live handles for the producer beside the options: a budget, a hook for failures.
    pub fn builder(config: &StreamConfig, client: Arc<dyn StreamClient>) -> StreamBuilder {
        StreamBuilder {
            config: config.clone(),
            producer: Producer::builder(Arc::clone(&client)),
            client,
            options: ProducerOptions::default(),
        }
    }

    /// The stream's config.
    pub fn config(&self) -> &StreamConfig {
        &self.0.config
    }

    /// The stream's client.
    pub fn client(&self) -> &Arc<dyn StreamClient> {
        &self.0.client
    }

    /// The stream's producer, for entries that are already encoded.
    pub fn producer(&self) -> &Producer {
        &self.0.producer
    }

    /// Encodes a map or struct, and submits it as soon as the budget has room for it. The ticket resolves to its outcome.
    ///
    /// ```
    /// # use triton_core::{Stream, StreamConfig, memory::Memory};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> triton_core::Result<()> {
    /// # let stream = Stream::new(&StreamConfig::new("clicks"), std::sync::Arc::new(Memory::new().stream("clicks", 4)?));
    /// let mut tickets = Vec::new();
    /// for n in 0..1000 {
    ///     tickets.push(stream.submit(&serde_json::json!({"n": n})).await?);
    /// }
    /// for ticket in tickets {
    ///     println!("{}", ticket.await?.sequence_number);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Encoder::encode`] and [`Producer::submit`].
    ///
    /// Cancel safe: a record that was not accepted is not put.
    pub async fn submit<T: Serialize + ?Sized>(&self, record: &T) -> Result<Ticket> {
        let entry = self.encode(record)?;
        self.producer().submit(entry).await
    }

    /// Encodes a map or struct, and submits it if the budget has room for it now.
    ///
    /// # Errors
    /// [`TrySubmitError`], which gives the record back.
    pub fn try_submit<'a, T: Serialize + ?Sized>(&self, record: &'a T) -> Result<Ticket, TrySubmitError<&'a T>> {
        let entry = self.encode(record).map_err(|error| TrySubmitError::Refused(record, Box::new(error)))?;
        self.producer().try_submit(entry).map_err(|error| error.with(record))
    }

    /// Encodes a map or struct, puts it, and returns when it is durable.
    ///
    /// One put after the other costs a round trip per record: some 10 ms on Kinesis, so that a loop puts a hundred records
    /// per second. [`submit`](Self::submit) many and await their tickets, or [put them together](Self::put_many), to share
    /// calls.
    ///
    /// # Errors
    /// As [`Encoder::encode`]; [`Error::RecordTooLarge`](crate::Error::RecordTooLarge); the error of the last attempt,
    /// whose [`may_have_written`](crate::Error::may_have_written) says whether the record may be stored.
    ///
    /// Dropping the future leaves open whether the record is written.
    pub async fn put<T: Serialize + ?Sized>(&self, record: &T) -> Result<PutReceipt> {
        let entry = self.encode(record)?;
        self.producer().put(entry).await
    }

    /// Encodes and puts many records, in as few calls as the stream's limits allow. Returns one result per record, in
    /// order; one that fails does not keep the others from being put.
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
            // It is accepted before the previous chunk is awaited, so that the producer never runs dry.
            let accepted = self.producer().accept_all(std::mem::take(&mut chunk.entries).into_iter()).await;
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
        self.0.encoders.with(|encoder| {
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
        })
    }

    /// Encodes a map or struct without putting it.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode<T: Serialize + ?Sized>(&self, record: &T) -> Result<PutEntry> {
        self.0.encoders.with(|encoder| encoder.encode(record))
    }

    /// Accepts nothing more, waits until every submitted record has its outcome, and returns the counts of outcomes.
    /// See [`Producer::close`].
    ///
    /// # Errors
    /// As [`Producer::close`].
    pub async fn close(&self) -> Result<CloseSummary> {
        self.producer().close().await
    }

    /// As [`close`](Self::close), within a time limit: records without an outcome by then fail. See
    /// [`Producer::close_within`].
    ///
    /// # Errors
    /// As [`Producer::close`].
    pub async fn close_within(&self, time: Duration) -> Result<CloseSummary> {
        self.producer().close_within(time).await
    }

    /// The counts of the stream's producer at the moment.
    pub fn stats(&self) -> ProducerStats {
        self.producer().stats()
    }

    /// Reads every shard from `start` on, and follows the stream without an end.
    ///
    /// # Errors
    /// As [`Reader::start`].
    pub async fn read_from(&self, start: Start) -> Result<Reader> {
        self.reader(start, ReaderOptions::default()).await
    }

    /// Reads from `start` on; the options choose shards, and whether reading ends when it has caught up.
    ///
    /// ```
    /// # use triton_core::{Config, ReaderOptions, Start, Stream, StreamConfig, memory::Memory};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> triton_core::Result<()> {
    /// # let stream = Stream::new(&StreamConfig::new("clicks"), std::sync::Arc::new(Memory::new().stream("clicks", 4)?));
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
        Reader::start(Arc::clone(self.client()), start, options).await
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("config", self.config())
            .field("client", self.client())
            .field("producer", self.producer())
            .finish_non_exhaustive()
    }
}

/// Builds a [`Stream`]; made by [`Stream::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct StreamBuilder {
    config: StreamConfig,
    client: Arc<dyn StreamClient>,
    options: ProducerOptions,
    producer: ProducerBuilder,
}

impl StreamBuilder {
    /// Options of the producer. Those that are `None` come from the config.
    pub fn options(self, options: ProducerOptions) -> Self {
        Self { options, ..self }
    }

    /// The budget of the producer, as [`ProducerBuilder::budget`].
    pub fn budget(self, budget: Budget) -> Self {
        Self { producer: self.producer.budget(budget), ..self }
    }

    /// Calls `hook` with each record that could not be put.
    pub fn on_failed(self, hook: impl Fn(FailedPut) + Send + Sync + 'static) -> Self {
        Self { producer: self.producer.on_failed(hook), ..self }
    }

    /// The stream.
    pub fn build(self) -> Stream {
        let seed = self.options.seed.unwrap_or_else(seed::random);
        let aggregation = self.options.aggregation.or(Some(self.config.aggregate));
        let options = ProducerOptions { aggregation, ..self.options };
        Stream(Arc::new(Inner {
            encoders: EncoderPool::new(&self.config, seed),
            producer: self.producer.options(options).build(),
            client: self.client,
            config: self.config,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::memory::Memory;
    use crate::model::sequence_number::SequenceNumber;
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

    fn clicks(extra: &str, options: ProducerOptions) -> Stream {
        let text = format!("clicks: {{name: clicks, partition_key: user{extra}}}");
        let config = Config::parse(&text, "triton.yaml").unwrap();
        let client = Memory::new().stream("clicks", 2).unwrap();
        Stream::with_options(config.stream("clicks").unwrap(), Arc::new(client), options)
    }

    /// How many records of ten are read from aggregates.
    async fn aggregated(stream: &Stream) -> usize {
        let records: Vec<_> = (0..10).map(|n| json!({"user": "one", "n": n})).collect();
        assert!(stream.put_many(&records).await.iter().all(Result::is_ok));
        let to_the_end = ReaderOptions::default().with_until_caught_up(true);
        let mut reader = stream.reader(Start::All, to_the_end).await.unwrap();
        let mut aggregated = 0;
        while let Some(record) = reader.next().await {
            aggregated += usize::from(record.unwrap().sub_sequence_number.is_some());
        }
        aggregated
    }

    #[tokio::test]
    async fn options_keep_the_aggregation_of_the_config_unless_they_decide_it() {
        let options = ProducerOptions::default().with_linger(Duration::from_millis(1));
        for (extra, options, expected) in [
            (", aggregate: true", options.clone(), 10),
            (", aggregate: true", options.clone().with_aggregation(false), 0),
            ("", options.clone(), 0),
            ("", options.with_aggregation(true), 10),
        ] {
            assert_eq!(aggregated(&clicks(extra, options.clone())).await, expected, "{extra}, {options:?}");
        }
    }

    /// A value that submits another one while it is encoded.
    struct Nested<'a>(&'a Stream);

    impl Serialize for Nested<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
            drop(self.0.try_submit(&json!({"user": "inner"})).unwrap());
            json!({"user": "outer"}).serialize(serializer)
        }
    }

    #[tokio::test]
    async fn a_value_may_use_the_stream_while_it_is_encoded() {
        let stream = clicks("", ProducerOptions::default());
        let ticket = stream.submit(&Nested(&stream)).await.unwrap();
        stream.put_many(&[Nested(&stream)]).await.remove(0).unwrap();
        ticket.await.unwrap();
        assert_eq!(stream.close().await.unwrap().acknowledged, 4);
    }

    #[tokio::test]
    async fn what_cannot_be_submitted_now_is_given_back() {
        let stream = clicks("", ProducerOptions::default());
        let keyless = json!({"n": 1});
        let error = stream.try_submit(&keyless).unwrap_err();
        assert_eq!(error.to_string(), stream.encode(&keyless).unwrap_err().to_string());
        assert_eq!(*error.into_inner(), keyless);
        let click = json!({"user": 7});
        stream.try_submit(&click).unwrap().await.unwrap();
        let other = stream.clone();
        assert_eq!(other.close().await.unwrap().acknowledged, 1);
        assert!(matches!(stream.try_submit(&click), Err(TrySubmitError::Closed(back)) if *back == click));
        assert!(matches!(stream.submit(&click).await, Err(Error::Closed { .. })));
        assert_eq!(stream.stats().acknowledged, 1);
    }
}
