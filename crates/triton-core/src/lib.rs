//! Event pipelines over sharded streams: put records in at one end, read them at the other.
//!
//! ```text
//!         triton.yaml ── logical stream name -> real stream, backend, region, partition key
//!              │
//!  put ──► Producer ──► StreamClient ──► Kinesis │ local (SQLite) │ memory
//!                                           │
//!  get ◄── Record ◄──── Reader ◄─────── ShardReader (one per shard)
//! ```
//!
//! Programs use a [`Stream`]; it is made of a [`StreamConfig`] and a [`StreamClient`], and knows no backend. A backend
//! implements [`StreamClient`] and [`ShardReader`]: `triton-kinesis` reaches them on AWS, `triton-local` keeps them in
//! SQLite files, [`memory`] for tests. What every backend needs is written here once: [encoding](record), [putting](Producer) with retries and
//! order, [reading](Reader) through splits and merges. What is counted meanwhile is listed in [`metric`].
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use triton_core::memory::Memory;
//! use triton_core::{Config, Start, Stream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> triton_core::Result<()> {
//! let config = Config::parse("my_stream: {name: my_stream_v2, partition_key: value}", "triton.yaml")?;
//! let client = Memory::new().stream("my_stream_v2", 2)?;
//! let stream = Stream::new(config.stream("my_stream")?, Arc::new(client));
//!
//! let mut records = stream.read_from(Start::Latest).await?;
//! stream.put(&serde_json::json!({"value": "hi mom", "ts": 1433969276.172019})).await?;
//!
//! let record = records.next().await.expect("a stream has no end")?;
//! assert_eq!(record.partition_key.as_str(), "hi mom");
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//! - `mock`: mocks of the traits for your unit tests; see the `mock` module.
//! - `testing`: the suite that a backend runs in its own tests.

pub mod backend;
pub mod config;
mod consumer;
mod error;
pub mod flow;
pub mod memory;
pub mod metric;
mod model;
mod producer;
pub mod record;
mod stream;
pub mod testing;

// Implementing a backend, or naming a payload, takes these versions of the two crates.
pub use async_trait::async_trait;
pub use bytes;

pub use self::backend::{
    Backend, Batch, Check, CheckOutcome, CreateOptions, Limits, Quota, Registry, ShardReader, StreamAdmin, StreamClient,
};
pub use self::config::{Config, StreamConfig};
pub use self::consumer::reader::{Reader, StopHandle, Typed, TypedReader};
pub use self::consumer::{ReaderOptions, Start};
pub use self::error::{
    Cause, ConfigError, DecodeError, DecodeErrorKind, Error, ErrorKind, JsonError, ParseError, Result, Size,
    TrySubmitError,
};
pub use self::flow::{Budget, RetryPolicy};
pub use self::model::hash_key::{HashKey, HashKeyRange};
pub use self::model::position::Position;
pub use self::model::sequence_number::SequenceNumber;
pub use self::model::shard::{Shard, ShardId};
pub use self::model::shard_map::{MAX_SHARDS, ShardMap};
pub use self::model::shard_router::ShardRouter;
pub use self::model::timestamp::Timestamp;
pub use self::producer::{
    CloseSummary, FailedHook, FailedPut, KeyOrder, Producer, ProducerBuilder, ProducerOptions, ProducerStats, Ticket,
};
pub use self::record::{Entries, PartitionKey, PutEntry, PutReceipt, Record};
pub use self::stream::{Stream, StreamBuilder};
