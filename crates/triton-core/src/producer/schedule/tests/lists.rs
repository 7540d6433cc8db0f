//! Shard lists that lag behind the stream's shards, flap, or miss some of them.

use super::*;
use crate::captured_warnings::CapturedWarnings;
use crate::model::timestamp::Timestamp;
use crate::record::aggregate::unpack_all;
use crate::record::{Entries, Record};

/// A stream that is resharded, and a schedule that puts into it and knows only the lists that it is given.
struct Resharded {
    driven: Driven,
    shards: ShardMap,
    sequence: u64,
    /// Batches that were sent and not answered.
    in_flight: Vec<(BatchId, Entries)>,
    /// When the shards have to be listed, if that is requested.
    list_at: Option<Instant>,
}

/// The lower half of shard 0 of two, which is shard 2 after its split.
const IN_2: HashKey = HashKey(0);
/// The upper half, which is shard 3.
const IN_3: HashKey = HashKey(1 << 126);
const IN_1: HashKey = HashKey(1 << 127);

impl Resharded {
    /// Of two shards.
    fn new(options: &ProducerOptions) -> Self {
        let shards = ShardMap::uniform("clicks", 2, 0).unwrap();
        Self::knowing(shards.shards(), shards.clone(), options)
    }

    /// Of these shards, of which the first list shows some.
    fn knowing(list: &[Shard], shards: ShardMap, options: &ProducerOptions) -> Self {
        let driven = Driven::new(unordered(), options, Some(list));
        Self { driven, shards, sequence: 1, in_flight: Vec::new(), list_at: None }
    }

    fn aggregating() -> Self {
        Self::new(&options().with_aggregation(true))
    }

    fn split(&mut self) {
        self.shards.split(&ShardId::numbered(0), IN_3, &mut self.sequence).unwrap();
    }

    fn submit(&mut self, texts: &[&str], hash_key: HashKey) {
        for text in texts {
            self.driven.submit_entry(entry(text).with_explicit_hash_key(hash_key));
        }
    }

    /// Sends what may be sent now, and answers it. Returns the records of each entry.
    fn put(&mut self) -> Vec<Vec<String>> {
        let mut put = Vec::new();
        self.poll();
        for (batch, entries) in std::mem::take(&mut self.in_flight) {
            let stored: Vec<_> = entries.iter().map(|entry| self.store(entry)).collect();
            put.extend(entries.iter().map(texts));
            drop(entries);
            self.driven.answer(batch, Ok(stored.into_iter().map(Ok).collect()));
        }
        put
    }

    fn poll(&mut self) {
        let poll = self.driven.schedule.poll(self.driven.now);
        self.list_at = self.list_at.or(poll.list_shards);
        self.in_flight.extend(poll.batches);
    }

    /// When the shards have to be listed, if that is requested.
    fn list_at(&mut self) -> Option<Instant> {
        self.poll();
        self.list_at
    }

    fn store(&mut self, entry: &PutEntry) -> PutReceipt {
        self.sequence += 1;
        let holds = |shard: &&Shard| shard.hash_key_range.contains(entry.hash_key());
        let shard_id = self.shards.open().find(holds).unwrap().id.clone();
        PutReceipt::new(shard_id, self.sequence)
    }

    /// Answers a listing.
    fn list(&mut self, list: &[Shard]) {
        self.list_at = None;
        self.driven.schedule.shards(list, self.driven.now);
        self.driven.report();
    }

    fn list_all(&mut self) {
        let shards = self.shards.shards().to_vec();
        self.list(&shards);
    }

    /// The number of the shard where a record was acknowledged, if it was.
    fn acknowledged(&mut self, index: usize) -> Option<u64> {
        self.driven.outcome(index).and_then(|outcome| outcome.unwrap().shard_id.number())
    }

    fn duplicates(&mut self) -> u64 {
        self.driven.schedule.report().duplicates
    }
}

fn entry(text: &str) -> PutEntry {
    let key = PartitionKey::new(text.split('/').next().unwrap().to_owned()).unwrap();
    PutEntry::new(key, text.as_bytes().to_vec())
}

