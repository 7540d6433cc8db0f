//! Writes: notes arrival times, and accepts 10 MiB per call as AWS does, not 5.

use ferrokinesis::actions;
use ferrokinesis::util::base64_decoded_len;
use serde_json::{Value, json};

use super::{Shim, stream_of};
use crate::inner::Inner;
use crate::wire::{Answer, Call, entries};

/// The largest call of ferrokinesis, in bytes of data and partition keys.
const INNER_CALL: usize = 5 << 20;
/// The largest call of AWS.
const CALL: usize = 10 << 20;
/// The largest record of AWS.
const RECORD: usize = 1 << 20;

impl Shim {
    pub(super) async fn put_record(&self, call: Call, body: &Value) -> Answer {
        let mut arrivals = self.arrivals.lock().await;
        let answer = self.inner.forward(call).await;
        if let Some(result) = answer.json() {
            arrivals.note(stream_of(body), &result);
        }
        answer
    }

    pub(super) async fn put_records(&self, call: Call, mut body: Value) -> Result<Answer, Answer> {
        let sizes: Vec<usize> = entries(&body, "Records").iter().map(record_size).collect();
        if let Some(place) = sizes.iter().position(|size| *size > RECORD) {
            return Err(Answer::invalid(format_args!(
                "Record {place}: data and partition key together exceed {RECORD} bytes"
            )));
        }
        let total: usize = sizes.iter().sum();
        if total > CALL {
            return Err(Answer::invalid(format_args!(
                "Records' total data + partition key payload exceeds {CALL} bytes"
            )));
        }
        let stream = stream_of(&body).to_owned();
        let mut arrivals = self.arrivals.lock().await;
        let answer = if total <= INNER_CALL {
            self.inner.forward(call).await
        } else {
            // An invalid entry rejects the whole call, so all entries are checked before any is written.
            Inner::validate(actions::Operation::PutRecords, &body)?;
            self.put_in_parts(&call, &mut body, &sizes).await?
        };
        if let Some(written) = answer.json() {
            entries(&written, "Records").iter().for_each(|result| arrivals.note(&stream, result));
        }
        Ok(answer)
    }

    /// Splits a call that is too large for ferrokinesis, and joins the responses.
    async fn put_in_parts(&self, call: &Call, body: &mut Value, sizes: &[usize]) -> Result<Answer, Answer> {
        let mut records = std::mem::take(&mut body["Records"]).as_array_mut().map(std::mem::take).unwrap_or_default();
        let mut sizes = sizes;
        let (mut results, mut failed) = (Vec::with_capacity(records.len()), 0);
        loop {
            let mut room = INNER_CALL;
            let fitting = sizes.iter().take_while(|size| {
                let fits = **size <= room;
                room = room.saturating_sub(**size);
                fits
            });
            let count = fitting.count();
            let rest = records.split_off(count);
            body["Records"] = Value::Array(std::mem::replace(&mut records, rest));
            let answer = self.inner.forward(call.with_json(body)).await;
            let Some(mut written) = answer.json() else { return Err(answer) };
            failed += written["FailedRecordCount"].as_u64().unwrap_or_default();
            results.append(written["Records"].as_array_mut().unwrap_or(&mut Vec::new()));
            sizes = &sizes[count..];
            if records.is_empty() {
                return Ok(answer.with_json(&json!({"FailedRecordCount": failed, "Records": results})));
            }
        }
    }
}

/// The size of a record: its data and its partition key.
pub(super) fn record_size(record: &Value) -> usize {
    let data = record["Data"].as_str().map_or(0, base64_decoded_len);
    data + record["PartitionKey"].as_str().map_or(0, str::len)
}
