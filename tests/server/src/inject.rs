//! Injects a fault into a request, before or after the request is applied.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use crate::connection::Reply;
use crate::fault::{Fault, Faults, Injection, Operation};
use crate::shim::Shim;
use crate::wire::{Answer, Call, entries};

/// `MillisBehindLatest` of an empty page.
const BEHIND_MS: u64 = 1000;

/// Handles a request, with the next fault for it injected, if any.
pub(crate) async fn answer(call: Call, shim: &Shim, faults: &Faults) -> Reply {
    let body = call.json();
    let Some(Injection { fault, rng }) = faults.next(call.operation, body.as_ref()) else {
        return match (call.operation, &body) {
            (Operation::SubscribeToShard, Some(body)) => subscribe(body, None, shim).await,
            _ => Reply::Whole(shim.answer(call, body).await),
        };
    };
    if let Some(reply) = instead(fault, body.as_ref()) {
        return reply;
    }
    if let (Operation::SubscribeToShard, Some(body)) = (call.operation, &body) {
        return subscribe(body, Some(fault), shim).await;
    }
    let answer = match (fault, body) {
        (Fault::ThrottleEntries | Fault::FailEntries, Some(body)) => refuse_entries(call, body, fault, rng, shim).await,
        (Fault::ReorderEntries, Some(body)) => reorder_entries(call, body, rng, shim).await,
        (_, body) => shim.answer(call, body).await,
    };
    afterwards(fault, answer)
}

/// Handled apart from other responses: an event stream has no end to wait for.
async fn subscribe(body: &Value, fault: Option<Fault>, shim: &Shim) -> Reply {
    match (shim.subscribe(body).await, fault) {
        (Err(refusal), _) => Reply::Whole(refusal),
        (Ok(_), Some(Fault::SilenceAfter)) => Reply::Silence,
        (Ok(_), Some(Fault::ResetAfter)) => Reply::HangUp,
        (Ok(_), Some(Fault::InternalErrorAfter)) => Reply::Whole(internal_error()),
        (Ok(subscription), fault) => Reply::Events(Box::new(subscription), fault),
    }
}

/// The reply of a fault that keeps the request from being applied.
fn instead(fault: Fault, body: Option<&Value>) -> Option<Reply> {
    let (code, message) = match fault {
        Fault::SilenceBefore => return Some(Reply::Silence),
        Fault::ResetBefore => return Some(Reply::HangUp),
        Fault::UnavailableBefore => return Some(Reply::Whole(unavailable())),
        Fault::InternalErrorBefore => return Some(Reply::Whole(internal_error())),
        Fault::EmptyPage => {
            let iterator = body.map(|body| body["ShardIterator"].clone());
            let page = json!({"Records": [], "NextShardIterator": iterator, "MillisBehindLatest": BEHIND_MS});
            return Some(Reply::Whole(Answer::of_json(StatusCode::OK, &page)));
        }
        Fault::ThrottleCall => ("ProvisionedThroughputExceededException", "Rate exceeded for the stream."),
        Fault::ExpiredIterator => (
            "ExpiredIteratorException",
            "Iterator expired. It is older than the tolerated delay of 300000 milliseconds.",
        ),
        Fault::ExpiredToken => ("ExpiredNextTokenException", "The NextToken has expired."),
        Fault::AccessDenied => ("AccessDeniedException", "User is not authorized to perform this operation."),
        Fault::ResourceInUse => ("ResourceInUseException", "Stream is not ACTIVE, instead in state UPDATING"),
        Fault::NotFound => ("ResourceNotFoundException", "Stream not found."),
        Fault::LimitExceeded => ("LimitExceededException", "Rate exceeded."),
        Fault::KmsDisabled => ("KMSDisabledException", "The KMS key is disabled."),
        Fault::ExpiredCredentials => ("ExpiredTokenException", "The security token included in the request is expired"),
        Fault::InvalidSignature => {
            ("UnrecognizedClientException", "The security token included in the request is invalid.")
        }
        _ => return None,
    };
    Some(Reply::Whole(Answer::refusal(code, message)))
}

