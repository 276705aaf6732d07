//! PostgreSQL Client: everything that is said to a server, always through PostgreSQL's own programs.
//!
//! `tools` finds the programs, `conninfo` and `service_file` keep secrets out of their arguments, `keepalives` has dead
//! connections noticed, `session` is the control connection, `facts`, `preflight`, `references`, `lock`, `blocking` and `backend` use it, `dump` is the `pg_dump` child, `globals`
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
mod messages;
pub mod preflight;
mod references;
mod service_file;
mod session;
mod tools;

use std::path::PathBuf;
use std::time::Duration;

pub use arguments::{Coverage, DumpArguments, DumpOption, PG_DUMP_OPTIONS};
pub use conninfo::{Conninfo, ConninfoError};
pub use dump::{Dump, DumpEnd};
pub use environment::ClientEnvironment;
pub use facts::Facts;
pub use references::{Extension, References};
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
}

impl PostgresSettings {
    /// The connection string for `pg_dump`: the host that the session really chose, so that both see one server.
    #[must_use]
    pub fn pinned(&self, facts: &Facts) -> Conninfo {
        let mut source = self.conninfo.clone();
        if facts.host.is_empty() {
            return source;
        }
        // Where the string is silent, libpq asks the environment.
        let given = |keyword: &str, variable: &str| -> String {
            let variable = || self.environment.get(variable).map(|value| value.to_string_lossy().into_owned());
            source.get(keyword).map(str::to_owned).or_else(variable).unwrap_or_default()
        };
        let (hosts, addresses) = (given("host", "PGHOST"), given("hostaddr", "PGHOSTADDR"));
        if addresses.contains(',') {
            // Addresses and hosts go in pairs; without hosts the address is what the session calls its host.
            let place = hosts.split(',').position(|host| host == facts.host);
            let address = place.and_then(|place| addresses.split(',').nth(place)).unwrap_or(&facts.host).to_owned();
            source.set("hostaddr", address);
        }
        source.set("host", facts.host.clone());
        source.set("port", facts.port.clone());
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
    #[error("connect to PostgreSQL at {target} (tried {tried} times): {reason}")]
    Connect {
        /// `host:port`
        target: String,
        /// libpq's or the server's words.
        reason: String,
        /// How often.
        tried: u32,
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
        matches!(self, Self::Connect { .. } | Self::SessionLost { .. } | Self::Silent { .. })
    }

    fn after(self, tries: u32) -> Self {
        match self {
            Self::Connect { target, reason, .. } => Self::Connect { target, reason, tried: tries },
            other => other,
        }
    }
}
