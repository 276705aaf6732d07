//! The database server and the S3 server of the tests. `scripts/server` starts them, and removes them when the test process ends.
//! All tests share [`postgres`] and [`s3`]; [`own_postgres`] and [`own_s3`] are for tests that stop a server. If a server does
//! not start, the test fails with the script's message; no test is skipped.

mod bucket;
pub mod database;
pub mod restarted;
mod signed;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use super::port::own_port;
use database::unique_name;

/// A running database server.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// Where it listens.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// A superuser.
    pub user: String,
    /// That user's password.
    pub password: String,
    /// The directory of its programs.
    pub bin: PathBuf,
    /// The directory of its Unix socket.
    pub socket_dir: PathBuf,
    /// Its main process.
    pub pid: u32,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// The CA of its certificate, if it was started with `--ssl`.
    pub ssl_root_cert: Option<PathBuf>,
    /// The certificate of the role `cert_user` and its key, if it was started with `--ssl`.
    pub ssl_client: Option<(PathBuf, PathBuf)>,
}

/// A running S3 server.
#[derive(Clone, Debug)]
pub struct S3 {
    /// `http://host:port` (`https` with `--tls`).
    pub url: String,
    /// The region it signs for.
    pub region: String,
    /// Credentials that may do everything.
    pub access_key: String,
    /// Their secret.
    pub secret_key: String,
    /// Credentials that may only read and list.
    pub readonly_access_key: String,
    /// Their secret.
    pub readonly_secret_key: String,
    /// Credentials that may only write.
    pub writeonly_access_key: String,
    /// Their secret.
    pub writeonly_secret_key: String,
    /// Its process.
    pub pid: u32,
    /// The CA of its certificate, if it was started with `--tls`.
    pub ca_file: Option<PathBuf>,
}

impl S3 {
    /// `host:port`, as the proxies want it.
    pub fn addr(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest).trim_end_matches('/')
    }
}

impl Postgres {
    /// `host:port`, as the proxies want it.
    pub fn addr(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// The database server that all tests share.
///
/// # Panics
/// If it does not start.
pub fn postgres() -> &'static Postgres {
    static SHARED: LazyLock<Postgres> = LazyLock::new(|| Postgres::from(&start("postgres", &shared_dir("pg"), &[])));
    &SHARED
}

/// The S3 server that all tests share. Each test has its own bucket.
///
/// # Panics
/// If it does not start.
pub fn s3() -> &'static S3 {
    static SHARED: LazyLock<S3> = LazyLock::new(|| S3::from(&start("s3", &shared_dir("s3"), &[])));
    &SHARED
}

/// Starts a database server for one test, with more arguments for the script (`--major N`, `--ssl` …).
///
/// # Panics
/// If it does not start.
pub fn own_postgres(args: &[&str]) -> OwnPostgres {
    Own::start("postgres", args)
}

/// Starts a hot standby of a database server.
///
/// # Panics
/// If it does not start.
pub fn own_standby(primary: &Postgres) -> OwnPostgres {
    let dir = unique_dir("standby");
    let password = [("PGPASSWORD", primary.password.as_str())];
    let (port, primary) = (own_port().to_string(), primary.port.to_string());
    let settings = start_with("postgres", &dir, &["--port", &port, "--standby-of", &primary], &password);
    Own { server: Postgres::from(&settings), dir }
}

/// Starts an S3 server for one test, with more arguments for the script (`--port P`, `--tls`).
///
/// # Panics
/// If it does not start.
pub fn own_s3(args: &[&str]) -> OwnS3 {
    Own::start("s3", args)
}

/// A database server that stops when it is dropped.
pub type OwnPostgres = Own<Postgres>;
/// An S3 server that stops when it is dropped.
pub type OwnS3 = Own<S3>;

/// A server of one test; dropping it stops the server and removes its files.
#[derive(Debug)]
pub struct Own<S> {
    server: S,
    dir: PathBuf,
}

