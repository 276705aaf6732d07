//! The globals of a backup, read back: the statements that [`super`] writes, and no other.
//!
//! They are SQL from the bucket. Nothing of it is run as it stands: what is understood here becomes values, of which `restore`
//! makes statements of its own, and what is not is an error. Tablespaces and parameter grants are recognized and passed over.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use super::DatabaseSettings;
use super::script::unguarded;
use super::tokens::Tokens;
use crate::sql::{Lexer, SpanKind, literal, quoted_name};

/// So much of a statement is shown: it may hold a password's verifier.
const SHOWN_WORDS: usize = 3;
/// Attributes of a role that are one word.
const FLAGS: [&str; 14] = [
    "SUPERUSER",
    "NOSUPERUSER",
    "INHERIT",
    "NOINHERIT",
    "CREATEROLE",
    "NOCREATEROLE",
    "CREATEDB",
    "NOCREATEDB",
    "LOGIN",
    "NOLOGIN",
    "REPLICATION",
    "NOREPLICATION",
    "BYPASSRLS",
    "NOBYPASSRLS",
];

/// What the globals hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    /// The roles, in order.
    pub roles: Vec<Role>,
    /// Who is a member of what, in order.
    pub memberships: Vec<Membership>,
    /// The tablespaces' names.
    pub tablespaces: Vec<String>,
    /// The settings of the database itself; `None` if the server had not returned them.
    pub database: Option<DatabaseSettings>,
    /// How many grants on parameters there are.
    pub parameter_grants: usize,
}

/// A role.
#[derive(Clone, Default)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// `NOSUPERUSER INHERIT … VALID UNTIL '…'`, without the password.
    attributes: Vec<String>,
    password: Option<SecretString>,
    comment: Option<String>,
    /// Names of settings, and their values as SQL.
    settings: Vec<(String, String)>,
}

/// One role's membership in another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The role that has members.
    pub group: String,
    /// The member.
    pub member: String,
    options: Vec<String>,
    grantor: Option<String>,
}

/// A statement that this program does not write into globals; its first words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it holds {0:?}, which no version of this program writes there")]
pub struct NotOurs(pub String);

impl Role {
    /// The statement that gives it its attributes. It may hold a verifier: not to be shown.
    #[must_use]
    pub fn attributes(&self) -> Option<SecretString> {
        let password = self.password.iter().map(|password| format!("PASSWORD {}", literal(password.expose_secret())));
        let words: Vec<String> = self.attributes.iter().cloned().chain(password).collect();
        let statement = || format!("ALTER ROLE {} WITH {}", quoted_name(&self.name), words.join(" "));
        (!words.is_empty()).then(|| statement().into())
    }

    /// A text of others without its password.
    #[must_use]
    pub fn hide(&self, text: &str) -> String {
        let secret = self.password.as_ref().map(ExposeSecret::expose_secret).filter(|secret| !secret.is_empty());
        secret.map_or_else(|| text.to_owned(), |secret| text.replace(secret, "…"))
    }

    /// The statements for its comment and its settings.
    #[must_use]
    pub fn extras(&self) -> Vec<String> {
        let name = quoted_name(&self.name);
        let comment = self.comment.iter().map(|comment| format!("COMMENT ON ROLE {name} IS {}", literal(comment)));
        let set =
            |(setting, value): &(String, String)| format!("ALTER ROLE {name} SET {} TO {value}", quoted_name(setting));
        comment.chain(self.settings.iter().map(set)).collect()
    }
}

impl PartialEq for Role {
    fn eq(&self, other: &Self) -> bool {
        let shown = |role: &Self| (role.attributes().map(|text| text.expose_secret().to_owned()), role.extras());
        self.name == other.name && shown(self) == shown(other)
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Role").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Membership {
    /// The statement, as it was granted.
    #[must_use]
    pub fn statement(&self) -> String {
        let by =
            self.grantor.as_ref().map_or_else(String::new, |grantor| format!(" GRANTED BY {}", quoted_name(grantor)));
        format!("{}{by}", self.by_anybody())
    }

    /// The same, granted by the connected role, if it cannot use the grantor's rights.
    #[must_use]
    pub fn by_anybody(&self) -> String {
        let with = if self.options.is_empty() { String::new() } else { format!(" WITH {}", self.options.join(", ")) };
        format!("GRANT {} TO {}{with}", quoted_name(&self.group), quoted_name(&self.member))
    }
}

impl Recorded {
    /// Reads a script.
    ///
    /// # Errors
    /// The first statement that this program does not write.
    pub fn read(script: &str) -> Result<Self, NotOurs> {
        let mut recorded = Self::default();
        for statement in statements(script)? {
            let ours = recorded.take(&statement);
            ours.ok_or_else(|| NotOurs(first_words(&statement)))?;
        }
        Ok(recorded)
    }

