//! What an entry after the data does, as far as it decides what may run at the same time.
//!
//! Only the statements say so, never the comment before them, which can be forged. What is not recognised runs alone, in order.

use super::foreign::names_others;
use crate::restore::subject::{Cursor, Name};
use crate::sql::{Lexer, SpanKind, Tokens};

/// The setting that the filter writes before a statement.
const READING: &[u8] = b"SELECT pg_catalog.set_config('standard_conforming_strings', '";

/// The class of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::restore) enum Class {
    /// It creates an index, or a constraint with an index.
    Index(NewIndex),
    /// It adds a foreign key of a table to another one.
    ForeignKey(Name, Name),
    /// A comment or a security label, which nothing depends on.
    Held,
    /// It creates an event trigger, which runs at the statements after it.
    EventTrigger,
    /// Nothing is left of it.
    Nothing,
    /// Anything else.
    Other,
}

/// The index that an entry creates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::restore) struct NewIndex {
    /// Its table.
    pub table: Name,
    /// Whether another index of the table may be created at the same time.
    pub is_shared: bool,
    /// Whether it names anything of the dump but its table: a function may read other tables.
    pub names_others: bool,
}

/// A setting of the session that an entry changes for the entries after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::restore) enum Setting {
    Tablespace,
    AccessMethod,
    /// One that `pg_dump` writes only at the beginning of a dump.
    Unexpected,
}

/// The statements of a text.
pub(in crate::restore) fn statements(text: &[u8]) -> Vec<Vec<u8>> {
    let mut statements = Vec::new();
    each_statement(text, |statement| statements.push(statement.to_vec()));
    statements
}

/// Calls this with each statement of a text.
pub(in crate::restore) fn each_statement(text: &[u8], mut take: impl FnMut(&[u8])) {
    let (mut lexer, mut statement) = (Lexer::default(), Vec::new());
    lexer.read(text, |piece| {
        if matches!(piece.kind, SpanKind::Statement | SpanKind::CopyBegin) {
            statement.extend_from_slice(piece.bytes);
            if piece.text.is_some() {
                take(&statement);
                statement.clear();
            }
        }
    });
}

/// The setting that a statement changes.
pub(in crate::restore) fn setting(statement: &[u8]) -> Option<Setting> {
    let mut text = Cursor(Tokens::of(statement));
    match text.keyword()?.as_str() {
        "SET" => match text.keyword()?.as_str() {
            "DEFAULT_TABLESPACE" => Some(Setting::Tablespace),
            "DEFAULT_TABLE_ACCESS_METHOD" => Some(Setting::AccessMethod),
            // Around the grants of a role other than the owner, in one entry.
            "SESSION" => None,
            _ => Some(Setting::Unexpected),
        },
        "RESET" => (text.keyword()? != "SESSION").then_some(Setting::Unexpected),
        _ => None,
    }
}

/// The class of an entry with these statements.
pub(in crate::restore) fn class(statements: &[Vec<u8>]) -> Class {
    let mut own = statements.iter().filter(|statement| !statement.starts_with(READING) && setting(statement).is_none());
    let Some(first) = own.next() else { return Class::Nothing };
    let rest: Vec<_> = own.collect();
    let of_first = class_of(first);
    match of_first {
        Class::Index(index) if rest.iter().all(|statement| belongs_to_index(statement)) => {
            Class::Index(NewIndex { is_shared: index.is_shared && rest.is_empty(), ..index })
        }
        Class::ForeignKey(..) if rest.is_empty() => of_first,
        Class::Held if rest.iter().all(|statement| class_of(statement) == Class::Held) => of_first,
        Class::EventTrigger => of_first,
        _ => Class::Other,
    }
}

fn class_of(statement: &[u8]) -> Class {
    let mut text = Cursor(Tokens::of(statement));
    match text.keyword().as_deref() {
        Some("CREATE") if text.eat("EVENT") => Class::EventTrigger,
        Some("CREATE") => created_index(text, statement).map_or(Class::Other, Class::Index),
        Some("ALTER") if text.eat("TABLE") => added_constraint(text, statement).unwrap_or(Class::Other),
        Some("COMMENT") if text.eat("ON") => Class::Held,
        Some("SECURITY") if text.eat("LABEL") => Class::Held,
        _ => Class::Other,
    }
}

fn created_index(mut text: Cursor<'_>, statement: &[u8]) -> Option<NewIndex> {
    text.eat("UNIQUE");
    if !text.eat("INDEX") {
        return None;
    }
    text.identifier()?;
    if !text.eat("ON") {
        return None;
    }
    text.eat("ONLY");
    let table = text.name()?;
    Some(NewIndex { table, is_shared: true, names_others: names_others(statement, 1) })
}

