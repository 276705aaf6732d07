//! The plan of a selective restore: what is sent, what is read for it, and what the target must be like.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::archive::{Span, VerifiedRanges};
use crate::index::{Entry, Index, Settings};
use crate::restore::statement::Head;
use crate::restore::subject::{Name, Object};
use crate::sql::{Token, Tokens, identifier, quoted_name};

use super::assembly::Piece;
use super::choice::{Choice, Part, Selection};
use super::definition::{Class, Definition};
use super::definitions::{Definitions, kept};
use super::needs::{Need, needs};

/// Says how this program's own statements are read, before the dump's preamble and after its data.
const OWN_SETTINGS: &str = "SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n";

/// What is restored, and how.
#[derive(Debug)]
pub(in crate::restore) struct Plan {
    definitions: Definitions,
    choice: Choice,
    pub selection: Selection,
    /// The COPY statements in the order in which they are sent: the table, and its rows.
    pub copies: Vec<(String, u64)>,
    /// What the target must have.
    pub needs: Vec<(Need, String)>,
}

/// A chosen entry, for the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Selected {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its schema; `-` if it has none.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Rows of its COPY data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// What surrounds the dump in a target.
#[derive(Clone, Debug, Default)]
pub(in crate::restore) struct Surroundings {
    /// Statements before the dump.
    pub before: Vec<String>,
    /// Statements after its data.
    pub after: Vec<String>,
    /// How schemas are made.
    pub schemas: Schemas,
}

/// How the schemas of what was chosen come to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::restore) enum Schemas {
    /// As the dump does: everything is restored.
    #[default]
    OfDump,
    /// These exist in the target, and the others are created.
    Existing(BTreeSet<String>),
    /// It is not known which exist.
    Unknown,
}

impl Plan {
    pub fn new(definitions: Definitions, index: &Index, selection: &Selection) -> Self {
        let choice = Choice::of(&definitions.all, selection);
        let needs = needs(&definitions.all, &choice, selection);
        let mut plan = Self { definitions, choice, selection: selection.clone(), copies: Vec::new(), needs };
        plan.copies = plan
            .chosen()
            .filter_map(|definition| Some((definition, index.entries.get(definition.entry)?.copy.as_ref()?)))
            .map(|(definition, copy)| {
                let table = definition.subject.relation().map_or_else(|| copy.table.clone(), Name::to_string);
                (table, copy.rows)
            })
            .collect();
        plan
    }

