//! The one place where options become SDK clients: region, endpoint, credentials, timeouts and the SDK's retries.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::SharedHttpClient;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_smithy_http_client::tls;
use aws_types::service_config::ServiceConfigKey;
use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use triton_core::{Error, Result, ShardId, StreamConfig};

use crate::clock::{DateWatch, ServerClock};
use crate::error::Context;
use crate::put::Buffers;
use crate::stream::KinesisStream;
use crate::target::Target;

/// Where streams are when nothing says so: as in older Tritons.
const DEFAULT_REGION: &str = "us-east-1";

/// Which Kinesis to talk to, and how patiently. What is not given here comes from the environment and the AWS profile;
/// credentials come from there alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// The AWS profile; `$AWS_PROFILE` or `default` if `None`.
    pub profile: Option<String>,
    /// The AWS region; the environment's or the profile's if `None`, and us-east-1 where they have none.
    pub region: Option<String>,
    /// Another Kinesis-compatible server; `$AWS_ENDPOINT_URL_KINESIS`, `$AWS_ENDPOINT_URL` or the profile's if `None`.
    pub endpoint_url: Option<String>,
    /// Whether records may go over plain HTTP to another machine.
    pub allow_insecure_endpoint: bool,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for the answer to one request, from its first byte to the answer's last.
    pub request_timeout: Duration,
    /// How long a subscription (enhanced fan-out) may say nothing before it is taken for lost, and made anew.
    pub idle_timeout: Duration,
}

impl Default for ConnectOptions {
    /// Everything from the environment; 5 s for a connection; 30 s for a request, in which 10 MiB pass at 3 Mbit/s; and
    /// 15 s for a subscription, on which Kinesis sends a sign of life every few.
    fn default() -> Self {
        Self {
            profile: None,
            region: None,
            endpoint_url: None,
            allow_insecure_endpoint: false,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(15),
        }
    }
}

/// What a stream's config says of its place.
#[derive(Deserialize)]
struct Keys {
    region: Option<String>,
    endpoint_url: Option<String>,
}

impl ConnectOptions {
    /// What a stream's config says: its region and endpoint. An ARN as its name says the region too, and wins.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that starts as an ARN and is none; [`Error::Config`] for settings of a wrong type.
    pub fn of_stream(config: &StreamConfig) -> Result<Self> {
        let target = Target::parse(&config.name)?;
        let Keys { region, endpoint_url } = config.settings.read()?;
        let region = target.region().map(str::to_owned).or(region);
        Ok(Self { region, endpoint_url, ..Self::default() })
    }

    /// With another AWS profile.
    pub fn with_profile(self, profile: impl Into<String>) -> Self {
        Self { profile: Some(profile.into()), ..self }
    }

    /// In another region.
    pub fn with_region(self, region: impl Into<String>) -> Self {
        Self { region: Some(region.into()), ..self }
    }

    /// At another Kinesis-compatible server.
    pub fn with_endpoint_url(self, endpoint_url: impl Into<String>) -> Self {
        Self { endpoint_url: Some(endpoint_url.into()), ..self }
    }

    /// With plain HTTP to other machines allowed, or not.
    pub fn with_allow_insecure_endpoint(self, allow_insecure_endpoint: bool) -> Self {
        Self { allow_insecure_endpoint, ..self }
    }

    /// With another wait for a connection.
    pub fn with_connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// With another wait for the answer to a request.
    pub fn with_request_timeout(self, request_timeout: Duration) -> Self {
        Self { request_timeout, ..self }
    }

    /// With another wait for a subscription that says nothing.
    pub fn with_idle_timeout(self, idle_timeout: Duration) -> Self {
        Self { idle_timeout, ..self }
    }
}

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
    subscribers: Mutex<Vec<Client>>,
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
const MAX_CALLS: usize = 256;

