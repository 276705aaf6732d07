//! The lock against two concurrent backups of one database to one destination.
//!
//! `backup` takes it on the control session. It only saves work: unique names and the commit make concurrent backups safe. A
//! transaction-level advisory lock in a READ COMMITTED transaction holds no snapshot, so it does not delay vacuum, and a pooler
//! cannot leak it.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::keepalives::{IDLE_SECONDS, INTERVAL_SECONDS, PROBES};
use super::{PostgresError, Session};

/// The server may keep the session of a killed run for a moment.
const WAIT: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_millis(200);

/// A name on which a session holds a lock for its length: the key in `pg_locks`, and for the functions that lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameLock(i64);

impl NameLock {
    /// The lock on a name.
    #[must_use]
    pub fn on(name: &str) -> Self {
        Self(key(name))
    }

    /// The statement that takes it if it is free, and answers `t` or `f`.
    #[must_use]
    pub fn take(self) -> String {
        format!("SELECT pg_catalog.pg_try_advisory_lock({})", self.0)
    }

    /// The expression that takes it until the end of the transaction where it is free: `t` or `f`.
    #[must_use]
    pub(super) fn take_in_transaction(self) -> String {
        format!("pg_catalog.pg_try_advisory_xact_lock({})", self.0)
    }

    /// The query for the other sessions that hold it, by their process; 0 for a prepared transaction.
    #[must_use]
    pub fn holders(self) -> String {
        let held = self.is_held();
        format!(
            "SELECT coalesce(l.pid, 0) FROM pg_catalog.pg_locks AS l WHERE l.granted \
             AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() AND {held}"
        )
    }

    /// The condition that a session holds it, whatever database that is in, of `pg_locks AS l`.
    #[must_use]
    pub fn is_held(self) -> String {
        let (high, low) = (self.0 >> 32 & 0xffff_ffff, self.0 & 0xffff_ffff);
        format!(
            "l.locktype = 'advisory' AND l.objsubid = 1 AND l.classid::pg_catalog.int8 = {high} AND l.objid::pg_catalog.int8 = {low}"
        )
    }
}

/// Tries to take the lock; `false` if another session keeps it.
///
/// # Errors
/// If the session is lost.
pub async fn try_lock(session: &mut Session, destination: &str) -> Result<bool, PostgresError> {
    session.query(&keepalives()).await?;
    let key = key(destination);
    let (sql, began) = (format!("SELECT pg_catalog.pg_try_advisory_xact_lock({key})"), Instant::now());
    loop {
        if session.query(&sql).await?.last().is_some_and(|line| line == "t") {
            return Ok(true);
        }
        if began.elapsed() >= WAIT {
            return Ok(false);
        }
        sleep(EVERY).await;
    }
}

/// Makes the server detect within two minutes that this host is gone; it would keep the lock for hours. Keeps lower settings;
/// they are 0 on a Unix socket.
pub(super) fn keepalives() -> String {
    format!(
        "SELECT pg_catalog.count(pg_catalog.set_config(name, least(setting::pg_catalog.int4, value)::pg_catalog.text, false)) \
         FROM (SELECT name, value, pg_catalog.current_setting(name, true) FROM (VALUES ('tcp_keepalives_idle', {IDLE_SECONDS}), \
         ('tcp_keepalives_interval', {INTERVAL_SECONDS}), ('tcp_keepalives_count', {PROBES})) AS wanted (name, value)) \
         AS known (name, value, setting) WHERE setting <> '0'"
    )
}

/// The lock's key: 64 bits of the destination's SHA-256.
fn key(destination: &str) -> i64 {
    let digest: [u8; 32] = Sha256::digest(destination.as_bytes()).into();
    digest.iter().take(8).fold(0, |key, byte| (key << 8) | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::super::session::tests::session;
    use super::*;

    /// The first try finds the lock taken, the second finds it free.
    const PSQL: &str = r#"#!/bin/sh
while IFS= read -r line; do
    case $line in
        *pg_try_advisory_xact_lock*) if [ -e "$0.asked" ]; then echo t; else echo f; fi; echo asked >>"$0.asked" ;;
        \\echo*) line=${line#*\'}; echo "${line%\'}" ;;
    esac
done
"#;

    #[tokio::test]
    async fn waits_for_lock_of_previous_run() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut session = session(directory.path(), PSQL).await;
        assert!(try_lock(&mut session, "s3://bucket/path").await.expect("answered"));
        let asked = std::fs::read_to_string(directory.path().join("psql.asked")).expect("asked");
        assert_eq!(asked.lines().count(), 2);
    }
}