    /// Takes one statement; `None` if it is not known.
    fn take(&mut self, statement: &str) -> Option<()> {
        if let Some((create, alter)) = unguarded(statement) {
            let mut tokens = Tokens::of(create.strip_suffix(';')?)?;
            tokens.words("CREATE ROLE")?;
            self.roles.push(Role { name: tokens.name()?, ..Role::default() });
            tokens.end()?;
            return alter.map_or(Some(()), |alter| self.alter_role(Tokens::of(alter.strip_suffix(';')?)?));
        }
        let tokens = Tokens::of(statement.strip_suffix(';')?)?;
        let known = self.passed_over(tokens.clone()).or_else(|| self.alter_role(tokens.clone()));
        let known = known.or_else(|| self.comment(tokens.clone())).or_else(|| self.grant(tokens.clone()));
        known.or_else(|| DatabaseSettings::take(&mut self.database, tokens))
    }

    /// `ALTER ROLE x WITH …`, `ALTER ROLE x SET y TO …`: of a role that is made here.
    fn alter_role(&mut self, mut tokens: Tokens) -> Option<()> {
        tokens.words("ALTER ROLE")?;
        let name = tokens.name()?;
        // Of one that is not, nothing is to be changed.
        let mut unknown = Role::default();
        let role = self.roles.iter_mut().find(|role| role.name == name).unwrap_or(&mut unknown);
        if tokens.words("SET").is_some() {
            let setting = tokens.name()?;
            tokens.words("TO")?;
            let values: Vec<String> = tokens.texts()?.iter().map(|value| literal(value)).collect();
            role.settings.push((setting, values.join(", ")));
            return tokens.end();
        }
        tokens.words("WITH")?;
        while tokens.end().is_none() {
            match tokens.word()?.as_str() {
                flag if FLAGS.contains(&flag) => role.attributes.push(flag.to_owned()),
                "CONNECTION" => {
                    tokens.words("LIMIT")?;
                    role.attributes.push(format!("CONNECTION LIMIT {}", tokens.number()?));
                }
                "PASSWORD" => role.password = Some(tokens.text()?.into()),
                "VALID" => {
                    tokens.words("UNTIL")?;
                    role.attributes.push(format!("VALID UNTIL {}", literal(&tokens.text()?)));
                }
                _ => return None,
            }
        }
        Some(())
    }

    fn comment(&mut self, mut tokens: Tokens) -> Option<()> {
        tokens.words("COMMENT ON ROLE")?;
        let name = tokens.name()?;
        tokens.words("IS")?;
        let comment = tokens.text()?;
        if let Some(role) = self.roles.iter_mut().find(|role| role.name == name) {
            role.comment = Some(comment);
        }
        tokens.end()
    }

    /// `GRANT a TO b WITH ADMIN OPTION, INHERIT TRUE, SET FALSE GRANTED BY c`
    fn grant(&mut self, mut tokens: Tokens) -> Option<()> {
        tokens.words("GRANT")?;
        let group = tokens.name()?;
        tokens.words("TO")?;
        let mut membership = Membership { group, member: tokens.name()?, ..Membership::default() };
        if tokens.words("WITH").is_some() {
            loop {
                let (option, value) = (tokens.word()?, tokens.word()?);
                match (option.as_str(), value.as_str()) {
                    ("ADMIN", "OPTION" | "TRUE" | "FALSE") | ("INHERIT" | "SET", "TRUE" | "FALSE") => {}
                    _ => return None,
                }
                membership.options.push(format!("{option} {value}"));
                if tokens.symbol(',').is_none() {
                    break;
                }
            }
        }
        if tokens.words("GRANTED BY").is_some() {
            membership.grantor = Some(tokens.name()?);
        }
        tokens.end()?;
        self.memberships.push(membership);
        Some(())
    }

