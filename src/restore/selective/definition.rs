//! One entry of a dump as its text says: its statements, what they are about, and which kind of entry that makes it.
//!
//! [`super::definitions`] reads the texts. An entry is classified by its first statement, never by its head: names stand in heads
//! without quotes, so one head can read as another.

use std::ops::Range;

use crate::index::{Entry, Settings};
use crate::restore::statement::Head;
use crate::restore::subject::{Name, Object, Subject};
use crate::sql::{Lexer, SpanKind};

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Rows: `COPY` or `INSERT`.
    Rows,
    /// The value of a sequence.
    SequenceValue,
    /// `REFRESH MATERIALIZED VIEW`
    Refresh,
    /// Large objects and what is about them.
    LargeObject,
    /// The planner's statistics (PostgreSQL 18).
    Statistics,
    /// A schema, with its owner.
    Schema,
    /// What no pattern of tables or schemas chooses: publications, extensions, event triggers.
    OfDatabase,
    /// Any other definition.
    Definition,
}

impl Class {
    /// Whether it is data, not a definition.
    pub fn is_data(self) -> bool {
        matches!(self, Self::Rows | Self::SequenceValue | Self::Refresh | Self::LargeObject | Self::Statistics)
    }

    fn of(statement: &[u8], subject: &Subject) -> Self {
        let head = Head::of(statement);
        let is_select = |function: &str| {
            let text = format!("SELECT pg_catalog.{function}");
            statement.starts_with(text.as_bytes())
        };
        let is_on = |what: &[&str]| {
            let (comment, alter) = ([&["COMMENT", "ON"], what].concat(), [&["ALTER"], what].concat());
            head.begins(&comment) || head.begins(&alter) || head.begins(&[&["CREATE"], what].concat())
        };
        if head.is("COPY") || head.is("INSERT") {
            Self::Rows
        } else if head.is("REFRESH") {
            Self::Refresh
        } else if is_select("setval") {
            Self::SequenceValue
        } else if head.is("BEGIN")
            || is_select("lo_")
            || is_on(&["LARGE", "OBJECT"])
            || grants_on_large_object(statement)
        {
            Self::LargeObject
        } else if head.is("SELECT") {
            Self::Statistics
        } else if is_on(&["PUBLICATION"])
            || is_on(&["EXTENSION"])
            || is_on(&["EVENT", "TRIGGER"])
            || is_on(&["SUBSCRIPTION"])
        {
            Self::OfDatabase
        } else if head.begins(&["CREATE", "SCHEMA"]) && matches!(subject.makes, Some(Object::Schema(_))) {
            Self::Schema
        } else {
            Self::Definition
        }
    }
}

fn grants_on_large_object(statement: &[u8]) -> bool {
    let is_grant = statement.starts_with(b"GRANT ") || statement.starts_with(b"REVOKE ");
    is_grant && memchr::memmem::find(statement, b" ON LARGE OBJECT ").is_some()
}

/// An entry.
#[derive(Debug)]
pub(super) struct Definition {
    /// Its number in the index.
    pub entry: usize,
    pub class: Class,
    /// Its text up to its rows, or to the most that is kept.
    pub text: Vec<u8>,
    /// Its statements, in its text. An incomplete last one is none.
    pub statements: Vec<Range<usize>>,
    /// Its first statement that is not one of the settings before its head; of a long one the beginning.
    first: Range<usize>,
    /// What its first statement is about.
    pub subject: Subject,
    /// Partitions that its statements attach to their parents: where, the parent, the partition.
    pub attached: Vec<(Range<usize>, Name, Name)>,
    /// The partition of which the rows go through the root of its tree (`--load-via-partition-root`).
    pub via_root: Option<Name>,
    /// The settings in force for it, as the dump sets them.
    pub sets: Settings,
    head: Option<Vec<u8>>,
    edges: Edges,
}

/// How the text of an entry begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Edges {
    /// Heads in it.
    heads: usize,
    /// Whether one follows a statement that is not one of the settings before a head.
    is_head_late: bool,
    /// Whether its last statement and its last comment have ended.
    is_closed: bool,
}

impl Definition {
    /// Reads an entry. The preamble says how strings are read.
    pub fn of(entry: usize, text: Vec<u8>, preamble: &[u8]) -> Self {
        let Split { statements, unfinished, is_via_root, head, edges } = split(&text, preamble);
        let own = statements.iter().find(|range| !is_setting(&text[(*range).clone()])).cloned();
        let first = own.or_else(|| unfinished.map(|begin| begin..text.len())).unwrap_or_default();
        let subject = Subject::of(&text[first.clone()]);
        let class = Class::of(&text[first.clone()], &subject);
        let attached = statements.iter().filter_map(|range| attach(&text, range)).collect();
        let via_root = is_via_root.then(|| head.as_deref().and_then(Name::of_entry)).flatten();
        let sets = Settings::default();
        Self { entry, class, text, statements, first, subject, attached, via_root, sets, head, edges }
    }

