//! The model's implementation of the core's traits, with the latency of each call.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};
use triton_core::{
    Batch, ChildShard, Entries, Error, Limits, Position, PutEntry, PutReceipt, Result, SequenceNumber, Shard, ShardId,
    ShardReader, StreamClient, Timestamp,
};

use super::fault::InjectedFault;
use super::{AFTER_FULL_PAGE, Fate, ITERATOR_LIFE, Kinesis, NAME, number, timestamp, unavailable};
use crate::check::{AttemptResult, Puts, ReaderId};
use crate::payload::PutId;
use crate::trace::Event;

/// The connection of one producer or reader to the stream.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    kinesis: Arc<Kinesis>,
    /// The reader that uses it; `None` for a producer.
    reader: Option<ReaderId>,
}

impl Handle {
    pub(crate) fn producer(kinesis: &Arc<Kinesis>) -> Self {
        Self { kinesis: Arc::clone(kinesis), reader: None }
    }

    pub(crate) fn reader(kinesis: &Arc<Kinesis>, reader: ReaderId) -> Self {
        Self { kinesis: Arc::clone(kinesis), reader: Some(reader) }
    }

    /// Waits for the latency of one direction of a call.
    async fn delay(&self) {
        let latency = {
            let options = &self.kinesis.options;
            self.kinesis.state().one_way_latency(options.latency, &options.faults)
        };
        sleep(latency).await;
    }

    async fn listing(&self) -> Result<()> {
        self.delay().await;
        let mut state = self.kinesis.state();
        if state.injects(self.kinesis.options.faults.listing, InjectedFault::Listing) {
            state.event(Event::ListingFailed);
            return Err(unavailable("the connection was reset", false));
        }
        Ok(())
    }
}

/// A put in flight. It is dropped early if its caller no longer waits for the result.
struct InFlightPut<'a> {
    kinesis: &'a Arc<Kinesis>,
    call: u32,
    entries: Entries,
    is_over: bool,
}

impl InFlightPut<'_> {
    /// Returns the results to the caller.
    fn end(mut self, results: &[Result<PutReceipt>]) {
        self.is_over = true;
        let mut state = self.kinesis.state();
        let failed = results.iter().filter(|answer| answer.is_err()).count() as u32;
        state.event(Event::PutEnded { call: self.call, failed });
        let results: Vec<AttemptResult> = self
            .entries
            .iter()
            .zip(results)
            .map(|(entry, answer)| match answer {
                Ok(receipt) if state.belongs(entry, &receipt.shard_id) => AttemptResult::Stored,
                Ok(_) => AttemptResult::Misrouted,
                Err(_) => AttemptResult::Failed,
            })
            .collect();
        state.with_checks(|puts, log| {
            for (entry, answer) in self.entries.iter().zip(results) {
                Puts::ids(entry, |id| puts.attempt_ended(id.unwrap_or(PutId::MAX), answer, log));
            }
        });
    }

    /// Fails the call as a whole.
    fn fail(mut self, why: InjectedFault, answer: AttemptResult) {
        self.is_over = true;
        self.over(Event::PutFailed { call: self.call, why }, answer);
    }

    fn over(&self, event: Event, answer: AttemptResult) {
        let mut state = self.kinesis.state();
        state.event(event);
        state.with_checks(|puts, log| {
            for entry in &self.entries {
                Puts::ids(entry, |id| puts.attempt_ended(id.unwrap_or(PutId::MAX), answer, log));
            }
        });
    }
}

impl Drop for InFlightPut<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.over(Event::PutDropped { call: self.call }, AttemptResult::Failed);
        }
    }
}

#[async_trait]
impl StreamClient for Handle {
    fn name(&self) -> &str {
        NAME
    }

    async fn created_at(&self) -> Result<Timestamp> {
        Ok(timestamp(0))
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        self.listing().await?;
        let list = self.kinesis.state().list(&self.kinesis.options, self.kinesis.millis());
        if let Some(reader) = self.reader {
            self.kinesis.check(|checker, view| checker.reads.listed(reader, &list, view));
        }
        Ok(list)
    }

