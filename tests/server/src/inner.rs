//! The server behind the shim: ferrokinesis in process.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::DefaultBodyLimit;
use axum::http::{Request, Response, StatusCode};
use ferrokinesis::actions::{self, Operation};
use ferrokinesis::error::KinesisErrorResponse;
use ferrokinesis::store::{Store, StoreOptions};
use ferrokinesis::validation;
use serde_json::Value;
use tower::ServiceExt;

use crate::ServerOptions;
use crate::wire::{Answer, Call};

/// The largest body: 10 MiB of records take 14 MiB in base64.
const MAX_BODY: usize = 16 << 20;

/// ferrokinesis: its HTTP interface for clients' requests, and its store for those of the shim.
#[derive(Clone)]
pub(crate) struct Inner {
    router: Router,
    pub(crate) store: Store,
}

impl Inner {
    pub(crate) fn new(options: &ServerOptions) -> Self {
        let transition = u64::try_from(options.transition.as_millis()).unwrap_or(u64::MAX);
        let (router, store) = ferrokinesis::create_app(StoreOptions {
            create_stream_ms: transition,
            delete_stream_ms: transition,
            update_stream_ms: transition,
            shard_limit: options.shard_limit,
            // ferrokinesis counts whole seconds; the shim counts milliseconds.
            iterator_ttl_seconds: options.iterator_ttl.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX),
            enforce_limits: options.enforce_write_quota,
            ..StoreOptions::default()
        });
        Self { router: router.layer(DefaultBodyLimit::max(MAX_BODY)), store }
    }

    /// Forwards a request; the body of the response may be an endless stream.
    pub(crate) async fn stream(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
    }

    /// Forwards a request and returns the whole response.
    pub(crate) async fn forward(&self, call: Call) -> Answer {
        let mut request = Request::from_parts(call.parts, Body::from(call.body));
        // The shim may have replaced the body; nothing downstream needs the length.
        request.headers_mut().remove(axum::http::header::CONTENT_LENGTH);
        let (parts, body) = self.stream(request).await.into_parts();
        match to_bytes(body, usize::MAX).await {
            Ok(body) => Answer { status: parts.status, headers: Box::new(parts.headers), body },
            Err(why) => Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure", why),
        }
    }

    /// Checks a request's fields as AWS does.
    pub(crate) fn validate(operation: Operation, body: &Value) -> Result<(), Answer> {
        let rules = operation.validation_rules();
        let fields: Vec<_> = rules.iter().map(|(name, rule)| (*name, rule)).collect();
        let typed = validation::check_types(body, &fields).map_err(|why| refused(&why))?;
        validation::check_validations(&typed, &fields, None).map_err(|why| refused(&why))
    }

    /// Performs an operation for the shim.
    pub(crate) async fn perform(&self, operation: Operation, body: Value) -> Result<(), Answer> {
        self.ask(operation, body).await.map(drop)
    }

    /// Performs an operation for the shim and returns its response.
    pub(crate) async fn ask(&self, operation: Operation, body: Value) -> Result<Value, Answer> {
        let answer = actions::dispatch(&self.store, operation, body).await.map_err(|why| refused(&why))?;
        Ok(answer.unwrap_or(Value::Null))
    }
}

/// Converts an error of ferrokinesis to a response.
pub(crate) fn refused(why: &KinesisErrorResponse) -> Answer {
    let status = StatusCode::from_u16(why.status_code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Answer::error(status, &why.body.error_type, why.body.message.as_deref().unwrap_or_default())
}
