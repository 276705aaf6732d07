//! Several databases of a server in one run: which are meant, then a backup of each.
//!
//! Called by `commands::run_backup`. Each database has a destination of its own. The backups share the client, the outage budget, the
//! threads, the memory of parts, and one `pg_dumpall`. One that fails does not stop the others.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::databases::{DatabasePatterns, sub_path};
use crate::error_chain::Chain;
use crate::log_target::DATABASE_SPAN;
use crate::pipeline::Progress;
use crate::postgres::globals::{DatabaseSettings, Origin};
use crate::postgres::{EndedSessions, PostgresSettings, ServerDatabase, activity};
use crate::printable::enumerated;
use crate::random::random_hex;
use crate::retention::{CLEANUP_DEADLINE, STALE_AFTER, UploadCleanup};
use crate::spool::{SpoolDir, complete_dumps};
use crate::storage::Destination;

use super::limits::Limits;
use super::ownership::MixedDatabases;
use super::report::{Attempt, Report};
use super::run::Backup;
use super::settings::BackupSettings;
use super::shared::{Shared, SharedServer};
use super::sidecars::{ClusterGlobals, GlobalsMaker};
use super::source::Source;
use super::{BackupError, resume};

/// Shows the progress of a database's dump of about so many bytes, until the value that it returns is dropped.
pub type ShowProgress = Arc<dyn Fn(&str, Arc<Progress>, u64) -> Box<dyn Send> + Send + Sync>;

/// A run with several databases.
pub struct ServerBackup<'a> {
    /// The settings of each backup; the path is that of the server.
    pub settings: &'a BackupSettings,
    /// `BACKUP_DATABASES`
    pub patterns: &'a DatabasePatterns,
    /// The limits of the run.
    pub limits: Limits,
    /// How backups of another server's database are treated.
    pub mixed_databases: MixedDatabases,
    /// Only these of the databases that are meant, such as those that failed in the run before.
    pub only: Option<BTreeSet<String>>,
    /// Shows progress.
    pub show: ShowProgress,
}

/// The backup of one database, and its result.
#[derive(Debug)]
pub struct DatabaseRun {
    /// The database's name.
    pub database: String,
    /// `s3://bucket/path/database/`
    pub destination: String,
    /// The report, or why there is no backup.
    pub outcome: Result<Report, BackupError>,
    /// How far the backup came.
    pub attempt: Attempt,
    /// Its duration.
    pub elapsed: Duration,
}

/// The backups of a run.
#[derive(Debug)]
pub struct DatabaseRuns {
    /// By the database's name.
    pub runs: Vec<DatabaseRun>,
    /// Destination and name of the databases that are meant, and not in [`ServerBackup::only`].
    pub others: Vec<(String, String)>,
}

/// A server, asked once.
struct Server {
    databases: Vec<ServerDatabase>,
    shared: Arc<SharedServer>,
    /// The task that makes the globals of the cluster; it ends with this value.
    _globals: JoinSet<()>,
}

/// A database that is meant, or why it cannot be backed up.
type Meant = (String, Result<(), BackupError>);

