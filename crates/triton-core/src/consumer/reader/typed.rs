//! Records as values of a type.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream as FuturesStream;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::record::Record;

use super::{Reader, StopHandle};

/// The records of a [`Reader`], each with its payload as a `T`, as a [`futures::Stream`](FuturesStream).
///
/// A record whose payload is no `T` is an item like any other, with the error in the value's place; only the reader's own
/// errors are errors of the item.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use triton_core::{ReaderOptions, Start, Stream, StreamConfig, memory::Memory};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Click { user: u32, page: String }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> triton_core::Result<()> {
/// # let client = Memory::new().stream("clicks", 1)?;
/// # let stream = Stream::new(&StreamConfig::new("clicks"), std::sync::Arc::new(client));
/// stream.put(&Click { user: 7, page: "/".into() }).await?;
/// stream.put(&serde_json::json!({"user": "who?"})).await?;
///
/// let to_the_end = ReaderOptions::default().with_until_caught_up(true);
/// let mut clicks = stream.reader(Start::All, to_the_end).await?.typed::<Click>();
/// while let Some(click) = clicks.next().await {
///     let click = click?;
///     match click.value {
///         Ok(value) => assert_eq!(value, Click { user: 7, page: "/".into() }),
///         // The raw record is there, to be kept elsewhere.
///         Err(error) => println!("{}: {error}, in {} bytes", click.record.sequence_number, click.record.data.len()),
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct TypedReader<T> {
    reader: Reader,
    value: PhantomData<fn() -> T>,
}

/// A record and what it holds.
#[derive(Clone, Debug)]
pub struct Typed<T> {
    /// The record as it was read.
    pub record: Record,
    /// Its payload, or why that is no `T`: [`Error::Decode`](crate::Error::Decode).
    pub value: Result<T>,
}

impl<T: DeserializeOwned> TypedReader<T> {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader, value: PhantomData }
    }

    /// The handle that stops the reader.
    pub fn stop_handle(&self) -> StopHandle {
        self.reader.stop_handle()
    }

    /// The next record; `None` when the reader has ended.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// As an item of [`Reader::next`]: a record that is no `T` is none of these.
    pub async fn next(&mut self) -> Option<Result<Typed<T>>> {
        Some(self.reader.next().await?.map(Typed::new))
    }

    /// The reader, with the records that were not taken yet.
    pub fn into_inner(self) -> Reader {
        self.reader
    }
}

impl<T: DeserializeOwned> Typed<T> {
    fn new(record: Record) -> Self {
        Self { value: record.decode(), record }
    }
}

impl<T: DeserializeOwned> FuturesStream for TypedReader<T> {
    type Item = Result<Typed<T>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.reader.poll(context).map(|item| item.map(|record| record.map(Typed::new)))
    }
}

impl<T> fmt::Debug for TypedReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedReader").field(&self.reader).finish()
    }
}
