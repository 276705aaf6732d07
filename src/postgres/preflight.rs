//! What could stop or spoil a dump, found before it: asked of the server, told as warnings.
//!
//! `backup` logs them; `pg_dump` decides. Each says what is wrong, where, and what would mend it. None of it is asked twice,
//! and a question that the server refuses is no answer, not a failure.

use serde::Deserialize;

use super::{Facts, PostgresError, Session};

/// Relations of the user's that `pg_dump` reads, less those of extensions and of other sessions.
const RELATIONS: &str = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";

/// A million tables or large objects take longer to look through: then nothing is told, and `pg_dump` decides. Well under
/// the session's own deadline, which would end the backup.
const QUESTION_TIMEOUT: &str = "10s";

/// One thing that may stop or spoil the dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concern {
    /// What is wrong and where, in one line.
    pub text: String,
    /// What would mend it.
    pub mend: String,
}

/// How many objects a question found, and the first of them.
#[derive(Debug, Deserialize)]
struct Found {
    count: u64,
    examples: Option<Vec<String>>,
}

impl Found {
    /// `3 tables (public.a, public.b, …)`
    fn words(&self, kind: &str) -> String {
        let examples = self.examples.clone().unwrap_or_default().join(", ");
        let more = if self.count > 5 { ", …" } else { "" };
        format!("{} {kind} ({examples}{more})", self.count)
    }
}

/// Asks the server.
///
/// # Errors
/// Where the session is lost.
pub async fn concerns(session: &mut Session, facts: &Facts) -> Result<Vec<Concern>, PostgresError> {
    session.query(&format!("SET statement_timeout = '{QUESTION_TIMEOUT}'")).await?;
    let concerns = ask_all(session, facts).await?;
    session.query("SET statement_timeout = 0").await?;
    Ok(concerns)
}

async fn ask_all(session: &mut Session, facts: &Facts) -> Result<Vec<Concern>, PostgresError> {
    let mut concerns = Vec::new();
    let user = quoted(&facts.user);
    let unreadable = relations(
        "c.relkind IN ('r', 'p') AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'))",
    );
    if let Some(found) = ask(session, &unreadable).await? {
        concerns.push(Concern {
            text: format!("this role may not read {}", found.words("tables")),
            mend: format!("GRANT pg_read_all_data TO {user} (PostgreSQL 14 and later), or GRANT SELECT on them"),
        });
    }
    let sequences = relations(
        "c.relkind = 'S' AND NOT (has_sequence_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'))",
    );
    if let Some(found) = ask(session, &sequences).await? {
        concerns.push(Concern {
            text: format!("this role may not read {}", found.words("sequences")),
            mend: format!("GRANT pg_read_all_data TO {user} (PostgreSQL 14 and later), or GRANT SELECT on them"),
        });
    }
    if let Some(found) = ask(session, &relations("c.relkind IN ('r', 'p') AND row_security_active(c.oid)")).await? {
        concerns.push(Concern {
            text: format!("row-level security would hide rows of {}: pg_dump refuses them", found.words("tables")),
            mend: format!("ALTER ROLE {user} BYPASSRLS"),
        });
    }
    if let Some(found) = ask(session, LARGE_OBJECTS).await? {
        concerns.push(Concern {
            text: format!("this role may not read {}", found.words("large objects")),
            mend: format!("GRANT SELECT ON LARGE OBJECT … TO {user}, or back up as their owner"),
        });
    }
    if facts.in_recovery {
        concerns.extend(on_standby(session).await?);
    }
    concerns.extend(pooler(facts));
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
        "SELECT json_build_object('count', count(*), 'examples', \
         (array_agg(format('%I.%I', n.nspname, c.relname) ORDER BY n.nspname, c.relname))[1:5]) {RELATIONS} AND {condition}"
    )
}

/// `None` where there is nothing of the kind, or the server does not tell.
async fn ask(session: &mut Session, question: &str) -> Result<Option<Found>, PostgresError> {
    let answer = session.query_if_allowed(question).await?;
    let found: Option<Found> = answer.first().and_then(|line| serde_json::from_str(line).ok());
    Ok(found.filter(|found| found.count > 0))
}

/// A standby has no unlogged data, and may cancel a long query.
async fn on_standby(session: &mut Session) -> Result<Vec<Concern>, PostgresError> {
    let mut concerns = Vec::new();
    if let Some(found) = ask(session, &relations("c.relkind IN ('r', 'p') AND c.relpersistence = 'u'")).await? {
        concerns.push(Concern {
            text: format!("a standby has no rows of unlogged tables: {} will be empty", found.words("tables")),
            mend: "back up the primary where they matter".to_owned(),
        });
    }
    let delay = "SELECT setting::bigint FROM pg_settings WHERE name = 'max_standby_streaming_delay' \
                 AND setting::bigint BETWEEN 0 AND 3600000 AND current_setting('hot_standby_feedback') = 'off'";
    if let Some(milliseconds) = session.query_if_allowed(delay).await?.first() {
        concerns.push(Concern {
            text: format!("this standby cancels queries that conflict with replay after {milliseconds} ms"),
            mend: "set hot_standby_feedback = on, or raise max_standby_streaming_delay".to_owned(),
        });
    }
    Ok(concerns)
}

/// The usual ports and names of poolers. A transaction pooler hands each transaction another server session, which
/// breaks `pg_dump`'s own settings.
fn pooler(facts: &Facts) -> Option<Concern> {
    let is_pooler = matches!(facts.port.as_str(), "6432" | "6543")
        || ["pooler", "pgbouncer", "pgcat"].iter().any(|word| facts.host.to_ascii_lowercase().contains(word));
    is_pooler.then(|| Concern {
        text: format!("{}:{} looks like a connection pooler", facts.host, facts.port),
        mend: "connect to the server itself: a transaction pooler breaks pg_dump".to_owned(),
    })
}

/// A role's name as SQL writes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
