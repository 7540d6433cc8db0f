//! Checks of the records that readers deliver against those that the stream holds.
//!
//! A pass reads the stream once, from its start to its end. Several readers may share its shards, and later readers may
//! continue where earlier ones have stopped: together they deliver every record exactly once.

use std::collections::BTreeSet;

use triton_core::{Budget, HashKeyRange, Record, RecordId, Shard, ShardId, Start};

use crate::payload;
use crate::trace::Event;

use super::{Log, StreamView};

pub(crate) type PassId = usize;
pub(crate) type ReaderId = u32;

/// The passes and the readers of a run.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    passes: Vec<Pass>,
    readers: Vec<Reader>,
}

#[derive(Debug, Default)]
struct Pass {
    /// Whether it starts at the newest records, so that a shard starts where it is first opened.
    from_latest: bool,
    shards: Vec<Progress>,
    /// The shards that the lists of its start have shown.
    listed: BTreeSet<usize>,
    /// Whether it has opened a shard: later lists are not those of its start.
    has_started: bool,
    /// The hash keys of the readers that divide the stream by them.
    ranges: Vec<(HashKeyRange, ReaderId)>,
}

/// The progress of a pass in one shard.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Index of the next record to deliver, and of the next part if it is an aggregate.
    next: usize,
    next_part: u32,
    /// Number of records fetched.
    fetched: usize,
    /// The reader that delivers the shard.
    holder: Option<ReaderId>,
}

#[derive(Debug)]
struct Reader {
    pass: PassId,
    budget: Budget,
    is_stopped: bool,
    /// Whether it discards what it has fetched and not delivered.
    discards: bool,
    /// The shards of which it has told the end.
    ended: BTreeSet<usize>,
}

/// The part of the stream that a reader reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    All,
    /// These shards and their descendants.
    Shards(Vec<usize>),
    /// The shards whose first hash key is in this range.
    HashKeys(HashKeyRange),
}

/// A shard that a reader starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) shard: usize,
    pub(crate) start: Start,
}

impl Reads {
    /// Starts a pass from the oldest or from the newest record.
    pub(crate) fn begin(&mut self, from_latest: bool) -> PassId {
        self.passes.push(Pass { from_latest, ..Pass::default() });
        self.passes.len() - 1
    }

    /// Where readers start to continue a pass: after the last delivered record of each shard, except for shards that a
    /// reader reaches from their parents.
    pub(crate) fn roots(&mut self, pass: PassId, view: StreamView<'_>) -> Vec<Root> {
        let pass = &mut self.passes[pass];
        // Whether a reader will reach the shard, even if it is empty.
        let mut is_due: Vec<bool> = Vec::with_capacity(view.shards.len());
        let root = |(number, shard): (usize, &Shard)| {
            // A child is read by the reader that holds its first parent.
            let is_followed = shard.parents().next().is_some_and(|parent| is_due[number_of(parent)]);
            let is_over = pass.is_over(number, view);
            is_due.push(is_followed || !is_over);
            let progress = pass.shards.get(number).copied().unwrap_or_default();
            let id = |index: usize| RecordId::new(shard.id.clone(), view.records[number][index].sequence_number);
            let start = match (progress.next, progress.next_part) {
                (0, 0) => Start::All,
                (next, 0) => Start::After(id(next - 1)),
                (next, part) => Start::After(id(next).with_sub_sequence_number(part - 1)),
            };
            (!is_over && !is_followed).then_some(Root { shard: number, start })
        };
        view.shards.iter().enumerate().filter_map(root).collect()
    }

    /// Adds a reader of this part of the stream.
    pub(crate) fn reader(
        &mut self,
        pass: PassId,
        share: &Share,
        budget: &Budget,
        view: StreamView<'_>,
        log: &mut Log,
    ) -> ReaderId {
        let id = self.readers.len() as ReaderId;
        let budget = budget.clone();
        self.readers.push(Reader { pass, budget, is_stopped: false, discards: false, ended: BTreeSet::new() });
        log.add(Event::ReaderStarted { reader: id });
        let pass = &mut self.passes[pass];
        match share {
            Share::All => (0..view.shards.len()).for_each(|shard| pass.progress(shard).holder = Some(id)),
            Share::Shards(roots) => roots.iter().for_each(|shard| pass.progress(*shard).holder = Some(id)),
            Share::HashKeys(range) => pass.ranges.push((*range, id)),
        }
        id
    }

    /// Notes that a reader has received a list.
    pub(crate) fn listed(&mut self, reader: ReaderId, list: &[Shard], view: StreamView<'_>) {
        let pass = &mut self.passes[self.readers[reader as usize].pass];
        if !pass.from_latest || pass.has_started {
            return;
        }
        // A pass from the newest records skips shards that were closed before it started, as far as it can know.
        for shard in list {
            pass.listed.insert(number_of(&shard.id));
            pass.skip_ancestors(shard, view);
            if !shard.is_open() {
                pass.skip_to(number_of(&shard.id), view.records[number_of(&shard.id)].len());
            }
        }
    }

