//! Positions that cannot be one: sequence numbers of another shard, of another stream, of none, ahead of the end, and between
//! two records. By polling and by fan-out, at and after them.

use std::sync::Arc;
use std::time::Duration;

use triton_core::{
    CreateOptions, Error, ErrorKind, HashKey, Position, SequenceNumber, ShardId, StreamAdmin as _, StreamClient,
};

use crate::fixture::{FanOut, Fixture, entry, read_from};

/// A stream of two shards, read by polling and by fan-out.
struct Readers {
    fixture: Fixture,
    clients: [Arc<dyn StreamClient>; 2],
    shards: Vec<ShardId>,
}

async fn readers() -> Readers {
    let fixture = Fixture::pushing().await;
    let polling = fixture.stream(2).await;
    let pushed = FanOut::over(&fixture.kinesis).open("clicks").await.expect("open");
    let shards = polling.shards().await.expect("shards").into_iter().map(|shard| shard.id).collect();
    Readers { fixture, clients: [polling, pushed], shards }
}

impl Readers {
    /// Puts a record into a shard of a stream and returns its sequence number.
    async fn put_into(&self, stream: &str, shard: usize) -> SequenceNumber {
        let client = self.fixture.kinesis.open(stream).await.expect("open");
        let hash_key = if shard == 0 { HashKey::MIN } else { HashKey::MAX };
        let results = client.put_batch([entry("k", "x").with_explicit_hash_key(hash_key)].into()).await.expect("put");
        results.into_iter().next().expect("a result").expect("acknowledged").sequence_number
    }

    /// What is wrong with a sequence number, as the error says by polling and by fan-out, at it and after it.
    async fn problems(&self, shard: usize, number: SequenceNumber) -> Vec<String> {
        let [polling, pushed] = &self.clients;
        let shard = &self.shards[shard];
        let (mut problems, of_pushed) =
            tokio::join!(problems_of(&**polling, shard, number), problems_of(&**pushed, shard, number));
        problems.extend(of_pushed);
        problems
    }
}

async fn problems_of(client: &dyn StreamClient, shard: &ShardId, number: SequenceNumber) -> Vec<String> {
    let mut problems = Vec::new();
    for position in [Position::At(number), Position::after(number)] {
        let error = read_from(client, shard, position).await.expect_err("a wrong position");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::NotFound, false), "{position:?}: {error:?}");
        match error {
            Error::InvalidPosition { shard: of, position, problem } => {
                assert_eq!((&of, position), (shard, number.to_string()));
                problems.push(problem);
            }
            other => panic!("{position:?}: {other:?}"),
        }
    }
    problems
}

/// In a sequence number, the index of the record comes before the second in which it came.
const INDEX: u128 = 1 << 80;
const SECOND: u128 = 1 << 36;

/// A later number of the same shard.
fn later(number: SequenceNumber, by: u128) -> SequenceNumber {
    let text = number.to_string();
    let (head, tail) = text.split_at(text.len() - 36);
    let tail: u128 = tail.parse().expect("digits");
    format!("{head}{:036}", tail + by).parse().expect("a sequence number")
}

#[tokio::test]
async fn a_number_of_another_shard() {
    let readers = readers().await;
    let other = readers.put_into("clicks", 1).await;
    // The shard itself is empty.
    for problem in readers.problems(0, other).await {
        assert_eq!(problem, "Kinesis reads it as a sequence number of shardId-000000000001");
    }
    readers.put_into("clicks", 0).await;
    assert_eq!(readers.problems(0, other).await.len(), 4);
}

#[tokio::test]
async fn a_number_of_another_stream_or_of_none() {
    let readers = readers().await;
    readers.put_into("clicks", 0).await;
    // Numbers name the second in which their shard was created.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    readers.fixture.kinesis.create("other", CreateOptions::default().with_shards(2)).await.expect("create");
    let other = readers.put_into("other", 0).await;
    for problem in readers.problems(0, other).await {
        assert_eq!(problem, "it is another stream's, or it is ahead of the shard's last record");
    }
    let huge: SequenceNumber = "9".repeat(60).parse().expect("digits");
    for problem in readers.problems(0, huge).await {
        assert_eq!(problem, "it is not a sequence number of Kinesis");
    }
    // A local stream's.
    for problem in readers.problems(0, 1_764_045_843_000_001.into()).await {
        assert_eq!(problem, "Kinesis reads it as a sequence number of shardId-000000060097");
    }
}

#[tokio::test]
async fn a_number_of_an_earlier_stream_of_that_name() {
    let readers = readers().await;
    let earlier = readers.put_into("clicks", 0).await;
    readers.fixture.kinesis.delete("clicks").await.expect("delete");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let polling = readers.fixture.stream(2).await;
    let pushed = FanOut::over(&readers.fixture.kinesis).open("clicks").await.expect("open");
    let again = Readers { clients: [polling, pushed], ..readers };
    for problem in again.problems(0, earlier).await {
        assert_eq!(problem, "it is another stream's, or it is ahead of the shard's last record");
    }
}

#[tokio::test]
async fn a_number_ahead_of_the_last_record() {
    let readers = readers().await;
    let last = readers.put_into("clicks", 0).await;
    // The server accepts it, and returns no record of it.
    for problem in readers.problems(0, later(last, 5 * INDEX)).await {
        assert_eq!(problem, "it is ahead of the shard's last record");
    }
    readers.fixture.server.faults().set_rejects_ahead(true);
    for problem in readers.problems(0, later(last, 5 * INDEX)).await {
        assert_eq!(problem, "it is another stream's, or it is ahead of the shard's last record");
    }
}

#[tokio::test]
async fn a_number_ahead_of_the_end_of_a_closed_shard() {
    let readers = readers().await;
    let last = readers.put_into("clicks", 0).await;
    readers.fixture.kinesis.split("clicks", &readers.shards[0], HashKey(1 << 120)).await.expect("split");
    for problem in readers.problems(0, later(last, INDEX << 20)).await {
        assert_eq!(problem, "it is ahead of the shard's last record");
    }
}

#[tokio::test]
async fn a_number_between_two_records() {
    let readers = readers().await;
    let first = readers.put_into("clicks", 0).await;
    let between = later(first, INDEX - SECOND);
    for _ in 0..5 {
        readers.put_into("clicks", 0).await;
    }
    let read = read_from(&*readers.clients[0], &readers.shards[0], Position::At(first)).await.expect("a record");
    assert_eq!(read.len(), 6);
    for problem in readers.problems(0, between).await {
        assert_eq!(problem, "no record of the shard has this sequence number");
    }
}
