//! Checks of the records that readers deliver against those that the stream holds.
//!
//! A pass reads the stream once, from its start to its end. It may be shared by readers of different shards, and taken over from them by
//! others, which start where those have stopped: together they deliver every record once.

use triton_core::{Budget, Record, Shard, Start};

use crate::payload;
use crate::trace::Event;

use super::{Log, StreamView};

pub(crate) type PassId = usize;
pub(crate) type ReaderId = u32;

/// Every pass of a run, and every reader.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    passes: Vec<Pass>,
    readers: Vec<Reader>,
}

#[derive(Debug, Default)]
struct Pass {
    /// Whether it began at the newest records, so that each shard's start is where it was opened first.
    from_latest: bool,
    shards: Vec<Progress>,
    /// How many shards there were when it began.
    listed: Option<usize>,
}

/// How far a pass is in one shard.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// The record that comes next, and its part where it is an aggregate.
    next: usize,
    next_part: u32,
    /// As many records were handed to a reader.
    fetched: usize,
    /// The reader that delivers it at the moment.
    holder: Option<ReaderId>,
}

#[derive(Debug)]
struct Reader {
    pass: PassId,
    budget: Budget,
    is_stopped: bool,
}

/// A shard that a reader starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) shard: usize,
    pub(crate) start: Start,
}

impl Reads {
    /// A new pass, from the oldest record or from the newest.
    pub(crate) fn begin(&mut self, from_latest: bool) -> PassId {
        self.passes.push(Pass { from_latest, ..Pass::default() });
        self.passes.len() - 1
    }

    /// Where readers have to start to go on with a pass: after what was delivered, and with every shard that no other
    /// of them would come to by itself.
    pub(crate) fn roots(&mut self, pass: PassId, view: StreamView<'_>) -> Vec<Root> {
        let pass = &mut self.passes[pass];
        // A shard that a reader is still to come by, be it empty.
        let mut is_due: Vec<bool> = Vec::with_capacity(view.shards.len());
        let root = |(number, shard): (usize, &Shard)| {
            // A child is read by the reader that holds its first parent.
            let is_followed = shard.parents().next().is_some_and(|parent| is_due[number_of(parent)]);
            let is_over = pass.is_over(number, view);
            is_due.push(is_followed || !is_over);
            let start = match pass.shards.get(number).and_then(|progress| progress.next.checked_sub(1)) {
                Some(last) => {
                    Start::After { shard: number, sequence_number: view.records[number][last].sequence_number }
                }
                None => Start::All,
            };
            (!is_over && !is_followed).then_some(Root { shard: number, start })
        };
        view.shards.iter().enumerate().filter_map(root).collect()
    }

    /// A reader begins with these shards, or with all. It holds those that come from them as well.
    pub(crate) fn reader(
        &mut self,
        pass: PassId,
        roots: Option<&[usize]>,
        budget: &Budget,
        view: StreamView<'_>,
        log: &mut Log,
    ) -> ReaderId {
        let id = self.readers.len() as ReaderId;
        self.readers.push(Reader { pass, budget: budget.clone(), is_stopped: false });
        log.add(Event::ReaderStarted { reader: id });
        let pass = &mut self.passes[pass];
        for shard in 0..view.shards.len() {
            if roots.is_none_or(|roots| roots.contains(&shard)) {
                pass.progress(shard).holder = Some(id);
            }
        }
        id
    }

    /// The reader has received a listing.
    pub(crate) fn listed(&mut self, reader: ReaderId, view: StreamView<'_>) {
        let pass = &mut self.passes[self.readers[reader as usize].pass];
        if pass.listed.is_some() {
            return;
        }
        pass.listed = Some(view.shards.len());
        if !pass.from_latest {
            return;
        }
        // What was closed before the start is not read from the latest.
        for (number, shard) in view.shards.iter().enumerate() {
            if !shard.is_open() {
                pass.skip_to(number, view.records[number].len());
            }
        }
    }

    /// The reader has opened a shard at the record of this index.
    pub(crate) fn opened(&mut self, reader: ReaderId, shard: usize, next: usize, is_latest: bool, log: &mut Log) {
        log.add(Event::Opened { reader, shard: shard as u64, next: next as u64 });
        let pass = &mut self.passes[self.readers[reader as usize].pass];
        // Only a shard that was there at the start may be opened at its end, and again where the answer was lost.
        let was_there = pass.listed.is_some_and(|listed| shard < listed);
        if is_latest && pass.from_latest && was_there && pass.progress(shard).fetched <= pass.progress(shard).next {
            pass.skip_to(shard, next);
        }
    }