    /// Notes that a reader has opened a shard at the record of this index.
    pub(crate) fn opened(&mut self, reader: ReaderId, shard: usize, next: usize, is_latest: bool, log: &mut Log) {
        log.add(Event::Opened { reader, shard: shard as u64, next: next as u64 });
        let pass = &mut self.passes[self.readers[reader as usize].pass];
        pass.has_started = true;
        // Only a shard that was listed at the start may be opened at its end, repeatedly if the response of a fetch was
        // lost.
        let was_there = pass.listed.contains(&shard);
        if is_latest && pass.from_latest && was_there && pass.progress(shard).fetched <= pass.progress(shard).next {
            pass.skip_to(shard, next);
        }
    }

    /// Checks that a reader may start a fetch.
    pub(crate) fn fetching(&mut self, reader: ReaderId, shard: usize, log: &mut Log) {
        let Reader { budget, is_stopped, .. } = &self.readers[reader as usize];
        if *is_stopped {
            log.violated(6, || format!("reader {reader} fetches from shard {shard} after it was stopped"));
        }
        // The reservation of this fetch is already counted.
        if budget.used() == 0 {
            log.violated(10, || format!("reader {reader} fetches from shard {shard} without having reserved memory"));
        }
    }

    /// Notes that a reader has fetched every record of the shard before this index.
    pub(crate) fn fetched(&mut self, reader: ReaderId, shard: usize, next: usize) {
        let progress = self.passes[self.readers[reader as usize].pass].progress(shard);
        progress.fetched = progress.fetched.max(next);
        progress.holder.get_or_insert(reader);
    }

    /// Notes that a reader is stopped, and whether it discards what it has not delivered.
    pub(crate) fn stopped(&mut self, reader: ReaderId, discards: bool, log: &mut Log) {
        log.add(Event::ReaderStopped { reader });
        let reader = &mut self.readers[reader as usize];
        (reader.is_stopped, reader.discards) = (true, discards);
    }

    /// Checks the end of a shard that a reader tells: every record was delivered, and these are all children.
    pub(crate) fn shard_ended(
        &mut self,
        reader: ReaderId,
        shard: &ShardId,
        children: &[ShardId],
        view: StreamView<'_>,
        log: &mut Log,
    ) {
        let (id, shard) = (shard, number_of(shard));
        log.add(Event::ShardEnded { reader, shard: shard as u64 });
        let Reader { pass, ended, .. } = &mut self.readers[reader as usize];
        if !ended.insert(shard) {
            log.violated(4, || format!("reader {reader} tells the end of shard {shard} twice"));
        }
        if !self.passes[*pass].is_over(shard, view) {
            log.violated(4, || format!("reader {reader} tells the end of shard {shard} before its last record"));
        }
        let is_child = |listed: &&Shard| listed.parents().any(|parent| parent == id);
        let expected: BTreeSet<&ShardId> = view.shards.iter().filter(is_child).map(|child| &child.id).collect();
        if expected != children.iter().collect() {
            log.violated(4, || {
                format!("reader {reader} tells the end of shard {shard} with the children {children:?}")
            });
        }
    }

    /// Checks a delivered record.
    pub(crate) fn delivered(&mut self, reader: ReaderId, record: &Record, view: StreamView<'_>, log: &mut Log) {
        let shard = number_of(&record.shard_id);
        let sequence = u64::try_from(record.sequence_number).unwrap_or(u64::MAX);
        let sub_sequence = record.sub_sequence_number.unwrap_or(0);
        log.add(Event::Delivered { reader, shard: shard as u64, sequence, sub_sequence });
        let pass = &mut self.passes[self.readers[reader as usize].pass];
        if pass.holder(shard, view) != Some(reader) {
            log.violated(4, || format!("reader {reader} delivers from shard {shard}, which it does not hold"));
        }
        let progress = pass.progress(shard);
        if progress.next == 0 && progress.next_part == 0 {
            pass.check_parents(shard, reader, view, log);
        }
        let progress = pass.progress(shard);
        let Some(expected) = view.records[shard].get(progress.next) else {
            log.violated(4, || format!("reader {reader} delivers {sequence} of shard {shard}, after its last record"));
            return;
        };
        if expected.sequence_number != record.sequence_number {
            let due = expected.sequence_number;
            log.violated(4, || format!("reader {reader} delivers {sequence} of shard {shard}, expected {due}"));
            // Continue from there, so that one mistake is reported once.
            let place = view.records[shard].binary_search_by(|kept| kept.sequence_number.cmp(&record.sequence_number));
            progress.next = place.map_or(progress.next, |place| place + 1);
            progress.next_part = 0;
            return;
        }
        let parts = payload::count(&expected.data);
        let is_right = match record.sub_sequence_number {
            None => parts == 1 && record.data == expected.data && record.partition_key == expected.partition_key,
            Some(part) => part == progress.next_part && is_part(record, expected, part),
        };
        if !is_right {
            log.violated(4, || format!("reader {reader} delivers {sequence}/{sub_sequence} of shard {shard} changed"));
        }
        progress.next_part += 1;
        if progress.next_part >= parts {
            progress.next += 1;
            progress.next_part = 0;
        }
    }