impl<S: for<'a> From<&'a Settings>> Own<S> {
    fn start(kind: &str, args: &[&str]) -> Self {
        let dir = unique_dir(kind);
        // While it is stopped, no other process must get its port.
        let port = own_port().to_string();
        let port = if args.contains(&"--port") { Vec::new() } else { vec!["--port", &port] };
        let server = S::from(&start(kind, &dir, &[args, &port].concat()));
        Self { server, dir }
    }
}

impl<S> Own<S> {
    /// Kills the server and removes its files. A second call does nothing.
    pub fn stop(&self) {
        // It also runs in drops, where a panic would abort; the script's watchdog removes what is left.
        let _ = Command::new(script()).arg("stop").arg(&self.dir).stdin(Stdio::null()).output();
    }
}

impl<S> Deref for Own<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.server
    }
}

impl<S> Drop for Own<S> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The directory of the newest installed `PostgreSQL` client tools; `None` if there is none.
pub fn installed_tools() -> Option<PathBuf> {
    let majors = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let newest = majors.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max()?;
    let bin = PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"));
    bin.join("psql").exists().then_some(bin)
}

/// The output of the script.
#[derive(Debug)]
pub struct Settings(HashMap<String, String>);

impl Settings {
    fn text(&self, name: &str) -> String {
        self.optional(name).unwrap_or_else(|| panic!("scripts/server did not print {name}: {:?}", self.0.keys()))
    }

    fn number<N: std::str::FromStr>(&self, name: &str) -> N {
        let text = self.text(name);
        text.parse().unwrap_or_else(|_| panic!("scripts/server printed {name}={text}, which is no number"))
    }

    fn optional(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

impl From<&Settings> for Postgres {
    fn from(settings: &Settings) -> Self {
        Self {
            host: settings.text("PGHOST"),
            port: settings.number("PGPORT"),
            user: settings.text("PGUSER"),
            password: settings.text("PGPASSWORD"),
            bin: settings.text("PGBIN").into(),
            socket_dir: settings.text("PGSOCKETDIR").into(),
            pid: settings.number("PID"),
            data_dir: settings.text("DATADIR").into(),
            ssl_root_cert: settings.optional("PGSSLROOTCERT").map(PathBuf::from),
            ssl_client: settings
                .optional("PGSSLCERT")
                .zip(settings.optional("PGSSLKEY"))
                .map(|(cert, key)| (cert.into(), key.into())),
        }
    }
}

impl From<&Settings> for S3 {
    fn from(settings: &Settings) -> Self {
        Self {
            url: settings.text("S3_URL"),
            region: settings.text("S3_REGION"),
            access_key: settings.text("S3_ACCESS_KEY"),
            secret_key: settings.text("S3_SECRET_KEY"),
            readonly_access_key: settings.text("S3_READONLY_ACCESS_KEY"),
            readonly_secret_key: settings.text("S3_READONLY_SECRET_KEY"),
            writeonly_access_key: settings.text("S3_WRITEONLY_ACCESS_KEY"),
            writeonly_secret_key: settings.text("S3_WRITEONLY_SECRET_KEY"),
            pid: settings.number("PID"),
            ca_file: settings.optional("S3_CA_FILE").map(PathBuf::from),
        }
    }
}

fn start(kind: &str, dir: &Path, args: &[&str]) -> Settings {
    start_with(kind, dir, args, &[])
}

fn start_with(kind: &str, dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> Settings {
    let mut command = Command::new(script());
    command.envs(variables.iter().copied());
    command.arg(kind).arg(dir).arg("--owner").arg(std::process::id().to_string()).args(args).stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "the {kind} server for the tests did not start ({}).\nIt said:\n{}\nTry it by hand: {command:?}\nMissing programs are \
         installed by scripts/install.",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Settings(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/server")
}

/// One directory of each kind for a process; the script's watchdog removes it with its server when the process has ended.
fn shared_dir(kind: &str) -> PathBuf {
    std::env::temp_dir().join(format!("pg-s3-backup-it-{}-{kind}", std::process::id()))
}

fn unique_dir(kind: &str) -> PathBuf {
    std::env::temp_dir().join(format!("pg-s3-backup-it-{}", unique_name(kind)))
}
