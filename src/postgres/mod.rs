//! PostgreSQL Client: talks to a server through PostgreSQL's own programs. Used by `backup` and `check`.
//!
//! `tools` finds the programs, `conninfo` and `service_file` keep secrets out of their arguments, `keepalives` detects dead
//! connections. `connect` opens a `session` with `psql` (`place`: where it is, `pooler`: whether there is one, `refusal`: why it
//! failed). `databases`, `facts`, `preflight`, `references`, `lock` and `activity` query it. `dump` runs `pg_dump`, `globals` runs
//! `pg_dumpall`. There is no driver, because only libpq reads a connection string as `pg_dump` does.

pub mod activity;
mod arguments;
mod backend;
mod connect;
mod conninfo;
mod databases;
mod dump;
mod ended;
mod environment;
mod facts;
mod foreign_query;
pub mod globals;
mod keepalives;
pub mod lock;
mod maintenance;
mod messages;
mod place;
mod pooler;
pub mod preflight;
mod psql;
mod questions;
mod references;
mod refusal;
mod restore_session;
mod service_file;
mod session;
pub mod target;
mod tools;

use std::path::PathBuf;
use std::time::Duration;

pub use arguments::{Coverage, DumpArguments, DumpOption, PG_DUMP_OPTIONS};
pub use conninfo::{Conninfo, ConninfoError};
pub use databases::ServerDatabase;
pub use dump::{Dump, DumpEnd};
pub use ended::EndedSessions;
pub use environment::ClientEnvironment;
pub use facts::Facts;
pub use lock::NameLock;
pub use maintenance::{Maintenance, Standing, StatementError};
pub use place::{Place, Pooling};
pub use psql::{Psql, Transactions};
pub use references::{Extension, References};
pub use restore_session::{Applied, JobApplied, NotCommitted, Outcome, RestoreSession};
pub use service_file::ServiceFile;
pub use session::Session;
pub use tools::{Installed, Tool, Tools, Version};

/// The source, as configured.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// The setting that holds the connection string, for messages.
    pub variable: &'static str,
    /// Where to connect; hides its password.
    pub conninfo: Conninfo,
    /// The environment of child processes.
    pub environment: ClientEnvironment,
    /// `PG_DUMP_PATH`
    pub pg_dump_path: Option<PathBuf>,
    /// `PG_DUMP_ARGS`
    pub arguments: DumpArguments,
    /// `pg_dump --lock-wait-timeout`
    pub lock_wait: Duration,
    /// How long `pg_dump` may write nothing.
    pub stall_timeout: Duration,
    /// Whether the log of a dump names nothing in the database: its backup is encrypted.
    pub hides_names: bool,
    /// `--allow-pooler`
    pub allows_pooler: bool,
}

impl PostgresSettings {
    /// `host:port` of the connection string, for messages.
    #[must_use]
    pub fn address(&self) -> String {
        session::target(&self.conninfo)
    }

    /// The user's arguments of `pg_dump` as the log and the manifest may show them: without values if they hide names.
    #[must_use]
    pub fn shown_arguments(&self) -> Vec<String> {
        if self.hides_names { self.arguments.names() } else { self.arguments.words().to_vec() }
    }

    /// The connection to another database of the server.
    #[must_use]
    pub fn of_database(&self, database: &str) -> Self {
        let mut settings = self.clone();
        settings.conninfo.set("dbname", database.to_owned());
        settings
    }

    /// The connection string for `pg_dump`: the host and address that the session chose, so that both use the same server.
    #[must_use]
    pub fn pinned(&self, place: &Place) -> Conninfo {
        let mut source = self.conninfo.clone();
        place.pin(&mut source, &self.environment);
        source
    }
}

/// Why PostgreSQL could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// A program is not installed.
    #[error("find {program}: it is not installed: install PostgreSQL's client programs, or set PG_DUMP_PATH")]
    NoTools {
        /// Its name.
        program: &'static str,
    },
    /// A program cannot be run.
    #[error("run {}: {reason}: set PG_DUMP_PATH to a pg_dump that works", path.display())]
    UnusableTool {
        /// Its path.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Every `pg_dump` is older than the server.
    #[error(
        "choose pg_dump: the server is PostgreSQL {server}, but the newest pg_dump here is {newest} ({}): install postgresql-client-{wanted}",
        path.display()
    )]
    TooOld {
        /// The server's version.
        server: Version,
        /// The newest installed version.
        newest: String,
        /// Its path.
        path: PathBuf,
        /// The major to install.
        wanted: u32,
    },
    /// No connection.
    #[error(
        "connect to PostgreSQL at {target}{}: {reason}: {}",
        if *.tried > 1 { format!(" (tried {} times)", .tried) } else { String::new() },
        .hint.as_deref().unwrap_or_else(|| refusal::advice(reason))
    )]
    Connect {
        /// `host:port`
        target: String,
        /// The message of libpq or the server.
        reason: String,
        /// What to do, if another try cannot help.
        hint: Option<String>,
        /// The number of tries.
        tried: u32,
    },
    /// The connection goes through a transaction pooler.
    #[error(
        "{host}:{port} is a transaction pooler, which gives each transaction another session: connect to the server itself \
         or to a session pool, or use --allow-pooler (the dump may fail, and there are no globals)"
    )]
    TransactionPooler {
        /// The pooler's host.
        host: String,
        /// Its port.
        port: String,
    },
    /// The control session ended.
    #[error("query PostgreSQL: {reason}")]
    SessionLost {
        /// psql's message.
        reason: String,
    },
    /// No answer in time.
    #[error("query PostgreSQL: no answer within {}", humantime::format_duration(*.deadline))]
    Silent {
        /// The time limit.
        deadline: Duration,
    },
    /// An answer that cannot be read.
    #[error("query PostgreSQL: the answer cannot be read")]
    Answer(#[source] serde_json::Error),
}

impl PostgresError {
    /// Whether another try can help.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Connect { hint: None, .. } | Self::SessionLost { .. } | Self::Silent { .. })
    }

    /// What to do, with which the text ends; `None` if the text is all.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Connect { reason, hint, .. } => Some(hint.as_deref().unwrap_or_else(|| refusal::advice(reason))),
            _ => None,
        }
    }

    /// Whether there is no connection to this database, while another of the same server may be open.
    #[must_use]
    pub fn is_of_database(&self) -> bool {
        matches!(self, Self::Connect { reason, .. } if refusal::is_of_database(reason))
    }

    fn after(self, tries: u32) -> Self {
        match self {
            Self::Connect { target, reason, hint, .. } => Self::Connect { target, reason, hint, tried: tries },
            other => other,
        }
    }
}
