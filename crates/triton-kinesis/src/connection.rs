//! A connection: SDK clients, and what they share.

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
use triton_core::{Result, ShardId};

use self::location::{DEFAULT_REGION, check_endpoint, check_region};
pub use self::options::ConnectOptions;
use self::sdk_config::{configured_endpoint, credentials_searched, http_client, load, timeouts};
use crate::clock::{DateInterceptor, ServerClock};
use crate::error::CallContext;
use crate::put::Buffers;

/// The Kinesis of one region or endpoint: SDK clients, their connections and their credentials, shared by every stream
/// that is opened from it. Cheap to clone.
///
/// As a [`StreamAdmin`](triton_core::StreamAdmin) it makes, changes and removes streams.
#[derive(Clone)]
pub struct Kinesis(Arc<Connection>);

struct Connection {
    /// For puts and fetches: one attempt, since the producer and the reader decide what is tried again.
    data: Client,
    /// For everything else, with the SDK's standard retries.
    control: Client,
    /// Whether connections are ours to make.
    makes_connections: bool,
    /// Clients for subscriptions that nobody uses at the moment.
    idle_subscription_clients: Mutex<Vec<Client>>,
    buffers: Buffers,
    idle_timeout: Duration,
    clock: Arc<ServerClock>,
    region: String,
    has_default_region: bool,
    endpoint_url: Option<String>,
    /// Where this is, for messages.
    place: String,
    /// Where credentials are looked for, for messages.
    credentials: String,
    calls: Semaphore,
}

/// Calls that are under way at once: the readers of thousands of shards share so many connections.
const MAX_CONCURRENT_CALLS: usize = 256;

impl Kinesis {
    /// Finds region, endpoint and credentials. Sends nothing to Kinesis, so that wrong credentials show in the first
    /// call. A profile in the options goes before credentials in the environment.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no region, for what is no URL, and for plain HTTP to another machine.
    pub async fn connect(options: ConnectOptions) -> Result<Self> {
        Self::over(load(&options).await, options)
    }

