//! Parses a libpq connection string, removes the secrets, and renders the rest as `key='value'` words.
//!
//! `config` parses; `session` and `dump` render. A secret must not appear in arguments (`/proc/PID/cmdline` is world-readable),
//! so `password` goes into `PGPASSWORD`, and other secrets into a service file (`service_file`). Both grammars follow libpq's
//! `conninfo_parse` and `conninfo_uri_parse_options` (`fe-connect.c`), because a connection string must mean the same here as
//! for `pg_dump`.

mod uri;
mod words;

use std::fmt;

use secrecy::SecretString;

/// What is wrong with a connection string, without its text: an unexpected word is usually part of an unquoted password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConninfoError {
    /// Neither of the two forms.
    #[error("is neither a URI (postgresql://user@host/database) nor `key=value` words")]
    NeitherForm,
    /// A URI of another program or driver.
    #[error("starts with {0}://, which libpq does not accept: write postgresql:// instead")]
    ForeignScheme(String),
    /// A word has no `=`.
    #[error("word {0} has no `=`: quote a value with spaces, as in password='two words'")]
    NoEquals(usize),
    /// A quote is never closed.
    #[error("a quoted value is not closed: close it with ', and write ' within it as \\'")]
    OpenQuote,
    /// A keyword that libpq does not know.
    #[error("word {0} does not start with a keyword of libpq: correct the keyword, or quote a value with spaces")]
    UnknownKeyword(usize),
    /// An unknown parameter of a URI, with a name that is no secret.
    #[error("has the parameter {0}, which libpq does not accept (it usually belongs to another driver): remove it")]
    ForeignParameter(String),
    /// An unknown parameter of a URI, with a name that may be part of a secret.
    #[error("parameter {0} after the ? is not one of libpq: remove it, or write & in the password as %26 and = as %3D")]
    UnknownParameter(usize),
    /// A `%` is not followed by two hexadecimal digits, or is `%00`.
    #[error("has a % that is not followed by two hexadecimal digits: write % as %25 and percent-encode the password")]
    Percent,
    /// An unescaped character that ends the user or the password of a URI.
    #[error(
        "has an unescaped character in its user or password: write / in the password as %2F, @ as %40, ? as %3F, # as %23, [ as %5B, : as %3A, a space as %20 and % as %25 (and an @ in the database's name as %40)"
    )]
    Unescaped,
    /// An invalid number.
    #[error("{0} must be an integer")]
    Number(&'static str),
    /// An invalid port.
    #[error(
        "has a port that is not a number from 1 to 65535: if it is part of a password, write / in the password as %2F, : as %3A and @ as %40"
    )]
    Port,
    /// An invalid `sslmode`.
    #[error("sslmode must be one of {}", SSL_MODES.join(", "))]
    SslMode,
    /// A bracket of an IPv6 address is not closed, or is followed by something else.
    #[error("has an IPv6 address with an open bracket, or without a port or separator after its bracket")]
    Brackets,
    /// A query parameter without or with more than one `=`.
    #[error("has a query parameter that is not one key=value pair")]
    QueryParameter,
    /// Percent-encoded bytes that are not UTF-8.
    #[error("contains percent-encoded bytes that are not UTF-8: set such a password in PGPASSWORD or a password file")]
    NotUtf8,
    /// A NUL byte.
    #[error("contains a NUL byte")]
    Nul,
    /// A secret other than the password that cannot be passed to `pg_dump`.
    #[error(
        "contains {0}, which cannot be passed to pg_dump secretly (with a service, with a line break, or on this system): put it into a service file and set PGSERVICE"
    )]
    OtherSecret(&'static str),
}

/// A connection string without its secrets, and the secrets.
#[derive(Clone, Debug, Default)]
pub struct Conninfo {
    words: Vec<(String, String)>,
    password: Option<SecretString>,
    other_secrets: Vec<(&'static str, SecretString)>,
}

/// Keywords of libpq 9.6 to 18 (`PQconninfoOptions`), without [`OTHER_SECRETS`].
const KEYWORDS: &[&str] = &[
    "application_name",
    "authtype",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "oauth_client_id",
    "oauth_issuer",
    "oauth_scope",
    "options",
    "passfile",
    "password",
    "port",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "service",
    "servicefile",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslkeylogfile",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "tty",
    "user",
];
/// All values of libpq.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
/// Keywords with a 32-bit integer.
const NUMBERS: &[&str] = &[
    "connect_timeout",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "tcp_user_timeout",
];
const OTHER_SECRETS: &[&str] = &["sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"];

impl Conninfo {
    /// Parses a connection string as libpq does.
    ///
    /// # Errors
    /// If libpq would refuse it, or part of a password would become visible.
    pub fn parse(text: &str) -> Result<Self, ConninfoError> {
        if text.contains('\0') {
            return Err(ConninfoError::Nul);
        }
        let words = if let Some(rest) = uri::body(text) {
            uri::parse(rest)?
        } else if let Some(scheme) = uri::foreign_scheme(text) {
            return Err(ConninfoError::ForeignScheme(scheme.to_owned()));
        } else if text.contains('=') {
            words::parse(text)?
        } else {
            return Err(ConninfoError::NeitherForm);
        };
        Self::from_words(words)
    }

