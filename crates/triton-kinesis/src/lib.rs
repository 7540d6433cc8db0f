//! Streams on AWS Kinesis, or on a server that speaks its protocol.
//!
//! [`Kinesis`] is one region (or one other server) with its connections and credentials; a [`KinesisStream`] is one
//! stream of it, and a [`StreamClient`](triton_core::StreamClient) like any other backend's.
//!
//! ```no_run
//! use std::sync::Arc;
//! use triton_core::{Config, Stream};
//! use triton_kinesis::{ConnectOptions, Kinesis};
//!
//! # #[tokio::main]
//! # async fn main() -> triton_core::Result<()> {
//! let config = Config::load("triton.yaml")?;
//! let clicks = config.stream("clicks")?;
//! let kinesis = Kinesis::connect(ConnectOptions::of_stream(clicks)?).await?;
//! let stream = Stream::new(clicks, Arc::new(kinesis.stream(&clicks.name)?));
//! stream.put(&serde_json::json!({"user": "u-1", "page": "/"})).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where region and credentials come from
//! Credentials: the environment, the profile (SSO, processes, web identities and assumed roles included), and the roles
//! of containers and instances, as every AWS tool looks for them; never from Triton's config. The region: the stream's
//! own, else the environment's or the profile's, else us-east-1.
//!
//! # Polling and fan-out
//! A reader polls with GetRecords, at most five times a second and shard, which all readers of the shard share. A client
//! made by [`KinesisStream::fan_out`] is pushed to instead, with 2 MB a second and shard of its own; that costs money.
//!
//! # Where a reader goes on
//! An iterator that has expired is replaced where the reader stands: after the last record that it returned; where it
//! returned none, ten seconds before the time up to which it had seen everything, or at its start, whichever is later.
//! Such times are the server's, known from the dates of its answers: they count whole seconds, so that a start at the
//! latest record may turn out a second early, and never late. Where answers have no dates, this machine's clock counts,
//! ten seconds back.

mod admin;
mod backend;
mod client;
mod clock;
mod connection;
mod consumer;
mod description;
mod error;
mod put;
mod reader;
mod shard_list;
mod stream;
mod stream_ref;
#[cfg(test)]
mod tests;

pub use self::backend::KinesisBackend;
pub use self::connection::{ConnectOptions, Kinesis};
pub use self::consumer::Consumer;
pub use self::description::StreamDescription;
pub use self::error::ConnectError;
pub use self::stream::KinesisStream;
