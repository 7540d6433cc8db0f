//! Shard lists that lack shards at the start of a reader.

use super::*;
use crate::backend::StreamAdmin as _;
use crate::memory::Memory;
use crate::model::hash_key::HashKey;
use crate::testing::{Faults, FaultyClient, ListFault};

#[tokio::test(start_paused = true)]
async fn a_descendant_of_a_checkpointed_shard_is_read_whole_although_a_list_lacks_those_between() {
    let memory = Memory::new();
    let stream = Arc::new(memory.stream("clicks", 1).unwrap());
    let checkpoints =
        Reader::start(stream.clone(), Start::Latest, ReaderOptions::default()).await.unwrap().checkpoints();
    memory.split("clicks", &ShardId::numbered(0), HashKey(1 << 127)).await.unwrap();
    memory.merge("clicks", &ShardId::numbered(1), &ShardId::numbered(2)).await.unwrap();
    let entry = PutEntry::new(PartitionKey::new("k").unwrap(), "x");
    stream.put_batch([entry].into()).await.unwrap()[0].as_ref().unwrap();

    let client = FaultyClient::new(stream, Faults::default(), 1);
    client.inject_list(ListFault::partial([1, 2].map(ShardId::numbered)).times(2)).await.unwrap();
    let injected = client.injected();
    let options = ReaderOptions::default().with_checkpoints(checkpoints).with_until_caught_up(true);
    let records = read_all(Reader::start(Arc::new(client), Start::Latest, options).await.unwrap()).await;
    let shards: Vec<&ShardId> = records.iter().map(|record| &record.as_ref().unwrap().shard_id).collect();
    assert_eq!((shards, injected.lists()), (vec![&ShardId::numbered(3)], 2));
}

#[tokio::test(start_paused = true)]
async fn the_parent_of_a_shard_that_was_read_is_not_read_again_although_the_list_is_older() {
    let memory = Memory::new();
    let stream = Arc::new(memory.stream("clicks", 1).unwrap());
    let client = FaultyClient::new(stream.clone(), Faults::default(), 1);
    client.inject_list(ListFault::old(Duration::from_secs(60)).times(2)).await.unwrap();
    let injected = client.injected();
    let entry = PutEntry::new(PartitionKey::new("k").unwrap(), "x");
    stream.put_batch([entry].into()).await.unwrap()[0].as_ref().unwrap();
    for shard in [0, 1] {
        memory.split("clicks", &ShardId::numbered(shard), HashKey(1 << (127 - shard))).await.unwrap();
    }

    // The checkpoint of 0 is not needed: 1 descends from it.
    let checkpoints = Checkpoints::new([(ShardId::numbered(1), Checkpoint::ENDED)]);
    let options = ReaderOptions::default().with_checkpoints(checkpoints).with_until_caught_up(true);
    let records = read_all(Reader::start(Arc::new(client), Start::All, options).await.unwrap()).await;
    assert!(records.is_empty(), "{records:?}");
    assert_eq!(injected.lists(), 2);
}
