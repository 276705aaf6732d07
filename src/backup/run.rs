//! The story of one backup, top to bottom (SPEC §4): connect, lock, begin, dump, prove, commit, describe, retain.
//!
//! Called by `commands::backup`. Each step's work is in the room that it names.

use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use tracing::Instrument as _;

use crate::config::BackupConfig;
use crate::error::Error;
use crate::pipeline::{PartPlan, Progress};
use crate::postgres::preflight::Severity;
use crate::postgres::{Conninfo, Coverage, Dump, Facts, Installed, Session, Tools, blocking, lock, preflight};
use crate::retention::{self, RetentionReport};
use crate::storage::{Committed, Destination, StorageError, Upload};

use super::limits::Limits;
use super::manifest::{Manifest, RunFacts};
use super::name::BackupName;
use super::neighbours::{self, Mixing};
use super::report::{Attempt, Report};
use super::sidecars::{Known, Sidecars};
use super::stream::Job;

/// Backups take longer than a second: this many names in a row are taken only where a store says yes to everything.
const MOST_NAMES: u32 = 60;

/// One run of `backup`.
pub struct Backup<'a> {
    config: &'a BackupConfig,
    limits: Limits,
    progress: Arc<Progress>,
    display: Box<dyn Fn(u64) + Send + Sync + 'a>,
    mixing: Mixing,
}

/// An open session on a server whose facts are known, with the tools that fit it.
struct Source {
    session: Session,
    facts: Facts,
    tools: Tools,
}

impl<'a> Backup<'a> {
    /// A run with its configuration, what may end it, and what shows its progress: called once, with the database's
    /// size in bytes, when the dump begins.
    pub fn new(
        config: &'a BackupConfig,
        limits: Limits,
        progress: Arc<Progress>,
        display: impl Fn(u64) + Send + Sync + 'a,
    ) -> Self {
        Self { config, limits, progress, display: Box::new(display), mixing: Mixing::default() }
    }

    /// What another database's backups in the destination mean.
    #[must_use]
    pub fn mixing(self, mixing: Mixing) -> Self {
        Self { mixing, ..self }
    }

    /// Takes one backup.
    ///
    /// # Errors
    /// Why there is none. Then no object, no open upload and no child process is left, as far as that is in this
    /// program's power; what is left is logged. `attempt` is told what was known by then.
    pub async fn run(self, attempt: &mut Attempt) -> Result<Report, Error> {
        let began = Instant::now();
        let run_id = run_id()?;
        let destination = self.limits.within(async { Ok(Destination::open(&self.config.s3).await?) }).await?;
        let mut source = self.limits.within(self.connect()).await?;
        self.limits.within(self.lock(&mut source)).await?;
        let plan = PartPlan::new(&self.config.parts, source.facts.size_bytes);
        self.announce(&source, &plan);
        self.limits.within(self.warn_of_concerns(&mut source)).await?;
        let known = self.limits.within(self.look_around(&mut source, &destination)).await?;
        let (name, upload) = self.begin(&destination, &run_id).await?;
        attempt.begun(name, destination.location(upload.key()));
        (self.display)(source.facts.size_bytes);

        let span = tracing::info_span!("backup", database = source.facts.database, key = upload.key());
        let (committed, facts, tools) = async {
            let committed = self.dump_and_commit(&mut source, &destination, upload, &plan).await?;
            let Source { session, facts, tools } = source;
            session.close().await;
            Ok::<_, Error>((committed, facts, tools))
        }
        .instrument(span)
        .await?;

        let mut run = RunFacts {
            name,
            location: destination.location(committed.key()),
            run_id: &run_id,
            facts: &facts,
            tools: &tools,
            level: self.config.pipeline.level,
            part_bytes: plan.base(),
            is_partial: self.is_partial(),
            arguments: &Dump::arguments(&self.config.postgres),
            missing: known.missing(),
            references: known.references,
            globals: None,
        };
        let finished = Utc::now();
        let sidecars = self.sidecars(name, &destination, &committed);
        match sidecars.write_globals(&tools, &self.source(&facts, &run_id), &facts, &known.origin).await {
            Ok(globals) => run.globals = Some(globals),
            Err(why) => run.missing.push(why),
        }
        let manifest = Manifest::new(run, &committed, finished);
        sidecars.write_manifest(&manifest).await;
        let retention = self.retain(&destination).await;
        let location = destination.location(committed.key());
        Ok(Report::success(manifest, location, began.elapsed()).with_retention(retention))
    }

    /// Deletes what no rule keeps, and sweeps stale uploads. The backup is committed: nothing here can make it fail.
    async fn retain(&self, destination: &Destination) -> Option<RetentionReport> {
        let stop = || async { drop(self.limits.reached().await) };
        Box::pin(retention::after_backup(destination, self.config.retention.as_ref(), stop)).await
    }

    /// Connects with the newest psql to learn the server's version, then with the one beside the right `pg_dump`.
    async fn connect(&self) -> Result<Source, Error> {
        let settings = &self.config.postgres;
        let installed = Installed::find(settings.pg_dump_path.as_deref(), &settings.environment).await?;
        let first = installed.newest()?;
        let mut session = Session::connect(&first, settings).await?;
        let facts = Facts::ask(&mut session).await?;
        let tools = installed.choose(&facts.version())?;
        if tools.psql == first.psql {
            return Ok(Source { session, facts, tools });
        }
        session.close().await;
        let mut session = Session::connect(&tools, settings).await?;
        let facts = Facts::ask(&mut session).await?;
        Ok(Source { session, facts, tools })
    }

