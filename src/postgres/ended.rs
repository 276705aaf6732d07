//! The control sessions of a run of several databases that have ended: the `psql` of each connects to a database that waits, which
//! costs less than a new process.

use std::sync::Mutex;
use std::sync::PoisonError;

use super::Session;

/// Ended sessions; `None` if no database waits any more.
pub struct EndedSessions(Mutex<Option<Vec<Session>>>);

impl Default for EndedSessions {
    fn default() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }
}

impl EndedSessions {
    /// Ends a session, which releases its lock.
    pub async fn add(&self, session: Session) {
        let Ok(session) = session.end().await else { return };
        let unwanted = match self.lock().as_mut() {
            Some(sessions) => {
                sessions.push(session);
                None
            }
            None => Some(session),
        };
        if let Some(session) = unwanted {
            session.close().await;
        }
    }

    /// Takes one of them.
    pub fn take(&self) -> Option<Session> {
        self.lock().as_mut()?.pop()
    }

    /// Ends the `psql` of each, and of those that are added from now on: a session of a database would prevent `DROP DATABASE`.
    pub async fn close(&self) {
        let sessions = self.lock().take();
        for session in sessions.into_iter().flatten() {
            session.close().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
