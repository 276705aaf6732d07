//! Drops a scratch database: detaches its subscriptions from their publishers, terminates its sessions, and drops it.
//!
//! [`super::scratch`] calls it. It never connects to a publisher, because the replication slot there belongs to the original database.

use std::time::Duration;

use super::ScratchError;
use crate::postgres::{Maintenance, PostgresSettings, StatementError, Tools};
use crate::sql::{literal, quoted_name};

/// How long a drop may take: the server waits for a checkpoint and unlinks each file.
const DROP_WITHIN: Duration = Duration::from_mins(10);
/// The first version with `DROP DATABASE … WITH (FORCE)`, which terminates sessions.
const FORCE_SINCE: u32 = 13;
/// A connection string that connects to nothing, because `DROP SUBSCRIPTION` would connect to clean up table synchronization.
const NOWHERE: &str = "host=/nonexistent dbname=nowhere user=nobody password=none connect_timeout=2";
const NO_SUCH_DATABASE: &str = "3D000";
const NO_RIGHT: &str = "42501";

/// Returns the psql commands that drop a database, in one line. Its subscriptions come first, or the server refuses. Their slots are
/// detached, or the publisher would drop them.
pub(super) fn drop_statement(name: &str, subscriptions: &[String]) -> String {
    let (database, mut text) = (quoted_name(name), String::new());
    if !subscriptions.is_empty() {
        text = format!("\\connect {database} \\\\ ");
        for subscription in subscriptions {
            text += &(detachment(subscription).join("; ") + "; ");
        }
        text += "\\connect postgres \\\\ ";
    }
    format!("{text}DROP DATABASE {database} WITH (FORCE);")
}

/// The statements that detach a subscription from its publisher, and drop it.
fn detachment(subscription: &str) -> [String; 4] {
    let subscription = quoted_name(subscription);
    [
        format!("ALTER SUBSCRIPTION {subscription} DISABLE"),
        format!("ALTER SUBSCRIPTION {subscription} SET (slot_name = NONE)"),
        format!("ALTER SUBSCRIPTION {subscription} CONNECTION {}", literal(NOWHERE)),
        format!("DROP SUBSCRIPTION {subscription}"),
    ]
}

/// Drops the database of `settings`, if it exists.
///
/// # Errors
/// If the server refuses.
pub async fn drop_database(
    tools: &Tools,
    settings: &PostgresSettings,
    server: &mut Maintenance,
    name: &str,
) -> Result<(), ScratchError> {
    let not_dropped = |error: StatementError, subscriptions: &[String]| ScratchError::NotDropped {
        scratch: name.to_owned(),
        reason: error.to_string(),
        statement: drop_statement(name, subscriptions),
    };
    if !exists(server, name).await.map_err(|error| not_dropped(error, &[]))? {
        return Ok(());
    }
    let subscriptions = subscriptions(server, name).await.map_err(|error| not_dropped(error, &[]))?;
    let not_dropped = |error: StatementError| not_dropped(error, &subscriptions);
    if !subscriptions.is_empty() {
        // An earlier attempt may have disabled connections already.
        server
            .run(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", quoted_name(name)))
            .await
            .map_err(not_dropped)?;
        detach(tools, settings, &subscriptions).await.map_err(not_dropped)?;
    }
    let database = quoted_name(name);
    let force = if server.standing().version().major >= FORCE_SINCE { " WITH (FORCE)" } else { "" };
    // New connections are refused while its sessions are terminated. Code of the dump may have made it a template.
    let closed = server.run(&format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false IS_TEMPLATE false")).await;
    match closed {
        Err(error) if !error.is(NO_SUCH_DATABASE) => return Err(not_dropped(error)),
        _ => {}
    }
    end_sessions(server, name).await.map_err(not_dropped)?;
    let mut dropped = server.run_within(DROP_WITHIN, &format!("DROP DATABASE IF EXISTS {database}{force}")).await;
    if matches!(&dropped, Err(error) if error.is(NO_RIGHT)) {
        // An autovacuum worker is in it, which this role may not terminate. Without FORCE the server sends it away itself.
        dropped = server.run_within(DROP_WITHIN, &format!("DROP DATABASE IF EXISTS {database}")).await;
    }
    dropped.map(drop).map_err(not_dropped)
}

/// Terminates the sessions of a database that this role may terminate.
///
/// # Errors
/// If the connection is lost.
pub(super) async fn end_sessions(server: &mut Maintenance, name: &str) -> Result<(), StatementError> {
    let question = format!(
        "SELECT a.pid FROM pg_catalog.pg_stat_activity a WHERE a.datname = {} AND a.pid <> pg_catalog.pg_backend_pid()",
        literal(name)
    );
    for pid in server.run(&question).await? {
        match server.run(&format!("SELECT pg_catalog.pg_terminate_backend({pid})")).await {
            Err(error @ StatementError::Lost(_)) => return Err(error),
            // The following statement fails with the sessions that remain, and its error names them.
            Err(error) => tracing::debug!(pid, %error, "a session cannot be ended"),
            Ok(_) => {}
        }
    }
    Ok(())
}

pub(super) async fn exists(server: &mut Maintenance, name: &str) -> Result<bool, StatementError> {
    let question = format!("SELECT 1 FROM pg_catalog.pg_database d WHERE d.datname = {}", literal(name));
    Ok(!server.run(&question).await?.is_empty())
}

/// The subscriptions in a database. The catalog is shared by all databases.
pub(super) async fn subscriptions(server: &mut Maintenance, name: &str) -> Result<Vec<String>, StatementError> {
    let question = format!(
        "SELECT pg_catalog.to_json(s.subname) FROM pg_catalog.pg_subscription s \
         JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = {}",
        literal(name)
    );
    let rows = server.run(&question).await?;
    Ok(rows.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Detaches subscriptions from their publishers, and drops them.
async fn detach(tools: &Tools, settings: &PostgresSettings, subscriptions: &[String]) -> Result<(), StatementError> {
    let mut inside = Maintenance::connect(tools, settings).await?;
    let detached = async {
        // Event triggers of the dump must not run for these statements. Only a superuser may turn them off.
        if let Err(error @ StatementError::Lost(_)) = inside.run("SET session_replication_role = replica").await {
            return Err(error);
        }
        for statement in subscriptions.iter().flat_map(|subscription| detachment(subscription)) {
            inside.run(&statement).await?;
        }
        Ok(())
    };
    let detached = detached.await;
    inside.close().await;
    detached
}
