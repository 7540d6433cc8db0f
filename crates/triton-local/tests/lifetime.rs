//! The life of a stream: retention, deletion, and several clients.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use triton_core::{
    CreateOptions, Error, HashKey, PartitionKey, Position, PutEntry, PutReceipt, Reader, ReaderOptions, Record,
    SequenceNumber, ShardId, ShardReader, Start, StreamAdmin, StreamClient, Timestamp,
};
use triton_local::LocalStreams;

/// The longest wait for an event, generous enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any test runs; a test that needs expired records makes the stream older.
const RETENTION: Duration = Duration::from_secs(3600);

/// Moves everything in stream `a` to before its retention.
fn age(folder: &Path) {
    let hours = 2 * RETENTION.as_millis();
    let file = rusqlite::Connection::open(folder.join("streams/a.db")).expect("a database");
    file.busy_timeout(PATIENCE).expect("a timeout");
    file.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         UPDATE record SET arrival = arrival - {hours};
         UPDATE shard SET closed_at = closed_at - {hours};
         UPDATE stream SET last_arrival = last_arrival - {hours};
         COMMIT"
    ))
    .expect("an older stream");
}

fn entry(text: &str) -> PutEntry {
    PutEntry::new(PartitionKey::new("k").expect("a key"), text.as_bytes().to_vec())
}

async fn put(client: &Arc<dyn StreamClient>, text: &str) -> PutReceipt {
    client.put_batch([entry(text)].into()).await.expect("a call").remove(0).expect("a receipt")
}

async fn read(client: &Arc<dyn StreamClient>, shard: &ShardId, position: Position) -> Vec<Record> {
    let mut reader = client.open_shard(shard, position).await.expect("open");
    let mut records = Vec::new();
    while let Some(batch) = reader.next_batch(100).await.expect("fetch") {
        if batch.records.is_empty() && batch.is_caught_up() {
            break;
        }
        records.extend(batch.records);
    }
    records
}

fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(&record.data).into_owned()).collect()
}

