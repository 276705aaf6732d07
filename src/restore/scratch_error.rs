//! Why a scratch database could not be created, renamed or dropped.

use crate::exit_code::ExitCode;
use crate::postgres::{PostgresError, StatementError};

use super::busy::Busy;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// The connection failed or was lost.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// Another restore into the database is running.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The role lacks the right.
    #[error(
        "create a database: the role {user} lacks the right: run ALTER ROLE … CREATEDB, or restore into an empty database with --to"
    )]
    MayNotCreate {
        /// The connecting role.
        user: String,
    },
    /// A database of that name exists.
    #[error("create the database {name}: it exists: use --replace, or another name")]
    Exists {
        /// The name.
        name: String,
    },
    /// The database of that name belongs to another role.
    #[error(
        "replace the database {name}: it belongs to {owner}, whose rights {user} does not have: connect as its owner or a superuser"
    )]
    MayNotReplace {
        /// The name.
        name: String,
        /// Its owner.
        owner: String,
        /// The connecting role.
        user: String,
    },
    /// The database of that name is a template of the server.
    #[error("replace the database {name}: it is a template of the server: use another name")]
    IsTemplate {
        /// The name.
        name: String,
    },
    /// A statement failed.
    #[error("{action}: {error}: {advice}")]
    Statement {
        /// The action that the statement was part of.
        action: String,
        /// The server's message.
        error: Box<StatementError>,
        /// What to do.
        advice: &'static str,
    },
    /// The restored database is complete, but was not renamed.
    #[error(
        "rename {scratch} to {name}: {reason}: the restored database is complete and kept as {scratch}: run {statements}"
    )]
    NotRenamed {
        /// The scratch database.
        scratch: String,
        /// The requested name.
        name: String,
        /// The server's message, and the sessions in the way.
        reason: String,
        /// The statements that finish the restore.
        statements: String,
    },
    /// It is unknown whether the database was renamed.
    #[error(
        "rename {scratch} to {name}: {reason}: it is unknown whether it took effect: if {scratch} still exists on the server, run {statements}"
    )]
    Unknown {
        /// The scratch database.
        scratch: String,
        /// The requested name.
        name: String,
        /// The server's message.
        reason: String,
        /// The statements that finish the restore.
        statements: String,
    },
    /// The scratch database is still there.
    #[error("drop the scratch database {scratch}: {reason}: run {statement}")]
    NotDropped {
        /// Its name.
        scratch: String,
        /// The server's message.
        reason: String,
        /// The statement that drops it.
        statement: String,
    },
}

impl ScratchError {
    /// The exit code that follows.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Postgres(PostgresError::TransactionPooler { .. }) => ExitCode::InvalidSetting,
            Self::Postgres(
                PostgresError::Connect { .. }
                | PostgresError::NoTools { .. }
                | PostgresError::UnusableTool { .. }
                | PostgresError::TooOld { .. },
            ) => ExitCode::PostgresUnavailable,
            Self::Postgres(
                PostgresError::SessionLost { .. } | PostgresError::Silent { .. } | PostgresError::Answer(_),
            )
            | Self::Busy(_)
            | Self::MayNotCreate { .. }
            | Self::Exists { .. }
            | Self::MayNotReplace { .. }
            | Self::IsTemplate { .. }
            | Self::Statement { .. }
            | Self::NotRenamed { .. }
            | Self::Unknown { .. }
            | Self::NotDropped { .. } => ExitCode::RestoreFailed,
        }
    }

    /// For [`Result::map_err`]: a statement that failed.
    pub(super) fn of(action: impl Into<String>, advice: &'static str) -> impl FnOnce(StatementError) -> Self {
        let action = action.into();
        move |error| match error {
            StatementError::Lost(error) => Self::Postgres(error),
            error @ StatementError::Refused { .. } => Self::Statement { action, error: Box::new(error), advice },
        }
    }
}
