//! What the chosen statements need and the choice does not bring: types, functions, operators, parents, sequences of others, access
//! methods, foreign servers. A restore names all of it before anything is sent.

use std::collections::BTreeSet;

use crate::restore::statement::Head;
use crate::restore::subject::{self, Name, Object, as_written};
use crate::sql::{Token, Tokens, identifier, parts};

use super::choice::{Choice, Part, Selection};
use super::definition::{Class, Definition};

/// Access methods that every server has.
const BUILT_IN: [&str; 7] = ["heap", "btree", "hash", "gist", "gin", "spgist", "brin"];

/// Something that the target must have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// A type, function, operator, table, or anything else in a schema.
    Object(Name),
    AccessMethod(String),
    Server(String),
}

impl Need {
    /// How a message names it.
    pub fn shown(&self) -> String {
        match self {
            Self::Object(Name { schema, name }) if name.chars().all(|letter| letter.is_ascii_punctuation()) => {
                format!("{}.{name}", as_written(schema))
            }
            Self::Object(name) => name.to_string(),
            Self::AccessMethod(name) => format!("the access method {}", as_written(name)),
            Self::Server(name) => format!("the foreign server {}", as_written(name)),
        }
    }
}

/// Finds everything, with the first entry that needs it.
pub(super) fn needs(definitions: &[Definition], choice: &Choice, selection: &Selection) -> Vec<(Need, String)> {
    if !selection.has_patterns() || selection.part == Part::Data {
        return Vec::new();
    }
    let dump = Dump::of(definitions);
    let chosen = || choice.entries.iter().filter_map(|entry| definitions.get(*entry));
    let brought: BTreeSet<Name> = chosen().flat_map(all_created).chain(choice.relations.iter().cloned()).collect();
    let is_brought = |name: &Name| {
        brought.contains(name)
            || [Object::Index, Object::Statistics].iter().any(|object| choice.others.contains(&object(name.clone())))
    };
    let (mut found, mut needs) = (BTreeSet::new(), Vec::new());
    for definition in chosen().filter(|definition| !definition.class.is_data()) {
        let own = definition.statements.iter().filter(|range| {
            let mut cut =
                definition.attached.iter().filter(|(_, parent, partition)| !choice.attaches(parent, partition));
            !cut.any(|(attached, ..)| attached == *range)
        });
        let mut of_this: Vec<Need> =
            own.flat_map(|range| of_statement(&definition.text[range.clone()], &dump)).collect();
        of_this.extend(definition.sets.default_table_access_method.as_ref().and_then(|method| {
            let makes_table = matches!(definition.subject.makes, Some(Object::Relation(_)));
            let is_foreign = makes_table && !BUILT_IN.contains(&method.as_str()) && has_storage(definition.first());
            is_foreign.then(|| Need::AccessMethod(identifier(method.as_bytes()).unwrap_or_else(|| method.clone())))
        }));
        for need in of_this {
            let is_missing = !matches!(&need, Need::Object(name) if is_brought(name));
            if is_missing && found.insert(need.clone()) {
                needs.push((need, shown(definition)));
            }
        }
    }
    needs
}

/// What the dump creates, and the schemas of its extensions.
struct Dump {
    created: BTreeSet<Name>,
    extension_schemas: BTreeSet<String>,
}

impl Dump {
    fn of(definitions: &[Definition]) -> Self {
        let extensions = definitions.iter().filter(|definition| definition.class == Class::OfDatabase);
        let extension_schemas =
            extensions.flat_map(|definition| &definition.subject.of).filter_map(|object| match object {
                Object::Member(schema) => Some(schema.clone()),
                _ => None,
            });
        let relations = definitions.iter().filter_map(|definition| match &definition.subject.adds {
            Some(Object::Relation(sequence)) => Some(sequence.clone()),
            _ => None,
        });
        Self {
            created: definitions.iter().flat_map(all_created).chain(relations).collect(),
            extension_schemas: extension_schemas.collect(),
        }
    }

    /// Whether a qualified name is one of an object, not of a column of an alias.
    fn knows(&self, name: &Name) -> bool {
        self.created.contains(name) || self.extension_schemas.contains(&name.schema)
    }
}

/// The object with a schema that an entry creates.
fn created(definition: &Definition) -> Option<Name> {
    if let Some(Object::Relation(name)) = &definition.subject.makes {
        return Some(name.clone());
    }
    let first = definition.first();
    let head = Head::of(first);
    let is_on_table = ["INDEX", "TRIGGER", "RULE", "POLICY", "CAST"].iter().any(|kind| head.begins(&["CREATE", kind]));
    if !head.is("CREATE") || is_on_table || definition.class != Class::Definition {
        return None;
    }
    Scan::of(first).find_map(|found| match found {
        Found::Name(name) | Found::Operator(name) => Some(name),
        Found::Text(_) => None,
    })
}

/// The same, and the multirange type that comes with a range type.
fn all_created(definition: &Definition) -> impl Iterator<Item = Name> {
    let mut scan = Scan::of(definition.first());
    let is_there = scan.0.any(|token| token == Token::Word(b"multirange_type_name"));
    let multirange = is_there.then(|| scan.next()).flatten().and_then(|found| match found {
        Found::Name(name) => Some(name),
        Found::Operator(_) | Found::Text(_) => None,
    });
    created(definition).into_iter().chain(multirange)
}

/// Views and foreign tables have no access method.
fn has_storage(statement: &[u8]) -> bool {
    let head = Head::of(statement);
    !["VIEW", "FOREIGN", "SEQUENCE"].iter().any(|kind| head.begins(&["CREATE", kind]))
}

