//! A backup's sidecars: the globals, and the manifest that names them and the index ([`super::index`]). Written once each, after
//! the commit.
//!
//! Called by [`super::run`] and [`super::resume`]. The globals are made while the dump runs, because a login may not
//! work hours later, and wait in memory and in the spool. Nothing here makes a backup fail: a missing sidecar is
//! logged, and named in the manifest.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::SetOnce;
use tokio::time::timeout;

use crate::codec::age::{self, EncryptError, Recipients};
use crate::error_chain::Chain;
use crate::postgres::globals::{DatabaseSettings, Globals, GlobalsDump, GlobalsError, Origin};
use crate::postgres::preflight::{PreflightIssue, Severity};
use crate::postgres::{Conninfo, DumpArguments, Facts, PostgresError, PostgresSettings, References, Session, Tools};
use crate::spool::{KeptSidecar, Spool, SpoolError};
use crate::storage::{Committed, Sidecar, StorageError};

use super::BackupError;
use super::limits::{EXIT_TIME, Limits};
use crate::archive::manifest::{GLOBALS_WORD, GlobalsFile, Manifest};
use crate::archive::name::{self, BackupName, ENCRYPTED_GLOBALS_SUFFIX, GLOBALS_SUFFIX, MANIFEST_SUFFIX};

const MANIFEST: Sidecar =
    Sidecar { suffix: MANIFEST_SUFFIX, content_type: "application/json", action: "write the manifest" };
/// The globals: the file of a plain backup, and that of an encrypted one.
const GLOBALS: [Sidecar; 2] = forms([GLOBALS_SUFFIX, ENCRYPTED_GLOBALS_SUFFIX], "write the globals");

/// How long a complete dump in the spool waits for its globals, so that the run that delivers it has them, too.
const PATIENCE: Duration = Duration::from_secs(5);

/// The server's data for the sidecars. Asked before the dump, while the control session works.
pub(super) struct Known {
    pub references: Option<References>,
    pub origin: Origin,
    /// What the dump will lack.
    pub left_out: Vec<String>,
}

impl Known {
    /// Asks the server, for its origin only if that is not known; keeps the issues that belong in the manifest.
    pub async fn ask(
        session: &mut Session,
        arguments: &DumpArguments,
        issues: &[PreflightIssue],
        origin: Option<Origin>,
    ) -> Result<Self, PostgresError> {
        let left_out = issues.iter().filter(|issue| issue.severity == Severity::LeavesOut);
        let left_out = left_out.map(|issue| issue.text.clone()).collect();
        let references = References::ask(session, arguments).await?;
        let origin = match origin {
            Some(origin) => origin,
            None => Origin::ask(session).await?,
        };
        Ok(Self { references, origin, left_out })
    }

    /// Invalid partitioned indexes of the entire database, if the server said.
    pub fn invalid_indexes(&self) -> Option<u64> {
        self.references.as_ref()?.invalid_indexes
    }

    /// What the server did not answer, and what the dump lacks, for the manifest.
    pub fn warnings(&self) -> Vec<String> {
        let database = self.origin.database.is_none().then_some("the database's own settings and grants");
        let references = self.references.is_none().then_some("extensions, roles and tablespaces");
        let unknown = [database, references].into_iter().flatten();
        unknown.map(|what| format!("{what}: the server did not say")).chain(self.left_out.iter().cloned()).collect()
    }
}

