//! Excludes two restores into one database at the same time: the second is refused before it sends anything.
//!
//! Both take the lock on the database's name: [`super::database`] in the transaction of the restore, [`super::scratch`] in the
//! maintenance session.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::postgres::{Maintenance, NameLock, RestoreSession, Session, StatementError};

use super::RestoreError;

/// The server may keep the session of a killed restore for a moment.
const WAIT: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_millis(200);

/// Another restore has the lock.
#[derive(Debug, thiserror::Error)]
#[error("restore into {database:?}: another restore into it is running {}", self.holder())]
pub struct Busy {
    /// The database.
    pub database: String,
    /// The server process that holds the lock; `0` for a prepared transaction.
    pub pid: String,
}

impl Busy {
    /// Who has the lock, and what to do.
    fn holder(&self) -> String {
        match self.pid.as_str() {
            "0" => "(a prepared transaction has its lock): look at pg_prepared_xacts".to_owned(),
            pid => format!(
                "(server process {pid}): wait for it, or, if it was killed, end its session with \
                 SELECT pg_terminate_backend({pid})"
            ),
        }
    }
}

/// The lock on a database that is restored into.
fn lock(database: &str) -> NameLock {
    NameLock::on(&format!("restore into {database}"))
}

/// Takes the lock until the end of the restore's transaction.
///
/// # Errors
/// [`Busy`], or the session is lost.
pub(super) async fn reserve_in_transaction(
    session: &mut RestoreSession,
    control: &mut Session,
    database: &str,
) -> Result<(), RestoreError> {
    let (lock, began) = (lock(database), Instant::now());
    while !session.try_lock(lock).await? {
        if let Some(pid) = control.query(&lock.holders()).await?.pop()
            && began.elapsed() >= WAIT
        {
            return Err(Busy { database: database.to_owned(), pid }.into());
        }
        sleep(EVERY).await;
    }
    Ok(())
}

/// Takes the lock until the end of the session. Returns [`Busy`] if another session has it, in whatever database of the server.
///
/// # Errors
/// See [`StatementError`].
pub(super) async fn reserve(server: &mut Maintenance, database: &str) -> Result<Result<(), Busy>, StatementError> {
    let (lock, began) = (lock(database), Instant::now());
    let mut is_taken = false;
    loop {
        is_taken = is_taken || server.run(&lock.take()).await?.first().is_some_and(|line| line == "t");
        let holder = server.run(&lock.holders()).await?.pop();
        match holder {
            None if is_taken => return Ok(Ok(())),
            Some(pid) if began.elapsed() >= WAIT => return Ok(Err(Busy { database: database.to_owned(), pid })),
            _ => sleep(EVERY).await,
        }
    }
}
