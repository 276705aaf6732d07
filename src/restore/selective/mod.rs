//! Restores tables and schemas, or only definitions or data, out of a backup that has an index. Only the ranges that hold them are read.
//!
//! 1. [`Selective::prepare`] reads the definitions ([`definitions`]) and chooses entries ([`choice`]), as `pg_dump -t` would.
//! 2. What the chosen statements need ([`needs`]) and what the target is like ([`fit`]) is judged before anything is sent.
//! 3. [`plan`] and [`assembly`] make one dump of it. It goes the way of any dump: through the filter into psql, or into a file.
//!
//! Called by [`super::database`] and [`super::file`].

mod assembly;
mod choice;
mod definition;
mod definitions;
mod fit;
mod needs;
mod plan;

use std::collections::BTreeSet;
use std::io::Write;

use crate::archive::{RangeError, Ranges, Span, VerifiedRanges};
use crate::postgres::target::Target;
use crate::postgres::{Maintenance, PostgresError};

pub(super) use assembly::{Assembler, Piece};
pub use choice::{Part, Selection};
pub use plan::Selected;
pub(super) use plan::{Schemas, Surroundings, sections};

use definitions::Definitions;
use plan::Plan;

use super::preconditions::{self, Wanted};
use super::{Request, RestoreError};

/// Connections of a read. Most selections are small.
const CONNECTIONS: usize = 4;

/// A selective restore that was planned.
#[derive(Debug)]
pub(super) struct Selective {
    ranges: Ranges,
    plan: Plan,
}

/// What was restored of a backup, verified.
#[derive(Clone, Debug)]
pub(super) struct Restored {
    pub ranges: VerifiedRanges,
    pub rows: u64,
    pub tables: usize,
}

impl Selective {
    /// Plans the restore; `None` if everything is restored.
    ///
    /// # Errors
    /// If sections of the backup cannot be read, its definitions cannot be read, or a pattern matches nothing.
    pub async fn prepare(request: &Request<'_>) -> Result<Option<Self>, RestoreError> {
        let selection = &request.options.selection;
        if !selection.is_limited() {
            return Ok(None);
        }
        let ranges = request.ranges().await?.map_err(|unusable| RestoreError::NoIndex {
            file_name: request.chosen.backup.file_name.clone(),
            reason: unusable.to_string(),
        })?;
        let definitions = Definitions::read(request, &ranges).await?;
        let plan = Plan::new(definitions, ranges.index(), selection);
        let selective = Self { ranges, plan };
        let problems = selective.problems_of_choice();
        if !problems.is_empty() {
            return Err(RestoreError::Target { problems });
        }
        selective.announce();
        Ok(Some(selective))
    }

    /// Whether all tables and schemas are restored.
    pub fn is_of_everything(&self) -> bool {
        !self.plan.selection.has_patterns()
    }

    /// Whether the target must be empty: all definitions are restored.
    pub fn needs_empty_database(&self) -> bool {
        self.is_of_everything() && self.plan.selection.part != Part::Data
    }

    fn problems_of_choice(&self) -> Vec<String> {
        let choice = self.plan.choice();
        let unmatched = choice.unmatched.iter().map(|pattern| {
            format!("{pattern}: nothing in the backup matches: `list NAME --contents` shows what it holds")
        });
        let elsewhere = choice.rows_elsewhere.iter().map(|(partition, root)| {
            format!("the rows of {partition} go through its root {root} (--load-via-partition-root): choose {root}")
        });
        unmatched.chain(elsewhere).collect()
    }

    /// Logs what the choice leaves out.
    fn announce(&self) {
        let choice = self.plan.choice();
        for (key, other) in &choice.foreign_keys {
            tracing::warn!(foreign_key = key, table = other, "left out a foreign key to a table that is not chosen");
        }
        for partition in &choice.detached {
            tracing::warn!(table = %partition, "it is a partition, and its parent is not chosen: it becomes a table of its own");
        }
    }

    /// Warns of what the output of a file needs.
    pub fn warn_of_needs(&self) {
        for (need, statement) in &self.plan.needs {
            let needed = need.shown();
            tracing::warn!(needed, statement, "the output needs what was not chosen: the target must have it");
        }
    }

