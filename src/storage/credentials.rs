//! The AWS chain's credentials, renewed during a run: before they expire, and once more when S3 reports that they have.
//!
//! `client` gives them to the SDK in place of its own cache, which cannot be cleared; `retry` and `commit` ask for new
//! ones. Static credentials (`S3_ACCESS_KEY`) cannot be renewed.

use std::time::{Duration, SystemTime};

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, future};
use aws_sdk_s3::config::{Credentials, ProvideCredentials, Region, SharedCredentialsProvider};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::error_chain::Chain;

use super::{StorageError, connector};

/// How long before their expiry credentials are renewed; short-lived ones at half of their life.
const MARGIN: Duration = Duration::from_mins(1);
/// A source (a `credential_process`, for example) that takes longer does not answer. The SDK bounds its other sources,
/// but not this one.
const DEADLINE: Duration = Duration::from_secs(30);

/// The AWS chain, and its last credentials.
#[derive(Debug)]
pub(super) struct RenewableCredentials {
    region: Region,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    credentials: Credentials,
    since: Instant,
    /// `None` if they do not expire.
    renew_at: Option<SystemTime>,
}

impl RenewableCredentials {
    /// Asks the chain, so that missing credentials are reported before anything else is done.
    ///
    /// # Errors
    /// [`StorageError::NoCredentials`] with each source's message.
    pub async fn ask(region: Region) -> Result<Self, StorageError> {
        match ask_chain(&region).await {
            Ok(credentials) => Ok(Self { region, held: Mutex::new(Held::new(credentials)) }),
            Err(error) => Err(StorageError::NoCredentials { reason: error.to_string() }),
        }
    }

    /// Whether there are newer credentials than those of a request that began `then` and was refused as expired. Asks
    /// the chain, unless another request has done so since.
    pub async fn renew(&self, then: Instant) -> bool {
        let mut held = self.held.lock().await;
        if held.since > then {
            return true;
        }
        match ask_chain(&self.region).await {
            Ok(credentials) if is_other(&credentials, &held.credentials) => {
                tracing::info!("S3 says that the credentials have expired: they were renewed");
                *held = Held::new(credentials);
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%error, "S3 says that the credentials have expired, and there are no new ones");
                false
            }
        }
    }

    async fn current(&self) -> provider::Result {
        let mut held = self.held.lock().await;
        if held.is_fresh() {
            return Ok(held.credentials.clone());
        }
        match ask_chain(&self.region).await {
            Ok(credentials) => *held = Held::new(credentials),
            // As a rule the source is out of reach for a moment: valid credentials stay in use.
            Err(error) if held.is_valid() => {
                tracing::warn!(%error, "cannot renew the credentials yet, which expire soon");
            }
            Err(error) => return Err(CredentialsError::provider_error(error)),
        }
        Ok(held.credentials.clone())
    }
}

impl ProvideCredentials for RenewableCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.current())
    }
}

impl Held {
    fn new(credentials: Credentials) -> Self {
        let now = SystemTime::now();
        let renew_at = credentials.expiry().map(|expiry| {
            let life = expiry.duration_since(now).unwrap_or_default();
            now + life.saturating_sub(MARGIN).max(life / 2)
        });
        Self { credentials, since: Instant::now(), renew_at }
    }

    fn is_fresh(&self) -> bool {
        self.renew_at.is_none_or(|at| SystemTime::now() < at)
    }

    fn is_valid(&self) -> bool {
        self.credentials.expiry().is_none_or(|expiry| SystemTime::now() < expiry)
    }
}

fn is_other(new: &Credentials, old: &Credentials) -> bool {
    (new.access_key_id(), new.session_token()) != (old.access_key_id(), old.session_token())
}

/// No source of the chain gave credentials: the message of each.
#[derive(Debug, thiserror::Error)]
#[error("{}", said.join("; "))]
struct NothingGiven {
    said: Vec<String>,
}

/// Asks one source after the other, in the order of the SDK's default chain, and keeps each one's message. Builds the
/// chain again each time, because the sources cache the profile's files.
async fn ask_chain(region: &Region) -> Result<Credentials, NothingGiven> {
    let mut said = Vec::new();
    for (name, source) in sources(region) {
        match timeout(DEADLINE, source.provide_credentials()).await {
            Ok(Ok(credentials)) => return Ok(credentials),
            // Not configured: the next source may be.
            Ok(Err(error @ CredentialsError::CredentialsNotLoaded(_))) => {
                said.push(format!("{name}: {}", cause_of(&error)));
            }
            // Configured, so no other source is meant.
            Ok(Err(error)) => return Err(NothingGiven { said: vec![format!("{name}: {}", cause_of(&error))] }),
            Err(_) => {
                return Err(NothingGiven { said: vec![format!("{name}: no answer within {} s", DEADLINE.as_secs())] });
            }
        }
    }
    Err(NothingGiven { said })
}

/// The SDK's default chain (`DefaultCredentialsChain`), in its order.
fn sources(region: &Region) -> [(&'static str, SharedCredentialsProvider); 5] {
    let configuration =
        ProviderConfig::default().with_region(Some(region.clone())).with_http_client(connector::past_proxies());
    let profile = ProfileFileCredentialsProvider::builder().configure(&configuration).build();
    let web_identity = WebIdentityTokenCredentialsProvider::builder().configure(&configuration).build();
    let container = EcsCredentialsProvider::builder().configure(&configuration).build();
    let instance = ImdsCredentialsProvider::builder().configure(&configuration).build();
    [
        ("environment", SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new())),
        ("profile", SharedCredentialsProvider::new(profile)),
        ("web identity", SharedCredentialsProvider::new(web_identity)),
        ("container", SharedCredentialsProvider::new(container)),
        ("instance", SharedCredentialsProvider::new(instance)),
    ]
}

/// The source's message, without the SDK's sentence around it.
fn cause_of(error: &CredentialsError) -> String {
    std::error::Error::source(error).map_or_else(|| "not configured".to_owned(), |cause| Chain(cause).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(life: Option<Duration>) -> Held {
        let expiry = life.map(|life| SystemTime::now() + life);
        Held::new(Credentials::new("key", "secret", None, expiry, "test"))
    }

    #[test]
    fn credentials_are_renewed_a_minute_before_their_end_or_at_half_of_their_life() {
        for (life, renewed_after) in [(3600, 3540), (90, 45), (40, 20)] {
            let began = Instant::now();
            let held = held(Some(Duration::from_secs(life)));
            let expiry = held.credentials.expiry().expect("they expire");
            let left = expiry.duration_since(held.renew_at.expect("they are renewed")).expect("before the end");
            let wanted = Duration::from_secs(life - renewed_after);
            // A little of its life has passed before it was stored.
            assert!(left <= wanted && wanted.abs_diff(left) <= began.elapsed(), "{life}: {left:?} left");
            assert!(held.is_fresh() && held.is_valid(), "{life}");
        }
        assert!(held(None).is_fresh());
        let expired = held(Some(Duration::ZERO));
        assert!(!expired.is_fresh() && !expired.is_valid());
    }

    #[test]
    fn the_same_key_with_another_token_is_another_credential() {
        let credentials = |token: &str| Credentials::new("key", "secret", Some(token.to_owned()), None, "test");
        assert!(is_other(&credentials("new"), &credentials("old")));
        assert!(!is_other(&credentials("old"), &credentials("old")));
    }
}