    /// What is not brought back, or sets up the session of `psql`.
    fn passed_over(&mut self, mut tokens: Tokens) -> Option<()> {
        if tokens.words("CREATE TABLESPACE").is_some() {
            self.tablespaces.push(tokens.name()?);
            return Some(());
        }
        let of_session = [
            "SET client_encoding",
            "SET default_transaction_read_only",
            "SET standard_conforming_strings",
            "SET escape_string_warning",
        ];
        if of_session.iter().any(|words| tokens.words(words).is_some()) {
            return Some(());
        }
        // Around grants that are passed over; the database's own come after its owner.
        let of_grantor = ["SET SESSION AUTHORIZATION", "RESET SESSION AUTHORIZATION"];
        if self.database.is_none() && of_grantor.iter().any(|words| tokens.words(words).is_some()) {
            return Some(());
        }
        let of_others = ["ALTER TABLESPACE", "COMMENT ON TABLESPACE"];
        if of_others.iter().any(|words| tokens.words(words).is_some()) {
            return Some(());
        }
        if tokens.words("SECURITY LABEL FOR").is_some() {
            tokens.name()?;
            return tokens.words("ON ROLE").or_else(|| tokens.words("ON TABLESPACE"));
        }
        tokens.words("GRANT").or_else(|| tokens.words("REVOKE"))?;
        // The privileges, as far as to what they are on.
        while tokens.words("ON").is_none() {
            tokens.word().map(drop).or_else(|| tokens.symbol(','))?;
        }
        if tokens.words("PARAMETER").is_some() {
            self.parameter_grants += 1;
            return Some(());
        }
        tokens.words("TABLESPACE")
    }
}

/// The statements of a script, with their semicolons.
fn statements(script: &str) -> Result<Vec<String>, NotOurs> {
    let (mut statements, mut statement, mut foreign) = (Vec::new(), Vec::new(), None);
    let (mut lexer, mut is_inside) = (Lexer::default(), false);
    lexer.read(script.as_bytes(), |piece| match piece.kind {
        SpanKind::Statement => {
            statement.extend_from_slice(piece.bytes);
            is_inside = piece.text.is_none();
            if !is_inside {
                statements.push(String::from_utf8_lossy(&std::mem::take(&mut statement)).into_owned());
            }
        }
        SpanKind::PsqlCommand => {
            let line = piece.text.unwrap_or(piece.bytes);
            let is_known = line.starts_with(b"\\restrict ") || line.starts_with(b"\\unrestrict ");
            if is_inside || !is_known {
                foreign.get_or_insert_with(|| first_words(&String::from_utf8_lossy(line)));
            }
        }
        SpanKind::CopyBegin | SpanKind::CopyRows | SpanKind::CopyEnd => {
            foreign.get_or_insert_with(|| "COPY".to_owned());
        }
        SpanKind::Space | SpanKind::Comment | SpanKind::EntryHead => {}
    });
    lexer.finish(|piece| statement.extend_from_slice(piece.bytes));
    let unfinished = (!statement.is_empty()).then(|| first_words(&String::from_utf8_lossy(&statement)));
    foreign.or(unfinished).map_or(Ok(statements), |words| Err(NotOurs(words)))
}

fn first_words(statement: &str) -> String {
    let words: Vec<String> =
        statement.split_whitespace().take(SHOWN_WORDS).map(|word| word.chars().take(30).collect()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::script::Rewriter;
    use super::*;

    fn rewritten(text: &str) -> String {
        let (mut output, mut rewriter) = (Vec::new(), Rewriter::new("postgres"));
        rewriter.take(text.as_bytes(), &mut output).expect("memory takes it");
        rewriter.finish(&mut output).expect("memory takes it");
        String::from_utf8(output).expect("UTF-8")
    }

    #[test]
    fn reads_back_roles_and_memberships() {
        let text = "--\n-- Roles\n--\n\\restrict k\nSET client_encoding = 'UTF8';\nSET standard_conforming_strings = off;\n\
            SET escape_string_warning = off;\nCREATE ROLE a;\n\
            ALTER ROLE a WITH NOSUPERUSER LOGIN CONNECTION LIMIT 3 PASSWORD 'SCRAM-SHA-256$4096:x' VALID UNTIL 'infinity';\n\
            CREATE ROLE \"it's;\nBEGIN\n\"\"b\"\"\";\nALTER ROLE \"it's;\nBEGIN\n\"\"b\"\"\" WITH NOLOGIN;\n\
            COMMENT ON ROLE a IS 'it''s a';\nALTER ROLE a SET search_path TO 'x', 'y';\nALTER ROLE postgres SET work_mem TO '9';\n\
            CREATE TABLESPACE \"t s\" OWNER a LOCATION '/x';\nALTER TABLESPACE \"t s\" SET (seq_page_cost=2);\n\
            GRANT SET ON PARAMETER log_min_messages TO a;\nGRANT ALL ON TABLESPACE \"t s\" TO a WITH GRANT OPTION;\n\
            GRANT a TO \"it's;\nBEGIN\n\"\"b\"\"\" WITH ADMIN OPTION, INHERIT FALSE, SET TRUE GRANTED BY a;\n\
            GRANT a TO c WITH ADMIN OPTION GRANTED BY postgres;\n\\unrestrict k\n";
        let recorded = Recorded::read(&rewritten(text)).expect("ours");
        let names: Vec<&str> = recorded.roles.iter().map(|role| role.name.as_str()).collect();
        assert_eq!(names, ["a", "it's;\nBEGIN\n\"b\""]);
        let attributes = recorded.roles[0].attributes().expect("some");
        assert_eq!(
            attributes.expose_secret(),
            "ALTER ROLE \"a\" WITH NOSUPERUSER LOGIN CONNECTION LIMIT 3 VALID UNTIL 'infinity' PASSWORD 'SCRAM-SHA-256$4096:x'"
        );
        let extras = ["COMMENT ON ROLE \"a\" IS 'it''s a'", "ALTER ROLE \"a\" SET \"search_path\" TO 'x', 'y'"];
        assert_eq!(recorded.roles[0].extras(), extras);
        let granted: Vec<String> = recorded.memberships.iter().map(Membership::statement).collect();
        let wanted = [
            "GRANT \"a\" TO \"it's;\nBEGIN\n\"\"b\"\"\" WITH ADMIN OPTION, INHERIT FALSE, SET TRUE GRANTED BY \"a\"",
            "GRANT \"a\" TO \"c\" WITH ADMIN OPTION",
        ];
        assert_eq!(granted, wanted);
        assert_eq!((recorded.tablespaces, recorded.parameter_grants), (vec!["t s".to_owned()], 1));
        assert!(!format!("{:?}", recorded.roles).contains("SCRAM"));
    }

    #[test]
    fn reads_back_the_database() {
        let json = r#"{"owner": "a b", "connection_limit": 0, "is_template": true, "comment": "it's \\ x",
            "grants": [{"grantor": "a b", "grantee": null, "privilege": "CONNECT", "grantable": false},
                {"grantor": "a b", "grantee": "c", "privilege": "CREATE", "grantable": true},
                {"grantor": "c", "grantee": "public", "privilege": "CREATE", "grantable": false}],
            "settings": [{"role": null, "values": ["search_path=\"$user\", \"a, \"\"b\"", "my.path=a\\b'c"]},
                {"role": "c", "values": ["DateStyle=ISO, DMY", "temp_tablespaces=\"\""]}],
            "labels": [{"provider": "p", "label": "l"}]}"#;
        let settings: DatabaseSettings = serde_json::from_str(json).expect("an answer");
        let read = Recorded::read(&settings.script()).expect("ours").database.expect("a database");
        assert_eq!(read.script(), settings.script());
        let json = r#"{"owner": "o", "connection_limit": -1, "is_template": false, "comment": null, "grants": null,
            "settings": [], "labels": []}"#;
        let settings: DatabaseSettings = serde_json::from_str(json).expect("an answer");
        assert_eq!(Recorded::read(&settings.script()).expect("ours").database, Some(settings));
    }

