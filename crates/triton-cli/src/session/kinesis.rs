//! Features that only Kinesis has: connection flags, enhanced fan-out, consumers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use triton_stream::kinesis::{ConnectOptions, KinesisBackend, KinesisStream};
use triton_stream::{Backend, Builder, Stream, StreamConfig};

use crate::args::Global;
use crate::exit::{self, Code, Failure};

/// The Kinesis backend with the settings of the command line.
#[derive(Debug)]
pub(crate) struct KinesisAccess {
    backend: Arc<KinesisBackend>,
    is_quiet: bool,
    has_noted_region: AtomicBool,
}

impl KinesisAccess {
    pub(super) fn new(global: &Global) -> Self {
        let mut options = ConnectOptions::default().with_allow_insecure_endpoint(global.insecure_endpoint);
        options.profile.clone_from(&global.profile);
        options.region.clone_from(&global.region);
        options.endpoint_url.clone_from(&global.endpoint_url);
        Self {
            backend: Arc::new(KinesisBackend::new(options)),
            is_quiet: global.quiet,
            has_noted_region: AtomicBool::new(false),
        }
    }

    pub(super) fn register(&self, builder: Builder) -> Builder {
        builder.register(Arc::clone(&self.backend) as Arc<dyn Backend>)
    }

    /// Prints once which region is used, if none is configured.
    pub(super) async fn note_default_region(&self, config: &StreamConfig) -> Result<()> {
        if config.backend != KinesisBackend::NAME {
            return Ok(());
        }
        let kinesis = self.backend.connection(config).await?;
        if kinesis.has_default_region() && !self.is_quiet && !self.has_noted_region.swap(true, Ordering::Relaxed) {
            exit::note(&format!("no region is set: using {}", kinesis.region()));
        }
        Ok(())
    }

    /// The Kinesis client of a stream, for its consumers.
    pub(crate) async fn stream(&self, config: &StreamConfig) -> Result<KinesisStream> {
        if config.backend != KinesisBackend::NAME {
            let (name, backend) = (&config.logical_name, &config.backend);
            let message = format!("'{name}' is a {backend} stream: only Kinesis has enhanced fan-out");
            return Err(Failure::new(Code::Usage, message)
                .with_help(format!("a {backend} stream pushes records to every reader without it"))
                .into());
        }
        self.note_default_region(config).await?;
        Ok(self.backend.connection(config).await?.stream(&config.name)?)
    }

    /// The stream, read by enhanced fan-out as this consumer.
    pub(crate) async fn fan_out(&self, config: &StreamConfig, consumer: &str) -> Result<Stream> {
        let client = self.stream(config).await?.fan_out(consumer).await?;
        if client.has_new_consumer() && !self.is_quiet {
            exit::note(&format!(
                "consumer '{consumer}' is registered now, and costs money until it is removed: 'triton streams \
                 consumers delete -s {} {consumer} --yes'",
                config.logical_name
            ));
        }
        Ok(Stream::new(config, Arc::new(client)))
    }
}
