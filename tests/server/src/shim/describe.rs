//! Descriptions of streams: show a reshard as UPDATING, and add the record size.

use serde_json::{Value, json};

use super::{Shim, stream_of};
use crate::wire::{Answer, Call};

/// The field that holds the response to DescribeStreamSummary.
pub(super) const SUMMARY: &str = "StreamDescriptionSummary";
/// The field that holds the response to DescribeStream.
pub(super) const DESCRIPTION: &str = "StreamDescription";

impl Shim {
    /// `part` is the field of the response that holds the description.
    pub(super) async fn describe(&self, call: Call, body: &Value, part: &str) -> Answer {
        let answer = self.inner.forward(call).await;
        let Some(mut described) = answer.json() else { return answer };
        let stream = stream_of(body);
        let description = &mut described[part];
        if self.resharding.is_under_way(stream) && description["StreamStatus"] == "ACTIVE" {
            description["StreamStatus"] = json!("UPDATING");
        }
        if part == SUMMARY
            && description.get("MaxRecordSizeInKiB").is_none()
            && let Ok(stream) = self.inner.store.get_stream(stream).await
        {
            description["MaxRecordSizeInKiB"] = json!(stream.max_record_size_kib);
        }
        answer.with_json(&described)
    }
}