/// The records that an entry carries.
fn texts(entry: &PutEntry) -> Vec<String> {
    let (key, data) = (entry.partition_key.clone(), entry.data.clone());
    let record = Record::new(ShardId::numbered(0), 1.into(), key, Timestamp::default(), data);
    unpack_all(vec![record]).iter().map(|record| String::from_utf8_lossy(&record.data).into_owned()).collect()
}

#[test]
fn an_aggregate_in_an_unlisted_shard_has_no_outcome_until_a_list_shows_it() {
    let mut stream = Resharded::aggregating();
    let old = stream.shards.shards().to_vec();
    stream.split();
    stream.submit(&["a/1"], IN_2);
    stream.submit(&["b/1"], IN_3);
    assert_eq!(stream.put(), [["a/1", "b/1"]], "by the old list");
    for _ in 0..3 {
        stream.list(&old);
        assert_eq!((stream.acknowledged(0), stream.acknowledged(1)), (None, None));
        assert!(stream.put().is_empty());
    }
    stream.list_all();
    assert_eq!(stream.duplicates(), 2);
    let mut again = stream.put();
    again.sort();
    assert_eq!(again, [["a/1"], ["b/1"]]);
    assert_eq!((stream.acknowledged(0), stream.acknowledged(1)), (Some(2), Some(3)));
}

#[test]
fn a_list_is_asked_for_at_once_and_then_after_a_second() {
    let mut stream = Resharded::aggregating();
    stream.split();
    stream.submit(&["a/1"], IN_2);
    stream.put();
    assert_eq!(stream.list_at(), Some(stream.driven.now), "however young the first list is");
    stream.list_all();
    stream.shards.merge(&ShardId::numbered(2), &ShardId::numbered(3), &mut stream.sequence).unwrap();
    stream.submit(&["a/2"], IN_2);
    stream.put();
    assert_eq!(stream.list_at(), Some(stream.driven.now + Duration::from_secs(1)));
}

#[test]
fn an_aggregate_that_belongs_to_the_unlisted_shard_is_not_put_again() {
    let mut stream = Resharded::aggregating();
    let old = stream.shards.shards().to_vec();
    stream.shards.merge(&ShardId::numbered(0), &ShardId::numbered(1), &mut stream.sequence).unwrap();
    stream.submit(&["a/1"], IN_2);
    stream.submit(&["b/1"], IN_3);
    assert_eq!(stream.put(), [["a/1", "b/1"]]);
    stream.list(&old);
    assert_eq!(stream.acknowledged(0), None);
    stream.list_all();
    assert!(stream.put().is_empty());
    for (index, sub_sequence_number) in [(0, Some(0)), (1, Some(1))] {
        let receipt = stream.driven.outcome(index).unwrap().unwrap();
        assert_eq!((receipt.shard_id.number(), receipt.sub_sequence_number), (Some(2), sub_sequence_number));
    }
    assert_eq!(stream.duplicates(), 0);
}

#[test]
fn by_an_old_list_records_are_put_by_themselves_and_one_of_each_key_at_a_time() {
    let mut stream = Resharded::aggregating();
    stream.split();
    stream.submit(&["a/1"], IN_2);
    assert_eq!(stream.put(), [["a/1"]]);
    assert_eq!(stream.acknowledged(0), Some(2), "a single record is where it belongs");
    stream.submit(&["b/1", "c/1", "b/2"], IN_1);
    stream.submit(&["d/1"], IN_2);
    stream.submit(&["e/1"], IN_3);
    assert_eq!(stream.put(), [["b/1"], ["c/1"], ["d/1"], ["e/1"]]);
    assert_eq!(stream.put(), [["b/2"]]);
    stream.list_all();
    stream.submit(&["b/3", "c/2", "b/4"], IN_1);
    assert_eq!(stream.put(), [["b/3", "c/2", "b/4"]]);
    assert_eq!(stream.duplicates(), 0);
}

#[test]
fn in_any_order_records_are_put_by_themselves_and_wait_for_nothing() {
    let mut stream = Resharded::new(&options().with_aggregation(true).with_ordering(KeyOrder::Relaxed));
    stream.split();
    stream.submit(&["a/1", "a/2"], IN_2);
    assert_eq!(stream.put(), [["a/1", "a/2"]]);
    stream.submit(&["a/3", "a/4"], IN_2);
    assert_eq!(stream.put(), [["a/3"], ["a/4"]]);
    assert_eq!((stream.acknowledged(0), stream.acknowledged(2)), (None, Some(2)));
}

