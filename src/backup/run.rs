//! One backup, step by step: connect, lock, start the upload, dump, verify, commit, write sidecars, apply retention.
//!
//! Called by `commands::run_backup`. Each step is in the module that it names.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use chrono::Utc;
use tracing::Instrument as _;

use crate::log_target::{FOR_MACHINES, FOR_PEOPLE};
use crate::pipeline::{PartPlan, Progress};
use crate::postgres::preflight::{PreflightIssue, Severity, Subject};
use crate::postgres::{Conninfo, Coverage, Dump, Facts, Session, Tools, activity, lock, preflight};
use crate::random::random_hex;
use crate::retention::{self, RetentionReport, STALE_AFTER, UploadCleanup};
use crate::spool::SpoolDir;
use crate::storage::{Committed, Destination, StorageError};
use crate::verified_dump::VerifiedDump;

use super::BackupError;
use super::estimate::memory_estimate;
use super::free_name::unused_name;
use super::index::IndexOfRun;
use super::limits::Limits;
use super::ownership::{self, MixedDatabases, OtherServer, Ownership};
use super::report::{Attempt, Report};
use super::resume;
use super::settings::BackupSettings;
use super::shared::{Shared, SharedServer};
use super::sidecars::{ClusterGlobals, GlobalsMaker, GlobalsOfRun, Known, Sidecars};
use super::source::Source;
use super::stream::Job;
use super::upload_target::{Target, UploadPlan, warn_of_no_spool};
use crate::archive::manifest::{Manifest, Place, RunFacts};
use crate::archive::name::{self, BackupName};

/// One run of `backup`.
pub struct Backup<'a> {
    settings: &'a BackupSettings,
    limits: Limits,
    progress: Arc<Progress>,
    display: Box<dyn Fn(u64) + Send + Sync + 'a>,
    mixed_databases: MixedDatabases,
    server: Option<&'a SharedServer>,
}

/// What one dump needs.
struct Dumping<'a> {
    facts: &'a Facts,
    tools: &'a Tools,
    source: &'a Conninfo,
    upload_plan: &'a UploadPlan<'a>,
    known: &'a Known,
    globals: &'a GlobalsOfRun,
    index: &'a IndexOfRun<'a>,
}

impl<'a> Backup<'a> {
    /// A run with its settings, its limits and its progress. `display` shows the progress; it is called once, with the
    /// database's size in bytes, when the dump starts.
    pub fn new(
        settings: &'a BackupSettings,
        limits: Limits,
        progress: Arc<Progress>,
        display: impl Fn(u64) + Send + Sync + 'a,
    ) -> Self {
        let (display, mixed_databases) = (Box::new(display), MixedDatabases::default());
        Self { settings, limits, progress, display, mixed_databases, server: None }
    }

    /// Sets how backups of another database in the destination are treated.
    #[must_use]
    pub fn mixed_databases(self, mixed_databases: MixedDatabases) -> Self {
        Self { mixed_databases, ..self }
    }

    /// Makes it one of several backups of a server.
    #[must_use]
    pub(super) fn of_server(self, server: &'a SharedServer) -> Self {
        Self { server: Some(server), ..self }
    }

