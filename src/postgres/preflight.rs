//! What could stop or spoil a dump, found before it: asked of the server.
//!
//! `backup` logs them as warnings, for `pg_dump` decides; `check` fails on what stops it. Each says what is wrong, where, and what would fix it. None of it is asked twice,
//! and a question that the server refuses is no answer, not a failure. `privileges` is about what the role may not read or
//! dump, `partitions` about rows that would not find their partition in a restore, `server` about the server itself.

mod partitions;
mod privileges;
mod server;

use serde::Deserialize;

pub use partitions::advice;
pub use server::short_timeouts;

use super::{DumpArguments, Facts, PostgresError, Session};
use crate::sql::quoted_name;

/// The user's relations whose rows `pg_dump` reads or which it locks, less those of other sessions. Of an extension's own it
/// locks none, and reads the tables and sequences that the extension declared as its configuration (`extconfig`).
const RELATIONS: &str = "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
AND (NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
AND d.objid = c.oid AND d.deptype = 'e') OR c.relkind IN ('r', 'S') \
AND EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig)))";

/// A million tables or large objects take longer to look through: then nothing is told, and `pg_dump` decides. Well under
/// the session's own deadline, which would end the backup.
const QUESTION_TIMEOUT: &str = "10s";
/// Objects that are named; of more there is the number.
const EXAMPLES: &str = "[1:5]";

/// What a issue comes to, if it is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// `pg_dump` fails on it.
    Fatal,
    /// The dump may be spoiled, or fail at a bad moment.
    Degraded,
    /// The dump lacks it, and `pg_dump` says nothing: for the manifest too.
    LeavesOut,
    /// The server does not tell whether there is anything to be concerned about.
    Unknown,
}

/// One thing that may stop or spoil the dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreflightIssue {
    /// What it comes to.
    pub severity: Severity,
    /// What is wrong and where, in one line.
    pub text: String,
    /// What would fix it.
    pub hint: String,
}

/// What is going to be dumped, and by which `pg_dump`.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The server and the database.
    pub facts: &'a Facts,
    /// The user's arguments.
    pub arguments: &'a DumpArguments,
    /// The major version of `pg_dump`; `None` where none is new enough.
    pub pg_dump: Option<u32>,
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

/// Asks the server, as the role that `pg_dump` will read with: that of `--role` where it is given.
///
/// # Errors
/// Where the session is lost.
pub async fn issues(session: &mut Session, subject: Subject<'_>) -> Result<Vec<PreflightIssue>, PostgresError> {
    session.query(&format!("SET statement_timeout = '{QUESTION_TIMEOUT}'")).await?;
    if let Some(role) = subject.arguments.role() {
        session.query_if_allowed(&format!("SET ROLE {}", quoted_name(role))).await?;
    }
    let mut issues = privileges::issues(session, subject).await?;
    issues.extend(partitions::issues(session, subject).await?);
    issues.extend(server::issues(session, subject.facts).await?);
    session.query("RESET ROLE; SET statement_timeout = 0").await?;
    Ok(issues)
}

/// A question about relations.
fn relations(condition: &str) -> String {
    format!(
        "SELECT pg_catalog.json_build_object('count', pg_catalog.count(*), 'schemas', \
         (pg_catalog.array_agg(DISTINCT pg_catalog.quote_ident(n.nspname)))[1:50], 'examples', \
         (pg_catalog.array_agg(pg_catalog.format('%I.%I', n.nspname, c.relname) ORDER BY n.nspname, c.relname)){EXAMPLES}) \
         {RELATIONS} AND {condition}"
    )
}

/// A question about anything that has a name (in SQL) in a `FROM` clause.
fn objects(name: &str, from: &str) -> String {
    format!(
        "SELECT pg_catalog.json_build_object('count', pg_catalog.count(*), 'examples', \
         (pg_catalog.array_agg({name} ORDER BY {name})){EXAMPLES}) FROM {from}"
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
