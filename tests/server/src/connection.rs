//! The connections: read complete requests, and send responses whole, in pieces, in part or not at all.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderValue, Request, Response};
use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::ServerOptions;
use crate::fault::{Fault, Faults, Operation};
use crate::inject;
use crate::inner::Inner;
use crate::shim::{Shim, Subscription};
use crate::wire::{Answer, Call};

/// How long a request without a response waits for the client to hang up.
const SILENCE: Duration = Duration::from_secs(5 * 60);
/// Number of pieces of a slow response, and the time between them.
const PIECES: usize = 20;
const DRIP: Duration = Duration::from_millis(20);

/// A reply to a client.
pub(crate) enum Reply {
    /// The whole response.
    Whole(Answer),
    /// The response in small pieces.
    Dripped(Answer),
    /// The first half of the response, then the end of the connection.
    Half(Answer),
    /// Events until a subscription ends, or the fault ends it.
    Events(Box<Subscription>, Option<Fault>),
    /// Nothing, on a connection that stays open.
    Silence,
    /// The end of the connection.
    HangUp,
}

type ReplyBody = UnsyncBoxBody<Bytes, io::Error>;

/// Serves until `stopped` resolves; requests in progress are cut off.
pub(crate) async fn serve(
    listener: TcpListener,
    options: ServerOptions,
    faults: Arc<Faults>,
    mut stopped: oneshot::Receiver<()>,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let inner = Inner::new(&options);
    let shim = options.shim.then(|| Arc::new(Shim::new(inner.clone(), &options, Arc::clone(&faults))));
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, inner.clone(), shim.clone(), Arc::clone(&faults)));
            }
            // For example, out of file descriptors: closing connections frees some.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection(stream: TcpStream, inner: Inner, shim: Option<Arc<Shim>>, faults: Arc<Faults>) {
    // Without it small responses wait for the client's TCP acknowledgement; a failure only makes the socket slower.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| {
        let operation = Operation::of(request.headers());
        faults.count(operation);
        let (inner, shim, faults) = (inner.clone(), shim.clone(), Arc::clone(&faults));
        async move {
            match shim {
                Some(shim) => answer(request, shim, faults).await,
                None => Ok(inner
                    .stream(request.map(axum::body::Body::new))
                    .await
                    .map(|body| body.map_err(io::Error::other).boxed_unsync())),
            }
        }
    });
    // An error means that the client went away, or that a fault ends the connection.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, shim: Arc<Shim>, faults: Arc<Faults>) -> io::Result<Response<ReplyBody>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let call = Call::new(parts, body);
    // On its own task: as on AWS, a client that hangs up does not cancel its call.
    let answering = Arc::clone(&shim);
    let reply = tokio::spawn(async move { inject::answer(call, &answering, &faults).await });
    match reply.await.map_err(io::Error::other)? {
        Reply::Whole(answer) => Ok(response(answer, |body| Full::new(body).map_err(never).boxed_unsync())),
        Reply::Dripped(answer) => Ok(response(answer, dripped)),
        Reply::Half(answer) => Ok(response(answer, half)),
        Reply::Events(subscription, fault) => {
            Ok(shim.events(*subscription, fault).map(|body| body.map_err(io::Error::other).boxed_unsync()))
        }
        Reply::Silence => {
            sleep(SILENCE).await;
            Err(io::Error::other("no answer was asked for"))
        }
        Reply::HangUp => Err(io::Error::other("the end of the connection was asked for")),
    }
}

fn response(answer: Answer, send: impl FnOnce(Bytes) -> ReplyBody) -> Response<ReplyBody> {
    let length = answer.body.len();
    let mut response = Response::new(send(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = *answer.headers;
    // The full length also for a truncated body, so that the client notices.
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

fn dripped(body: Bytes) -> ReplyBody {
    let (mut sender, receiver) = Channel::new(1);
    tokio::spawn(async move {
        for piece in body.chunks(body.len().div_ceil(PIECES).max(1)) {
            if sender.send_data(body.slice_ref(piece)).await.is_err() {
                return;
            }
            sleep(DRIP).await;
        }
    });
    receiver.boxed_unsync()
}

fn half(body: Bytes) -> ReplyBody {
    CutOff { half: Some(body.slice(..body.len() / 2)), is_sent: false }.boxed_unsync()
}

/// A body that fails after its first half.
struct CutOff {
    half: Option<Bytes>,
    is_sent: bool,
}

impl Body for CutOff {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(half) = self.half.take() {
            return Poll::Ready(Some(Ok(Frame::data(half))));
        }
        if !self.is_sent {
            // hyper flushes its buffer when a body is pending, and drops the buffer when a body fails.
            self.is_sent = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::Error::other("half of the answer was asked for"))))
    }
}

fn never(never: Infallible) -> io::Error {
    match never {}
}
