//! Event pipelines over sharded streams: producers put records, readers read them.
//!
//! ```text
//!         triton.yaml ── logical stream name -> real stream, backend, region, partition key
//!              │
//!  put ──► Producer ──► StreamClient ──► Kinesis │ local (SQLite) │ memory
//!                                           │
//!  get ◄── Record ◄──── Reader ◄─────── ShardReader (one per shard)
//! ```
//!
//! Programs use a [`Stream`], which combines a [`StreamConfig`] and a [`StreamClient`] and does not depend on a
//! backend. A backend implements [`StreamClient`] and [`ShardReader`]: `triton-kinesis` for AWS, `triton-local` for
//! SQLite files, and [`memory`] for tests. This crate contains everything that backends share: [encoding](record), a
//! [`Producer`] with retries and order per key, and a [`Reader`] that follows splits and merges. [`metric`] lists the
//! metrics.
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
//! let record = records.next().await.expect("a stream does not end")?;
//! assert_eq!(record.partition_key.as_str(), "hi mom");
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//! - `mock`: mocks of the traits for your unit tests; see the `mock` module.
//! - `testing`: the conformance suite for backends, and injected faults for any client.

pub mod backend;
#[cfg(test)]
mod captured_warnings;
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
#[cfg(any(feature = "testing", feature = "mock"))]
pub mod testing;

// Implementing a backend, or naming a payload, takes these versions of the two crates.
pub use async_trait::async_trait;
pub use bytes;

pub use self::backend::{
    Backend, Batch, Check, CheckOutcome, CreateOptions, Limits, Quota, Registry, ShardReader, StreamAdmin, StreamClient,
};
pub use self::config::{Config, StreamConfig};
pub use self::consumer::reader::{Reader, ReaderBuilder, ReaderEvent, ShardBatch, StopHandle, Typed, TypedReader};
pub use self::consumer::{ReaderOptions, Start};
pub use self::error::{
    Cause, ConfigError, DecodeError, DecodeErrorKind, Error, ErrorKind, JsonError, ParseError, Result, Size,
    TrySubmitError,
};
pub use self::flow::{Budget, RetryPolicy};
pub use self::model::checkpoint::{Checkpoint, Checkpoints, Progress};
pub use self::model::hash_key::{HashKey, HashKeyRange};
pub use self::model::position::Position;
pub use self::model::record_id::RecordId;
pub use self::model::sequence_number::SequenceNumber;
pub use self::model::shard::{ChildShard, Shard, ShardId};
pub use self::model::shard_map::{MAX_SHARDS, ShardMap};
pub use self::model::shard_ref::ShardRef;
pub use self::model::shard_router::ShardRouter;
pub use self::model::timestamp::Timestamp;
pub use self::producer::{
    CloseSummary, FailedHook, FailedPut, KeyOrder, Producer, ProducerBuilder, ProducerOptions, ProducerStats, Ticket,
};
pub use self::record::{Entries, PartitionKey, PutEntry, PutReceipt, Record};
pub use self::stream::{Stream, StreamBuilder};
