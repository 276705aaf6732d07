//! The globals, which a dump of one database lacks: roles, memberships, tablespaces and parameter grants of the cluster by
//! `pg_dumpall --globals-only`, and the settings and grants of the database, which only `pg_dump --create` writes.
//!
//! `backup::sidecars` makes them while the dump runs, because a login may fail hours later. Their failure never fails the backup.
//! The result is one compressed `psql` script that runs on any new cluster: `script` rewrites the statements of `pg_dumpall` that
//! would fail there, `database` writes those of the database. A run of several databases calls `pg_dumpall` once.

mod database;
mod recorded;
mod recorded_database;
mod script;
mod tokens;

use std::io::Write as _;
use std::process::ExitStatus;
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

pub use database::DatabaseSettings;
pub use recorded::{Membership, NotOurs, Recorded, Role};

use super::dump::{Dump, DumpEnd};
use super::keepalives::with_keepalives;
use super::{Conninfo, Pooling, PostgresError, PostgresSettings, Session, Tools};
use script::Rewriter;

/// The largest output: a role has about 300 bytes. In memory it is compressed.
const MAX_BYTES: u64 = 64 << 20;
/// Bytes that are read at once.
const BLOCK: usize = 64 << 10;
/// Bytes of the output's start and end that are verified.
const END_BYTES: usize = 1 << 10;
/// The queries of `pg_dumpall` take milliseconds. A shorter stall timeout applies, too.
const DEADLINE: Duration = Duration::from_mins(5);

const OPENING: &[u8] = b"--\n-- PostgreSQL database cluster dump\n--\n";
const CLOSING: &[u8] = b"--\n-- PostgreSQL database cluster dump complete\n--";

