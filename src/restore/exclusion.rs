//! Leaves out tables and schemas with everything that cannot exist without them.
//!
//! [`super::filter`] asks it about each statement. It goes by the statement, because the comment before it can be ambiguous. A foreign key of
//! another table to one that is left out is left out, too. Anything else that needs one, such as a view, is kept, and fails in the target:
//! [`LeftOut::needs`] names it. It remembers what it has left out, because later statements refer to that.

use std::collections::BTreeSet;

use super::LeaveOut;
use super::left_out::{LeftOut, Need};
use super::subject::{Name, Object, Subject, as_written, names};
use crate::glob::Glob;

/// How much of a statement a message shows.
const SHOWN: usize = 120;

/// What happens to a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    Drop,
    /// It creates a sequence: its owner follows, and decides.
    Hold,
}

/// The patterns, and what was left out so far.
#[derive(Clone, Debug)]
pub(super) struct Exclusion {
    tables: Vec<Pattern>,
    schemas: Vec<Pattern>,
    gone: BTreeSet<Object>,
    held: Option<Held>,
}

#[derive(Clone, Debug)]
struct Pattern {
    glob: Glob,
    has_matched: bool,
}

/// A sequence, of which the owner is not known yet, and the statements about it.
#[derive(Clone, Debug)]
struct Held {
    sequence: Name,
    statements: Vec<Vec<u8>>,
}

impl Exclusion {
    pub fn new(leave_out: &LeaveOut) -> Self {
        let patterns = |globs: &[Glob]| {
            globs.iter().map(|glob| Pattern { glob: glob.clone(), has_matched: false }).collect::<Vec<_>>()
        };
        let (tables, schemas) = (patterns(&leave_out.tables), patterns(&leave_out.schemas));
        Self { tables, schemas, gone: BTreeSet::new(), held: None }
    }

    /// Decides about a statement, or about the beginning of a long one. The caller first sends the statements that are returned.
    pub fn judge(&mut self, statement: &[u8], left_out: &mut LeftOut) -> (Vec<Vec<u8>>, Fate) {
        if self.tables.is_empty() && self.schemas.is_empty() {
            return (Vec::new(), Fate::Keep);
        }
        let subject = Subject::of(statement);
        let is_of_held = self.held.as_ref().is_some_and(|held| subject.is_about(&held.sequence));
        let released = if is_of_held { Vec::new() } else { self.release() };
        if self.drops(&subject, left_out) {
            if is_of_held {
                self.held = None;
            }
            return (released, Fate::Drop);
        }
        if is_of_held {
            return (released, Fate::Hold);
        }
        if let Some(sequence) = subject.made_sequence(statement) {
            self.held = Some(Held { sequence: sequence.clone(), statements: Vec::new() });
            return (released, Fate::Hold);
        }
        if left_out.needs.is_none() && !statement.starts_with(b"INSERT ") && !statement.starts_with(b"COPY ") {
            left_out.needs = self.needed_by(statement);
        }
        (released, Fate::Keep)
    }

    /// Takes a statement that is to be held.
    pub fn hold(&mut self, statement: &[u8]) {
        if let Some(held) = &mut self.held {
            held.statements.push(statement.to_vec());
        }
    }

    /// The held statements: no other statement is about their sequence.
    pub fn release(&mut self) -> Vec<Vec<u8>> {
        self.held.take().map(|held| held.statements).unwrap_or_default()
    }

    /// Whether a relation of this name is left out.
    pub fn has(&mut self, relation: &Name) -> bool {
        self.is_gone(&Object::Relation(relation.clone()))
    }

    /// The patterns that nothing in the dump matches.
    pub fn unmatched(&self) -> impl Iterator<Item = String> {
        self.tables
            .iter()
            .chain(&self.schemas)
            .filter(|pattern| !pattern.has_matched)
            .map(|pattern| pattern.glob.to_string())
    }

    fn drops(&mut self, subject: &Subject, left_out: &mut LeftOut) -> bool {
        let is_gone = subject.of.iter().filter(|object| self.is_gone(object)).count() > 0;
        let loses_key = !is_gone && subject.references.clone().is_some_and(|other| self.has(&other));
        if !is_gone && !loses_key {
            return false;
        }
        if let (true, Some(Object::Constraint(table, name))) = (loses_key, &subject.adds) {
            left_out.add_foreign_key(format!("{} of {table}", as_written(name)));
        }
        match &subject.makes {
            Some(Object::Relation(name)) if !self.has_schema(&name.schema) => left_out.add_table(name.to_string()),
            Some(Object::Extension(name)) => left_out.add_extension(as_written(name)),
            _ => {}
        }
        let schemas = subject.of.iter().filter_map(Object::schema).filter(|schema| self.has_schema(schema));
        for schema in schemas.cloned().collect::<Vec<_>>() {
            left_out.add_schema(as_written(&schema));
        }
        self.gone.extend(subject.makes.iter().chain(&subject.adds).cloned());
        true
    }

    fn is_gone(&mut self, object: &Object) -> bool {
        if let Object::Relation(Name { schema, name }) = object
            && mark(&mut self.tables, |glob| glob.matches_table(schema, name))
        {
            return true;
        }
        if object.schema().is_some_and(|schema| mark(&mut self.schemas, |glob| glob.matches(schema))) {
            return true;
        }
        match object {
            Object::Type(name) => self.gone.contains(&Object::Relation(name.clone())),
            object => self.gone.contains(object),
        }
    }

    fn has_schema(&self, schema: &str) -> bool {
        self.schemas.iter().any(|pattern| pattern.glob.matches(schema))
    }

    /// What a kept statement needs and the target will not have.
    fn needed_by(&self, statement: &[u8]) -> Option<Need> {
        let is_gone = |name: &Name| {
            self.has_schema(&name.schema)
                || [Object::Relation, Object::Index].iter().any(|object| self.gone.contains(&object(name.clone())))
        };
        let needed = names(statement).find(is_gone)?;
        Some(Need { statement: shown(statement), object: needed.to_string(), name: needed.name })
    }
}

/// Marks the patterns that match, and returns whether there is one.
fn mark(patterns: &mut [Pattern], matches: impl Fn(&Glob) -> bool) -> bool {
    let mut any = false;
    for pattern in patterns.iter_mut().filter(|pattern| matches(&pattern.glob)) {
        pattern.has_matched = true;
        any = true;
    }
    any
}

/// The beginning of a statement, for a message.
fn shown(statement: &[u8]) -> String {
    let line = statement.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    String::from_utf8_lossy(line).chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests;