fn of_statement(statement: &[u8], dump: &Dump) -> Vec<Need> {
    let head = Head::of(statement);
    if ["COMMENT", "GRANT", "REVOKE", "SECURITY"].iter().any(|word| head.is(word)) {
        return Vec::new();
    }
    let names = Scan::of(statement).filter_map(|found| match found {
        Found::Name(name) => dump.knows(&name).then_some(name),
        Found::Operator(name) => (name.schema != "pg_catalog").then_some(name),
        Found::Text(name) => dump.created.contains(&name).then_some(name),
    });
    let mut needs: Vec<Need> = names.map(Need::Object).collect();
    if head.begins(&["CREATE", "FOREIGN"]) {
        needs.extend(word_after(statement, b"SERVER").map(Need::Server));
    }
    let is_index = head.begins(&["CREATE", "INDEX"]) || head.begins(&["CREATE", "UNIQUE", "INDEX"]);
    if is_index || memchr::memmem::find(statement, b" EXCLUDE USING ").is_some() {
        let method = word_after(statement, b"USING");
        needs.extend(method.filter(|method| !BUILT_IN.contains(&method.as_str())).map(Need::AccessMethod));
    }
    needs
}

/// The name after the first such keyword.
fn word_after(statement: &[u8], keyword: &[u8]) -> Option<String> {
    let mut tokens = Tokens::of(statement);
    tokens.by_ref().find(|token| *token == Token::Word(keyword))?;
    tokens.next().and_then(subject::identifier)
}

/// A qualified name in a statement.
enum Found {
    Name(Name),
    /// `OPERATOR(s.+)`
    Operator(Name),
    /// `'s.q'::regclass`
    Text(Name),
}

/// Finds the qualified names of a statement.
struct Scan<'a>(Tokens<'a>);

impl<'a> Scan<'a> {
    fn of(statement: &'a [u8]) -> Self {
        Self(Tokens::of(statement))
    }

    /// The name after a schema's dot, or an operator.
    fn qualified(&mut self, schema: &str) -> Option<Found> {
        let mut ahead = self.0.clone();
        if ahead.next() != Some(Token::Symbol(b'.')) {
            return None;
        }
        let schema = schema.to_owned();
        let after_dot = ahead.clone();
        if let Some(name) = ahead.next().and_then(subject::identifier) {
            self.0 = ahead;
            return Some(Found::Name(Name { schema, name }));
        }
        let is_operator = |byte: u8| byte.is_ascii_punctuation() && !b"()\"'.,;".contains(&byte);
        let symbols = after_dot.map_while(|token| match token {
            Token::Symbol(byte) if is_operator(byte) => Some(char::from(byte)),
            _ => None,
        });
        let name: String = symbols.collect();
        (!name.is_empty()).then_some(Found::Operator(Name { schema, name }))
    }

    /// Whether a cast to an object's name follows.
    fn is_object_name(&self) -> bool {
        let mut ahead = self.0.clone();
        let is_cast = ahead.next() == Some(Token::Symbol(b':')) && ahead.next() == Some(Token::Symbol(b':'));
        is_cast && matches!(ahead.next(), Some(Token::Word(kind)) if kind.starts_with(b"reg"))
    }
}

impl Iterator for Scan<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let token = self.0.next()?;
            let found = match token {
                Token::Text(text) if self.is_object_name() => {
                    let name = subject::text(text).replace("''", "'");
                    parts(&name).map(|(schema, name)| Found::Text(Name { schema, name }))
                }
                Token::Text(_) | Token::Symbol(_) => None,
                name => subject::identifier(name).and_then(|schema| self.qualified(&schema)),
            };
            if found.is_some() {
                return found;
            }
        }
    }
}

/// The beginning of an entry's statement, for a message.
fn shown(definition: &Definition) -> String {
    let line = definition.first().split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    String::from_utf8_lossy(line).trim_end_matches(" (").chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(statement: &str, created: &[(&str, &str)]) -> Vec<String> {
        let created =
            created.iter().map(|(schema, name)| Name { schema: (*schema).to_owned(), name: (*name).to_owned() });
        let dump = Dump { created: created.collect(), extension_schemas: BTreeSet::from(["ext".to_owned()]) };
        of_statement(statement.as_bytes(), &dump).iter().map(Need::shown).collect()
    }

    #[test]
    fn finds_what_a_statement_needs() {
        let created = [("a", "mood"), ("a", "f"), ("b", "q"), ("a", "p")];
        for (statement, needs) in [
            (
                "CREATE TABLE a.t (\n m a.mood DEFAULT a.f('b.q'::text), c ext.citext\n)\nINHERITS (a.p);",
                vec!["a.mood", "a.f", "ext.citext", "a.p"],
            ),
            ("ALTER TABLE ONLY x.t ALTER COLUMN n SET DEFAULT nextval('b.q'::regclass);", vec!["b.q"]),
            ("CREATE INDEX i ON x.t USING bloom (a ext.gin_ops);", vec!["ext.gin_ops", "the access method bloom"]),
            ("CREATE INDEX i ON x.t USING gist (a) WHERE (a OPERATOR(a.===) 1);", vec!["a.==="]),
            (
                "CREATE FOREIGN TABLE x.t (\n a integer\n)\nSERVER \"my Server\"\nOPTIONS (b 'c');",
                vec!["the foreign server \"my Server\""],
            ),
            ("ALTER TABLE ONLY x.t ADD CONSTRAINT e EXCLUDE USING gist (a WITH OPERATOR(pg_catalog.=));", vec![]),
            ("CREATE VIEW x.v AS SELECT f.mood FROM x.t f;", vec![]),
            ("COMMENT ON TABLE x.t IS 'b.q';", vec![]),
            ("CREATE POLICY p ON x.t USING ((a = 1));", vec![]),
        ] {
            assert_eq!(found(statement, &created), needs, "{statement}");
        }
    }
}
