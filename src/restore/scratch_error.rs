//! Why a database could not be made, named or dropped.

use crate::exit_code::ExitCode;
use crate::postgres::{PostgresError, StatementError};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// No session, or it was lost.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The role lacks the right.
    #[error(
        "create a database: the role {user} may not: ALTER ROLE … CREATEDB, or restore into an empty database by --to"
    )]
    MayNotCreate {
        /// The role that was connected as.
        user: String,
    },
    /// The name is taken.
    #[error("create the database {name}: it exists: use --replace, or another name")]
    Exists {
        /// The name.
        name: String,
    },
    /// The database that has the name is another's.
    #[error(
        "replace the database {name}: it belongs to {owner}, whose rights {user} does not have: connect as its owner or a superuser"
    )]
    MayNotReplace {
        /// The name.
        name: String,
        /// Its owner.
        owner: String,
        /// The role that was connected as.
        user: String,
    },
    /// The server needs the database that has the name.
    #[error("replace the database {name}: it is a template of the server: use another name")]
    IsTemplate {
        /// The name.
        name: String,
    },
    /// A statement on the way failed.
    #[error("{action}: {error}: {advice}")]
    Statement {
        /// What it was for.
        action: String,
        /// The server's words.
        error: Box<StatementError>,
        /// What to do.
        advice: &'static str,
    },
    /// All is restored, but has not got its name.
    #[error(
        "rename {scratch} to {name}: {reason}: the restored database is complete and kept as {scratch}: run {statements}"
    )]
    NotRenamed {
        /// The scratch database.
        scratch: String,
        /// The name that it should have.
        name: String,
        /// The server's words, and who is connected.
        reason: String,
        /// What would finish the restore.
        statements: String,
    },
    /// Whether the database has its name could not be found out.
    #[error(
        "rename {scratch} to {name}: {reason}: whether it took effect is not known: look for {scratch} on the server; where it is, run {statements}"
    )]
    Unknown {
        /// The scratch database.
        scratch: String,
        /// The name that it should have.
        name: String,
        /// The server's words.
        reason: String,
        /// What would finish the restore.
        statements: String,
    },
    /// The scratch database is still there.
    #[error("drop the scratch database {scratch}: {reason}: run {statement}")]
    NotDropped {
        /// Its name.
        scratch: String,
        /// The server's words.
        reason: String,
        /// What drops it.
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
