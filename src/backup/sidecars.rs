//! What lies beside a backup: the globals, and the manifest that names them. Written once each, after the commit.
//!
//! Called by [`super::run`] and [`super::resume`]. The globals are made while the dump runs, for a login may not work hours
//! later, and wait in memory and, where there is one, in the spool. Nothing here can make a backup fail (SPEC §4.8): what cannot be made is a warning, and named in
//! the manifest.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::SetOnce;
use tokio::time::timeout;

use crate::error_chain::Chain;
use crate::postgres::globals::{Globals, GlobalsDump, GlobalsError, Origin};
use crate::postgres::preflight::{PreflightIssue, Severity};
use crate::postgres::{Conninfo, DumpArguments, Facts, PostgresError, PostgresSettings, References, Session, Tools};
use crate::spool::{Spool, SpoolError};
use crate::storage::{Committed, Sidecar, StorageError};

use super::BackupError;
use super::limits::{Limits, WAY_OUT};
use crate::archive::manifest::{GLOBALS_WORD, GlobalsFile, Manifest};
use crate::archive::name::{self, GLOBALS_SUFFIX, MANIFEST_SUFFIX};

const MANIFEST: Sidecar =
    Sidecar { suffix: MANIFEST_SUFFIX, content_type: "application/json", action: "write the manifest" };
const GLOBALS: Sidecar =
    Sidecar { suffix: GLOBALS_SUFFIX, content_type: "application/gzip", action: "write the globals" };

/// How long a complete dump in the spool waits for globals that are still being made, so that whoever delivers it has them too.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the server tells for the sidecars. Asked before the dump, while the control session is surely there.
pub(super) struct Known {
    pub references: Option<References>,
    pub origin: Origin,
    /// What the dump is going to lack.
    pub left_out: Vec<String>,
}

impl Known {
    /// Asks the server; of the issues about the dump it keeps what the manifest must tell.
    pub async fn ask(
        session: &mut Session,
        arguments: &DumpArguments,
        issues: &[PreflightIssue],
    ) -> Result<Self, PostgresError> {
        let left_out = issues.iter().filter(|issue| issue.severity == Severity::LeavesOut);
        let left_out = left_out.map(|issue| issue.text.clone()).collect();
        let references = References::ask(session, arguments).await?;
        Ok(Self { references, origin: Origin::ask(session).await?, left_out })
    }

    /// What the server did not tell, and what the dump lacks, for the manifest.
    pub fn warnings(&self) -> Vec<String> {
        let database = self.origin.database.is_none().then_some("the database's own settings and grants");
        let references = self.references.is_none().then_some("extensions, roles and tablespaces");
        let unknown = [database, references].into_iter().flatten();
        unknown.map(|what| format!("{what}: the server did not say")).chain(self.left_out.iter().cloned()).collect()
    }
}

