//! The outcome of a restore's transaction, after its session was lost or has ended. Part of [`super`].

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::postgres::{PostgresError, PostgresSettings, Session, Tools, target};
use crate::sql::literal;

/// How long the outcome of a COMMIT is asked for, should the server be away.
const DEADLINE: Duration = Duration::from_mins(2);
const EVERY: Duration = Duration::from_secs(1);

/// The outcome of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect.
    Committed,
    /// Nothing of it is there.
    RolledBack,
}

/// Queries the outcome of a transaction, after the answer to its COMMIT was lost; `None` if the server does not answer.
pub(super) async fn wait_for_outcome(tools: &Tools, settings: &PostgresSettings, transaction: &str) -> Option<Outcome> {
    let began = Instant::now();
    while began.elapsed() < DEADLINE {
        match Session::connect(tools, settings).await {
            Ok(mut session) => {
                let found = outcome(&mut session, transaction).await;
                session.close().await;
                if let Ok(Some(outcome)) = found {
                    return Some(outcome);
                }
            }
            Err(error) => tracing::debug!(%error, "the outcome of COMMIT cannot be asked yet"),
        }
        sleep(EVERY).await;
    }
    None
}

/// The outcome of a transaction; `None` while it is in progress.
///
/// A crash of the server may lose the id of a transaction that did not commit. Then the id is in the future (an error for
/// `pg_xact_status`), or another transaction has got it, and may have committed. But the target was empty before, and is empty
/// only if nothing was restored.
pub(super) async fn outcome(session: &mut Session, transaction: &str) -> Result<Option<Outcome>, PostgresError> {
    let id = format!("{}::pg_catalog.xid8", literal(transaction));
    let question = format!(
        "SELECT CASE WHEN {id} OPERATOR(pg_catalog.>=) pg_catalog.pg_current_xact_id() THEN 'aborted' \
         ELSE pg_catalog.pg_xact_status({id}) END"
    );
    let answer = session.query(&question).await?;
    match answer.first().map(String::as_str) {
        Some("committed") => {
            let is_empty = target::contained(session).await?.count == 0;
            Ok(Some(if is_empty { Outcome::RolledBack } else { Outcome::Committed }))
        }
        Some("aborted") => Ok(Some(Outcome::RolledBack)),
        _ => Ok(None),
    }
}
