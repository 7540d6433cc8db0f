//! Reads: where an iterator starts, what a page holds, how far behind it is, and where a closed shard ends.

use serde_json::{Number, Value, json};

use super::arrivals::Arrivals;
use super::position::{self, Iterator};
use super::put::record_size;
use super::{Shim, stream_of};
use crate::fault::PastRetention;
use crate::wire::{Answer, Call, entries, now_ms};

/// The largest page of AWS.
const PAGE: usize = 10 << 20;
/// Number of empty pages before the first remaining record, for [`PastRetention::EmptyPages`].
const EMPTY_PAGES: u32 = 3;
/// `MillisBehindLatest` of such an empty page.
const BEHIND_MS: u64 = 1000;

impl Shim {
    pub(super) async fn get_shard_iterator(&self, call: Call, body: Value) -> Result<Answer, Answer> {
        let arrivals = self.arrivals.lock().await;
        let corrected = self.corrected_position(&arrivals, body.clone())?;
        let answer = self.inner.forward(call.with_json(&corrected)).await;
        if answer.status.is_success() {
            self.check_ahead(&arrivals, &body).await?;
        }
        Ok(answer)
    }

    /// Rejects a position ahead of its shard's last record, if that is asked for. ferrokinesis accepts every sequence
    /// number that the shard could have given.
    pub(super) async fn check_ahead(&self, arrivals: &Arrivals, body: &Value) -> Result<(), Answer> {
        let Some(given) = body["StartingSequenceNumber"].as_str().filter(|_| self.faults.rejects_ahead()) else {
            return Ok(());
        };
        let (stream, shard) = (stream_of(body), body["ShardId"].as_str().unwrap_or_default());
        let Ok(found) = self.inner.store.get_stream(stream).await else { return Ok(()) };
        // Both ends of a shard are positions too.
        let is_end = found.shards.iter().filter(|found| found.shard_id == shard).any(|found| {
            let range = &found.sequence_number_range;
            range.starting_sequence_number == given || range.ending_sequence_number.as_deref() == Some(given)
        });
        let last = arrivals.shard(stream, shard).last();
        if is_end || last.is_some_and(|last| position::compare(given, &last.sequence_number).is_le()) {
            return Ok(());
        }
        Err(self.not_of_the_stream(stream, shard, given))
    }

    fn not_of_the_stream(&self, stream: &str, shard: &str, sequence_number: &str) -> Answer {
        let account = &self.inner.store.aws_account_id;
        Answer::invalid(format_args!(
            "StartingSequenceNumber {sequence_number} used in GetShardIterator on shard {shard} in stream {stream} under \
             account {account} is invalid because it did not come from this stream."
        ))
    }

    /// Corrects the position of an iterator request where ferrokinesis would use another.
    pub(super) fn corrected_position(&self, arrivals: &Arrivals, mut body: Value) -> Result<Value, Answer> {
        let Some((kind, sequence_number)) = self.place(arrivals, &body)? else { return Ok(body) };
        if let Some(fields) = body.as_object_mut() {
            fields.shift_remove("Timestamp");
        }
        body["ShardIteratorType"] = Value::from(kind);
        body["StartingSequenceNumber"] = Value::from(sequence_number);
        Ok(body)
    }

