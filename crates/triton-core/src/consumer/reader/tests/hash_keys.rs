//! Readers that divide a stream by hash keys, while shards are split across the boundary.

use tokio::time::timeout;

use super::*;
use crate::backend::StreamAdmin as _;
use crate::memory::{Memory, MemoryStream};
use crate::model::hash_key::HashKey;

/// The first hash key of the upper half.
const MIDDLE: HashKey = HashKey(1 << 127);

fn upper_half() -> ReaderOptions {
    ReaderOptions::default().with_hash_keys(HashKeyRange { first: MIDDLE, last: HashKey::MAX })
}

/// A stream whose one shard belongs to the reader of the lower half.
fn one_shard() -> (Memory, Arc<MemoryStream>) {
    let memory = Memory::new();
    let stream = Arc::new(memory.stream("clicks", 1).unwrap());
    (memory, stream)
}

async fn read(stream: &Arc<MemoryStream>, options: ReaderOptions) -> Reader {
    Reader::start(Arc::clone(stream) as Arc<dyn StreamClient>, Start::All, options.with_seed(1)).await.unwrap()
}

async fn put_to_upper_half(stream: &MemoryStream) {
    let entry = PutEntry::new(PartitionKey::new("k").unwrap(), "x").with_explicit_hash_key(MIDDLE);
    stream.put_batch([entry].into()).await.unwrap()[0].as_ref().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reader_without_a_shard_finds_the_one_that_is_split_off_from_another_readers() {
    let (memory, stream) = one_shard();
    put_to_upper_half(&stream).await;
    let mut reader = read(&stream, upper_half()).await;
    let waiting = timeout(Duration::from_secs(300), reader.next()).await;
    assert!(waiting.is_err(), "the shard belongs to another reader, and the reader goes on: {waiting:?}");
    memory.split("clicks", &ShardId::numbered(0), MIDDLE).await.unwrap();
    put_to_upper_half(&stream).await;
    let record = timeout(Duration::from_secs(34), reader.next()).await.expect("soon").unwrap().unwrap();
    assert_eq!(record.shard_id, ShardId::numbered(2));
}

#[tokio::test(start_paused = true)]
async fn a_reader_without_a_shard_ends_where_it_has_caught_up_or_is_stopped() {
    let (_, stream) = one_shard();
    let mut reader = read(&stream, upper_half().with_until_caught_up(true)).await;
    assert!(reader.next().await.is_none());
    let mut reader = read(&stream, upper_half()).await;
    reader.stop_handle().stop();
    assert!(reader.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_denied_is_an_error_of_the_shard_whose_children_it_would_show() {
    use crate::testing::{Call, Fault, Faults, FaultyClient};

    let (_, stream) = one_shard();
    let client = FaultyClient::new(stream, Faults::default(), 1);
    client.inject(Fault::new(Call::Shards, Error::AccessDenied { problem: "a policy was changed".into() }).skip(1));
    let mut reader = Reader::start(Arc::new(client), Start::All, upper_half().with_seed(1)).await.unwrap();
    let Some(Ok(ReaderEvent::Failed { shard, error })) = reader.next_event().await else { panic!("no failure") };
    assert_eq!((shard, error.kind()), (ShardId::numbered(0), ErrorKind::AccessDenied));
    let Some(Err(Error::Incomplete { shards, .. })) = reader.next_event().await else { panic!("a plain end") };
    assert_eq!(shards, [ShardId::numbered(0)]);
    assert!(reader.next_event().await.is_none());
}
