//! Scratch databases that killed processes left behind.
//!
//! [`super::scratch`] and the drill look for them. The comment marks a scratch database, and the lock on its name is free after its
//! process has ended.

use serde::Deserialize;

use super::ScratchError;
use super::ending;
use crate::postgres::{Maintenance, NameLock, PostgresError};
use crate::sql::literal;

/// The prefix of the comment that marks a scratch database.
pub(super) const COMMENT: &str = "pg-s3-backup: ";
/// The prefix of the names of scratch databases; 16 hexadecimal digits of the run's id follow.
pub(super) const PREFIXES: [&str; 2] = ["pg_s3_restore_", "pg_s3_drill_"];
pub(super) const DIGITS: usize = 16;

/// A scratch database that no process uses.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Abandoned {
    /// Its name.
    pub name: String,
    /// Its size in bytes, if this role may query it.
    pub bytes: Option<u64>,
    /// Whether it has this program's comment. Without it, its process was killed before it wrote the comment.
    pub is_marked: bool,
    /// Whether it refuses connections, as before it gets the comment.
    pub is_closed: bool,
    /// Its subscriptions, which prevent a drop.
    #[serde(skip)]
    pub subscriptions: Vec<String>,
}

impl Abandoned {
    /// The statement that drops it.
    #[must_use]
    pub fn statement(&self) -> String {
        ending::drop_statement(&self.name, &self.subscriptions)
    }

    /// Whether a drill of this program created it. Without the comment, it must be as it is before it gets one.
    #[must_use]
    pub fn is_of_drill(&self) -> bool {
        (self.is_marked || self.is_closed) && self.name.starts_with(PREFIXES[1])
    }
}

/// The scratch databases on this server that no process uses.
///
/// # Errors
/// If the query fails.
pub async fn abandoned(server: &mut Maintenance) -> Result<Vec<Abandoned>, ScratchError> {
    let failed = || ScratchError::of("look for abandoned scratch databases", "look at the server's log");
    let prefixes = PREFIXES.join("|");
    let question = format!(
        "SELECT pg_catalog.json_build_object('name', d.datname, 'is_marked', c.comment IS NOT NULL, 'is_closed', NOT d.datallowconn, \
         'bytes', CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT') THEN pg_catalog.pg_database_size(d.oid) END) \
         FROM pg_catalog.pg_database d, pg_catalog.shobj_description(d.oid, 'pg_database') AS c (comment) \
         WHERE d.datname ~ '^({prefixes})[0-9a-f]{{{DIGITS}}}$' \
         AND (c.comment IS NULL OR pg_catalog.starts_with(c.comment, {})) ORDER BY d.datname",
        literal(COMMENT)
    );
    let mut abandoned = Vec::new();
    for line in server.run(&question).await.map_err(failed())? {
        let mut found: Abandoned = serde_json::from_str(&line).map_err(PostgresError::Answer)?;
        let held = NameLock::on(&found.name).is_held();
        let holders = server.run(&format!("SELECT 1 FROM pg_catalog.pg_locks AS l WHERE {held}")).await;
        if holders.map_err(failed())?.is_empty() {
            found.subscriptions = ending::subscriptions(server, &found.name).await.map_err(failed())?;
            abandoned.push(found);
        }
    }
    Ok(abandoned)
}
