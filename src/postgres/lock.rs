//! The lock that keeps two backups of one database to one destination apart.
//!
//! Taken by `backup` on the control session. It saves work; it is not the safety, which is unique names and the commit
//! (SPEC §4.3). A transaction-level advisory lock in a READ COMMITTED transaction (the session's own) holds no snapshot, so it
//! does not hold vacuum back, and it cannot leak behind a pooler (FACTS §3).

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::keepalives::{IDLE_SECONDS, INTERVAL_SECONDS, PROBES};
use super::{PostgresError, Session};

/// A session outlives the run that had it for a moment, above all one that was killed: so long it is no other backup yet.
const PATIENCE: Duration = Duration::from_secs(5);
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

    /// The statement that takes it where it is free, and answers `t` or `f`.
    #[must_use]
    pub fn take(self) -> String {
        format!("SELECT pg_catalog.pg_try_advisory_lock({})", self.0)
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

/// Tries to take the lock; `false` where another session holds it for more than a moment.
///
/// # Errors
/// Where the session is lost.
pub async fn try_lock(session: &mut Session, destination: &str) -> Result<bool, PostgresError> {
    session.query(&keepalives()).await?;
    let key = key(destination);
    let (sql, began) = (format!("SELECT pg_catalog.pg_try_advisory_xact_lock({key})"), Instant::now());
    loop {
        if session.query(&sql).await?.last().is_some_and(|line| line == "t") {
            return Ok(true);
        }
        if began.elapsed() >= PATIENCE {
            return Ok(false);
        }
        sleep(EVERY).await;
    }
}

/// Has the server notice within two minutes when this host is gone: the lock would stay for hours. What is set lower stays;
/// a Unix socket has 0.
pub(super) fn keepalives() -> String {
    format!(
        "SELECT pg_catalog.count(pg_catalog.set_config(name, least(setting::int, value)::pg_catalog.text, false)) \
         FROM pg_catalog.pg_settings JOIN (VALUES ('tcp_keepalives_idle', {IDLE_SECONDS}), \
         ('tcp_keepalives_interval', {INTERVAL_SECONDS}), ('tcp_keepalives_count', {PROBES})) AS wanted (name, value) \
         USING (name) WHERE setting <> '0'"
    )
}

/// A lock's key: 64 bits of its name's sha256.
pub(super) fn key(destination: &str) -> i64 {
    let digest: [u8; 32] = Sha256::digest(destination.as_bytes()).into();
    digest.iter().take(8).fold(0, |key, byte| (key << 8) | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::super::session::tests::session;
    use super::*;

    /// The lock is another's when it is asked for first, and free from then on.
    const PSQL: &str = r#"#!/bin/sh
while IFS= read -r line; do
    case $line in
        *pg_try_advisory_xact_lock*) if [ -e "$0.asked" ]; then echo t; else echo f; fi; echo asked >>"$0.asked" ;;
        \\echo*) line=${line#*\'}; echo "${line%\'}" ;;
    esac
done
"#;

    #[tokio::test]
    async fn a_lock_that_a_run_leaves_behind_for_a_moment_is_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut session = session(directory.path(), PSQL).await;
        assert!(try_lock(&mut session, "s3://bucket/path").await.expect("answered"));
        let asked = std::fs::read_to_string(directory.path().join("psql.asked")).expect("asked");
        assert_eq!(asked.lines().count(), 2);
    }
}
