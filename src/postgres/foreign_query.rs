//! Redacts other sessions' queries: one line, without literals.
//!
//! `activity` puts these queries into logs, errors and pings, and a query may contain a secret (`ALTER ROLE … PASSWORD '…'`).

use std::iter::Peekable;
use std::str::Chars;

use serde::{Deserialize, Deserializer};

/// Replaces a literal's content.
const HIDDEN: char = '…';

/// Reads an optional query, for `#[serde(deserialize_with)]`.
///
/// # Errors
/// If it is not text.
pub(super) fn redacted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(|query| without_literals(&query)))
}

/// Collapses white space and hides the content of literals, including one that is cut off.
fn without_literals(query: &str) -> String {
    let mut shown = String::with_capacity(query.len());
    let mut rest = query.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\'' => {
                let is_escaped = shown.ends_with(['e', 'E']);
                skip_literal(&mut rest, is_escaped);
                shown.extend(['\'', HIDDEN, '\'']);
            }
            '$' if skip_dollar_quoted(&mut rest) => shown.extend(['$', HIDDEN, '$']),
            // An apostrophe in a name or a comment starts no literal.
            '"' => copy_until(&mut rest, &mut shown, c, "\""),
            '-' if rest.peek() == Some(&'-') => copy_until(&mut rest, &mut shown, c, "\n"),
            '/' if rest.peek() == Some(&'*') => copy_until(&mut rest, &mut shown, c, "*/"),
            _ => shown.push(c),
        }
    }
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Skips to the closing quote. A doubled quote starts another literal, which is hidden as well.
fn skip_literal(rest: &mut Peekable<Chars<'_>>, is_escaped: bool) {
    while let Some(c) = rest.next() {
        match c {
            '\'' => return,
            '\\' if is_escaped => _ = rest.next(),
            _ => {}
        }
    }
}

/// Skips the rest of a dollar-quoted literal. Returns `false` and skips nothing if it is a parameter such as `$1`.
fn skip_dollar_quoted(rest: &mut Peekable<Chars<'_>>) -> bool {
    let ahead: String = rest.clone().collect();
    let Some((tag, body)) = ahead.split_once('$') else { return false };
    let is_tag = tag.chars().all(|c| c.is_alphanumeric() || c == '_') && !tag.starts_with(|c: char| c.is_ascii_digit());
    if !is_tag {
        return false;
    }
    let end = format!("${tag}$");
    let after = body.split_once(&end).map_or("", |(_, after)| after);
    let taken = ahead.chars().count() - after.chars().count();
    rest.nth(taken.saturating_sub(1));
    true
}

fn copy_until(rest: &mut Peekable<Chars<'_>>, shown: &mut String, first: char, end: &str) {
    shown.push(first);
    let from = shown.len();
    while !shown[from..].ends_with(end) {
        let Some(c) = rest.next() else { return };
        shown.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_literals_only() {
        for (query, shown) in [
            ("ALTER TABLE t\n  ADD c int", "ALTER TABLE t ADD c int"),
            ("ALTER ROLE r PASSWORD 'secret' LOGIN", "ALTER ROLE r PASSWORD '…' LOGIN"),
            ("ALTER ROLE r PASSWORD 'it''s secret'", "ALTER ROLE r PASSWORD '…''…'"),
            (r"ALTER ROLE r PASSWORD E'it\'s secret' x", "ALTER ROLE r PASSWORD E'…' x"),
            (r"SELECT 'a\', 'secret'", "SELECT '…', '…'"),
            ("ALTER ROLE r PASSWORD 'secr", "ALTER ROLE r PASSWORD '…'"),
            ("SELECT $$secret$$, $1", "SELECT $…$, $1"),
            ("DO $a1$ it's $$ secret $a1$ x", "DO $…$ x"),
            ("DO $a$ secr", "DO $…$"),
            ("SELECT $1, 'secret', $2", "SELECT $1, '…', $2"),
            (r#"LOCK "it's"; SELECT 'secret'"#, r#"LOCK "it's"; SELECT '…'"#),
            ("-- it's\nSELECT 'secret'", "-- it's SELECT '…'"),
            ("/* it's */ SELECT 'secret' -- so", "/* it's */ SELECT '…' -- so"),
            ("", ""),
        ] {
            assert_eq!(without_literals(query), shown, "{query}");
        }
    }
}
