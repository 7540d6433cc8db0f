//! Builds a producer: options are plain data, and live handles go into the builder.

use std::fmt;
use std::sync::Arc;

use crate::backend::StreamClient;
use crate::flow::Budget;

use super::hook::{FailedHook, FailedPut};
use super::options::ProducerOptions;
use super::shared::Shared;
use super::{Handle, Producer};

/// Bytes of the budget of a producer that is given none.
const DEFAULT_BUDGET: usize = 64 << 20;

/// Builds a [`Producer`]; made by [`Producer::builder`].
///
/// ```
/// use triton_core::memory::Memory;
/// use triton_core::{Budget, Producer, ProducerOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> triton_core::Result<()> {
/// let client = std::sync::Arc::new(Memory::new().stream("clicks", 4)?);
/// let producer = Producer::builder(client)
///     .options(ProducerOptions::default().with_aggregation(true))
///     .budget(Budget::new(16 << 20)) // others may share it
///     .on_failed(|failed| eprintln!("{}: {}", failed.entry.partition_key, failed.error))
///     .build();
/// # drop(producer);
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct ProducerBuilder {
    client: Arc<dyn StreamClient>,
    options: ProducerOptions,
    budget: Option<Budget>,
    on_failed: Option<FailedHook>,
}

impl ProducerBuilder {
    pub(super) fn new(client: Arc<dyn StreamClient>) -> Self {
        Self { client, options: ProducerOptions::default(), budget: None, on_failed: None }
    }

    /// The producer's options.
    pub fn options(self, options: ProducerOptions) -> Self {
        Self { options, ..self }
    }

    /// The budget that bounds the memory of records without an outcome. Default: 64 MiB, not shared.
    pub fn budget(self, budget: Budget) -> Self {
        Self { budget: Some(budget), ..self }
    }

    /// Calls `hook` with each record that could not be put.
    pub fn on_failed(self, hook: impl Fn(FailedPut) + Send + Sync + 'static) -> Self {
        Self { on_failed: Some(Arc::new(hook)), ..self }
    }

    /// The producer. Its task starts with the first record.
    pub fn build(self) -> Producer {
        let budget = self.budget.unwrap_or_else(|| Budget::new(DEFAULT_BUDGET));
        Producer(Arc::new(Handle(Arc::new(Shared::new(self.client, self.options, budget, self.on_failed)))))
    }
}

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerBuilder")
            .field("stream", &self.client.name())
            .field("options", &self.options)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
