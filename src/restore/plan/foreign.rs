//! Finds what a statement calls outside `pg_catalog`: a function of the dump may read other tables.
//!
//! `pg_dump` runs with an empty `search_path`, so it writes the schema of all that is not in `pg_catalog`.

use crate::sql::{Token, Tokens};

/// The places of a statement in which a call decides when rows may be loaded.
const OPENINGS: [&[&str]; 5] = [
    &["CHECK"],
    &["GENERATED", "ALWAYS", "AS"],
    &["PARTITION", "BY", "RANGE"],
    &["PARTITION", "BY", "LIST"],
    &["PARTITION", "BY", "HASH"],
];
const CATALOG: &[u8] = b"pg_catalog";

/// What counts as a call outside `pg_catalog`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Casts {
    /// A cast is no call.
    AreNone,
    /// The dump has casts with functions, which an expression may hide: each expression counts.
    MayCall,
}

/// Whether rows of a table or domain pass a CHECK, a generated column or a partition key that calls something outside `pg_catalog`.
pub(super) fn checks_call_out(statement: &[u8], casts: Casts) -> bool {
    let tokens: Vec<_> = Tokens::of(statement).collect();
    let begins = (0..tokens.len()).filter_map(|at| {
        let words = OPENINGS.iter().find(|words| are_words(&tokens[at..], words))?;
        (tokens.get(at + words.len()) == Some(&Token::Symbol(b'('))).then_some(at + words.len())
    });
    let regions = begins.map(|at| &tokens[at..closed(&tokens, at)]);
    regions.into_iter().any(|region| casts == Casts::MayCall || calls_out(region))
}

/// Whether anything with a schema other than `pg_catalog` is named after the first `skipped` qualified names.
pub(super) fn names_others(statement: &[u8], skipped: usize) -> bool {
    let tokens: Vec<_> = Tokens::of(statement).collect();
    let names = (0..tokens.len()).filter(|at| {
        let starts = *at == 0 || tokens[at - 1] != Token::Symbol(b'.');
        // An operator may follow the dot.
        starts && is_name(tokens[*at]) && tokens.get(at + 1) == Some(&Token::Symbol(b'.'))
    });
    names.skip(skipped).any(|at| !is_catalog(tokens[at]))
}

/// Whether a function or operator outside `pg_catalog` is called.
fn calls_out(tokens: &[Token<'_>]) -> bool {
    (0..tokens.len()).any(|at| {
        let rest = &tokens[at..];
        if are_words(rest, &["OPERATOR"]) && rest.get(1) == Some(&Token::Symbol(b'(')) {
            return rest.get(2).is_some_and(|schema| is_name(*schema) && !is_catalog(*schema));
        }
        // `::s.t(5)` is a type with its length.
        let is_cast = at >= 2 && tokens[at - 2..at] == [Token::Symbol(b':'); 2];
        is_qualified(rest) && !is_cast && !is_catalog(rest[0]) && rest.get(3) == Some(&Token::Symbol(b'('))
    })
}

/// Where the parenthesis that opens at `at` is closed.
fn closed(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0_usize;
    for (end, token) in tokens.iter().enumerate().skip(at) {
        match token {
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') if depth == 1 => return end,
            Token::Symbol(b')') => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

fn are_words(tokens: &[Token<'_>], words: &[&str]) -> bool {
    let is_word = |(token, word): (&Token<'_>, &&str)| matches!(token, Token::Word(text) if text.eq_ignore_ascii_case(word.as_bytes()));
    tokens.len() >= words.len() && tokens.iter().zip(words).all(is_word)
}

fn is_qualified(tokens: &[Token<'_>]) -> bool {
    matches!(tokens, [schema, Token::Symbol(b'.'), name, ..] if is_name(*schema) && is_name(*name))
}

/// Whether a token may be a name. A number is none.
fn is_name(token: Token<'_>) -> bool {
    match token {
        Token::Word(word) => !word[0].is_ascii_digit(),
        Token::Quoted(_) => true,
        _ => false,
    }
}

fn is_catalog(token: Token<'_>) -> bool {
    matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(CATALOG))
        || token == Token::Quoted(b"\"pg_catalog\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_outside_the_catalog_is_found_where_rows_pass_it() {
        for (statement, expected) in [
            ("CREATE TABLE s.t (a integer, CONSTRAINT c CHECK (s.f(a)));", true),
            ("CREATE TABLE s.t (a integer, CONSTRAINT c CHECK ((a OPERATOR(s.<) 1)));", true),
            ("CREATE TABLE s.t (a integer, CONSTRAINT c CHECK ((a OPERATOR(pg_catalog.<) 1)));", false),
            ("CREATE TABLE s.t (a integer, b integer GENERATED ALWAYS AS (\"S\".\"f g\"(a)) STORED);", true),
            ("CREATE TABLE s.t (a integer) PARTITION BY RANGE (s.f(a));", true),
            ("CREATE TABLE s.t (a integer DEFAULT s.f(1), g public.geometry(Point));", false),
            ("CREATE TABLE s.t (a text, CONSTRAINT c CHECK ((a <> 's.f(1)'::s.name(5))));", false),
            ("CREATE TABLE s.t (a integer, CONSTRAINT c CHECK ((a > 1.5)) NO INHERIT, b text DEFAULT s.f(2));", false),
            ("CREATE TABLE s.t (a integer, CONSTRAINT c CHECK (pg_catalog.length(a) > (0)));", false),
            ("CREATE DOMAIN s.d AS text CONSTRAINT c CHECK (s.f(VALUE));", true),
            ("CREATE TABLE s.t (\"check\" integer DEFAULT s.f(1));", false),
        ] {
            assert_eq!(checks_call_out(statement.as_bytes(), Casts::AreNone), expected, "{statement}");
        }
        let hidden = b"CREATE TABLE s.t (a s.u, CONSTRAINT c CHECK ((a > 1)));";
        assert!(!checks_call_out(hidden, Casts::AreNone) && checks_call_out(hidden, Casts::MayCall));
    }

    #[test]
    fn other_names_of_an_index_are_found() {
        for (statement, expected) in [
            ("CREATE INDEX i ON s.t USING btree (a);", false),
            ("CREATE INDEX i ON s.t USING btree (pg_catalog.lower(a)) WHERE (a > 1.5);", false),
            ("CREATE INDEX i ON s.t USING btree (s.f(a));", true),
            ("CREATE INDEX i ON s.t USING gin (a public.gin_trgm_ops);", true),
            ("CREATE INDEX i ON s.t USING btree (a) WHERE (a OPERATOR(s.=) 1);", true),
        ] {
            assert_eq!(names_others(statement.as_bytes(), 1), expected, "{statement}");
        }
    }
}
