//! What goes over the wire: a request read to its end, an answer not yet sent, and AWS's error bodies.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::fault::Operation;

/// The content type of JSON requests and responses.
const JSON: &str = "application/x-amz-json-1.1";

/// A complete request.
pub(crate) struct Call {
    pub(crate) operation: Operation,
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn new(parts: Parts, body: Bytes) -> Self {
        Self { operation: Operation::of(&parts.headers), parts, body }
    }

    /// The body, if it is a JSON object. CBOR requests have none, and bypass the shim.
    pub(crate) fn json(&self) -> Option<Value> {
        let kind = self.parts.headers.get(CONTENT_TYPE)?.to_str().ok()?;
        if kind.split(';').next()?.trim() != JSON {
            return None;
        }
        serde_json::from_slice(&self.body).ok().filter(Value::is_object)
    }

    /// The same request with another body.
    pub(crate) fn with_json(&self, body: &Value) -> Self {
        Self { operation: self.operation, parts: self.parts.clone(), body: bytes_of(body) }
    }
}

/// A response before it is sent.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Boxed, to keep `Result<_, Answer>` small.
    pub(crate) headers: Box<HeaderMap>,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A response with a JSON body.
    pub(crate) fn of_json(status: StatusCode, body: &Value) -> Self {
        let mut headers = Box::new(HeaderMap::new());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        headers.insert("x-amzn-requestid", request_id());
        Self { status, headers, body: bytes_of(body) }
    }

    /// AWS's body for an error.
    pub(crate) fn error(status: StatusCode, code: &str, message: impl Display) -> Self {
        Self::of_json(status, &json!({"__type": code, "message": message.to_string()}))
    }

    /// An error that the request caused.
    pub(crate) fn refusal(code: &str, message: impl Display) -> Self {
        Self::error(StatusCode::BAD_REQUEST, code, message)
    }

    /// InvalidArgumentException.
    pub(crate) fn invalid(message: impl Display) -> Self {
        Self::refusal("InvalidArgumentException", message)
    }

    /// The body, if this is a success and the body is a JSON object.
    pub(crate) fn json(&self) -> Option<Value> {
        if self.status != StatusCode::OK {
            return None;
        }
        serde_json::from_slice(&self.body).ok().filter(Value::is_object)
    }

    /// The same response with another JSON body.
    pub(crate) fn with_json(self, body: &Value) -> Self {
        self.with_body(bytes_of(body))
    }

    /// The same response with other bytes as the body.
    pub(crate) fn with_body(mut self, body: Bytes) -> Self {
        // The length is that of the old body; the connection writes the right one.
        self.headers.remove(CONTENT_LENGTH);
        self.body = body;
        self
    }
}

/// The entries of a `Records` or `Shards` list; empty if it is missing.
pub(crate) fn entries<'a>(body: &'a Value, list: &str) -> &'a [Value] {
    body[list].as_array().map_or(&[], Vec::as_slice)
}

/// The wall clock in milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn bytes_of(body: &Value) -> Bytes {
    Bytes::from(body.to_string())
}

/// Looks like AWS's; unique within the process is enough.
fn request_id() -> HeaderValue {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let id = format!("{:08x}-0000-4000-8000-{number:012x}", std::process::id());
    HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("00000000-0000-4000-8000-000000000000"))
}
