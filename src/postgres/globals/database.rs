//! The database's owner, settings, comment, security labels and grants, as `psql` statements.
//!
//! `pg_dump --create` would write them with the old database name, and lock every table again. These statements use psql's
//! `:"DBNAME"`, so they apply to the connected database.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde::Deserialize;

use crate::postgres::databases::name_bytes;
use crate::postgres::{PostgresError, Session};
use crate::sql::{literal, quoted_name as name};

/// An object of JSON, for PostgreSQL 13 to 18.
const SETTINGS: &str = "\
pg_catalog.json_build_object('owner', pg_catalog.pg_get_userbyid(datdba), 'connection_limit', datconnlimit, \
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
WHERE objoid = d.oid AND classoid = 'pg_catalog.pg_database'::pg_catalog.regclass))";

/// Settings with a list of names, where each is a separate literal (`variable_is_guc_list_quote` in `pg_dump`).
pub(super) const LISTS: &[&str] = &[
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// Between statements that psql sends as one.
const TOGETHER: &str = " \\;\n";

/// What the server says of the database.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct DatabaseSettings {
    pub(super) owner: String,
    pub(super) connection_limit: i64,
    pub(super) is_template: bool,
    pub(super) comment: Option<String>,
    /// `None` if nothing was ever granted or revoked.
    pub(super) grants: Option<Vec<Grant>>,
    pub(super) settings: Vec<Values>,
    pub(super) labels: Vec<Label>,
    /// During parsing: the grantor of the next grants, if it is not the owner.
    #[serde(skip)]
    pub(super) grantor: Option<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) grantor: String,
    /// `None` means everybody.
    pub(super) grantee: Option<String>,
    pub(super) privilege: String,
    pub(super) grantable: bool,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Values {
    /// `None` means every role.
    pub(super) role: Option<String>,
    /// `name=value` each.
    pub(super) values: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) provider: String,
    pub(super) label: String,
}

impl DatabaseSettings {
    /// Asks the server; `None` if it refuses.
    ///
    /// # Errors
    /// If the session is lost.
    pub(super) async fn ask(session: &mut Session) -> Result<Option<Self>, PostgresError> {
        let question =
            format!("SELECT {SETTINGS} FROM pg_catalog.pg_database d WHERE datname = pg_catalog.current_database()");
        let answer = session.query_if_allowed(&question).await?;
        Ok(answer.first().and_then(|line| serde_json::from_str(line).ok()))
    }

    /// Asks the server for those of all databases with the encoding of this one, which their texts have; by name.
    ///
    /// # Errors
    /// If the session is lost.
    pub async fn ask_all(session: &mut Session) -> Result<HashMap<String, Self>, PostgresError> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
            settings: DatabaseSettings,
        }
        let name = name_bytes("d.datname");
        let question = format!(
            "SELECT pg_catalog.json_build_object('name', {name}, 'settings', {SETTINGS}) FROM pg_catalog.pg_database d \
             WHERE datallowconn AND encoding = (SELECT encoding FROM pg_catalog.pg_database \
             WHERE datname = pg_catalog.current_database())"
        );
        let answer = session.query_if_allowed(&question).await?;
        let all = answer.iter().filter_map(|line| serde_json::from_str(line).ok());
        let by_name = |Named { name, settings }| Some((String::from_utf8(hex::decode(name).ok()?).ok()?, settings));
        Ok(all.filter_map(by_name).collect())
    }

    /// The statements, in UTF-8.
    pub(super) fn script(&self) -> String {
        let mut text =
            "\n--\n-- The database that you are connected to\n--\n\nSET client_encoding = 'UTF8';\n\n".to_owned();
        let (database, owner) = (":\"DBNAME\"", name(&self.owner));
        let mut statements = vec![self.give(database)];
        statements.extend(self.attributes(database));
        statements.extend(self.comment.is_some().then(|| self.comment(database)));
        statements.extend(self.labels(database));
        statements.extend(self.rights(database, &owner));
        statements.extend(self.values(database));
        for statement in statements {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{};", statement.replace(TOGETHER, ";\n"));
        }
        text
    }

    /// The statement that gives a database its owner.
    #[must_use]
    pub fn give(&self, database: &str) -> String {
        format!("ALTER DATABASE {database} OWNER TO {}", name(&self.owner))
    }

    /// Other properties of the database itself that are not the default.
    #[must_use]
    pub fn attributes(&self, database: &str) -> Vec<String> {
        let limit = (self.connection_limit >= 0)
            .then(|| format!("ALTER DATABASE {database} WITH CONNECTION LIMIT = {}", self.connection_limit));
        let template = self.is_template.then(|| format!("ALTER DATABASE {database} WITH IS_TEMPLATE = true"));
        limit.into_iter().chain(template).collect()
    }

    /// The statement that gives it its comment, or takes it any other.
    #[must_use]
    pub fn comment(&self, database: &str) -> String {
        let comment = self.comment.as_deref().map_or_else(|| "NULL".to_owned(), literal);
        format!("COMMENT ON DATABASE {database} IS {comment}")
    }

    /// Its security labels.
    #[must_use]
    pub fn labels(&self, database: &str) -> Vec<String> {
        let label = |Label { provider, label }: &Label| {
            format!("SECURITY LABEL FOR {} ON DATABASE {database} IS {}", name(provider), literal(label))
        };
        self.labels.iter().map(label).collect()
    }

    /// Its grants, if anything was ever granted or revoked; `owner` is its owner at that time as SQL names it.
    #[must_use]
    pub fn rights(&self, database: &str, owner: &str) -> Vec<String> {
        let Some(grants) = &self.grants else { return Vec::new() };
        let mut statements = vec![format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC, {owner}")];
        statements.extend(grants.iter().map(|grant| grant.statement(database, (&self.owner, owner))));
        statements
    }

    /// Its settings, and those that roles have in it.
    #[must_use]
    pub fn values(&self, database: &str) -> Vec<String> {
        let set = |Values { role, values }: &Values| {
            let of = role.as_ref().map_or_else(String::new, |role| format!("ROLE {} IN ", name(role)));
            let pairs = values.iter().filter_map(|value| value.split_once('='));
            let statement = |(setting, value)| {
                format!("ALTER {of}DATABASE {database} SET {} TO {}", name(setting), words(setting, value))
            };
            pairs.map(statement).collect::<Vec<_>>()
        };
        self.settings.iter().flat_map(set).collect()
    }
}

impl Grant {
    /// A grant by somebody else than the owner is made in his name, as `pg_dump` does it.
    fn statement(&self, database: &str, (owner, its_word): (&str, &str)) -> String {
        let role = |role: &str| if role == owner { its_word.to_owned() } else { name(role) };
        let grantee = self.grantee.as_deref().map_or_else(|| "PUBLIC".to_owned(), role);
        let option = if self.grantable { " WITH GRANT OPTION" } else { "" };
        let grant = format!("GRANT {} ON DATABASE {database} TO {grantee}{option}", self.privilege);
        if self.grantor == owner {
            return grant;
        }
        ["SET SESSION AUTHORIZATION ", &name(&self.grantor), TOGETHER, &grant, TOGETHER, "RESET SESSION AUTHORIZATION"]
            .concat()
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
