//! ListShards: the tokens of ferrokinesis forget the stream, and it ignores shard filters. Also returns old and partial
//! lists.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Value, json};

use super::{Shim, stream_of};
use crate::mode::{MissingShards, View};
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
        let (mut request, view) = match body["NextToken"].as_str() {
            Some(token) => resume(token, &body)?,
            None => (begin(&body), None),
        };
        request["MaxResults"] = json!(INNER_PAGE);
        let answer = self.inner.forward(call.with_json(&request)).await;
        let Some(mut listed) = answer.json() else { return Ok(answer) };
        let view = view.unwrap_or_else(|| self.faults.next_view());
        let cut = match listed["Shards"].as_array_mut() {
            Some(shards) => {
                if self.history.show(view, stream_of(&request), shards).await {
                    self.faults.count_changed_list();
                }
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
            let token = json!({"Request": request, "View": view_to_json(view)});
            listed["NextToken"] = Value::from(URL_SAFE.encode(token.to_string()));
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

/// The request of a further page, from its token: the first request without the shards already listed. A listing has
/// one view.
fn resume(token: &str, body: &Value) -> Result<(Value, Option<View>), Answer> {
    for other in ["StreamName", "ExclusiveStartShardId", "ShardFilter", "StreamCreationTimestamp"] {
        if body.get(other).is_some() {
            return Err(Answer::invalid(format_args!("NextToken and {other} cannot be provided together.")));
        }
    }
    let token: Option<Value> = URL_SAFE.decode(token).ok().and_then(|token| serde_json::from_slice(&token).ok());
    let token = token.filter(|token| token["Request"].is_object());
    let mut token = token.ok_or_else(|| Answer::invalid("NextToken is invalid."))?;
    Ok((token["Request"].take(), Some(view_of_json(&token["View"]))))
}

fn view_to_json(view: View) -> Value {
    match view {
        View::Current => Value::Null,
        View::AsOf(ms) => json!(ms),
        View::Without(MissingShards::Parents) => json!("without parents"),
        View::Without(MissingShards::SecondChildren) => json!("without second children"),
    }
}

fn view_of_json(view: &Value) -> View {
    match (view.as_u64(), view.as_str()) {
        (Some(ms), _) => View::AsOf(ms),
        (_, Some("without parents")) => View::Without(MissingShards::Parents),
        (_, Some(_)) => View::Without(MissingShards::SecondChildren),
        (None, None) => View::Current,
    }
}

/// Applies a filter by state. Filters by time keep all shards, because their times are not known.
fn filter(shards: &mut Vec<Value>, filter: &Value) {
    match filter["Type"].as_str() {
        Some("AT_LATEST") => shards.retain(|shard| shard["SequenceNumberRange"].get("EndingSequenceNumber").is_none()),
        Some("AT_TRIM_HORIZON") => shards.retain(|shard| shard.get("ParentShardId").is_none()),
        _ => {}
    }
}