    /// The tables that the index has for the chosen entries with rows, as the dump writes them, and the rows of each.
    pub fn tables<'a>(&'a self, index: &'a Index) -> impl Iterator<Item = (&'a str, u64)> {
        let copies = self.chosen().filter_map(|definition| index.entries.get(definition.entry)?.copy.as_ref());
        copies.map(|copy| (copy.table.as_str(), copy.rows))
    }

    /// The ranges that were read for the definitions.
    pub fn definitions_read(&self) -> VerifiedRanges {
        self.definitions.verified
    }

    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The chosen entries, in the dump's order.
    pub fn chosen(&self) -> impl Iterator<Item = &Definition> {
        self.choice.entries.iter().filter_map(|entry| self.definitions.all.get(*entry))
    }

    /// Tables, views and sequences that the restore creates.
    pub fn created(&self) -> BTreeSet<&Name> {
        let made = |object: &Option<Object>| matches!(object, Some(Object::Relation(name)) if self.choice.relations.contains(name));
        let definitions = self.chosen().filter(|definition| !definition.class.is_data());
        let made = definitions.flat_map(move |definition| {
            let subject = &definition.subject;
            [&subject.makes, &subject.adds].into_iter().filter(move |object| made(object))
        });
        made.filter_map(|object| match object {
            Some(Object::Relation(name)) => Some(name),
            _ => None,
        })
        .collect()
    }

    /// Tables that get rows.
    pub fn loaded(&self) -> BTreeSet<&Name> {
        self.chosen()
            .filter(|definition| definition.class == Class::Rows)
            .filter_map(|definition| definition.subject.relation())
            .collect()
    }

    /// Sequences that get values, and materialized views that are refreshed.
    pub fn set(&self) -> BTreeSet<&Name> {
        let classes = [Class::SequenceValue, Class::Refresh];
        self.chosen()
            .filter(|definition| classes.contains(&definition.class))
            .filter_map(|definition| definition.subject.relation())
            .collect()
    }

    /// The schemas of what is created.
    pub fn schemas(&self) -> BTreeSet<&String> {
        let named = self.chosen().filter_map(|definition| match definition.subject.of.first() {
            Some(Object::Schema(schema)) => Some(schema),
            _ => None,
        });
        self.created().into_iter().map(|name| &name.schema).chain(named).collect()
    }

    /// Of these roles, those that the chosen statements name.
    pub fn roles<'a>(&self, roles: &'a [String], privileges: bool, owner: bool) -> Vec<&'a String> {
        let mut named = BTreeSet::new();
        for statement in self.chosen().filter(|definition| !definition.class.is_data()).flat_map(Definition::statements)
        {
            let head = Head::of(statement);
            let is_privilege =
                head.is("GRANT") || head.is("REVOKE") || head.begins(&["ALTER", "DEFAULT", "PRIVILEGES"]);
            let is_owner =
                head.is("ALTER") && !is_privilege && memchr::memmem::find(statement, b" OWNER TO ").is_some();
            let is_policy = head.begins(&["CREATE", "POLICY"]);
            if is_policy || is_privilege && privileges || is_owner && owner {
                named.extend(named_roles(statement));
            }
        }
        roles.iter().filter(|role| named.contains(*role)).collect()
    }

    /// The tablespaces of what is created.
    pub fn tablespaces(&self) -> BTreeSet<String> {
        let entries = self.chosen().filter(|definition| !definition.class.is_data());
        let values = entries.filter_map(|definition| definition.sets.default_tablespace.as_deref());
        values.filter_map(|value| identifier(value.as_bytes())).collect()
    }

    /// What is restored, in the dump's order.
    pub fn selected(&self, index: &Index) -> Vec<Selected> {
        let entries = self.choice.entries.iter().filter_map(|entry| index.entries.get(*entry));
        let selected = |Entry { kind, schema, name, copy, .. }: &Entry| Selected {
            kind: kind.clone(),
            schema: schema.clone(),
            name: name.clone(),
            rows: copy.as_ref().map(|copy| copy.rows),
        };
        entries.map(selected).collect()
    }

    /// The dump that is sent.
    pub fn pieces(&self, index: &Index, around: &Surroundings) -> Vec<Piece> {
        let mut pieces = vec![own(&around.before), Piece::Text(self.definitions.preamble.clone())];
        pieces.extend(self.missing_schemas(&around.schemas));
        // A rollback does not undo the value of a sequence that exists: it comes when nothing can fail any more.
        let is_last =
            |definition: &&Definition| self.selection.part == Part::Data && definition.class == Class::SequenceValue;
        let sent = || self.chosen().filter(|definition| !has_schema_already(definition, &around.schemas));
        pieces.extend(entries(index, sent().filter(|definition| !is_last(definition)), |definition| {
            self.text(definition)
        }));
        if !around.after.is_empty() {
            // Then the settings of the dump again.
            pieces.extend([own(&around.after), Piece::Text(self.definitions.preamble.clone())]);
        }
        pieces.extend(entries(index, sent().filter(is_last), |definition| self.text(definition)));
        pieces.push(Piece::Text(self.definitions.trailer.clone()));
        pieces.retain(|piece| !matches!(piece, Piece::Section(span) if span.is_empty()));
        pieces
    }

    /// The text of an entry, without attachments to parents that are not chosen.
    fn text(&self, definition: &Definition) -> Vec<u8> {
        let mut text = definition.text.clone();
        for (range, parent, partition) in definition.attached.iter().rev() {
            if self.selection.has_patterns() && !self.choice.attaches(parent, partition) {
                text.drain(range.clone());
            }
        }
        text
    }

    /// Creates the schemas that no chosen entry creates.
    fn missing_schemas(&self, schemas: &Schemas) -> Vec<Piece> {
        let is_chosen = |schema: &String| {
            self.chosen().any(|definition| {
                definition.class == Class::Schema && definition.subject.of == [Object::Schema(schema.clone())]
            })
        };
        let missing = self.schemas().into_iter().filter(|schema| match schemas {
            Schemas::OfDump => false,
            Schemas::Existing(existing) => !existing.contains(*schema),
            Schemas::Unknown => *schema != "public",
        });
        let missing = missing.filter(|schema| !is_chosen(schema));
        missing.map(|schema| self.schema(schema, schemas)).collect()
    }

    fn schema(&self, schema: &str, schemas: &Schemas) -> Piece {
        let of_dump = self.definitions.all.iter().find(|definition| {
            definition.class == Class::Schema && definition.subject.of == [Object::Schema(schema.to_owned())]
        });
        let text = of_dump.map(|definition| match definition.first().strip_prefix(b"CREATE SCHEMA ") {
            // In the dump's encoding.
            Some(name) if *schemas == Schemas::Unknown => {
                [b"CREATE SCHEMA IF NOT EXISTS ".as_slice(), name, b"\n\n\n"].concat()
            }
            _ => definition.text.clone(),
        });
        let made = || format!("CREATE SCHEMA IF NOT EXISTS {};\n\n\n", quoted_name(schema)).into_bytes();
        Piece::Text(text.unwrap_or_else(made))
    }
}

