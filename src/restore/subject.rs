//! Finds the objects that a statement of a dump is about, by the statement's own text.
//!
//! [`super::exclusion`] uses it. It knows the forms that `pg_dump` writes; of any other statement it finds no object. Names are
//! without quotes.

use std::fmt;

use crate::sql::{Token, Tokens, quoted_name};

pub(super) use cursor::{Cursor, identifier, text};

mod cursor;

/// A qualified name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub schema: String,
    pub name: String,
}

impl Name {
    /// The table that the comment of an entry with rows names; `None` if a name in it holds `; ` and the comment could be read in two
    /// ways.
    pub fn of_entry(comment: &[u8]) -> Option<Self> {
        let text = str::from_utf8(comment.strip_prefix(b"-- Data for Name: ")?).ok()?;
        if text.matches("; ").count() != 3 {
            return None;
        }
        let (name, rest) = text.split_once("; Type: TABLE DATA; Schema: ")?;
        let (schema, _) = rest.split_once("; Owner: ")?;
        Some(Self { schema: schema.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", as_written(&self.schema), as_written(&self.name))
    }
}

/// An object that statements refer to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Object {
    /// A table, view, sequence or anything else with columns.
    Relation(Name),
    Index(Name),
    Statistics(Name),
    Type(Name),
    /// Another object in this schema.
    Member(String),
    Schema(String),
    Extension(String),
    /// A constraint of a table.
    Constraint(Name, String),
    /// A cast, by the types in its parentheses.
    Cast(String),
}

impl Object {
    /// The schema that it is in; a schema's own name.
    pub fn schema(&self) -> Option<&String> {
        match self {
            Self::Relation(name) | Self::Index(name) | Self::Statistics(name) | Self::Type(name) => Some(&name.schema),
            Self::Member(schema) | Self::Schema(schema) => Some(schema),
            Self::Constraint(table, _) => Some(&table.schema),
            Self::Extension(_) | Self::Cast(_) => None,
        }
    }
}

/// What a statement is about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Subject {
    /// The statement cannot run without any of these objects.
    pub of: Vec<Object>,
    /// The object that it creates.
    pub makes: Option<Object>,
    /// The index, constraint, statistics or own sequence that it adds to an object.
    pub adds: Option<Object>,
    /// The other table of the foreign key that it adds.
    pub references: Option<Name>,
}

impl Subject {
    /// Reads a statement, or the beginning of one.
    pub fn of(statement: &[u8]) -> Self {
        let mut text = Cursor(Tokens::of(statement));
        let mut subject = Self::default();
        match text.keyword().as_deref() {
            Some("CREATE") => subject.create(&mut text),
            Some("ALTER") => subject.alter(&mut text),
            Some("COMMENT" | "SECURITY" | "GRANT" | "REVOKE") if text.skip_to("ON") => {
                let kind = text.keyword().unwrap_or_default();
                subject.existing(&mut text, &kind);
            }
            Some("COPY") => subject.add_relation(&mut text),
            Some("INSERT") if text.eat("INTO") => subject.add_relation(&mut text),
            Some("REFRESH") => {
                text.skip_to("VIEW");
                text.eat("CONCURRENTLY");
                subject.add_relation(&mut text);
            }
            Some("SELECT") => subject.select(&mut text),
            _ => {}
        }
        subject
    }

    /// The sequence that the statement creates.
    pub fn made_sequence(&self, statement: &[u8]) -> Option<&Name> {
        let is_sequence = Tokens::of(statement).take(3).any(|token| token == Token::Word(b"SEQUENCE"));
        match &self.makes {
            Some(Object::Relation(name)) if is_sequence => Some(name),
            _ => None,
        }
    }

    /// The first relation that it is about.
    pub fn relation(&self) -> Option<&Name> {
        self.of.iter().find_map(|object| match object {
            Object::Relation(name) => Some(name),
            _ => None,
        })
    }

    /// Whether the statement is about this relation.
    pub fn is_about(&self, relation: &Name) -> bool {
        self.of.iter().any(|object| matches!(object, Object::Relation(name) if name == relation))
    }