    /// Checks, at the end of a reader, that it has delivered every fetched record and released its memory.
    pub(crate) fn reader_ended(&mut self, reader: ReaderId, log: &mut Log) {
        log.add(Event::ReaderEnded { reader });
        let discards = self.readers[reader as usize].discards;
        let pass = &mut self.passes[self.readers[reader as usize].pass];
        for (shard, progress) in pass.shards.iter_mut().enumerate() {
            if progress.holder == Some(reader) {
                let missing = progress.fetched.saturating_sub(progress.next);
                if missing > 0 && !discards {
                    log.violated(6, || {
                        format!("reader {reader} fetched {missing} more records of shard {shard} than it delivered")
                    });
                }
                progress.holder = None;
                // The next reader starts after the last delivered record.
                progress.fetched = progress.next;
            }
        }
        pass.ranges.retain(|(_, holder)| *holder != reader);
        let budget = &self.readers[reader as usize].budget;
        if budget.used() > 0 {
            log.violated(10, || format!("reader {reader} has ended, and its budget still counts: {budget:?}"));
        }
    }

    /// Whether every record was delivered.
    pub(crate) fn is_complete(&self, pass: PassId, view: StreamView<'_>) -> bool {
        let pass = &self.passes[pass];
        (0..view.records.len()).all(|shard| {
            let next = pass.shards.get(shard).map_or(0, |progress| progress.next);
            next >= view.records[shard].len()
        })
    }

    /// Checks, in a run that is ended early, that every pass is complete.
    pub(crate) fn finish_all(&self, view: StreamView<'_>, log: &mut Log) {
        for pass in 0..self.passes.len() {
            self.finish(pass, view, log);
        }
    }

    /// Checks, at the end of a pass, that no record is missing.
    pub(crate) fn finish(&self, pass: PassId, view: StreamView<'_>, log: &mut Log) {
        for (shard, records) in view.records.iter().enumerate() {
            let next = self.passes[pass].shards.get(shard).map_or(0, |progress| progress.next);
            if next < records.len() {
                let missing = records.len() - next;
                log.violated(4, || format!("pass {pass}: the last {missing} records of shard {shard} are missing"));
            }
        }
    }
}

impl Pass {
    fn progress(&mut self, shard: usize) -> &mut Progress {
        if self.shards.len() <= shard {
            self.shards.resize(shard + 1, Progress::default());
        }
        &mut self.shards[shard]
    }

    fn skip_to(&mut self, shard: usize, next: usize) {
        let progress = self.progress(shard);
        (progress.next, progress.next_part, progress.fetched) = (next, 0, next);
    }

    fn is_over(&self, shard: usize, view: StreamView<'_>) -> bool {
        let next = self.shards.get(shard).map_or(0, |progress| progress.next);
        !view.shards[shard].is_open() && next >= view.records[shard].len()
    }

    /// The shards that this one descends from are over.
    fn skip_ancestors(&mut self, shard: &Shard, view: StreamView<'_>) {
        for parent in shard.parents().map(number_of) {
            self.skip_to(parent, view.records[parent].len());
            self.skip_ancestors(&view.shards[parent], view);
        }
    }

    /// The reader that delivers a shard: the one that started with it; else the one of its hash keys, or the one that holds
    /// its first parent.
    fn holder(&self, shard: usize, view: StreamView<'_>) -> Option<ReaderId> {
        let begun = self.shards.get(shard).and_then(|progress| progress.holder);
        let first_key = view.shards[shard].hash_key_range.first;
        let of_key = || self.ranges.iter().find(|(range, _)| range.contains(first_key)).map(|(_, reader)| *reader);
        let of_parent = || self.holder(number_of(view.shards[shard].parents().next()?), view);
        begun.or_else(|| if self.ranges.is_empty() { of_parent() } else { of_key() })
    }

    /// Checks, at the first record of a shard, that its parents were read to their end, unless another reader holds
    /// them.
    fn check_parents(&self, shard: usize, reader: ReaderId, view: StreamView<'_>, log: &mut Log) {
        for parent in view.shards[shard].parents().map(number_of) {
            if self.holder(parent, view) != Some(reader) {
                continue;
            }
            if self.is_over(parent, view) {
                // An empty parent is skipped, so that its own parents matter.
                self.check_parents(parent, reader, view, log);
            } else {
                log.violated(5, || {
                    format!("reader {reader} delivers from shard {shard} before the end of its parent {parent}")
                });
            }
        }
    }
}

