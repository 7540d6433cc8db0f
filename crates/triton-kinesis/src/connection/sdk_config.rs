//! The SDK's config from options: credentials, HTTP client and timeouts.

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kinesis::config::SharedHttpClient;
use aws_smithy_http_client::tls;
use aws_types::service_config::ServiceConfigKey;

use super::options::ConnectOptions;

pub(super) async fn load(options: &ConnectOptions) -> SdkConfig {
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

pub(super) fn http_client() -> SharedHttpClient {
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

/// The endpoint that the environment or the profile names, for Kinesis or for every service.
pub(super) fn configured_endpoint(config: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id("Kinesis").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let of_kinesis = key.ok().and_then(|key| config.service_config()?.load_config(key));
    let for_all = || config.endpoint_url().map(str::to_owned);
    of_kinesis.filter(|url| !url.is_empty()).or_else(for_all).filter(|url| !url.is_empty())
}

/// Where credentials are looked for, in words.
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