    fn add_relation(&mut self, text: &mut Cursor<'_>) {
        text.eat("ONLY");
        self.of.extend(text.name().map(Object::Relation));
    }

    fn create(&mut self, text: &mut Cursor<'_>) {
        const ADJECTIVES: [&str; 9] =
            ["OR", "REPLACE", "UNLOGGED", "MATERIALIZED", "UNIQUE", "CONSTRAINT", "DEFAULT", "RECURSIVE", "TRUSTED"];
        while ADJECTIVES.iter().any(|word| text.eat(word)) {}
        let kind = text.keyword().unwrap_or_default();
        if text.eat("IF") {
            text.eat("NOT");
            text.eat("EXISTS");
        }
        match kind.as_str() {
            "INDEX" => {
                text.eat("CONCURRENTLY");
                let index = text.identifier();
                text.skip_to("ON");
                self.add_relation(text);
                self.adds = self.schema().zip(index).map(|(schema, name)| Object::Index(Name { schema, name }));
            }
            "TRIGGER" | "POLICY" if text.skip_to("ON") => self.add_relation(text),
            "RULE" if text.skip_to("TO") => self.add_relation(text),
            "STATISTICS" => {
                self.adds = text.name().map(Object::Statistics);
                self.of.extend(self.adds.clone());
                text.skip_to("FROM");
                self.add_relation(text);
            }
            "EXTENSION" => {
                self.makes = text.identifier().map(Object::Extension);
                text.eat("WITH");
                self.of.extend(text.identifier_after("SCHEMA").map(Object::Member));
            }
            "TABLE" | "VIEW" | "SEQUENCE" | "SCHEMA" | "FOREIGN" => {
                self.existing(text, &kind);
                self.makes = self.of.first().cloned();
            }
            _ => {
                self.existing(text, &kind);
                self.adds = self.of.iter().find(|object| matches!(object, Object::Cast(_))).cloned();
            }
        }
    }

    fn alter(&mut self, text: &mut Cursor<'_>) {
        let kind = text.keyword().unwrap_or_default();
        match kind.as_str() {
            "DEFAULT" if text.skip_to("IN") => {
                self.of.extend(text.identifier_after("SCHEMA").map(Object::Member));
            }
            "PUBLICATION" => {
                text.identifier();
                text.eat("ADD");
                if text.eat("TABLES") {
                    text.eat("IN");
                    self.of.extend(text.identifier_after("SCHEMA").map(Object::Member));
                } else if text.eat("TABLE") {
                    self.add_relation(text);
                }
            }
            _ => {
                text.eat("IF");
                text.eat("EXISTS");
                self.existing(text, &kind);
                self.action(text, &kind);
            }
        }
    }

    /// What `ALTER` does with a table, a sequence or an index.
    fn action(&mut self, text: &mut Cursor<'_>, kind: &str) {
        let Some(Object::Relation(relation) | Object::Index(relation)) = self.of.first().cloned() else { return };
        match text.keyword().as_deref() {
            Some("ATTACH") => {
                text.eat("PARTITION");
                let object = if kind == "INDEX" { Object::Index } else { Object::Relation };
                self.of.extend(text.name().map(object));
            }
            Some("OWNED") => {
                text.eat("BY");
                self.of.extend(text.name().map(Object::Relation));
                self.adds = Some(Object::Relation(relation));
            }
            Some("ADD") if text.eat("CONSTRAINT") => self.constraint(text, relation),
            Some("ALTER") => {
                // An identity column: `ADD GENERATED … AS IDENTITY (SEQUENCE NAME s.q …)`.
                text.eat("COLUMN");
                text.identifier();
                if text.eat("ADD") && text.eat("GENERATED") && text.any(|token| token == Token::Symbol(b'(')) {
                    text.eat("SEQUENCE");
                    text.eat("NAME");
                    self.adds = text.name().map(Object::Relation);
                }
            }
            _ => {}
        }
    }