/// Why there are no globals. The messages go into the manifest, so foreign messages are a source only.
#[derive(Debug, thiserror::Error)]
pub enum GlobalsError {
    /// There is no `pg_dumpall`.
    #[error("no pg_dumpall is installed that is new enough")]
    NoTool,
    /// It would change the server sessions of other clients.
    #[error(
        "pg_dumpall is not run through a transaction pooler: it would leave an empty search_path in shared sessions"
    )]
    Pooler,
    /// It cannot be run.
    #[error("pg_dumpall cannot be run")]
    Start(#[source] PostgresError),
    /// It failed.
    #[error("pg_dumpall failed ({ended})")]
    Failed {
        /// Its status in words.
        ended: String,
        /// Its message.
        #[source]
        cause: Option<Message>,
    },
    /// It takes too long.
    #[error("pg_dumpall did not end within {}", humantime::format_duration(*.0))]
    Deadline(Duration),
    /// It writes too much.
    #[error("pg_dumpall wrote more than {} MiB", MAX_BYTES >> 20)]
    TooLarge,
    /// Its output is not complete.
    #[error("the output of pg_dumpall is not complete: {0}")]
    IncompleteDump(&'static str),
    /// Its output cannot be read or compressed.
    #[error("the output of pg_dumpall cannot be read")]
    Read(#[from] std::io::Error),
}

/// A message of another program.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Message(String);

/// Facts about the server that the globals depend on.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Origin {
    /// The bootstrap superuser (OID 10).
    bootstrap: String,
    /// Whether password verifiers can be read.
    reads_passwords: bool,
    /// Whether there is a transaction pooler.
    #[serde(skip)]
    is_behind_pooler: bool,
    /// The database's settings; `None` if the server refuses.
    #[serde(skip)]
    pub database: Option<DatabaseSettings>,
}

/// Without the right to read `pg_authid`, `pg_dumpall` can read `pg_roles`, which hides only passwords.
const QUESTION: &str = "SELECT pg_catalog.json_build_object('bootstrap', pg_catalog.pg_get_userbyid(10), \
'reads_passwords', pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT'))";

impl Origin {
    /// Asks the server. If it refuses, the globals have no passwords.
    ///
    /// # Errors
    /// If the session is lost.
    pub async fn ask(session: &mut Session) -> Result<Self, PostgresError> {
        let answer = session.query_if_allowed(QUESTION).await?;
        let mut origin: Self = answer.first().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        origin.database = DatabaseSettings::ask(session).await?;
        origin.is_behind_pooler = session.place().pooling == Pooling::Transaction;
        Ok(origin)
    }
}

/// Finished globals.
#[derive(Clone, Debug)]
pub struct Globals {
    /// The script, compressed.
    pub script: Vec<u8>,
    /// Whether it contains password verifiers.
    pub has_passwords: bool,
    /// The warnings of `pg_dumpall`: usually about something that it left out.
    pub warnings: Vec<String>,
}

impl Globals {
    /// With the settings and grants of a database. Still one gzip member: some readers ignore a second one.
    ///
    /// # Errors
    /// If they cannot be compressed.
    pub fn with_database(&self, database: Option<&DatabaseSettings>) -> std::io::Result<Self> {
        let Some(database) = database else { return Ok(self.clone()) };
        let mut script = GzEncoder::new(Vec::new(), Compression::default());
        std::io::copy(&mut GzDecoder::new(&*self.script), &mut script)?;
        script.write_all(database.script().as_bytes())?;
        Ok(Self { script: script.finish()?, ..self.clone() })
    }
}

/// A running `pg_dumpall`.
pub struct GlobalsDump {
    child: Dump,
    stdout: Receiver,
    deadline: Duration,
}

impl GlobalsDump {
    /// Starts `pg_dumpall`, which connects to the database of the backup: others may not be reachable.
    ///
    /// # Errors
    /// If there is none, or it cannot be started.
    pub fn start(
        tools: &Tools,
        settings: &PostgresSettings,
        source: &Conninfo,
        database: &str,
        origin: &Origin,
    ) -> Result<Self, GlobalsError> {
        if origin.is_behind_pooler {
            return Err(GlobalsError::Pooler);
        }
        let path = tools.pg_dumpall.as_deref().ok_or(GlobalsError::NoTool)?;
        // `--database` accepts a connection string, and a database's name may look like one.
        let mut first = Conninfo::default();
        first.set("dbname", database.to_owned());
        let mut words = vec!["--globals-only".to_owned(), "--no-password".to_owned()];
        if !origin.reads_passwords {
            words.push("--no-role-passwords".to_owned());
        }
        words.push(format!("--database={first}"));
        words.push(format!("--dbname={}", with_keepalives(source, &settings.environment, tools)));
        let settings =
            PostgresSettings { environment: settings.environment.clone().with_iso_dates(), ..settings.clone() };
        let (child, stdout) = Dump::spawn(path, "pg_dumpall", &words, &settings).map_err(GlobalsError::Start)?;
        let stdout = Receiver::from_owned_fd(stdout.into())?;
        Ok(Self { child, stdout, deadline: DEADLINE.min(settings.stall_timeout) })
    }

    /// Reads the output and verifies that it is complete. After an error, call [`Self::stop`].
    ///
    /// # Errors
    /// If `pg_dumpall` fails, or its output is not complete.
    pub async fn read(&mut self, origin: &Origin) -> Result<Globals, GlobalsError> {
        let deadline = self.deadline;
        let reading = async {
            let (mut composer, mut block) = (Composer::new(origin)?, vec![0; BLOCK]);
            loop {
                match self.stdout.read(&mut block).await? {
                    0 => break,
                    count => composer.take(&block[..count])?,
                }
            }
            let end = self.child.wait().await?;
            verify(&end, &composer.ends)?;
            let has_passwords = origin.reads_passwords;
            Ok(Globals { script: composer.finish()?, has_passwords, warnings: end.warnings })
        };
        tokio::time::timeout(deadline, reading).await.unwrap_or(Err(GlobalsError::Deadline(deadline)))
    }

    /// Ends `pg_dumpall` and its process group.
    pub async fn stop(self) {
        self.child.stop().await;
    }
}

/// Writes the script of the cluster: a heading, and the rewritten output of `pg_dumpall`.
struct Composer {
    gzip: GzEncoder<Vec<u8>>,
    rewriter: Rewriter,
    ends: Ends,
}

impl Composer {
    fn new(origin: &Origin) -> std::io::Result<Self> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(heading(origin).as_bytes())?;
        Ok(Self { gzip, rewriter: Rewriter::new(&origin.bootstrap), ends: Ends::default() })
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), GlobalsError> {
        self.ends.take(bytes);
        if self.ends.bytes > MAX_BYTES {
            return Err(GlobalsError::TooLarge);
        }
        Ok(self.rewriter.take(bytes, &mut self.gzip)?)
    }

    fn finish(mut self) -> std::io::Result<Vec<u8>> {
        self.rewriter.finish(&mut self.gzip)?;
        self.gzip.finish()
    }
}

