//! The ends of closed shards, by polling and by fan-out: the children that they name, ends that are never told, and shard
//! lists that are old or partial.

use std::sync::Arc;
use std::time::Duration;

use triton_core::{ChildShard, HashKey, Position, ShardId, ShardReader, StreamAdmin as _, StreamClient};
use triton_test_server::{EndMode, Fault, ListMode, MissingShards, Operation, PastRetention, ServerOptions};

use crate::fixture::{FanOut, Fixture, PATIENCE, pushing, put, texts};

/// A stream of one shard, and a client by polling or by fan-out.
struct Case {
    fixture: Fixture,
    writer: Arc<dyn StreamClient>,
    client: Arc<dyn StreamClient>,
    shard: ShardId,
}

impl Case {
    async fn new(pushes: bool, options: ServerOptions) -> Self {
        let fixture = Fixture::with(options).await;
        let writer = fixture.stream(1).await;
        let client = if pushes {
            FanOut::over(&fixture.kinesis).open("clicks").await.expect("open")
        } else {
            Arc::clone(&writer)
        };
        let shard = ShardId::numbered(0);
        Self { fixture, writer, client, shard }
    }

    async fn both() -> [Self; 2] {
        [Self::new(false, ServerOptions::default()).await, Self::new(true, pushing()).await]
    }

    async fn reader(&self) -> Box<dyn ShardReader> {
        self.client.open_shard(&self.shard, Position::TrimHorizon).await.expect("open")
    }

    async fn split(&self) {
        self.fixture.kinesis.split("clicks", &self.shard, HashKey(1 << 127)).await.expect("split");
    }

    /// The children as the stream lists them.
    async fn listed_children(&self) -> Vec<ChildShard> {
        let shards = self.writer.shards().await.expect("shards");
        shards.iter().filter(|shard| shard.parents().next().is_some()).map(ChildShard::from).collect()
    }
}

/// Reads until the shard ends.
async fn read_to_the_end(reader: &mut dyn ShardReader) -> Vec<String> {
    let mut records = Vec::new();
    while let Some(batch) = reader.next_batch(100).await.expect("fetch") {
        records.extend(batch.records);
    }
    texts(&records)
}

/// Reads until the reader is caught up.
async fn read_all(reader: &mut dyn ShardReader) -> Vec<String> {
    let mut records = Vec::new();
    loop {
        let batch = reader.next_batch(100).await.expect("fetch").expect("no end");
        let is_caught_up = batch.is_caught_up();
        records.extend(batch.records);
        if is_caught_up {
            return texts(&records);
        }
    }
}

#[tokio::test]
async fn a_shard_names_its_children_at_its_end() {
    for case in Case::both().await {
        put(&*case.writer, &["0", "1"]).await;
        let mut reader = case.reader().await;
        assert_eq!(reader.children(), [], "before the end");
        case.split().await;
        assert_eq!(read_to_the_end(&mut *reader).await, ["0", "1"]);
        let children = case.listed_children().await;
        assert_eq!((reader.children(), children.len()), (children.clone(), 2));

        case.fixture.kinesis.merge("clicks", &children[0].id, &children[1].id).await.expect("merge");
        let mut reader = case.client.open_shard(&children[0].id, Position::Latest).await.expect("open");
        read_to_the_end(&mut *reader).await;
        let merged = &reader.children()[0];
        assert_eq!(merged.parents, [children[0].id.clone(), children[1].id.clone()]);
        assert_eq!(merged, &case.listed_children().await[2]);
        assert!(reader.is_drained().await.expect("known"));
    }
}

#[tokio::test]
async fn an_end_without_children_is_an_end_whatever_the_shard_list_shows() {
    let modes = [
        ListMode::Current,
        ListMode::Old(Duration::from_secs(2)),
        ListMode::Flapping(Duration::from_secs(2)),
        ListMode::Partial(MissingShards::Parents),
    ];
    for mode in modes {
        for case in Case::both().await {
            case.fixture.server.faults().set_end_mode(EndMode::WithoutChildren);
            put(&*case.writer, &["0", "1"]).await;
            let mut reader = case.reader().await;
            case.split().await;
            case.fixture.server.faults().set_list_mode(mode);
            let mut records = Vec::new();
            loop {
                match reader.next_batch(100).await {
                    Ok(Some(batch)) => records.extend(batch.records),
                    Ok(None) => break,
                    // The last event names no children, and the list shows an open shard: it is asked for again.
                    Err(error) => assert!(error.is_retryable(), "{error:?}"),
                }
            }
            assert_eq!(texts(&records), ["0", "1"], "{mode:?}");
            assert_eq!(reader.children(), []);
        }
    }
}

