//! The drill: restores a backup into a scratch database, compares it with what was recorded, and drops it.
//!
//! `commands::drill` calls it, for `check --restore-to` and for the daemon. A drill that ends with a result writes it as a sidecar
//! of the backup ([`DrillRecord`]). A drill that cannot be run has no result, and writes nothing.

use std::time::{Duration, Instant};

use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use tokio::join;

use crate::archive::drill::{DrillRecord, DrillResult};
use crate::archive::manifest::time_text;
use crate::archive::name::DRILL_SUFFIX;
use crate::archive::{BackupStatus, VerifiedStream};
use crate::error_chain::Chain;
use crate::interrupt::Interrupt;
use crate::postgres::target::Target;
use crate::postgres::{Installed, PostgresSettings, StatementError, Tools, Transactions, Version};
use crate::random::random_hex;
use crate::storage::{Sidecar, StorageError};

use super::check_sql::CheckSql;
use super::database::warn_of_superuser;
use super::drill_error::{DrillError, Finding};
use super::parallel::Prepared;
use super::preconditions::problems;
use super::rules::Rules;
use super::scratch::{Origin, Purpose, Scratch};
use super::{LeaveOut, LeftOut, Request, RestoreError, RestoreOptions, ScratchError, new_database};

/// How long the drop may take: the server waits for a checkpoint and unlinks each file.
const DROP_WITHIN: Duration = Duration::from_mins(10);
/// How long it may take after a signal. The program ends within 10 s.
const DROP_AFTER_SIGNAL: Duration = Duration::from_secs(8);
const RECORD: Sidecar =
    Sidecar { suffix: DRILL_SUFFIX, content_type: "application/json", action: "write the record of the drill" };
const SYSTEM_IDENTIFIER: &str = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
/// The databases of users: not those that every server has, nor those that drills make.
const OTHERS: &str = "SELECT coalesce(pg_catalog.json_agg(d.datname ORDER BY d.datname), '[]') FROM pg_catalog.pg_database d \
WHERE NOT d.datistemplate AND d.datname <> 'postgres' AND d.datname !~ '^pg_s3_drill_[0-9a-f]{16}$'";
/// The most databases that a message lists.
const NAMED: usize = 3;

/// The servers that a drill may use although they are not its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed {
    /// `--allow-same-server`: the server that was backed up.
    pub same_server: bool,
    /// `--allow-shared-server`: as a superuser, a server that has other databases.
    pub shared_server: bool,
}

/// A drill of one backup.
pub struct Drill<'a> {
    /// The backup. Of its options, the drill uses only the `search_path`.
    pub request: &'a Request<'a>,
    /// The server of the drill.
    pub target: &'a PostgresSettings,
    /// The queries of the user.
    pub check_sql: &'a CheckSql,
    /// The servers that are allowed.
    pub allowed: Allowed,
}

/// The verdict on a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrillVerdict {
    /// It can be restored, and holds the rows that were recorded.
    Ok,
    /// It cannot be restored, or holds other rows.
    Fail(Finding),
    /// The drill could not be run.
    NotProven(Finding),
}

impl DrillVerdict {
    /// Its word in JSON and metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ok => DrillResult::Ok.word(),
            Self::Fail(_) => DrillResult::Fail.word(),
            Self::NotProven(_) => "not_proven",
        }
    }
}

/// The result of a drill.
#[derive(Clone, Debug)]
pub struct DrillReport {
    /// The backup; `None` if none was found.
    pub file_name: Option<String>,
    /// The verdict on the backup.
    pub verdict: DrillVerdict,
    /// The sidecar; `None` if the drill could not be run.
    pub record: Option<DrillRecord>,
    /// Why the sidecar was not written.
    pub not_written: Option<String>,
}

/// What a running drill has found out.
struct Findings {
    began: Instant,
    started: DateTime<Utc>,
    server_version: String,
    system_identifier: Option<String>,
    psql_version: String,
    restored: Option<Restored>,
    queries: usize,
}

/// A restored backup.
struct Restored {
    /// From the first connection to the last row.
    duration: Duration,
    verified: VerifiedStream,
    left_out: LeftOut,
}