    /// Large objects, which are not read.
    pub fn of_large_objects(entry: usize) -> Self {
        Self::unread(entry, Class::LargeObject, Subject::default())
    }

    /// Rows of a table, which are read when they are sent.
    pub fn of_rows(entry: usize, table: Name, via_root: Option<Name>) -> Self {
        let subject = Subject { of: vec![Object::Relation(table)], ..Subject::default() };
        Self { via_root, ..Self::unread(entry, Class::Rows, subject) }
    }

    fn unread(entry: usize, class: Class, subject: Subject) -> Self {
        let (text, statements, attached) = (Vec::new(), Vec::new(), Vec::new());
        let (via_root, sets, head, edges) = (None, Settings::default(), None, Edges::default());
        Self { entry, class, text, statements, first: 0..0, subject, attached, via_root, sets, head, edges }
    }

    /// Continues the settings of the entry before it.
    pub fn follow(&mut self, before: &Settings) {
        let mut sets = before.clone();
        for statement in self.statements() {
            let value = |name: &str| {
                let text = str::from_utf8(statement).ok()?.strip_prefix("SET ")?.strip_suffix(';')?;
                text.strip_prefix(name)?.strip_prefix(" = ").map(str::to_owned)
            };
            sets.default_tablespace = value("default_tablespace").or(sets.default_tablespace);
            sets.default_table_access_method =
                value("default_table_access_method").or(sets.default_table_access_method);
        }
        self.sets = sets;
    }

    /// Why its text is not the entry that the index says. `is_complete` if it is all of the entry.
    pub fn flaw(&self, entry: &Entry, is_complete: bool) -> Option<&'static str> {
        let head = self.head.as_deref().map(Entry::of_head);
        let is_other = self.edges.is_head_late
            || self.edges.heads > 1
            || head.as_ref().map_or(is_complete, |head| !head.has_head_of(entry));
        if is_other {
            return Some("the index says that another entry is there");
        }
        (is_complete && !self.edges.is_closed).then_some("the index says that an entry ends where none ends")
    }

    /// Whether it has statements or comments of an entry, or ends in the middle of one.
    pub fn has_entries(text: &[u8]) -> bool {
        let Edges { heads, is_closed, .. } = split(text, b"").edges;
        heads > 0 || !is_closed
    }

    /// Its first statement that is not one of the settings before its head; of a long one the beginning.
    pub fn first(&self) -> &[u8] {
        &self.text[self.first.clone()]
    }

    /// Its statements.
    pub fn statements(&self) -> impl Iterator<Item = &[u8]> {
        self.statements.iter().map(|range| &self.text[range.clone()])
    }
}

/// `SET default_tablespace` and `SET default_table_access_method` stand before the head of the entry that needs them.
fn is_setting(statement: &[u8]) -> bool {
    statement.starts_with(b"SET default_table")
}

fn attach(text: &[u8], range: &Range<usize>) -> Option<(Range<usize>, Name, Name)> {
    let statement = &text[range.clone()];
    if !statement.starts_with(b"ALTER TABLE ") || memchr::memmem::find(statement, b" ATTACH PARTITION ").is_none() {
        return None;
    }
    match Subject::of(statement).of.as_slice() {
        [Object::Relation(parent), Object::Relation(partition)] => {
            Some((range.clone(), parent.clone(), partition.clone()))
        }
        _ => None,
    }
}

/// The parts of an entry's text.
#[derive(Default)]
struct Split {
    statements: Vec<Range<usize>>,
    /// Where a statement begins that the text does not hold to its end.
    unfinished: Option<usize>,
    is_via_root: bool,
    /// The first one.
    head: Option<Vec<u8>>,
    edges: Edges,
}