    /// Takes one backup; delivers first what an earlier run left in the spool.
    ///
    /// # Errors
    /// Why there is no backup. As far as possible, no object, no open upload and no child process is left; anything
    /// left is logged, and so is a complete dump that is kept. `attempt` holds what was known by then.
    pub async fn run(self, attempt: &mut Attempt) -> Result<Report, BackupError> {
        let began = Instant::now();
        let run_id = random_hex().map_err(|error| BackupError::Internal(error.into()))?;
        let shared = self.server.map_or_else(|| Shared::new(self.settings), |server| Ok(server.shared.clone()))?;
        let destination = match self.server {
            Some(server) => server.destination.at(&self.settings.s3.prefix),
            None => self.limits.within(async { Ok(Destination::open(&self.settings.s3).await?) }).await?,
        };
        let (spool_dir, delivered) = self.deliver_kept(&destination, &shared).await?;
        let mut source = self.limits.within(Source::connect(&self.settings.postgres, self.server)).await?;
        self.limits.within(self.lock(&mut source)).await?;
        let plan = PartPlan::new(&self.settings.parts, source.facts.size_bytes);
        self.announce(&source, &plan);
        let (known, ownership) = self.limits.within(self.check_and_ask(&mut source, &destination)).await?;
        let name = self.limits.within(async { Ok(unused_name(&delivered).await) }).await?;
        let name = name.with_codec(self.settings.pipeline.codec);
        let name = if self.settings.recipients.is_some() { name.encrypted() } else { name };
        let is_partial = self.is_partial();
        let (destination, run_id, plan) = (&destination, &run_id, &plan);
        let upload_plan = UploadPlan { destination, run_id, name, plan, is_partial, shared: &shared };
        let target = upload_plan.begin(self.settings, &self.limits, spool_dir.as_ref()).await?;
        attempt.started(name::file_name(target.key()), destination.location(target.key()));
        (self.display)(source.facts.size_bytes);

        let span = tracing::info_span!("backup", database = source.facts.database, key = target.key());
        let kept = target.spool.clone();
        let index = IndexOfRun::new(run_id, known.invalid_indexes(), self.settings);
        let dumping = self.dump_with_globals((source, target), &upload_plan, (&known, &index));
        let (committed, manifest, globals) = dumping.instrument(span).await?;
        let sidecars = Sidecars { committed: &committed, limits: &self.limits };
        let location = destination.location(committed.key());
        let place = Place { location: &location, endpoint: destination.endpoint() };
        let manifest = globals.write(&sidecars, manifest).await;
        let manifest = index.write(&sidecars, manifest).await;
        let manifest = manifest.without_names().with_restore(&place);
        sidecars.write_manifest(&manifest).await;
        if let Some(kept) = kept {
            self.limits.to_the_end(kept.delete()).await;
        }
        let retention = self.retain(destination, &committed, ownership).await;
        Ok(Report::success(manifest, location, began.elapsed()).with_retention(retention))
    }

    /// Deletes what no rule keeps, and aborts stale uploads. The backup is committed: nothing here can make it fail.
    async fn retain(
        &self,
        destination: &Destination,
        committed: &Committed,
        ownership: Ownership,
    ) -> Option<RetentionReport> {
        let policy = self.settings.retention.as_ref();
        if policy.is_some() && ownership == Ownership::Unknown {
            let reason = "it is not known which database the backups here belong to: nothing was deleted";
            tracing::warn!("retention: {reason}");
            return Some(RetentionReport::failed(reason.to_owned()));
        }
        let made = name::file_name(committed.key());
        let stop = || async { drop(self.limits.reached().await) };
        let cleanup = UploadCleanup::after(STALE_AFTER).keeping_spooled(self.settings.spool_dir.as_deref());
        let cleanup = match self.server {
            None => self.limits.within(async { Ok(cleanup.await) }).await.ok(),
            // At the end of the run, for all databases.
            Some(_) => None,
        };
        let cleanup = cleanup.unwrap_or_else(UploadCleanup::disabled);
        Box::pin(retention::after_backup(destination, policy.map(|policy| (policy, made)), &cleanup, stop)).await
    }

    /// Opens this destination's subdirectory of the spool, if one is configured, and delivers what it holds. A failing
    /// disk does not prevent a backup.
    async fn deliver_kept(
        &self,
        destination: &Destination,
        shared: &Shared,
    ) -> Result<(Option<SpoolDir>, Vec<BackupName>), BackupError> {
        let Some(dir) = &self.settings.spool_dir else { return Ok((None, Vec::new())) };
        let delivering = async {
            let identity = self.settings.s3.identity();
            let spool_dir = self.limits.within(async { Ok(SpoolDir::open(dir, &identity).await?) }).await?;
            if self.server.is_none() {
                self.limits.within(resume::warn_of_others(&spool_dir)).await?;
            }
            let delivered =
                resume::deliver(&spool_dir, (destination, shared), &self.settings.parts, &self.limits).await?;
            Ok((Some(spool_dir), delivered))
        };
        match delivering.await {
            Err(BackupError::Spool(error) | BackupError::Storage(StorageError::Spool(error)))
                if error.may_do_without() =>
            {
                warn_of_no_spool(&error);
                Ok((None, Vec::new()))
            }
            delivered => delivered,
        }
    }