impl ServerBackup<'_> {
    /// Delivers what earlier runs left in the spool, finds the databases that are meant, and backs up each. Calls `ended` as each
    /// ends.
    ///
    /// # Errors
    /// Why no database could be tried. A database that failed is in the result.
    pub async fn run(&self, mut ended: impl FnMut(&DatabaseRun)) -> Result<DatabaseRuns, BackupError> {
        let shared = Shared::new(self.settings)?;
        let destination = self.limits.within(async { Ok(Destination::open(&self.settings.s3).await?) }).await?;
        self.deliver_kept(&destination, &shared).await?;
        let server = self.limits.within(self.ask(destination, shared)).await?;
        let is_wanted = |(name, _): &Meant| self.only.as_ref().is_none_or(|only| only.contains(name));
        let (waiting, others): (Vec<Meant>, Vec<Meant>) =
            meant(self.patterns, &server.databases)?.into_iter().partition(is_wanted);
        let mut waiting = waiting.into_iter();
        let (databases, at_once) = (waiting.len(), self.settings.database_jobs);
        tracing::info!(databases, at_once, "backing up the databases of the server");
        let (mut running, mut names, mut runs) = (JoinSet::new(), HashMap::new(), Vec::with_capacity(databases));
        loop {
            let run = if running.len() < at_once
                && let Some((database, refused)) = waiting.next()
            {
                let stopped = self.limits.already_reached().await.map_or(Ok(()), Err);
                if let Err(error) = refused.and(stopped) {
                    self.without_backup(database, error)
                } else {
                    let task = running.spawn(self.backup(database.clone(), Arc::clone(&server.shared)));
                    names.insert(task.id(), database);
                    continue;
                }
            } else {
                match running.join_next_with_id().await {
                    Some(Ok((_, run))) => run,
                    Some(Err(panic)) => {
                        let database = names.remove(&panic.id()).unwrap_or_default();
                        self.without_backup(database, BackupError::Internal(panic.into()))
                    }
                    None => break,
                }
            };
            ended(&run);
            runs.push(run);
            if waiting.len() == 0 {
                // Those that run have taken theirs.
                server.shared.ended.close().await;
            }
        }
        self.clean_up(&server.shared.destination, &runs).await;
        runs.sort_by(|one, other| one.database.cmp(&other.database));
        let others = others.into_iter().map(|(name, _)| (self.location(&name), name)).collect();
        Ok(DatabaseRuns { runs, others })
    }

    /// Connects to the connection string's own database, asks for all databases, and starts to make the cluster's globals.
    async fn ask(&self, destination: Destination, shared: Shared) -> Result<Server, BackupError> {
        let postgres = &self.settings.postgres;
        let Source { mut session, facts, tools } = Source::connect(postgres, None).await?;
        let databases = ServerDatabase::ask(&mut session).await?;
        let origin = Origin::ask(&mut session).await?;
        let settings = DatabaseSettings::ask_all(&mut session).await?;
        let ended = EndedSessions::default();
        ended.add(session).await;
        let globals = ClusterGlobals::default();
        let shared = SharedServer { destination, tools, ended, globals, settings, origin, shared };
        let shared = Arc::new(shared);
        let run_id = random_hex().map_err(|error| BackupError::Internal(error.into()))?;
        let mut source = postgres.pinned(&facts.place);
        source.set("application_name", activity::application_name(&run_id));
        let (making, postgres, limits) = (Arc::clone(&shared), postgres.clone(), self.limits.clone());
        let mut globals = JoinSet::new();
        globals.spawn(async move {
            let (tools, postgres, source) = (&making.tools, &postgres, &source);
            let origin = &making.origin;
            let maker = GlobalsMaker { tools, postgres, source, facts: &facts, origin, limits: &limits };
            making.globals.make(&maker).await;
        });
        Ok(Server { databases, shared, _globals: globals })
    }

    /// The backup of one database.
    fn backup(
        &self,
        database: String,
        server: Arc<SharedServer>,
    ) -> impl Future<Output = DatabaseRun> + Send + 'static {
        let settings = self.settings.of_database(&database);
        let (limits, mixed, show) = (self.limits.clone(), self.mixed_databases, Arc::clone(&self.show));
        let span = tracing::error_span!(DATABASE_SPAN, database);
        let run = async move {
            let began = Instant::now();
            let (progress, display, mut attempt) =
                (Arc::new(Progress::default()), Mutex::new(None), Attempt::default());
            let start = |bytes| {
                let shown = show(&database, Arc::clone(&progress), bytes);
                *display.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
            };
            let backup = Backup::new(&settings, limits, Arc::clone(&progress), start);
            let backup = backup.mixed_databases(mixed).of_server(&server);
            let outcome = Box::pin(backup.run(&mut attempt)).await;
            drop(display);
            let destination = settings.s3.location();
            DatabaseRun { database, destination, outcome, attempt, elapsed: began.elapsed() }
        };
        run.instrument(span)
    }

    /// Aborts the stale uploads of the databases that were backed up; one listing serves all.
    async fn clean_up(&self, destination: &Destination, runs: &[DatabaseRun]) {
        let cleaning = async {
            let cleanup = UploadCleanup::after(STALE_AFTER).keeping_spooled(self.settings.spool_dir.as_deref()).await;
            let mut uploads = UploadCleanup::open_below(destination).await;
            for DatabaseRun { database, .. } in runs.iter().filter(|run| run.outcome.is_ok()) {
                let sub_path = sub_path::of(database);
                let Some(uploads) = uploads.remove(&sub_path) else { continue };
                let destination = destination.below(&sub_path);
                let aborting = async {
                    let stale = cleanup.stale(&destination, uploads, Utc::now()).await;
                    UploadCleanup::abort(&destination, stale).await;
                };
                aborting.instrument(tracing::error_span!(DATABASE_SPAN, database)).await;
            }
        };
        // The next run continues it.
        _ = self.limits.within(async { Ok(timeout(CLEANUP_DEADLINE, cleaning).await.is_ok()) }).await;
    }

    fn location(&self, database: &str) -> String {
        self.settings.of_database(database).s3.location()
    }

    fn without_backup(&self, database: String, error: BackupError) -> DatabaseRun {
        let destination = self.location(&database);
        let (outcome, attempt) = (Err(error), Attempt::default());
        DatabaseRun { database, destination, outcome, attempt, elapsed: Duration::ZERO }
    }

    /// Delivers the complete dumps that earlier runs left in the spool, before it connects: the server, or one of its databases, may
    /// be gone. What S3 does not accept now is reported by the backup of its database.
    async fn deliver_kept(&self, destination: &Destination, shared: &Shared) -> Result<(), BackupError> {
        let Some(dir) = &self.settings.spool_dir else { return Ok(()) };
        let dumps = match self.limits.within(async { Ok(complete_dumps(dir).await?) }).await {
            Err(BackupError::Spool(error)) => {
                // The backup of each database decides what that means.
                tracing::debug!(error = %Chain(&error), "the spool cannot be read");
                return Ok(());
            }
            dumps => dumps?,
        };
        for dump in dumps {
            let Some((database, settings)) = self.settings.database_at(&dump.destination, self.patterns) else {
                resume::warn_of_other(&dump);
                continue;
            };
            let delivering = async {
                let spool_dir = SpoolDir::open(dir, &settings.s3.identity()).await?;
                let destination = destination.at(&settings.s3.prefix);
                let delivering = resume::deliver(&spool_dir, (&destination, shared), &settings.parts, &self.limits);
                Box::pin(delivering).await.map(drop)
            };
            let delivering = delivering.instrument(tracing::error_span!(DATABASE_SPAN, database));
            match self.limits.within(delivering).await {
                Err(error @ (BackupError::TooLong { .. } | BackupError::Interrupted(_))) => return Err(error),
                Err(error) => {
                    let location = dump.location;
                    tracing::warn!(location, error = %Chain(&error), "a complete dump in the spool cannot be delivered now");
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

/// The names of the databases that are meant and can be backed up, as the server knows them now.
///
/// # Errors
/// If the server cannot be asked, or none is meant.
pub async fn meant_databases(
    settings: &PostgresSettings,
    patterns: &DatabasePatterns,
) -> Result<Vec<String>, BackupError> {
    let mut source = Source::connect(settings, None).await?;
    let databases = ServerDatabase::ask(&mut source.session).await?;
    source.session.close().await;
    Ok(meant(patterns, &databases)?.into_iter().filter(|(_, usable)| usable.is_ok()).map(|(name, _)| name).collect())
}

/// The databases to back up.
fn meant(patterns: &DatabasePatterns, databases: &[ServerDatabase]) -> Result<Vec<Meant>, BackupError> {
    let mut meant: Vec<Meant> = Vec::new();
    for ServerDatabase { name, is_utf8, .. } in databases.iter().filter(|database| patterns.mean(&database.name)) {
        let unreadable = || BackupError::UnreadableName { name: name.clone() };
        meant.push((name.clone(), if *is_utf8 { Ok(()) } else { Err(unreadable()) }));
    }
    for name in patterns.names().filter(|name| databases.iter().all(|database| database.name != *name)) {
        meant.push((name.to_owned(), Err(BackupError::NoSuchDatabase { name: name.to_owned() })));
    }
    if meant.is_empty() {
        let names: Vec<&str> = databases.iter().map(|database| database.name.as_str()).collect();
        return Err(BackupError::NoDatabases { patterns: patterns.to_string(), databases: enumerated(&names) });
    }
    Ok(meant)
}
