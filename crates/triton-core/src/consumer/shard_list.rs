//! The stream's shard list, requested once for all that need it at the same time.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::backend::StreamClient;
use crate::error::Result;
use crate::model::shard::Shard;

/// Requests the shard list of one stream. A list may be some seconds older than its request.
#[derive(Debug)]
pub(super) struct ShardList {
    client: Arc<dyn StreamClient>,
    /// The newest list, and when it was requested. It stays locked during a request: callers that wait share the result.
    newest: Mutex<Option<(Instant, Arc<[Shard]>)>>,
}

impl ShardList {
    pub(super) fn new(client: Arc<dyn StreamClient>) -> Self {
        Self { client, newest: Mutex::default() }
    }

    /// A list that was requested at this time or later, sorted by id. Cancel safe.
    ///
    /// # Errors
    /// Those of [`StreamClient::shards`].
    pub(super) async fn requested_since(&self, time: Instant) -> Result<Arc<[Shard]>> {
        let mut newest = self.newest.lock().await;
        if let Some((requested_at, shards)) = &*newest
            && *requested_at >= time
        {
            return Ok(Arc::clone(shards));
        }
        let requested_at = Instant::now();
        let shards: Arc<[Shard]> = self.client.shards().await?.into();
        *newest = Some((requested_at, Arc::clone(&shards)));
        Ok(shards)
    }
}