impl Drill<'_> {
    /// Runs the drill, and writes its record.
    ///
    /// # Errors
    /// A signal; the scratch database is dropped then, too.
    pub async fn run(&self) -> Result<DrillReport, Interrupt> {
        let mut findings = Findings {
            began: Instant::now(),
            started: Utc::now(),
            server_version: String::new(),
            system_identifier: None,
            psql_version: String::new(),
            restored: None,
            queries: 0,
        };
        let file_name = Some(self.request.chosen.backup.file_name.clone());
        let (verdict, failed) = match self.attempt(&mut findings).await {
            Ok(()) => (DrillVerdict::Ok, None),
            Err(DrillError::Failed { check, reason }) => (DrillVerdict::Fail(reason), Some(check)),
            Err(DrillError::NotProven(reason)) => {
                let verdict = DrillVerdict::NotProven(reason);
                return Ok(DrillReport { file_name, verdict, record: None, not_written: None });
            }
            Err(DrillError::Interrupted(interrupt)) => return Err(interrupt),
        };
        let record = self.record(&findings, failed);
        let writing = async { Ok::<_, Interrupt>(self.write(&record).await) };
        let written = self.request.interrupts.until_signal(writing).await?;
        Ok(DrillReport { file_name, verdict, record: Some(record), not_written: written.err() })
    }

    async fn attempt(&self, findings: &mut Findings) -> Result<(), DrillError> {
        self.request.verify_identity()?;
        let interrupts = self.request.interrupts;
        let run_id = random_hex().map_err(DrillError::not_proven)?;
        let origin = Origin { run_id: &run_id, backup: &self.request.chosen.backup.s3_location };
        let connect = async {
            let tools = Installed::find(self.target.pg_dump_path.as_deref(), &self.target.environment).await;
            let tools = tools.and_then(|installed| installed.newest()).map_err(DrillError::not_proven)?;
            let scratch = Scratch::connect(&tools, self.target, Purpose::Drill, origin).await?;
            Ok::<_, DrillError>((tools, scratch))
        };
        let (tools, mut scratch) = interrupts.until_signal(connect).await?;
        findings.psql_version = tools.pg_dump.version.to_string();
        let restored = interrupts.until_signal(self.restore(&tools, &mut scratch, findings)).await;
        self.discard(scratch).await?;
        restored.map_err(|error| self.unless_server_is_older(error, findings))
    }

    async fn restore(&self, tools: &Tools, scratch: &mut Scratch, findings: &mut Findings) -> Result<(), DrillError> {
        let manifest = self.request.chosen.manifest.as_ref();
        let facts = Target::ask_outside(scratch.server().await?).await.map_err(DrillError::not_proven)?;
        findings.server_version = scratch.server().await?.standing().version().to_string();
        findings.system_identifier = match scratch.server().await?.run(SYSTEM_IDENTIFIER).await {
            Ok(answer) => answer.into_iter().next(),
            Err(StatementError::Refused { .. }) => None,
            Err(StatementError::Lost(error)) => return Err(DrillError::not_proven(error)),
        };
        self.permit(scratch, &facts, findings.system_identifier.as_deref()).await?;
        drop_abandoned(scratch).await?;
        let options = self.options(&facts);
        let problems = problems(&facts, None, manifest, &options);
        if !problems.is_empty() {
            return Err(DrillError::not_proven(RestoreError::Target { problems }));
        }
        self.announce(&facts, findings);
        let rules = Rules::of(&options, &facts, Transactions::Each);
        let (created, several) = join!(scratch.create(manifest), Prepared::of(self.request, &rules));
        created?;
        let (verified, left_out) = new_database::fill(self.request, (tools, scratch), (&rules, several?)).await?;
        left_out.announce();
        findings.restored = Some(Restored { duration: findings.began.elapsed(), verified, left_out });
        findings.queries = self.check_sql.run(tools, &scratch.settings()).await?;
        Ok(())
    }

    /// Checks whether the drill may use this server.
    async fn permit(&self, scratch: &mut Scratch, facts: &Target, own: Option<&str>) -> Result<(), DrillError> {
        let source = self.request.chosen.manifest.as_ref().and_then(|manifest| manifest.system_identifier.as_deref());
        if !self.allowed.same_server && (own.is_none() || source.is_none() || own == source) {
            let why = match (own, source) {
                (None, _) => {
                    "the server does not report its system identifier, so it may be the one that was backed up"
                }
                (_, None) => "the backup has no system identifier, so this may be the server that was backed up",
                _ => "this is the server that was backed up",
            };
            return Err(DrillError::NotProven(
                Finding::new(why).with_hint("use another server, or --allow-same-server"),
            ));
        }
        if !facts.is_superuser || self.allowed.shared_server {
            return Ok(());
        }
        let others: Option<Vec<String>> = scratch.server().await?.ask(OTHERS).await.map_err(DrillError::not_proven)?;
        let others = others.unwrap_or_default();
        if others.is_empty() {
            return Ok(());
        }
        let more = if others.len() > NAMED { ", …" } else { "" };
        let names = others[..others.len().min(NAMED)].join(", ");
        let found = Finding::new(format!(
            "{} is a superuser, and the server has other databases ({names}{more}): a restore runs the code in the dump",
            facts.role
        ));
        Err(DrillError::NotProven(found.with_hint(
            "connect as a role with only CREATEDB, use a server without other databases, or --allow-shared-server",
        )))
    }

    /// Leaves out what this server or this role does not support, but no data.
    fn options(&self, facts: &Target) -> RestoreOptions {
        let has_all = |names: Option<&Vec<String>>, known: &std::collections::BTreeSet<String>| {
            names.is_some_and(|names| names.iter().all(|name| known.contains(name)))
        };
        let manifest = self.request.chosen.manifest.as_ref().filter(|manifest| manifest.has_names());
        let gives_roles = facts.is_superuser && has_all(manifest.map(|manifest| &manifest.roles), &facts.roles);
        let has_tablespaces = has_all(manifest.map(|manifest| &manifest.tablespaces), &facts.tablespaces);
        let leave_out = LeaveOut {
            owner: !gives_roles,
            privileges: !gives_roles,
            tablespaces: !has_tablespaces,
            subscriptions: true,
            ..LeaveOut::default()
        };
        let search_path = self.request.options.search_path.clone();
        RestoreOptions { leave_out, search_path, ..RestoreOptions::default() }
    }

    fn announce(&self, facts: &Target, findings: &Findings) {
        let (file_name, manifest) = (&self.request.chosen.backup.file_name, self.request.chosen.manifest.as_ref());
        let bytes = manifest.map(|manifest| ByteSize(manifest.database_bytes).display().iec().to_string());
        let space = bytes.unwrap_or_else(|| "as much space as the database".to_owned());
        let server_version = &findings.server_version;
        tracing::info!(file_name, server_version, "the drill needs {space} on its server");
        warn_of_superuser(facts);
    }

    /// An older server may refuse statements of a newer one, which says nothing about the backup.
    fn unless_server_is_older(&self, error: DrillError, findings: &Findings) -> DrillError {
        let source = self.request.chosen.manifest.as_ref().map(|manifest| &manifest.server_version);
        let source = source.and_then(|version| Version::parse(version));
        let own = Version::parse(&findings.server_version);
        match (error, source.zip(own)) {
            (DrillError::Failed { check: DrillError::STATEMENT, reason }, Some((source, own)))
                if own.major < source.major =>
            {
                let (own, source) = (own.major, source.major);
                let found = Finding::new(format!(
                    "the server of the drill is older (PostgreSQL {own}) than the one that was backed up (PostgreSQL {source}): {reason}"
                ));
                DrillError::NotProven(found.with_hint(format!("use a server of PostgreSQL {source} or later")))
            }
            (error, _) => error,
        }
    }

    /// Drops the scratch database; a signal limits the time for it.
    async fn discard(&self, scratch: Scratch) -> Result<(), DrillError> {
        let database = scratch.name().to_owned();
        let mut dropping = std::pin::pin!(scratch.discard(DROP_WITHIN));
        let (dropped, interrupt) = tokio::select! {
            biased;
            interrupt = self.request.interrupts.received() => {
                (tokio::time::timeout(DROP_AFTER_SIGNAL, dropping).await.ok(), Some(interrupt))
            }
            dropped = &mut dropping => (Some(dropped), None),
        };
        match dropped {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::warn!(error = %Chain(&error), "the scratch database could not be dropped"),
            None => tracing::warn!(database, "the scratch database may be left behind: the next drill drops it"),
        }
        interrupt.map_or(Ok(()), |interrupt| Err(DrillError::Interrupted(interrupt)))
    }

    fn record(&self, findings: &Findings, failed: Option<&str>) -> DrillRecord {
        let chosen = self.request.chosen;
        let (backup, manifest) = (&chosen.backup, chosen.manifest.as_ref());
        let restored = findings.restored.as_ref();
        let scan = restored.map(|restored| restored.verified.scan());
        let duration = restored.map_or_else(|| findings.began.elapsed(), |restored| restored.duration);
        DrillRecord {
            drill_version: DrillRecord::version(),
            file_name: backup.file_name.clone(),
            key: self.request.destination.key(&backup.file_name),
            run_id: manifest.map(|manifest| manifest.run_id.clone()),
            result: if failed.is_none() { DrillResult::Ok } else { DrillResult::Fail },
            failed: failed.map(str::to_owned),
            drilled_at: time_text(findings.started),
            finished_at: time_text(Utc::now()),
            duration: (duration.as_secs_f64() * 1000.0).round() / 1000.0,
            server_version: findings.server_version.clone(),
            system_identifier: findings.system_identifier.clone(),
            psql_version: findings.psql_version.clone(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            database: manifest.map(|manifest| manifest.database.clone()),
            source_server_version: manifest.map(|manifest| manifest.server_version.clone()),
            source_system_identifier: manifest.and_then(|manifest| manifest.system_identifier.clone()),
            pg_dump_version: manifest.map(|manifest| manifest.pg_dump_version.clone()),
            object_bytes: backup.file_size,
            object_sha256: manifest.map(|manifest| manifest.object_sha256.clone()),
            partial: backup.status == BackupStatus::Partial,
            dump_bytes: scan.map(|scan| scan.bytes),
            rows: scan.map(|scan| scan.rows),
            tables: scan.map(|scan| scan.tables.len()),
            check_sql: findings.queries,
            unchecked: restored.and_then(|restored| chosen.evidence.unchecked(&restored.verified)),
            left_out: restored.map(|restored| self.left_out(&restored.left_out)).unwrap_or_default(),
        }
    }

    /// What the record says of what was left out. That of an encrypted backup names nothing in the database.
    fn left_out(&self, left_out: &LeftOut) -> Vec<String> {
        if self.request.chosen.backup.encrypted { left_out.unnamed() } else { left_out.phrases() }
    }

    /// Writes the record, or returns why it could not.
    async fn write(&self, record: &DrillRecord) -> Result<(), String> {
        let words = |error: StorageError| Chain(&error).to_string();
        let destination = self.request.destination;
        // If retention has deleted the backup, it would never delete a record that is written now.
        if matches!(destination.head(&record.file_name).await, Ok(None)) {
            return Err("the backup was just deleted".to_owned());
        }
        let body = serde_json::to_vec_pretty(record).map_err(|error| error.to_string())?;
        destination.write_sidecar(&record.file_name, RECORD, body).await.map_err(words)
    }
}

/// Drops the scratch databases of killed drills, and warns of those of killed restores.
async fn drop_abandoned(scratch: &mut Scratch) -> Result<(), ScratchError> {
    for abandoned in scratch.abandoned().await? {
        let (database, bytes, hint) = (&abandoned.name, abandoned.bytes, abandoned.statement());
        if !abandoned.is_of_drill() {
            tracing::warn!(database, bytes, hint, "a scratch database of an earlier restore exists");
            continue;
        }
        match scratch.drop_abandoned(&abandoned).await {
            Ok(()) => tracing::info!(database, "dropped the scratch database of a killed drill"),
            Err(error) => {
                tracing::warn!(database, error = %Chain(&error), "the scratch database of a killed drill cannot be dropped");
            }
        }
    }
    Ok(())
}
