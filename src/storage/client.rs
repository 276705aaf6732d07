//! Builds the S3 client: credentials, region, trust store, timeouts and the SDK's own retries.
//!
//! Called by [`super::Destination::open`]. Sets every SDK default explicitly that does not fit a backup.

use std::sync::Arc;
use std::time::Duration;

use aws_config::default_provider::region::DefaultRegionChain;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::region::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Credentials, IdentityCache, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use secrecy::ExposeSecret;

use super::credentials::RenewableCredentials;
use super::{S3Settings, StaticCredentials, StorageError, connector};

/// AWS's own region if nothing names one; self-hosted servers accept it.
const DEFAULT_REGION: &str = "us-east-1";
/// Attempts of the SDK's own retries.
const ATTEMPTS: u32 = 3;
/// First pause of the SDK's own retries. Short, because `retry` waits for longer outages.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// A host that does not complete a TCP handshake in this time does not exist.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client, and its credentials if they can be renewed.
pub(super) struct Built {
    pub client: Client,
    pub renewable: Option<Arc<RenewableCredentials>>,
    /// The store's URL, which a profile may have; `None` for AWS.
    pub url: Option<String>,
}

/// Builds the client.
///
/// # Errors
/// [`StorageError::NoCredentials`] if neither the settings nor the AWS chain have any;
/// [`StorageError::TrustStore`] if the CA bundle cannot be used.
pub(super) async fn build(settings: &S3Settings) -> Result<Built, StorageError> {
    let region = region(settings).await;
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(settings.request_timeout))
        // The longest time without progress, as `watchdog` measures it: the SDK's own timeouts include transfers that
        // progress.
        .read_timeout(settings.request_timeout)
        .build();
    let loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(region.clone())
        // `retry_mode=legacy` in a profile would panic in the SDK without this.
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(FIRST_BACKOFF))
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    let (loader, renewable) = if let Some(credentials) = &settings.credentials {
        (loader.credentials_provider(static_credentials(credentials)), None)
    } else {
        let renewable = Arc::new(RenewableCredentials::ask(region).await?);
        let provider = SharedCredentialsProvider::from(Arc::clone(&renewable) as Arc<_>);
        // `RenewableCredentials` caches them itself.
        (loader.credentials_provider(provider).identity_cache(IdentityCache::no_cache()), Some(renewable))
    };
    let config = loader.load().await;
    let of_profile = || config.endpoint_url().map(str::to_owned);
    let url = settings.endpoint.as_ref().map(|endpoint| endpoint.url().to_owned()).or_else(of_profile);
    let mut builder = Builder::from(&config)
        .http_client(connector::watched(settings.ca_bundle.as_ref())?)
        .force_path_style(settings.force_path_style)
        // Parts carry their checksum as a plain header: several servers refuse or store an `aws-chunked` trailer.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.endpoint_url(endpoint.url_before_bucket());
    }
    Ok(Built { client: Client::from_conf(builder.build()), renewable, url })
}

async fn region(settings: &S3Settings) -> Region {
    match &settings.region {
        Some(region) => Region::new(region.clone()),
        None if settings.is_aws() => {
            let chain = DefaultRegionChain::builder().build();
            chain.region().await.unwrap_or_else(|| Region::new(DEFAULT_REGION))
        }
        // With static credentials, the server's URL is complete.
        None if settings.credentials.is_some() => Region::new(DEFAULT_REGION),
        None => {
            // Another store has a region that an AWS instance does not know, and elsewhere asking for it costs a
            // timeout.
            let environment = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
            let chain = environment.or_else(ProfileFileRegionProvider::new());
            chain.region().await.unwrap_or_else(|| Region::new(DEFAULT_REGION))
        }
    }
}

fn static_credentials(credentials: &StaticCredentials) -> Credentials {
    let token = credentials.session_token.as_ref().map(|token| token.expose_secret().to_owned());
    let (access, secret) = (credentials.access_key.expose_secret(), credentials.secret_key.expose_secret());
    Credentials::new(access, secret, token, None, "settings")
}