#[tokio::test]
async fn an_end_that_is_never_told_is_found() {
    for case in Case::both().await {
        case.fixture.server.faults().set_end_mode(EndMode::Never);
        put(&*case.writer, &["0", "1"]).await;
        let mut reader = case.reader().await;
        assert!(!reader.is_drained().await.expect("an open shard"));
        assert_eq!(read_all(&mut *reader).await, ["0", "1"]);
        assert!(!reader.is_drained().await.expect("an open shard"));
        put(&*case.writer, &["2"]).await;
        case.split().await;
        while !reader.is_drained().await.expect("known") {
            let records = read_all(&mut *reader).await;
            assert!(records.is_empty() || records == ["2"], "{records:?}");
        }
        assert!(matches!(reader.position(), Position::After { .. }));
        assert_eq!(reader.next_batch(1).await.expect("fetch"), None, "it stays ended");
    }
}

#[tokio::test]
async fn an_end_that_is_never_told_is_found_past_retention() {
    for form in [PastRetention::InvalidArgument, PastRetention::Jump, PastRetention::EmptyPages] {
        for case in Case::both().await {
            case.fixture.server.faults().set_end_mode(EndMode::Never);
            let receipts = put(&*case.writer, &["0", "1"]).await;
            let mut reader = case.reader().await;
            assert_eq!(read_all(&mut *reader).await, ["0", "1"]);
            case.split().await;
            case.fixture.server.faults().trim(
                "clicks",
                case.shard.as_str(),
                &receipts[1].sequence_number.to_string(),
                form,
            );
            assert!(reader.is_drained().await.expect("known"), "{form:?}");
        }
    }
}

#[tokio::test]
async fn a_closed_shard_that_no_list_shows_as_closed_is_not_drained() {
    let case = Case::new(true, pushing()).await;
    case.fixture.server.faults().set_end_mode(EndMode::Never);
    let mut reader = case.reader().await;
    case.split().await;
    case.fixture.server.faults().set_list_mode(ListMode::Old(Duration::from_secs(60)));
    assert!(!reader.is_drained().await.expect("known"));
    // A list that lacks it says nothing.
    case.fixture.server.faults().set_list_mode(ListMode::Partial(MissingShards::Parents));
    assert!(reader.is_drained().await.expect("known"));
}

#[tokio::test]
async fn a_stuck_subscription_is_started_again_for_the_records_that_are_left() {
    let case = Case::new(true, pushing()).await;
    case.fixture.server.faults().inject(Operation::SubscribeToShard, Fault::SilenceMidStream, 1);
    put(&*case.writer, &["0"]).await;
    let mut reader = case.reader().await;
    assert_eq!(texts(&reader.next_batch(10).await.expect("fetch").expect("no end").records), ["0"]);
    put(&*case.writer, &["1", "2"]).await;
    case.split().await;
    let batch = reader.next_batch(10).await.expect("fetch").expect("no end");
    assert!(batch.records.is_empty(), "the subscription is silent");
    assert!(!reader.is_drained().await.expect("records are left"));
    // Long before the idle timeout of the connection.
    let rest = tokio::time::timeout(PATIENCE / 2, read_to_the_end(&mut *reader)).await.expect("started again");
    assert_eq!(rest, ["1", "2"]);
    assert_eq!(reader.children().len(), 2);
}

#[tokio::test]
async fn a_dropped_search_for_the_end_loses_no_record() {
    for case in Case::both().await {
        case.fixture.server.faults().set_end_mode(EndMode::Never);
        put(&*case.writer, &["0", "1", "2", "3"]).await;
        let mut reader = case.reader().await;
        case.split().await;
        let mut records = Vec::new();
        for attempt in 0..200_u64 {
            // Dropped at any moment.
            let wait = Duration::from_micros(100 * attempt);
            if let Ok(drained) = tokio::time::timeout(wait, reader.is_drained()).await {
                assert!(!drained.expect("known") || records.len() == 4);
            }
            if attempt % 40 == 39 {
                let batch = reader.next_batch(1).await.expect("fetch").expect("no end");
                records.extend(batch.records);
            }
        }
        while !reader.is_drained().await.expect("known") {
            records.extend(reader.next_batch(1).await.expect("fetch").into_iter().flat_map(|batch| batch.records));
        }
        assert_eq!(texts(&records), ["0", "1", "2", "3"]);
    }
}

#[tokio::test]
async fn a_reshard_does_not_take_an_old_list_for_its_outcome() {
    let case = Case::new(false, ServerOptions::default()).await;
    case.fixture.kinesis.split("clicks", &case.shard, HashKey(1 << 120)).await.expect("split");
    // The list of before shows one shard; there are two of unequal size.
    case.fixture.server.faults().set_list_mode(ListMode::Old(Duration::from_secs(1)));
    case.fixture.kinesis.reshard("clicks", 2).await.expect("reshard");
    case.fixture.server.faults().set_list_mode(ListMode::Current);
    let shards = case.writer.shards().await.expect("shards");
    let mut first_keys: Vec<HashKey> =
        shards.iter().filter(|shard| shard.is_open()).map(|shard| shard.hash_key_range.first).collect();
    first_keys.sort();
    assert_eq!(first_keys, [HashKey::MIN, HashKey(1 << 127)]);
}
