//! Pings `PING_URL/start`, `PING_URL` and `PING_URL/fail` as healthchecks.io defines, so that a service notices missing backups.
//!
//! `commands` sends them around each run. A ping can neither fail nor delay a run: the first is sent in the background, the last
//! has a deadline, and a failed one is a warning. The URL is a secret: anyone who knows it can ping.

use std::time::Duration;

use http::Uri;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::storage::WebClient;

/// The time limit of one attempt, and the number of attempts.
const ATTEMPT: Duration = Duration::from_secs(3);
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);
/// The time limit of all attempts after a run.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The same while the program stops.
pub const SHORT_PATIENCE: Duration = Duration::from_secs(2);
/// healthchecks.io stores the first 100 kB.
const LONGEST_BODY: usize = 10_000;

/// `PING_URL`, checked.
#[derive(Clone, Debug)]
pub struct PingUrl {
    /// The URL without query and trailing slash.
    base: SecretString,
    /// The query with its question mark.
    query: SecretString,
}

impl PingUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// Why it is invalid; never with the URL.
    pub fn parse(text: &str) -> Result<Self, String> {
        // No example path here: if it equals the user's, the redactor would hide it.
        if text.split_once("://").is_none_or(|(scheme, _)| !matches!(scheme, "http" | "https")) {
            return Err("must begin with https:// or http://".to_owned());
        }
        let uri: Uri =
            text.parse().map_err(|_| "is not a URL: look for white space and for a wrong port".to_owned())?;
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err("must name a host, without user and password".to_owned());
        }
        let text = text.split_once('#').map_or(text, |(text, _)| text);
        let (base, query) = text.split_once('?').map_or((text, String::new()), |(base, query)| {
            // Kept unchanged: `?create=1`, `?rid=…`.
            (base, format!("?{query}"))
        });
        Ok(Self { base: base.trim_end_matches('/').to_owned().into(), query: query.into() })
    }

    /// The parts of a URL that let others ping: the URL and everything after its host, valid or not, for the redactor.
    pub fn secrets(text: &str) -> impl Iterator<Item = String> {
        /// Shorter pieces are words such as `ping`.
        const SHORTEST: usize = 8;
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let (host, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let behind = behind.trim_matches('/');
        let (path, query) = behind.split_once('?').unwrap_or((behind, ""));
        let pieces = path.split('/').chain(query.split(['&', '='])).chain([path, query]);
        let pieces = pieces.filter(|piece| piece.len() >= SHORTEST);
        // A host alone is no secret. A bare word may be the identifier without its URL.
        let is_host = behind.is_empty() && !host.contains('@') && (!scheme.is_empty() || host.contains('.'));
        let whole = (!is_host).then_some(text);
        pieces.chain(whole).map(str::to_owned).collect::<Vec<_>>().into_iter()
    }

    /// Connects to its host without sending a ping. The text names only host and port.
    ///
    /// # Errors
    /// Why the host is unreachable.
    pub async fn connect(&self, limit: Duration) -> Result<String, String> {
        let uri: Uri = self.base.expose_secret().parse().map_err(|_| "it is not a URL".to_owned())?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let host = uri.host().unwrap_or_default();
        if let Some(variable) = proxy_in_force() {
            return Ok(format!("pings go to {host}:{port} by the proxy of {variable}, which was not tried"));
        }
        let address = (host.trim_matches(['[', ']']).to_owned(), port);
        match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Ok(format!("{host}:{port} accepts connections; no ping was sent")),
            Ok(Err(error)) => Err(format!("{host}:{port} cannot be reached: {error}")),
            Err(_) => Err(format!("{host}:{port} does not answer within {}", humantime::format_duration(limit))),
        }
    }

    fn with(&self, suffix: &str) -> SecretString {
        format!("{}{suffix}{}", self.base.expose_secret(), self.query.expose_secret()).into()
    }
}

/// The pings of one run.
#[derive(Debug)]
pub struct Pings {
    url: PingUrl,
    start: Option<JoinHandle<()>>,
}

impl Pings {
    /// Sends the start ping in the background. Must be called within a tokio runtime.
    #[must_use]
    pub fn begin(url: PingUrl) -> Self {
        let start = tokio::spawn(send(url.with("/start"), String::new()));
        Self { url, start: Some(start) }
    }

