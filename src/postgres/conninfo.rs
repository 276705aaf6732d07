//! Reads a libpq connection string, takes the secrets out, and writes the rest back as `key='value'` words.
//!
//! `config` parses, `session` and `dump` render. A secret must not stand in any process's arguments
//! (`/proc/PID/cmdline` is world-readable), so `password` travels by `PGPASSWORD`, other secrets by a service file
//! (`service_file`), and the rest is safe to show.
//! The two grammars follow libpq's `conninfo_parse` and `conninfo_uri_parse_options` (`fe-connect.c`) step by step,
//! since what `pg_dump` accepts must be accepted here, and mean the same. Nothing here connects.

mod uri;
mod words;

use std::fmt;

use secrecy::SecretString;

/// What is wrong with a connection string. Never holds any of its text: a word that is out of place in it is as a
/// rule a piece of an unquoted password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConninfoError {
    /// Neither of the two forms.
    #[error("is neither a URI (postgresql://user@host/database) nor `key=value` words")]
    NeitherForm,
    /// A URI of another program or driver.
    #[error("begins with {0}://, which libpq does not know: write postgresql:// instead")]
    ForeignScheme(String),
    /// A word has no `=`.
    #[error("word {0} has no `=`: quote a value with spaces, as in password='two words'")]
    NoEquals(usize),
    /// A quote is never closed.
    #[error("a quoted value is not closed: close it with ', and write ' within it as \\'")]
    OpenQuote,
    /// A keyword that libpq does not know.
    #[error("word {0} does not begin with a keyword of libpq: correct the keyword, or quote a value with spaces")]
    UnknownKeyword(usize),
    /// A parameter of a URI that libpq does not know, and whose name is no secret.
    #[error("has the parameter {0}, which libpq does not know (another driver's, as a rule): remove it")]
    ForeignParameter(String),
    /// A parameter of a URI that libpq does not know, whose name may be a piece of a secret.
    #[error(
        "parameter {0} after the ? is none of libpq's: remove it, or write & within the password as %26 and = as %3D"
    )]
    UnknownParameter(usize),
    /// A `%` is not followed by two hexadecimal digits, or is `%00`.
    #[error("has a % that is not followed by two hexadecimal digits: write % as %25 and percent-encode the password")]
    Percent,
    /// A character that ends the user or the password of a URI stands in it as it is.
    #[error(
        "has a character in its user or password that ends it there: write / within the password as %2F, @ as %40, ? as %3F, # as %23, [ as %5B, : as %3A, a space as %20 and % as %25 (an @ within the database's name is %40, too)"
    )]
    Unescaped,
    /// A number that is none.
    #[error("{0} is not a whole number that it can be")]
    Number(&'static str),
    /// A port that is none.
    #[error(
        "has a port that is not a number from 1 to 65535: where that is a piece of a password, write / within the password as %2F, : as %3A and @ as %40"
    )]
    Port,
    /// An `sslmode` that is none.
    #[error("sslmode must be one of {}", SSL_MODES.join(", "))]
    SslMode,
    /// A bracket of an IPv6 address is not closed, or is followed by something else.
    #[error("has an IPv6 address whose brackets are not closed or are followed by something else than a port")]
    Brackets,
    /// A query parameter without or with more than one `=`.
    #[error("has a query parameter that is not one key=value pair")]
    QueryParameter,
    /// Percent-encoded bytes that are not UTF-8.
    #[error(
        "holds percent-encoded bytes that are not UTF-8: give a password of such bytes by PGPASSWORD or a password file"
    )]
    NotUtf8,
    /// A NUL byte.
    #[error("holds a NUL byte")]
    Nul,
    /// A secret other than the password, which cannot be handed on.
    #[error(
        "holds {0}, which cannot be handed on without showing it (beside a service, with a line break, or on this system): put it into a service file and set PGSERVICE"
    )]
    OtherSecret(&'static str),
}

