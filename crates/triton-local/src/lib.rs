//! Streams in SQLite files: the backend that needs nothing installed.
//!
//! A folder holds one file per stream. Any number of processes may put and read at once, and a reader sees the records
//! of another process within 20 ms. A stream has real shards, with hash keys, splits, merges and retention as on
//! Kinesis, so that a pipeline that runs here runs there.
//!
//! ```
//! use triton_core::{CreateOptions, ReaderOptions, Start, Stream, StreamConfig};
//! use triton_local::LocalStreams;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let streams = LocalStreams::new(folder.path());
//! let client = streams.open_or_create("clicks", CreateOptions::default().with_shards(2)).await?;
//! let stream = Stream::new(&StreamConfig::new("clicks"), client);
//! stream.put(&serde_json::json!({"msg": "hi"})).await?;
//!
//! let to_the_end = ReaderOptions::default().with_until_caught_up(true);
//! let mut records = stream.reader(Start::All, to_the_end).await?;
//! assert_eq!(&records.next().await.unwrap()?.data[..], b"\x81\xa3msg\xa2hi");
//! # Ok(())
//! # }
//! ```
//!
//! # Durability
//! A put is acknowledged when its transaction is on disk (WAL, `synchronous = FULL`): it survives a killed process and
//! a power cut. Puts that arrive close together share a transaction.

mod backend;
mod cursor;
mod error;
mod file;
mod folder;
mod layout;
mod read_thread;
mod stream;
mod write_thread;

pub use self::backend::LocalBackend;
pub use self::folder::LocalStreams;
