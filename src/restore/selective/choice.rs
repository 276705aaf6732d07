//! Chooses the entries of a dump that a selective restore brings: those that `pg_dump -t` or `-n` would write, and the partitions of
//! a chosen table; without foreign keys to tables that are not chosen.

use std::collections::BTreeSet;

use crate::glob::Glob;
use crate::restore::subject::{Name, Object, Subject, as_written};

use super::definition::{Class, Definition};

/// What a restore is limited to.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// `--table`: globs.
    pub tables: Vec<Glob>,
    /// `--schema`: globs.
    pub schemas: Vec<Glob>,
    /// `--schema-only` or `--data-only`.
    pub part: Part,
}

/// Definitions, data, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// Both.
    #[default]
    All,
    /// `--schema-only`
    Definitions,
    /// `--data-only`
    Data,
}

impl Selection {
    /// Whether the restore is limited at all.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.has_patterns() || self.part != Part::All
    }

    /// Whether it names tables or schemas.
    #[must_use]
    pub fn has_patterns(&self) -> bool {
        !self.tables.is_empty() || !self.schemas.is_empty()
    }

    pub(super) fn has_schema(&self, schema: &str) -> bool {
        self.schemas.iter().any(|glob| glob.matches(schema))
    }

    fn has_table(&self, Name { schema, name }: &Name) -> bool {
        self.has_schema(schema) || self.tables.iter().any(|glob| glob.matches_table(schema, name))
    }
}

/// What was chosen.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// The numbers of the entries, in the dump's order.
    pub entries: Vec<usize>,
    /// Tables, views and sequences; without patterns all of the dump.
    pub relations: BTreeSet<Name>,
    /// Indexes, statistics and constraints that come with them.
    pub others: BTreeSet<Object>,
    /// Foreign keys that are left out: the constraint with its table, and the other table.
    pub foreign_keys: Vec<(String, String)>,
    /// The same as objects.
    left_out: BTreeSet<Object>,
    /// Partitions without their parents.
    pub detached: BTreeSet<Name>,
    /// Patterns that match nothing.
    pub unmatched: Vec<String>,
    /// Partitions of which the rows are those of a table that is not chosen.
    pub rows_elsewhere: Vec<(Name, Name)>,
}

impl Choice {
    /// Chooses.
    pub fn of(definitions: &[Definition], selection: &Selection) -> Self {
        let mut choice = Self { relations: relations(definitions, selection), ..Self::default() };
        choice.unmatched = unmatched(definitions, selection);
        for definition in definitions {
            if is_of_part(definition.class, selection.part) && choice.takes(definition, selection) {
                choice.entries.push(definition.entry);
            }
        }
        choice
    }

    /// Whether both ends of an attachment are chosen.
    pub fn attaches(&self, parent: &Name, partition: &Name) -> bool {
        self.relations.contains(parent) && self.relations.contains(partition)
    }

    fn takes(&mut self, definition: &Definition, selection: &Selection) -> bool {
        if !selection.has_patterns() {
            return true;
        }
        let subject = &definition.subject;
        for (_, parent, partition) in &definition.attached {
            if self.relations.contains(partition) && !self.relations.contains(parent) {
                self.detached.insert(partition.clone());
            }
        }
        let is_chosen = match definition.class {
            Class::LargeObject | Class::OfDatabase => false,
            Class::Rows => return self.takes_rows(definition),
            Class::SequenceValue | Class::Refresh => {
                subject.relation().is_some_and(|name| self.relations.contains(name))
            }
            Class::Statistics => subject.of.iter().any(|object| self.has(object, selection)),
            Class::Schema | Class::Definition => {
                // Statistics and own sequences are what the statement is about, too.
                let is_own = |object| subject.adds.as_ref() == Some(object);
                !subject.of.is_empty() && subject.of.iter().all(|object| is_own(object) || self.has(object, selection))
            }
        };
        if is_chosen { self.takes_key(subject, selection) } else { false }
    }

    fn takes_rows(&mut self, definition: &Definition) -> bool {
        let Some(table) = definition.subject.relation() else { return false };
        let is_chosen = self.relations.contains(table);
        if let Some(partition) = definition.via_root.as_ref().filter(|name| !is_chosen && self.relations.contains(name))
        {
            self.rows_elsewhere.push((partition.clone(), table.clone()));
        }
        is_chosen
    }