    fn constraint(&mut self, text: &mut Cursor<'_>, table: Name) {
        let Some(name) = text.identifier() else { return };
        match text.keyword().as_deref() {
            Some("FOREIGN") if text.skip_to("REFERENCES") => {
                self.references = text.name();
                self.adds = Some(Object::Constraint(table, name));
            }
            // Its index is in the schema of the table.
            Some("PRIMARY" | "UNIQUE" | "EXCLUDE") => {
                self.adds = Some(Object::Index(Name { schema: table.schema, name }));
            }
            _ => {}
        }
    }

    /// What follows the kind of an object in most statements: its name.
    fn existing(&mut self, text: &mut Cursor<'_>, kind: &str) {
        match kind {
            "TABLE" | "VIEW" | "SEQUENCE" | "COLUMN" => self.add_relation(text),
            "MATERIALIZED" if text.eat("VIEW") => self.add_relation(text),
            "FOREIGN" if text.eat("TABLE") => self.add_relation(text),
            "INDEX" => self.of.extend(text.name().map(Object::Index)),
            "STATISTICS" => self.of.extend(text.name().map(Object::Statistics)),
            "SCHEMA" => self.of.extend(text.identifier().map(Object::Schema)),
            "EXTENSION" => self.of.extend(text.identifier().map(Object::Extension)),
            "TYPE" | "DOMAIN" | "FUNCTION" | "PROCEDURE" | "AGGREGATE" | "COLLATION" | "CONVERSION" => {
                self.of.extend(text.schema().map(Object::Member));
            }
            "OPERATOR" => {
                let _ = text.eat("CLASS") || text.eat("FAMILY");
                self.of.extend(text.schema().map(Object::Member));
            }
            "TEXT" if text.eat("SEARCH") => {
                text.keyword();
                self.of.extend(text.schema().map(Object::Member));
            }
            "CAST" => self.cast(text),
            "TRANSFORM" if text.eat("FOR") => self.of.extend(text.name().map(Object::Type)),
            "TRIGGER" | "RULE" | "POLICY" if text.skip_to("ON") => self.add_relation(text),
            "CONSTRAINT" => {
                let name = text.identifier();
                text.eat("ON");
                if text.eat("DOMAIN") {
                    self.of.extend(text.schema().map(Object::Member));
                } else if let Some((table, name)) = text.name().zip(name) {
                    self.of.extend([Object::Relation(table.clone()), Object::Constraint(table, name)]);
                }
            }
            _ => {}
        }
    }

    /// A cast goes with its types and its function, as in `pg_dump`.
    fn cast(&mut self, text: &mut Cursor<'_>) {
        let start = text.clone();
        let types = text.0.by_ref().take_while(|token| *token != Token::Symbol(b')'));
        self.of.push(Object::Cast(format!("{:?}", types.collect::<Vec<_>>())));
        self.of.extend(start.names().map(Object::Type));
    }

    /// The value of a sequence, or the planner's statistics of a relation.
    fn select(&mut self, text: &mut Cursor<'_>) {
        let statistics = text.any_symbol(b'*') && text.eat("FROM");
        text.eat_before_dot("PG_CATALOG");
        match text.keyword().as_deref() {
            Some("SETVAL") if !statistics => {
                let name = text.text().and_then(|text| Cursor(Tokens::of(text.as_bytes())).name());
                self.of.extend(name.map(Object::Relation));
            }
            Some("PG_RESTORE_RELATION_STATS" | "PG_RESTORE_ATTRIBUTE_STATS") if statistics => {
                let name = text.text_after("schemaname").zip(text.text_after("relname"));
                let name = name.map(|(schema, name)| Name { schema, name });
                self.of.extend(name.into_iter().flat_map(|name| [Object::Index(name.clone()), Object::Relation(name)]));
            }
            _ => {}
        }
    }

    fn schema(&self) -> Option<String> {
        self.relation().map(|name| name.schema.clone())
    }
}

/// The qualified names in a statement, in the order of their appearance. Rows are not searched.
pub(super) fn names(statement: &[u8]) -> impl Iterator<Item = Name> {
    Cursor(Tokens::of(statement)).names()
}

/// A name as a dump writes it, with quotes if it needs some.
pub(super) fn as_written(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let starts_plain = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if starts_plain && name.bytes().all(is_plain) { name.to_owned() } else { quoted_name(name) }
}
