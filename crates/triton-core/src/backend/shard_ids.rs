//! Which shards a user means by ids and numbers.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::flow::{RetryPolicy, retry};
use crate::model::shard::{Shard, ShardId};
use crate::model::shard_ref::ShardRef;

use super::StreamClient;

/// How long lists may lack a number. That is more often a mistake than a list that lags.
const NUMBER_PATIENCE: Duration = Duration::from_secs(2);

/// The ids of these shards, one for each, in order. Only numbers need the list, which is requested again for up to two seconds if it lacks one of them. An
/// id need not exist.
///
/// # Errors
/// [`Error::ShardOutOfRange`]; the error of the list, after the retries.
pub async fn shard_ids(
    client: &dyn StreamClient,
    shards: &[ShardRef],
    policy: RetryPolicy,
    seed: u64,
) -> Result<Vec<ShardId>> {
    let mut listed: Vec<Shard> = Vec::new();
    if let Some(highest) = shards.iter().filter_map(ShardRef::number).max() {
        let mut backoff = policy.with_deadline(NUMBER_PATIENCE).backoff(seed);
        listed = retry(policy.backoff(seed), || client.shards()).await?;
        while listed.len() <= highest && backoff.wait(&out_of_range(client, highest, &listed)).await {
            listed = retry(policy.backoff(seed), || client.shards()).await?;
        }
    }
    let id = |shard: &ShardRef| match shard {
        ShardRef::Id(id) => Ok(id.clone()),
        ShardRef::Number(number) => {
            let shard = listed.get(*number).ok_or_else(|| out_of_range(client, *number, &listed))?;
            Ok(shard.id.clone())
        }
    };
    shards.iter().map(id).collect()
}

fn out_of_range(client: &dyn StreamClient, number: usize, listed: &[Shard]) -> Error {
    Error::ShardOutOfRange { number, stream: client.name().into(), count: listed.len() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::backend::MockStreamClient;
    use crate::model::shard_map::ShardMap;

    fn lagging(old_lists: usize) -> MockStreamClient {
        let mut client = MockStreamClient::new();
        client.expect_name().return_const("clicks".to_owned());
        let lists = AtomicUsize::new(0);
        client.expect_shards().returning(move || {
            let shards = if lists.fetch_add(1, Ordering::Relaxed) < old_lists { 1 } else { 2 };
            Ok(ShardMap::uniform("clicks", shards, 1)?.shards().to_vec())
        });
        client
    }

    async fn ids(client: &MockStreamClient, shards: &[&str]) -> Result<Vec<ShardId>> {
        let shards: Vec<ShardRef> = shards.iter().map(|shard| shard.parse().unwrap()).collect();
        shard_ids(client, &shards, RetryPolicy::default(), 1).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_that_a_list_lacks_is_looked_for_in_the_next_ones() {
        let found = ids(&lagging(3), &["1", "shardId-000000000007", "0"]).await.unwrap();
        assert_eq!(found, [1, 7, 0].map(ShardId::numbered));
        let error = ids(&lagging(usize::MAX), &["0", "1"]).await.unwrap_err();
        assert_eq!(error.to_string(), "shard 1 out of range: 'clicks' has 1 shard (0)");
    }

    #[tokio::test]
    async fn ids_need_no_list() {
        let found = ids(&MockStreamClient::new(), &["shardId-000000000007"]).await.unwrap();
        assert_eq!(found, [ShardId::numbered(7)]);
    }
}