#[tokio::test]
async fn records_past_retention_are_removed_and_reported_to_readers_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let streams = LocalStreams::new(folder.path());
    let options = CreateOptions::default().with_retention(RETENTION);
    streams.create("a", options).await.expect("create");
    let client = streams.open("a").await.expect("open");
    let first = put(&client, "0").await;
    let last_old = put(&client, "1").await;
    let shard = &first.shard_id;
    let mut behind = client.open_shard(shard, Position::TrimHorizon).await.expect("open");
    age(folder.path());
    let fresh = put(&client, "fresh").await;

    // Not removed yet, but already before the trim horizon.
    assert_eq!(texts(&read(&client, shard, Position::TrimHorizon).await), ["fresh"]);

    // A writer looks for expired records when it starts, and then once a minute.
    drop((behind.position(), client));
    let client = LocalStreams::new(folder.path()).open("a").await.expect("open");
    put(&client, "more").await;
    let started = Instant::now();
    let lost = loop {
        match client.open_shard(shard, Position::after(first.sequence_number)).await {
            Err(error) => break error,
            Ok(_) => assert!(started.elapsed() < PATIENCE, "nothing was removed"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(matches!(lost, Error::PastRetention { .. }), "{lost:?}");
    let fetched = behind.next_batch(10).await;
    assert!(matches!(fetched, Err(Error::PastRetention { .. })), "{fetched:?}");
    // After the last removed record nothing is missing.
    let rest = read(&client, shard, Position::after(last_old.sequence_number)).await;
    assert_eq!(texts(&rest)[0], "fresh");
    assert_eq!(rest[0].sequence_number, fresh.sequence_number);
}

#[tokio::test]
async fn a_closed_shard_leaves_the_list_when_retention_has_emptied_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let streams = LocalStreams::new(folder.path());
    let options = CreateOptions::default().with_retention(RETENTION);
    streams.create("a", options).await.expect("create");
    let client = streams.open("a").await.expect("open");
    let parent = put(&client, "0").await.shard_id;
    let mut reader = client.open_shard(&parent, Position::Latest).await.expect("open");
    let mut behind = client.open_shard(&parent, Position::TrimHorizon).await.expect("open");
    streams.split("a", &parent, HashKey(1 << 127)).await.expect("split");
    drop((client, streams));
    age(folder.path());

    let client = LocalStreams::new(folder.path()).open("a").await.expect("open");
    put(&client, "1").await;
    let started = Instant::now();
    while client.shards().await.expect("shards").len() == 3 {
        assert!(started.elapsed() < PATIENCE, "the parent is still listed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let shards = client.shards().await.expect("shards");
    assert!(shards.iter().all(|shard| shard.is_open() && shard.parent.as_ref() == Some(&parent)));
    // A reader of the whole stream, or of the parent's part, does not wait for it.
    for options in [ReaderOptions::default(), ReaderOptions::default().with_shards([parent.clone()])] {
        let children = Reader::start(Arc::clone(&client), Start::All, options.with_until_caught_up(true));
        let mut children = tokio::time::timeout(PATIENCE, children).await.expect("in time").expect("start");
        assert_eq!(children.next().await.expect("a record").expect("a record").data, "1");
        assert!(children.next().await.is_none());
    }
    // A reader that had read everything reaches the end; a reader behind gets an error.
    assert_eq!(reader.next_batch(1).await.expect("fetch"), None);
    let fetched = behind.next_batch(1).await;
    assert!(matches!(fetched, Err(Error::PastRetention { .. })), "{fetched:?}");
    put(&client, "2").await;
}

#[tokio::test]
async fn a_deleted_stream_is_not_found_by_open_clients() {
    let folder = tempfile::tempdir().expect("a folder");
    let streams = LocalStreams::new(folder.path());
    let client = streams.open_or_create("a", CreateOptions::default()).await.expect("create");
    let shard = put(&client, "0").await.shard_id;
    let mut reader: Box<dyn ShardReader> = client.open_shard(&shard, Position::Latest).await.expect("open");
    // Deleted through another client, as another process would.
    LocalStreams::new(folder.path()).delete("a").await.expect("delete");

    let lost = client.put_batch([entry("1")].into()).await;
    assert!(matches!(lost, Err(Error::StreamNotFound { .. })), "{lost:?}");
    let fetched = reader.next_batch(1).await;
    assert!(matches!(fetched, Err(Error::StreamNotFound { .. })), "{fetched:?}");
    assert!(matches!(client.shards().await, Err(Error::StreamNotFound { .. })));

    drop((client, reader));
    let again = streams.open_or_create("a", CreateOptions::default()).await.expect("create again");
    put(&again, "new").await;
    assert_eq!(texts(&read(&again, &shard, Position::TrimHorizon).await), ["new"]);
}

#[tokio::test]
async fn a_reader_of_a_deleted_stream_does_not_continue_in_its_successor() {
    let folder = tempfile::tempdir().expect("a folder");
    let streams = LocalStreams::new(folder.path());
    let client = streams.open_or_create("a", CreateOptions::default()).await.expect("create");
    let shard = put(&client, "0").await.shard_id;
    let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
    let other = LocalStreams::new(folder.path());
    other.delete("a").await.expect("delete");
    assert!(other.list().await.expect("list").is_empty());
    assert!(matches!(other.open("a").await, Err(Error::StreamNotFound { .. })));
    other.create("a", CreateOptions::default().with_shards(2)).await.expect("create again");
    put(&other.open("a").await.expect("open"), "new").await;
    let fetched = reader.next_batch(1).await;
    assert!(matches!(fetched, Err(Error::StreamNotFound { .. })), "{fetched:?}");
    // The client belongs to the name, which now means the new stream.
    assert_eq!(client.shards().await.expect("shards").len(), 2);
    put(&client, "newer").await;
}

#[tokio::test]
async fn a_large_backlog_past_retention_is_removed_by_a_busy_and_by_an_idle_writer() {
    let folder = tempfile::tempdir().expect("a folder");
    let streams = LocalStreams::new(folder.path());
    let options = CreateOptions::default().with_retention(RETENTION);
    streams.create("a", options).await.expect("create");
    let client = streams.open("a").await.expect("open");
    for _ in 0..5 {
        client.put_batch(vec![entry("old"); 10_000].into()).await.expect("put");
    }
    drop((client, streams));
    age(folder.path());
    let client = LocalStreams::new(folder.path()).open("a").await.expect("open");
    put(&client, "fresh").await;
    let file = rusqlite::Connection::open(folder.path().join("streams/a.db")).expect("a database");
    let started = Instant::now();
    loop {
        let count: i64 = file.query_row("SELECT count(*) FROM record", [], |row| row.get(0)).expect("a count");
        if count <= 1 {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{count} records are left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The clock stands still, so only the commit can end a wait. The benchmarks measure the delay.
#[tokio::test(start_paused = true)]
async fn another_processs_commit_wakes_a_reader_that_waits() {
    // tokio advances a paused clock when it is idle, which a blocking task prevents.
    let (done, until_done) = mpsc::channel::<()>();
    let standstill = tokio::task::spawn_blocking(move || until_done.recv_timeout(PATIENCE));
    let folder = tempfile::tempdir().expect("a folder");
    let ours = LocalStreams::new(folder.path());
    let client = ours.open_or_create("a", CreateOptions::default()).await.expect("create");
    let theirs = LocalStreams::new(folder.path()).open("a").await.expect("open");
    let shard = put(&client, "0").await.shard_id;
    let mut reader = client.open_shard(&shard, Position::Latest).await.expect("open");
    for number in 0..20 {
        assert!(reader.next_batch(1).await.expect("fetch").expect("open").is_caught_up());
        let putting = async {
            // Gives the reader time to wait; the test passes without.
            let pause = tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(30)));
            pause.await.expect("a pause");
            put(&theirs, &number.to_string()).await
        };
        let reading = async {
            loop {
                let batch = reader.next_batch(1).await.expect("fetch").expect("open");
                if !batch.records.is_empty() {
                    break batch;
                }
            }
        };
        let (fetched, _) = tokio::join!(reading, putting);
        assert_eq!(texts(&fetched.records), [number.to_string()]);
    }
    assert!(!standstill.is_finished(), "a reader was not woken");
    drop(done);
}

#[tokio::test]
async fn a_writer_follows_another_processs_splits() {
    let folder = tempfile::tempdir().expect("a folder");
    let client = LocalStreams::new(folder.path()).open_or_create("a", CreateOptions::default()).await.expect("create");
    let parent = put(&client, "0").await.shard_id;
    LocalStreams::new(folder.path()).split("a", &parent, HashKey(1 << 127)).await.expect("split");
    let child = put(&client, "1").await.shard_id;
    assert_ne!(child, parent);
    let shards = client.shards().await.expect("shards");
    let holder = shards.iter().find(|shard| shard.id == child).expect("listed");
    assert!(holder.hash_key_range.contains(entry("1").partition_key.hash_key()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_wait_for_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    LocalStreams::new(folder.path()).create("a", CreateOptions::default()).await.expect("create");
    let writers = (0..6).map(|writer| {
        let folder = folder.path().to_owned();
        tokio::spawn(async move {
            let client = LocalStreams::new(folder).open("a").await.expect("open");
            for number in 0..30 {
                put(&client, &format!("{writer}/{number}")).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("every put is taken");
    }
    let client = LocalStreams::new(folder.path()).open("a").await.expect("open");
    let shard = client.shards().await.expect("shards").remove(0).id;
    let all = read(&client, &shard, Position::TrimHorizon).await;
    assert_eq!(all.len(), 180);
    assert!(all.is_sorted_by_key(|record| record.arrival), "arrivals do not go back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_creators_share_one_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    let makers = (0..8).map(|n| {
        let streams = LocalStreams::new(folder.path());
        tokio::spawn(async move {
            let client = streams.open_or_create("a", CreateOptions::default().with_shards(2)).await.expect("open");
            put(&client, &n.to_string()).await
        })
    });
    for maker in makers.collect::<Vec<_>>() {
        maker.await.expect("no panic");
    }
    let client = LocalStreams::new(folder.path()).open("a").await.expect("open");
    let shards = client.shards().await.expect("shards");
    assert_eq!(shards.len(), 2);
    let mut all = Vec::new();
    for shard in &shards {
        all.extend(texts(&read(&client, &shard.id, Position::TrimHorizon).await));
    }
    all.sort();
    assert_eq!(all, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    let left: Vec<_> = std::fs::read_dir(folder.path().join("streams")).expect("a folder").flatten().collect();
    assert!(left.iter().all(|file| file.file_name().to_string_lossy().starts_with("a.db")), "{left:?}");
    assert!(!left.iter().any(|file| file.file_name().to_string_lossy().contains("new")), "{left:?}");
}

#[tokio::test]
async fn a_large_record_and_a_byte_limit_make_small_batches() {
    let folder = tempfile::tempdir().expect("a folder");
    let streams = LocalStreams::new(folder.path());
    let client = streams.open_or_create("a", CreateOptions::default()).await.expect("create");
    for _ in 0..4 {
        put(&client, &"x".repeat(900_000)).await;
    }
    let shard = client.shards().await.expect("shards").remove(0).id;
    let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
    let batch = reader.next_batch(10_000).await.expect("fetch").expect("open");
    assert_eq!(batch.records.len(), 2, "a fetch stops past 1 MiB");
    assert!(batch.behind > Some(Duration::ZERO), "there is more");
}

#[tokio::test]
async fn a_page_that_is_full_says_whether_there_is_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let streams = LocalStreams::new(folder.path());
    let client = streams.open_or_create("a", CreateOptions::default()).await.expect("create");
    let shard = put(&client, &"x".repeat(900_000)).await.shard_id;
    put(&client, &"y".repeat(900_000)).await;
    let page = async |max_records| {
        let mut reader = client.open_shard(&shard, Position::TrimHorizon).await.expect("open");
        reader.next_batch(max_records).await.expect("fetch").expect("open")
    };
    let (some, all, all_bytes) = (page(1).await, page(2).await, page(3).await);
    assert_eq!([some.records.len(), all.records.len(), all_bytes.records.len()], [1, 2, 2]);
    assert!(some.behind > Some(Duration::ZERO) && some.caught_up_at.is_none());
    assert!(all.is_caught_up() && all_bytes.is_caught_up());
}

#[tokio::test]
async fn a_number_that_no_record_of_the_shard_has_is_refused_with_its_cause() {
    let folder = tempfile::tempdir().expect("a folder");
    let streams = LocalStreams::new(folder.path());
    let client = streams.open_or_create("a", CreateOptions::default()).await.expect("create");
    let before = put(&client, "0").await;
    streams.split("a", &before.shard_id, HashKey(1 << 127)).await.expect("split");
    let after = put(&client, "1").await;
    let shards = client.shards().await.expect("shards");
    let other = shards.iter().find(|shard| shard.is_open() && shard.id != after.shard_id).expect("a second child");
    let larger_than_64_bits = "99999999999999999999999999999999999999999999999999999999".parse().expect("a number");
    let largest_of_sqlite = SequenceNumber::from(i64::MAX as u64);
    for (shard, number, problem) in [
        (&after.shard_id, before.sequence_number, "the shard begins at "),
        (&after.shard_id, 0.into(), "the shard begins at "),
        (&other.id, after.sequence_number, "the stream gave that number to another shard"),
        (&before.shard_id, after.sequence_number, "the shard ended at "),
        (&after.shard_id, largest_of_sqlite, "it is ahead of the newest record"),
        (&after.shard_id, larger_than_64_bits, "it is ahead of the newest record"),
    ] {
        for position in [Position::At(number), Position::after(number)] {
            let error = client.open_shard(shard, position).await.expect_err("no such record").to_string();
            assert!(error.starts_with(&format!("{shard}: no record {number}: {problem}")), "{error}");
        }
    }
}

#[tokio::test]
async fn a_position_in_a_deleted_stream_is_not_one_in_its_successor() {
    let folder = tempfile::tempdir().expect("a folder");
    let streams = LocalStreams::new(folder.path());
    let client = streams.open_or_create("a", CreateOptions::default()).await.expect("create");
    let old = put(&client, "old").await;
    streams.delete("a").await.expect("delete");
    let client = streams.open_or_create("a", CreateOptions::default()).await.expect("create again");
    put(&client, "new").await;
    let opened = client.open_shard(&old.shard_id, Position::after(old.sequence_number)).await;
    assert!(matches!(opened, Err(Error::InvalidPosition { .. })), "{opened:?}");
}

#[tokio::test]
async fn a_shard_that_retention_has_emptied_is_resumed_after_what_was_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let streams = LocalStreams::new(folder.path());
    streams.create("a", CreateOptions::default().with_retention(RETENTION).with_shards(2)).await.expect("create");
    let client = streams.open("a").await.expect("open");
    let old = put(&client, "old").await;
    drop((client, streams));
    age(folder.path());
    let streams = LocalStreams::new(folder.path());
    let client = streams.open("a").await.expect("open");
    // The writer looks for expired records after its first put, which is to the other shard.
    let is_upper = |entry: &PutEntry| entry.partition_key.hash_key() >= HashKey(1 << 127);
    let mut keys = (0..).map(|n| PartitionKey::new(format!("key-{n}")).expect("a key"));
    let other = keys.find_map(|key| Some(PutEntry::new(key, "x")).filter(|x| is_upper(x) != is_upper(&entry("old"))));
    client.put_batch([other.expect("a key of the other shard")].into()).await.expect("put");
    let started = Instant::now();
    while client.open_shard(&old.shard_id, Position::At(old.sequence_number)).await.is_ok() {
        assert!(started.elapsed() < PATIENCE, "nothing was removed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for position in [Position::Latest, Position::TrimHorizon, Position::AtTime(Timestamp::default())] {
        let reader = client.open_shard(&old.shard_id, position).await.expect("open");
        assert_eq!(reader.position(), Position::after(old.sequence_number), "{position:?}");
        client.open_shard(&old.shard_id, reader.position()).await.expect("a valid position");
    }
}

/// Longer than a writer takes from a record's arrival time to its commit.
const COMMIT_DELAY: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_position_says_up_to_when_its_reader_has_caught_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let streams = LocalStreams::new(folder.path());
    let client = streams.open_or_create("a", CreateOptions::default()).await.expect("create");
    let put = put(&client, "0").await;
    let mut reader = client.open_shard(&put.shard_id, Position::TrimHorizon).await.expect("open");
    let batch = reader.next_batch(1).await.expect("fetch").expect("open");
    let caught_up_at = batch.caught_up_at.expect("a time");
    assert!(caught_up_at <= batch.records[0].arrival + PATIENCE - COMMIT_DELAY, "a record may be on its way");
    assert!(caught_up_at >= batch.records[0].arrival - COMMIT_DELAY);
    let position = Position::After { sequence_number: put.sequence_number, caught_up_at: Some(caught_up_at) };
    assert_eq!(reader.position(), position);
    // Another reader passes it on.
    assert_eq!(client.open_shard(&put.shard_id, position).await.expect("open").position(), position);
}

#[tokio::test]
async fn a_child_leaves_the_list_after_its_parent() {
    let folder = tempfile::tempdir().expect("a folder");
    let streams = LocalStreams::new(folder.path());
    streams.create("a", CreateOptions::default().with_retention(RETENTION)).await.expect("create");
    let client = streams.open("a").await.expect("open");
    // More than one sweep removes.
    for _ in 0..3 {
        client.put_batch(vec![entry("old"); 10_000].into()).await.expect("put");
    }
    let parent = client.shards().await.expect("shards").remove(0).id;
    streams.split("a", &parent, HashKey(1 << 127)).await.expect("split");
    streams.merge("a", &ShardId::numbered(1), &ShardId::numbered(2)).await.expect("merge");
    drop((client, streams));
    age(folder.path());

    let client = LocalStreams::new(folder.path()).open("a").await.expect("open");
    let mut reader = client.open_shard(&parent, Position::Latest).await.expect("open");
    let options = ReaderOptions::default().with_shards([parent.clone()]);
    let mut following = Reader::start(Arc::clone(&client), Start::All, options).await.expect("start");
    put(&client, "fresh").await;
    let started = Instant::now();
    loop {
        let listed: Vec<ShardId> = client.shards().await.expect("shards").into_iter().map(|shard| shard.id).collect();
        if listed.len() == 1 {
            break;
        }
        assert!(listed.len() == 4, "the parent is still listed, its children are not: {listed:?}");
        assert!(started.elapsed() < PATIENCE, "still listed: {listed:?}");
    }
    // A reader finds the end of the parent. What came of its children is in the list: they are not found any more.
    assert_eq!(reader.next_batch(1).await.expect("fetch"), None);
    assert_eq!(reader.children(), []);
    let child = client.open_shard(&ShardId::numbered(1), Position::TrimHorizon).await;
    assert!(matches!(child, Err(Error::ShardNotFound { .. })), "{child:?}");
    let read = tokio::time::timeout(PATIENCE, following.next()).await.expect("in time").expect("no end");
    assert_eq!(read.expect("a record").data, "fresh");
}
