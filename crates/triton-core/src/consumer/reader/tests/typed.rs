//! Typed readers.

use futures_util::StreamExt;

use super::*;
use crate::memory::Memory;

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Click {
    user: u32,
}

fn entry(data: Vec<u8>) -> PutEntry {
    PutEntry::new(PartitionKey::new("k").unwrap(), data)
}

async fn clicks() -> TypedReader<Click> {
    let client = Memory::new().stream("clicks", 1).unwrap();
    let click = |user| entry(rmp_serde::to_vec_named(&Click { user }).unwrap());
    let other = entry(rmp_serde::to_vec_named(&serde_json::json!({"page": "/"})).unwrap());
    client.put_batch([click(1), entry(b"\xc1".to_vec()), other, click(2)].into()).await.unwrap();
    Reader::start(Arc::new(client), Start::All, until_caught_up()).await.unwrap().typed()
}

#[tokio::test(start_paused = true)]
async fn a_record_that_does_not_decode_is_an_item_with_its_record_and_reading_continues() {
    let mut reader = clicks().await;
    let mut items = Vec::new();
    while let Some(item) = reader.next().await {
        items.push(item.unwrap());
    }
    let users: Vec<_> = items.iter().map(|item| item.value.as_ref().ok().map(|click| click.user)).collect();
    assert_eq!(users, [Some(1), None, None, Some(2)]);
    assert_eq!(items[1].record.data, b"\xc1"[..]);
    assert!(matches!(items[1].value, Err(Error::Decode(_))));
    assert_eq!(items[2].value.as_ref().unwrap_err().to_string(), "not of the expected shape: missing field `user`");
}

#[tokio::test(start_paused = true)]
async fn a_typed_reader_is_a_futures_stream_and_can_be_unwrapped() {
    let mut reader = clicks().await;
    assert_eq!(StreamExt::next(&mut reader).await.unwrap().unwrap().value.unwrap(), Click { user: 1 });
    let rest = super::read_all(reader.into_inner()).await;
    assert_eq!(rest.len(), 3, "the records are not decoded");
    assert_eq!(clicks().await.map(|item| item.unwrap().value.is_ok()).collect::<Vec<_>>().await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_a_shard_is_an_error_item() {
    let client = Scripted::new(vec![vec![broken()]]);
    let mut reader = client.read(until_caught_up()).await.typed::<Click>();
    assert!(matches!(reader.next().await, Some(Err(Error::Shard { .. }))));
    assert!(matches!(reader.next().await, Some(Err(crate::Error::Incomplete { .. }))));
    assert!(reader.next().await.is_none());
}
