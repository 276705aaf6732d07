//! A session outside a transaction, for what cannot run inside one (`CREATE DATABASE`) or must be committed (roles, names).
//!
//! `restore` makes, names and drops databases and roles with it. It begins as every session of this program and then leaves
//! the transaction: what the opening has set stays for its length. A statement that the server refuses is an error value, and
//! the session continues. Behind a session pooler what it sets is undone at its end; a transaction pooler is refused.

use std::time::Duration;

use serde::Deserialize;

use super::backend::Backend;
use super::psql::AUTOVACUUM_YIELDS;
use super::{Pooling, PostgresError, PostgresSettings, Session, Tools, Version, lock};

/// Of statements that take milliseconds.
const QUICK: Duration = Duration::from_secs(30);
/// Stands before the outcome of each statement, behind its rows, which are JSON or single words.
const OUTCOME: &str = "--- pg-s3-backup: outcome";
const SUCCESS: &str = "00000";

const QUESTION: &str = "\
SELECT pg_catalog.json_build_object('database', pg_catalog.current_database(), \
'user', current_user, 'server_version', pg_catalog.current_setting('server_version'), \
'creates_databases', r.rolsuper OR r.rolcreatedb, 'is_superuser', r.rolsuper) \
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";

/// Why a statement did not take effect.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// The server refused it; the session continues.
    #[error("{message}")]
    Refused {
        /// The error's code.
        sqlstate: String,
        /// The server's words, in one line.
        message: String,
    },
    /// The session is lost, or the statement took too long: whether it took effect is not known.
    #[error(transparent)]
    Lost(#[from] PostgresError),
}

impl StatementError {
    /// Whether the server refused it with this code.
    #[must_use]
    pub fn is(&self, code: &str) -> bool {
        matches!(self, Self::Refused { sqlstate, .. } if sqlstate == code)
    }
}

impl From<StatementError> for PostgresError {
    /// The error of a statement that no server should refuse.
    fn from(error: StatementError) -> Self {
        match error {
            StatementError::Lost(error) => error,
            StatementError::Refused { message, .. } => Self::SessionLost { reason: message },
        }
    }
}

/// The database and the role of a session.
#[derive(Clone, Debug, Deserialize)]
pub struct Standing {
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// The server's version.
    server_version: String,
    /// Whether the role may create databases.
    pub creates_databases: bool,
    /// Whether it is a superuser.
    pub is_superuser: bool,
}

impl Standing {
    /// The server's version.
    #[must_use]
    pub fn version(&self) -> Version {
        Version::of_server(&self.server_version)
    }
}

/// An open session in autocommit mode.
pub struct Maintenance {
    session: Session,
    backend: Backend,
    standing: Standing,
    /// A statement was sent, and its end is not known.
    is_busy: bool,
}

impl Maintenance {
    /// Connects, as [`Session::connect`].
    ///
    /// # Errors
    /// As there. A transaction pooler is refused, whatever is allowed: it would hold nothing of what is set or locked here.
    pub async fn connect(tools: &Tools, settings: &PostgresSettings) -> Result<Self, PostgresError> {
        Self::open(tools, settings, None).await
    }

    /// Connects in place of `cut_off`, a session that is lost or stuck. The server ends that one first, so that the outcome of its
    /// last statement is certain.
    ///
    /// # Errors
    /// As [`Self::connect`], and if that session does not end.
    pub async fn replacing(cut_off: &Self, tools: &Tools, settings: &PostgresSettings) -> Result<Self, PostgresError> {
        Self::open(tools, settings, Some(&cut_off.backend)).await
    }

    async fn open(
        tools: &Tools,
        settings: &PostgresSettings,
        cut_off: Option<&Backend>,
    ) -> Result<Self, PostgresError> {
        let settings = PostgresSettings { allows_pooler: false, ..settings.clone() };
        let mut session = Session::connect(tools, &settings).await?;
        // In the opening's transaction: the role that a setting leads to may not see or end sessions of the login role.
        if let Some(cut_off) = cut_off {
            cut_off.end(&mut session).await?;
        }
        let backend = Backend::of(&mut session).await?;
        session.query(lock::keepalives().as_str()).await?;
        session.autocommit().await?;
        let answer = session.query(QUESTION).await?;
        let line = answer.first().map(String::as_str).unwrap_or_default();
        let standing = serde_json::from_str(line).map_err(PostgresError::Answer)?;
        Ok(Self { session, backend, standing, is_busy: false })
    }

