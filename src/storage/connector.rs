//! HTTP clients for the SDK, instead of its default: one that watches its requests and may trust a CA bundle, one without
//! the proxy for metadata services.
//!
//! Called by `client` and `credentials`. Proxies come from the environment.

use std::net::IpAddr;

use aws_sdk_s3::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use http::Uri;

use super::watchdog::Watched;
use super::{CaBundle, StorageError};

/// The network of EC2's IPv6 metadata service (EC2 user guide, "Access instance metadata").
const EC2_NETWORK: [u16; 2] = [0xfd00, 0xec2];

/// The HTTP client for S3. Its requests are watched; it trusts the system's roots, or a bundle and nothing else. The
/// connector is built by hand, because `build_https()` drops the proxy settings.
///
/// # Errors
/// [`StorageError::TrustStore`] if the bundle cannot be used.
pub(super) fn watched(bundle: Option<&CaBundle>) -> Result<SharedHttpClient, StorageError> {
    let context = match bundle {
        None => TlsContext::default(),
        Some(bundle) => TlsContext::builder()
            .with_trust_store(TrustStore::empty().with_pem_certificate(bundle.pem()))
            .build()
            .map_err(|error| StorageError::TrustStore { reason: crate::error_chain::Chain(&error).to_string() })?,
    };
    Ok(SharedHttpClient::new(Watched(proxied(context))))
}

/// An HTTP client with the system's roots that asks metadata services without the proxy. A proxy would return the
/// identity of its own host for 169.254.169.254, or nothing.
pub(super) fn past_proxies() -> SharedHttpClient {
    let direct = Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = Connector::builder().proxy_config(ProxyConfig::disabled());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.build_http()
    });
    SharedHttpClient::new(PastProxies { proxied: proxied(TlsContext::default()), direct })
}

fn proxied(context: TlsContext) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder().proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context.clone()).build()
    })
}

/// Two clients; each request's address chooses one.
#[derive(Debug)]
struct PastProxies {
    proxied: SharedHttpClient,
    direct: SharedHttpClient,
}

#[derive(Debug)]
struct PastProxiesConnector {
    proxied: SharedHttpConnector,
    direct: SharedHttpConnector,
}

impl HttpClient for PastProxies {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(PastProxiesConnector {
            proxied: self.proxied.http_connector(settings, components),
            direct: self.direct.http_connector(settings, components),
        })
    }
}

impl HttpConnector for PastProxiesConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if is_metadata_service(request.uri()) { self.direct.call(request) } else { self.proxied.call(request) }
    }
}

/// Whether a URL is a metadata service's: plain HTTP to this host itself, or to a link-local address (EC2, ECS, EKS).
fn is_metadata_service(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_near = match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.segments().starts_with(&EC2_NETWORK),
        Err(_) => host == "localhost",
    };
    uri.scheme_str() == Some("http") && is_near
}

#[cfg(test)]
mod tests {
    use super::is_metadata_service;

    #[test]
    fn metadata_services_are_known_by_their_addresses() {
        for (url, is_beside) in [
            ("http://169.254.169.254/latest/api/token", true),
            ("http://169.254.170.23/v1/credentials", true),
            ("http://[fd00:ec2::254]/latest/api/token", true),
            ("http://127.0.0.1:51679/v2/credentials", true),
            ("http://localhost:8080/", true),
            ("https://sts.eu-west-1.amazonaws.com/", false),
            ("https://127.0.0.1/", false),
            ("http://10.0.0.1/", false),
            ("http://[fd00:ec3::1]/", false),
        ] {
            assert_eq!(is_metadata_service(url), is_beside, "{url}");
        }
    }
}