fn added_constraint(mut text: Cursor<'_>, statement: &[u8]) -> Option<Class> {
    text.eat("ONLY");
    let table = text.name()?;
    if !(text.eat("ADD") && text.eat("CONSTRAINT")) {
        return None;
    }
    text.identifier()?;
    match text.keyword()?.as_str() {
        "PRIMARY" | "UNIQUE" | "EXCLUDE" => {
            let names_others = names_others(statement, 1);
            Some(Class::Index(NewIndex { table, is_shared: false, names_others }))
        }
        "FOREIGN" if text.skip_to("REFERENCES") => Some(Class::ForeignKey(table, text.name()?)),
        _ => None,
    }
}

/// Whether a statement changes an index or its table as `pg_dump` writes it after the index: `CLUSTER ON`, `REPLICA IDENTITY`,
/// `SET STATISTICS`.
fn belongs_to_index(statement: &[u8]) -> bool {
    let mut text = Cursor(Tokens::of(statement));
    if text.keyword().as_deref() != Some("ALTER") {
        return false;
    }
    if text.eat("TABLE") {
        text.eat("ONLY");
        return text.name().is_some()
            && (text.eat("CLUSTER") && text.eat("ON") || text.eat("REPLICA") && text.eat("IDENTITY"));
    }
    text.eat("INDEX") && text.name().is_some() && text.eat("ALTER") && text.eat("COLUMN")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Class {
        class(&statements(text.as_bytes()))
    }

    fn name(name: &str) -> Name {
        Name { schema: "s".to_owned(), name: name.to_owned() }
    }

    fn index(table: &str, is_shared: bool, names_others: bool) -> Class {
        Class::Index(NewIndex { table: name(table), is_shared, names_others })
    }

    #[test]
    fn the_statements_say_what_an_entry_does() {
        for (text, expected) in [
            ("CREATE INDEX i ON s.t USING btree (a);\n", index("t", true, false)),
            ("CREATE UNIQUE INDEX \"I \"\"x\" ON ONLY s.\"t ;\" USING btree (s.f(a));", index("t ;", true, true)),
            ("CREATE INDEX i ON s.t USING btree (a);\nALTER TABLE s.t CLUSTER ON i;", index("t", false, false)),
            (
                "CREATE INDEX i ON s.t USING btree (a);\nALTER INDEX s.i ALTER COLUMN 1 SET STATISTICS 5;",
                index("t", false, false),
            ),
            ("SET default_tablespace = x;\nCREATE INDEX i ON s.t USING btree (a);", index("t", true, false)),
            ("ALTER TABLE ONLY s.t ADD CONSTRAINT c PRIMARY KEY (a);", index("t", false, false)),
            (
                "ALTER TABLE ONLY s.t ADD CONSTRAINT c EXCLUDE USING gist (a WITH OPERATOR(s.&&));",
                index("t", false, true),
            ),
            (
                "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES s.\"U\"(a) ON DELETE CASCADE;",
                Class::ForeignKey(name("t"), name("U")),
            ),
            ("COMMENT ON INDEX s.i IS 'CREATE INDEX i ON s.t USING btree (a);';", Class::Held),
            ("SECURITY LABEL FOR x ON TABLE s.t IS 'y';", Class::Held),
            ("SET default_tablespace = '';\n", Class::Nothing),
            ("", Class::Nothing),
            ("CREATE EVENT TRIGGER e ON ddl_command_end\n   EXECUTE FUNCTION s.f();", Class::EventTrigger),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_recognised_runs_alone() {
        for text in [
            "ALTER INDEX s.i ATTACH PARTITION s.j;",
            "ALTER TABLE s.t ADD CONSTRAINT c CHECK (s.f(a)) NOT VALID;",
            "ALTER TABLE s.t ADD CONSTRAINT c NOT NULL a NOT VALID;",
            "ALTER DOMAIN s.d ADD CONSTRAINT c CHECK (VALUE > 1) NOT VALID;",
            "CREATE INDEX i ON s.t USING btree (a);\nDROP TABLE s.u;",
            "COMMENT ON TABLE s.t IS 'x';\nDROP TABLE s.u;",
            "CREATE TRIGGER i AFTER INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION s.f();",
            "REFRESH MATERIALIZED VIEW s.m;",
            "CREATE INDEX CONCURRENTLY i ON s.t USING btree (a);",
            "CREATE INDEX i ON t USING btree (a);",
        ] {
            assert_eq!(of(text), Class::Other, "{text}");
        }
    }

    #[test]
    fn settings_are_recognised() {
        for (statement, expected) in [
            ("SET default_tablespace = '';", Some(Setting::Tablespace)),
            ("SET default_table_access_method = heap;", Some(Setting::AccessMethod)),
            ("SET SESSION AUTHORIZATION x;", None),
            ("RESET SESSION AUTHORIZATION;", None),
            ("SET search_path = evil;", Some(Setting::Unexpected)),
            ("RESET ALL;", Some(Setting::Unexpected)),
            ("SELECT 1;", None),
        ] {
            assert_eq!(setting(statement.as_bytes()), expected, "{statement}");
        }
    }
}
