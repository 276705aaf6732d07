//! A plain HTTP request with the SDK's client, for `telemetry::ping`: the same TLS, the system's roots, and the proxies
//! of the environment, without a second HTTP stack. It knows nothing of S3.

use std::time::Duration;

use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use secrecy::{ExposeSecret, SecretString};

use crate::error_chain::Chain;

/// A client for occasional requests.
#[derive(Debug)]
pub struct WebClient(Connector);

impl WebClient {
    /// Reads the system's roots and the proxy settings.
    #[must_use]
    pub fn new() -> Self {
        let connector = Connector::builder().proxy_config(ProxyConfig::from_env());
        Self(connector.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build())
    }

    /// Posts a text and returns the answer's status.
    ///
    /// # Errors
    /// Why there was no answer in time. Never contains the URL.
    pub async fn post(&self, url: &SecretString, text: String, limit: Duration) -> Result<u16, String> {
        let mut request = HttpRequest::new(SdkBody::from(text));
        request.set_method("POST").map_err(|error| error.to_string())?;
        request.set_uri(url.expose_secret()).map_err(|_| "the URL cannot be used".to_owned())?;
        request.headers_mut().insert("content-type", "text/plain; charset=utf-8");
        request.headers_mut().insert("user-agent", concat!("pg-s3-backup/", env!("CARGO_PKG_VERSION")));
        match tokio::time::timeout(limit, self.0.call(request)).await {
            Ok(Ok(response)) => Ok(response.status().as_u16()),
            Ok(Err(error)) => Err(Chain(&error).to_string()),
            Err(_) => Err(format!("no answer within {}", humantime::format_duration(limit))),
        }
    }
}

impl Default for WebClient {
    fn default() -> Self {
        Self::new()
    }
}
