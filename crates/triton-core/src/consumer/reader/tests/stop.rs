//! Stopping: what was fetched is delivered, or discarded at a deadline, and the checkpoints say which.

use super::*;
use crate::model::checkpoint::{Checkpoint, Progress};

/// A reader whose consumer has taken one of six records that were fetched.
async fn reading() -> Reader {
    let client = Scripted::new(vec![vec![Fetch::Records(1..4), Fetch::Records(4..7)]]);
    let mut reader = client.read(ReaderOptions::default()).await;
    reader.next().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    reader
}

fn handled(reader: &Reader) -> u64 {
    let Checkpoint { progress, .. } = reader.checkpoints().shards[&ShardId::numbered(0)];
    let Progress::After { sequence_number, sub_sequence_number: None } = progress else { panic!("{progress}") };
    u64::try_from(sequence_number).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stop_delivers_what_was_fetched() {
    let mut reader = reading().await;
    reader.stop_handle().stop();
    for number in 2..7 {
        assert_eq!(reader.next().await.unwrap().unwrap().sequence_number, number.into());
        assert_eq!(handled(&reader), number);
    }
    assert!(reader.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stop_now_discards_what_was_fetched() {
    for by_batch in [false, true] {
        let mut reader = reading().await;
        reader.stop_handle().stop_now();
        let is_over = if by_batch { reader.next_batch().await.is_none() } else { reader.next().await.is_none() };
        assert!(is_over);
        assert_eq!(handled(&reader), 1, "only what was delivered");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_now_wakes_a_consumer_that_waits() {
    let client = Scripted::new(vec![vec![Fetch::Hangs]]);
    let mut reader = client.read(ReaderOptions::default()).await;
    let stop = reader.stop_handle();
    let waiting = tokio::spawn(async move { reader.next().await.is_none() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.stop_now();
    assert!(tokio::time::timeout(Duration::from_millis(5), waiting).await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_stop_within_a_time_discards_what_is_left_then() {
    let mut reader = reading().await;
    let stop = reader.stop_handle();
    stop.stop_within(Duration::from_secs(60));
    stop.stop_within(Duration::from_secs(3));
    stop.stop_within(Duration::from_secs(60));
    let mut delivered = 0;
    // A consumer that takes a second for each record.
    while reader.next().await.is_some() {
        delivered += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((delivered, handled(&reader)), (3, 4), "the earliest deadline holds");
}
