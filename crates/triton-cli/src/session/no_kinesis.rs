//! In the place of `kinesis.rs` in a build without Kinesis: what needs it says so.

use anyhow::Result;
use triton_stream::{Builder, Stream, StreamConfig};

use crate::args::Global;
use crate::exit::{Code, Failure};

/// No Kinesis.
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

    /// What a subcommand ends with that needs Kinesis.
    pub(crate) fn missing(&self) -> anyhow::Error {
        Failure::new(Code::Usage, "enhanced fan-out needs Kinesis, which this triton was built without")
            .with_help("build it with the feature 'kinesis', which is on by default")
            .into()
    }
}