    /// Remembers what a chosen statement adds; refuses a foreign key to a table that is not chosen.
    fn takes_key(&mut self, subject: &Subject, selection: &Selection) -> bool {
        let other = subject.references.as_ref();
        let other = other.filter(|other| !self.has(&Object::Relation((*other).clone()), selection));
        if let (Some(other), Some(Object::Constraint(table, name))) = (other, &subject.adds) {
            self.foreign_keys.push((format!("{} of {table}", as_written(name)), other.to_string()));
            self.left_out.extend(subject.adds.clone());
            return false;
        }
        self.others.extend(subject.adds.clone());
        true
    }

    /// Whether an object is chosen or comes with what is.
    fn has(&self, object: &Object, selection: &Selection) -> bool {
        match object {
            Object::Relation(name) => self.relations.contains(name) || selection.has_schema(&name.schema),
            Object::Index(name) | Object::Statistics(name) => {
                self.others.contains(object) || selection.has_schema(&name.schema)
            }
            Object::Constraint(table, _) => self.relations.contains(table) && !self.left_out.contains(object),
            Object::Type(name) => selection.has_schema(&name.schema),
            Object::Member(schema) | Object::Schema(schema) => selection.has_schema(schema),
            Object::Extension(_) | Object::Cast(_) => false,
        }
    }
}

fn is_of_part(class: Class, part: Part) -> bool {
    match part {
        Part::All => true,
        Part::Definitions => !class.is_data(),
        Part::Data => class.is_data() && class != Class::Statistics,
    }
}

/// The relation that an entry creates.
fn created(definition: &Definition) -> Option<&Name> {
    match &definition.subject.makes {
        Some(Object::Relation(name)) => Some(name),
        _ => None,
    }
}

/// The chosen relations: those that a pattern matches, their partitions, and the sequences that they own.
fn relations(definitions: &[Definition], selection: &Selection) -> BTreeSet<Name> {
    // An identity column's sequence is created by the statement that adds it.
    let created = definitions.iter().flat_map(|definition| {
        created(definition).into_iter().chain(own_sequence(definition).map(|(_, sequence)| sequence))
    });
    let mut chosen: BTreeSet<Name> =
        created.filter(|name| !selection.has_patterns() || selection.has_table(name)).cloned().collect();
    loop {
        let before = chosen.len();
        for (_, parent, partition) in definitions.iter().flat_map(|definition| &definition.attached) {
            if chosen.contains(parent) {
                chosen.insert(partition.clone());
            }
        }
        if chosen.len() == before {
            break;
        }
    }
    for (table, sequence) in definitions.iter().filter_map(own_sequence) {
        if chosen.contains(table) {
            chosen.insert(sequence.clone());
        }
    }
    chosen
}

/// The table and its sequence, if an entry says that it owns one.
fn own_sequence(definition: &Definition) -> Option<(&Name, &Name)> {
    let Subject { of, adds: Some(Object::Relation(sequence)), .. } = &definition.subject else { return None };
    let table = of.iter().find_map(|object| match object {
        Object::Relation(name) if name != sequence => Some(name),
        _ => None,
    })?;
    Some((table, sequence))
}

