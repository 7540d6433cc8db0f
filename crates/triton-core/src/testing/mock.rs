//! Mocks of the traits (feature `mock`), for unit tests of code that uses Triton, without a server.
//!
//! ```
//! use std::sync::Arc;
//! use triton_core::testing::mock::MockStreamClient;
//! use triton_core::{Error, Limits, PutReceipt, ShardId, Stream, StreamConfig};
//!
//! /// The code under test: tells how many of the orders were stored.
//! async fn publish(stream: &Stream, orders: &[u32]) -> usize {
//!     let orders: Vec<_> = orders.iter().map(|id| serde_json::json!({ "order": id })).collect();
//!     stream.put_many(&orders).await.into_iter().filter(Result::is_ok).count()
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let mut client = MockStreamClient::new();
//! client.expect_name().return_const("orders".to_owned());
//! // Without a quota to keep to, nobody asks for the shards.
//! client.expect_limits().returning(|| Ok(Limits::KINESIS.with_write_quota(None)));
//! client.expect_put_batch().times(1).returning(|entries| {
//!     // The first is stored, the rest is refused for good.
//!     let stored = |_| PutReceipt::new(ShardId::numbered(0), 1);
//!     let refused = || Error::Invalid { problem: "refused".into() };
//!     Ok((0..entries.len()).map(|n| if n == 0 { Ok(stored(n)) } else { Err(refused()) }).collect())
//! });
//! let stream = Stream::new(&StreamConfig::new("orders"), Arc::new(client));
//! assert_eq!(publish(&stream, &[1, 2, 3]).await, 1);
//! # }
//! ```

pub use crate::backend::MockStreamClient;

use async_trait::async_trait;

use crate::backend::{Batch, ShardReader};
use crate::error::Result;
use crate::model::position::Position;

mockall::mock! {
    /// A mock of [`ShardReader`]. The methods that a backend may leave out behave as if it had.
    #[derive(Debug)]
    pub ShardReader {}

    #[async_trait]
    impl ShardReader for ShardReader {
        async fn next_batch(&mut self, max_records: usize) -> Result<Option<Batch>>;
        fn position(&self) -> Position;
    }
}
