//! Splits and merges through the AWS SDK: at once, and whatever the shard list shows.

use aws_config::BehaviorVersion;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::Credentials;
use aws_sdk_kinesis::types::{Shard, StreamStatus};
use tokio::runtime::Runtime;
use triton_test_server::Server;

/// A stream, through the AWS SDK.
pub(crate) struct Direct {
    stream: &'static str,
    client: Client,
    runtime: Runtime,
}

impl Direct {
    pub(crate) fn to(stream: &'static str, server: &Server) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .credentials_provider(Credentials::new("key", "secret", None, None, "e2e"))
            .region("us-east-1")
            .endpoint_url(server.endpoint_url());
        let client = Client::new(&runtime.block_on(config.load()));
        Self { stream, client, runtime }
    }

    /// The open shards of an active stream, in the order of their hash keys.
    pub(crate) fn open_shards(&self) -> Vec<Shard> {
        loop {
            let described =
                self.runtime.block_on(self.client.describe_stream().stream_name(self.stream).send()).unwrap();
            let description = described.stream_description.unwrap();
            if description.stream_status == StreamStatus::Active {
                let mut shards = description.shards;
                shards.retain(|shard| shard.sequence_number_range.as_ref().unwrap().ending_sequence_number.is_none());
                shards.sort_by_key(first_hash_key);
                return shards;
            }
        }
    }

    /// Splits the open shard with the lowest hash keys, at the middle of them.
    pub(crate) fn split_first(&self) {
        let shard = self.open_shards().swap_remove(0);
        let last_hash_key: u128 = shard.hash_key_range.as_ref().unwrap().ending_hash_key.parse().unwrap();
        let middle = first_hash_key(&shard) + (last_hash_key - first_hash_key(&shard)) / 2 + 1;
        let split = self.client.split_shard().stream_name(self.stream).shard_to_split(shard.shard_id);
        self.runtime.block_on(split.new_starting_hash_key(middle.to_string()).send()).unwrap();
        self.open_shards();
    }

    /// Merges the two open shards with the highest hash keys.
    pub(crate) fn merge_last(&self) {
        let shards = self.open_shards();
        let [.., first, second] = &shards[..] else { panic!("two open shards: {shards:?}") };
        let merge = self.client.merge_shards().stream_name(self.stream);
        let merge = merge.shard_to_merge(&first.shard_id).adjacent_shard_to_merge(&second.shard_id);
        self.runtime.block_on(merge.send()).unwrap();
        self.open_shards();
    }
}

fn first_hash_key(shard: &Shard) -> u128 {
    shard.hash_key_range.as_ref().unwrap().starting_hash_key.parse().unwrap()
}
