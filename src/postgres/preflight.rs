//! What could stop or spoil a dump, found before it: asked of the server.
//!
//! `backup` logs them as warnings, for `pg_dump` decides; `check` fails on what stops it. Each says what is wrong, where, and what would mend it. None of it is asked twice,
//! and a question that the server refuses is no answer, not a failure.

use serde::Deserialize;

use super::{Facts, Place, Pooling, PostgresError, Session};

/// Relations of the user's that `pg_dump` reads, less those of extensions and of other sessions.
const RELATIONS: &str = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";

/// A million tables or large objects take longer to look through: then nothing is told, and `pg_dump` decides. Well under
/// the session's own deadline, which would end the backup.
const QUESTION_TIMEOUT: &str = "10s";

/// What a concern comes to, if it is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// `pg_dump` fails on it.
    Stops,
    /// The dump may be spoiled, or fail at a bad moment.
    Spoils,
    /// The server does not tell whether there is anything to be concerned about.
    Unknown,
}

/// One thing that may stop or spoil the dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concern {
    /// What it comes to.
    pub severity: Severity,
    /// What is wrong and where, in one line.
    pub text: String,
    /// What would mend it.
    pub mend: String,
}

/// Who reads the tables: the role that connects, or the one that `--role` names.
struct Reader {
    /// Its name as SQL writes it.
    name: String,
    /// Whether `pg_read_all_data` is there to be granted.
    has_read_all: bool,
}

/// How many objects a question found, the first of them, and the schemas that they are in.
#[derive(Debug, Deserialize)]
struct Found {
    count: u64,
    examples: Option<Vec<String>>,
    schemas: Option<Vec<String>>,
}

/// What came of a question.
enum Answer {
    Nothing,
    Found(Found),
    /// It was refused, or took too long.
    Refused,
}

impl Found {
    /// `3 tables (public.a, public.b, …)`
    fn words(&self, kind: &str) -> String {
        let examples = self.examples.clone().unwrap_or_default().join(", ");
        let more = if self.count > 5 { ", …" } else { "" };
        format!("{} {kind} ({examples}{more})", self.count)
    }
}

/// What a role may be kept from reading.
#[derive(Clone, Copy)]
enum Kind {
    Tables,
    Sequences,
    Rows,
    LargeObjects,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Tables, Self::Sequences, Self::Rows, Self::LargeObjects];

    fn question(self) -> String {
        match self {
            Self::Tables => relations(
                "c.relkind IN ('r', 'p') AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'))",
            ),
            Self::Sequences => relations(
                "c.relkind = 'S' AND NOT (has_sequence_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'))",
            ),
            Self::Rows => relations("c.relkind IN ('r', 'p') AND row_security_active(c.oid)"),
            Self::LargeObjects => LARGE_OBJECTS.to_owned(),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Tables => "tables",
            Self::Sequences => "sequences",
            Self::Rows => "rows under row-level security",
            Self::LargeObjects => "large objects",
        }
    }

    fn concern(self, found: &Found, reader: &Reader) -> Concern {
        let unreadable = || format!("this role may not read {}", found.words(self.words()));
        let (text, mend) = match self {
            Self::Tables => (unreadable(), grant("TABLES", found, reader)),
            Self::Sequences => (unreadable(), grant("SEQUENCES", found, reader)),
            Self::Rows => (
                format!("row-level security would hide rows of {}: pg_dump refuses them", found.words("tables")),
                format!("ALTER ROLE {} BYPASSRLS", reader.name),
            ),
            Self::LargeObjects => (unreadable(), grant_large_objects(found, reader)),
        };
        Concern { severity: Severity::Stops, text, mend }
    }
}

/// The statements that let the reader read relations.
fn grant(kind: &str, found: &Found, reader: &Reader) -> String {
    let name = &reader.name;
    if reader.has_read_all {
        return format!("GRANT pg_read_all_data TO {name}");
    }
    let schemas = found.schemas.clone().unwrap_or_default().join(", ");
    format!("GRANT USAGE ON SCHEMA {schemas} TO {name}; GRANT SELECT ON ALL {kind} IN SCHEMA {schemas} TO {name}")
}

/// `pg_read_all_data` does not hold for large objects.
fn grant_large_objects(found: &Found, reader: &Reader) -> String {
    let name = &reader.name;
    if found.count <= 5 {
        let numbers = found.examples.clone().unwrap_or_default().join(", ");
        return format!("GRANT SELECT ON LARGE OBJECT {numbers} TO {name}");
    }
    // Each by its number; psql runs what the query gives.
    let name = name.replace('\'', "''").replace('%', "%%");
    format!(
        "SELECT format('GRANT SELECT ON LARGE OBJECT %s TO {name}', oid) FROM pg_largeobject_metadata \\gexec (in psql)"
    )
}

/// Asks the server, as the role that `pg_dump` will read with: `role` where `--role` names one.
///
/// # Errors
/// Where the session is lost.
pub async fn concerns(session: &mut Session, facts: &Facts, role: Option<&str>) -> Result<Vec<Concern>, PostgresError> {
    session.query(&format!("SET statement_timeout = '{QUESTION_TIMEOUT}'")).await?;
    if let Some(role) = role {
        session.query_if_allowed(&format!("SET ROLE {}", quoted(role))).await?;
    }
    let name = quoted(role.unwrap_or(&facts.user));
    let concerns = ask_all(session, facts, &Reader { name, has_read_all: facts.version().major >= 14 }).await?;
    session.query("RESET ROLE; SET statement_timeout = 0").await?;
    Ok(concerns)
}

