//! A connection: SDK clients for one region or endpoint, and the resources that its streams share. It sends no request
//! itself.

mod location;
mod options;
mod sdk_config;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use tokio::sync::{Semaphore, SemaphorePermit};
use triton_core::ShardId;

use self::location::Location;
pub use self::options::ConnectOptions;
use self::sdk_config::{credentials_searched, https_client, load, timeouts};
use crate::clock::{DateInterceptor, ServerClock};
use crate::error::{CallContext, ConnectError};
use crate::put::Buffers;

/// Kinesis in one region, or at one endpoint: SDK clients, connections and credentials, shared by every stream opened
/// from it. Cheap to clone.
///
/// As a [`StreamAdmin`](triton_core::StreamAdmin) it creates, changes and deletes streams.
#[derive(Clone)]
pub struct Kinesis(Arc<Connection>);

struct Connection {
    /// For puts and fetches: one attempt, because the producer and the reader decide about retries.
    data: Client,
    /// For every other call, with the SDK's standard retries.
    control: Client,
    /// Whether the HTTP client is this connection's own, not one that the SDK config brought along.
    owns_http_client: bool,
    /// Subscription clients that are not in use.
    idle_subscription_clients: Mutex<Vec<Client>>,
    buffers: Buffers,
    idle_timeout: Duration,
    clock: Arc<ServerClock>,
    location: Location,
    /// `location` as messages show it.
    location_text: String,
    /// The places searched for credentials, as messages list them.
    credentials: String,
    calls: Semaphore,
}

/// Concurrent calls of one connection: the readers of thousands of shards share this many HTTP connections.
const MAX_CONCURRENT_CALLS: usize = 256;

impl Kinesis {
    /// Finds region, endpoint and credentials. Nothing is sent to Kinesis: wrong credentials show in the first call. A
    /// profile in the options takes precedence over credentials in the environment.
    ///
    /// # Errors
    /// An invalid region or endpoint, or an endpoint that is plain HTTP to another machine.
    pub async fn connect(options: ConnectOptions) -> Result<Self, ConnectError> {
        Self::over(load(&options).await, options)
    }

    /// Connects with an SDK config, for programs that have one or provide credentials themselves. The options' region
    /// and endpoint take precedence over the config's.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn over(config: SdkConfig, options: ConnectOptions) -> Result<Self, ConnectError> {
        let location = Location::resolve(&config, &options)?;
        let owns_http_client = config.http_client().is_none();
        let mut config = config.into_builder().region(Region::new(location.region.clone()));
        if owns_http_client {
            // One connection pool for both clients.
            config = config.http_client(https_client());
        }
        let (config, timeouts, clock) = (config.build(), timeouts(&options), Arc::new(ServerClock::default()));
        let client = |retries| {
            let mut builder = aws_sdk_kinesis::config::Builder::from(&config)
                .retry_config(retries)
                .timeout_config(timeouts.clone())
                .interceptor(DateInterceptor(Arc::clone(&clock)));
            builder.set_endpoint_url(location.endpoint_url.clone());
            Client::from_conf(builder.build())
        };
        let (data, control) = (client(RetryConfig::disabled()), client(RetryConfig::standard()));
        Ok(Self::with_clients(data, control, owns_http_client, clock, location, &options))
    }

    fn with_clients(
        data: Client,
        control: Client,
        owns_http_client: bool,
        clock: Arc<ServerClock>,
        location: Location,
        options: &ConnectOptions,
    ) -> Self {
        Self(Arc::new(Connection {
            data,
            control,
            owns_http_client,
            idle_subscription_clients: Mutex::default(),
            buffers: Buffers::default(),
            idle_timeout: options.idle_timeout,
            clock,
            location_text: location.to_string(),
            location,
            credentials: credentials_searched(options.profile.as_deref()),
            calls: Semaphore::new(MAX_CONCURRENT_CALLS),
        }))
    }

    /// Kinesis in us-east-1 behind an SDK client whose responses a test chooses.
    #[cfg(test)]
    pub(crate) fn of_client(client: Client) -> Self {
        let location = Location { region: "us-east-1".into(), is_default_region: false, endpoint_url: None };
        Self::with_clients(client.clone(), client, false, Arc::default(), location, &ConnectOptions::default())
    }

    /// The AWS region.
    pub fn region(&self) -> &str {
        &self.0.location.region
    }

    /// Whether the region is us-east-1 because none was configured.
    pub fn has_default_region(&self) -> bool {
        self.0.location.is_default_region
    }

    /// URL of the Kinesis-compatible server; `None` if it is AWS.
    pub fn endpoint_url(&self) -> Option<&str> {
        self.0.location.endpoint_url.as_deref()
    }

    /// The region, and the endpoint if there is one, as messages show them.
    pub fn location(&self) -> &str {
        &self.0.location_text
    }

    /// Milliseconds that this machine's clock is ahead of the server's, as of a recent response. HTTP dates count whole
    /// seconds, so the error is up to a second. `None` before the first response.
    pub fn clock_ahead_millis(&self) -> Option<i64> {
        self.0.clock.ahead_millis()
    }

    /// For puts and fetches: one attempt.
    pub(crate) fn data_client(&self) -> &Client {
        &self.0.data
    }

    /// For every other call: the SDK's standard retries.
    pub(crate) fn control_client(&self) -> &Client {
        &self.0.control
    }

    /// A client for the subscriptions to one shard: one attempt, on connections of its own. A subscription occupies its
    /// HTTP/2 stream for minutes, Kinesis allows few of them per connection, and one that is not read blocks the
    /// others.
    pub(crate) fn subscription_client(&self) -> Client {
        if !self.0.owns_http_client {
            return self.0.data.clone();
        }
        self.idle_subscription_clients().pop().unwrap_or_else(|| {
            let http_client = if self.0.location.is_plain_http() {
                aws_smithy_http_client::Builder::new().build_http()
            } else {
                https_client()
            };
            Client::from_conf(self.0.data.config().to_builder().http_client(http_client).build())
        })
    }

    /// Keeps a subscription client for the next subscription: a new one takes milliseconds, mostly to load
    /// certificates.
    pub(crate) fn recycle(&self, client: Client) {
        let mut idle = self.idle_subscription_clients();
        if self.0.owns_http_client && idle.len() < MAX_CONCURRENT_CALLS {
            idle.push(client);
        }
    }

    fn idle_subscription_clients(&self) -> MutexGuard<'_, Vec<Client>> {
        // A panic cannot leave the list inconsistent.
        self.0.idle_subscription_clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn buffers(&self) -> &Buffers {
        &self.0.buffers
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        self.0.idle_timeout
    }

    pub(crate) fn clock(&self) -> &ServerClock {
        &self.0.clock
    }

    /// Waits for a permit to make a call, to be held until the response is there.
    pub(crate) async fn call_permit(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.0.calls.acquire().await.ok()
    }

    /// Error context of a call that reads.
    pub(crate) fn read_context<'a>(&'a self, stream: &'a str, shard: Option<&'a ShardId>) -> CallContext<'a> {
        CallContext { location: self.location(), credentials: &self.0.credentials, stream, shard, writes: false }
    }

    /// Error context of a call that changes something.
    pub(crate) fn write_context<'a>(&'a self, stream: &'a str, shard: Option<&'a ShardId>) -> CallContext<'a> {
        CallContext { writes: true, ..self.read_context(stream, shard) }
    }
}

impl fmt::Debug for Kinesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kinesis").field(&self.location()).finish()
    }
}