    /// The position of an iterator request, where ferrokinesis would use another.
    fn place(&self, arrivals: &Arrivals, body: &Value) -> Result<Option<(&'static str, String)>, Answer> {
        let (stream, shard) = (stream_of(body), body["ShardId"].as_str().unwrap_or_default());
        let trimmed = self.faults.trimmed(stream, shard);
        let after = |sequence_number: &str| Some(("AFTER_SEQUENCE_NUMBER", sequence_number.to_owned()));
        let given = body["StartingSequenceNumber"].as_str();
        let kind = body["ShardIteratorType"].as_str().unwrap_or_default();
        match (kind, given, body["Timestamp"].as_f64(), trimmed) {
            ("AT_TIMESTAMP", None, Some(seconds), trimmed) => {
                let (now, ms) = (now_ms(), milliseconds(seconds));
                if ms > now {
                    return Err(Answer::invalid(format_args!(
                        "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. \
                         timestampInMillis: {ms}, currentTimestampInMillis: {now}"
                    )));
                }
                let mut records = arrivals.shard(stream, shard);
                if let Some((up_to, _)) = &trimmed {
                    records = &records[position::first_not_before(records, &position::after(up_to))..];
                }
                let last =
                    records.last().map(|last| &last.sequence_number).or(trimmed.as_ref().map(|(up_to, _)| up_to));
                Ok(match records.get(records.partition_point(|record| record.ms < ms)) {
                    Some(first) => Some(("AT_SEQUENCE_NUMBER", first.sequence_number.clone())),
                    None => last.and_then(|last| after(last)),
                })
            }
            ("TRIM_HORIZON", None, _, Some((up_to, _))) => Ok(after(&up_to)),
            ("AT_SEQUENCE_NUMBER" | "AFTER_SEQUENCE_NUMBER", Some(given), _, Some((up_to, form))) => {
                let order = position::compare(given, &up_to);
                let lost = if kind == "AT_SEQUENCE_NUMBER" { order.is_le() } else { order.is_lt() };
                match form {
                    PastRetention::InvalidArgument if lost => Err(self.not_of_the_stream(stream, shard, given)),
                    PastRetention::Jump if lost => Ok(after(&up_to)),
                    _ => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    pub(super) async fn get_records(&self, mut call: Call, mut body: Value) -> Result<Answer, Answer> {
        let arrivals = self.arrivals.lock().await;
        let Some(mut iterator) = body["ShardIterator"].as_str().and_then(Iterator::decode) else {
            return Ok(self.inner.forward(call).await);
        };
        self.check_age(&iterator)?;
        if self.faults.exceeds_read_quota(&iterator.stream, &iterator.shard) {
            return Err(Answer::refusal(
                "ProvisionedThroughputExceededException",
                format_args!("Rate exceeded for shard {} in stream {}.", iterator.shard, iterator.stream),
            ));
        }
        if let Some((up_to, form)) = self.faults.trimmed(&iterator.stream, &iterator.shard)
            && position::compare(&iterator.from, &up_to).is_le()
        {
            if form == PastRetention::EmptyPages
                && let Some(page) = empty_page(&iterator)
            {
                return Ok(Answer::of_json(axum::http::StatusCode::OK, &page));
            }
            iterator = Iterator { from: position::after(&up_to), empty_pages: None, ..iterator };
            body["ShardIterator"] = Value::from(iterator.encode());
            call = call.with_json(&body);
        }
        let answer = self.inner.forward(call).await;
        let Some(mut page) = answer.json() else { return Ok(answer) };
        self.correct_page(&arrivals, &iterator, &mut page).await;
        Ok(answer.with_json(&page))
    }

    /// ferrokinesis counts whole seconds.
    fn check_age(&self, iterator: &Iterator) -> Result<(), Answer> {
        let (age, ttl) = (now_ms().saturating_sub(iterator.made), self.iterator_ttl.as_millis());
        if u128::from(age) <= ttl {
            return Ok(());
        }
        Err(Answer::refusal(
            "ExpiredIteratorException",
            format_args!("Iterator expired. It is {age} ms old, while the tolerated delay is {ttl} milliseconds."),
        ))
    }

    pub(super) async fn correct_page(&self, arrivals: &Arrivals, iterator: &Iterator, page: &mut Value) {
        let (stream, shard) = (&iterator.stream, &iterator.shard);
        let next = page["NextShardIterator"].as_str().and_then(Iterator::decode);
        let mut from = next.as_ref().map_or_else(|| iterator.from.clone(), |next| next.from.clone());
        if let Some(records) = page["Records"].as_array_mut() {
            let kept = fitting(records);
            if kept < records.len() {
                records.truncate(kept);
                from = records.last().and_then(|last| last["SequenceNumber"].as_str()).map_or(from, position::after);
            }
            for record in records {
                self.long_keys.restore(record);
                let came = record["SequenceNumber"].as_str().and_then(|number| arrivals.of(stream, shard, number));
                if let Some(came) = came.and_then(seconds) {
                    record["ApproximateArrivalTimestamp"] = Value::Number(came);
                }
            }
        }
        let last = entries(page, "Records").last();
        let came = last.and_then(|last| last["ApproximateArrivalTimestamp"].as_f64()).map(milliseconds);
        let more = last.is_some() && self.has_records(iterator, &from).await;
        let behind = if more { now_ms().saturating_sub(came.unwrap_or_default()).max(1) } else { 0 };
        page["MillisBehindLatest"] = json!(behind);
        // A closed shard ends with its last record, not at its closing time.
        if more || !self.end_page(stream, shard, page).await {
            page["NextShardIterator"] = Value::from(Iterator { from, made: now_ms(), ..iterator.clone() }.encode());
        }
    }

    /// Whether a shard has records at or after a position.
    async fn has_records(&self, iterator: &Iterator, from: &str) -> bool {
        match position::key_range(&iterator.shard, from) {
            Some((start, end)) => {
                !self.inner.store.get_records_range_limited(&iterator.stream, &start, &end, 1).await.is_empty()
            }
            None => false,
        }
    }
}

/// The next empty page for an iterator before the trim horizon; none after the last of them.
pub(super) fn empty_page(iterator: &Iterator) -> Option<Value> {
    let left = iterator.empty_pages.unwrap_or(EMPTY_PAGES).checked_sub(1)?;
    let next = Iterator { empty_pages: Some(left), made: now_ms(), ..iterator.clone() };
    Some(json!({"Records": [], "NextShardIterator": next.encode(), "MillisBehindLatest": BEHIND_MS}))
}

/// Number of records that fit into a page: at least one.
fn fitting(records: &[Value]) -> usize {
    let mut size = 0;
    let over = records.iter().position(|record| {
        size += record_size(record);
        size > PAGE
    });
    over.unwrap_or(records.len()).max(1)
}

/// Converts a request's time from seconds to milliseconds, rounding down: a client's 'now' is not in the future.
fn milliseconds(seconds: f64) -> u64 {
    // A float may be slightly less than the millisecond that it stands for.
    (seconds * 1000.0 + 0.01).floor() as u64
}

/// Converts a response's time from milliseconds to seconds.
fn seconds(ms: u64) -> Option<Number> {
    Number::from_f64(ms as f64 / 1000.0)
}
