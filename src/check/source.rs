//! Checks that PostgreSQL is reachable, that a `pg_dump` fits, and that this role may read everything.
//!
//! Called by [`super::Check`]; ends with the rehearsal. What `backup` only warns of beforehand, because `pg_dump` decides, is a
//! failure here where `pg_dump` is bound to fail on it.

use chrono::{DateTime, TimeDelta, Utc};

use crate::postgres::preflight::{self, PreflightIssue, Severity, Subject};
use crate::postgres::{
    Coverage, Facts, Installed, Place, PostgresError, PostgresSettings, ServerDatabase, Session, Tools,
};

use super::clock::Clock;
use super::name::CheckName;
use super::result::{CheckResults, Outcome};
use super::schema_dump;

/// Seconds since 1970, as the server sees it.
const CLOCK: &str = "SELECT extract(epoch FROM pg_catalog.clock_timestamp())::pg_catalog.int8";

/// What is backed up.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub settings: &'a PostgresSettings,
    /// Whether the dump goes to a spool.
    pub has_spool: bool,
}

/// The programs, and the server by its version.
pub(super) struct Programs {
    installed: Installed,
    /// Those that fit the server.
    tools: Option<Tools>,
}

/// A session, and what the server says about itself and the database.
struct Connected {
    session: Session,
    facts: Facts,
}

impl Source<'_> {
    /// Checks the server and the connection string's database. Returns the server's facts, if it could be asked.
    pub async fn examine(&self, results: &mut CheckResults<'_>) -> Option<Facts> {
        let (programs, connected) = self.open(results).await?;
        Some(self.examine_database(&programs, connected, results).await)
    }

    /// Checks the server, and asks it for its databases.
    pub async fn examine_server(&self, results: &mut CheckResults<'_>) -> Option<(Programs, Vec<ServerDatabase>)> {
        let (programs, Connected { mut session, .. }) = self.open(results).await?;
        match ServerDatabase::ask(&mut session).await {
            Ok(databases) => {
                session.close().await;
                Some((programs, databases))
            }
            Err(error) => {
                results.add(CheckName::Postgres, Outcome::error(&error).with_hint(error.hint()));
                None
            }
        }
    }

    /// Checks one of several databases.
    pub async fn examine_one(&self, programs: &Programs, results: &mut CheckResults<'_>) -> Option<Facts> {
        let connected = self.connect(&programs.installed, results).await?;
        Some(self.examine_database(programs, connected, results).await)
    }

    /// Finds the programs and connects.
    async fn open(&self, results: &mut CheckResults<'_>) -> Option<(Programs, Connected)> {
        let settings = self.settings;
        let installed = match Installed::find(settings.pg_dump_path.as_deref(), &settings.environment).await {
            Ok(installed) => installed,
            Err(error) => {
                results.add(CheckName::PgDump, Outcome::error(&error));
                return None;
            }
        };
        let mut connected = self.connect(&installed, results).await?;
        let Connected { session, facts } = &mut connected;
        let tools = installed.choose(&facts.version());
        results.add(
            CheckName::PgDump,
            tools.as_ref().map_or_else(|error| Outcome::error(error), |tools| fitting(tools, facts)),
        );
        if let Err(error) = ask_for_time(session, results).await {
            results.add(CheckName::Postgres, Outcome::error(&error).with_hint(error.hint()));
        }
        Some((Programs { installed, tools: tools.ok() }, connected))
    }

    /// Connects with the newest psql; the schema dump tests the `pg_dump` that fits.
    async fn connect(&self, installed: &Installed, results: &mut CheckResults<'_>) -> Option<Connected> {
        match connect(installed, self.settings).await {
            Ok(connected) => {
                results.add(CheckName::Postgres, Outcome::ok(place(&connected.facts)));
                Some(connected)
            }
            Err(error) => {
                results.add(CheckName::Postgres, Outcome::error(&error).with_hint(error.hint()));
                None
            }
        }
    }

    async fn examine_database(
        &self,
        programs: &Programs,
        Connected { mut session, facts }: Connected,
        results: &mut CheckResults<'_>,
    ) -> Facts {
        let Self { settings, has_spool } = self;
        let pg_dump = programs.tools.as_ref().map(|tools| tools.pg_dump.version.major);
        let subject = Subject { facts: &facts, arguments: &settings.arguments, pg_dump };
        match ask(&mut session, subject, *has_spool, results).await {
            Ok(()) => session.close().await,
            Err(error) => results.add(CheckName::Postgres, Outcome::error(&error).with_hint(error.hint())),
        }
        if let Some(tools) = &programs.tools {
            results.add(CheckName::SchemaDump, schema_dump::dump_schema(tools, settings, &facts).await);
        }
        facts
    }
}

async fn connect(installed: &Installed, settings: &PostgresSettings) -> Result<Connected, PostgresError> {
    let mut session = Session::connect(&installed.newest()?, settings).await?;
    let facts = Facts::ask(&mut session).await?;
    Ok(Connected { session, facts })
}

/// Compares the server's clock.
async fn ask_for_time(session: &mut Session, results: &mut CheckResults<'_>) -> Result<(), PostgresError> {
    let now = session.query(CLOCK).await?;
    let theirs = now.first().and_then(|text| DateTime::from_timestamp(text.parse().ok()?, 0));
    if let Some(theirs) = theirs {
        results.add(CheckName::PostgresClock, Clock::Postgres.judge(whole_seconds(theirs - Utc::now())));
    }
    Ok(())
}

fn place(facts: &Facts) -> String {
    let Facts { place: Place { host, port, .. }, database, user, .. } = facts;
    let role = if facts.in_recovery { "standby" } else { "primary" };
    format!("PostgreSQL {} ({role}) at {host}:{port}, database {database} as {user}", facts.version())
}

fn fitting(tools: &Tools, facts: &Facts) -> Outcome {
    let pg_dump = &tools.pg_dump;
    Outcome::ok(format!("{} is {}, the server {}", pg_dump.path.display(), pg_dump.version, facts.version()))
}

async fn ask(
    session: &mut Session,
    subject: Subject<'_>,
    has_spool: bool,
    results: &mut CheckResults<'_>,
) -> Result<(), PostgresError> {
    let mut issues = preflight::issues(session, subject).await?;
    if issues.is_empty() {
        results.add(CheckName::Privileges, Outcome::ok("this role may read everything"));
    }
    if !has_spool {
        issues.extend(preflight::short_timeouts(session, subject.facts).await?);
    }
    issues.extend(preflight::advice(session, subject).await?);
    for issue in issues {
        results.add(CheckName::Privileges, judge(issue, subject.arguments.coverage()));
    }
    Ok(())
}

/// With arguments that leave something out, unreadable objects may be left out: the schema dump decides.
fn judge(issue: PreflightIssue, coverage: Coverage) -> Outcome {
    match (issue.severity, coverage) {
        (Severity::Fatal, Coverage::Complete) => Outcome::fail(issue.text, issue.hint),
        (Severity::Fatal, Coverage::Partial) | (Severity::Degraded | Severity::LeavesOut | Severity::Unknown, _) => {
            Outcome::warn(issue.text, issue.hint)
        }
    }
}

fn whole_seconds(difference: TimeDelta) -> TimeDelta {
    TimeDelta::seconds(difference.num_seconds())
}
