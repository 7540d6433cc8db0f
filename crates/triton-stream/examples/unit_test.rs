//! A unit test of code that puts records, without a server: `cargo test --example unit_test`. It needs the feature
//! `mock`.
#![expect(clippy::print_stdout, reason = "it shows what it does")]

use serde_json::json;
use triton_stream::{Result, Stream};

/// The code under test: puts orders, and returns the number that were stored.
async fn publish(stream: &Stream, orders: &[u32]) -> usize {
    let orders: Vec<_> = orders.iter().map(|id| json!({"order": id})).collect();
    stream.put_many(&orders).await.into_iter().filter(Result::is_ok).count()
}

#[tokio::main]
async fn main() -> Result<()> {
    let stream = triton_stream::open("orders").await?;
    println!("{} stored", publish(&stream, &[1, 2, 3]).await);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use triton_stream::testing::mock::MockStreamClient;
    use triton_stream::{Error, Limits, PutReceipt, ShardId, StreamConfig};

    use super::*;

    #[tokio::test]
    async fn orders_that_are_refused_are_not_counted() {
        let mut client = MockStreamClient::new();
        client.expect_name().return_const("orders".to_owned());
        // Without a write quota, the producer does not list the shards.
        client.expect_limits().returning(|| Ok(Limits::KINESIS.with_write_quota(None)));
        client.expect_put_batch().times(1).returning(|entries| {
            let stored = || PutReceipt::new(ShardId::numbered(0), 1);
            let refused = || Error::Invalid { problem: "refused".into() };
            Ok((0..entries.len()).map(|n| if n == 0 { Ok(stored()) } else { Err(refused()) }).collect())
        });
        let stream = Stream::new(&StreamConfig::new("orders"), Arc::new(client));
        assert_eq!(publish(&stream, &[1, 2, 3]).await, 1);
    }
}
