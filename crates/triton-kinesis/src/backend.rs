//! The backend `kinesis` of the config file.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::OnceCell;
use triton_core::{Backend, Check, CreateOptions, Error, ErrorKind, Result, StreamAdmin, StreamClient, StreamConfig};

use crate::connection::{ConnectOptions, Kinesis};
use crate::description::StreamDescription;

/// AWS refuses signed requests when the clock is wrong by more than this many milliseconds; half of it is a warning.
const SKEW_REFUSED: i64 = 5 * 60 * 1000;

/// The backend `kinesis`: streams in the region or at the endpoint of their config, by default those of the environment
/// or the AWS profile. Streams in one region share a connection.
///
/// Its keys: `region`; `endpoint_url`, the URL of another Kinesis-compatible server; `shards`, the number of shards of
/// a new stream (default: 1).
#[derive(Debug, Default)]
pub struct KinesisBackend {
    options: ConnectOptions,
    /// Connections, by their options.
    connections: Mutex<Vec<(ConnectOptions, Connecting)>>,
}

/// A connection that the first stream to need it makes, while other streams wait for it.
type Connecting = Arc<OnceCell<Kinesis>>;

/// The keys of a stream's section that [`ConnectOptions::of_stream`] does not read.
#[derive(Deserialize)]
struct Keys {
    shards: Option<NonZeroUsize>,
}

impl KinesisBackend {
    /// Name in the config file.
    pub const NAME: &str = "kinesis";

    /// Keys of a stream's section that the backend reads.
    pub const KEYS: [&str; 3] = ["endpoint_url", "region", "shards"];

    /// With options of the program, such as a profile. Their region and endpoint take precedence over those of a
    /// stream's config.
    pub fn new(options: ConnectOptions) -> Self {
        Self { options, connections: Mutex::default() }
    }

    /// The connection to the region or endpoint of a stream; made on first use.
    ///
    /// # Errors
    /// [`Error::Config`] if the stream's settings are invalid; [`Error::Setting`] for an invalid region or URL;
    /// [`Error::InsecureEndpoint`].
    pub async fn connection(&self, stream: &StreamConfig) -> Result<Kinesis> {
        let of_stream = ConnectOptions::of_stream(stream).map_err(as_setting)?;
        let options = ConnectOptions {
            region: self.options.region.clone().or(of_stream.region),
            endpoint_url: self.options.endpoint_url.clone().or(of_stream.endpoint_url),
            ..self.options.clone()
        };
        let connecting = self.connecting(&options);
        let kinesis = connecting.get_or_try_init(|| Kinesis::connect(options)).await;
        kinesis.cloned().map_err(|error| as_setting(error.into()))
    }

    fn connecting(&self, options: &ConnectOptions) -> Connecting {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connecting)) = connections.iter().find(|(known, _)| known == options) {
            return Arc::clone(connecting);
        }
        let connecting = Connecting::default();
        connections.push((options.clone(), Arc::clone(&connecting)));
        connecting
    }
}

/// An invalid region, endpoint or ARN is an invalid setting.
fn as_setting(error: Error) -> Error {
    match error {
        Error::Invalid { problem } => Error::Setting { problem, help: None },
        error => error,
    }
}

#[async_trait]
impl Backend for KinesisBackend {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn keys(&self) -> &[&str] {
        &Self::KEYS
    }

    fn check(&self, stream: &StreamConfig) -> Result<()> {
        let of_stream = ConnectOptions::of_stream(stream).map_err(as_setting)?;
        // Whether plain HTTP is allowed is for the program to say, when it opens the stream.
        of_stream.with_allow_insecure_endpoint(true).check().map_err(|error| as_setting(error.into()))?;
        self.create_options(stream).map(drop)
    }

    async fn open(&self, stream: &StreamConfig) -> Result<Arc<dyn StreamClient>> {
        self.admin(stream).await?.open(&stream.name).await
    }

    async fn admin(&self, stream: &StreamConfig) -> Result<Arc<dyn StreamAdmin>> {
        Ok(Arc::new(self.connection(stream).await?))
    }

    fn create_options(&self, stream: &StreamConfig) -> Result<CreateOptions> {
        let Keys { shards } = stream.settings.read()?;
        Ok(CreateOptions::default().with_shards(shards.map_or(1, NonZeroUsize::get)))
    }

    async fn diagnose(&self, streams: &[StreamConfig]) -> Vec<Check> {
        let mut diagnosis = Diagnosis::default();
        if streams.is_empty() {
            // The region that the environment configures.
            diagnosis.location(self.connection(&StreamConfig::new("")).await).await;
        }
        for stream in streams {
            if let Some(kinesis) = diagnosis.location(self.connection(stream).await).await {
                diagnosis.checks.push(check_stream(&kinesis, stream).await);
            }
        }
        let clocks = diagnosis.locations.values().filter_map(|(kinesis, _)| check_clock(kinesis));
        diagnosis.checks.extend(clocks);
        diagnosis.checks
    }
}

