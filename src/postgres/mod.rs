//! PostgreSQL Client: everything that is said to a server, always through PostgreSQL's own programs.
//!
//! `tools` finds the programs, `conninfo` and `service_file` keep secrets out of their arguments, `keepalives` has dead
//! connections noticed, `psql` begins each session and `session` is one (`place`: where it is, `pooler`: what is between,
//! `refusal`: why there is none), `facts`, `preflight`, `references`, `lock`, `blocking` and `backend` use it, `dump` is the `pg_dump` child, `globals`
//! what it lacks. Used by `backup` and `check`. No driver: only libpq means what `pg_dump` means (FACTS §3).

mod arguments;
pub mod backend;
pub mod blocking;
mod conninfo;
mod dump;
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
pub use dump::{Dump, DumpEnd};
pub use environment::ClientEnvironment;
pub use facts::Facts;
pub use lock::NameLock;
pub use maintenance::{Maintenance, Standing, StatementError};
pub use place::Place;
pub use pooler::Pooling;
pub use psql::{Psql, Transactions};
pub use references::{Extension, References};
pub use restore_session::{Applied, Outcome, RestoreSession, random_word};
pub use service_file::ServiceFile;
pub use session::Session;
pub use tools::{Installed, Tool, Tools, Version};

/// The source, as configured.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// Where to connect, without secrets but for the password it carries hidden.
    pub conninfo: Conninfo,
    /// What children get.
    pub environment: ClientEnvironment,
    /// The `pg_dump` that the user wants.
    pub pg_dump_path: Option<PathBuf>,
    /// What the user gives `pg_dump`.
    pub arguments: DumpArguments,
    /// `pg_dump --lock-wait-timeout`
    pub lock_wait: Duration,
    /// How long `pg_dump` may be silent.
    pub stall_timeout: Duration,
    /// Whether a transaction pooler is no reason to refuse.
    pub allows_pooler: bool,
}

impl PostgresSettings {
    /// The connection string for `pg_dump`: the host and address that the session really chose, so that both see one server.
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
    #[error("find {program}: none is installed: install PostgreSQL's client programs, or set PG_DUMP_PATH")]
    NoTools {
        /// Which one.
        program: &'static str,
    },
    /// A program cannot be run.
    #[error("run {}: {reason}: set PG_DUMP_PATH to a pg_dump that works", path.display())]
    UnusableTool {
        /// Where it is.
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
        /// Where that is.
        path: PathBuf,
        /// The major to install.
        wanted: u32,
    },
    /// No connection.
    #[error(
        "connect to PostgreSQL at {target}{}: {reason}: {}",
        if *.tried > 1 { format!(" (tried {} times)", .tried) } else { String::new() },
        .hint.unwrap_or_else(|| refusal::advice(reason))
    )]
    Connect {
        /// `host:port`
        target: String,
        /// libpq's or the server's words.
        reason: String,
        /// What to do, where no other try would help.
        hint: Option<&'static str>,
        /// How often.
        tried: u32,
    },
    /// There is a transaction pooler between this program and the server.
    #[error(
        "{host}:{port} is a transaction pooler, which gives each transaction another session: connect to the server itself \
         or to a session pool, or use --allow-pooler (the dump may fail, globals are not made)"
    )]
    TransactionPooler {
        /// The pooler's host.
        host: String,
        /// Its port.
        port: String,
    },
    /// The control session ended.
    #[error("ask PostgreSQL: {reason}")]
    SessionLost {
        /// What psql said.
        reason: String,
    },
    /// No answer in time.
    #[error("ask PostgreSQL: no answer within {}", humantime::format_duration(*.deadline))]
    Silent {
        /// How long was waited.
        deadline: Duration,
    },
    /// An answer that cannot be read.
    #[error("ask PostgreSQL: the answer cannot be read")]
    Answer(#[source] serde_json::Error),
}

impl PostgresError {
    /// Whether another try can help: not where a program is missing.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Connect { hint: None, .. } | Self::SessionLost { .. } | Self::Silent { .. })
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
