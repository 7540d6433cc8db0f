//! ListShards: the tokens of ferrokinesis forget the stream, and it ignores shard filters.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Value, json};

use super::Shim;
use crate::wire::{Answer, Call, entries};

/// The largest page of AWS, even if a request asks for more.
const PAGE: usize = 1000;
/// The largest page of ferrokinesis.
const INNER_PAGE: usize = 10_000;

impl Shim {
    pub(super) async fn list_shards(&self, call: Call, body: Value) -> Result<Answer, Answer> {
        let asked = body["MaxResults"].as_u64();
        if asked.is_some_and(|asked| asked == 0 || asked > INNER_PAGE as u64) {
            // Errors need no correction.
            return Ok(self.inner.forward(call).await);
        }
        let limit = asked.map_or(PAGE, |asked| asked as usize).min(PAGE).min(self.faults.page());
        let mut request = match body["NextToken"].as_str() {
            Some(token) => resume(token, &body)?,
            None => begin(&body),
        };
        request["MaxResults"] = json!(INNER_PAGE);
        let answer = self.inner.forward(call.with_json(&request)).await;
        let Some(mut listed) = answer.json() else { return Ok(answer) };
        let cut = match listed["Shards"].as_array_mut() {
            Some(shards) => {
                filter(shards, &request["ShardFilter"]);
                let cut = shards.len() > limit;
                shards.truncate(limit);
                cut
            }
            None => false,
        };
        if cut || listed.get("NextToken").is_some() {
            let last = entries(&listed, "Shards").last().map(|last| last["ShardId"].clone());
            request["ExclusiveStartShardId"] = json!(last);
            listed["NextToken"] = Value::from(URL_SAFE.encode(request.to_string()));
        }
        Ok(answer.with_json(&listed))
    }
}

/// The first page's request to ferrokinesis.
fn begin(body: &Value) -> Value {
    let mut request = body.clone();
    if request["ShardFilter"]["Type"] == "AFTER_SHARD_ID" {
        request["ExclusiveStartShardId"] = request["ShardFilter"]["ShardId"].clone();
    }
    request
}

/// The request of a further page, from its token: the first request without the shards already listed.
fn resume(token: &str, body: &Value) -> Result<Value, Answer> {
    for other in ["StreamName", "ExclusiveStartShardId", "ShardFilter", "StreamCreationTimestamp"] {
        if body.get(other).is_some() {
            return Err(Answer::invalid(format_args!("NextToken and {other} cannot be provided together.")));
        }
    }
    let request = URL_SAFE.decode(token).ok().and_then(|request| serde_json::from_slice(&request).ok());
    request.filter(Value::is_object).ok_or_else(|| Answer::invalid("NextToken is invalid."))
}

/// Applies a filter by state. Filters by time keep all shards, because their times are not known.
fn filter(shards: &mut Vec<Value>, filter: &Value) {
    match filter["Type"].as_str() {
        Some("AT_LATEST") => shards.retain(|shard| shard["SequenceNumberRange"].get("EndingSequenceNumber").is_none()),
        Some("AT_TRIM_HORIZON") => shards.retain(|shard| shard.get("ParentShardId").is_none()),
        _ => {}
    }
}