/// The patterns that match no relation and no schema of the dump.
fn unmatched(definitions: &[Definition], selection: &Selection) -> Vec<String> {
    let relations: Vec<&Name> = definitions.iter().filter_map(created).collect();
    let schemas: BTreeSet<&String> =
        definitions.iter().flat_map(|definition| &definition.subject.of).filter_map(Object::schema).collect();
    let tables = selection
        .tables
        .iter()
        .filter(|glob| !relations.iter().any(|name| glob.matches_table(&name.schema, &name.name)));
    let schemas = selection.schemas.iter().filter(|glob| !schemas.iter().any(|schema| glob.matches(schema)));
    let named = |flag: &'static str| move |glob: &Glob| format!("{flag} {glob}");
    tables.map(named("--table")).chain(schemas.map(named("--schema"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of these statements.
    fn definitions(texts: &[&str]) -> Vec<Definition> {
        let texts = texts.iter().enumerate();
        texts.map(|(entry, text)| Definition::of(entry, text.as_bytes().to_vec(), b"")).collect()
    }

    fn chosen(texts: &[&str], tables: &[&str], schemas: &[&str]) -> Choice {
        let globs = |patterns: &[&str]| patterns.iter().map(|pattern| Glob::new(pattern)).collect();
        let selection = Selection { tables: globs(tables), schemas: globs(schemas), part: Part::All };
        Choice::of(&definitions(texts), &selection)
    }

    #[test]
    fn a_table_brings_what_belongs_to_it_and_no_more() {
        let texts = [
            "CREATE SCHEMA s;",
            "CREATE TABLE s.t (\n a integer\n);\nALTER TABLE s.t OWNER TO o;",
            "CREATE TABLE s.u (\n a integer\n);",
            "CREATE SEQUENCE s.q;",
            "ALTER SEQUENCE s.q OWNED BY s.t.a;",
            "ALTER TABLE ONLY s.t ALTER COLUMN a SET DEFAULT nextval('s.q'::regclass);",
            "COPY s.t (a) FROM stdin;\n",
            "COPY s.u (a) FROM stdin;\n",
            "SELECT pg_catalog.setval('s.q', 1, true);",
            "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (a);",
            "CREATE INDEX i ON s.t USING btree (a);",
            "COMMENT ON INDEX s.i IS 'x';",
            "CREATE STATISTICS s.st ON a, b FROM s.t;",
            "COMMENT ON STATISTICS s.st IS 'x';",
            "CREATE TRIGGER g BEFORE INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION s.f();",
            "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES s.u(a);",
            "COMMENT ON CONSTRAINT k ON s.t IS 'x';",
            "ALTER TABLE ONLY s.u\n    ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES s.t(a);",
            "ALTER PUBLICATION p ADD TABLE ONLY s.t;",
            "GRANT SELECT ON TABLE s.t TO r;",
        ];
        let choice = chosen(&texts, &["s.t"], &[]);
        assert_eq!(choice.entries, [1, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 19]);
        assert_eq!(choice.foreign_keys, [("k of s.t".to_owned(), "s.u".to_owned())]);
        let choice = chosen(&texts, &[], &["s"]);
        assert_eq!(choice.entries, (0..20).filter(|entry| *entry != 18).collect::<Vec<_>>());
        assert_eq!(chosen(&texts, &["nothing", "t"], &["x"]).unmatched, ["--table nothing", "--schema x"]);
    }

    #[test]
    fn a_parent_brings_its_partitions_and_a_partition_alone_is_a_table() {
        let texts = [
            "CREATE TABLE s.p (\n a integer\n)\nPARTITION BY LIST (a);",
            "CREATE TABLE s.c (\n a integer\n);",
            "CREATE TABLE z.d (\n a integer\n);",
            "ALTER TABLE ONLY s.p ATTACH PARTITION s.c FOR VALUES IN (1);",
            "ALTER TABLE ONLY s.c ATTACH PARTITION z.d FOR VALUES IN (1);",
            "CREATE INDEX pi ON ONLY s.p USING btree (a);",
            "CREATE INDEX ci ON s.c USING btree (a);",
            "ALTER INDEX s.pi ATTACH PARTITION s.ci;",
        ];
        assert_eq!(chosen(&texts, &["p"], &[]).entries, [0, 1, 2, 3, 4, 5, 6, 7]);
        let choice = chosen(&texts, &["c"], &[]);
        assert_eq!(choice.entries, [1, 2, 4, 6]);
        assert_eq!(choice.detached.iter().map(ToString::to_string).collect::<Vec<_>>(), ["s.c"]);
    }

    #[test]
    fn rows_that_go_through_a_root_that_is_not_chosen_are_named() {
        let texts = [
            "CREATE TABLE s.p (\n a integer\n);",
            "CREATE TABLE s.c (\n a integer\n);",
            "--\n-- Data for Name: c; Type: TABLE DATA; Schema: s; Owner: o\n--\n\n-- load via partition root s.p\nCOPY s.p (a) FROM stdin;\n",
        ];
        assert_eq!(chosen(&texts, &["c"], &[]).rows_elsewhere.len(), 1);
        assert_eq!(chosen(&texts, &["p"], &[]).entries, [0, 2]);
    }
}
