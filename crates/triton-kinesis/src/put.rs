//! PutRecords, with a body written straight from the entries into one buffer. Limits and retries are the caller's.
//!
//! The SDK needs an allocation for each payload and key, copies every payload once more to encode it, and grows the
//! body on the way. The rest of a request stays with the SDK: endpoint, headers, signature, timeouts, errors.
//! [`mutate_request`](aws_sdk_kinesis::client::customize::CustomizableOperation::mutate_request) sets the body before
//! the request is signed. The stream's name and ARN are in the SDK's input too, because the endpoint depends on them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::SdkError;
use aws_sdk_kinesis::operation::put_records::{PutRecordsError, PutRecordsOutput};
use aws_smithy_types::body::SdkBody;
use base64_simd::STANDARD;
use bytes::Bytes;
use triton_core::PutEntry;

use crate::stream_ref::StreamRef;

/// Bytes around an entry's key and payload, with a hash key of 39 digits.
const ENTRY_OVERHEAD: usize = 96;
/// Bytes around the entries, without the stream's name or ARN.
const BODY_OVERHEAD: usize = 64;

/// Bytes of idle buffers that are kept: one of the largest bodies, or those of many small calls.
const MAX_KEPT_BYTES: usize = 16 << 20;

/// Sends one request, with one attempt.
pub(crate) async fn put_records(
    client: &Client,
    buffers: &Buffers,
    stream_ref: &StreamRef,
    entries: &[PutEntry],
) -> Result<PutRecordsOutput, SdkError<PutRecordsError, HttpResponse>> {
    let body = Bytes::from(body(stream_ref, entries, buffers));
    let sent = body.clone();
    let response = client
        .put_records()
        .set_stream_name(stream_ref.stream_name())
        .set_stream_arn(stream_ref.stream_arn())
        .customize()
        .mutate_request(move |request| {
            request.headers_mut().insert("content-length", body.len().to_string());
            *request.body_mut() = SdkBody::from(body.clone());
        })
        .send()
        .await;
    buffers.recycle(sent);
    response
}