impl Kinesis {
    /// Finds region, endpoint and credentials. Sends nothing to Kinesis, so that wrong credentials show in the first
    /// call. A profile in the options goes before credentials in the environment.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no region and for what is no URL; [`Error::InsecureEndpoint`].
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
        let endpoint_url = options.endpoint_url.clone().or_else(|| endpoint_url_of(&config));
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
                .interceptor(DateWatch(Arc::clone(&clock)));
            builder.set_endpoint_url(endpoint_url.clone());
            Client::from_conf(builder.build())
        };
        Ok(Self(Arc::new(Connection {
            data: client(RetryConfig::disabled()),
            control: client(RetryConfig::standard()),
            makes_connections,
            subscribers: Mutex::default(),
            buffers: Buffers::default(),
            idle_timeout: options.idle_timeout,
            clock,
            region,
            has_default_region,
            endpoint_url,
            place,
            credentials: credentials_of(options.profile.as_deref()),
            calls: Semaphore::new(MAX_CALLS),
        })))
    }

    /// A Kinesis behind SDK clients that answer as a test wants.
    #[cfg(test)]
    pub(crate) fn of_client(client: Client) -> Self {
        Self(Arc::new(Connection {
            data: client.clone(),
            control: client,
            makes_connections: false,
            subscribers: Mutex::default(),
            buffers: Buffers::default(),
            idle_timeout: ConnectOptions::default().idle_timeout,
            clock: Arc::default(),
            region: DEFAULT_REGION.into(),
            has_default_region: false,
            endpoint_url: None,
            place: DEFAULT_REGION.into(),
            credentials: credentials_of(None),
            calls: Semaphore::new(MAX_CALLS),
        }))
    }

    /// A client for a stream, which is not asked for yet. Streams of other accounts are named by their ARN.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that starts as an ARN and is none, or one of another region.
    pub fn stream(&self, name: &str) -> Result<KinesisStream> {
        let target = Target::parse(name)?;
        match target.region() {
            Some(region) if region != self.0.region => {
                let problem = format!("stream '{name}' is in {region}, and this connection goes to {}", self.0.region);
                Err(Error::Invalid { problem })
            }
            _ => Ok(KinesisStream::new(self.clone(), target)),
        }
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

    pub(crate) fn data(&self) -> &Client {
        &self.0.data
    }

    pub(crate) fn buffers(&self) -> &Buffers {
        &self.0.buffers
    }

    pub(crate) fn control(&self) -> &Client {
        &self.0.control
    }

    /// A client for the subscriptions to one shard: one attempt, on connections of its own. A subscription keeps its
    /// stream of an HTTP/2 connection for minutes, of which Kinesis allows few; and one that nobody reads holds up what
    /// else comes over its connection.
    pub(crate) fn subscriber(&self) -> Client {
        if !self.0.makes_connections {
            return self.0.data.clone();
        }
        self.free_subscribers().pop().unwrap_or_else(|| {
            let is_plain = self.0.endpoint_url.as_ref().is_some_and(|url| url.starts_with("http:"));
            let http_client = match is_plain {
                true => aws_smithy_http_client::Builder::new().build_http(),
                false => http_client(),
            };
            Client::from_conf(self.0.data.config().to_builder().http_client(http_client).build())
        })
    }

    /// Takes a subscriber back that is not used any more. To make one takes milliseconds, most of them for certificates.
    pub(crate) fn give_back(&self, subscriber: Client) {
        let mut free = self.free_subscribers();
        if self.0.makes_connections && free.len() < MAX_CALLS {
            free.push(subscriber);
        }
    }

    fn free_subscribers(&self) -> MutexGuard<'_, Vec<Client>> {
        // No change is left half done by a panic.
        self.0.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        self.0.idle_timeout
    }

    pub(crate) fn clock(&self) -> &ServerClock {
        &self.0.clock
    }

    /// Waits for its turn to make a call, which lasts as long as the permit.
    pub(crate) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.0.calls.acquire().await.ok()
    }

    /// Where this is, for messages: the region, and the other server where there is one.
    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// For the errors of a call that reads.
    pub(crate) fn reading<'a>(&'a self, stream: &'a str, shard: Option<&'a ShardId>) -> Context<'a> {
        Context { place: self.place(), credentials: &self.0.credentials, stream, shard, writes: false }
    }

    /// For the errors of a call that changes something.
    pub(crate) fn writing<'a>(&'a self, stream: &'a str, shard: Option<&'a ShardId>) -> Context<'a> {
        Context { writes: true, ..self.reading(stream, shard) }
    }
}

impl fmt::Debug for Kinesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kinesis").field(&self.place()).finish()
    }
}

