//! Reads a libpq connection string, takes the secrets out, and writes the rest back as `key='value'` words.
//!
//! `config` parses, `session` and `dump` render. A secret must not stand in any process's arguments
//! (`/proc/PID/cmdline` is world-readable), so `password` travels by `PGPASSWORD`, and the rest is safe to show.
//! The two grammars follow libpq's `conninfo_parse` and `conninfo_uri_parse_options` (`fe-connect.c`) step by step,
//! since what `pg_dump` accepts must be accepted here, and mean the same. Nothing here connects.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

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
    #[error("word {0} does not begin with a keyword of libpq: quote a value with spaces, or correct the keyword")]
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
    /// A NUL byte.
    #[error("holds a NUL byte")]
    Nul,
    /// A secret other than the password, which has no safe way to the child yet.
    #[error("holds {0}, which cannot be handed on without showing it: put it into a service file and set PGSERVICE")]
    OtherSecret(&'static str),
}

/// A connection string whose secret has been taken out.
#[derive(Clone, Debug, Default)]
pub struct Conninfo {
    words: Vec<(String, String)>,
    password: Option<SecretString>,
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
        let words = if let Some(rest) = uri_body(text) {
            parse_uri(rest)?
        } else if text.contains('=') {
            parse_words(text)?
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

    fn from_words(words: Vec<(String, String)>) -> Result<Self, ConninfoError> {
        let mut conninfo = Self::default();
        for (index, (key, value)) in words.into_iter().enumerate() {
            if let Some(secret) = OTHER_SECRETS.iter().find(|secret| **secret == key) {
                return Err(ConninfoError::OtherSecret(secret));
            }
            if !KEYWORDS.contains(&key.as_str()) {
                return Err(ConninfoError::UnknownKeyword(index + 1));
            }
            if key == "password" {
                conninfo.password = Some(SecretString::from(value)).filter(|text| !text.expose_secret().is_empty());
            } else {
                conninfo.set(&key, value);
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

fn uri_body(text: &str) -> Option<&str> {
    text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"))
}

/// C's `isspace` in the C locale, which libpq splits words at.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// `conninfo_parse`: words of `key = value`, the value bare or in single quotes, a backslash before any character.
fn parse_words(text: &str) -> Result<Vec<(String, String)>, ConninfoError> {
    let bytes = text.as_bytes();
    let mut words = Vec::new();
    let mut at = skip_space(bytes, 0);
    while at < bytes.len() {
        let number = words.len() + 1;
        let start = at;
        while at < bytes.len() && bytes[at] != b'=' && !is_space(bytes[at]) {
            at += 1;
        }
        let key = text[start..at].to_owned();
        at = skip_space(bytes, at);
        if bytes.get(at) != Some(&b'=') {
            return Err(ConninfoError::NoEquals(number));
        }
        at = skip_space(bytes, at + 1);
        let (value, end) = if bytes.get(at) == Some(&b'\'') { quoted(bytes, at + 1)? } else { bare(bytes, at) };
        words.push((key, value));
        at = skip_space(bytes, end);
    }
    Ok(words)
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|byte| is_space(*byte)) {
        at += 1;
    }
    at
}

fn bare(bytes: &[u8], mut at: usize) -> (String, usize) {
    let mut value = Vec::new();
    while at < bytes.len() && !is_space(bytes[at]) {
        if bytes[at] == b'\\' {
            at += 1;
        }
        value.extend(bytes.get(at));
        at += 1;
    }
    (into_text(value), at)
}

fn quoted(bytes: &[u8], mut at: usize) -> Result<(String, usize), ConninfoError> {
    let mut value = Vec::new();
    loop {
        match bytes.get(at) {
            None => return Err(ConninfoError::OpenQuote),
            Some(b'\'') => return Ok((into_text(value), at + 1)),
            Some(b'\\') => {
                value.extend(bytes.get(at + 1));
                at += 2;
            }
            Some(byte) => {
                value.push(*byte);
                at += 1;
            }
        }
    }
}

/// Only ASCII bytes were taken away from UTF-8 text, or percent-encoded bytes added, so this is lossless for all
/// but encoded bytes outside UTF-8, which libpq would pass on and no server setting can hold.
fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// `conninfo_uri_parse_options`, from behind the scheme.
fn parse_uri(rest: &str) -> Result<Vec<(String, String)>, ConninfoError> {
    let mut words = Vec::new();
    // libpq looks for user information up to the first `@` or `/`, whichever comes first.
    let rest = match rest.find(['@', '/']) {
        Some(at) if rest.as_bytes()[at] == b'@' => {
            let (user, password) = rest[..at].split_once(':').unwrap_or((&rest[..at], ""));
            push_decoded(&mut words, "user", user)?;
            push_decoded(&mut words, "password", password)?;
            &rest[at + 1..]
        }
        _ => rest,
    };
    let (authority, tail) = rest.split_at(authority_end(rest));
    if authority.contains('@') {
        return Err(ConninfoError::SecondAt);
    }
    let (hosts, ports) = hosts_and_ports(authority)?;
    push_decoded(&mut words, "host", &hosts)?;
    push_decoded(&mut words, "port", &ports)?;
    let (database, query) = tail.split_once('?').map_or((tail, None), |(database, query)| (database, Some(query)));
    push_decoded(&mut words, "dbname", database.strip_prefix('/').unwrap_or(database))?;
    if let Some(query) = query {
        parse_query(&mut words, query)?;
    }
    Ok(words)
}

/// Where the hosts end: at the first `/` or `?` outside brackets.
fn authority_end(rest: &str) -> usize {
    let mut bracket = false;
    for (index, byte) in rest.bytes().enumerate() {
        match byte {
            b'[' => bracket = true,
            b']' => bracket = false,
            b'/' | b'?' if !bracket => return index,
            _ => {}
        }
    }
    rest.len()
}

/// Splits `h1:p1,[h2]:p2,h3` into `h1,h2,h3` and `p1,p2,`, as libpq joins them.
fn hosts_and_ports(authority: &str) -> Result<(String, String), ConninfoError> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for part in authority.split(',') {
        let (host, rest) = match part.strip_prefix('[') {
            Some(inner) => match inner.split_once(']') {
                Some((host, rest)) if !host.is_empty() => (host, rest),
                _ => return Err(ConninfoError::Brackets),
            },
            None => part.split_at(part.find(':').unwrap_or(part.len())),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => port,
            None if rest.is_empty() => "",
            None => return Err(ConninfoError::Brackets),
        };
        hosts.push(host);
        ports.push(port);
    }
    Ok((hosts.join(","), ports.join(",")))
}

/// `conninfo_uri_parse_params`.
fn parse_query(words: &mut Vec<(String, String)>, query: &str) -> Result<(), ConninfoError> {
    if query.is_empty() {
        return Ok(());
    }
    for parameter in query.strip_suffix('&').unwrap_or(query).split('&') {
        let (key, value) = parameter.split_once('=').ok_or(ConninfoError::QueryParameter)?;
        if value.contains('=') {
            return Err(ConninfoError::QueryParameter);
        }
        let (key, value) = (decode(key)?, decode(value)?);
        // libpq takes JDBC's `ssl=true` for `sslmode=require`.
        if key == "ssl" && value == "true" {
            words.push(("sslmode".to_owned(), "require".to_owned()));
        } else {
            words.push((key, value));
        }
    }
    Ok(())
}

fn push_decoded(words: &mut Vec<(String, String)>, key: &str, value: &str) -> Result<(), ConninfoError> {
    if !value.is_empty() {
        words.push((key.to_owned(), decode(value)?));
    }
    Ok(())
}

fn decode(text: &str) -> Result<String, ConninfoError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).filter(|pair| pair.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|pair| std::str::from_utf8(pair).ok());
        match digits.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            None | Some(0) => return Err(ConninfoError::Percent),
            Some(byte) => bytes.push(byte),
        }
        rest = &rest[2..];
    }
    Ok(into_text(bytes))
}

#[cfg(test)]
mod tests;
