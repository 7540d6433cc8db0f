//! A Kinesis server for tests, on loopback: [ferrokinesis](https://docs.rs/ferrokinesis) in process, behind a layer
//! that corrects where it differs from AWS (the shim), and that injects faults on demand.
//!
//! ```text
//! request ─▶ connection ─▶ inject ─▶ shim ─▶ ferrokinesis
//!  answer ◀─ connection ◀─ inject ◀─ shim ◀──────┘
//! ```
//!
//! The server runs on a thread of its own with a runtime of its own, so it serves tests that start processes as well as
//! tokio tests, whose clock may be paused. Dropping it stops it.
//!
//! ```
//! use triton_test_server::{Fault, Operation, Server, ServerOptions};
//!
//! let server = Server::start(ServerOptions::default())?;
//! server.faults().inject(Operation::PutRecords, Fault::InternalErrorAfter, 1);
//! assert!(server.endpoint_url().starts_with("http://127.0.0.1:"));
//! assert_eq!(server.faults().injected(Fault::InternalErrorAfter), 0);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A fault is injected into single requests. A mode holds until another is set: how old or partial shard lists are
//! ([`ListMode`]), and how the end of a closed shard is reported ([`EndMode`]).
//!
//! ```
//! use std::time::Duration;
//! use triton_test_server::{EndMode, ListMode, Server, ServerOptions};
//!
//! let server = Server::start(ServerOptions::default())?;
//! server.faults().set_list_mode(ListMode::Flapping(Duration::from_secs(3)));
//! server.faults().set_end_mode(EndMode::Never);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Any credentials do: signatures are not checked. The shim applies to JSON requests only; CBOR requests bypass it.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

mod connection;
mod fault;
mod inject;
mod inner;
mod mode;
mod shim;
mod wire;

pub use fault::{Fault, Faults, Operation, PastRetention};
pub use mode::{EndMode, ListMode, MissingShards};

/// A running server; dropping it stops it.
pub struct Server {
    address: SocketAddr,
    faults: Arc<Faults>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server, which accepts connections when this returns.
    pub fn start(options: ServerOptions) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let faults = Arc::new(Faults::default());
        let (stop, stopped) = oneshot::channel();
        let serving = connection::serve(listener, options, Arc::clone(&faults), stopped);
        let thread = std::thread::Builder::new().name("kinesis-server".to_owned()).spawn(move || {
            runtime.block_on(serving);
        })?;
        Ok(Self { address, faults, stop: Some(stop), thread: Some(thread) })
    }

    /// The address that it listens on: `http://127.0.0.1:PORT`.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The injected faults.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // An error means that the thread has ended already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // A panic of the server has been printed where it happened; a panic in drop would abort the test run.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("endpoint_url", &self.endpoint_url()).finish_non_exhaustive()
    }
}

/// How a [`Server`] behaves.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The port to listen on; 0, the default, takes a free one.
    pub port: u16,
    /// The most open shards of all streams together; 20,000 by default.
    pub shard_limit: u32,
    /// How long creating, deleting and each split and merge take; 5 ms by default.
    pub transition: Duration,
    /// How long a shard iterator is valid; 300 s by default, as on AWS.
    pub iterator_ttl: Duration,
    /// How long after a subscription another of the same consumer and shard is rejected; 5 s by default, as on
    /// AWS.
    pub subscription_interval: Duration,
    /// How long a subscription lasts; 5 minutes by default, as on AWS.
    pub subscription_lifetime: Duration,
    /// Interval of empty events on a subscription without new records; 5 s by default.
    pub heartbeat: Duration,
    /// Whether a shard takes at most 1 MiB and 1,000 records a second; off by default.
    pub enforce_write_quota: bool,
    /// Whether requests pass through the compatibility shim; on by default. Without it they go straight to
    /// ferrokinesis, without injected faults: for benchmarks.
    pub shim: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            port: 0,
            shard_limit: 20_000,
            transition: Duration::from_millis(5),
            iterator_ttl: Duration::from_secs(300),
            subscription_interval: Duration::from_secs(5),
            subscription_lifetime: Duration::from_secs(300),
            heartbeat: Duration::from_secs(5),
            enforce_write_quota: false,
            shim: true,
        }
    }
}

impl ServerOptions {
    /// Sets the [port](Self::port).
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the [shard limit](Self::shard_limit).
    #[must_use]
    pub fn with_shard_limit(mut self, shards: u32) -> Self {
        self.shard_limit = shards;
        self
    }

    /// Sets how long [transitions](Self::transition) take.
    #[must_use]
    pub fn with_transition(mut self, transition: Duration) -> Self {
        self.transition = transition;
        self
    }

    /// Sets how long [iterators](Self::iterator_ttl) are valid.
    #[must_use]
    pub fn with_iterator_ttl(mut self, ttl: Duration) -> Self {
        self.iterator_ttl = ttl;
        self
    }

    /// Sets how long [subscriptions](Self::subscription_interval) are apart.
    #[must_use]
    pub fn with_subscription_interval(mut self, interval: Duration) -> Self {
        self.subscription_interval = interval;
        self
    }

    /// Sets how long [subscriptions](Self::subscription_lifetime) last.
    #[must_use]
    pub fn with_subscription_lifetime(mut self, lifetime: Duration) -> Self {
        self.subscription_lifetime = lifetime;
        self
    }

    /// Sets how often a subscription gives a [sign of life](Self::heartbeat).
    #[must_use]
    pub fn with_heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// Sets whether the [write quota](Self::enforce_write_quota) holds.
    #[must_use]
    pub fn with_write_quota(mut self, on: bool) -> Self {
        self.enforce_write_quota = on;
        self
    }

    /// Sets whether requests pass through the [shim](Self::shim).
    #[must_use]
    pub fn with_shim(mut self, on: bool) -> Self {
        self.shim = on;
        self
    }
}