    /// The value of a keyword.
    #[must_use]
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.words.iter().rev().find(|(key, _)| key == keyword).map(|(_, value)| value.as_str())
    }

    /// Sets or replaces a keyword.
    pub fn set(&mut self, keyword: &str, value: impl Into<String>) {
        self.words.retain(|(key, _)| key != keyword);
        self.words.push((keyword.to_owned(), value.into()));
    }

    /// Removes a keyword.
    pub fn remove(&mut self, keyword: &str) {
        self.words.retain(|(key, _)| key != keyword);
    }

    /// The password.
    #[must_use]
    pub fn password(&self) -> Option<&SecretString> {
        self.password.as_ref()
    }

    /// Secrets other than the password, by their keywords.
    #[must_use]
    pub fn other_secrets(&self) -> &[(&'static str, SecretString)] {
        &self.other_secrets
    }

    /// Removes and returns those secrets.
    pub(super) fn take_other_secrets(&mut self) -> Vec<(&'static str, SecretString)> {
        std::mem::take(&mut self.other_secrets)
    }

    fn forget(&mut self, keyword: &str) {
        self.remove(keyword);
        self.other_secrets.retain(|(key, _)| *key != keyword);
        if keyword == "password" {
            self.password = None;
        }
    }

    fn from_words(words: Vec<(String, String)>) -> Result<Self, ConninfoError> {
        let mut conninfo = Self::default();
        for (index, (key, value)) in words.into_iter().enumerate() {
            let other = OTHER_SECRETS.iter().find(|secret| **secret == key).copied();
            if !is_known(&key) {
                return Err(ConninfoError::UnknownKeyword(index + 1));
            }
            // The last one counts.
            conninfo.forget(&key);
            match (other, key.as_str()) {
                // Not the same as no password: libpq then ignores PGPASSWORD.
                _ if value.is_empty() => conninfo.set(&key, value),
                (Some(keyword), _) => conninfo.other_secrets.push((keyword, SecretString::from(value))),
                (None, "password") => conninfo.password = Some(SecretString::from(value)),
                (None, _) => conninfo.set(&key, value),
            }
        }
        conninfo.validate()?;
        Ok(conninfo)
    }

    /// Checks what libpq checks when it connects. It would print the value, which may be part of a password.
    fn validate(&self) -> Result<(), ConninfoError> {
        if !self.get("port").unwrap_or_default().split(',').all(is_port) {
            return Err(ConninfoError::Port);
        }
        let is_number =
            |keyword: &str| self.get(keyword).is_none_or(|value| value.is_empty() || number(value).is_some());
        if let Some(keyword) = NUMBERS.iter().find(|keyword| !is_number(keyword)) {
            return Err(ConninfoError::Number(keyword));
        }
        // The old `requiressl` overrides `sslmode`.
        let mode = self.get("sslmode").filter(|mode| !mode.is_empty() && self.get("requiressl").is_none());
        if mode.is_some_and(|mode| !SSL_MODES.contains(&mode)) {
            return Err(ConninfoError::SslMode);
        }
        Ok(())
    }
}

/// Whether it is a keyword of libpq.
fn is_known(key: &str) -> bool {
    KEYWORDS.contains(&key) || is_secret(key)
}

/// Whether the keyword's value is a secret.
fn is_secret(key: &str) -> bool {
    key == "password" || OTHER_SECRETS.contains(&key)
}

/// As libpq's `pqParseIntParam`, with C's white space around the number.
fn number(text: &str) -> Option<i32> {
    text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']).parse().ok()
}

/// A valid port; empty is the default.
fn is_port(text: &str) -> bool {
    text.is_empty() || number(text).is_some_and(|port| (1..=65_535).contains(&port))
}

impl fmt::Display for Conninfo {
    /// The connection string without secrets, in `key='value'` form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.words.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            let value = value.replace('\\', "\\\\").replace('\'', "\\'");
            write!(f, "{space}{key}='{value}'")?;
        }
        Ok(())
    }
}

/// Fails for percent-encoded bytes alone: the parsers remove only ASCII bytes.
fn into_text(bytes: Vec<u8>) -> Result<String, ConninfoError> {
    String::from_utf8(bytes).map_err(|_| ConninfoError::NotUtf8)
}

#[cfg(test)]
mod tests;