#[test]
fn successors_of_an_aggregate_without_an_outcome_wait_and_other_shards_do_not() {
    let mut stream = Resharded::aggregating();
    stream.split();
    stream.submit(&["a/1"], IN_2);
    stream.submit(&["b/1"], IN_3);
    assert_eq!(stream.put(), [["a/1", "b/1"]]);
    stream.submit(&["a/2"], IN_2);
    stream.submit(&["c/1"], IN_1);
    assert_eq!(stream.put(), [["c/1"]]);
    stream.list_all();
    assert_eq!(stream.put(), [vec!["a/1", "a/2"], vec!["b/1"]]);
    assert_eq!([0, 1, 2, 3].map(|index| stream.acknowledged(index)), [Some(2), Some(3), Some(2), Some(1)]);
}

#[test]
fn a_list_that_is_older_than_the_one_before_replaces_nothing() {
    let mut stream = Resharded::aggregating();
    let old = stream.shards.shards().to_vec();
    stream.split();
    stream.list_all();
    stream.list(&old);
    stream.submit(&["a/1", "b/1"], IN_2);
    stream.submit(&["c/1", "d/1"], IN_3);
    assert_eq!(stream.put(), [["a/1", "b/1"], ["c/1", "d/1"]]);
}

#[test]
fn a_list_that_misses_a_shard_replaces_nothing_and_settles_what_it_can() {
    let mut stream = Resharded::aggregating();
    stream.split();
    stream.submit(&["a/1"], IN_2);
    stream.submit(&["b/1"], IN_3);
    assert_eq!(stream.put(), [["a/1", "b/1"]]);
    let partial = stream.shards.shards()[..3].to_vec();
    assert_eq!(partial.last().map(|shard| &shard.id), Some(&ShardId::numbered(2)));
    stream.list(&partial);
    assert_eq!(stream.put(), [["a/1"], ["b/1"]], "it does not belong to shard 2, and the list is still old");
    assert_eq!((stream.acknowledged(0), stream.acknowledged(1)), (Some(2), Some(3)));
    stream.list_all();
    stream.submit(&["a/2", "c/1"], IN_2);
    assert_eq!(stream.put(), [["a/2", "c/1"]]);
}

#[test]
fn a_list_shows_that_the_one_before_is_old_without_replacing_it() {
    let mut stream = Resharded::aggregating();
    stream.split();
    let partial = stream.shards.shards()[..3].to_vec();
    stream.list(&partial);
    stream.submit(&["a/1", "b/1"], IN_2);
    assert_eq!(stream.put(), [["a/1"], ["b/1"]]);
}

#[test]
fn an_aggregate_that_is_answered_after_the_new_list_needs_no_other_list() {
    let mut stream = Resharded::aggregating();
    stream.split();
    stream.submit(&["a/1"], IN_2);
    stream.submit(&["b/1", "c/1"], IN_1);
    let (first, _) = stream.driven.sent_one();
    stream.submit(&["d/1"], IN_3);
    stream.list_all();
    assert!(stream.driven.sent().is_empty(), "nothing overtakes what was sent by the old list");
    let receipt = |shard| Ok(PutReceipt::new(ShardId::numbered(shard), 1));
    stream.driven.answer(first, Ok(vec![receipt(2), receipt(1)]));
    assert_eq!([0, 1, 2].map(|index| stream.acknowledged(index)), [Some(2), Some(1), Some(1)]);
    assert_eq!(stream.list_at(), None);
}