    /// Judges the target, and finds out what surrounds the dump there.
    ///
    /// # Errors
    /// If a session is lost.
    pub async fn fit(
        &self,
        request: &Request<'_>,
        server: &mut Maintenance,
        facts: &Target,
    ) -> Result<(Vec<String>, Surroundings), PostgresError> {
        let mut problems = self.general_problems(request, facts);
        if self.plan.selection.part == Part::Data {
            let (others, around) = fit::fit_for_data(server, &self.plan).await?;
            problems.extend(others);
            return Ok((problems, around));
        }
        problems.extend(fit::obstacles_to_definitions(server, &self.plan).await?);
        let schemas = Schemas::Existing(fit::existing_schemas(server, &self.plan).await?);
        Ok((problems, Surroundings { schemas, ..Surroundings::default() }))
    }

    /// The same for a database that is created: it has nothing.
    pub fn fit_new(&self, request: &Request<'_>, facts: &Target) -> (Vec<String>, Surroundings) {
        let mut problems = self.general_problems(request, facts);
        if self.plan.selection.part == Part::Data {
            problems.push("--data-only: a new database has no tables: restore into one that has".to_owned());
        }
        let missing: Vec<_> = self.plan.needs.iter().collect();
        problems.extend(fit::lacks("a new database", &missing));
        let schemas = if self.is_of_everything() {
            Schemas::OfDump
        } else {
            Schemas::Existing(BTreeSet::from(["public".to_owned()]))
        };
        (problems, Surroundings { schemas, ..Surroundings::default() })
    }

    /// What is judged by the plan alone.
    fn general_problems(&self, request: &Request<'_>, facts: &Target) -> Vec<String> {
        let (options, plan) = (request.options, &self.plan);
        let Some(manifest) = &request.chosen.manifest else { return Vec::new() };
        let is_data = plan.selection.part == Part::Data;
        let (owner, privileges) = (!options.leave_out.owner, !options.leave_out.privileges);
        let wanted = Wanted {
            relations: (plan.created().len() + plan.choice().others.len()) as u64,
            roles: if is_data { Vec::new() } else { plan.roles(&manifest.roles, privileges, owner) },
            tablespaces: plan.tablespaces().into_iter().collect(),
        };
        preconditions::problems_of_selection(facts, &wanted, manifest, options)
    }

    /// The dump that is sent.
    pub fn pieces(&self, around: &Surroundings) -> Vec<Piece> {
        self.plan.pieces(self.ranges.index(), around)
    }

    /// Reads what the pieces need, and writes the dump to the sink.
    ///
    /// # Errors
    /// As [`Ranges::read`].
    pub async fn read_into<W: Write + Send + 'static>(
        &self,
        request: &Request<'_>,
        pieces: Vec<Piece>,
        sink: W,
    ) -> Result<(Restored, Assembler<W>), RangeError<Assembler<W>>> {
        let sections = sections(&pieces);
        let ranges = self.ranges.clone().for_sections(&sections, CONNECTIONS);
        if !sections.is_empty() {
            (request.show)(ranges.progress());
        }
        let (verified, sink) = ranges.read(&sections, Assembler::new(pieces, sink)).await?;
        match sink.flaw(self.plan.tables(self.ranges.index())) {
            Some(damage) => Err(RangeError::Damaged { damage, sink }),
            None => Ok((self.restored(verified), sink)),
        }
    }

    /// [`Request::explained`], of these sections.
    pub async fn explained(&self, request: &Request<'_>, error: RestoreError, sections: &[Span]) -> RestoreError {
        request.explained(error, (&self.ranges, sections)).await
    }

    fn restored(&self, ranges: VerifiedRanges) -> Restored {
        let rows = self.plan.copies.iter().map(|(_, rows)| rows).sum();
        Restored { ranges: ranges.with(self.plan.definitions_read()), rows, tables: self.plan.copies.len() }
    }

    /// The COPY statements in the order in which they are sent: the table, and its rows.
    pub fn copies(&self) -> &[(String, u64)] {
        &self.plan.copies
    }

    /// What is restored, for the report.
    pub fn selected(&self) -> Vec<Selected> {
        self.plan.selected(self.ranges.index())
    }

    /// The tables that get rows, quoted for a statement.
    pub fn loaded(&self) -> Vec<String> {
        self.plan.loaded().into_iter().map(fit::quoted).collect()
    }
}
