//! The globals: what a dump of one database lacks. The cluster's roles, memberships, tablespaces and parameter grants by
//! `pg_dumpall --globals-only`, and the database's own settings and grants, which only `pg_dump --create` has.
//!
//! `backup::sidecars` makes them while the dump runs, because a login may not work hours later; nothing here can cost a
//! backup. What comes out is one SQL script for `psql`, compressed as it comes, made to be run on an empty cluster whose
//! superuser has another name: `script` rewrites the few statements of `pg_dumpall` that would stop there, `database` writes
//! those of the database.

mod database;
mod recorded;
mod recorded_database;
mod script;
mod tokens;

use std::io::Write as _;
use std::process::ExitStatus;
use std::time::Duration;

use flate2::Compression;
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

/// A role is some 300 bytes: this is far above any cluster. What is kept of it in memory is compressed, to a third at worst.
const MOST_BYTES: u64 = 64 << 20;
/// As much of the output as is in memory before it is compressed, but for a longer statement.
const BLOCK: usize = 64 << 10;
/// As much of the output's beginning and end as is looked at.
const END_BYTES: usize = 1 << 10;
/// The questions of `pg_dumpall` take milliseconds. A silence that ends `pg_dump` ends it too.
const DEADLINE: Duration = Duration::from_mins(5);

const OPENING: &[u8] = b"--\n-- PostgreSQL database cluster dump\n--\n";
const CLOSING: &[u8] = b"--\n-- PostgreSQL database cluster dump complete\n--";

/// The globals cannot be had. The words are this program's own, so that they may stand in the manifest; what others said
/// is a cause beside them.
#[derive(Debug, thiserror::Error)]
pub enum GlobalsError {
    /// No `pg_dumpall` is there.
    #[error("no pg_dumpall is installed beside pg_dump, nor another that is new enough")]
    NoTool,
    /// It would change sessions that others use.
    #[error("not made behind a transaction pooler, in whose sessions pg_dumpall would leave an empty search_path")]
    Pooler,
    /// It cannot be run.
    #[error("pg_dumpall cannot be run")]
    Start(#[source] PostgresError),
    /// It ended badly.
    #[error("pg_dumpall failed ({ended})")]
    Failed {
        /// How.
        ended: String,
        /// Its own words.
        #[source]
        cause: Option<Said>,
    },
    /// It takes too long.
    #[error("pg_dumpall did not end within {}", humantime::format_duration(*.0))]
    Deadline(Duration),
    /// It writes too much.
    #[error("pg_dumpall wrote more than {} MiB", MOST_BYTES >> 20)]
    TooLarge,
    /// It is not complete.
    #[error("the output of pg_dumpall is not complete: {0}")]
    IncompleteDump(&'static str),
    /// It cannot be read or compressed.
    #[error("the output of pg_dumpall cannot be read")]
    Read(#[from] std::io::Error),
}

/// What another program said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Said(String);

/// What has to be known beforehand to make them.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Origin {
    /// The role that the cluster was made with (OID 10).
    bootstrap: String,
    /// Whether role passwords (their verifiers) can be read.
    reads_passwords: bool,
    /// Whether there is a transaction pooler between.
    #[serde(skip)]
    is_behind_pooler: bool,
    /// The database's own; `None` where the server does not tell.
    #[serde(skip)]
    pub database: Option<DatabaseSettings>,
}

/// For everybody; of a role that may not read `pg_authid` the view `pg_roles` hides the passwords alone.
const QUESTION: &str = "SELECT pg_catalog.json_build_object('bootstrap', pg_catalog.pg_get_userbyid(10), \
'reads_passwords', pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT'))";

impl Origin {
    /// Asks the server. What it does not tell stays at the careful side: no passwords.
    ///
    /// # Errors
    /// Where the session is lost.
    pub async fn ask(session: &mut Session) -> Result<Self, PostgresError> {
        let answer = session.query_if_allowed(QUESTION).await?;
        let mut origin: Self = answer.first().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        origin.database = DatabaseSettings::ask(session).await?;
        origin.is_behind_pooler = session.pooling() == Pooling::Transaction;
        Ok(origin)
    }
}

/// The globals, made.
#[derive(Debug)]
pub struct Globals {
    /// The script, compressed.
    pub script: Vec<u8>,
    /// Whether it has the roles' password verifiers.
    pub has_passwords: bool,
    /// What `pg_dumpall` warned of: as a rule something that it left out.
    pub warnings: Vec<String>,
}

/// A running `pg_dumpall`.
pub struct GlobalsDump {
    child: Dump,
    stdout: Receiver,
    deadline: Duration,
}

impl GlobalsDump {
    /// Starts `pg_dumpall`, connected to the database that is backed up: no other need be reachable.
    ///
    /// # Errors
    /// Where there is none, or it cannot be started.
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
        // `--database` may be a connection string too, and a database's name may look like one.
        let mut first = Conninfo::default();
        first.set("dbname", database.to_owned());
        let mut words = vec!["--globals-only".to_owned(), "--no-password".to_owned()];
        if !origin.reads_passwords {
            words.push("--no-role-passwords".to_owned());
        }
        words.push(format!("--database={first}"));
        words.push(format!("--dbname={}", with_keepalives(source, &settings.environment, tools)));
        let (child, stdout) = Dump::spawn(path, "pg_dumpall", &words, settings).map_err(GlobalsError::Start)?;
        let stdout = Receiver::from_owned_fd(stdout.into())?;
        Ok(Self { child, stdout, deadline: DEADLINE.min(settings.stall_timeout) })
    }

    /// Reads it to its end, makes sure that it is complete, and adds what is the database's own. Where this fails it must be
    /// stopped.
    ///
    /// # Errors
    /// Why there are no globals.
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
            judge(&end, &composer.ends)?;
            let has_passwords = origin.reads_passwords;
            Ok(Globals { script: composer.finish(origin)?, has_passwords, warnings: end.warnings })
        };
        tokio::time::timeout(deadline, reading).await.unwrap_or(Err(GlobalsError::Deadline(deadline)))
    }

    /// Ends it and everything in its group.
    pub async fn stop(self) {
        self.child.stop().await;
    }
}

