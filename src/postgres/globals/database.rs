//! The database's owner, settings, comment, security labels and grants, as `psql` statements.
//!
//! `pg_dump --create` would write them with the old database name, and lock every table again. These statements use psql's
//! `:"DBNAME"`, so they apply to the connected database.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::postgres::{PostgresError, Session};

/// One line of JSON, for PostgreSQL 13 to 18.
const QUESTION: &str = "\
SELECT pg_catalog.json_build_object('owner', pg_catalog.pg_get_userbyid(datdba), 'connection_limit', datconnlimit, \
'is_template', datistemplate, 'comment', pg_catalog.shobj_description(d.oid, 'pg_database'), \
'grants', CASE WHEN datacl IS NOT NULL THEN (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(\
'grantor', pg_catalog.pg_get_userbyid(a.grantor), \
'grantee', CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END, \
'privilege', a.privilege_type, 'grantable', a.is_grantable) ORDER BY a.ordinality), '[]') \
FROM pg_catalog.aclexplode(datacl) WITH ORDINALITY AS a) END, \
'settings', (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(\
'role', CASE WHEN setrole <> 0 THEN pg_catalog.pg_get_userbyid(setrole) END, 'values', setconfig) ORDER BY setrole), '[]') \
FROM pg_catalog.pg_db_role_setting WHERE setdatabase = d.oid), \
'labels', (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('provider', provider, 'label', label) \
ORDER BY provider), '[]') FROM pg_catalog.pg_shseclabel \
WHERE objoid = d.oid AND classoid = 'pg_catalog.pg_database'::pg_catalog.regclass)) \
FROM pg_catalog.pg_database d WHERE datname = pg_catalog.current_database()";

/// Settings with a list of names, where each is a separate literal (`variable_is_guc_list_quote` in `pg_dump`).
const LISTS: &[&str] = &[
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// The settings of a database.
#[derive(Clone, Debug, Deserialize)]
pub struct DatabaseSettings {
    owner: String,
    connection_limit: i64,
    is_template: bool,
    comment: Option<String>,
    /// `None` if nothing was granted or revoked.
    grants: Option<Vec<Grant>>,
    settings: Vec<Values>,
    labels: Vec<Label>,
}

#[derive(Clone, Debug, Deserialize)]
struct Grant {
    grantor: String,
    /// `None` is `PUBLIC`.
    grantee: Option<String>,
    privilege: String,
    grantable: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct Values {
    /// `None` is every role.
    role: Option<String>,
    /// In the form `name=value`.
    values: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Label {
    provider: String,
    label: String,
}

impl DatabaseSettings {
    /// Asks the server; `None` if it refuses.
    ///
    /// # Errors
    /// If the session is lost.
    pub(super) async fn ask(session: &mut Session) -> Result<Option<Self>, PostgresError> {
        let answer = session.query_if_allowed(QUESTION).await?;
        Ok(answer.first().and_then(|line| serde_json::from_str(line).ok()))
    }

    /// The statements, in UTF-8.
    pub(super) fn script(&self) -> String {
        let mut text =
            "\n--\n-- The database that you are connected to\n--\n\nSET client_encoding = 'UTF8';\n\n".to_owned();
        let database = "DATABASE :\"DBNAME\"";
        // Writing to a String cannot fail.
        let _ = writeln!(text, "ALTER {database} OWNER TO {};", name(&self.owner));
        if self.connection_limit >= 0 {
            let _ = writeln!(text, "ALTER {database} WITH CONNECTION LIMIT = {};", self.connection_limit);
        }
        if self.is_template {
            let _ = writeln!(text, "ALTER {database} WITH IS_TEMPLATE = true;");
        }
        if let Some(comment) = &self.comment {
            let _ = writeln!(text, "COMMENT ON {database} IS {};", literal(comment));
        }
        for Label { provider, label } in &self.labels {
            let _ = writeln!(text, "SECURITY LABEL FOR {} ON {database} IS {};", name(provider), literal(label));
        }
        if self.grants.is_some() {
            let _ = writeln!(text, "REVOKE ALL ON {database} FROM PUBLIC, {};", name(&self.owner));
        }
        for grant in self.grants.iter().flatten() {
            text += &grant.statement(&self.owner);
        }
        for Values { role, values } in &self.settings {
            let of = role.as_ref().map_or_else(String::new, |role| format!("ROLE {} IN ", name(role)));
            for (setting, value) in values.iter().filter_map(|value| value.split_once('=')) {
                let _ = writeln!(text, "ALTER {of}{database} SET {} TO {};", name(setting), words(setting, value));
            }
        }
        text
    }
}

impl Grant {
    /// A grant by another role than the owner is executed as that role, as in `pg_dump`.
    fn statement(&self, owner: &str) -> String {
        let grantee = self.grantee.as_deref().map_or_else(|| "PUBLIC".to_owned(), name);
        let option = if self.grantable { " WITH GRANT OPTION" } else { "" };
        let grant = format!("GRANT {} ON DATABASE :\"DBNAME\" TO {grantee}{option};\n", self.privilege);
        if self.grantor == owner {
            return grant;
        }
        format!("SET SESSION AUTHORIZATION {};\n{grant}RESET SESSION AUTHORIZATION;\n", name(&self.grantor))
    }
}

/// A setting's value in the syntax of `SET`.
fn words(setting: &str, value: &str) -> String {
    if !LISTS.iter().any(|list| list.eq_ignore_ascii_case(setting)) {
        return literal(value);
    }
    let elements: Vec<String> = elements(value).iter().map(|element| literal(element)).collect();
    if elements.is_empty() { literal("") } else { elements.join(", ") }
}

/// The elements of a list in PostgreSQL's form: separated by commas, in double quotes if needed.
fn elements(list: &str) -> Vec<String> {
    let (mut elements, mut element, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = list.chars().peekable();
    let mut any = false;
    while let Some(character) = characters.next() {
        any = true;
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => element.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => elements.push(std::mem::take(&mut element)),
            space if space.is_ascii_whitespace() && !quoted => {}
            other => element.push(other),
        }
    }
    if any {
        elements.push(element);
    }
    elements
}

/// A quoted identifier.
fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A literal that does not depend on `standard_conforming_strings`.
fn literal(text: &str) -> String {
    let escape = if text.contains('\\') { "E" } else { "" };
    format!("{escape}'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_each_list_element_as_literal() {
        for (value, expected) in [
            ("\"\"", "''"),
            ("", "''"),
            ("\"$user\", public", "'$user', 'public'"),
            ("\"a, b\",\"it's \"\"x\"\"\"", "'a, b', 'it''s \"x\"'"),
            ("\"\", pg_temp", "'', 'pg_temp'"),
        ] {
            assert_eq!(words("search_path", value), expected, "{value}");
        }
        assert_eq!(words("work_mem", "9MB"), "'9MB'");
        assert_eq!(words("DateStyle", "ISO, DMY"), "'ISO, DMY'");
        assert_eq!(words("my.path", r"a\b'c"), r"E'a\\b''c'");
    }

    #[test]
    fn default_database_has_only_an_owner() {
        let json = r#"{"owner": "a b", "connection_limit": -1, "is_template": false, "comment": null, "grants": null, "settings": [], "labels": []}"#;
        let settings: DatabaseSettings = serde_json::from_str(json).expect("an answer");
        let text = settings.script();
        assert!(text.ends_with("\n\nALTER DATABASE :\"DBNAME\" OWNER TO \"a b\";\n"), "{text}");
    }
}