async fn load(options: &ConnectOptions) -> SdkConfig {
    // Whoever provides credentials uses the same connections and patience.
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .timeout_config(timeouts(options))
        .http_client(http_client());
    if let Some(profile) = &options.profile {
        // A profile that was asked for goes before keys in the environment, as with the AWS command.
        let provider = ProfileFileCredentialsProvider::builder().profile_name(profile).build();
        loader = loader.profile_name(profile).credentials_provider(provider);
    }
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    loader.load().await
}

fn http_client() -> SharedHttpClient {
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
    aws_smithy_http_client::Builder::new().tls_provider(tls).build_https()
}

fn timeouts(options: &ConnectOptions) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.request_timeout)
        .operation_attempt_timeout(options.request_timeout)
        // Three attempts and the waits between them.
        .operation_timeout(4 * options.request_timeout)
        .build()
}

/// The endpoint that the environment or the profile names, for Kinesis or for every service.
fn endpoint_url_of(config: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id("Kinesis").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let of_kinesis = key.ok().and_then(|key| config.service_config()?.load_config(key));
    let for_all = || config.endpoint_url().map(str::to_owned);
    of_kinesis.filter(|url| !url.is_empty()).or_else(for_all).filter(|url| !url.is_empty())
}

/// Where credentials are looked for, in words.
fn credentials_of(profile: Option<&str>) -> String {
    let from_environment = || std::env::var("AWS_PROFILE").ok().filter(|profile| !profile.is_empty());
    match profile {
        Some(profile) => format!("profile '{profile}'"),
        None => match from_environment() {
            Some(profile) => format!("environment, profile '{profile}', instance role"),
            None => "environment, profile 'default', instance role".to_owned(),
        },
    }
}

fn check_region(region: &str) -> Result<()> {
    let is_name = !region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match is_name {
        true => Ok(()),
        false => Err(Error::Invalid { problem: format!("'{}' is no AWS region", region.escape_debug()) }),
    }
}

fn check_endpoint(url: &str, allow_insecure: bool) -> Result<()> {
    let no_url = || Error::Invalid { problem: format!("endpoint '{}' is no http or https URL", url.escape_debug()) };
    let parsed: http::Uri = url.parse().map_err(|_| no_url())?;
    let host = parsed.host().ok_or_else(no_url)?;
    match parsed.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if allow_insecure || is_loopback(host) => Ok(()),
        Some("http") => Err(Error::InsecureEndpoint { url: url.to_owned() }),
        _ => Err(no_url()),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine_unless_told_otherwise() {
        for fine in ["https://kinesis.example", "http://localhost:4567", "http://127.0.0.9", "http://[::1]:4567/"] {
            assert!(check_endpoint(fine, false).is_ok(), "{fine}");
        }
        for insecure in ["http://kinesis.example", "http://10.0.0.1:4567", "http://localhost.example"] {
            let error = check_endpoint(insecure, false).unwrap_err();
            assert!(matches!(error, Error::InsecureEndpoint { .. }), "{error}");
            assert!(check_endpoint(insecure, true).is_ok(), "{insecure}");
        }
        for wrong in ["", "localhost:4567", "ftp://localhost", "http://", "/tmp"] {
            assert!(check_endpoint(wrong, true).unwrap_err().to_string().contains("no http or https URL"), "{wrong}");
        }
    }

    #[test]
    fn a_region_is_a_name() {
        assert!(check_region("eu-west-1").is_ok());
        for wrong in ["", "eu west", "eu-west-1.example.com/", "x\n"] {
            assert!(check_region(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_streams_own_region_and_endpoint_count_and_an_arns_most() {
        let config = triton_core::Config::parse(
            "a: {name: a, partition_key: null, region: eu-west-1, endpoint_url: 'http://localhost:1'}\n\
             b: {name: 'arn:aws:kinesis:us-west-2:123456789012:stream/b', partition_key: null, region: eu-west-1}",
            "triton.yaml",
        )
        .unwrap();
        let of = |name| ConnectOptions::of_stream(config.stream(name).unwrap()).unwrap();
        assert_eq!(of("a").region.as_deref(), Some("eu-west-1"));
        assert_eq!(of("a").endpoint_url.as_deref(), Some("http://localhost:1"));
        assert_eq!(of("b").region.as_deref(), Some("us-west-2"));
    }
}