    /// Over an SDK config of your own, for programs that have one, or that provide credentials in their own way. The
    /// options' profile, region and endpoint go before the config's.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn over(config: SdkConfig, options: ConnectOptions) -> Result<Self> {
        let config = match &options.region {
            Some(region) => config.into_builder().region(Region::new(region.clone())).build(),
            None => config,
        };
        // A variable that is set to nothing says nothing.
        let region = config.region().map(|region| region.as_ref().to_owned()).filter(|region| !region.is_empty());
        let has_default_region = region.is_none();
        let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
        check_region(&region)?;
        let endpoint_url = options.endpoint_url.clone().or_else(|| configured_endpoint(&config));
        if let Some(url) = &endpoint_url {
            check_endpoint(url, options.allow_insecure_endpoint)?;
        }
        let place = match &endpoint_url {
            Some(url) => format!("{region} at {url}"),
            None => region.clone(),
        };
        let config = config.into_builder().region(Region::new(region.clone())).build();
        let makes_connections = config.http_client().is_none();
        let config = match config.http_client() {
            Some(_) => config,
            // One pool of connections for both clients.
            None => config.into_builder().http_client(http_client()).build(),
        };
        let timeouts = timeouts(&options);
        let clock = Arc::new(ServerClock::default());
        let client = |retry| {
            let mut builder = aws_sdk_kinesis::config::Builder::from(&config)
                .retry_config(retry)
                .timeout_config(timeouts.clone())
                .interceptor(DateInterceptor(Arc::clone(&clock)));
            builder.set_endpoint_url(endpoint_url.clone());
            Client::from_conf(builder.build())
        };
        Ok(Self(Arc::new(Connection {
            data: client(RetryConfig::disabled()),
            control: client(RetryConfig::standard()),
            makes_connections,
            idle_subscription_clients: Mutex::default(),
            buffers: Buffers::default(),
            idle_timeout: options.idle_timeout,
            clock,
            region,
            has_default_region,
            endpoint_url,
            place,
            credentials: credentials_searched(options.profile.as_deref()),
            calls: Semaphore::new(MAX_CONCURRENT_CALLS),
        })))
    }

    /// A Kinesis behind SDK clients that answer as a test wants.
    #[cfg(test)]
    pub(crate) fn of_client(client: Client) -> Self {
        Self(Arc::new(Connection {
            data: client.clone(),
            control: client,
            makes_connections: false,
            idle_subscription_clients: Mutex::default(),
            buffers: Buffers::default(),
            idle_timeout: ConnectOptions::default().idle_timeout,
            clock: Arc::default(),
            region: DEFAULT_REGION.into(),
            has_default_region: false,
            endpoint_url: None,
            place: DEFAULT_REGION.into(),
            credentials: credentials_searched(None),
            calls: Semaphore::new(MAX_CONCURRENT_CALLS),
        }))
    }

    /// The region.
    pub fn region(&self) -> &str {
        &self.0.region
    }

    /// Whether nothing said which region, so that it is us-east-1.
    pub fn has_default_region(&self) -> bool {
        self.0.has_default_region
    }

    /// The other Kinesis-compatible server, where there is one.
    pub fn endpoint_url(&self) -> Option<&str> {
        self.0.endpoint_url.as_deref()
    }

    /// How far this machine's clock is ahead of the server's, in milliseconds, as of a recent answer; HTTP dates count
    /// seconds, so it is right to about one. `None` before any answer.
    pub fn clock_ahead_millis(&self) -> Option<i64> {
        self.0.clock.ahead_millis()
    }

    pub(crate) fn data_client(&self) -> &Client {
        &self.0.data
    }

    pub(crate) fn buffers(&self) -> &Buffers {
        &self.0.buffers
    }

    pub(crate) fn control_client(&self) -> &Client {
        &self.0.control
    }

    /// A client for the subscriptions to one shard: one attempt, on connections of its own. A subscription keeps its
    /// stream of an HTTP/2 connection for minutes, of which Kinesis allows few; and one that nobody reads holds up what
    /// else comes over its connection.
    pub(crate) fn subscription_client(&self) -> Client {
        if !self.0.makes_connections {
            return self.0.data.clone();
        }
        self.idle_clients().pop().unwrap_or_else(|| {
            let is_plain = self.0.endpoint_url.as_ref().is_some_and(|url| url.starts_with("http:"));
            let http_client = match is_plain {
                true => aws_smithy_http_client::Builder::new().build_http(),
                false => http_client(),
            };
            Client::from_conf(self.0.data.config().to_builder().http_client(http_client).build())
        })
    }

    /// Takes a subscriber back that is not used any more. To make one takes milliseconds, most of them for certificates.
    pub(crate) fn recycle(&self, subscriber: Client) {
        let mut free = self.idle_clients();
        if self.0.makes_connections && free.len() < MAX_CONCURRENT_CALLS {
            free.push(subscriber);
        }
    }

    fn idle_clients(&self) -> MutexGuard<'_, Vec<Client>> {
        // No change is left half done by a panic.
        self.0.idle_subscription_clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        self.0.idle_timeout
    }

    pub(crate) fn clock(&self) -> &ServerClock {
        &self.0.clock
    }

    /// Waits for its turn to make a call, which lasts as long as the call_permit.
    pub(crate) async fn call_permit(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.0.calls.acquire().await.ok()
    }

    /// Where this is, for messages: the region, and the other server where there is one.
    pub fn location(&self) -> &str {
        &self.0.place
    }

    /// For the errors of a call that reads.
    pub(crate) fn read_context<'a>(&'a self, stream: &'a str, shard: Option<&'a ShardId>) -> CallContext<'a> {
        CallContext { place: self.location(), credentials: &self.0.credentials, stream, shard, writes: false }
    }

    /// For the errors of a call that changes something.
    pub(crate) fn write_context<'a>(&'a self, stream: &'a str, shard: Option<&'a ShardId>) -> CallContext<'a> {
        CallContext { writes: true, ..self.read_context(stream, shard) }
    }
}

impl fmt::Debug for Kinesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kinesis").field(&self.location()).finish()
    }
}
