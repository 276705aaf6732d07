//! The end of a restore: the scratch database gets its own grants and settings, and then its name.
//!
//! All renames are one transaction: at any moment, even if this program or the server crashes, exactly one of the old and the new
//! database has the name, and the old one is unchanged until then. It is never dropped. The renames wait until a database has no
//! sessions. Meanwhile new sessions wait, and a second connection terminates the existing ones.

use std::convert::Infallible;
use std::time::Duration;

use chrono::Utc;
use tokio::time::sleep;

use super::ScratchError;
use super::ending;
use super::scratch::{Existing, Purpose, Scratch};
use crate::postgres::globals::DatabaseSettings;
use crate::postgres::{Maintenance, PostgresError, StatementError};
use crate::sql::{literal, quoted_name};

/// The longest name of a database, in bytes (`NAMEDATALEN` - 1).
const LONGEST_NAME: usize = 63;
/// The infix between the name of a replaced database and the time.
const BEFORE: &str = "_before_";
const TIME: &str = "%Y-%m-%d_%H-%M-%S";
/// How often to retry. Each time the server waits 5 s for sessions to end (`CountOtherDBBackends`).
const TRIES: u32 = 2;
const IN_USE: &str = "55006";
/// How often the sessions that connected meanwhile are terminated.
const EVICT_EVERY: Duration = Duration::from_millis(200);
/// The lock timeout. A starting session holds a lock for a moment. If a lock is held for longer, give up, so that other clients
/// need not wait.
const LOCK_TIMEOUT: &str = "20s";

/// The result of the renames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// The database.
    pub name: String,
    /// The new name of the replaced database; it accepts no connections.
    pub replaced: Option<String>,
    /// The grants and settings that could not be applied, and why.
    pub left_out: Vec<String>,
}

/// The renames, and the statements to do them by hand.
struct Swap<'a> {
    scratch: &'a str,
    name: &'a str,
    /// The new name of the database to be replaced.
    before: Option<String>,
    own: Option<&'a DatabaseSettings>,
}

/// Why the renames failed.
enum NoSwap {
    /// Nothing has changed.
    Refused(StatementError),
    /// It is unknown whether they took effect. If they did, this could not be applied.
    Unknown(StatementError, Vec<String>),
}

impl NoSwap {
    /// A signal came, and the renames still waited for other sessions.
    fn stopped() -> Self {
        let reason = "other sessions are in the way, and a signal asked to stop".to_owned();
        Self::Unknown(PostgresError::SessionLost { reason }.into(), Vec::new())
    }
}

impl Scratch {
    /// Applies the grants and settings of the database itself, or PostgreSQL's defaults, and renames the scratch database. On any
    /// failure the old database is unchanged, and the scratch database is kept.
    ///
    /// # Errors
    /// [`ScratchError::NotRenamed`] with the statements that finish the restore; [`ScratchError::Unknown`].
    pub async fn finish(&mut self, own: Option<&DatabaseSettings>) -> Result<Finished, ScratchError> {
        self.finish_until(own, std::future::pending()).await
    }

