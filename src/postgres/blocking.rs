//! Who waits for the dump: `ALTER`, `DROP` and `TRUNCATE` queue behind `pg_dump`'s locks, and everything behind them.
//!
//! `backup::watch` asks every few seconds on the control session. `pg_dump` is found by the application name that
//! [`application_name`] gave it.

use serde::Deserialize;

use super::{PostgresError, Session, foreign_query};

/// A session that waits for `pg_dump`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Waiting {
    /// The backend's process id.
    pub pid: i32,
    /// Its user, where this role may know.
    pub user: Option<String>,
    /// Its query, where this role may know; the first 300 characters, on one line and without literals.
    #[serde(default, deserialize_with = "foreign_query::shown")]
    pub query: Option<String>,
}

/// The name under which `pg_dump` appears in `pg_stat_activity`: one of its own for each run.
#[must_use]
pub fn application_name(run_id: &str) -> String {
    format!("pg_s3_backup {}", run_id.get(..12).unwrap_or(run_id))
}

/// Asks who waits for the `pg_dump` of that name.
///
/// # Errors
/// Where the session is lost.
pub async fn waiting_for(session: &mut Session, application_name: &str) -> Result<Vec<Waiting>, PostgresError> {
    // Ungranted locks first: they are few, everybody may see them, and pg_blocking_pids() is not cheap.
    let question = format!(
        "SELECT pg_catalog.json_build_object('pid', a.pid, 'user', a.usename, 'query', pg_catalog.left(a.query, 300)) \
         FROM pg_catalog.pg_stat_activity a WHERE a.pid IN (SELECT l.pid FROM pg_catalog.pg_locks l WHERE NOT l.granted) \
         AND EXISTS (SELECT FROM pg_catalog.pg_stat_activity d WHERE d.application_name = '{application_name}' \
         AND d.pid = ANY (pg_catalog.pg_blocking_pids(a.pid)))"
    );
    // The session is in a transaction (it holds the lock), where pg_stat_activity stays as it was first seen.
    session.query("SELECT pg_catalog.pg_stat_clear_snapshot()").await?;
    let answer = session.query_as_login(&question).await?;
    answer.iter().map(|line| serde_json::from_str(line).map_err(PostgresError::Answer)).collect()
}
