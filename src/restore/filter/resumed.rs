//! Filters parts of a dump apart from each other, as if each followed the statements before the data.

use std::io::Write;

use sha2::{Digest as _, Sha256};

use super::{Filter, Passage, Rows};
use crate::postgres::Transactions;
use crate::restore::exclusion::Exclusion;
use crate::restore::left_out::LeftOut;
use crate::restore::rules::Rules;

use super::reading::Reading;
use crate::restore::statement::Head;
use crate::sql::copied_table;

/// A COPY statement of the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its table, as the dump writes it.
    pub table: String,
    /// Of the statement.
    pub sha256: [u8; 32],
}

impl Copied {
    pub(super) fn of(statement: &[u8]) -> Self {
        Self { table: copied_table(statement), sha256: Sha256::digest(statement).into() }
    }
}

/// Whether `pg_dump` writes a statement among the data: rows, values of sequences, large objects and what is about them, and the planner's
/// statistics.
pub(super) fn is_data(statement: &[u8], head: &Head) -> bool {
    let begins = |beginnings: &[&[u8]]| beginnings.iter().any(|beginning| statement.starts_with(beginning));
    let is_on_large_object = || memchr::memmem::find(statement, b" ON LARGE OBJECT ").is_some();
    head.is("INSERT")
        || begins(&[b"SELECT pg_catalog.", b"SELECT * FROM pg_catalog.pg_restore_", b"SET default_table"])
        || matches!(statement, b"BEGIN;" | b"COMMIT;")
        || begins(&[b"ALTER LARGE OBJECT ", b"COMMENT ON LARGE OBJECT "])
        || begins(&[b"GRANT ", b"REVOKE ", b"SECURITY LABEL "]) && is_on_large_object()
        || begins(&[b"SET SESSION AUTHORIZATION ", b"RESET SESSION AUTHORIZATION;"])
}

/// What a filter knows after the statements before the data.
#[derive(Clone, Debug)]
pub struct FilterState {
    rules: Rules,
    exclusion: Exclusion,
    reading: Reading,
}

impl<W: Write> Filter<W> {
    /// The state after the statements before the data. Sends what was held.
    pub fn state(&mut self) -> FilterState {
        let passage = &mut self.passage;
        passage.release();
        let (rules, exclusion) = (passage.rules.clone(), passage.exclusion.clone());
        FilterState { rules, exclusion, reading: passage.reading.clone() }
    }

    /// Goes on from this state with data.
    pub fn resumed(out: W, state: &FilterState, transactions: Transactions) -> Self {
        let FilterState { rules, exclusion, reading } = state.clone();
        let mut filter = Self::new(out, Rules { transactions, ..rules });
        (filter.passage.exclusion, filter.passage.reading) = (exclusion, reading);
        filter.passage.copied = Some(Vec::new());
        filter
    }

    /// The COPY statements since the last call.
    pub fn take_copied(&mut self) -> Vec<Copied> {
        self.passage.copied.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// COPY statements so far.
    pub fn copies(&self) -> usize {
        self.passage.copies
    }

    /// The output.
    pub fn output(&mut self) -> &mut W {
        &mut self.passage.out
    }

    /// The next COPY statement is this one of the dump, counted from 0.
    pub fn expect_copy(&mut self, number: usize) {
        self.passage.copies = number;
    }

    /// Whether the last statement and the last rows have ended.
    pub fn is_between_statements(&self) -> bool {
        let Passage { statement, rows, .. } = &self.passage;
        statement.is_empty() && *rows == Rows::Pass && self.lexer.is_between_spans()
    }

    /// Whether the dump has `TimescaleDB`, which must be restored by one session.
    pub fn has_timescaledb(&self) -> bool {
        self.passage.has_timescaledb
    }

    /// What was left out, at the end.
    pub fn into_left_out(mut self) -> LeftOut {
        self.passage.left_out.unmatched = self.passage.exclusion.unmatched().collect();
        self.passage.left_out
    }
}

impl FilterState {
    /// Whether `\` is an ordinary byte in a string.
    #[must_use]
    pub fn is_conforming(&self) -> bool {
        self.reading.is_conforming()
    }
}
