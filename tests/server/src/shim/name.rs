//! Streams named by ARN: many operations of ferrokinesis know only names.

use axum::http::HeaderMap;
use serde_json::Value;

use crate::wire::Answer;

/// The operations that accept only an ARN.
const BY_ARN: [&str; 7] = [
    "DeregisterStreamConsumer",
    "DescribeStreamConsumer",
    "ListStreamConsumers",
    "RegisterStreamConsumer",
    "UpdateMaxRecordSize",
    "UpdateStreamMode",
    "UpdateStreamWarmThroughput",
];

/// Replaces the stream's ARN by its name; returns whether the request changed.
pub(super) fn by_name(body: &mut Value, headers: &HeaderMap) -> Result<bool, Answer> {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default();
    let Some(arn) = body["StreamARN"].as_str() else { return Ok(false) };
    if BY_ARN.contains(&operation) {
        return Ok(false);
    }
    let Some((_, name)) = arn.split_once(":stream/") else {
        return Err(Answer::refusal(
            "ValidationException",
            format_args!("Value '{arn}' at 'streamARN' is no stream's ARN"),
        ));
    };
    let name = Value::from(name);
    if body.get("StreamName").is_some_and(|given| *given != name) {
        return Err(Answer::invalid("StreamARN and StreamName are not of the same stream."));
    }
    if let Some(fields) = body.as_object_mut() {
        fields.shift_remove("StreamARN");
        // The iterator of GetRecords names the stream.
        if operation != "GetRecords" {
            fields.insert("StreamName".to_owned(), name);
        }
    }
    Ok(true)
}