fn is_part(record: &Record, whole: &Record, part: u32) -> bool {
    let mut is_right = false;
    payload::each_inner(&whole.partition_key, &whole.data, |inner, place| {
        is_right |= place == Some(part) && inner.data == record.data && inner.key == record.partition_key.as_str();
    });
    is_right
}

/// The model numbers shards in the order of their creation, as Kinesis does.
fn number_of(shard: &ShardId) -> usize {
    shard.number().map_or(usize::MAX, |number| number as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    use triton_core::{PartitionKey, ShardMap, Timestamp};

    use crate::payload::payload;

    /// One reader of a stream with one shard and three records.
    struct Case {
        reads: Reads,
        log: Log,
        map: ShardMap,
        records: Vec<Vec<Record>>,
        budget: Budget,
    }

    impl Case {
        fn new() -> Self {
            let map = ShardMap::uniform("clicks", 1, 1).unwrap();
            let record = |id| {
                let (shard, key) = (map.shards()[0].id.clone(), PartitionKey::new("k").unwrap());
                Record::new(shard, (10 + u64::from(id)).into(), key, Timestamp::default(), payload(id, 10))
            };
            let records = vec![(0..3).map(record).collect()];
            let mut case =
                Self { reads: Reads::default(), log: Log::default(), map, records, budget: Budget::new(1_000) };
            let pass = case.reads.begin(false);
            let view = StreamView { shards: case.map.shards(), records: &case.records };
            case.reads.reader(pass, &Share::All, &case.budget, view, &mut case.log);
            case
        }

        fn deliver(&mut self, record: usize) {
            let view = StreamView { shards: self.map.shards(), records: &self.records };
            self.reads.delivered(0, &self.records[0][record], view, &mut self.log);
        }

        fn broken(&mut self) -> Vec<u8> {
            self.reads.reader_ended(0, &mut self.log);
            self.log.violations.iter().map(|violation| violation.invariant).collect()
        }
    }

    #[test]
    fn records_fetched_before_a_stop_may_be_delivered_after_it() {
        let mut case = Case::new();
        case.reads.fetched(0, 0, 2);
        case.reads.stopped(0, false, &mut case.log);
        case.deliver(0);
        case.deliver(1);
        assert_eq!(case.broken(), Vec::<u8>::new());
    }

    #[test]
    fn a_fetch_after_the_stop() {
        let mut case = Case::new();
        case.reads.stopped(0, false, &mut case.log);
        case.reads.fetching(0, 0, &mut case.log);
        // This case reserves no memory, either.
        assert_eq!(case.broken(), [6, 10]);
    }

    #[test]
    fn fetched_records_that_are_not_delivered() {
        let mut case = Case::new();
        case.reads.fetched(0, 0, 2);
        case.reads.stopped(0, false, &mut case.log);
        case.deliver(0);
        assert_eq!(case.broken(), [6]);
    }

    #[test]
    fn a_stop_that_discards_loses_what_was_fetched() {
        let mut case = Case::new();
        case.reads.fetched(0, 0, 2);
        case.reads.stopped(0, true, &mut case.log);
        case.deliver(0);
        assert_eq!(case.broken(), Vec::<u8>::new());
    }

    #[test]
    fn the_end_of_a_shard_is_told_once_after_its_last_record_with_its_children() {
        let ended = |delivered: usize, children: &[u64], times: usize| {
            let mut case = Case::new();
            case.map.split(&ShardId::numbered(0), triton_core::HashKey(1 << 127), &mut 20).unwrap();
            (0..delivered).for_each(|record| case.deliver(record));
            let children: Vec<ShardId> = children.iter().map(|number| ShardId::numbered(*number)).collect();
            case.records.resize(3, Vec::new());
            let view = StreamView { shards: case.map.shards(), records: &case.records };
            for _ in 0..times {
                case.reads.shard_ended(0, &ShardId::numbered(0), &children, view, &mut case.log);
            }
            case.broken()
        };
        assert_eq!(ended(3, &[2, 1], 1), Vec::<u8>::new());
        assert_eq!(ended(2, &[1, 2], 1), [4]);
        assert_eq!(ended(3, &[1], 1), [4]);
        assert_eq!(ended(3, &[1, 2], 2), [4]);
    }

    #[test]
    fn records_that_are_missing_at_the_end_of_a_pass() {
        let mut case = Case::new();
        case.reads.fetched(0, 0, 1);
        case.deliver(0);
        let view = StreamView { shards: case.map.shards(), records: &case.records };
        case.reads.finish_all(view, &mut case.log);
        assert_eq!(case.broken(), [4]);
    }
}
