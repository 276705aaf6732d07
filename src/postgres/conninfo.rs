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
    /// A word has no `=`.
    #[error("word {0} has no `=`: quote a value with spaces, as in password='two words'")]
    NoEquals(usize),
    /// A quote is never closed.
    #[error("a quoted value is not closed: close it with ', and write ' within it as \\'")]
    OpenQuote,
    /// A keyword that libpq does not know.
    #[error(
        "word {0} (in a URI: a parameter behind the ?) does not begin with a keyword of libpq: correct the keyword, or quote a value with spaces"
    )]
    UnknownKeyword(usize),
    /// A `%` is not followed by two hexadecimal digits, or is `%00`.
    #[error("has a % that is not followed by two hexadecimal digits: write % as %25 and percent-encode the password")]
    Percent,
    /// The host part of the URI holds an `@`.
    #[error("has more than one @ before the database: write an @ within the password as %40")]
    SecondAt,
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
            if other.is_none() && !KEYWORDS.contains(&key.as_str()) {
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
        Ok(conninfo)
    }
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