/// Whether an entry is about a schema that exists in the target, and stays as it is.
fn has_schema_already(definition: &Definition, schemas: &Schemas) -> bool {
    let Schemas::Existing(existing) = schemas else { return false };
    matches!(definition.subject.of.as_slice(), [Object::Schema(schema)] if existing.contains(schema))
}

/// The roles of a statement: what follows `TO`, `FROM` or `ROLE`, up to a condition.
fn named_roles(statement: &[u8]) -> impl Iterator<Item = String> {
    let tokens = Tokens::of(statement);
    let is_before = |token: &Token<'_>| !matches!(token, Token::Word(b"TO" | b"FROM" | b"ROLE"));
    let roles = tokens.skip_while(is_before).take_while(|token| *token != Token::Symbol(b'('));
    roles.filter_map(|token| match token {
        Token::Word(word) | Token::Quoted(word) => identifier(word),
        Token::Text(_) | Token::Symbol(_) => None,
    })
}

/// The pieces of entries, with the settings that the dump changes between them.
fn entries<'a>(
    index: &Index,
    sent: impl Iterator<Item = &'a Definition>,
    text: impl Fn(&Definition) -> Vec<u8>,
) -> Vec<Piece> {
    let (mut pieces, mut current) = (Vec::new(), Settings::default());
    let all: Vec<(&Entry, u64)> = index.entries().collect();
    for definition in sent {
        let Some((entry, end)) = all.get(definition.entry) else { continue };
        pieces.extend(changed(&current, &definition.sets));
        current.clone_from(&definition.sets);
        pieces.push(Piece::Text(text(definition)));
        pieces.push(Piece::Section(kept(entry, *end).end..*end));
    }
    pieces
}

/// The sections that the pieces need.
pub(in crate::restore) fn sections(pieces: &[Piece]) -> Vec<Span> {
    let sections = pieces.iter().filter_map(|piece| match piece {
        Piece::Section(span) => Some(span.clone()),
        Piece::Text(_) => None,
    });
    sections.collect()
}

/// This program's own statements.
fn own(statements: &[String]) -> Piece {
    if statements.is_empty() {
        return Piece::Text(Vec::new());
    }
    let lines = statements.join("\n");
    Piece::Text(format!("{OWN_SETTINGS}{lines}\n").into_bytes())
}

/// The settings of an entry that differ from those of the one before: the dump changes them between entries.
fn changed(before: &Settings, now: &Settings) -> Option<Piece> {
    let settings = [
        ("default_tablespace", &before.default_tablespace, &now.default_tablespace),
        ("default_table_access_method", &before.default_table_access_method, &now.default_table_access_method),
    ];
    let changed = settings.into_iter().filter(|(_, before, now)| before != now);
    let lines: Vec<String> =
        changed.filter_map(|(name, _, now)| Some(format!("SET {name} = {};\n", now.as_ref()?))).collect();
    (!lines.is_empty()).then(|| Piece::Text(format!("{}\n", lines.concat()).into_bytes()))
}