async fn ask_all(session: &mut Session, facts: &Facts, reader: &Reader) -> Result<Vec<Concern>, PostgresError> {
    let mut concerns = unreadable(session, reader).await?;
    if facts.in_recovery {
        concerns.extend(on_standby(session).await?);
    }
    concerns.extend(pooler(facts));
    Ok(concerns)
}

async fn unreadable(session: &mut Session, reader: &Reader) -> Result<Vec<Concern>, PostgresError> {
    let mut concerns = Vec::new();
    for kind in Kind::ALL {
        match ask(session, &kind.question()).await? {
            Answer::Nothing => {}
            Answer::Found(found) => concerns.push(kind.concern(&found, reader)),
            Answer::Refused => concerns.push(Concern {
                severity: Severity::Unknown,
                text: format!("the server does not tell about {} that this role may not read", kind.words()),
                mend: "look at the messages of psql in the log".to_owned(),
            }),
        }
    }
    Ok(concerns)
}

/// Large objects that this role does not own, is not granted, and may not read as a superuser. `has_largeobject_privilege`
/// came with PostgreSQL 18 only.
const LARGE_OBJECTS: &str = "SELECT json_build_object('count', count(*), 'examples', (array_agg(m.oid::text))[1:5]) \
FROM pg_largeobject_metadata m WHERE NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) \
AND NOT pg_has_role(m.lomowner, 'USAGE') AND NOT EXISTS (SELECT FROM aclexplode(m.lomacl) a \
WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))";

fn relations(condition: &str) -> String {
    format!(
        "SELECT json_build_object('count', count(*), 'schemas', (array_agg(DISTINCT quote_ident(n.nspname)))[1:50], 'examples', \
         (array_agg(format('%I.%I', n.nspname, c.relname) ORDER BY n.nspname, c.relname))[1:5]) {RELATIONS} AND {condition}"
    )
}

async fn ask(session: &mut Session, question: &str) -> Result<Answer, PostgresError> {
    let answer = session.query_if_allowed(question).await?;
    let found: Option<Found> = answer.first().and_then(|line| serde_json::from_str(line).ok());
    Ok(match found {
        None => Answer::Refused,
        Some(Found { count: 0, .. }) => Answer::Nothing,
        Some(found) => Answer::Found(found),
    })
}

/// A standby has no unlogged data, and may cancel a long query.
async fn on_standby(session: &mut Session) -> Result<Vec<Concern>, PostgresError> {
    let mut concerns = Vec::new();
    let unlogged = relations("c.relkind IN ('r', 'p') AND c.relpersistence = 'u'");
    if let Answer::Found(found) = ask(session, &unlogged).await? {
        concerns.push(Concern {
            severity: Severity::Spoils,
            text: format!("a standby has no rows of unlogged tables: {} will be empty", found.words("tables")),
            mend: "back up the primary where they matter".to_owned(),
        });
    }
    let delay = "SELECT setting::bigint FROM pg_settings WHERE name = 'max_standby_streaming_delay' \
                 AND setting::bigint BETWEEN 0 AND 3600000 AND current_setting('hot_standby_feedback') = 'off'";
    if let Some(milliseconds) = session.query_if_allowed(delay).await?.first() {
        concerns.push(Concern {
            severity: Severity::Spoils,
            text: format!("this standby cancels queries that conflict with replay after {milliseconds} ms"),
            mend: "set hot_standby_feedback = on, or raise max_standby_streaming_delay".to_owned(),
        });
    }
    Ok(concerns)
}

/// A pooler that was found by asking, or has the usual port or name of one. A transaction pooler hands each transaction
/// another server session, which breaks `pg_dump`'s own settings.
fn pooler(facts: &Facts) -> Option<Concern> {
    let Place { host, port, .. } = &facts.place;
    let looks_like_one = matches!(port.as_str(), "6432" | "6543")
        || ["pooler", "pgbouncer", "pgcat"].iter().any(|word| host.to_ascii_lowercase().contains(word));
    let text = match facts.pooling {
        Pooling::Transaction => format!("{host}:{port} is a transaction pooler"),
        Pooling::Session => {
            format!("{host}:{port} is a connection pooler: its session with the server is older than this one")
        }
        Pooling::None if looks_like_one => format!("{host}:{port} looks like a connection pooler"),
        Pooling::None => return None,
    };
    let mend = "connect to the server itself: a transaction pooler breaks pg_dump".to_owned();
    Some(Concern { severity: Severity::Spoils, text, mend })
}

/// A server with `tcp_user_timeout` ends a connection that is not read for so long, which is what a dump does that waits for
/// S3. Not asked where a spool takes the dump. On a Unix socket it is 0.
///
/// # Errors
/// Where the session is lost.
pub async fn impatience(session: &mut Session, facts: &Facts) -> Result<Option<Concern>, PostgresError> {
    let question = "SELECT setting FROM pg_settings WHERE name = 'tcp_user_timeout' AND setting <> '0'";
    let answer = session.query_if_allowed(question).await?;
    Ok(answer.first().map(|milliseconds| Concern {
        severity: Severity::Spoils,
        text: format!(
            "the server (tcp_user_timeout) ends a connection from which nothing is read for {milliseconds} ms: so it does \
             with a dump that waits for S3 that long"
        ),
        mend: format!("set BACKUP_SPOOL_DIR, or ALTER ROLE {} SET tcp_user_timeout = 0", quoted(&facts.user)),
    }))
}

/// A role's name as SQL writes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