/// Buffers of bodies, for reuse: for a large body, the page faults of a fresh buffer cost more than writing it.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    fn take(&self, bytes: usize) -> Vec<u8> {
        let mut buffer = self.lock().pop().unwrap_or_default();
        buffer.reserve_exact(bytes);
        buffer
    }

    /// Keeps the body's buffer, unless it is still shared or enough are kept.
    fn recycle(&self, body: Bytes) {
        let Ok(mut body) = body.try_into_mut() else { return };
        body.clear();
        let mut kept = self.lock();
        let bytes: usize = kept.iter().map(Vec::capacity).sum();
        if bytes + body.capacity() <= MAX_KEPT_BYTES {
            kept.push(body.into());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body that the SDK would write, byte for byte.
fn body(stream_ref: &StreamRef, entries: &[PutEntry], buffers: &Buffers) -> Vec<u8> {
    let name = stream_ref.stream_name();
    let arn = stream_ref.stream_arn();
    let of_entry = |entry: &PutEntry| {
        ENTRY_OVERHEAD + STANDARD.encoded_length(entry.data.len()) + entry.partition_key.as_str().len()
    };
    let of_stream = name.as_ref().or(arn.as_ref()).map_or(0, String::len);
    let mut body = buffers.take(BODY_OVERHEAD + of_stream + entries.iter().map(of_entry).sum::<usize>());
    body.extend_from_slice(br#"{"Records":["#);
    for (number, entry) in entries.iter().enumerate() {
        body.extend_from_slice(if number == 0 { br#"{"Data":""#.as_slice() } else { br#",{"Data":""# });
        STANDARD.encode_append(&entry.data, &mut body);
        if let Some(hash_key) = entry.explicit_hash_key {
            body.extend_from_slice(br#"","ExplicitHashKey":""#);
            body.extend_from_slice(hash_key.to_string().as_bytes());
        }
        body.extend_from_slice(br#"","PartitionKey":""#);
        escape(entry.partition_key.as_str(), &mut body);
        body.extend_from_slice(br#""}"#);
    }
    body.push(b']');
    for (field, value) in [(r#","StreamName":""#, name), (r#","StreamARN":""#, arn)] {
        if let Some(value) = value {
            body.extend_from_slice(field.as_bytes());
            escape(&value, &mut body);
            body.push(b'"');
        }
    }
    body.push(b'}');
    body
}

/// Appends text as the inside of a JSON string.
fn escape(text: &str, into: &mut Vec<u8>) {
    let is_escaped = |byte| matches!(byte, 0..=0x1f | b'"' | b'\\');
    let mut rest = text.as_bytes();
    // Mostly nothing is escaped, and this loop over all bytes is vectorised.
    while rest.iter().fold(false, |found, byte| found | is_escaped(*byte))
        && let Some(index) = rest.iter().position(|byte| is_escaped(*byte))
    {
        into.extend_from_slice(&rest[..index]);
        match rest[index] {
            b'"' => into.extend_from_slice(br#"\""#),
            b'\\' => into.extend_from_slice(br"\\"),
            0x08 => into.extend_from_slice(br"\b"),
            0x0c => into.extend_from_slice(br"\f"),
            b'\n' => into.extend_from_slice(br"\n"),
            b'\r' => into.extend_from_slice(br"\r"),
            b'\t' => into.extend_from_slice(br"\t"),
            other => into.extend_from_slice(format!("\\u{other:04x}").as_bytes()),
        }
        rest = &rest[index + 1..];
    }
    into.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    use aws_sdk_kinesis::config::http::HttpRequest;
    use aws_sdk_kinesis::config::retry::RetryConfig;
    use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
    use aws_sdk_kinesis::primitives::Blob;
    use aws_sdk_kinesis::types::PutRecordsRequestEntry;
    use aws_smithy_async::time::StaticTimeSource;
    use aws_smithy_http_client::test_util::{CaptureRequestReceiver, capture_request};
    use triton_core::{HashKey, PartitionKey};

    const ARN: &str = "arn:aws:kinesis:us-east-1:123456789012:stream/clicks";

    /// A client at a fixed time, and the requests that it sends.
    fn client() -> (Client, CaptureRequestReceiver) {
        let (http_client, sent) = capture_request(None);
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .time_source(StaticTimeSource::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_443_162)))
            .http_client(http_client);
        (Client::from_conf(config.build()), sent)
    }

    fn entries() -> Vec<PutEntry> {
        let all_controls: String = (0..0x20_u8).map(char::from).collect();
        let long = "日".repeat(256);
        let keys =
            ["a", "\"", "\\", "\\\"quoted\\\"", "日本語 🦀", "\x7f\u{80}\u{2028}", "a\nb/c\t", &all_controls, &long];
        let mut entries = Vec::new();
        for (length, key) in keys.into_iter().enumerate() {
            let payload: Vec<u8> = (0..length).map(|byte| 255 - byte as u8).collect();
            entries.push(PutEntry::new(PartitionKey::new(key).unwrap(), payload));
        }
        let large = PutEntry::new(PartitionKey::new("k").unwrap(), vec![0xfb; 5_000]);
        entries.push(large.clone().with_explicit_hash_key(HashKey::MIN));
        entries.push(large.with_explicit_hash_key(HashKey::MAX));
        entries
    }

    async fn sent_by_sdk(stream_ref: &StreamRef, entries: &[PutEntry]) -> HttpRequest {
        let (client, sent) = client();
        let records = entries.iter().map(|entry| {
            PutRecordsRequestEntry::builder()
                .data(Blob::new(entry.data.as_ref()))
                .partition_key(entry.partition_key.as_str())
                .set_explicit_hash_key(entry.explicit_hash_key.map(|key| key.to_string()))
                .build()
                .unwrap()
        });
        let request = client.put_records().set_records(Some(records.collect()));
        let request = request.set_stream_name(stream_ref.stream_name()).set_stream_arn(stream_ref.stream_arn());
        drop(request.send().await);
        sent.expect_request()
    }

    #[tokio::test]
    async fn a_request_is_the_one_that_the_sdk_would_send() {
        for stream_ref in ["clicks", ARN, "\"odd\\\n"] {
            let stream_ref = StreamRef::parse(stream_ref).unwrap();
            for entries in [entries(), entries()[..1].to_vec()] {
                let expected = sent_by_sdk(&stream_ref, &entries).await;
                let (client, sent) = client();
                drop(put_records(&client, &Buffers::default(), &stream_ref, &entries).await);
                let request = sent.expect_request();
                let text = |request: &HttpRequest| String::from_utf8(request.body().bytes().unwrap().to_vec()).unwrap();
                assert_eq!(text(&request), text(&expected));
                assert_eq!(request.uri(), expected.uri());
                // The signature covers the body.
                for header in ["authorization", "content-length", "content-type", "host", "x-amz-date", "x-amz-target"]
                {
                    let of = |request: &HttpRequest| request.headers().get(header).map(str::to_owned);
                    assert_eq!(of(&request), of(&expected), "{header}");
                    assert!(header == "host" || of(&request).is_some(), "{header}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_body_is_the_json_of_its_entries() {
        let entries = entries();
        let json: serde_json::Value =
            serde_json::from_slice(&body(&StreamRef::parse("clicks").unwrap(), &entries, &Buffers::default())).unwrap();
        assert_eq!(json["StreamName"], "clicks");
        let records = json["Records"].as_array().unwrap();
        assert_eq!(records.len(), entries.len());
        for (record, entry) in records.iter().zip(&entries) {
            assert_eq!(record["PartitionKey"], entry.partition_key.as_str());
            let data = STANDARD.decode_to_vec(record["Data"].as_str().unwrap()).unwrap();
            assert_eq!(data, entry.data);
            let hash_key = entry.explicit_hash_key.map(|key| key.to_string());
            assert_eq!(record.get("ExplicitHashKey").and_then(|key| key.as_str()), hash_key.as_deref());
        }
    }

    #[test]
    fn the_buffer_never_grows() {
        let entries = vec![entries().remove(0).with_explicit_hash_key(HashKey::MAX); 500];
        for stream_ref in ["clicks", ARN] {
            let body = body(&StreamRef::parse(stream_ref).unwrap(), &entries, &Buffers::default());
            let room: usize = BODY_OVERHEAD + stream_ref.len() + 500 * (ENTRY_OVERHEAD + 1);
            assert!(body.len() <= room && body.capacity() <= room + 16, "{} of {}", body.len(), body.capacity());
        }
    }

    #[tokio::test]
    async fn a_buffer_is_reused_once_it_is_not_shared() {
        let (entries, stream_ref) = (entries(), StreamRef::parse("clicks").unwrap());
        let buffers = Buffers::default();
        let (client, sent) = client();
        drop(put_records(&client, &buffers, &stream_ref, &entries).await);
        // The captured request shares the body.
        assert!(buffers.lock().is_empty());
        drop(sent);
        let first = body(&stream_ref, &entries, &buffers);
        let at = first.as_ptr();
        buffers.recycle(Bytes::from(first));
        let again = body(&stream_ref, &entries[..1], &buffers);
        assert_eq!(again.as_ptr(), at);
        assert_eq!(again, body(&stream_ref, &entries[..1], &Buffers::default()));
        // A buffer over the limit is dropped.
        buffers.recycle(Bytes::from(vec![0; MAX_KEPT_BYTES + 1]));
        assert!(buffers.lock().is_empty());
    }
}