    /// The reader begins a fetch.
    pub(crate) fn fetching(&mut self, reader: ReaderId, shard: usize, log: &mut Log) {
        let Reader { budget, is_stopped, .. } = &self.readers[reader as usize];
        if *is_stopped {
            log.violated(6, || format!("reader {reader} fetches from shard {shard} after it was stopped"));
        }
        // The fetch's own reservation counts already.
        if budget.used() == 0 {
            log.violated(10, || format!("reader {reader} fetches from shard {shard} without having reserved memory"));
        }
    }

    /// The reader was handed every record of the shard before this index.
    pub(crate) fn fetched(&mut self, reader: ReaderId, shard: usize, next: usize) {
        let progress = self.passes[self.readers[reader as usize].pass].progress(shard);
        progress.fetched = progress.fetched.max(next);
        progress.holder.get_or_insert(reader);
    }

    pub(crate) fn stopped(&mut self, reader: ReaderId, log: &mut Log) {
        log.add(Event::ReaderStopped { reader });
        self.readers[reader as usize].is_stopped = true;
    }

    /// The reader has delivered a record.
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
            log.violated(4, || format!("reader {reader} delivers {sequence} of shard {shard}, {due} is due"));
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

    /// The reader has ended: what it was handed has to be delivered.
    pub(crate) fn reader_ended(&mut self, reader: ReaderId, log: &mut Log) {
        log.add(Event::ReaderEnded { reader });
        let pass = &mut self.passes[self.readers[reader as usize].pass];
        for (shard, progress) in pass.shards.iter_mut().enumerate() {
            if progress.holder == Some(reader) {
                let missing = progress.fetched.saturating_sub(progress.next);
                if missing > 0 {
                    log.violated(6, || {
                        format!("reader {reader} fetched {missing} more records of shard {shard} than it delivered")
                    });
                }
                progress.holder = None;
                // The next reader begins after the last record that was delivered.
                progress.fetched = progress.next;
            }
        }
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

    /// The run is given up: what was not read by now is missing.
    pub(crate) fn finish_all(&self, view: StreamView<'_>, log: &mut Log) {
        for pass in 0..self.passes.len() {
            self.finish(pass, view, log);
        }
    }

    /// Everything was read that is to be read.
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

    /// The reader that delivers a shard: one that began with it, else the one that holds its first parent.
    fn holder(&self, shard: usize, view: StreamView<'_>) -> Option<ReaderId> {
        let holder = self.shards.get(shard).and_then(|progress| progress.holder);
        holder.or_else(|| self.holder(number_of(view.shards[shard].parents().next()?), view))
    }

    /// The first record of a shard: its parents are to be read to their end, but for those that another reader holds.
    fn check_parents(&self, shard: usize, reader: ReaderId, view: StreamView<'_>, log: &mut Log) {
        for parent in view.shards[shard].parents().map(number_of) {
            if self.holder(parent, view) != Some(reader) {
                continue;
            }
            if self.is_over(parent, view) {
                // It may have been empty, and skipped.
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

/// Shards are numbered in the order of their making, by the model as by Kinesis.
fn number_of(shard: &triton_core::ShardId) -> usize {
    shard.number().map_or(usize::MAX, |number| number as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    use triton_core::{PartitionKey, ShardMap, Timestamp};

    use crate::payload::payload;

    /// A reader of a stream of one shard with three records, and a made-up trace.
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
            case.reads.reader(pass, None, &case.budget, view, &mut case.log);
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
    fn what_was_fetched_before_a_stop_and_delivered_after_it_breaks_nothing() {
        let mut case = Case::new();
        case.reads.fetched(0, 0, 2);
        case.reads.stopped(0, &mut case.log);
        case.deliver(0);
        case.deliver(1);
        assert_eq!(case.broken(), Vec::<u8>::new());
    }

    #[test]
    fn a_fetch_after_the_stop() {
        let mut case = Case::new();
        case.reads.stopped(0, &mut case.log);
        case.reads.fetching(0, 0, &mut case.log);
        // Nothing is reserved in this case, either.
        assert_eq!(case.broken(), [6, 10]);
    }

    #[test]
    fn what_was_fetched_and_not_delivered() {
        let mut case = Case::new();
        case.reads.fetched(0, 0, 2);
        case.reads.stopped(0, &mut case.log);
        case.deliver(0);
        assert_eq!(case.broken(), [6]);
    }

    #[test]
    fn records_that_are_missing_at_the_end_of_a_reading() {
        let mut case = Case::new();
        case.reads.fetched(0, 0, 1);
        case.deliver(0);
        let view = StreamView { shards: case.map.shards(), records: &case.records };
        case.reads.finish_all(view, &mut case.log);
        assert_eq!(case.broken(), [4]);
    }
}
