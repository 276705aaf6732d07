//! Finds settings of the server that could make a dump fail: locks, a standby's limits, a pooler, network timeouts.

use serde::Deserialize;

use super::{Answer, PreflightIssue, Severity, ask, relations};
use crate::postgres::questions::Questions;
use crate::postgres::{Facts, Place, Pooling, PostgresError, Session};
use crate::sql::quoted_name;

pub(super) async fn issues(questions: &mut Questions<'_>, facts: &Facts) -> Result<Vec<PreflightIssue>, PostgresError> {
    let found: Option<Locks> = questions.ask(&locks()).await?.and_then(|answer| serde_json::from_value(answer).ok());
    let mut issues: Vec<PreflightIssue> = found.and_then(|locks| locks.issue()).into_iter().collect();
    if facts.in_recovery {
        issues.extend(on_standby(questions).await?);
    }
    issues.extend(pooler(facts));
    Ok(issues)
}

/// The capacity of the lock table, and the locks of a dump.
#[derive(Debug, Deserialize)]
struct Locks {
    relations: u64,
    per_transaction: u64,
    sessions: u64,
}

impl Locks {
    /// Applies the formula in PostgreSQL's documentation of `max_locks_per_transaction`.
    fn issue(&self) -> Option<PreflightIssue> {
        let capacity = self.per_transaction.saturating_mul(self.sessions);
        if self.relations <= capacity || self.sessions == 0 {
            return None;
        }
        let wanted = self.relations.div_ceil(self.sessions) + self.per_transaction;
        Some(PreflightIssue {
            severity: Severity::Degraded,
            text: format!(
                "a dump locks {} tables and sequences at once, and this server has about {capacity} locks \
                 (max_locks_per_transaction {} x {} sessions)",
                self.relations, self.per_transaction, self.sessions
            ),
            hint: format!("raise max_locks_per_transaction to {wanted}, and restart the server"),
        })
    }
}

/// A dump locks every table and sequence in one transaction.
pub(super) fn locks() -> String {
    let setting = |name: &str| format!("pg_catalog.current_setting('{name}')::pg_catalog.int8");
    format!(
        "SELECT pg_catalog.json_build_object('relations', pg_catalog.count(*), 'per_transaction', {}, 'sessions', {} + {}) \
         {} AND c.relkind IN ('r', 'p', 'S')",
        setting("max_locks_per_transaction"),
        setting("max_connections"),
        setting("max_prepared_transactions"),
        super::RELATIONS
    )
}

/// A standby has no unlogged data, and may cancel long queries.
async fn on_standby(questions: &mut Questions<'_>) -> Result<Vec<PreflightIssue>, PostgresError> {
    let mut issues = Vec::new();
    let unlogged = relations("c.relkind IN ('r', 'p') AND c.relpersistence = 'u'");
    if let Answer::Found(found) = ask(questions, &unlogged).await? {
        issues.push(PreflightIssue {
            severity: Severity::LeavesOut,
            text: format!("a standby has no rows of unlogged tables: {} are empty in the dump", found.words("tables")),
            hint: "back up the primary where they matter".to_owned(),
        });
    }
    let delay = "SELECT setting::pg_catalog.int8 FROM pg_catalog.pg_settings WHERE name = 'max_standby_streaming_delay' \
                 AND setting::pg_catalog.int8 BETWEEN 0 AND 3600000 AND pg_catalog.current_setting('hot_standby_feedback') = 'off'";
    if let Some(milliseconds) = questions.ask(delay).await? {
        issues.push(PreflightIssue {
            severity: Severity::Degraded,
            text: format!("this standby cancels queries that conflict with replay after {milliseconds} ms"),
            hint: "set hot_standby_feedback = on, or raise max_standby_streaming_delay".to_owned(),
        });
    }
    Ok(issues)
}

/// A pooler that was detected, or that has the usual port or name of one.
fn pooler(facts: &Facts) -> Option<PreflightIssue> {
    let Place { host, port, .. } = &facts.place;
    let looks_like_one = matches!(port.as_str(), "6432" | "6543")
        || ["pooler", "pgbouncer", "pgcat"].iter().any(|word| host.to_ascii_lowercase().contains(word));
    let text = match facts.place.pooling {
        Pooling::Transaction => format!("{host}:{port} is a transaction pooler"),
        Pooling::Session => {
            format!("{host}:{port} is a connection pooler: its session with the server is older than this one")
        }
        Pooling::None if looks_like_one => format!("{host}:{port} looks like a connection pooler"),
        Pooling::None => return None,
    };
    let hint = "connect to the server itself: a transaction pooler breaks pg_dump".to_owned();
    Some(PreflightIssue { severity: Severity::Degraded, text, hint })
}

/// A server with `tcp_user_timeout` closes a connection that is not read for that long, and a dump that waits for S3 does not
/// read. With a spool it does. On a Unix socket the setting is 0.
///
/// # Errors
/// If the session is lost.
pub async fn short_timeouts(session: &mut Session, facts: &Facts) -> Result<Option<PreflightIssue>, PostgresError> {
    let answer = session.query("SELECT pg_catalog.current_setting('tcp_user_timeout', true)").await?;
    Ok(answer.first().filter(|milliseconds| !["", "0"].contains(&milliseconds.as_str())).map(|milliseconds| PreflightIssue {
        severity: Severity::Degraded,
        text: format!(
            "the server closes a connection that is not read for {milliseconds} ms (tcp_user_timeout), such as that of a dump \
             that waits for S3"
        ),
        hint: format!("set BACKUP_SPOOL_DIR, or ALTER ROLE {} SET tcp_user_timeout = 0", quoted_name(&facts.user)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggested_number_of_locks_suffices() {
        let locks = |relations, per_transaction| Locks { relations, per_transaction, sessions: 20 };
        assert_eq!(locks(1280, 64).issue(), None);
        let issue = locks(7200, 64).issue().expect("an issue");
        assert!(issue.text.contains("7200 tables") && issue.text.contains("about 1280 locks"), "{issue:?}");
        assert!(issue.hint.contains("max_locks_per_transaction to 424"), "{issue:?}");
        assert_eq!(locks(7200, 424).issue(), None);
    }
}
