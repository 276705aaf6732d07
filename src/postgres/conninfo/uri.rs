//! The URI form of a connection string, as libpq's `conninfo_uri_parse_options` (`fe-connect.c`) reads it.
//!
//! Called by [`super::Conninfo::parse`] alone. Spaces in a URI are read as libpq 16 and older do; later ones trim or
//! refuse them.

use super::{ConninfoError, into_text, is_known, is_port, is_secret};

type Words = Vec<(String, String)>;

/// No driver's parameter has a longer name, but what is longer may be anything.
const LONGEST_NAME: usize = 40;

/// What stands behind the scheme, where the text is a URI.
pub(super) fn body(text: &str) -> Option<&str> {
    text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"))
}

/// The scheme of a URI that is another program's: of SQLAlchemy, JDBC, Prisma, another database.
pub(super) fn foreign_scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let is_scheme = scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | ':' | '_'));
    // A word of its own must not be a piece of a secret.
    let lower = scheme.to_ascii_lowercase();
    let is_database = ["postg", "pgsql", "sql", "jdbc", "prisma"].iter().any(|word| lower.contains(word));
    (is_scheme && is_database && scheme.len() <= LONGEST_NAME).then_some(scheme)
}

/// The words that a URI stands for, from after its scheme.
pub(super) fn parse(rest: &str) -> Result<Words, ConninfoError> {
    let mut words = Vec::new();
    // libpq looks for user information up to the first `@` or `/`, whichever comes first.
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
        let error = |error| without_pieces(cause(error, query, &ports), (information, &ports), query);
        parse_query(&mut words, query).map_err(error)?;
    }
    Ok(words)
}

/// Refuses what libpq takes though a piece of a password has become a host, a port or a database's name in it, which are
/// printed: an `@` in a host's name, which none has; and one in the database's name where a `:` before it may begin a
/// password.
fn refuse_cut_password(information: &str, rest: &str) -> Result<(), ConninfoError> {
    let place = rest.split_once('?').map_or(rest, |(place, _)| place);
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    let may_be_cut = authority.contains('@')
        || database
            .rsplit_once('@')
            .is_some_and(|(before, _)| [information, authority, before].iter().any(|text| text.contains(':')));
    if may_be_cut { Err(ConninfoError::Unescaped) } else { Ok(()) }
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

/// What is wrong behind the `?` is, as a rule, that this `?` is a password's: where the `@` comes after it, or the password
/// has become the port. Then nothing of it may be named.
fn cause(error: ConninfoError, query: &str, ports: &str) -> ConninfoError {
    match error {
        // Holds no text, and is right wherever it comes from.
        ConninfoError::NotUtf8 => error,
        _ if query.contains('@') => ConninfoError::Unescaped,
        _ if !ports.split(',').all(is_port) => ConninfoError::Port,
        error => error,
    }
}

/// Without any user information, what looks like a port may be the beginning of a password that lacks its `@host`, and the
/// parameter's name another piece of it.
fn without_pieces(error: ConninfoError, (information, ports): (&str, &str), query: &str) -> ConninfoError {
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
    let own = words.len();
    for (index, parameter) in query.strip_suffix('&').unwrap_or(query).split('&').enumerate() {
        let pair = parameter.split_once('=').filter(|(_, value)| !value.contains('='));
        let (key, value) = pair.ok_or(ConninfoError::QueryParameter)?;
        let (key, value) = (decode(key)?, decode(value)?);
        // libpq takes JDBC's `ssl=true` for `sslmode=require`.
        if key == "ssl" && value == "true" {
            words.push(("sslmode".to_owned(), "require".to_owned()));
        } else if is_known(&key) {
            words.push((key, value));
        } else if is_name(&key) && !words[own..].iter().any(|(before, _)| is_secret(before)) {
            return Err(ConninfoError::ForeignParameter(key));
        } else {
            return Err(ConninfoError::UnknownParameter(index + 1));
        }
    }
    Ok(())
}

/// Whether it looks like a parameter's name, as drivers have them.
fn is_name(key: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(is_letter) && key.len() <= LONGEST_NAME
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