    /// The same, but gives up when `stop` is ready. The outcome of the renames is certain then, too.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub async fn finish_until(
        &mut self,
        own: Option<&DatabaseSettings>,
        stop: impl Future<Output = ()>,
    ) -> Result<Finished, ScratchError> {
        let Purpose::Restore { name, existing } = self.purpose.clone() else {
            return Ok(Finished { name: self.name.clone(), ..Finished::default() });
        };
        let scratch = self.name.clone();
        let mut swap = Swap { scratch: &scratch, name: &name, before: None, own };
        let finished = self.rename(&mut swap, existing, stop).await;
        if finished.is_err() {
            self.is_kept = true;
        }
        finished
    }

    async fn rename(
        &mut self,
        swap: &mut Swap<'_>,
        existing: Existing,
        stop: impl Future<Output = ()>,
    ) -> Result<Finished, ScratchError> {
        let not_renamed = |swap: &Swap<'_>, reason: String| ScratchError::NotRenamed {
            scratch: swap.scratch.to_owned(),
            name: swap.name.to_owned(),
            reason,
            statements: swap.statements().join("; ") + ";",
        };
        self.server().await.map_err(|error| not_renamed(swap, error.to_string()))?;
        let refused = |swap: &Swap<'_>, error: StatementError| not_renamed(swap, error.to_string());
        ending::end_sessions(&mut self.server, swap.scratch).await.map_err(|error| refused(swap, error))?;
        let mut left_out = self.apply(swap.own).await.map_err(|error| refused(swap, error))?;
        swap.before = name_before(&mut self.server, swap.name).await.map_err(|error| refused(swap, error))?;
        if swap.before.is_some() && existing == Existing::Refuse {
            return Err(not_renamed(swap, "a database of that name was made meanwhile".to_owned()));
        }
        let swapped = tokio::select! {
            swapped = self.swap(swap) => swapped,
            () = stop => Err(NoSwap::stopped()),
        };
        match swapped {
            Ok(more) => left_out.extend(more),
            Err(NoSwap::Refused(error)) => {
                let users = users(&mut self.server, swap).await;
                return Err(not_renamed(swap, format!("{error}{users}")));
            }
            Err(NoSwap::Unknown(error, more)) => {
                self.look_after(swap, &error).await?;
                left_out.extend(more);
            }
        }
        Ok(Finished { name: swap.name.to_owned(), replaced: swap.before.take(), left_out })
    }

    /// Applies the grants and settings of the database itself, without owner, comment and name. Returns those that the server refuses.
    async fn apply(&mut self, own: Option<&DatabaseSettings>) -> Result<Vec<String>, StatementError> {
        let database = quoted_name(&self.name);
        let mut statements = own.map_or_else(Vec::new, |own| own.rights(&database, "CURRENT_USER"));
        if statements.is_empty() {
            statements.push(format!("GRANT CONNECT, TEMPORARY ON DATABASE {database} TO PUBLIC"));
        }
        statements.extend(own.into_iter().flat_map(|own| [own.labels(&database), own.values(&database)].concat()));
        self.server.run("BEGIN").await?;
        let left_out = each(&mut self.server, &statements).await?;
        self.server.run("COMMIT").await?;
        Ok(left_out)
    }

    async fn swap(&mut self, swap: &Swap<'_>) -> Result<Vec<String>, NoSwap> {
        let mut tried = 0;
        loop {
            tried += 1;
            let helper = self.another().await.map_err(|error| NoSwap::Refused(error.into()))?;
            // Stop terminating sessions before the commit: those that connect to the new database afterwards must stay.
            let renamed = tokio::select! {
                renamed = rename_all(&mut self.server, swap) => renamed,
                error = evict(helper, swap) => match error { Ok(never) => match never {}, Err(error) => Err(error) },
            };
            match renamed {
                Ok(left_out) => {
                    return match self.server.run("COMMIT").await {
                        Ok(_) => Ok(left_out),
                        Err(error @ StatementError::Refused { .. }) => Err(NoSwap::Refused(error)),
                        Err(error @ StatementError::Lost(_)) => Err(NoSwap::Unknown(error, left_out)),
                    };
                }
                Err(error) => {
                    self.undo().await;
                    // After a broken connection this is a new session.
                    let may_pass = error.is(IN_USE) || matches!(error, StatementError::Lost(_));
                    if tried == TRIES || !may_pass {
                        return Err(NoSwap::Refused(error));
                    }
                }
            }
        }
    }

    /// Rolls back a failed transaction. If that fails, terminates the session, which also rolls back.
    async fn undo(&mut self) {
        let is_undone = self.server.is_idle() && self.server.run("ROLLBACK").await.is_ok();
        if !is_undone && let Err(error) = self.reconnect().await {
            tracing::warn!(%error, "the session that was to rename the database cannot be ended");
        }
    }

    /// Finds out whether renames took effect, after the answer to COMMIT was lost.
    async fn look_after(&mut self, swap: &Swap<'_>, error: &StatementError) -> Result<(), ScratchError> {
        let (scratch, name) = (swap.scratch.to_owned(), swap.name.to_owned());
        let statements = swap.statements().join("; ") + ";";
        let unknown = |reason: String| ScratchError::Unknown {
            scratch: scratch.clone(),
            name: name.clone(),
            reason,
            statements: statements.clone(),
        };
        self.reconnect().await.map_err(|error| unknown(error.to_string()))?;
        let question = format!("SELECT 1 FROM pg_catalog.pg_database d WHERE d.datname = {}", literal(swap.scratch));
        let left = self.server.run(&question).await.map_err(|error| unknown(error.to_string()))?;
        if left.is_empty() {
            return Ok(());
        }
        Err(ScratchError::NotRenamed { scratch, name, reason: error.to_string(), statements })
    }
}

