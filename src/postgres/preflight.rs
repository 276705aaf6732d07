//! Finds what could make a dump fail or incomplete, before it starts.
//!
//! `backup` logs the issues as warnings, because `pg_dump` decides; `check` fails for fatal ones. A query that the server refuses
//! is no failure. `privileges`: what the role may not read or dump. `partitions`: rows that a restore cannot put into their
//! partition. `server`: the server itself.

mod partitions;
mod privileges;
mod server;

use serde::Deserialize;

pub use partitions::advice;
pub use server::short_timeouts;

use super::questions::Questions;
use super::{DumpArguments, Facts, PostgresError, Session};
use crate::sql::quoted_name;

/// The user's relations that `pg_dump` reads or locks. Of an extension's relations, it reads only the configuration tables and
/// sequences (`extconfig`).
const RELATIONS: &str = "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
AND (NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
AND d.objid = c.oid AND d.deptype = 'e') OR c.relkind IN ('r', 'S') \
AND EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig)))";

/// With a million tables or large objects, a query may take longer: then there is no answer. Far below the session's deadline,
/// which would end the backup.
const QUESTION_TIMEOUT: &str = "10s";
/// Objects that are named.
const EXAMPLES: &str = "[1:5]";

/// The effect of an issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// `pg_dump` fails on it.
    Fatal,
    /// The dump may fail or be hard to restore.
    Degraded,
    /// The dump lacks it without a message of `pg_dump`. Also in the manifest.
    LeavesOut,
    /// The server refuses the query.
    Unknown,
}

/// One issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreflightIssue {
    /// Its effect.
    pub severity: Severity,
    /// What is wrong and where, in one line.
    pub text: String,
    /// What would fix it.
    pub hint: String,
}

/// What will be dumped, and by which `pg_dump`.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The server and the database.
    pub facts: &'a Facts,
    /// The user's arguments.
    pub arguments: &'a DumpArguments,
    /// The major version of `pg_dump`; `None` if none is new enough.
    pub pg_dump: Option<u32>,
}

/// The number of objects that a query found, the first of them, and their schemas.
#[derive(Debug, Deserialize)]
struct Found {
    count: u64,
    examples: Option<Vec<String>>,
    schemas: Option<Vec<String>>,
}

/// The answer to a query.
enum Answer {
    Nothing,
    Found(Found),
    /// The server refused the query, or it took too long.
    Refused,
}

impl Found {
    /// `3 tables (public.a, public.b, …)`
    fn words(&self, kind: &str) -> String {
        let examples = self.examples.clone().unwrap_or_default().join(", ");
        let more = if self.count > 5 { ", …" } else { "" };
        let kind = if self.count == 1 { kind.trim_end_matches('s') } else { kind };
        format!("{} {kind} ({examples}{more})", self.count)
    }
}

/// Asks the server, as the role that `pg_dump` will use.
///
/// # Errors
/// If the session is lost.
pub async fn issues(session: &mut Session, subject: Subject<'_>) -> Result<Vec<PreflightIssue>, PostgresError> {
    session.query(&format!("SET statement_timeout = '{QUESTION_TIMEOUT}'")).await?;
    if let Some(role) = subject.arguments.role() {
        session.query_if_allowed(&format!("SET ROLE {}", quoted_name(role))).await?;
    }
    let mut questions = Questions::new(session);
    let each = privileges::questions(subject).into_iter().chain([partitions::by_hash(), server::locks()]);
    questions.ask_ahead(each.collect()).await?;
    let mut issues = privileges::issues(&mut questions, subject).await?;
    issues.extend(partitions::issues(&mut questions, subject).await?);
    issues.extend(server::issues(&mut questions, subject.facts).await?);
    session.query("RESET ROLE; SET statement_timeout = 0").await?;
    Ok(issues)
}

/// A query for relations.
fn relations(condition: &str) -> String {
    format!(
        "SELECT pg_catalog.json_build_object('count', pg_catalog.count(*), 'schemas', \
         (pg_catalog.array_agg(DISTINCT pg_catalog.quote_ident(n.nspname)))[1:50], 'examples', \
         (pg_catalog.array_agg(pg_catalog.format('%I.%I', n.nspname, c.relname) ORDER BY n.nspname, c.relname)){EXAMPLES}) \
         {RELATIONS} AND {condition}"
    )
}

/// A query for objects, by an expression for their name and a `FROM` clause.
fn objects(name: &str, from: &str) -> String {
    format!(
        "SELECT pg_catalog.json_build_object('count', pg_catalog.count(*), 'examples', \
         (pg_catalog.array_agg({name} ORDER BY {name})){EXAMPLES}) FROM {from}"
    )
}

async fn ask(questions: &mut Questions<'_>, question: &str) -> Result<Answer, PostgresError> {
    let found: Option<Found> = questions.ask(question).await?.and_then(|answer| serde_json::from_value(answer).ok());
    Ok(match found {
        None => Answer::Refused,
        Some(Found { count: 0, .. }) => Answer::Nothing,
        Some(found) => Answer::Found(found),
    })
}
