//! Opens the sessions of a restore.

use crate::at_once::together;
use crate::error_chain::Chain;
use crate::postgres::{PostgresError, RestoreSession, Transactions};

use super::Into;
use super::worker::send;

/// Opens a session.
pub(super) async fn open(into: &Into<'_>) -> Result<RestoreSession, PostgresError> {
    RestoreSession::open(into.tools, into.settings, Transactions::Each).await
}

/// Opens further sessions up to so many in all, and sends them the settings of the dump. Without all of them, the restore goes on with
/// fewer.
pub(super) async fn open_more(into: &Into<'_>, preamble: &[u8], jobs: usize) -> Vec<RestoreSession> {
    let opening = (1..jobs).map(|_| async {
        let mut session = open(into).await?;
        match send(&mut session, preamble).await? {
            Ok(()) => Ok(session),
            Err(reason) => Err(PostgresError::SessionLost { reason }),
        }
    });
    let opening = opening.map(|opening| async { Ok::<_, PostgresError>(opening.await) });
    let opened = together(opening).await.unwrap_or_default();
    let (mut sessions, mut refusal) = (Vec::new(), None);
    for opened in opened {
        match opened {
            Ok(session) => sessions.push(session),
            Err(error) => refusal = Some(error),
        }
    }
    if let Some(error) = refusal {
        let sessions = sessions.len() + 1;
        tracing::warn!(sessions, jobs, error = %Chain(&error), "the server refuses some sessions: restoring by fewer");
    }
    sessions
}