/// Why there are no globals.
#[derive(Debug, thiserror::Error)]
pub(super) enum GlobalsFailure {
    #[error(transparent)]
    Made(#[from] GlobalsError),
    #[error(transparent)]
    File(#[from] FileFailure),
    #[error(transparent)]
    OfCluster(Arc<Self>),
}

/// Why the file of a sidecar that was made is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileFailure {
    #[error("age did not encrypt the file")]
    Encrypted(#[source] EncryptError),
    #[error("S3 did not take the file")]
    Stored(#[source] StorageError),
    #[error("the spool did not take the file")]
    Spooled(#[source] SpoolError),
    #[error("the spool does not have the file that it had")]
    Lost,
    #[error("the run had to end")]
    Stopped(#[source] Box<BackupError>),
}

impl GlobalsFailure {
    /// The reason for the manifest, in this program's own words.
    fn reason(&self) -> String {
        format!("{GLOBALS_WORD}: {self}")
    }
}

/// Makes the globals of the cluster.
pub(super) struct GlobalsMaker<'a> {
    pub tools: &'a Tools,
    pub postgres: &'a PostgresSettings,
    pub source: &'a Conninfo,
    pub facts: &'a Facts,
    pub origin: &'a Origin,
    pub limits: &'a Limits,
}

impl GlobalsMaker<'_> {
    async fn make(&self) -> Result<Globals, GlobalsFailure> {
        let Self { tools, postgres, source, facts, origin, limits } = self;
        let mut dump = GlobalsDump::start(tools, postgres, source, &facts.database, origin)?;
        let outcome = tokio::select! {
            outcome = dump.read(origin) => outcome.map_err(GlobalsFailure::from),
            reason = limits.reached() => Err(FileFailure::Stopped(Box::new(reason)).into()),
        };
        if outcome.is_err() {
            dump.stop().await;
        }
        outcome
    }
}

/// The globals of the cluster, which the backups of one run share.
#[derive(Default)]
pub(super) struct ClusterGlobals {
    made: SetOnce<Result<Globals, Arc<GlobalsFailure>>>,
}

impl ClusterGlobals {
    /// Makes them.
    pub async fn make(&self, maker: &GlobalsMaker<'_>) {
        // Set here alone.
        let _ = self.made.set(maker.make().await.map_err(Arc::new));
    }
}

/// The globals of one backup.
#[derive(Default)]
pub(super) struct GlobalsOfRun {
    made: SetOnce<Result<Globals, GlobalsFailure>>,
}

impl GlobalsOfRun {
    /// Waits for the cluster's globals, and adds those of the database. Encrypts them for the recipients.
    pub async fn make(
        &self,
        cluster: &ClusterGlobals,
        database: Option<&DatabaseSettings>,
        recipients: Option<&Recipients>,
    ) {
        let complete = |globals: &Globals| {
            let globals = globals.with_database(database).map_err(GlobalsError::Read)?;
            let Some(recipients) = recipients else { return Ok(globals) };
            let script = age::encrypt(recipients, &globals.script).map_err(FileFailure::Encrypted)?;
            Ok(Globals { script, ..globals })
        };
        let made = match cluster.made.wait().await {
            Ok(globals) => complete(globals),
            Err(failure) => Err(GlobalsFailure::OfCluster(Arc::clone(failure))),
        };
        // Set here alone.
        let _ = self.made.set(made);
    }

    /// Stores the globals in the spool, and adds them to the manifest of the dump that waits there. After the dump, so
    /// that it does not lack the memory.
    pub async fn keep(&self, spool: Option<&Arc<Spool>>, manifest: Manifest) -> Manifest {
        let Some(spool) = spool else { return manifest };
        match timeout(PATIENCE, self.made.wait()).await {
            Ok(Ok(globals)) => {
                let script = globals.script.clone();
                let stored = spool.store_sidecar(KeptSidecar::Globals, script.into()).await;
                let file = globals_file(&manifest.file_name, &globals.script, globals.has_passwords);
                let kept =
                    stored.map(|()| file).map_err(|error| GlobalsFailure::from(FileFailure::Spooled(error)).reason());
                manifest.with_globals(kept).with_warnings_of_globals(&globals.warnings)
            }
            Ok(Err(error)) => manifest.with_globals(Err(error.reason())),
            // They are still being made: the run that delivers the dump reports them as missing.
            Err(_) => manifest,
        }
    }

    /// Writes the globals of a committed backup.
    pub async fn write(self, sidecars: &Sidecars<'_>, manifest: Manifest) -> Manifest {
        let (written, warnings) = match self.made.into_inner() {
            Some(Ok(globals)) => {
                if !globals.has_passwords {
                    tracing::info!("this role may not read pg_authid: the globals are without role passwords");
                }
                let file = globals_file(sidecars.file_name(), &globals.script, globals.has_passwords);
                (sidecars.write_globals(globals.script).await.map(|()| file), globals.warnings)
            }
            Some(Err(error)) => (Err(error), Vec::new()),
            None => (Err(FileFailure::Lost.into()), Vec::new()),
        };
        manifest.with_globals(sidecars.reported(written)).with_warnings_of_globals(&warnings)
    }
}

/// A committed backup that gets sidecars.
pub(super) struct Sidecars<'a> {
    pub committed: &'a Committed,
    pub limits: &'a Limits,
}

impl Sidecars<'_> {
    /// Writes the globals that an earlier run left in the spool and its manifest names.
    pub async fn write_kept_globals(&self, spool: &Arc<Spool>, manifest: Manifest) -> Manifest {
        let Some(file) = manifest.globals.clone() else { return manifest };
        let written = match spool.read_sidecar(KeptSidecar::Globals, (file.bytes, &file.sha256)).await {
            Some(script) => {
                let file = globals_file(self.file_name(), &script, file.role_passwords);
                self.write_globals(script).await.map(|()| file)
            }
            None => Err(FileFailure::Lost.into()),
        };
        manifest.with_globals(self.reported(written))
    }

    async fn write_globals(&self, script: Vec<u8>) -> Result<(), GlobalsFailure> {
        let writing = self.committed.write_sidecar(of_backup(self.file_name(), GLOBALS), script);
        tokio::select! {
            written = writing => Ok(written.map_err(FileFailure::Stored)?),
            reason = self.limits.reached() => Err(FileFailure::Stopped(Box::new(reason)).into()),
        }
    }

    /// Writes the manifest, for which a reached limit leaves some time.
    pub async fn write_manifest(&self, manifest: &Manifest) {
        let body = serde_json::to_vec_pretty(manifest).unwrap_or_default();
        let writing = async { Ok(self.committed.write_sidecar(MANIFEST, body).await?) };
        if let Err(error) = self.limits.within_grace(EXIT_TIME, writing).await {
            let key = self.committed.key();
            tracing::warn!(key, error = %Chain(&error), "the backup is committed, but without its manifest");
        }
    }

    /// Logs why there are none, and returns the reason for the manifest.
    fn reported(&self, written: Result<GlobalsFile, GlobalsFailure>) -> Result<GlobalsFile, String> {
        written.map_err(|error| {
            let key = self.committed.key();
            tracing::warn!(key, error = %Chain(&error), "the backup is committed, but without the cluster's globals");
            error.reason()
        })
    }

    /// The backup's file name.
    pub fn file_name(&self) -> &str {
        name::file_name(self.committed.key())
    }
}

/// The two forms of a sidecar that is packed, and encrypted if the backup is.
pub(super) const fn forms([plain, encrypted]: [&'static str; 2], action: &'static str) -> [Sidecar; 2] {
    [
        Sidecar { suffix: plain, content_type: "application/gzip", action },
        Sidecar { suffix: encrypted, content_type: age::CONTENT_TYPE, action },
    ]
}

/// The form that belongs to a backup.
pub(super) fn of_backup(file_name: &str, [plain, encrypted]: [Sidecar; 2]) -> Sidecar {
    if BackupName::parse(file_name).is_some_and(|name| name.is_encrypted()) { encrypted } else { plain }
}

fn globals_file(backup: &str, script: &[u8], role_passwords: bool) -> GlobalsFile {
    GlobalsFile {
        file_name: format!("{backup}{}", of_backup(backup, GLOBALS).suffix),
        bytes: script.len() as u64,
        sha256: hex::encode(Sha256::digest(script)),
        role_passwords,
    }
}
