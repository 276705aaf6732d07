//! The URI form of a connection string, as libpq's `conninfo_uri_parse_options` (`fe-connect.c`) reads it.
//!
//! Called by [`super::Conninfo::parse`] alone. Spaces in a URI are read as libpq 16 and older do; later ones trim or
//! refuse them.

use super::{ConninfoError, into_text};

type Words = Vec<(String, String)>;

/// What stands behind the scheme, where the text is a URI.
pub(super) fn body(text: &str) -> Option<&str> {
    text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"))
}

/// The words that a URI stands for, from behind its scheme.
pub(super) fn parse(rest: &str) -> Result<Words, ConninfoError> {
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
    let Authority { hosts, ports, tail } = authority(rest)?;
    // libpq takes it for a piece of the host's name, which it then prints: as a rule the end of a password.
    if hosts.contains('@') || ports.contains('@') {
        return Err(ConninfoError::SecondAt);
    }
    push_decoded(&mut words, "host", &hosts)?;
    push_decoded(&mut words, "port", &ports)?;
    let (database, query) = tail.split_once('?').map_or((tail, None), |(database, query)| (database, Some(query)));
    push_decoded(&mut words, "dbname", database.strip_prefix('/').unwrap_or(database))?;
    if let Some(query) = query {
        parse_query(&mut words, query)?;
    }
    Ok(words)
}

/// What stands between user information and database, and from where the database does.
struct Authority<'a> {
    hosts: String,
    ports: String,
    tail: &'a str,
}

/// Splits `h1:p1,[h2]:p2,h3/d` into `h1,h2,h3` and `p1,p2,`, as libpq joins them. Brackets count at a host's beginning
/// alone.
fn authority(text: &str) -> Result<Authority<'_>, ConninfoError> {
    let (mut hosts, mut ports, mut tail) = (String::new(), String::new(), text);
    loop {
        let host = match tail.strip_prefix('[') {
            Some(inner) => match inner.split_once(']') {
                Some((host, behind)) if !host.is_empty() && behind.chars().next().is_none_or(is_end_of_host) => {
                    tail = behind;
                    host
                }
                _ => return Err(ConninfoError::Brackets),
            },
            None => cut(&mut tail, is_end_of_host),
        };
        hosts.push_str(host);
        if let Some(behind) = tail.strip_prefix(':') {
            tail = behind;
            ports.push_str(cut(&mut tail, |c| is_end_of_host(c) && c != ':'));
        }
        let Some(behind) = tail.strip_prefix(',') else { return Ok(Authority { hosts, ports, tail }) };
        tail = behind;
        hosts.push(',');
        ports.push(',');
    }
}

fn is_end_of_host(c: char) -> bool {
    matches!(c, ':' | '/' | '?' | ',')
}

/// Takes the text before the first such character away from its beginning.
fn cut<'a>(text: &mut &'a str, is_end: impl Fn(char) -> bool) -> &'a str {
    let (before, behind) = text.split_at(text.find(is_end).unwrap_or(text.len()));
    *text = behind;
    before
}

/// `conninfo_uri_parse_params`.
fn parse_query(words: &mut Words, query: &str) -> Result<(), ConninfoError> {
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

fn push_decoded(words: &mut Words, key: &str, value: &str) -> Result<(), ConninfoError> {
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
    into_text(bytes)
}
