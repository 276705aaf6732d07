//! The plan of a restore by several sessions: what may run at once, and what must wait.
//!
//! Pure: from the index and the statements before and after the data. [`super::parallel`] runs it. Names come from statements alone,
//! never from the comments before them. What the plan does not recognise runs by one session, in the dump's order.

mod catalog;
mod class;
mod data;
mod foreign;
mod post;
mod schedule;
#[cfg(test)]
mod tests;

pub(super) use catalog::Catalog;
pub(super) use class::{Class, Setting, class, each_statement, setting, statements};
pub(super) use data::{Commit, Load, Piece, data_section};
pub(super) use schedule::{Job, Schedule, Work};

use std::ops::Range;

use super::LeaveOut;
use crate::index::Index;

/// What the plan depends on.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    pub index: &'a Index,
    /// The entries with data, and those between them.
    pub data: Range<usize>,
    pub catalog: &'a Catalog,
    /// The entries after the data, in order.
    pub after: &'a [Class],
    pub leave_out: &'a LeaveOut,
}

impl Contents<'_> {
    /// The jobs of a restore, from the first data to the end.
    pub fn plan(&self) -> Schedule {
        let data = data::stages(self.index, self.data.clone(), (self.catalog, self.leave_out));
        let data = data.into_iter().map(|stage| {
            let in_order = Some(stage.in_order).filter(|loads| !loads.is_empty()).map(Job::of_loads);
            in_order.into_iter().chain(stage.beside.into_iter().map(|load| Job::of_loads(vec![load]))).collect()
        });
        let sizes = data::sizes(self.index);
        let rows = data::Rows::of(self.index, self.data.clone(), self.catalog);
        let after = post::stages(self.after, self.catalog, &sizes).into_iter().map(|stage| {
            let loaded = |tables: &_| rows.of_tables(tables, self.catalog);
            stage.into_iter().map(|statements| Job::of_statements(statements, loaded)).collect()
        });
        Schedule::new(data.chain(after).collect())
    }
}