    /// Whose backups are there already, and what the sidecars will tell.
    async fn look_around(&self, source: &mut Source, destination: &Destination) -> Result<Known, Error> {
        if self.mixing == Mixing::Refused {
            neighbours::check(destination, &source.facts).await?;
        }
        Ok(Known::ask(&mut source.session, &self.config.postgres.arguments).await?)
    }

    async fn lock(&self, source: &mut Source) -> Result<(), Error> {
        if lock::try_lock(&mut source.session, &self.config.s3.identity()).await? {
            return Ok(());
        }
        let destination = format!("s3://{}/{}", self.config.s3.bucket, self.config.s3.prefix);
        Err(Error::AlreadyRunning { database: source.facts.database.clone(), destination })
    }

    /// The one line that says what is about to happen, without secrets.
    fn announce(&self, source: &Source, plan: &PartPlan) {
        let settings: Vec<String> = self.config.shown.iter().map(ToString::to_string).collect();
        let Source { facts, tools, .. } = source;
        let memory = memory_estimate(self.config.pipeline.threads, plan);
        tracing::info!(
            host = facts.host,
            port = facts.port,
            database = facts.database,
            user = facts.user,
            server_version = facts.server_version,
            standby = facts.in_recovery,
            database_bytes = facts.size_bytes,
            pg_dump = %tools.pg_dump.path.display(),
            pg_dump_version = %tools.pg_dump.version,
            part_bytes = plan.base(),
            peak_memory_bytes = memory,
            settings = settings.join(", "),
            "backup starts"
        );
        if self.is_partial() {
            let arguments = self.config.postgres.arguments.words().join(" ");
            tracing::warn!(arguments, "PG_DUMP_ARGS leave a part of the database out: this backup is partial");
        }
    }

    /// What could stop or spoil the dump. Only warnings: `pg_dump` decides.
    async fn warn_of_concerns(&self, source: &mut Source) -> Result<(), Error> {
        let role = self.config.postgres.arguments.role();
        for concern in preflight::concerns(&mut source.session, &source.facts, role).await? {
            match concern.severity {
                // psql has told it already.
                Severity::Unknown => tracing::debug!("{}", concern.text),
                Severity::Stops | Severity::Spoils => tracing::warn!(mend = concern.mend, "{}", concern.text),
            }
        }
        Ok(())
    }

    fn is_partial(&self) -> bool {
        self.config.postgres.arguments.coverage() == Coverage::Partial
    }

    /// Begins the upload under the first free name.
    async fn begin(&self, destination: &Destination, run_id: &str) -> Result<(BackupName, Upload), Error> {
        let name = self.limits.within(free_name(destination)).await?;
        let key = destination.key(&name.to_string());
        match self.limits.within(async { Ok(destination.begin(&key, run_id).await?) }).await {
            Ok(upload) => Ok((name, upload)),
            Err(error) => {
                // Stopped while the answer was on its way: S3 may have begun the upload all the same.
                if matches!(error, Error::Interrupted(_) | Error::TooLong { .. }) {
                    destination.abandon(&key).await;
                }
                Err(error)
            }
        }
    }

    async fn dump_and_commit(
        &self,
        source: &mut Source,
        destination: &Destination,
        upload: Upload,
        plan: &PartPlan,
    ) -> Result<Committed, Error> {
        let application_name = blocking::application_name(upload.run_id());
        let job = Job {
            postgres: &self.config.postgres,
            source: &self.source(&source.facts, upload.run_id()),
            tools: &source.tools,
            settings: &self.config.pipeline,
            plan: plan.clone(),
            checksum: destination.checksum(),
            progress: &self.progress,
            limits: &self.limits,
            application_name: &application_name,
            max_blocking: self.config.max_blocking,
        };
        let (upload, whole) = job.stream(upload, &mut source.session).await?;
        tracing::debug!(bytes = whole.totals().object_bytes, "the dump is whole: committing");
        let given_up = upload.clone();
        match self.limits.within_grace(async { Ok(upload.commit(whole).await?) }).await {
            Err(error @ (Error::Interrupted(_) | Error::TooLong { .. })) => {
                given_up.abort().await;
                Err(error)
            }
            other => other,
        }
    }

    /// Where the programs that dump connect to.
    fn source(&self, facts: &Facts, run_id: &str) -> Conninfo {
        let mut source = self.config.postgres.pinned(facts);
        source.set("application_name", blocking::application_name(run_id));
        source
    }

    fn sidecars<'b>(
        &'b self,
        name: BackupName,
        destination: &'b Destination,
        committed: &'b Committed,
    ) -> Sidecars<'b> {
        Sidecars { name, committed, destination, limits: &self.limits, postgres: &self.config.postgres }
    }
}

/// The name of this second, or of the next that is free.
async fn free_name(destination: &Destination) -> Result<BackupName, Error> {
    let first = BackupName::new(Utc::now());
    let mut name = first;
    for _ in 0..MOST_NAMES {
        if !destination.is_taken(&destination.key(&name.to_string())).await? {
            return Ok(name);
        }
        name = name.next();
    }
    Err(StorageError::NoFreeName { key: destination.key(&first.to_string()), tried: MOST_NAMES }.into())
}

/// 128 random bits in hexadecimal: whose an object is.
fn run_id() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::Internal(anyhow::anyhow!("draw a random number: {error}")))?;
    Ok(crate::storage::hex(&bytes))
}

/// SPEC §5's formula for this process's peak memory, in bytes.
fn memory_estimate(threads: usize, plan: &PartPlan) -> u64 {
    /// Code, runtime, TLS and listings.
    const BASE: u64 = 15 << 20;
    /// A block in, its deflated piece, and zlib's state.
    const THREAD: u64 = (23 << 20) / 10;
    BASE + THREAD * threads as u64 + plan.memory()
}