/// The reply of a fault that is injected after the request was applied.
fn afterwards(fault: Fault, answer: Answer) -> Reply {
    match fault {
        Fault::SilenceAfter => Reply::Silence,
        Fault::ResetAfter => Reply::HangUp,
        Fault::TruncatedAfter => Reply::Half(answer),
        Fault::SlowAfter => Reply::Dripped(answer),
        Fault::InternalErrorAfter => Reply::Whole(internal_error()),
        Fault::EmptyAfter => Reply::Whole(answer.with_body(Bytes::new())),
        Fault::GarbageAfter => {
            Reply::Whole(answer.with_body(Bytes::from_static(b"{\"Records\": [{\"Sequ\xff\xfe<html>")))
        }
        Fault::DropResult => Reply::Whole(drop_result(answer)),
        _ => Reply::Whole(answer),
    }
}

fn internal_error() -> Answer {
    Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure", "Internal service failure.")
}

/// The response of a load balancer, not of Kinesis.
fn unavailable() -> Answer {
    let mut headers = Box::new(HeaderMap::new());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    let body = Bytes::from_static(b"<html><body><h1>503 Service Unavailable</h1></body></html>");
    Answer { status: StatusCode::SERVICE_UNAVAILABLE, headers, body }
}

fn drop_result(answer: Answer) -> Answer {
    let Some(mut body) = answer.json() else { return answer };
    if let Some(results) = body["Records"].as_array_mut() {
        results.pop();
    }
    answer.with_json(&body)
}

/// Writes some of the entries and rejects the others.
async fn refuse_entries(call: Call, mut body: Value, fault: Fault, rng: Option<StdRng>, shim: &Shim) -> Answer {
    let refused = choose(entries(&body, "Records").len(), rng);
    let mut left = refused.iter();
    if let Some(records) = body["Records"].as_array_mut() {
        records.retain(|_| !left.next().copied().unwrap_or_default());
    }
    let (answer, mut written) = if entries(&body, "Records").is_empty() {
        // AWS rejects a request without entries, but returns 200 when it rejects every entry.
        (Answer::of_json(StatusCode::OK, &json!({})), json!({"FailedRecordCount": 0, "Records": []}))
    } else {
        let answer = shim.answer(call.with_json(&body), Some(body)).await;
        let Some(written) = answer.json() else { return answer };
        (answer, written)
    };
    let refusal = match fault {
        Fault::FailEntries => json!({"ErrorCode": "InternalFailure", "ErrorMessage": "Internal Service Failure"}),
        _ => json!({
            "ErrorCode": "ProvisionedThroughputExceededException",
            "ErrorMessage": "Rate exceeded for shard.",
        }),
    };
    let failed = written["FailedRecordCount"].as_u64().unwrap_or_default();
    let mut results = entries(&written, "Records").iter().cloned();
    let all: Vec<Value> =
        refused.iter().filter_map(|refused| if *refused { Some(refusal.clone()) } else { results.next() }).collect();
    written["FailedRecordCount"] = json!(failed + refused.iter().map(|refused| u64::from(*refused)).sum::<u64>());
    written["Records"] = Value::Array(all);
    answer.with_json(&written)
}

/// Which entries to reject: at least one.
fn choose(entries: usize, rng: Option<StdRng>) -> Vec<bool> {
    let mut refused: Vec<bool> = match rng {
        Some(mut rng) => (0..entries).map(|_| rng.random_bool(0.5)).collect(),
        None => (0..entries).map(|entry| entry % 2 == 1).collect(),
    };
    if !refused.contains(&true)
        && let Some(last) = refused.last_mut()
    {
        *last = true;
    }
    refused
}

/// Writes the entries in another order and returns the results in the request's order.
async fn reorder_entries(call: Call, mut body: Value, rng: Option<StdRng>, shim: &Shim) -> Answer {
    let records = entries(&body, "Records");
    let mut order: Vec<usize> = (0..records.len()).rev().collect();
    if let Some(mut rng) = rng {
        order.shuffle(&mut rng);
    }
    body["Records"] = order.iter().map(|place| records[*place].clone()).collect();
    let answer = shim.answer(call.with_json(&body), Some(body)).await;
    let Some(mut written) = answer.json() else { return answer };
    let mut results = vec![Value::Null; order.len()];
    for (place, result) in order.iter().zip(entries(&written, "Records")) {
        results[*place] = result.clone();
    }
    written["Records"] = Value::Array(results);
    answer.with_json(&written)
}