fn split(text: &[u8], preamble: &[u8]) -> Split {
    let mut lexer = Lexer::default();
    // It chooses whether `\` escapes in strings.
    lexer.read(preamble, |_| {});
    let (mut split, mut begin, mut at) = (Split::default(), None, 0);
    lexer.read(text, |piece| {
        let start = at;
        at += piece.bytes.len();
        match piece.kind {
            SpanKind::Statement | SpanKind::CopyBegin => {
                let begin_of_this = *begin.get_or_insert(start);
                if piece.text.is_some() {
                    split.statements.push(begin_of_this..at);
                    begin = None;
                }
            }
            SpanKind::EntryHead => {
                let Some(head) = piece.text else { return };
                split.edges.heads += 1;
                let is_late = split.statements.iter().any(|range| !is_setting(&text[range.clone()]));
                split.edges.is_head_late |= is_late;
                split.head.get_or_insert_with(|| head.to_vec());
            }
            SpanKind::Comment => {
                split.is_via_root |= piece.text.is_some_and(|text| text.starts_with(b"-- load via partition root "));
            }
            _ => {}
        }
    });
    split.unfinished = begin;
    split.edges.is_closed = lexer.is_between_spans();
    split
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(text: &str) -> Definition {
        Definition::of(0, text.as_bytes().to_vec(), b"SET standard_conforming_strings = on;\n")
    }

    #[test]
    fn an_entry_is_what_its_first_statement_says() {
        for (text, class) in [
            (
                "SET default_tablespace = x;\n\n--\n-- Name: a; Type: TABLE DATA; Schema: b; Owner: c\n--\n\nCREATE TABLE a.b (\n);\n",
                Class::Definition,
            ),
            ("COPY a.b (c) FROM stdin;\n", Class::Rows),
            ("INSERT INTO a.b VALUES (1);\n", Class::Rows),
            ("SELECT pg_catalog.setval('a.b', 1, true);\n", Class::SequenceValue),
            ("SELECT pg_catalog.lo_create('1');\n", Class::LargeObject),
            ("GRANT ALL ON LARGE OBJECT 1 TO x;\n", Class::LargeObject),
            ("REFRESH MATERIALIZED VIEW a.b;\n", Class::Refresh),
            ("CREATE SCHEMA a;\n\n\nALTER SCHEMA a OWNER TO b;\n", Class::Schema),
            ("ALTER PUBLICATION p ADD TABLE ONLY a.b;\n", Class::OfDatabase),
            ("COMMENT ON EXTENSION e IS 'x';\n", Class::OfDatabase),
            (
                "SELECT * FROM pg_catalog.pg_restore_relation_stats('schemaname', 'a', 'relname', 'b');\n",
                Class::Statistics,
            ),
        ] {
            assert_eq!(definition(text).class, class, "{text}");
        }
    }

    #[test]
    fn it_knows_its_statements_and_the_partitions_that_they_attach() {
        let text = "CREATE TABLE a.b (\n    c text DEFAULT ';'::text\n);\nALTER TABLE ONLY a.p ATTACH PARTITION a.b FOR VALUES IN (1);\n\n\nALTER TABLE a.b OWNER TO x;\n";
        let read = definition(text);
        let statements: Vec<_> = read.statements().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
        assert_eq!(statements.len(), 3);
        let [(range, parent, partition)] = read.attached.as_slice() else { panic!("{read:?}") };
        assert_eq!((parent.to_string(), partition.to_string()), ("a.p".to_owned(), "a.b".to_owned()));
        assert!(text[range.clone()].starts_with("ALTER TABLE ONLY") && text[range.clone()].ends_with("(1);"));
    }

    #[test]
    fn a_statement_that_is_longer_than_what_is_kept_says_what_it_is_about_by_its_beginning() {
        for (text, class) in [
            ("SET default_tablespace = x;\n\nINSERT INTO a.b VALUES (1, 'x", Class::Rows),
            ("CREATE FUNCTION a.b() RETURNS text LANGUAGE sql AS $$ SELECT 'x", Class::Definition),
        ] {
            let read = definition(text);
            assert_eq!((read.class, read.subject.of.is_empty()), (class, false), "{text}");
            assert!(text.ends_with(std::str::from_utf8(read.first()).expect("text")) && !read.first().is_empty());
        }
    }

    #[test]
    fn an_entry_that_is_not_what_the_index_says_is_noticed() {
        let head = "--\n-- Name: t; Type: TABLE; Schema: s; Owner: o\n--\n\n";
        let entry = Entry::of_head(b"-- Name: t; Type: TABLE; Schema: s; Owner: o\n");
        let create = "CREATE TABLE s.t (\n    a integer\n);\n";
        for (text, is_flaw) in [
            (format!("{head}{create}\n\n"), false),
            (format!("SET default_tablespace = x;\n\n{head}{create}"), false),
            (format!("DROP TABLE s.u;\n\n{head}{create}"), true),
            (format!("{head}{create}{head}"), true),
            (create.to_owned(), true),
            (format!("{head}CREATE TABLE s.t (\n    a integer\n"), true),
            (format!("{head}COMMENT ON TABLE s.t IS 'x"), true),
            (format!("{}{create}", head.replace("Schema: s", "Schema: u")), true),
        ] {
            assert_eq!(definition(&text).flaw(&entry, true).is_some(), is_flaw, "{text}");
        }
        assert_eq!(definition(&format!("{head}CREATE TABLE s.t (")).flaw(&entry, false), None);
    }

    #[test]
    fn rows_that_go_through_the_root_of_a_partition_say_so() {
        let text = "--\n-- Data for Name: p1; Type: TABLE DATA; Schema: a; Owner: o\n--\n\n-- load via partition root a.p\nCOPY a.p (c) FROM stdin;\n";
        assert_eq!(definition(text).via_root.map(|name| name.to_string()).as_deref(), Some("a.p1"));
    }
}
