//! How the SDK is set up: credentials, region, endpoint, timeouts, TLS.

use std::time::Duration;

use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::{Builder, Config};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use super::POLL_WAIT_SECONDS;
use crate::config::QueueConfig;

/// Time to set up a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for a short call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a long poll: its wait, and time to answer.
const POLL_TIMEOUT: Duration = Duration::from_secs(POLL_WAIT_SECONDS as u64 + 10);
/// Region where requests are not signed and none is configured.
const UNSIGNED_REGION: &str = "us-east-1";

/// Finds credentials, region and endpoint.
pub(super) async fn load(config: &QueueConfig) -> SdkConfig {
    let tls = Provider::Rustls(CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new().tls_provider(tls).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        // One layer retries, and it is ours.
        .retry_config(RetryConfig::disabled())
        // An idle long poll looks like a stalled stream.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(endpoint) = endpoint_of(config) {
        loader = loader.endpoint_url(endpoint);
    }
    if config.no_sign_request {
        loader = loader
            .credentials_provider(Credentials::new("unsigned", "unsigned", None, None, "unsigned"))
            .region(Region::new(UNSIGNED_REGION));
    }
    loader.load().await
}

/// Settings of short calls.
pub(super) fn calls(shared: &SdkConfig) -> Config {
    with_timeout(shared, CALL_TIMEOUT)
}

/// Settings of long polls.
pub(super) fn polls(shared: &SdkConfig) -> Config {
    with_timeout(shared, POLL_TIMEOUT)
}

fn with_timeout(shared: &SdkConfig, attempt: Duration) -> Config {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(attempt)
        .build();
    Builder::from(shared).timeout_config(timeouts).build()
}

/// The endpoint that was asked for, or the host of a queue URL that is not AWS's: the SDK looks
/// at the URL only for the queue's name.
fn endpoint_of(config: &QueueConfig) -> Option<String> {
    if config.endpoint_url.is_some() {
        return config.endpoint_url.clone();
    }
    let (scheme, rest) = config.queue_url.split_once("://")?;
    let authority = rest.split('/').next()?;
    let host = authority.split(':').next()?;
    let is_aws = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
    (!is_aws).then(|| format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_url_that_is_not_awss_names_the_endpoint() {
        let endpoint = |queue_url: &str, endpoint_url: Option<&str>| {
            endpoint_of(&QueueConfig {
                queue_url: queue_url.to_string(),
                endpoint_url: endpoint_url.map(ToString::to_string),
                no_sign_request: false,
            })
        };
        let local = "http://127.0.0.1:9324/000000000000/listings";
        assert_eq!(endpoint(local, None).as_deref(), Some("http://127.0.0.1:9324"));
        assert_eq!(endpoint(local, Some("http://x")).as_deref(), Some("http://x"));
        assert_eq!(endpoint("https://sqs.eu-west-1.amazonaws.com/1/q", None), None);
    }
}
