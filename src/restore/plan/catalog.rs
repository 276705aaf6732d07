//! What the statements before the data create, as far as the order of data and indexes depends on it: tables, their families
//! (partitions and `INHERITS`), and the tables that must not be loaded beside others.

use std::collections::{BTreeMap, BTreeSet};

use super::foreign::{Casts, checks_call_out};
use crate::restore::subject::{Cursor, Name, names};
use crate::sql::{Token, Tokens};

/// Tables and types of a dump.
#[derive(Debug, Default)]
pub(in crate::restore) struct Catalog {
    tables: BTreeSet<Name>,
    /// The next table towards the root of its family.
    towards_root: BTreeMap<Name, Name>,
    /// Tables that have partitions or children.
    parents: BTreeSet<Name>,
    /// Tables and types of which the rows call something outside `pg_catalog`.
    barriers: BTreeSet<Name>,
    /// The tables and types that are named in the statement that creates one.
    named_in: Vec<(Name, BTreeSet<Name>)>,
    checked: Vec<(Name, Vec<u8>)>,
    has_casts: bool,
}

impl Catalog {
    /// Reads a statement before the data.
    pub fn add(&mut self, statement: &[u8]) {
        let mut text = Cursor(Tokens::of(statement));
        match text.keyword().as_deref() {
            Some("CREATE") => self.create(text, statement),
            Some("ALTER") => self.alter(text, statement),
            _ => {}
        }
    }

    /// Finds the barriers, after the last statement.
    #[must_use]
    pub fn complete(mut self) -> Self {
        let casts = if self.has_casts { Casts::MayCall } else { Casts::AreNone };
        let checked = std::mem::take(&mut self.checked);
        let calling = checked.into_iter().filter(|(_, statement)| checks_call_out(statement, casts));
        self.barriers.extend(calling.map(|(name, _)| name));
        let named_in = std::mem::take(&mut self.named_in);
        let mut families: BTreeSet<Name> = BTreeSet::new();
        loop {
            let before = (self.barriers.len(), families.len());
            families.extend(self.barriers.iter().map(|name| self.root(name).clone()));
            for (name, others) in &named_in {
                if families.contains(self.root(name)) || others.iter().any(|other| self.barriers.contains(other)) {
                    self.barriers.insert(name.clone());
                }
            }
            if before == (self.barriers.len(), families.len()) {
                return self;
            }
        }
    }

    /// Whether the dump creates this table.
    #[must_use]
    pub fn has_table(&self, table: &Name) -> bool {
        self.tables.contains(table)
    }

    /// Whether it has partitions or children.
    #[must_use]
    pub fn is_parent(&self, table: &Name) -> bool {
        self.parents.contains(table)
    }

    /// Whether it has a parent, partitions or children.
    #[must_use]
    pub fn is_of_family(&self, table: &Name) -> bool {
        self.is_parent(table) || self.towards_root.contains_key(table)
    }

    /// Whether there are tables that [`Self::is_barrier`] means.
    #[must_use]
    pub fn has_barriers(&self) -> bool {
        !self.barriers.is_empty()
    }

    /// Whether its rows may be loaded only after those before it in the dump, and before those after it.
    #[must_use]
    pub fn is_barrier(&self, table: &Name) -> bool {
        self.barriers.contains(table)
    }

    /// The root of its partitions, or of the tables that it inherits from.
    #[must_use]
    pub fn root<'a>(&'a self, table: &'a Name) -> &'a Name {
        let mut root = table;
        while let Some(next) = self.towards_root.get(root) {
            root = next;
        }
        root
    }

    fn create(&mut self, mut text: Cursor<'_>, statement: &[u8]) {
        text.eat("UNLOGGED");
        let is_foreign = text.eat("FOREIGN");
        match text.keyword().as_deref() {
            Some("TABLE") => {
                let Some(name) = text.name() else { return };
                self.inherits(&name, text);
                self.note(name.clone(), statement);
                if !is_foreign {
                    self.tables.insert(name);
                }
            }
            Some("DOMAIN" | "TYPE") => {
                let Some(name) = text.name() else { return };
                // A multirange has a name of its own.
                let is_multirange =
                    |token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(b"multirange_type_name"));
                if text.any(is_multirange) && text.any_symbol(b'=') {
                    let multirange = text.name();
                    self.named_in.extend(multirange.map(|multirange| (multirange, BTreeSet::from([name.clone()]))));
                }
                self.note(name, statement);
            }
            Some("CAST") => self.has_casts |= text.any(|token| is_word(token, b"FUNCTION")),
            _ => {}
        }
    }

    fn alter(&mut self, mut text: Cursor<'_>, statement: &[u8]) {
        if !matches!(text.keyword().as_deref(), Some("TABLE" | "DOMAIN")) {
            return;
        }
        text.eat("ONLY");
        let Some(name) = text.name() else { return };
        match text.keyword().as_deref() {
            Some("ATTACH") if text.eat("PARTITION") => {
                if let Some(partition) = text.name() {
                    self.join(&name, &partition);
                }
            }
            Some("INHERIT") => {
                if let Some(parent) = text.name() {
                    self.join(&parent, &name);
                }
            }
            Some("ADD") => self.checked.push((name, statement.to_vec())),
            _ => {}
        }
    }

    /// Reads `INHERITS (s.p, …)` and `PARTITION BY`.
    fn inherits(&mut self, table: &Name, mut text: Cursor<'_>) {
        let mut by_partition = text.clone();
        if by_partition.skip_to("PARTITION") && by_partition.eat("BY") {
            self.parents.insert(table.clone());
        }
        if !text.skip_to("INHERITS") || !text.any_symbol(b'(') {
            return;
        }
        while let Some(parent) = text.name() {
            self.join(&parent, table);
            if !text.any_symbol(b',') {
                break;
            }
        }
    }

    fn note(&mut self, name: Name, statement: &[u8]) {
        let others = names(statement).filter(|other| *other != name).collect();
        self.named_in.push((name.clone(), others));
        self.checked.push((name, statement.to_vec()));
    }

    /// Makes one family of two.
    fn join(&mut self, parent: &Name, child: &Name) {
        self.parents.insert(parent.clone());
        let (above, below) = (self.root(parent).clone(), self.root(child).clone());
        if above != below {
            self.towards_root.insert(below, above);
        }
    }
}