/// Why there are no globals.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoGlobals {
    #[error(transparent)]
    Made(#[from] GlobalsError),
    #[error("S3 did not take the file")]
    Stored(#[source] StorageError),
    #[error("the spool did not take the file")]
    Spooled(#[source] SpoolError),
    #[error("the spool does not have the file that it had")]
    Lost,
    #[error("the run had to end")]
    Stopped(#[source] Box<BackupError>),
}

impl NoGlobals {
    /// In this program's own words, which may stand in the manifest.
    fn reason(&self) -> String {
        format!("{GLOBALS_WORD}: {self}")
    }
}

/// What makes the globals.
pub(super) struct GlobalsMaker<'a> {
    pub tools: &'a Tools,
    pub postgres: &'a PostgresSettings,
    pub source: &'a Conninfo,
    pub facts: &'a Facts,
    pub origin: &'a Origin,
    pub limits: &'a Limits,
}

impl GlobalsMaker<'_> {
    async fn make(&self) -> Result<Globals, NoGlobals> {
        let Self { tools, postgres, source, facts, origin, limits } = self;
        let mut dump = GlobalsDump::start(tools, postgres, source, &facts.database, origin)?;
        let outcome = tokio::select! {
            outcome = dump.read(origin) => outcome.map_err(NoGlobals::from),
            reason = limits.reached() => Err(NoGlobals::Stopped(Box::new(reason))),
        };
        if outcome.is_err() {
            dump.stop().await;
        }
        outcome
    }
}

/// The globals of one run, on their way.
#[derive(Default)]
pub(super) struct GlobalsOfRun {
    made: SetOnce<Result<Globals, NoGlobals>>,
}

impl GlobalsOfRun {
    /// Makes them.
    pub async fn make(&self, maker: &GlobalsMaker<'_>) {
        // Nobody else sets it.
        let _ = self.made.set(maker.make().await);
    }

    /// The manifest of a dump that waits in the spool, with the globals, which are put next to it: after the dump, which must
    /// not lack the memory.
    pub async fn keep(&self, spool: Option<&Arc<Spool>>, manifest: Manifest) -> Manifest {
        let Some(spool) = spool else { return manifest };
        match timeout(PATIENCE, self.made.wait()).await {
            Ok(Ok(globals)) => {
                let script = globals.script.clone();
                let stored = spool.store_globals(script).await;
                let file = globals_file(&manifest.file_name, &globals.script, globals.has_passwords);
                let kept = stored.map(|()| file).map_err(|error| NoGlobals::Spooled(error).reason());
                manifest.with_globals(kept).with_warnings_of_globals(&globals.warnings)
            }
            Ok(Err(error)) => manifest.with_globals(Err(error.reason())),
            // They are still being made: whoever delivers the dump says that they were not.
            Err(_) => manifest,
        }
    }

    /// Writes them beside a backup that is committed, once they are made.
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
            None => (Err(NoGlobals::Lost), Vec::new()),
        };
        manifest.with_globals(sidecars.reported(written)).with_warnings_of_globals(&warnings)
    }
}

/// A backup that is committed, and what its sidecars are made with.
pub(super) struct Sidecars<'a> {
    pub committed: &'a Committed,
    pub limits: &'a Limits,
}

impl Sidecars<'_> {
    /// Writes the globals that wait in the spool beside a dump of an earlier run, whose manifest names them.
    pub async fn write_kept_globals(&self, spool: &Arc<Spool>, manifest: Manifest) -> Manifest {
        let Some(file) = manifest.globals.clone() else { return manifest };
        let bytes = file.bytes;
        let kept = spool.read_globals(bytes).await;
        let written = match kept.filter(|script| hex::encode(Sha256::digest(script)) == file.sha256) {
            Some(script) => {
                let file = globals_file(self.file_name(), &script, file.role_passwords);
                self.write_globals(script).await.map(|()| file)
            }
            None => Err(NoGlobals::Lost),
        };
        manifest.with_globals(self.reported(written))
    }

    async fn write_globals(&self, script: Vec<u8>) -> Result<(), NoGlobals> {
        let writing = self.committed.write_sidecar(GLOBALS, script);
        tokio::select! {
            written = writing => written.map_err(NoGlobals::Stored),
            reason = self.limits.reached() => Err(NoGlobals::Stopped(Box::new(reason))),
        }
    }

    /// Writes the manifest, for which a reached limit leaves some time.
    pub async fn write_manifest(&self, manifest: &Manifest) {
        let body = serde_json::to_vec_pretty(manifest).unwrap_or_default();
        let writing = async { Ok(self.committed.write_sidecar(MANIFEST, body).await?) };
        if let Err(error) = self.limits.within_grace(WAY_OUT, writing).await {
            let key = self.committed.key();
            tracing::warn!(key, error = %Chain(&error), "the backup is committed, but without its manifest");
        }
    }

    /// Says why there are none, and gives it for the manifest.
    fn reported(&self, written: Result<GlobalsFile, NoGlobals>) -> Result<GlobalsFile, String> {
        written.map_err(|error| {
            let key = self.committed.key();
            tracing::warn!(key, error = %Chain(&error), "the backup is committed, but without the cluster's globals");
            error.reason()
        })
    }

    fn file_name(&self) -> &str {
        name::file_name(self.committed.key())
    }
}

fn globals_file(backup: &str, script: &[u8], role_passwords: bool) -> GlobalsFile {
    GlobalsFile {
        file_name: format!("{backup}{GLOBALS_SUFFIX}"),
        bytes: script.len() as u64,
        sha256: hex::encode(Sha256::digest(script)),
        role_passwords,
    }
}
