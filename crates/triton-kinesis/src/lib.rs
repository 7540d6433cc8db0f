//! Streams on AWS Kinesis, or on a server that speaks its protocol.
//!
//! [`Kinesis`] is one region or endpoint, with its connections and credentials. A [`KinesisStream`] is one stream
//! there: a [`StreamClient`](triton_core::StreamClient) like any other backend's.
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
//! Credentials: from the environment, the profile, and the roles of containers and instances, in the order of every AWS
//! tool; never from Triton's config. Profiles that sign in by SSO need the feature `sso`, profiles that run a program
//! the feature `credentials-process`; both are on by default. Region: the stream's, else the environment's or the
//! profile's, else us-east-1.
//!
//! # Polling and fan-out
//! A reader polls with GetRecords: at most five times a second per shard, shared by all readers of the shard. To a
//! client made by [`KinesisStream::fan_out`] Kinesis pushes instead, with 2 MB a second per shard of its own; that
//! costs money.
//!
//! # Expired iterators
//! A reader replaces an expired iterator at its position: after the last record that it returned. Before the first
//! record that is ten seconds before the time at which it was last caught up, or its start, whichever is later. These
//! times are the server's, from the dates of its responses. Dates count whole seconds, so a start at the latest record
//! may be up to a second early, never late. If responses have no date, this machine's clock minus ten seconds is used.

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