fn is_word(token: Token<'_>, word: &[u8]) -> bool {
    matches!(token, Token::Word(text) if text.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(statements: &[&str]) -> Catalog {
        let mut catalog = Catalog::default();
        for statement in statements {
            catalog.add(statement.as_bytes());
        }
        catalog.complete()
    }

    fn name(text: &str) -> Name {
        let (schema, name) = text.split_once('.').expect("a dot");
        Name { schema: schema.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn partitions_and_children_have_the_root_of_their_family() {
        let catalog = catalog(&[
            "CREATE TABLE s.p (a integer) PARTITION BY RANGE (a);",
            "CREATE TABLE s.q (a integer) PARTITION BY RANGE (a);",
            "CREATE TABLE s.leaf (a integer);",
            "CREATE TABLE s.child (b integer) INHERITS (s.\"Other one\", s.more);",
            "ALTER TABLE ONLY s.q ATTACH PARTITION s.leaf FOR VALUES FROM (1) TO (2);",
            "ALTER TABLE ONLY s.p ATTACH PARTITION s.q FOR VALUES FROM (1) TO (2);",
            "CREATE FOREIGN TABLE s.remote (a integer) SERVER x;",
        ]);
        assert_eq!(catalog.root(&name("s.leaf")), &name("s.p"));
        assert_eq!(catalog.root(&name("s.child")), catalog.root(&name("s.more")));
        assert_eq!(catalog.root(&name("s.child")), catalog.root(&name("s.Other one")));
        assert!(catalog.is_parent(&name("s.q")) && !catalog.is_parent(&name("s.leaf")));
        assert!(catalog.has_table(&name("s.leaf")) && !catalog.has_table(&name("s.remote")));
    }

    #[test]
    fn a_table_is_a_barrier_through_all_that_its_rows_pass() {
        let catalog = catalog(&[
            "CREATE DOMAIN s.d AS integer CONSTRAINT c CHECK (s.f(VALUE));",
            "CREATE TYPE s.pair AS (a integer, b s.d);",
            "CREATE TYPE s.r AS RANGE (subtype = s.d, multirange_type_name = s.mr);",
            "CREATE TABLE s.by_array (a s.pair[]);",
            "CREATE TABLE s.by_range (a s.mr);",
            "CREATE TABLE s.child (b integer) INHERITS (s.by_array);",
            "CREATE TABLE s.root (a integer) PARTITION BY LIST (a);",
            "CREATE TABLE s.one (a integer, CONSTRAINT c CHECK (s.g(a)));",
            "CREATE TABLE s.two (a integer);",
            "ALTER TABLE ONLY s.root ATTACH PARTITION s.one FOR VALUES IN (1);",
            "ALTER TABLE ONLY s.root ATTACH PARTITION s.two FOR VALUES IN (2);",
            "CREATE TABLE s.plain (a integer DEFAULT s.f(1));",
        ]);
        for table in ["s.by_array", "s.by_range", "s.child", "s.root", "s.one", "s.two"] {
            assert!(catalog.is_barrier(&name(table)), "{table}");
        }
        assert!(!catalog.is_barrier(&name("s.plain")));
    }

    #[test]
    fn with_a_cast_of_its_own_each_check_is_a_barrier() {
        let table = "CREATE TABLE s.t (a s.u, CONSTRAINT c CHECK ((a > 1)));";
        assert!(!catalog(&[table]).is_barrier(&name("s.t")));
        assert!(catalog(&[table, "CREATE CAST (s.u AS integer) WITH FUNCTION s.c(s.u);"]).is_barrier(&name("s.t")));
    }
}