/// A connection string whose secrets have been taken out.
#[derive(Clone, Debug, Default)]
pub struct Conninfo {
    words: Vec<(String, String)>,
    password: Option<SecretString>,
    other_secrets: Vec<(&'static str, SecretString)>,
}

/// Keywords of libpq 9.6 to 18 (`PQconninfoOptions`), less those of [`OTHER_SECRETS`]. libpq's `service` goes first
/// nowhere: order does not matter to it.
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
/// All of libpq; it refuses another when it connects.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
/// What libpq reads as a number of 32 bits when it connects.
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
    /// Reads a connection string as libpq does.
    ///
    /// # Errors
    /// What is wrong with it, without any of its text.
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

    /// The value of a keyword, where it is given.
    #[must_use]
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.words.iter().rev().find(|(key, _)| key == keyword).map(|(_, value)| value.as_str())
    }

    /// Sets a keyword, whatever it was.
    pub fn set(&mut self, keyword: &str, value: impl Into<String>) {
        self.words.retain(|(key, _)| key != keyword);
        self.words.push((keyword.to_owned(), value.into()));
    }

    /// Takes a keyword away.
    pub fn remove(&mut self, keyword: &str) {
        self.words.retain(|(key, _)| key != keyword);
    }

    /// The password, where the string held one.
    #[must_use]
    pub fn password(&self) -> Option<&SecretString> {
        self.password.as_ref()
    }

    /// Secrets other than the password, by their keywords.
    #[must_use]
    pub fn other_secrets(&self) -> &[(&'static str, SecretString)] {
        &self.other_secrets
    }

    /// Takes those secrets away, to hand them on by another way.
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
            // The last one counts, whatever it is.
            conninfo.forget(&key);
            match (other, key.as_str()) {
                // No secret, and not the same as none: libpq does not look at PGPASSWORD then.
                _ if value.is_empty() => conninfo.set(&key, value),
                (Some(keyword), _) => conninfo.other_secrets.push((keyword, SecretString::from(value))),
                (None, "password") => conninfo.password = Some(SecretString::from(value)),
                (None, _) => conninfo.set(&key, value),
            }
        }
        conninfo.validate()?;
        Ok(conninfo)
    }

    /// What libpq finds out when it connects: no other try would help, and it would print the value, which may be a piece
    /// of a password.
    fn validate(&self) -> Result<(), ConninfoError> {
        if !self.get("port").unwrap_or_default().split(',').all(is_port) {
            return Err(ConninfoError::Port);
        }
        let is_number =
            |keyword: &str| self.get(keyword).is_none_or(|value| value.is_empty() || number(value).is_some());
        if let Some(keyword) = NUMBERS.iter().find(|keyword| !is_number(keyword)) {
            return Err(ConninfoError::Number(keyword));
        }
        // The old `requiressl` stands for an `sslmode`.
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

/// Whether what belongs to the keyword is a secret.
fn is_secret(key: &str) -> bool {
    key == "password" || OTHER_SECRETS.contains(&key)
}

/// libpq's `pqParseIntParam`: C's white space around the number is none of its.
fn number(text: &str) -> Option<i32> {
    text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']).parse().ok()
}

/// Empty where the default is meant.
fn is_port(text: &str) -> bool {
    text.is_empty() || number(text).is_some_and(|port| (1..=65_535).contains(&port))
}

impl fmt::Display for Conninfo {
    /// The connection string without secrets, in the `key='value'` form that every libpq program takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.words.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            let value = value.replace('\\', "\\\\").replace('\'', "\\'");
            write!(f, "{space}{key}='{value}'")?;
        }
        Ok(())
    }
}

/// Only ASCII bytes were taken away from UTF-8 text, so this fails where percent-encoded bytes were added alone.
fn into_text(bytes: Vec<u8>) -> Result<String, ConninfoError> {
    String::from_utf8(bytes).map_err(|_| ConninfoError::NotUtf8)
}

#[cfg(test)]
mod tests;
