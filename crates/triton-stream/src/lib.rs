//! Streams of events, on a laptop and on AWS Kinesis by config alone: the front door of a program.
//!
//! [`Triton`] finds the config file as the `triton` command does, and opens its streams on whatever backend they are.
//! What a stream does from there on is `triton-core`'s, which is re-exported here.
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
//! The features `kinesis` and `local`, both on, bring the backends of these names. A stream of a backend that is left
//! out is an error when it is opened, not before, so that one config serves every build. Your own are
//! [registered](Builder::register).

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
