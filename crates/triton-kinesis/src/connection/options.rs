//! How to connect: region, endpoint, profile and timeouts, as plain data. Resolved and validated elsewhere.

use std::time::Duration;

use serde::Deserialize;
use triton_core::{Result, StreamConfig};

use super::location::{check_endpoint, check_region};
use crate::error::ConnectError;
use crate::stream_ref::StreamRef;

/// Which Kinesis to connect to, and how long to wait for it. Options that are `None` come from the environment and the
/// AWS profile; credentials always do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// AWS profile. `None`: `$AWS_PROFILE`, else `default`.
    pub profile: Option<String>,
    /// AWS region. `None`: the environment's, else the profile's, else us-east-1.
    pub region: Option<String>,
    /// URL of another Kinesis-compatible server. `None`: `$AWS_ENDPOINT_URL_KINESIS`, else `$AWS_ENDPOINT_URL`, else
    /// the profile's, else AWS.
    pub endpoint_url: Option<String>,
    /// Whether the endpoint may be plain HTTP to another machine.
    pub allow_insecure_endpoint: bool,
    /// Time to establish a connection.
    pub connect_timeout: Duration,
    /// Time for one attempt of a request, from its first byte to the last byte of the response.
    pub request_timeout: Duration,
    /// Time without any event after which a fan-out subscription counts as lost and is replaced.
    pub idle_timeout: Duration,
}

impl Default for ConnectOptions {
    /// Everything from the environment; 5 s for a connection; 30 s for a request, enough for 10 MiB at 3 Mbit/s; 15 s
    /// for a silent subscription, on which Kinesis sends an event every few seconds even if there are no records.
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

/// The keys of a stream's config that locate it.
#[derive(Deserialize)]
struct Keys {
    region: Option<String>,
    endpoint_url: Option<String>,
}

impl ConnectOptions {
    /// Region and endpoint of a stream's config. If the stream's name is an ARN, the ARN's region takes precedence over
    /// the config's.
    ///
    /// # Errors
    /// [`ConnectError::InvalidArn`] for a name that starts with `arn:` and is not a stream's ARN;
    /// [`Error::Config`](triton_core::Error::Config) for settings of a wrong type.
    pub fn of_stream(config: &StreamConfig) -> Result<Self> {
        let stream_ref = StreamRef::parse(&config.name)?;
        let Keys { region, endpoint_url } = config.settings.read()?;
        let region = stream_ref.region().map(str::to_owned).or(region);
        Ok(Self { region, endpoint_url, ..Self::default() })
    }

    /// Checks the form of region and endpoint, without any I/O.
    pub(crate) fn check(&self) -> Result<(), ConnectError> {
        self.region.as_deref().map_or(Ok(()), check_region)?;
        self.endpoint_url.as_deref().map_or(Ok(()), |url| check_endpoint(url, self.allow_insecure_endpoint))
    }

    /// These options with another AWS profile.
    pub fn with_profile(self, profile: impl Into<String>) -> Self {
        Self { profile: Some(profile.into()), ..self }
    }

    /// These options with another region.
    pub fn with_region(self, region: impl Into<String>) -> Self {
        Self { region: Some(region.into()), ..self }
    }

    /// These options with the URL of another Kinesis-compatible server.
    pub fn with_endpoint_url(self, endpoint_url: impl Into<String>) -> Self {
        Self { endpoint_url: Some(endpoint_url.into()), ..self }
    }

    /// These options with plain HTTP to other machines allowed or refused.
    pub fn with_allow_insecure_endpoint(self, allow_insecure_endpoint: bool) -> Self {
        Self { allow_insecure_endpoint, ..self }
    }

    /// These options with another time to establish a connection.
    pub fn with_connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// These options with another time for one attempt of a request.
    pub fn with_request_timeout(self, request_timeout: Duration) -> Self {
        Self { request_timeout, ..self }
    }

    /// These options with another time for a silent subscription.
    pub fn with_idle_timeout(self, idle_timeout: Duration) -> Self {
        Self { idle_timeout, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_of_an_arn_takes_precedence_over_the_config() {
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
