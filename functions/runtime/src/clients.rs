use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_smithy_http_client::{
    Builder, HttpClientError,
    tls::{Provider, TlsContext, rustls_provider::CryptoMode},
};

use crate::{SettingError, Settings, trust};

/// One attempt of one call. AWS answers in tens of milliseconds; what takes longer than this is
/// better asked again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Few attempts with a short backoff: what still fails goes back to a queue, which waits for
/// nothing, while a function that sleeps is billed.
const ATTEMPTS: u32 = 3;
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error("TLS cannot be set up")]
    Tls(#[from] HttpClientError),
}

/// What all SDK clients of a function share, one HTTP client above all: each client would otherwise
/// keep connections of its own and read the root certificates again.
///
/// TLS is rustls on ring. AWS-LC, the SDK's default, gathers CPU-jitter entropy in its first
/// handshake: some 20 ms of CPU at every cold start.
pub async fn sdk_config(settings: &Settings<'_>) -> Result<SdkConfig, ConfigError> {
    let tls = TlsContext::builder().with_trust_store(trust::store(settings)?).build()?;
    let http_client = Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls)
        .build_https();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client)
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(ATTEMPTS)
                .with_initial_backoff(INITIAL_BACKOFF)
                .with_max_backoff(MAX_BACKOFF),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                .build(),
        )
        .load()
        .await;
    Ok(config)
}