    #[test]
    fn refuses_what_this_program_does_not_write_and_shows_no_more_than_its_beginning() {
        let database = "ALTER DATABASE :\"DBNAME\" OWNER TO \"o\";\n";
        for (script, words) in [
            ("DROP ROLE a;", "DROP ROLE a;"),
            ("CREATE ROLE a;", "CREATE ROLE a;"),
            ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';", "CREATE FUNCTION f()"),
            (
                "DO 'BEGIN\nCREATE ROLE a;\nDROP TABLE t;\nEXCEPTION WHEN duplicate_object THEN RAISE NOTICE ''%: left as it is'', SQLERRM;\nEND';",
                "DO 'BEGIN CREATE",
            ),
            ("ALTER ROLE a WITH PASSWORD 'sentinel' OOPS;", "ALTER ROLE a"),
            ("ALTER SYSTEM SET a = 'b';", "ALTER SYSTEM SET"),
            ("ALTER DATABASE postgres OWNER TO a;", "ALTER DATABASE postgres"),
            ("GRANT a TO b; SELECT 1;", "SELECT 1;"),
            ("\\! touch /tmp/x\n", "\\! touch /tmp/x"),
            ("GRANT a \\! touch\n TO b;", "\\! touch"),
            ("COPY t FROM stdin;\n1\n\\.\n", "COPY"),
            ("SELECT 1", "SELECT 1"),
            ("BEGIN;", "BEGIN;"),
        ] {
            assert_eq!(Recorded::read(&format!("{database}{script}")), Err(NotOurs(words.to_owned())), "{script}");
        }
    }
}
