//! The environment of `psql` and `pg_dump`: the variables that libpq and the C library need, and never `S3_*` or `AWS_*`.

use std::ffi::OsString;
use std::fmt;
use std::process::Stdio;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::environment::Environment;

use super::ServiceFile;

/// Variables that every child needs.
const SYSTEM: &[&str] = &["PATH", "HOME", "LANG", "TZ"];

/// Variables of libpq 9.6 to 18 (`PQconninfoOptions` and the manual's "Environment Variables"), and of its TLS and Kerberos
/// libraries. Without `PGCLIENTENCODING`, because a dump has the database's encoding, and without `PGDATESTYLE` and the like,
/// which `pg_dump` sets. `pg_dumpall` does not: see [`ClientEnvironment::with_iso_dates`].
const LIBPQ: &[&str] = &[
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGDATABASE",
    "PGUSER",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGREQUIREAUTH",
    "PGCHANNELBINDING",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSYSCONFDIR",
    "PGOPTIONS",
    "PGAPPNAME",
    "PGSSLMODE",
    "PGREQUIRESSL",
    "PGSSLNEGOTIATION",
    "PGSSLCOMPRESSION",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLCERTMODE",
    "PGSSLROOTCERT",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLSNI",
    "PGREQUIREPEER",
    "PGSSLMINPROTOCOLVERSION",
    "PGSSLMAXPROTOCOLVERSION",
    "PGMINPROTOCOLVERSION",
    "PGMAXPROTOCOLVERSION",
    "PGGSSENCMODE",
    "PGKRBSRVNAME",
    "PGGSSLIB",
    "PGGSSDELEGATION",
    "PGCONNECT_TIMEOUT",
    "PGTARGETSESSIONATTRS",
    "PGLOADBALANCEHOSTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "KRB5_CONFIG",
    "KRB5CCNAME",
    "KRB5_CLIENT_KTNAME",
];

/// A child's environment, without the password of the connection string.
#[derive(Clone, Default)]
pub struct ClientEnvironment {
    variables: Vec<(&'static str, OsString)>,
    service_file: Option<Arc<ServiceFile>>,
}

impl ClientEnvironment {
    /// Copies the variables that a child needs.
    #[must_use]
    pub fn from_process(environment: &Environment) -> Self {
        let wanted = SYSTEM.iter().chain(LIBPQ);
        let variables = wanted.filter_map(|name| environment.get(name).map(|value| (*name, value.clone())));
        Self { variables: variables.collect(), service_file: None }
    }

    /// Adds a service file with secrets.
    #[must_use]
    pub fn with_service_file(self, file: ServiceFile) -> Self {
        Self { service_file: Some(Arc::new(file)), ..self }
    }

    /// Has the server write dates in ISO format, whatever its database and role set. `pg_dumpall` writes `VALID UNTIL` as it reads
    /// it, and another server would take the day of `SQL, DMY` for the month.
    #[must_use]
    pub(super) fn with_iso_dates(mut self) -> Self {
        self.variables.push(("PGDATESTYLE", "ISO".into()));
        self
    }

    /// Whether there is a service file with secrets.
    pub(super) fn has_service_file(&self) -> bool {
        self.service_file.is_some()
    }

    /// Whether libpq would find a database without a connection string.
    #[must_use]
    pub fn names_a_database(&self) -> bool {
        self.get("PGDATABASE").is_some() || self.get("PGSERVICE").is_some()
    }

    /// A variable's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsString> {
        self.variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// A command with this environment, messages in English, no stdin, and its own process group.
    #[must_use]
    pub fn command(&self, program: &std::path::Path, password: Option<&SecretString>) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(program);
        command.env_clear().envs(self.variables.iter().map(|(name, value)| (*name, value))).env("LC_ALL", "C");
        if self.get("PGCONNECT_TIMEOUT").is_none() {
            // Seconds per host: three tries must fit into 30 s.
            command.env("PGCONNECT_TIMEOUT", "8");
        }
        if let Some(file) = &self.service_file {
            command.env("PGSERVICEFILE", file.path());
        }
        if let Some(password) = password {
            command.env("PGPASSWORD", password.expose_secret());
        }
        // A terminal's Ctrl-C must reach this program alone, which then stops the child gracefully.
        command.stdin(Stdio::null()).process_group(0);
        command
    }
}

impl fmt::Debug for ClientEnvironment {
    /// Shows names only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.variables.iter().map(|(name, _)| name)).finish()
    }
}