    /// Checks which database the destination's backups belong to, and meanwhile asks the server what could spoil the dump, and
    /// for the sidecars' data: each takes many round trips.
    async fn check_and_ask(
        &self,
        source: &mut Source,
        destination: &Destination,
    ) -> Result<(Known, Ownership), BackupError> {
        let Source { session, facts, tools } = source;
        let facts = &*facts;
        let origin = self.server.and_then(|server| server.origin_of(&facts.database));
        let asking = async {
            let issues = self.warn_of_issues(session, facts, tools).await?;
            Ok(Known::ask(session, &self.settings.postgres.arguments, &issues, origin).await?)
        };
        let checking = async {
            let of_server = self.server.map_or(OtherServer::Accepted, |_| OtherServer::Refused);
            match self.mixed_databases {
                MixedDatabases::Refused => ownership::check(destination, facts, of_server).await,
                MixedDatabases::Allowed => Ok(Ownership::Ours),
            }
        };
        tokio::try_join!(asking, checking)
    }

    async fn lock(&self, source: &mut Source) -> Result<(), BackupError> {
        if lock::try_lock(&mut source.session, &self.settings.s3.identity()).await? {
            return Ok(());
        }
        let destination = format!("s3://{}/{}", self.settings.s3.bucket, self.settings.s3.prefix);
        Err(BackupError::AlreadyRunning { database: source.facts.database.clone(), destination })
    }

    /// Logs what the run is about to do, without secrets.
    fn announce(&self, source: &Source, plan: &PartPlan) {
        let Source { facts, tools, .. } = source;
        let memory = memory_estimate(self.settings, plan.memory());
        tracing::info!(
            target: FOR_PEOPLE,
            "backing up {} at {}:{} to s3://{}/{}",
            facts.database,
            facts.place.host,
            facts.place.port,
            self.settings.s3.bucket,
            self.settings.s3.prefix
        );
        tracing::info!(
            target: FOR_MACHINES,
            host = facts.place.host,
            port = facts.place.port.parse::<u16>().ok(),
            database = facts.database,
            user = facts.user,
            server_version = facts.server_version,
            standby = facts.in_recovery,
            database_bytes = facts.size_bytes,
            pg_dump = %tools.pg_dump.path.display(),
            pg_dump_version = %tools.pg_dump.version,
            part_bytes = plan.base(),
            peak_memory_bytes = memory,
            "backup starts"
        );
        if self.is_partial() {
            let arguments = self.settings.postgres.shown_arguments().join(" ");
            tracing::warn!(
                arguments,
                "the arguments of pg_dump leave a part of the database out: this backup is partial"
            );
        }
    }

    /// Warns of what could stop or spoil the dump; `pg_dump` decides.
    async fn warn_of_issues(
        &self,
        session: &mut Session,
        facts: &Facts,
        tools: &Tools,
    ) -> Result<Vec<PreflightIssue>, BackupError> {
        let arguments = &self.settings.postgres.arguments;
        let subject = Subject { facts, arguments, pg_dump: Some(tools.pg_dump.version.major) };
        let mut issues = preflight::issues(session, subject).await?;
        if self.settings.spool_dir.is_none() {
            issues.extend(preflight::short_timeouts(session, facts).await?);
        }
        if self.settings.recipients.is_some() {
            warn_of_unnamed(&issues);
            return Ok(issues);
        }
        for issue in &issues {
            match issue.severity {
                // psql has reported it already.
                Severity::Unknown => tracing::debug!("{}", issue.text),
                Severity::Fatal | Severity::Degraded | Severity::LeavesOut => {
                    tracing::warn!(hint = issue.hint, "{}", issue.text);
                }
            }
        }
        Ok(issues)
    }

    fn is_partial(&self) -> bool {
        self.settings.postgres.arguments.coverage() == Coverage::Partial
    }

