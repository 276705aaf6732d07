//! Filters parts of a dump apart from each other, as if each followed the statements before the data.

use std::io::Write;

use super::{Filter, Passage, Rows};
use crate::postgres::Transactions;
use crate::restore::exclusion::Exclusion;
use crate::restore::left_out::LeftOut;
use crate::restore::rules::Rules;

use super::reading::Reading;

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

    /// Goes on from this state.
    pub fn resumed(out: W, state: &FilterState, transactions: Transactions) -> Self {
        let FilterState { rules, exclusion, reading } = state.clone();
        let mut filter = Self::new(out, Rules { transactions, ..rules });
        (filter.passage.exclusion, filter.passage.reading) = (exclusion, reading);
        filter
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