    /// Its database and role.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The settings by which another session gets to the same host and address.
    #[must_use]
    pub fn pinned(&self, settings: &PostgresSettings) -> PostgresSettings {
        PostgresSettings { conninfo: settings.pinned(self.session.place()), ..settings.clone() }
    }

    /// Does not let its statements wait long for tables that autovacuum holds, if its role may set that.
    ///
    /// # Errors
    /// If the session is lost.
    pub async fn let_autovacuum_yield(&mut self) -> Result<(), PostgresError> {
        if let Some(words) = self.refusal(AUTOVACUUM_YIELDS).await? {
            tracing::debug!(words, "the session waits for autovacuum");
        }
        Ok(())
    }

    /// Whether it can be used: not if a statement was abandoned, or the session was lost.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.is_busy
    }

    /// Runs one statement that takes milliseconds, and gives the lines of its answer.
    ///
    /// # Errors
    /// See [`StatementError`].
    pub async fn run(&mut self, sql: &str) -> Result<Vec<String>, StatementError> {
        self.run_within(QUICK, sql).await
    }

    /// Runs one statement. After its deadline the session cannot be used any more: end it by [`Self::replacing`].
    ///
    /// # Errors
    /// See [`StatementError`].
    pub async fn run_within(&mut self, deadline: Duration, sql: &str) -> Result<Vec<String>, StatementError> {
        self.is_busy = true;
        // An error that is read here is no reason for psql to end.
        let text = format!(
            "\\set ON_ERROR_STOP 0\n{sql}\n;\n\\echo '{OUTCOME}' :SQLSTATE\n\\echo :LAST_ERROR_MESSAGE\n\\set ON_ERROR_STOP 1\n"
        );
        let mut rows = self.session.answer_within(deadline, &text).await?;
        self.is_busy = false;
        // The first: the message after it may hold anybody's names.
        let at = rows.iter().position(|line| line.starts_with(OUTCOME)).unwrap_or(rows.len());
        let outcome = rows.split_off(at);
        let sqlstate = outcome.first().and_then(|line| line.strip_prefix(OUTCOME)).unwrap_or_default().trim();
        if sqlstate == SUCCESS {
            return Ok(rows);
        }
        let message = outcome.get(1..).unwrap_or_default().join(" ");
        Err(StatementError::Refused { sqlstate: sqlstate.to_owned(), message })
    }

    /// Runs one statement in an open transaction. If the server refuses it, only that is undone, and its words are given.
    ///
    /// # Errors
    /// If the session is lost.
    pub async fn attempt(&mut self, sql: &str) -> Result<Option<String>, PostgresError> {
        self.refusal("SAVEPOINT attempt").await?;
        let refused = self.refusal(sql).await?;
        let after = if refused.is_some() { "ROLLBACK TO SAVEPOINT attempt" } else { "RELEASE SAVEPOINT attempt" };
        self.refusal(after).await?;
        Ok(refused)
    }

    /// Runs one statement. If the server refuses it, its words are given.
    async fn refusal(&mut self, sql: &str) -> Result<Option<String>, PostgresError> {
        match self.run(sql).await {
            Ok(_) => Ok(None),
            Err(StatementError::Refused { message, .. }) => Ok(Some(message)),
            Err(StatementError::Lost(error)) => Err(error),
        }
    }

    /// Runs one statement that answers with one line of JSON; `None` if it has no row.
    ///
    /// # Errors
    /// See [`StatementError`].
    pub async fn ask<T: serde::de::DeserializeOwned>(&mut self, sql: &str) -> Result<Option<T>, StatementError> {
        let rows = self.run(sql).await?;
        let answer = rows.first().map(|line| serde_json::from_str(line).map_err(PostgresError::Answer)).transpose()?;
        Ok(answer)
    }

    /// Ends the session in order, and with it what it held.
    pub async fn close(mut self) {
        if self.session.place().pooling == Pooling::Session && self.is_idle() {
            // Another's next: it is left as it was found.
            let undo = "RESET ALL; SELECT pg_catalog.pg_advisory_unlock_all()";
            if let Err(error) = self.run(undo).await {
                tracing::debug!(%error, "the pooled session could not be set back");
            }
        }
        self.session.close().await;
    }
}