impl Swap<'_> {
    /// The statements of the renames, in order. Statements that may fail come after them.
    fn statements(&self) -> Vec<String> {
        let (scratch, name) = (quoted_name(self.scratch), quoted_name(self.name));
        let comment =
            self.own.map_or_else(|| format!("COMMENT ON DATABASE {scratch} IS NULL"), |own| own.comment(&scratch));
        let mut statements = vec![comment];
        if let Some(before) = &self.before {
            let before = quoted_name(before);
            statements.push(format!("ALTER DATABASE {name} RENAME TO {before}"));
            statements.push(format!("ALTER DATABASE {before} ALLOW_CONNECTIONS false"));
        }
        statements.push(format!("ALTER DATABASE {scratch} RENAME TO {name}"));
        statements
    }

    /// Sets the owner, after the renames because the new owner may lack the right to rename, and the template flag, which prevents a drop.
    fn afterwards(&self) -> Vec<String> {
        let name = quoted_name(self.name);
        self.own.map_or_else(Vec::new, |own| [own.attributes(&name), vec![own.give(&name)]].concat())
    }
}

/// Begins the transaction and renames in it. Returns what could not be applied after that.
async fn rename_all(server: &mut Maintenance, swap: &Swap<'_>) -> Result<Vec<String>, StatementError> {
    server.run("BEGIN").await?;
    server.run(&format!("SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")).await?;
    // Whatever role and database set: what is reported as restored survives a crash of the server.
    server.run("SET LOCAL synchronous_commit = on").await?;
    for statement in swap.statements() {
        server.run(&statement).await?;
    }
    each(server, &swap.afterwards()).await
}

/// Runs each statement in the open transaction. Returns those that the server refuses.
async fn each(server: &mut Maintenance, statements: &[String]) -> Result<Vec<String>, StatementError> {
    let mut left_out = Vec::new();
    for statement in statements {
        left_out.extend(server.attempt(statement).await?.map(|reason| format!("{statement}: {reason}")));
    }
    Ok(left_out)
}

/// Terminates the sessions of both databases, repeatedly.
async fn evict(mut helper: Maintenance, swap: &Swap<'_>) -> Result<Infallible, StatementError> {
    loop {
        // Until the commit, other sessions see the old names.
        ending::end_sessions(&mut helper, swap.scratch).await?;
        if swap.before.is_some() {
            ending::end_sessions(&mut helper, swap.name).await?;
        }
        sleep(EVICT_EVERY).await;
    }
}

/// Returns the new name for the database to be replaced, if it exists: an unused name of at most 63 bytes.
async fn name_before(server: &mut Maintenance, name: &str) -> Result<Option<String>, StatementError> {
    let question = "SELECT pg_catalog.json_agg(d.datname) FROM pg_catalog.pg_database d";
    let names: Vec<String> = server.ask(question).await?.unwrap_or_default();
    if !names.iter().any(|known| known == name) {
        return Ok(None);
    }
    let now = Utc::now().format(TIME);
    let suffixes = (1..).map(|number| if number == 1 { format!("{now}") } else { format!("{now}_{number}") });
    let candidates = suffixes.map(|suffix| {
        let suffix = format!("{BEFORE}{suffix}");
        format!("{}{suffix}", &name[..name.floor_char_boundary(LONGEST_NAME - suffix.len())])
    });
    Ok(candidates.into_iter().find(|candidate| !names.contains(candidate)))
}

/// The sessions that block the renames, for the error.
async fn users(server: &mut Maintenance, swap: &Swap<'_>) -> String {
    let names = [swap.scratch, swap.name].map(literal).join(", ");
    let question = format!(
        "SELECT pg_catalog.to_json(pg_catalog.format('pid %s of %s (%s)', a.pid, a.usename, a.application_name)) \
         FROM pg_catalog.pg_stat_activity a WHERE a.datname IN ({names}) \
         UNION ALL SELECT pg_catalog.to_json(pg_catalog.format('the prepared transaction %s', p.gid)) \
         FROM pg_catalog.pg_prepared_xacts p WHERE p.database IN ({names}) LIMIT 5"
    );
    let rows = server.run(&question).await.unwrap_or_default();
    let users: Vec<String> = rows.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if users.is_empty() { String::new() } else { format!(" ({})", users.join(", ")) }
}
