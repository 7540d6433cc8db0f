//! The backends of a program, chosen before it opens a stream.

use std::sync::Arc;

use triton_core::{Backend, Config, Error, Registry, Result};

use crate::missing::MissingBackend;
use crate::triton::Triton;

/// Builds a [`Triton`], for programs with backends of their own, or with options for the built-in ones.
///
/// ```
/// use std::sync::Arc;
/// use triton_stream::memory::MemoryBackend;
/// use triton_stream::{Config, Triton};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> triton_stream::Result<()> {
/// let config = Config::parse("clicks: {name: clicks, partition_key: null, backend: memory}", "triton.yaml")?;
/// let triton = Triton::builder().register(Arc::new(MemoryBackend::default())).from_config(config)?;
/// let clicks = triton.stream("clicks").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    registry: Registry,
}

impl Default for Builder {
    /// The backends of this crate's features.
    fn default() -> Self {
        let mut registry = Registry::new();
        registry.register(Arc::new(MissingBackend::KINESIS));
        registry.register(Arc::new(MissingBackend::LOCAL));
        #[cfg(feature = "kinesis")]
        registry.register(Arc::<triton_kinesis::KinesisBackend>::default());
        #[cfg(feature = "local")]
        registry.register(Arc::<triton_local::LocalBackend>::default());
        Self { registry }
    }
}

impl Builder {
    /// Adds a backend under its name. It replaces an earlier one of that name.
    pub fn register(mut self, backend: Arc<dyn Backend>) -> Self {
        self.registry.register(backend);
        self
    }

    /// Finds and reads the config: `$TRITON_CONFIG`, else the first that exists of `./triton.yaml`,
    /// `$XDG_CONFIG_HOME/triton/triton.yaml` and `/etc/triton.yaml`.
    ///
    /// # Errors
    /// [`Error::Config`] if it is invalid; [`Error::Setting`] if there is none.
    pub fn find(self) -> Result<Triton> {
        let config = Config::find()?.ok_or_else(|| Error::Setting {
            problem: "no config found ($TRITON_CONFIG, ./triton.yaml, $XDG_CONFIG_HOME/triton/triton.yaml, \
                      /etc/triton.yaml)"
                .into(),
            help: Some("write a triton.yaml, or use Triton::local() for streams on this machine".into()),
        })?;
        self.from_config(config)
    }

    /// Uses this config.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::Setting`] for an unknown backend or key, and for a value that a backend refuses.
    pub fn from_config(self, config: Config) -> Result<Triton> {
        self.registry.check(&config)?;
        Ok(Triton::new(Some(config), self.registry))
    }

    /// Uses no config: every name is that of a local stream, as in the command when it finds no config.
    pub fn local(self) -> Triton {
        Triton::new(None, self.registry)
    }
}