#[test]
fn what_is_in_a_shard_that_no_list_shows_fails_at_the_deadline_as_possibly_written() {
    let captured = CapturedWarnings::start();
    let mut stream = Resharded::aggregating();
    let old = stream.shards.shards().to_vec();
    stream.split();
    stream.submit(&["a/1"], IN_2);
    stream.submit(&["b/1"], IN_3);
    assert_eq!(stream.put(), [["a/1", "b/1"]]);
    stream.submit(&["a/2", "c/1"], IN_2);
    let started = stream.driven.now;
    let mut listings = 0;
    while let Some(at) = stream.list_at() {
        stream.driven.now = at;
        assert_eq!(stream.acknowledged(0), None);
        stream.list(&old);
        listings += 1;
        assert!(listings < 80, "it is given up");
    }
    assert!((120..126).contains(&(stream.driven.now - started).as_secs()), "{:?}", stream.driven.now - started);
    assert!(listings >= 24, "{listings}");
    for index in [0, 1] {
        let error = stream.driven.outcome(index).unwrap().unwrap_err();
        assert!(error.may_have_written() && error.is_retryable(), "{error:?}");
        assert_eq!(
            error.to_string(),
            "stored in an aggregate in shardId-000000000002, which no shard list shows: readers of the Kinesis Client \
             Library drop the aggregate if a record of it belongs to another shard"
        );
    }
    let error = stream.driven.outcome(2).unwrap().unwrap_err();
    assert!(
        matches!(error, Error::PredecessorFailed { .. }),
        "it would overtake what its caller puts again: {error:?}"
    );
    let warning = "message=stream 'clicks': the shard list stays older than shardId-000000000002; until that changes, records are \
                   put without aggregates ";
    assert_eq!(captured.warnings(), [warning]);
    assert_eq!(stream.put(), [["c/1"]]);
    stream.submit(&["d/1", "c/2"], IN_2);
    assert_eq!(stream.put(), [["d/1"], ["c/2"]]);
    assert_eq!([3, 4, 5].map(|index| stream.acknowledged(index)), [Some(2); 3]);
    assert!(stream.list_at().is_some(), "it is asked for again");
    stream.list_all();
    stream.submit(&["e/1", "f/1"], IN_2);
    assert_eq!(stream.put(), [["e/1", "f/1"]]);
    assert_eq!(captured.warnings().len(), 1);
}

#[test]
fn a_first_list_that_misses_shards_is_asked_for_again() {
    let shards = ShardMap::uniform("clicks", 2, 0).unwrap();
    let aggregation = options().with_aggregation(true);
    let mut stream = Resharded::knowing(&shards.shards()[..1], shards.clone(), &aggregation);
    assert!(stream.list_at().is_some());
    stream.submit(&["a/1", "b/1"], IN_1);
    assert_eq!(stream.put(), [["a/1"], ["b/1"]]);
    stream.list_all();
    stream.submit(&["c/1", "d/1"], IN_1);
    assert_eq!(stream.put(), [["c/1", "d/1"]]);
}

#[test]
fn a_stream_that_is_made_again_under_its_name_is_listed_anew() {
    let mut stream = Resharded::aggregating();
    let again = stream.shards.clone();
    stream.split();
    stream.list_all();
    stream.shards = again;
    stream.submit(&["a/1", "b/1"], IN_2);
    assert_eq!(stream.put(), [["a/1", "b/1"]]);
    assert_eq!(stream.acknowledged(0), None, "the shard may have other hash keys now");
    stream.list_all();
    assert_eq!((stream.acknowledged(0), stream.acknowledged(1)), (Some(0), Some(0)));
    stream.submit(&["c/1"], IN_2);
    stream.submit(&["d/1"], IN_3);
    assert_eq!(stream.put(), [["c/1", "d/1"]]);
}

#[test]
fn a_reshard_of_all_shards_costs_listings_by_its_rounds() {
    let shards = ShardMap::uniform("clicks", 64, 0).unwrap();
    let old = shards.shards().to_vec();
    let mut stream = Resharded::knowing(&old, shards, &options().with_aggregation(true));
    stream.shards.reshard(128, &mut stream.sequence).unwrap();
    let (mut listings, resharded_at) = (0, stream.driven.now);
    for round in 0..100 {
        for shard in 0..128u128 {
            stream.submit(&[&format!("{shard}/{round:03}")], HashKey(shard << 121));
        }
        stream.put();
        if stream.list_at().is_some_and(|at| at <= stream.driven.now) {
            listings += 1;
            // The list lags by five seconds.
            if stream.driven.now - resharded_at < Duration::from_secs(5) {
                stream.list(&old)
            } else {
                stream.list_all()
            }
        }
        stream.driven.advance(Duration::from_millis(100));
    }
    stream.put();
    assert!((2..=6).contains(&listings), "{listings}");
    assert!(stream.driven.schedule.is_empty());
}
