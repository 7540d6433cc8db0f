//! How producers and readers get their client, so that a test can put another client between them and the model.

use std::fmt;
use std::sync::Arc;

use triton_core::StreamClient;

use crate::model::Handle;

/// Makes the client of a producer or a reader from its connection to the model.
#[derive(Clone)]
pub(crate) struct Connect(Arc<dyn Fn(Handle) -> Arc<dyn StreamClient> + Send + Sync>);

impl Connect {
    /// Uses the model itself as the client.
    pub(crate) fn direct() -> Self {
        Self::with(|handle| Arc::new(handle))
    }

    /// Uses the client that `make` returns.
    pub(crate) fn with(make: impl Fn(Handle) -> Arc<dyn StreamClient> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    pub(crate) fn client(&self, handle: Handle) -> Arc<dyn StreamClient> {
        (self.0)(handle)
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connect")
    }
}