/// The script as it comes: a heading, the output of `pg_dumpall` made fit for any cluster, and the database's own.
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
        if self.ends.bytes > MOST_BYTES {
            return Err(GlobalsError::TooLarge);
        }
        Ok(self.rewriter.take(bytes, &mut self.gzip)?)
    }

    fn finish(mut self, origin: &Origin) -> std::io::Result<Vec<u8>> {
        self.rewriter.finish(&mut self.gzip)?;
        if let Some(database) = &origin.database {
            self.gzip.write_all(database.script().as_bytes())?;
        }
        self.gzip.finish()
    }
}

/// The beginning and the end of an output, and its length.
#[derive(Debug, Default)]
struct Ends {
    first: Vec<u8>,
    last: Vec<u8>,
    bytes: u64,
}

impl Ends {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let room = END_BYTES - self.first.len();
        self.first.extend(bytes.iter().take(room));
        self.last.extend(&bytes[bytes.len().saturating_sub(END_BYTES)..]);
        self.last.drain(..self.last.len().saturating_sub(END_BYTES));
    }
}

/// Whether `pg_dumpall` ended well, and its output has both its ends; current ones put the same key at both.
fn judge(end: &DumpEnd, output: &Ends) -> Result<(), GlobalsError> {
    if !ExitStatus::success(&end.status) {
        return Err(GlobalsError::Failed { ended: end.words(), cause: end.cause.clone().map(Said) });
    }
    let Some(beginning) = output.first.strip_prefix(OPENING) else {
        return Err(GlobalsError::IncompleteDump("it does not begin as it should"));
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

/// How to use the file, for whoever opens it years later.
fn heading(origin: &Origin) -> String {
    let passwords = if origin.reads_passwords {
        "-- It holds the roles' password verifiers: keep it as you keep the backups."
    } else {
        "-- The roles have no passwords: the role that took the backup could not read them (pg_authid)."
    };
    format!(
        "\
-- What the backup beside this file lacks: the roles with their settings and memberships,
-- the tablespaces, and the database's own owner, settings, comment and grants.
{passwords}
--
-- Run it before the dump is restored, as a superuser of any name, in the new and empty database:
--     gunzip -c THIS_FILE | psql -X -d TARGET
-- Do not set ON_ERROR_STOP. A role that exists already is left as it is; a tablespace whose directory does not
-- exist is an error, as one that exists already, and the rest goes on.

"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn judged(code: i32, output: &str) -> Option<String> {
        let status = ExitStatus::from_raw(code << 8);
        let end = DumpEnd { status, cause: Some("its words".to_owned()), warnings: Vec::new() };
        let mut ends = Ends::default();
        output.as_bytes().chunks(3).for_each(|bytes| ends.take(bytes));
        judge(&end, &ends).err().map(|error| error.to_string())
    }

    #[test]
    fn only_what_has_both_its_ends_and_ended_well_is_whole() {
        let whole = "--\n-- PostgreSQL database cluster dump\n--\n\n\\restrict k3y\n\nCREATE ROLE a;\n\n\\unrestrict k3y\n\n\
                     --\n-- PostgreSQL database cluster dump complete\n--\n\n";
        assert_eq!(judged(0, whole), None);
        assert_eq!(judged(0, &whole.replace("CREATE ROLE a;", &"x".repeat(3 * END_BYTES))), None);
        assert_eq!(judged(0, &whole.replace("\\restrict k3y\n", "").replace("\\unrestrict k3y\n", "")), None);
        for (code, output, why) in [
            (1, whole.to_owned(), "exit code 1"),
            (0, String::new(), "begin"),
            (0, whole.replace(" cluster dump\n", " database dump\n"), "begin"),
            (0, whole[..whole.len() - 10].to_owned(), "closing line"),
            (0, whole.replace("\\unrestrict k3y", "\\unrestrict other"), "unrestrict"),
            (0, whole.replace("\\unrestrict k3y", ""), "unrestrict"),
            (
                0,
                whole.replace("CREATE ROLE a;", &"x".repeat(3 * END_BYTES))[..2 * END_BYTES].to_owned(),
                "closing line",
            ),
        ] {
            let said = judged(code, &output).unwrap_or_default();
            assert!(said.contains(why) && !said.contains("its words"), "{why}: {said}");
        }
    }
}