    async fn put_batch(&self, entries: Entries) -> Result<Vec<Result<PutReceipt>>> {
        let options = &self.kinesis.options;
        options.limits.check(&entries)?;
        let begun = Instant::now();
        let (call, fate) = {
            let mut state = self.kinesis.state();
            state.next_call += 1;
            let call = state.next_call;
            state.with_checks(|puts, log| {
                let bytes = entries.iter().map(|entry| entry.size() as u64).sum();
                log.add(Event::Put { call, entries: entries.len() as u32, bytes });
                for entry in &entries {
                    Puts::ids(entry, |id| puts.sent(id.unwrap_or(PutId::MAX), call, log));
                }
            });
            (call, state.fate(options, self.kinesis.millis()))
        };
        let put = InFlightPut { kinesis: &self.kinesis, call, entries: entries.clone(), is_over: false };
        self.delay().await;
        let apply = move |kinesis: &Arc<Kinesis>, entries: &[PutEntry]| {
            let now = kinesis.millis();
            kinesis.state().apply(call, entries, &kinesis.options, now)
        };
        match fate {
            Fate::Served => {
                let results = apply(&self.kinesis, &entries);
                self.delay().await;
                put.end(&results);
                let accepted = &mut self.kinesis.state().accepted;
                accepted.calls += 1;
                accepted.time += begun.elapsed();
                return Ok(results);
            }
            Fate::Outage => {
                put.fail(InjectedFault::Outage, AttemptResult::Failed);
                return Err(unavailable("no route to the host", false));
            }
            Fate::Unsent => {
                put.fail(InjectedFault::Unsent, AttemptResult::Failed);
                return Err(unavailable("the connection was refused", false));
            }
            Fate::Throttled => {
                self.delay().await;
                put.fail(InjectedFault::ThrottledCall, AttemptResult::Failed);
                return Err(Error::Throttled { problem: "too many requests".into() });
            }
            Fate::Denied => {
                self.delay().await;
                put.fail(InjectedFault::Denied, AttemptResult::NotRetryable);
                return Err(Error::AccessDenied { problem: "a policy was changed".into() });
            }
            Fate::RequestLost => {
                self.delay().await;
                put.fail(InjectedFault::RequestLost, AttemptResult::Failed);
            }
            Fate::ReplyLost => {
                drop(apply(&self.kinesis, &entries));
                self.delay().await;
                put.fail(InjectedFault::ReplyLost, AttemptResult::Failed);
            }
            Fate::Late(after) => {
                let (kinesis, entries) = (Arc::clone(&self.kinesis), entries);
                kinesis.state().late += 1;
                tokio::spawn(async move {
                    sleep(after).await;
                    apply(&kinesis, &entries);
                    kinesis.state().late -= 1;
                });
                put.fail(InjectedFault::Late, AttemptResult::Failed);
            }
        }
        Err(unavailable("no answer in time", true))
    }

    async fn open_shard(&self, shard: &ShardId, position: Position) -> Result<Box<dyn ShardReader>> {
        self.delay().await;
        let now = self.kinesis.millis();
        let mut state = self.kinesis.state();
        state.map.get(shard)?;
        let (reader, shard) = (self.reader.unwrap_or(ReaderId::MAX), number(shard));
        if state.injects(self.kinesis.options.faults.unread, InjectedFault::Unread) {
            state.event(Event::FetchFailed { reader, shard: shard as u64, why: InjectedFault::Unread });
            return Err(unavailable("the connection was reset", false));
        }
        let records = &state.records[shard];
        let next = match position {
            Position::Latest => records.len(),
            Position::TrimHorizon => 0,
            Position::At(number) => records.partition_point(|record| record.sequence_number < number),
            Position::After { sequence_number: number, .. } => {
                records.partition_point(|record| record.sequence_number <= number)
            }
            Position::AtTime(time) => records.partition_point(|record| record.arrival < time),
        };
        if let (Some(reader), Some(checker)) = (self.reader, &mut state.checker) {
            checker.reads.opened(reader, shard, next, position == Position::Latest, &mut checker.log);
        }
        let tells_end = !state.draw(self.kinesis.options.faults.untold_end);
        drop(state);
        let client = self.clone();
        let iterator = ShardIterator { client, shard, next, issued_at: now, tells_end, caught_up_at: None, end: None };
        Ok(Box::new(iterator))
    }

