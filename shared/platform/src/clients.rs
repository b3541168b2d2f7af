use std::time::Duration;

use aws_config::{
    BehaviorVersion, Region, SdkConfig, environment::EnvironmentVariableCredentialsProvider,
    retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_sqs::config::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::HttpClient;

use crate::{Settings, connector::Connector, trust::Trust};

/// One attempt of one call. AWS answers in tens of milliseconds; what takes longer than this is
/// better asked again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Few attempts with a short backoff: what still fails goes back to a queue, where waiting is free,
/// while a function that sleeps is billed.
pub const SDK_ATTEMPTS: u32 = 3;
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// What all SDK clients of a function share, one HTTP client above all: each client would otherwise
/// keep connections of its own.
///
/// It is put together here because `aws_config::load` looks for credentials everywhere, for which it
/// makes clients of STS and of EC2's metadata: half of what there is to initialise, for a function
/// whose credentials and region are always in its environment.
///
/// TLS is rustls on ring. AWS-LC, the SDK's default, gathers CPU-jitter entropy in its first
/// handshake: some 20 ms of CPU at every cold start.
pub fn sdk_config(settings: &Settings<'_>) -> SdkConfig {
    let mut config = sdk_defaults(Connector::new(Trust::read(settings)))
        .into_builder()
        .credentials_provider(SharedCredentialsProvider::new(
            EnvironmentVariableCredentialsProvider::new(),
        ))
        .region(Region::new(settings.required("AWS_REGION")));
    config.set_endpoint_url(settings.optional("AWS_ENDPOINT_URL"));
    config.set_use_fips(settings.optional("AWS_USE_FIPS_ENDPOINT"));
    config.set_use_dual_stack(settings.optional("AWS_USE_DUALSTACK_ENDPOINT"));
    config.build()
}

/// How often and for how long every SDK client tries, over any HTTP client. Tests build their clients
/// from this too, so that they try as the deployed functions do.
pub fn sdk_defaults(http_client: impl HttpClient + 'static) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http_client)
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(SDK_ATTEMPTS)
                .with_initial_backoff(INITIAL_BACKOFF)
                .with_max_backoff(MAX_BACKOFF),
        )
        .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).build())
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SettingsError, settings::lookup_in};

    fn with(settings: &[(&str, &str)]) -> Result<SdkConfig, SettingsError> {
        Settings::from_lookup(&lookup_in(settings), sdk_config)
    }

    #[test]
    fn what_the_environment_says_of_endpoints_is_heeded() {
        let plain = with(&[("AWS_REGION", "eu-west-1")]).expect("set up");
        assert_eq!(plain.region().map(AsRef::as_ref), Some("eu-west-1"));
        assert_eq!(
            (plain.endpoint_url(), plain.use_fips(), plain.use_dual_stack()),
            Default::default()
        );

        let special = with(&[
            ("AWS_REGION", "us-gov-west-1"),
            ("AWS_ENDPOINT_URL", "https://127.0.0.1:4566"),
            ("AWS_USE_FIPS_ENDPOINT", "true"),
            ("AWS_USE_DUALSTACK_ENDPOINT", "true"),
        ])
        .expect("set up");
        assert_eq!(special.endpoint_url(), Some("https://127.0.0.1:4566"));
        assert_eq!((special.use_fips(), special.use_dual_stack()), (Some(true), Some(true)));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = |settings| with(settings).expect_err("refused").to_string();
        assert!(error(&[]).contains("not set: AWS_REGION"), "{}", error(&[]));
        assert_eq!(
            error(&[("AWS_REGION", "eu-west-1"), ("AWS_USE_FIPS_ENDPOINT", "yes")]),
            "environment variable AWS_USE_FIPS_ENDPOINT is \"yes\": \
             provided string was not `true` or `false`"
        );
    }
}
