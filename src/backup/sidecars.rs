//! What lies beside a backup: the globals, and the manifest that names them. Written once each, after the commit.
//!
//! Called by [`super::run`] and [`super::resume`]. Nothing here can make a backup fail (SPEC §4.8): what cannot be made is a warning, and named in
//! the manifest.

use sha2::{Digest, Sha256};

use crate::error::{Chain, Error};
use crate::postgres::globals::{self, GlobalsDump, GlobalsError, Origin};
use crate::postgres::{Conninfo, DumpArguments, Facts, PostgresError, PostgresSettings, References, Session, Tools};
use crate::storage::{Committed, Destination, Sidecar, StorageError, hex};

use super::limits::{Limits, WAY_OUT};
use super::manifest::{GlobalsFile, Manifest};
use super::name::{self, GLOBALS_SUFFIX, MANIFEST_SUFFIX};

const MANIFEST: Sidecar =
    Sidecar { suffix: MANIFEST_SUFFIX, content_type: "application/json", action: "write the manifest" };
const GLOBALS: Sidecar =
    Sidecar { suffix: GLOBALS_SUFFIX, content_type: "application/gzip", action: "write the globals" };

/// What the server tells for the sidecars. Asked before the dump, while the control session is surely there.
pub(super) struct Known {
    pub references: Option<References>,
    pub origin: Origin,
}

impl Known {
    /// Asks the server.
    pub async fn ask(session: &mut Session, arguments: &DumpArguments) -> Result<Self, PostgresError> {
        Ok(Self { references: References::ask(session, arguments).await?, origin: Origin::ask(session).await? })
    }

    /// What it did not tell, for the manifest.
    pub fn missing(&self) -> Vec<String> {
        let database = self.origin.database.is_none().then_some("the database's own settings and grants");
        let references = self.references.is_none().then_some("extensions, roles and tablespaces");
        let missing = [database, references].into_iter().flatten();
        missing.map(|what| format!("{what}: the server did not tell")).collect()
    }
}

/// A backup that is committed, and what its sidecars are made with.
pub(super) struct Sidecars<'a> {
    pub committed: &'a Committed,
    pub destination: &'a Destination,
    pub limits: &'a Limits,
    pub postgres: &'a PostgresSettings,
}

/// Why there are no globals.
#[derive(Debug, thiserror::Error)]
enum NoGlobals {
    #[error(transparent)]
    Made(#[from] GlobalsError),
    #[error("S3 did not take the file")]
    Stored(#[source] StorageError),
    #[error("the run had to end")]
    Stopped(#[source] Box<Error>),
}

impl Sidecars<'_> {
    /// Makes and writes the globals; or says in this program's own words why not, which may stand in the manifest.
    pub async fn write_globals(
        &self,
        tools: &Tools,
        source: &Conninfo,
        facts: &Facts,
        origin: &Origin,
    ) -> Result<GlobalsFile, String> {
        let made = self.make_globals(GlobalsDump::start(tools, self.postgres, source, &facts.database, origin), origin);
        let written = match made.await {
            Ok(body) => self.store_globals(body, origin).await,
            Err(error) => Err(error),
        };
        written.map_err(|error| {
            let key = self.committed.key();
            tracing::warn!(key, error = %Chain(&error), "the backup is committed, but without the cluster's globals");
            format!("globals: {error}")
        })
    }

    async fn make_globals(
        &self,
        started: Result<GlobalsDump, GlobalsError>,
        origin: &Origin,
    ) -> Result<Vec<u8>, NoGlobals> {
        let mut dump = started?;
        let outcome = tokio::select! {
            outcome = dump.read() => outcome.map_err(NoGlobals::from),
            reason = self.limits.reached() => Err(NoGlobals::Stopped(Box::new(reason))),
        };
        let output = match outcome {
            Ok(output) => output,
            Err(error) => {
                dump.stop().await;
                return Err(error);
            }
        };
        if !origin.has_passwords() {
            tracing::info!("this role may not read pg_authid: the globals are without role passwords");
        }
        Ok(globals::compose(self.file_name(), &output, origin).map_err(GlobalsError::Read)?)
    }

    async fn store_globals(&self, body: Vec<u8>, origin: &Origin) -> Result<GlobalsFile, NoGlobals> {
        let file = GlobalsFile {
            file_name: format!("{}{GLOBALS_SUFFIX}", self.file_name()),
            bytes: body.len() as u64,
            sha256: hex(&Sha256::digest(&body)),
            role_passwords: origin.has_passwords(),
        };
        let writing = self.committed.write_sidecar(GLOBALS, body, self.destination.outage());
        tokio::select! {
            written = writing => written.map_err(NoGlobals::Stored)?,
            reason = self.limits.reached() => return Err(NoGlobals::Stopped(Box::new(reason))),
        }
        Ok(file)
    }

    fn file_name(&self) -> &str {
        name::file_name(self.committed.key())
    }
}

/// Writes the manifest.
pub(super) async fn write_manifest(
    limits: &Limits,
    destination: &Destination,
    committed: &Committed,
    manifest: &Manifest,
) {
    let body = serde_json::to_vec_pretty(manifest).unwrap_or_default();
    let writing = committed.write_sidecar(MANIFEST, body, destination.outage());
    if let Err(error) = limits.within_grace(WAY_OUT, async { Ok(writing.await?) }).await {
        let key = committed.key();
        tracing::warn!(key, error = %Chain(&error), "the backup is committed, but without its manifest");
    }
}