    async fn limits(&self) -> Result<Limits> {
        self.listing().await?;
        Ok(self.kinesis.options.limits)
    }
}

/// A shard iterator: a position in one shard.
#[derive(Debug)]
struct ShardIterator {
    client: Handle,
    shard: usize,
    /// Index of the next record.
    next: usize,
    issued_at: u64,
    /// Whether a fetch tells the end of the shard; otherwise it returns empty pages for ever.
    tells_end: bool,
    /// Every record that arrived before this time was returned.
    caught_up_at: Option<Timestamp>,
    /// The named children, once the end is known.
    end: Option<Vec<ChildShard>>,
}

impl ShardIterator {
    /// The result of a fetch that has arrived. The position advances only once the result has reached the caller.
    fn page(&mut self, max_records: usize) -> Result<Option<Batch>> {
        let kinesis = Arc::clone(&self.client.kinesis);
        let now = kinesis.millis();
        let (faults, page_bytes) = (&kinesis.options.faults, kinesis.options.page_bytes);
        let mut state = kinesis.state();
        let state = &mut *state;
        if now.saturating_sub(self.issued_at) > ITERATOR_LIFE {
            state.injected.add(InjectedFault::Aged);
            return self.expired(state, InjectedFault::Aged);
        }
        if state.injects(faults.expired, InjectedFault::Expired) {
            return self.expired(state, InjectedFault::Expired);
        }
        let quota = &mut state.quotas[self.shard];
        let is_refused = now < quota.refused_until || !quota.read.admit(now, 0, &mut state.random);
        let why = if is_refused { InjectedFault::FetchThrottledByQuota } else { InjectedFault::ThrottledFetch };
        state.fetched.calls += 1;
        if is_refused {
            state.injected.add(why);
            state.fetched.throttled += 1;
        }
        if is_refused || state.injects(faults.throttled_fetch, why) {
            self.failed(state, why);
            return Err(Error::Throttled { problem: "the shard's read quota".into() });
        }
        let records = &state.records[self.shard];
        let mut bytes = 0;
        let is_empty = self.next < records.len() && faults.empty_page > 0.0 && {
            use rand::RngExt;
            state.random.random_bool(faults.empty_page)
        };
        let left = if is_empty { &[] } else { &records[self.next.min(records.len())..] };
        let fits = |record: &&triton_core::Record| {
            let is_first = bytes == 0;
            let size = record.data.len() + record.partition_key.as_str().len();
            bytes += size;
            is_first || bytes <= page_bytes
        };
        let page: Vec<_> = left.iter().take(max_records.min(10_000)).take_while(fits).cloned().collect();
        let bytes: usize = page.iter().map(|record| record.data.len() + record.partition_key.as_str().len()).sum();
        let is_full = page.len() < left.len() && page.len() < max_records.min(10_000);
        let quota = &mut state.quotas[self.shard];
        quota.read.spend_bytes(bytes);
        state.fetched.bytes += bytes as u64;
        if is_full {
            quota.refused_until = now + AFTER_FULL_PAGE;
            state.injected.add(InjectedFault::FullPage);
        }
        if is_empty {
            state.injected.add(InjectedFault::EmptyPage);
        }
        let next = self.next + page.len();
        if page.is_empty() && state.is_drained(self.shard, next) {
            if self.tells_end {
                return Ok(None);
            }
            state.injected.add(InjectedFault::UntoldEnd);
        }
        Ok(Some(match state.records[self.shard].get(next) {
            Some(oldest) => {
                let behind = timestamp(now).since(oldest.arrival).max(Duration::from_millis(1));
                Batch::new(page, Some(behind))
            }
            None => Batch::new(page, Some(Duration::ZERO)).with_caught_up_at(timestamp(now)),
        }))
    }

