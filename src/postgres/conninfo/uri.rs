//! Parses the URI form of a connection string like libpq's `conninfo_uri_parse_options` (`fe-connect.c`). Spaces are parsed as by
//! libpq 16 and older; later versions trim or refuse them.

use super::{ConninfoError, into_text, is_known, is_port, is_secret};

type Words = Vec<(String, String)>;

/// No driver has a parameter with a longer name; anything longer may be a secret.
const MAX_NAME: usize = 40;

/// The text after the scheme, if it is a URI of libpq.
pub(super) fn body(text: &str) -> Option<&str> {
    text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"))
}

/// The scheme of another program's URI: SQLAlchemy, JDBC, Prisma, another database.
pub(super) fn foreign_scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let is_scheme = scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | ':' | '_'));
    // Another scheme may be part of a secret, and must not be shown.
    let lower = scheme.to_ascii_lowercase();
    let is_database = ["postg", "pgsql", "sql", "jdbc", "prisma"].iter().any(|word| lower.contains(word));
    (is_scheme && is_database && scheme.len() <= MAX_NAME).then_some(scheme)
}

/// The keywords and values of a URI after its scheme.
pub(super) fn parse(rest: &str) -> Result<Words, ConninfoError> {
    let mut words = Vec::new();
    // In libpq, the first `@` or `/` ends the user information.
    let (information, rest) = match rest.find(['@', '/']) {
        Some(at) if rest.as_bytes()[at] == b'@' => (&rest[..at], &rest[at + 1..]),
        _ => ("", rest),
    };
    refuse_cut_password(information, rest)?;
    let (user, password) = information.split_once(':').unwrap_or((information, ""));
    push_decoded(&mut words, "user", user)?;
    push_decoded(&mut words, "password", password)?;
    let Authority { hosts, ports, tail } = authority(rest)?;
    push_decoded(&mut words, "host", &hosts)?;
    push_decoded(&mut words, "port", &ports)?;
    let (database, query) = tail.split_once('?').map_or((tail, None), |(database, query)| (database, Some(query)));
    push_decoded(&mut words, "dbname", database.strip_prefix('/').unwrap_or(database))?;
    if let Some(query) = query {
        let error = |error| without_secrets(cause(error, query, &ports), (information, &ports), query);
        parse_query(&mut words, query).map_err(error)?;
    }
    Ok(words)
}

/// Refuses a URI that libpq accepts, but where part of a password may have become a host, port or database, which are printed:
/// an `@` in a host, and an `@` in the database's name after a `:`, which may start a password.
fn refuse_cut_password(information: &str, rest: &str) -> Result<(), ConninfoError> {
    let place = rest.split_once('?').map_or(rest, |(place, _)| place);
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    let may_be_cut = authority.contains('@')
        || database
            .rsplit_once('@')
            .is_some_and(|(before, _)| [information, authority, before].iter().any(|text| text.contains(':')));
    if may_be_cut { Err(ConninfoError::Unescaped) } else { Ok(()) }
}

/// The hosts and ports, and the text from the database on.
struct Authority<'a> {
    hosts: String,
    ports: String,
    tail: &'a str,
}

/// Splits `h1:p1,[h2]:p2,h3/d` into `h1,h2,h3` and `p1,p2,`. Brackets count only at the start of a host.
fn authority(text: &str) -> Result<Authority<'_>, ConninfoError> {
    let (mut hosts, mut ports, mut tail) = (String::new(), String::new(), text);
    loop {
        let host = match tail.strip_prefix('[') {
            Some(inner) => match inner.split_once(']') {
                Some((host, after)) if !host.is_empty() && after.chars().next().is_none_or(is_end_of_host) => {
                    tail = after;
                    host
                }
                _ => return Err(ConninfoError::Brackets),
            },
            None => cut(&mut tail, is_end_of_host),
        };
        hosts.push_str(host);
        if let Some(after) = tail.strip_prefix(':') {
            tail = after;
            ports.push_str(cut(&mut tail, |c| is_end_of_host(c) && c != ':'));
        }
        let Some(after) = tail.strip_prefix(',') else { return Ok(Authority { hosts, ports, tail }) };
        tail = after;
        hosts.push(',');
        ports.push(',');
    }
}

fn is_end_of_host(c: char) -> bool {
    matches!(c, ':' | '/' | '?' | ',')
}

/// Removes and returns the text before the first matching character.
fn cut<'a>(text: &mut &'a str, is_end: impl Fn(char) -> bool) -> &'a str {
    let (before, after) = text.split_at(text.find(is_end).unwrap_or(text.len()));
    *text = after;
    before
}

/// Replaces an error in the query. With an `@` after the `?`, or an invalid port before it, the `?` is probably part of a
/// password, and the text after it must not be shown.
fn cause(error: ConninfoError, query: &str, ports: &str) -> ConninfoError {
    match error {
        // Contains no text, and is correct in any case.
        ConninfoError::NotUtf8 => error,
        _ if query.contains('@') => ConninfoError::Unescaped,
        _ if !ports.split(',').all(is_port) => ConninfoError::Port,
        error => error,
    }
}

/// Without user information, the port may be part of a password that lacks its `@host`, and the parameter's name, too.
fn without_secrets(error: ConninfoError, (information, ports): (&str, &str), query: &str) -> ConninfoError {
    match error {
        ConninfoError::ForeignParameter(name) if information.is_empty() && !ports.is_empty() => {
            let is_named = |pair: &str| pair.split_once('=').is_some_and(|(key, _)| decode(key).as_ref() == Ok(&name));
            ConninfoError::UnknownParameter(query.split('&').position(is_named).unwrap_or_default() + 1)
        }
        error => error,
    }
}

/// `conninfo_uri_parse_params`.
fn parse_query(words: &mut Words, query: &str) -> Result<(), ConninfoError> {
    if query.is_empty() {
        return Ok(());
    }
    let first = words.len();
    for (index, parameter) in query.strip_suffix('&').unwrap_or(query).split('&').enumerate() {
        let pair = parameter.split_once('=').filter(|(_, value)| !value.contains('='));
        let (key, value) = pair.ok_or(ConninfoError::QueryParameter)?;
        let (key, value) = (decode(key)?, decode(value)?);
        // libpq accepts JDBC's `ssl=true` as `sslmode=require`.
        if key == "ssl" && value == "true" {
            words.push(("sslmode".to_owned(), "require".to_owned()));
        } else if is_known(&key) {
            words.push((key, value));
        } else if is_name(&key) && !words[first..].iter().any(|(before, _)| is_secret(before)) {
            return Err(ConninfoError::ForeignParameter(key));
        } else {
            return Err(ConninfoError::UnknownParameter(index + 1));
        }
    }
    Ok(())
}

/// Whether it looks like the name of a driver's parameter.
fn is_name(key: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(is_letter) && key.len() <= MAX_NAME
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
