//! Builds the S3 client: credentials, region, trust store, timeouts and the SDK's own retries.
//!
//! Called by [`super::Destination::open`]. Everything that FACTS §1 found surprising in the SDK's defaults is set
//! explicitly here.

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

/// AWS's own region where nothing names one; self-hosted servers accept it.
const DEFAULT_REGION: &str = "us-east-1";
/// Attempts of the inner retry layer (SPEC §6).
const ATTEMPTS: u32 = 3;
/// First pause of the inner layer. Short, because the outer layer is the patient one.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// A host that does not complete a TCP handshake by then is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client, and the credentials after it where they can be renewed.
pub(super) struct Built {
    pub client: Client,
    pub renewable: Option<Arc<RenewableCredentials>>,
}

/// Builds the client.
///
/// # Errors
/// [`StorageError::NoCredentials`] where neither the settings nor the AWS chain have any;
/// [`StorageError::TrustStore`] where the CA bundle cannot be used.
pub(super) async fn build(settings: &S3Settings) -> Result<Built, StorageError> {
    let region = region(settings).await;
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(settings.request_timeout))
        // The longest time without progress, as `watchdog` counts it: the SDK's own timeouts count what moves, too.
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
        // They are kept there, where they can be renewed.
        (loader.credentials_provider(provider).identity_cache(IdentityCache::no_cache()), Some(renewable))
    };
    let config = loader.load().await;
    let mut builder = Builder::from(&config)
        .http_client(connector::watched(settings.ca_bundle.as_ref())?)
        .force_path_style(settings.force_path_style)
        // Checksums are computed where parts are sealed and sent as plain headers: no `aws-chunked` trailer, which
        // several servers refuse or store (FACTS §2).
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.endpoint_url(endpoint.url_before_bucket());
    }
    Ok(Built { client: Client::from_conf(builder.build()), renewable })
}

async fn region(settings: &S3Settings) -> Region {
    match &settings.region {
        Some(region) => Region::new(region.clone()),
        None if settings.is_aws() => {
            let chain = DefaultRegionChain::builder().build();
            chain.region().await.unwrap_or_else(|| Region::new(DEFAULT_REGION))
        }
        // Static credentials belong to a server that is named in full.
        None if settings.credentials.is_some() => Region::new(DEFAULT_REGION),
        None => {
            // An instance of AWS does not know the region of another store, and elsewhere asking it costs its timeout.
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