/// The start and the end of an output, and its length.
#[derive(Debug, Default)]
struct Ends {
    first: Vec<u8>,
    last: Vec<u8>,
    bytes: u64,
}

impl Ends {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.first.extend(bytes.iter().take(END_BYTES - self.first.len()));
        self.last.extend(&bytes[bytes.len().saturating_sub(END_BYTES)..]);
        self.last.drain(..self.last.len().saturating_sub(END_BYTES));
    }
}

/// Verifies the exit status, the opening and closing lines, and the key that recent versions write in both.
fn verify(end: &DumpEnd, output: &Ends) -> Result<(), GlobalsError> {
    if !ExitStatus::success(&end.status) {
        return Err(GlobalsError::Failed { ended: end.words(), cause: end.cause.clone().map(Message) });
    }
    let Some(beginning) = output.first.strip_prefix(OPENING) else {
        return Err(GlobalsError::IncompleteDump("its opening lines are missing"));
    };
    let is_long_enough = output.bytes >= (OPENING.len() + CLOSING.len()) as u64;
    let Some(body) = output.last.trim_ascii_end().strip_suffix(CLOSING).filter(|_| is_long_enough) else {
        return Err(GlobalsError::IncompleteDump("it ends before its closing line"));
    };
    let first = beginning.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default();
    match first.strip_prefix(b"\\restrict ") {
        Some(key) if !body.trim_ascii_end().ends_with(&[b"\n\\unrestrict ", key].concat()) => {
            Err(GlobalsError::IncompleteDump("its \\unrestrict line is missing"))
        }
        _ => Ok(()),
    }
}

/// The heading of the script: how to use it.
fn heading(origin: &Origin) -> String {
    let passwords = if origin.reads_passwords {
        "-- It contains the roles' password verifiers: keep it as safe as the backups."
    } else {
        "-- The roles have no passwords: the role that took the backup could not read them (pg_authid)."
    };
    format!(
        "\
-- The globals that the backup of the same name lacks: the roles with their settings and memberships,
-- the tablespaces, and the database's owner, settings, comment and grants.
{passwords}
--
-- Run it before the dump is restored, as a superuser of any name, in the new and empty database:
--     gunzip -c THIS_FILE | psql -X -d TARGET
-- Do not set ON_ERROR_STOP. A role that exists already is left as it is. A tablespace that exists already, or that
-- has no directory, is an error, and the script continues.

"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn error_for(code: i32, output: &str) -> Option<String> {
        let status = ExitStatus::from_raw(code << 8);
        let end = DumpEnd { status, cause: Some("its message".to_owned()), warnings: Vec::new() };
        let mut ends = Ends::default();
        output.as_bytes().chunks(3).for_each(|bytes| ends.take(bytes));
        verify(&end, &ends).err().map(|error| error.to_string())
    }

    #[test]
    fn accepts_only_complete_output_of_successful_run() {
        let complete = "--\n-- PostgreSQL database cluster dump\n--\n\n\\restrict k3y\n\nCREATE ROLE a;\n\n\\unrestrict k3y\n\n\
                     --\n-- PostgreSQL database cluster dump complete\n--\n\n";
        assert_eq!(error_for(0, complete), None);
        assert_eq!(error_for(0, &complete.replace("CREATE ROLE a;", &"x".repeat(3 * END_BYTES))), None);
        assert_eq!(error_for(0, &complete.replace("\\restrict k3y\n", "").replace("\\unrestrict k3y\n", "")), None);
        for (code, output, why) in [
            (1, complete.to_owned(), "exit code 1"),
            (0, String::new(), "opening"),
            (0, complete.replace(" cluster dump\n", " database dump\n"), "opening"),
            (0, complete[..complete.len() - 10].to_owned(), "closing line"),
            (0, complete.replace("\\unrestrict k3y", "\\unrestrict other"), "unrestrict"),
            (0, complete.replace("\\unrestrict k3y", ""), "unrestrict"),
            (
                0,
                complete.replace("CREATE ROLE a;", &"x".repeat(3 * END_BYTES))[..2 * END_BYTES].to_owned(),
                "closing line",
            ),
        ] {
            let error = error_for(code, &output).unwrap_or_default();
            assert!(error.contains(why) && !error.contains("its message"), "{why}: {error}");
        }
    }
}
