//! Detects a connection pooler between this program and the server.
//!
//! `connect` calls it on each new session. A *transaction* pooler gives each transaction another server session. That breaks
//! `pg_dump`, which sets up its session before its transaction begins, and `pg_dumpall` would leave its settings to the
//! application. A *session* pooler is harmless.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use super::{Place, Pooling, PostgresError, PostgresSettings, Session, Tools};

/// How long the second session may take to connect.
const SECOND_SESSION: Duration = Duration::from_secs(8);
/// A server session that is older than the connection by more than this existed before it. Far above the drift of two clocks.
const OLDER: Duration = Duration::from_secs(1);

/// The server session of a transaction.
#[derive(Debug, Deserialize)]
pub(super) struct ServerSession {
    /// Its process id and, if the role may see it, its start: unique among all servers.
    identity: String,
    /// Its age; `None` if the role may not see it.
    age_s: Option<f64>,
    /// The address that the server sees itself connected at; `None` for a Unix socket.
    address: Option<String>,
    port: String,
    /// The host that libpq chose, or the socket's directory.
    pub(super) host: String,
    /// Its port.
    pub(super) host_port: String,
    /// Its initial `statement_timeout` in milliseconds.
    pub(super) statement_timeout: String,
}

/// psql's `:'HOST'` and `:'PORT'` are those that libpq chose.
const QUESTION: &str = "\
SELECT pg_catalog.json_build_object('identity', pg_catalog.concat(a.pid, ' ', extract(epoch FROM a.backend_start)), \
'age_s', extract(epoch FROM pg_catalog.clock_timestamp() - a.backend_start), \
'address', pg_catalog.host(pg_catalog.inet_server_addr()), \
'port', coalesce(pg_catalog.inet_server_port()::pg_catalog.text, pg_catalog.current_setting('port')), \
'host', :'HOST', 'host_port', :'PORT', \
'statement_timeout', (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'statement_timeout')) \
FROM pg_catalog.pg_stat_activity a WHERE a.pid = pg_catalog.pg_backend_pid()";

impl ServerSession {
    pub(super) async fn read(session: &mut Session) -> Result<Self, PostgresError> {
        let answer = session.query_activity(QUESTION).await?;
        serde_json::from_str(answer.first().map(String::as_str).unwrap_or_default()).map_err(PostgresError::Answer)
    }

    /// Whether the server sees itself connected at the address that the client connected to: then there is no pooler.
    fn is_at(&self, address: Option<IpAddr>) -> bool {
        let theirs = self.address.as_ref().and_then(|text| text.parse::<IpAddr>().ok());
        self.port == self.host_port && theirs.map(|ip| ip.to_canonical()) == address.map(|ip| ip.to_canonical())
    }

    /// Whether it existed before a connection of at most this age; `None` if its age is unknown.
    fn is_older_than(&self, connection: Duration) -> Option<bool> {
        self.age_s.map(|age| age > (connection + OLDER).as_secs_f64())
    }
}

/// Compares the server session of the first transaction with those of the next ones.
pub(super) async fn find(
    session: &mut Session,
    first: &ServerSession,
    place: &Place,
    (tools, settings): (&Tools, &PostgresSettings),
) -> Result<Pooling, PostgresError> {
    let is_older = first.is_older_than(session.age());
    if is_older == Some(false) && first.is_at(place.address) {
        return Ok(Pooling::None);
    }
    session.restart_transaction().await?;
    let second = ServerSession::read(session).await?;
    if second.identity != first.identity || changes_server_session(session, &second, place, (tools, settings)).await? {
        return Ok(Pooling::Transaction);
    }
    Ok(if is_older == Some(true) { Pooling::Session } else { Pooling::None })
}

/// Opens a second connection between two transactions of the first. Behind a transaction pooler, it gets the server session
/// of the first, or the first then gets another one.
async fn changes_server_session(
    session: &mut Session,
    known: &ServerSession,
    place: &Place,
    (tools, settings): (&Tools, &PostgresSettings),
) -> Result<bool, PostgresError> {
    session.rollback().await?;
    let other = async {
        let mut other = Session::open(tools, settings, &settings.pinned(place)).await?;
        let backend = ServerSession::read(&mut other).await?;
        Ok::<_, PostgresError>((other, backend))
    };
    let other = match timeout(SECOND_SESSION, other).await {
        Ok(Ok(other)) => Some(other),
        Ok(Err(error)) => {
            tracing::debug!(error = %crate::error_chain::Chain(&error), "cannot open a second session to detect a pooler");
            None
        }
        Err(_) => None,
    };
    // While the second connection keeps its server session.
    session.restart_transaction().await?;
    let next = ServerSession::read(session).await?;
    let mut changes = next.identity != known.identity;
    if let Some((other, backend)) = other {
        changes |= backend.identity == known.identity;
        other.close().await;
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(address: Option<&str>, port: &str) -> ServerSession {
        ServerSession {
            identity: "7 1".to_owned(),
            age_s: Some(2.5),
            address: address.map(str::to_owned),
            port: port.to_owned(),
            host: "db".to_owned(),
            host_port: "5432".to_owned(),
            statement_timeout: "0".to_owned(),
        }
    }

    #[test]
    fn same_address_and_port_mean_no_pooler() {
        let ip = |text: &str| text.parse::<IpAddr>().ok();
        for (address, port, reached, is_direct) in [
            (Some("10.0.0.7"), "5432", ip("10.0.0.7"), true),
            (Some("10.0.0.7"), "5432", ip("::ffff:10.0.0.7"), true),
            (Some("10.0.0.7"), "5433", ip("10.0.0.7"), false),
            (Some("10.0.0.7"), "5432", ip("10.0.0.8"), false),
            (None, "5432", ip("10.0.0.7"), false),
            (None, "5432", None, true),
            (Some("10.0.0.7"), "5432", None, false),
        ] {
            assert_eq!(backend(address, port).is_at(reached), is_direct, "{address:?}:{port} {reached:?}");
        }
    }

    #[test]
    fn slightly_older_session_is_no_pooler() {
        let backend = backend(None, "5432");
        assert_eq!(backend.is_older_than(Duration::from_millis(100)), Some(true));
        assert_eq!(backend.is_older_than(Duration::from_millis(1600)), Some(false));
    }

    #[test]
    fn hidden_age_is_unknown() {
        let answer = r#"{"identity": "7 ", "age_s": null, "address": null, "port": "5432", "host": "/run",
            "host_port": "5432", "statement_timeout": "0"}"#;
        let backend: ServerSession = serde_json::from_str(answer).expect("an answer");
        assert_eq!(backend.is_older_than(Duration::ZERO), None);
    }
}
