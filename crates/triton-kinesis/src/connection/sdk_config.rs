//! The SDK's config from options: credentials, HTTP client and timeouts. Region and endpoint are validated elsewhere.

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kinesis::config::SharedHttpClient;
use aws_smithy_http_client::tls;

use super::options::ConnectOptions;

/// Reads the environment and the AWS profile.
pub(super) async fn load(options: &ConnectOptions) -> SdkConfig {
    // Credential providers share the connections and the timeouts.
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .timeout_config(timeouts(options))
        .http_client(https_client());
    if let Some(profile) = &options.profile {
        // An explicit profile takes precedence over keys in the environment, as in the AWS CLI.
        let provider = ProfileFileCredentialsProvider::builder().profile_name(profile).build();
        loader = loader.profile_name(profile).credentials_provider(provider);
    }
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    loader.load().await
}

/// A client with a connection pool of its own.
pub(super) fn https_client() -> SharedHttpClient {
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
    aws_smithy_http_client::Builder::new().tls_provider(tls).build_https()
}

pub(super) fn timeouts(options: &ConnectOptions) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.request_timeout)
        .operation_attempt_timeout(options.request_timeout)
        // Three attempts and the waits between them.
        .operation_timeout(4 * options.request_timeout)
        .build()
}

/// The places searched for credentials, as error messages list them.
pub(super) fn credentials_searched(profile: Option<&str>) -> String {
    let from_environment = || std::env::var("AWS_PROFILE").ok().filter(|profile| !profile.is_empty());
    match profile {
        Some(profile) => format!("profile '{profile}'"),
        None => match from_environment() {
            Some(profile) => format!("environment, profile '{profile}', instance role"),
            None => "environment, profile 'default', instance role".to_owned(),
        },
    }
}
