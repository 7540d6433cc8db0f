//! Records as values.

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
    Reader::start(Arc::new(client), Start::All, to_the_end()).await.unwrap().typed()
}

#[tokio::test(start_paused = true)]
async fn what_does_not_decode_is_an_item_with_its_record_and_not_the_end() {
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
async fn it_is_a_stream_as_well_and_gives_the_reader_back() {
    let mut reader = clicks().await;
    assert_eq!(StreamExt::next(&mut reader).await.unwrap().unwrap().value.unwrap(), Click { user: 1 });
    let rest = super::all(reader.into_inner()).await;
    assert_eq!(rest.len(), 3, "raw");
    assert_eq!(clicks().await.map(|item| item.unwrap().value.is_ok()).collect::<Vec<_>>().await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_shards_failure_is_an_error_of_the_item() {
    let client = Scripted::new(vec![vec![broken()]]);
    let mut reader = client.read(to_the_end()).await.typed::<Click>();
    assert!(matches!(reader.next().await, Some(Err(Error::Shard { .. }))));
    assert!(reader.next().await.is_none());
}
