//! Where Kinesis is: a region, and the endpoint of another server if there is one. Validates both; reads no files.

use std::fmt;
use std::net::IpAddr;

use aws_config::SdkConfig;
use aws_types::service_config::ServiceConfigKey;

use super::options::ConnectOptions;
use crate::error::ConnectError;

/// Region if none is configured, as in earlier Tritons.
const DEFAULT_REGION: &str = "us-east-1";

/// A valid region and, if it is not AWS, a valid endpoint.
#[derive(Clone, Debug)]
pub(super) struct Location {
    pub(super) region: String,
    /// Whether the region is the default because none was configured.
    pub(super) is_default_region: bool,
    pub(super) endpoint_url: Option<String>,
}

impl Location {
    /// The options take precedence over the SDK's config.
    pub(super) fn resolve(config: &SdkConfig, options: &ConnectOptions) -> Result<Self, ConnectError> {
        let configured = || config.region().map(|region| region.as_ref().to_owned());
        // A variable set to the empty string counts as unset.
        let region = options.region.clone().or_else(configured).filter(|region| !region.is_empty());
        let endpoint_url = options.endpoint_url.clone().or_else(|| configured_endpoint(config));
        let is_default_region = region.is_none();
        let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
        check_region(&region)?;
        if let Some(url) = &endpoint_url {
            check_endpoint(url, options.allow_insecure_endpoint)?;
        }
        Ok(Self { region, is_default_region, endpoint_url })
    }

    /// Whether connections need no TLS.
    pub(super) fn is_plain_http(&self) -> bool {
        self.endpoint_url.as_ref().is_some_and(|url| url.starts_with("http:"))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint_url {
            Some(url) => write!(f, "{} at {url}", self.region),
            None => f.write_str(&self.region),
        }
    }
}

/// The endpoint that the environment or the profile gives, for Kinesis or for every service.
fn configured_endpoint(config: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id("Kinesis").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let for_kinesis = key.ok().and_then(|key| config.service_config()?.load_config(key));
    let for_all = || config.endpoint_url().map(str::to_owned);
    for_kinesis.filter(|url| !url.is_empty()).or_else(for_all).filter(|url| !url.is_empty())
}

pub(super) fn check_region(region: &str) -> Result<(), ConnectError> {
    let is_name = !region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_name { Ok(()) } else { Err(ConnectError::InvalidRegion { region: region.to_owned() }) }
}

pub(super) fn check_endpoint(url: &str, allow_insecure: bool) -> Result<(), ConnectError> {
    let invalid = || ConnectError::InvalidEndpoint { endpoint: url.to_owned() };
    let parsed: http::Uri = url.parse().map_err(|_| invalid())?;
    let host = parsed.host().ok_or_else(invalid)?;
    match parsed.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if allow_insecure || is_loopback(host) => Ok(()),
        Some("http") => Err(ConnectError::InsecureEndpoint { endpoint: url.to_owned() }),
        _ => Err(invalid()),
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
    fn plain_http_stays_on_this_machine_unless_allowed() {
        for fine in ["https://kinesis.example", "http://localhost:4567", "http://127.0.0.9", "http://[::1]:4567/"] {
            assert!(check_endpoint(fine, false).is_ok(), "{fine}");
        }
        for insecure in ["http://kinesis.example", "http://10.0.0.1:4567", "http://localhost.example"] {
            let error = check_endpoint(insecure, false).unwrap_err();
            assert_eq!(error, ConnectError::InsecureEndpoint { endpoint: insecure.into() });
            assert!(error.to_string().contains("plain HTTP"), "{error}");
            assert!(check_endpoint(insecure, true).is_ok(), "{insecure}");
        }
        for wrong in ["", "localhost:4567", "ftp://localhost", "http://", "/tmp"] {
            let error = check_endpoint(wrong, true).unwrap_err();
            assert_eq!(error, ConnectError::InvalidEndpoint { endpoint: wrong.into() });
        }
    }

    #[test]
    fn a_region_is_a_name() {
        assert!(check_region("eu-west-1").is_ok());
        for wrong in ["", "eu west", "eu-west-1.example.com/", "x\n"] {
            let error = check_region(wrong).unwrap_err();
            assert_eq!(error, ConnectError::InvalidRegion { region: wrong.into() });
        }
    }
}
