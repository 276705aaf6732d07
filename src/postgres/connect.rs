//! Opens the control session: up to three tries, where the session is, and the search for a pooler.
//!
//! Called by `backup` and `check`.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::place::{Place, Pooling, without_statement_timeout};
use super::pooler::{self, ServerSession};
use super::{Conninfo, PostgresError, PostgresSettings, Session, Tools};

const TRIES: u32 = 3;
const DEADLINE: Duration = Duration::from_secs(30);
/// Pauses between the tries: a server restarts within seconds.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

impl Session {
    /// Connects, and finds out whether there is a pooler.
    ///
    /// # Errors
    /// [`PostgresError::Connect`] if the last try failed, and [`PostgresError::TransactionPooler`] unless it is allowed.
    pub async fn connect(tools: &Tools, settings: &PostgresSettings) -> Result<Self, PostgresError> {
        Self::connect_after(None, tools, settings).await
    }

    /// The same with the `psql` of a session that has ended, if that can connect.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_after(
        mut ended: Option<Self>,
        tools: &Tools,
        settings: &PostgresSettings,
    ) -> Result<Self, PostgresError> {
        let deadline = Instant::now() + DEADLINE;
        let mut source = settings.conninfo.clone();
        let (mut tried, mut has_short_timeout) = (0, false);
        loop {
            tried += 1;
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match timeout(left, connect_once(ended.take(), tools, settings, &source)).await {
                Ok(Ok(mut session)) => {
                    // This connection does not show it any more.
                    session.place.has_short_timeout |= has_short_timeout;
                    return Ok(session);
                }
                Ok(Err(error)) => error,
                Err(_) => PostgresError::Silent { deadline: DEADLINE },
            };
            let pause = PAUSES.get(tried as usize - 1).copied().unwrap_or_default();
            if tried == TRIES || Instant::now() + pause >= deadline || !error.may_pass() {
                return Err(error.after(tried));
            }
            if error.to_string().contains("statement timeout") {
                without_statement_timeout(&mut source, &settings.environment);
                has_short_timeout = true;
            }
            tracing::warn!(error = %crate::error_chain::Chain(&error), "cannot connect to PostgreSQL yet");
            sleep(pause).await;
        }
    }
}

async fn connect_once(
    ended: Option<Session>,
    tools: &Tools,
    settings: &PostgresSettings,
    source: &Conninfo,
) -> Result<Session, PostgresError> {
    let next = match (ended, source.get("dbname")) {
        (Some(ended), Some(database)) => ended.open_next(database).await,
        _ => None,
    };
    let mut session = match next {
        Some(session) => session,
        // Its error is the one to report.
        None => Session::open(tools, settings, source).await?,
    };
    let conninfo = session.conninfo().await?;
    let first = ServerSession::read(&mut session).await?;
    let mut place = Place::new(first.host.clone(), first.host_port.clone(), &conninfo, &first.statement_timeout);
    place.pooling = pooler::find(&mut session, &first, &place, (tools, settings)).await?;
    if place.pooling == Pooling::Transaction && !settings.allows_pooler {
        session.close().await;
        return Err(PostgresError::TransactionPooler { host: place.host, port: place.port });
    }
    session.place = place;
    Ok(session)
}
