//! The end of a scratch database: its subscriptions are cut off their publishers, its sessions ended, and it is dropped.
//!
//! Called by [`super::scratch`] and, of what other runs left behind, by the drill. Nothing here ever connects to a publisher:
//! the slot there is the original database's.

use std::time::Duration;

use super::ScratchError;
use crate::postgres::{Maintenance, PostgresSettings, StatementError, Tools};
use crate::sql::{literal, quoted_name};

/// The server waits for a checkpoint and unlinks each file.
const DROP_WITHIN: Duration = Duration::from_mins(10);
/// From this version on sessions are ended by the statement that drops.
const FORCE_SINCE: u32 = 13;
/// Leads to nobody: `DROP SUBSCRIPTION` would connect to clean up after a table's first copy.
const NOWHERE: &str = "host=/nonexistent dbname=nowhere user=nobody password=none connect_timeout=2";
const NO_SUCH_DATABASE: &str = "3D000";

/// What drops a database, for a person to run.
pub(super) fn drop_statement(name: &str) -> String {
    format!("DROP DATABASE {} WITH (FORCE);", quoted_name(name))
}

/// Drops the database that `settings` lead to, where it exists.
///
/// # Errors
/// What stands in the way.
pub async fn drop_database(
    tools: &Tools,
    settings: &PostgresSettings,
    server: &mut Maintenance,
    name: &str,
) -> Result<(), ScratchError> {
    let not_dropped = |error: StatementError| ScratchError::NotDropped {
        scratch: name.to_owned(),
        reason: error.to_string(),
        statement: drop_statement(name),
    };
    if !exists(server, name).await.map_err(not_dropped)? {
        return Ok(());
    }
    let subscriptions = subscriptions(server, name).await.map_err(not_dropped)?;
    if !subscriptions.is_empty() {
        // Another end of it may have closed it already.
        server
            .run(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", quoted_name(name)))
            .await
            .map_err(not_dropped)?;
        detach(tools, settings, &subscriptions).await.map_err(not_dropped)?;
    }
    let database = quoted_name(name);
    let force = if server.standing().version().major >= FORCE_SINCE { " WITH (FORCE)" } else { "" };
    // Nobody comes in any more while its sessions end.
    let closed = server.run(&format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false")).await;
    match closed {
        Err(error) if !error.is(NO_SUCH_DATABASE) => return Err(not_dropped(error)),
        _ => {}
    }
    end_sessions(server, name).await.map_err(not_dropped)?;
    let dropped = server.run_within(DROP_WITHIN, &format!("DROP DATABASE IF EXISTS {database}{force}")).await;
    dropped.map(drop).map_err(not_dropped)
}

/// Ends the sessions of a database, as far as this role may.
///
/// # Errors
/// Where the session is lost.
pub(super) async fn end_sessions(server: &mut Maintenance, name: &str) -> Result<(), StatementError> {
    let question = format!(
        "SELECT a.pid FROM pg_catalog.pg_stat_activity a WHERE a.datname = {} AND a.pid <> pg_catalog.pg_backend_pid()",
        literal(name)
    );
    for pid in server.run(&question).await? {
        match server.run(&format!("SELECT pg_catalog.pg_terminate_backend({pid})")).await {
            Err(error @ StatementError::Lost(_)) => return Err(error),
            // Whoever may not be ended is named by what fails then.
            Err(error) => tracing::debug!(pid, %error, "a session cannot be ended"),
            Ok(_) => {}
        }
    }
    Ok(())
}

async fn exists(server: &mut Maintenance, name: &str) -> Result<bool, StatementError> {
    let question = format!("SELECT 1 FROM pg_catalog.pg_database d WHERE d.datname = {}", literal(name));
    Ok(!server.run(&question).await?.is_empty())
}

/// The subscriptions in a database: all databases' are in one catalog.
async fn subscriptions(server: &mut Maintenance, name: &str) -> Result<Vec<String>, StatementError> {
    let question = format!(
        "SELECT pg_catalog.to_json(s.subname) FROM pg_catalog.pg_subscription s \
         JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = {}",
        literal(name)
    );
    let rows = server.run(&question).await?;
    Ok(rows.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Cuts subscriptions off their publishers, and drops them.
async fn detach(tools: &Tools, settings: &PostgresSettings, subscriptions: &[String]) -> Result<(), StatementError> {
    let mut inside = Maintenance::connect(tools, settings).await?;
    let detached = async {
        // The dump's event triggers are none of these statements' business. Only a superuser may say so.
        if let Err(error @ StatementError::Lost(_)) = inside.run("SET session_replication_role = replica").await {
            return Err(error);
        }
        for subscription in subscriptions.iter().map(|name| quoted_name(name)) {
            for statement in [
                format!("ALTER SUBSCRIPTION {subscription} DISABLE"),
                format!("ALTER SUBSCRIPTION {subscription} SET (slot_name = NONE)"),
                format!("ALTER SUBSCRIPTION {subscription} CONNECTION {}", literal(NOWHERE)),
                format!("DROP SUBSCRIPTION {subscription}"),
            ] {
                inside.run(&statement).await?;
            }
        }
        Ok(())
    };
    let detached = detached.await;
    inside.close().await;
    detached
}