    /// Pings of a run without a start ping.
    #[must_use]
    pub fn only(url: PingUrl) -> Self {
        Self { url, start: None }
    }

    /// Reports success.
    pub async fn succeeded(self, summary: String) {
        self.end("", summary, PATIENCE).await;
    }

    /// Reports a failure and its cause.
    pub async fn failed(self, cause: String, patience: Duration) {
        self.end("/fail", cause, patience).await;
    }

    async fn end(self, suffix: &str, mut text: String, patience: Duration) {
        // A late start ping must not arrive after the last one.
        if let Some(start) = &self.start {
            start.abort();
        }
        text.truncate(text.floor_char_boundary(LONGEST_BODY));
        // A task of its own, so that not even a panic in there reaches the run.
        let mut sending = tokio::spawn(send(self.url.with(suffix), text));
        match tokio::time::timeout(patience, &mut sending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "PING_URL was not reached"),
            Err(_) => {
                sending.abort();
                let error = format!("no answer within {}", humantime::format_duration(patience));
                tracing::warn!(error, "PING_URL was not reached");
            }
        }
    }
}

/// The variable that sends pings through a proxy, as [`WebClient`] reads them.
fn proxy_in_force() -> Option<&'static str> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].into_iter().find(is_set)
}

async fn send(url: SecretString, text: String) {
    let client = WebClient::new();
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        let error = match client.post(&url, text.clone(), ATTEMPT).await {
            Ok(200..300) => return,
            Ok(status) => format!("it answered {status}"),
            Err(error) => error,
        };
        if left == 0 {
            tracing::warn!(error, "PING_URL was not reached");
            return;
        }
        tracing::debug!(error, left, "PING_URL was not reached yet");
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_stands_before_the_query() {
        for (url, start) in [
            ("https://hc-ping.com/uuid", "https://hc-ping.com/uuid/start"),
            ("https://hc-ping.com/uuid/", "https://hc-ping.com/uuid/start"),
            ("http://host:8000/ping/key/slug?create=1&rid=2", "http://host:8000/ping/key/slug/start?create=1&rid=2"),
            ("http://host", "http://host/start"),
            ("http://host/a#b", "http://host/a/start"),
        ] {
            let parsed = PingUrl::parse(url).expect(url);
            assert_eq!(parsed.with("/start").expose_secret(), start);
        }
        let plain = PingUrl::parse("https://h/uuid?x=y").expect("a URL");
        assert_eq!(plain.with("").expose_secret(), "https://h/uuid?x=y");
        for wrong in ["uuid", "ftp://h/x", "https://", "https://u:p@h/x", "/x", "not a url"] {
            let why = PingUrl::parse(wrong).expect_err(wrong);
            assert!(!why.contains("u:p"), "{why}");
        }
    }

    #[test]
    fn the_path_and_its_pieces_are_secrets() {
        let secrets: Vec<String> = PingUrl::secrets("https://h/ping/0123-4567-89/x?rid=abcdefgh").collect();
        let url = "https://h/ping/0123-4567-89/x?rid=abcdefgh";
        assert_eq!(secrets, ["0123-4567-89", "abcdefgh", "ping/0123-4567-89/x", "rid=abcdefgh", url]);
        let secrets = |text: &str| PingUrl::secrets(text).collect::<Vec<_>>();
        // However wrong the URL is; its host and its scheme may be named.
        assert_eq!(secrets("hc-ping.com/0123-4567-89"), ["0123-4567-89", "0123-4567-89", "hc-ping.com/0123-4567-89"]);
        assert_eq!(secrets("0123-4567-89"), ["0123-4567-89"]);
        for harmless in ["https://", "https://hc-ping.com", "hc-ping.com", "https://hc-ping.com/"] {
            assert_eq!(secrets(harmless), [""; 0], "{harmless}");
        }
    }

    #[test]
    fn what_is_wrong_can_be_read_although_the_url_is_hidden() {
        for (url, why) in [("hc-ping.com/uuid", "must begin with https://"), ("https://h/a b", "is not a URL")] {
            let text = PingUrl::parse(url).expect_err(url);
            assert!(text.contains(why), "{text}");
            assert!(PingUrl::secrets(url).all(|secret| !text.contains(&secret)), "{text}");
        }
    }
}
