//! How to connect: region, endpoint, profile and timeouts.

use std::time::Duration;

use triton_core::{Result, StreamConfig};

use crate::stream_ref::StreamRef;

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

impl ConnectOptions {
    /// What a stream's config says: its region and endpoint. An ARN as its name says the region too, and wins.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that starts as an ARN and is none.
    pub fn of_stream(config: &StreamConfig) -> Result<Self> {
        let stream_ref = StreamRef::parse(&config.name)?;
        let region = stream_ref.region().map(str::to_owned).or_else(|| config.region.clone());
        Ok(Self { region, endpoint_url: config.endpoint_url.clone(), ..Self::default() })
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

#[cfg(test)]
mod tests {
    use super::*;

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
