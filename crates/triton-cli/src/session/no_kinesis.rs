//! Replaces `kinesis.rs` in a build without Kinesis: enhanced fan-out is an error.

use anyhow::Result;
use triton_stream::{Builder, Stream, StreamConfig};

use crate::args::Global;
use crate::exit::{Code, Failure};

/// Access to Kinesis, which this build lacks.
#[derive(Debug)]
pub(crate) struct KinesisAccess;

impl KinesisAccess {
    pub(super) fn new(_: &Global) -> Self {
        Self
    }

    pub(super) fn register(&self, builder: Builder) -> Builder {
        builder
    }

    pub(super) async fn note_default_region(&self, _: &StreamConfig) -> Result<()> {
        Ok(())
    }

    pub(crate) async fn fan_out(&self, _: &StreamConfig, _: &str) -> Result<Stream> {
        Err(self.missing())
    }

    /// The error of a subcommand that needs Kinesis.
    pub(crate) fn missing(&self) -> anyhow::Error {
        Failure::new(Code::Usage, "enhanced fan-out needs Kinesis, which this triton was built without")
            .with_help("build it with the feature 'kinesis', which is on by default")
            .into()
    }
}