    /// Dumps and commits, while the globals are made. They are discarded if the dump fails.
    async fn dump_with_globals(
        &self,
        (source, target): (Source, Target),
        upload_plan: &UploadPlan<'_>,
        (known, index): (&Known, &IndexOfRun<'_>),
    ) -> Result<(Committed, Manifest, GlobalsOfRun), BackupError> {
        let Source { mut session, facts, tools } = source;
        let globals = GlobalsOfRun::default();
        let (source, limits) = (self.source(&facts, upload_plan.run_id), &self.limits);
        let postgres = &self.settings.postgres;
        let maker =
            GlobalsMaker { tools: &tools, postgres, source: &source, facts: &facts, origin: &known.origin, limits };
        let dump =
            Dumping { facts: &facts, tools: &tools, source: &source, upload_plan, known, globals: &globals, index };
        let dumping = async {
            let committed = self.dump_and_commit(&mut session, target, &dump).await?;
            match self.server {
                Some(server) => server.ended.add(session).await,
                None => session.close().await,
            }
            Ok::<_, BackupError>(committed)
        };
        let own = ClusterGlobals::default();
        let making = async {
            let cluster = self.server.map_or(&own, |server| &server.globals);
            if self.server.is_none() {
                own.make(&maker).await;
            }
            globals.make(cluster, known.origin.database.as_ref(), self.settings.recipients.as_ref()).await;
            Ok(())
        };
        let ((committed, manifest), ()) = tokio::try_join!(dumping, making)?;
        Ok((committed, manifest, globals))
    }

    async fn dump_and_commit(
        &self,
        session: &mut Session,
        target: Target,
        dumping: &Dumping<'_>,
    ) -> Result<(Committed, Manifest), BackupError> {
        let Dumping { facts, tools, source, upload_plan, known, globals, index } = *dumping;
        let (application_name, pg_dump_warnings) = (activity::application_name(upload_plan.run_id), OnceLock::new());
        let job = Job {
            settings: self.settings,
            shared: upload_plan.shared,
            source,
            tools,
            plan: upload_plan.plan.clone(),
            checksum: upload_plan.destination.checksum(),
            progress: &self.progress,
            limits: &self.limits,
            application_name: &application_name,
            warnings: &pg_dump_warnings,
            index,
        };
        let arguments = Dump::shown_arguments(&self.settings.postgres);
        let run = RunFacts {
            run_id: upload_plan.run_id,
            facts,
            tools,
            codec: self.settings.pipeline.codec,
            recipients: self.settings.recipients.as_ref(),
            part_bytes: upload_plan.plan.base(),
            is_partial: upload_plan.is_partial,
            arguments: &arguments,
            references: known.references.as_ref(),
            warnings: known.warnings(),
            pg_dump_warnings: &pg_dump_warnings,
        };
        let (key, spool) = (target.key().to_owned(), target.spool.clone());
        let manifest = |key: &str, verified: &VerifiedDump| {
            let manifest = Manifest::new(&run, key, verified, Utc::now());
            manifest.with_bottleneck(self.progress.bottleneck()).with_levels(self.progress.levels())
        };
        let draft = async |verified: &VerifiedDump| {
            let manifest = globals.keep(spool.as_ref(), manifest(&key, verified)).await;
            let manifest = index.keep(spool.as_ref(), manifest).await;
            serde_json::to_value(manifest.without_names()).unwrap_or_default()
        };
        let committed = job.fill(target, session, draft).await?;
        let manifest = manifest(committed.key(), committed.verified());
        Ok((committed, manifest))
    }

    /// The connection of the programs that dump.
    fn source(&self, facts: &Facts, run_id: &str) -> Conninfo {
        let mut source = self.settings.postgres.pinned(&facts.place);
        source.set("application_name", activity::application_name(run_id));
        source
    }
}

/// Warns of issues that may name what is in the database, which the log of an encrypted backup does not.
fn warn_of_unnamed(issues: &[PreflightIssue]) {
    let issues = issues.iter().filter(|issue| issue.severity != Severity::Unknown).count();
    if issues > 0 {
        let hint = "run `check`, which names them";
        tracing::warn!(issues, hint, "what could stop or spoil the dump is not shown, because the backup is encrypted");
    }
}
