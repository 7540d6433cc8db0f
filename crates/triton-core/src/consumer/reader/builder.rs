//! Builds a reader: options are plain data, and live handles go into the builder.

use std::fmt;
use std::sync::Arc;

use crate::backend::StreamClient;
use crate::consumer::options::{ReaderOptions, Start};
use crate::error::Result;
use crate::flow::Budget;

use super::Reader;

/// Bytes of the budget of a reader that is given none.
const DEFAULT_BUDGET: usize = 64 << 20;

/// Builds a [`Reader`]; made by [`Reader::builder`].
///
/// ```
/// use triton_core::memory::Memory;
/// use triton_core::{Budget, Reader, ReaderOptions, Start};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> triton_core::Result<()> {
/// let client = std::sync::Arc::new(Memory::new().stream("clicks", 4)?);
/// let reader = Reader::builder(client)
///     .options(ReaderOptions::default().with_max_records(1_000))
///     .budget(Budget::new(16 << 20)) // other readers may share it
///     .start(Start::Latest)
///     .await?;
/// # drop(reader);
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until `start` is called"]
pub struct ReaderBuilder {
    client: Arc<dyn StreamClient>,
    options: ReaderOptions,
    budget: Option<Budget>,
}

impl ReaderBuilder {
    pub(super) fn new(client: Arc<dyn StreamClient>) -> Self {
        Self { client, options: ReaderOptions::default(), budget: None }
    }

    /// The reader's options.
    pub fn options(self, options: ReaderOptions) -> Self {
        Self { options, ..self }
    }

    /// The budget that bounds the memory of records that were fetched and not yet delivered. Default: 64 MiB, not shared.
    pub fn budget(self, budget: Budget) -> Self {
        Self { budget: Some(budget), ..self }
    }

    /// Starts reading; [`Start::Latest`] means the time of this call.
    ///
    /// # Errors
    /// As [`Reader::start`].
    pub async fn start(self, start: Start) -> Result<Reader> {
        let budget = self.budget.unwrap_or_else(|| Budget::new(DEFAULT_BUDGET));
        Reader::start_within(self.client, start, self.options, budget).await
    }
}

impl fmt::Debug for ReaderBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaderBuilder")
            .field("stream", &self.client.name())
            .field("options", &self.options)
            .field("budget", &self.budget)
            .finish()
    }
}
