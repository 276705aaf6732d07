//! Builds the S3 client: credentials, region, trust store, timeouts and the SDK's own retries.
//!
//! Called by [`super::Destination::open`]. Everything that FACTS §1 found surprising in the SDK's defaults is set
//! explicitly here.

use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::default_provider::region::DefaultRegionChain;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Credentials, ProvideCredentials, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder as HttpBuilder, Connector};
use secrecy::ExposeSecret;

use super::{CaBundle, S3Settings, StaticCredentials, StorageError};

/// AWS's own region where nothing names one; self-hosted servers accept it.
const DEFAULT_REGION: &str = "us-east-1";
/// Attempts of the inner retry layer (SPEC §6).
const ATTEMPTS: u32 = 3;
/// First pause of the inner layer. Short, because the outer layer is the patient one.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// A host that does not complete a TCP handshake by then is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Builds the client.
///
/// # Errors
/// [`StorageError::NoCredentials`] where neither the settings nor the AWS chain have any;
/// [`StorageError::TrustStore`] where the CA bundle cannot be used.
pub async fn build(settings: &S3Settings) -> Result<Client, StorageError> {
    let region = region(settings).await;
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(settings.request_timeout))
        .operation_attempt_timeout(settings.request_timeout)
        .build();
    let loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(region.clone())
        // `retry_mode=legacy` in a profile would panic in the SDK without this.
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(FIRST_BACKOFF))
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().upload_enabled(false).build());
    let loader = match &settings.credentials {
        Some(credentials) => loader.credentials_provider(static_credentials(credentials)),
        None => loader.credentials_provider(chain(region).await?),
    };
    let config = loader.load().await;
    let mut builder = Builder::from(&config)
        .force_path_style(settings.force_path_style)
        // Checksums are computed where parts are sealed and sent as plain headers: no `aws-chunked` trailer, which
        // several servers refuse or store (FACTS §2).
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.endpoint_url(endpoint.url());
    }
    if let Some(bundle) = &settings.ca_bundle {
        builder = builder.http_client(trusting(bundle)?);
    }
    Ok(Client::from_conf(builder.build()))
}

async fn region(settings: &S3Settings) -> Region {
    match &settings.region {
        Some(region) => Region::new(region.clone()),
        // Static credentials belong to a server that is named in full: asking the instance for a region would only
        // cost its timeout.
        None if settings.credentials.is_some() && settings.endpoint.is_some() => Region::new(DEFAULT_REGION),
        None => {
            let chain = DefaultRegionChain::builder().build();
            chain.region().await.unwrap_or_else(|| Region::new(DEFAULT_REGION))
        }
    }
}

fn static_credentials(credentials: &StaticCredentials) -> Credentials {
    let token = credentials.session_token.as_ref().map(|token| token.expose_secret().to_owned());
    let (access, secret) = (credentials.access_key.expose_secret(), credentials.secret_key.expose_secret());
    Credentials::new(access, secret, token, None, "settings")
}

/// The whole AWS chain, asked once, so that its having nothing is said before anything else is done.
async fn chain(region: Region) -> Result<DefaultCredentialsChain, StorageError> {
    let chain = DefaultCredentialsChain::builder().region(region).build().await;
    match chain.provide_credentials().await {
        Ok(_) => Ok(chain),
        Err(error) => Err(StorageError::NoCredentials { reason: crate::error::Chain(&error).to_string() }),
    }
}

/// An HTTP client that trusts a bundle and nothing else. `build_https()` would drop the proxy settings (FACTS §1), so
/// the connector is made by hand.
fn trusting(bundle: &CaBundle) -> Result<SharedHttpClient, StorageError> {
    let store = TrustStore::empty().with_pem_certificate(bundle.pem());
    let context = TlsContext::builder()
        .with_trust_store(store)
        .build()
        .map_err(|error| StorageError::TrustStore { reason: crate::error::Chain(&error).to_string() })?;
    Ok(HttpBuilder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder().proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(aws_sdk_s3::config::RuntimeComponents::sleep_impl));
        connector.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context.clone()).build()
    }))
}
