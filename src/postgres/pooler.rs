//! Whether there is a connection pooler between this program and the server, and of what kind: found out by asking.
//!
//! [`super::Session::connect`] calls it on each new session. A *transaction* pooler gives each transaction another session
//! of the server's: `pg_dump` sets up its session before its transaction begins, and `pg_dumpall` leaves there what the
//! application then stumbles over. Behind a *session* pooler all is well.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use super::{PostgresError, PostgresSettings, Session, Tools};

/// How long the second session, which is only there for the answer, may take to come.
const SECOND_SESSION: Duration = Duration::from_secs(8);
/// A server's session that is older than the connection by more than this was there before it. Well above what two clocks
/// differ by within a second, one of which may just be set.
const OLDER: Duration = Duration::from_secs(1);

/// What is between this program and the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// Nothing that could be found.
    #[default]
    None,
    /// A pooler that keeps to one session of the server's for each connection.
    Session,
    /// A pooler that gives each transaction another.
    Transaction,
}

/// The session of the server's that a transaction meets.
#[derive(Debug, Deserialize)]
pub(super) struct Backend {
    /// Its process and, where this role may know, when that began: no other session of any server has the same.
    identity: String,
    /// `None` where this role may not know.
    age_s: Option<f64>,
    /// Where the server itself says that it was reached; `None` by a Unix socket.
    address: Option<String>,
    port: String,
    /// The host that libpq chose, or the socket's directory.
    pub(super) host: String,
    /// Its port.
    pub(super) host_port: String,
    /// The time-out that the session came with, in milliseconds; 0 is none.
    pub(super) statement_timeout: String,
}

/// `:'HOST'` and `:'PORT'` are psql's, those really chosen among several.
const QUESTION: &str = "\
SELECT pg_catalog.json_build_object('identity', pg_catalog.concat(a.pid, ' ', extract(epoch FROM a.backend_start)), \
'age_s', extract(epoch FROM pg_catalog.clock_timestamp() - a.backend_start), \
'address', pg_catalog.host(pg_catalog.inet_server_addr()), \
'port', coalesce(pg_catalog.inet_server_port()::pg_catalog.text, pg_catalog.current_setting('port')), \
'host', :'HOST', 'host_port', :'PORT', \
'statement_timeout', (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'statement_timeout')) \
FROM pg_catalog.pg_stat_activity a WHERE a.pid = pg_catalog.pg_backend_pid()";

impl Backend {
    pub(super) async fn ask(session: &mut Session) -> Result<Self, PostgresError> {
        let answer = session.query_as_login(QUESTION).await?;
        serde_json::from_str(answer.first().map(String::as_str).unwrap_or_default()).map_err(PostgresError::Answer)
    }

    /// Whether the server was reached where the connection went: then nothing is between.
    fn is_at(&self, address: Option<IpAddr>) -> bool {
        let theirs = self.address.as_ref().and_then(|text| text.parse::<IpAddr>().ok());
        self.port == self.host_port && theirs.map(|ip| ip.to_canonical()) == address.map(|ip| ip.to_canonical())
    }

    /// Whether it was there before the connection, which is at most so old; `None` where its age is unknown.
    fn is_older_than(&self, connection: Duration) -> Option<bool> {
        self.age_s.map(|age| age > (connection + OLDER).as_secs_f64())
    }
}

/// Asks what `first`, the session that the first transaction met, and the next ones have in common.
pub(super) async fn find(
    session: &mut Session,
    first: &Backend,
    tools: &Tools,
    settings: &PostgresSettings,
) -> Result<Pooling, PostgresError> {
    let is_older = first.is_older_than(session.age());
    if is_older == Some(false) && first.is_at(session.place().address) {
        return Ok(Pooling::None);
    }
    session.begin_anew().await?;
    let second = Backend::ask(session).await?;
    if second.identity != first.identity || is_met_again(session, &second, tools, settings).await? {
        return Ok(Pooling::Transaction);
    }
    Ok(if is_older == Some(true) { Pooling::Session } else { Pooling::None })
}

/// Whether the transaction of a second connection meets the session of the first, which is between two transactions and
/// open; or the next transaction of the first meets another.
async fn is_met_again(
    session: &mut Session,
    known: &Backend,
    tools: &Tools,
    settings: &PostgresSettings,
) -> Result<bool, PostgresError> {
    session.rest().await?;
    let other = async {
        let mut other = Session::open(tools, settings, &settings.pinned(session.place())).await?;
        let backend = Backend::ask(&mut other).await?;
        Ok::<_, PostgresError>((other, backend))
    };
    let other = match timeout(SECOND_SESSION, other).await {
        Ok(Ok(other)) => Some(other),
        Ok(Err(error)) => {
            tracing::debug!(error = %crate::error_chain::Chain(&error), "a second session, to look for a pooler, did not come");
            None
        }
        Err(_) => None,
    };
    // While the other holds what it met.
    session.begin_anew().await?;
    let next = Backend::ask(session).await?;
    let mut is_met = next.identity != known.identity;
    if let Some((other, backend)) = other {
        is_met |= backend.identity == known.identity;
        other.close().await;
    }
    Ok(is_met)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(address: Option<&str>, port: &str) -> Backend {
        Backend {
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
    fn the_server_is_reached_directly_where_it_says_so() {
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
    fn a_session_that_is_hardly_older_is_not_taken_for_another_ones() {
        let backend = backend(None, "5432");
        assert_eq!(backend.is_older_than(Duration::from_millis(100)), Some(true));
        assert_eq!(backend.is_older_than(Duration::from_millis(1600)), Some(false));
    }

    #[test]
    fn a_hidden_age_is_unknown() {
        let answer = r#"{"identity": "7 ", "age_s": null, "address": null, "port": "5432", "host": "/run",
            "host_port": "5432", "statement_timeout": "0"}"#;
        let backend: Backend = serde_json::from_str(answer).expect("an answer");
        assert_eq!(backend.is_older_than(Duration::ZERO), None);
    }
}