    /// The end of the shard is known from now on, and perhaps the shard's children.
    fn end(&mut self) {
        let kinesis = &self.client.kinesis;
        let mut state = kinesis.state();
        let is_unnamed = state.draw(kinesis.options.faults.unnamed_children);
        let named = if is_unnamed { Vec::new() } else { state.children(self.shard) };
        let how = if is_unnamed { InjectedFault::UnnamedChildren } else { InjectedFault::NamedChildren };
        state.injected.add(how);
        state.event(Event::Drained { reader: self.client.reader.unwrap_or(ReaderId::MAX), shard: self.shard as u64 });
        drop(state);
        self.end = Some(named);
    }

    fn expired(&self, state: &mut super::State, why: InjectedFault) -> Result<Option<Batch>> {
        self.failed(state, why);
        Err(Error::IteratorExpired { shard: state.map.shards()[self.shard].id.clone() })
    }

    fn failed(&self, state: &mut super::State, why: InjectedFault) {
        let (reader, shard) = (self.client.reader.unwrap_or(ReaderId::MAX), self.shard as u64);
        state.event(Event::FetchFailed { reader, shard, why });
    }
}

#[async_trait]
impl ShardReader for ShardIterator {
    async fn next_batch(&mut self, max_records: usize) -> Result<Option<Batch>> {
        if self.end.is_some() {
            return Ok(None);
        }
        let reader = self.client.reader;
        if let Some(reader) = reader {
            let shard = self.shard;
            self.client.kinesis.check(|checker, _| checker.reads.fetching(reader, shard, &mut checker.log));
        }
        self.client.delay().await;
        let page = self.page(max_records);
        self.client.delay().await;
        let batch = page?;
        // The page was read; the response may still be lost.
        let mut state = self.client.kinesis.state();
        if state.injects(self.client.kinesis.options.faults.unread, InjectedFault::Unread) {
            self.failed(&mut state, InjectedFault::Unread);
            return Err(unavailable("no answer in time", false));
        }
        let (who, shard) = (reader.unwrap_or(ReaderId::MAX), self.shard as u64);
        match &batch {
            None => {
                drop(state);
                self.end();
            }
            Some(batch) => {
                let (records, behind) = (batch.records.len() as u32, batch.behind);
                state.event(Event::Fetched { reader: who, shard, records, behind });
                self.next += batch.records.len();
                self.caught_up_at = batch.caught_up_at.or(self.caught_up_at);
                self.issued_at = self.client.kinesis.millis();
                if let (Some(reader), Some(checker)) = (reader, &mut state.checker)
                    && records > 0
                {
                    checker.reads.fetched(reader, self.shard, self.next);
                }
            }
        }
        Ok(batch)
    }

    fn position(&self) -> Position {
        match (self.next.checked_sub(1), self.caught_up_at) {
            (Some(last), caught_up_at) => Position::After { sequence_number: self.sequence_number(last), caught_up_at },
            (None, Some(caught_up_at)) => Position::AtTime(caught_up_at),
            (None, None) => Position::TrimHorizon,
        }
    }

    fn children(&self) -> Vec<ChildShard> {
        self.end.clone().unwrap_or_default()
    }

    async fn is_drained(&mut self) -> Result<bool> {
        self.client.delay().await;
        {
            let mut state = self.client.kinesis.state();
            if state.injects(self.client.kinesis.options.faults.unread, InjectedFault::Unread) {
                self.failed(&mut state, InjectedFault::Unread);
                return Err(unavailable("no answer in time", false));
            }
            if !state.is_drained(self.shard, self.next) {
                return Ok(false);
            }
        }
        if self.end.is_none() {
            self.end();
        }
        Ok(true)
    }
}

impl ShardIterator {
    fn sequence_number(&self, index: usize) -> SequenceNumber {
        let state = self.client.kinesis.state();
        state.records[self.shard].get(index).map_or(SequenceNumber::ZERO, |record| record.sequence_number)
    }
}
