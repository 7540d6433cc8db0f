//! Streams of events, on this machine or on AWS Kinesis. The config decides which; a program does not change.
//!
//! [`Triton`] finds the config file as the `triton` command does, and opens each stream on the backend that the config
//! names. Everything that a stream does is in `triton-core`, which is re-exported here.
//!
//! ```yaml
//! # triton.yaml
//! clicks:
//!   name: clicks             # the real stream
//!   partition_key: user      # the field whose value chooses the shard
//!   backend: local           # a SQLite file on this machine; without this line: AWS Kinesis
//! ```
//!
//! ```no_run
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Click {
//!     user: u32,
//!     page: String,
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> triton_stream::Result<()> {
//! let clicks = triton_stream::open("clicks").await?;
//! clicks.put(&Click { user: 7, page: "/".into() }).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A program that uses several streams opens them from one [`Triton`], so that they share connections and files:
//!
//! ```no_run
//! # #[tokio::main]
//! # async fn main() -> triton_stream::Result<()> {
//! use triton_stream::Triton;
//!
//! let triton = Triton::find()?;
//! let clicks = triton.stream("clicks").await?;
//! let orders = triton.stream("orders").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Backends
//! The features `kinesis` and `local` add the backends of these names; `sso` and `credentials-process` add ways to get
//! credentials for Kinesis. All are on by default. A config may name a backend that the build lacks: only
//! opening such a stream is an error, so that one config serves every build. Your own backends are [registered](Builder::register).

mod builder;
mod missing;
mod triton;

pub use self::builder::Builder;
pub use self::triton::{Triton, open};

#[cfg(feature = "kinesis")]
pub use triton_kinesis as kinesis;
#[cfg(feature = "local")]
pub use triton_local as local;

pub use triton_core::*;