/// The checks so far, and the locations (regions or endpoints) that were checked: a failure of a location is reported
/// once, not per stream.
#[derive(Default)]
struct Diagnosis {
    checks: Vec<Check>,
    /// By name; whether streams there can be described.
    locations: BTreeMap<String, (Kinesis, bool)>,
}

impl Diagnosis {
    /// Checks region and credentials of a location, once. Returns its connection if streams there can be described.
    async fn location(&mut self, connected: Result<Kinesis>) -> Option<Kinesis> {
        let kinesis = match connected {
            Ok(kinesis) => kinesis,
            Err(error) => {
                self.checks.push(Check::failed("region", error));
                return None;
            }
        };
        let location = kinesis.location();
        if let Some((_, is_usable)) = self.locations.get(location) {
            return is_usable.then_some(kinesis);
        }
        self.checks.push(if kinesis.has_default_region() {
            Check::warning("region", format!("none is set: using {location}"))
        } else {
            Check::passed("region", location)
        });
        let answer = kinesis.check_credentials().await;
        let is_usable = matches!(answer, Ok(()) | Err(Error::AccessDenied { .. }));
        self.checks.push(match answer {
            Ok(()) => Check::passed("credentials", format!("accepted by Kinesis in {location}")),
            Err(Error::AccessDenied { .. }) => Check::passed(
                "credentials",
                format!("accepted by Kinesis in {location}, without permission to list streams"),
            ),
            Err(error) if error.kind() == ErrorKind::Credentials => Check::failed("credentials", error),
            Err(error) => Check::failed("server", error),
        });
        self.locations.insert(location.to_owned(), (kinesis.clone(), is_usable));
        is_usable.then_some(kinesis)
    }
}

async fn check_stream(kinesis: &Kinesis, stream: &StreamConfig) -> Check {
    let name = &stream.logical_name;
    let described = match kinesis.stream(&stream.name) {
        Ok(client) => client.describe().await,
        Err(error) => Err(error),
    };
    match described {
        Ok(description) if description.is_active() => Check::passed("stream", describe(stream, &description)),
        Ok(description) => Check::warning("stream", describe(stream, &description)),
        Err(error @ Error::AccessDenied { .. }) => {
            Check::warning("stream", format!("'{name}' cannot be described: {error}"))
        }
        Err(error) => Check::failed_for("stream", format!("'{name}'"), error),
    }
}

fn describe(stream: &StreamConfig, description: &StreamDescription) -> String {
    let mode = if description.is_on_demand { "on demand" } else { "provisioned" };
    let keys = if description.distributes_records { ", distributes records itself (no order per key)" } else { "" };
    format!(
        "'{}' is {}: {}, open shards: {}, {mode}, keeps records {} h{keys}",
        stream.logical_name,
        stream.name,
        description.status,
        description.open_shards,
        description.retention.as_secs() / 3600
    )
}

/// Compares the clocks; `None` without a response of the server.
fn check_clock(kinesis: &Kinesis) -> Option<Check> {
    let location = kinesis.location();
    let ahead = kinesis.clock_ahead_millis()?;
    let words = match ahead {
        -1_000..=2_000 => format!("within a second of {location}"),
        ahead if ahead > 0 => format!("{} s ahead of {location}", ahead / 1000),
        ahead => format!("{} s behind {location}", -ahead / 1000),
    };
    Some(if ahead.abs() < SKEW_REFUSED / 2 {
        Check::passed("clock", words)
    } else {
        Check::warning("clock", format!("{words}; AWS refuses requests past 5 minutes"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_of_one_place_share_a_connection() {
        let backend = KinesisBackend::new(ConnectOptions::default().with_region("eu-west-1"));
        for name in ["a", "b"] {
            let kinesis = backend.connection(&StreamConfig::new(name)).await.unwrap();
            assert_eq!(kinesis.region(), "eu-west-1");
        }
        assert_eq!(backend.connections.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn an_invalid_region_is_an_invalid_setting() {
        let backend = KinesisBackend::new(ConnectOptions::default().with_region("eu west"));
        let error = backend.connection(&StreamConfig::new("a")).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Config, "'eu west' is not an AWS region".into()));
    }

    #[test]
    fn a_config_with_an_invalid_region_or_endpoint_is_refused() {
        for key in ["region: eu west", "region: ''", "endpoint_url: 'ftp://localhost'", "endpoint_url: ''"] {
            let text = format!("a:\n  name: a\n  partition_key: b\n  {key}\n");
            let mut registry = triton_core::Registry::new();
            registry.register(Arc::new(KinesisBackend::default()));
            let config = triton_core::Config::parse(&text, "triton.yaml").unwrap();
            assert!(registry.check(&config).is_err(), "{key}");
        }
    }
}
