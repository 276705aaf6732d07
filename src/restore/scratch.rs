//! The scratch database: a new database with a temporary name. It is renamed only when the restore is complete.
//!
//! [`Scratch`] creates it, connects to it, and either renames it ([`super::replace`]) or drops it (`super::ending`). An advisory
//! lock on its name is held in another database until then, and a comment names the run. A scratch database with this comment and
//! without the lock was left behind by a killed process.

use std::time::Duration;

use serde::Deserialize;

use super::ScratchError;
use super::abandoned::{COMMENT, DIGITS, PREFIXES};
use super::busy;
use super::ending;
use crate::archive::DatabaseOption;
use crate::archive::manifest::Manifest;
use crate::postgres::{Maintenance, NameLock, PostgresError, PostgresSettings, Tools};
use crate::sql::{literal, quoted_name};

pub use super::abandoned::{Abandoned, abandoned};

/// How long `CREATE DATABASE` may take: it waits for a checkpoint, which may take minutes on a busy server.
const CREATE_WITHIN: Duration = Duration::from_mins(15);
/// The first version with locale providers.
const PROVIDERS_SINCE: u32 = 15;
/// The databases to connect to if the one of `--to` does not exist or is to be replaced. Every server has `template1`, but while a
/// session is connected to it, no database can be created from it.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];

/// What happens to an existing database with the requested name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Nothing: the restore is refused before anything is done.
    Refuse,
    /// It is renamed when the restored one is complete.
    Replace,
}

/// The purpose of a scratch database.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// To become a database of this name.
    Restore {
        /// Of at most 63 bytes.
        name: String,
        /// Where there is one.
        existing: Existing,
    },
    /// To be dropped after it was examined.
    Drill,
}

impl Purpose {
    fn prefix(&self) -> &'static str {
        match self {
            Self::Restore { .. } => PREFIXES[0],
            Self::Drill => PREFIXES[1],
        }
    }

    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Restore { name, .. } => Some(name),
            Self::Drill => None,
        }
    }
}

/// The run and the backup, for the comment of the scratch database.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The restore's own run id, in hexadecimal.
    pub run_id: &'a str,
    /// The backup, such as `s3://bucket/key`.
    pub backup: &'a str,
}

/// A scratch database, created or about to be.
pub struct Scratch {
    tools: Tools,
    /// The target's settings, pinned to the server of the session.
    settings: PostgresSettings,
    pub(super) server: Maintenance,
    pub(super) name: String,
    pub(super) purpose: Purpose,
    comment: String,
    lock: NameLock,
    /// Whether it is kept: it must not be dropped any more.
    pub(super) is_kept: bool,
}

impl Scratch {
    /// Connects to the server, checks the rights for all later steps, and takes the lock. Creates nothing yet.
    ///
    /// # Errors
    /// If the connection fails, the role may not create a database, or the requested name exists and may not be replaced.
    pub async fn connect(
        tools: &Tools,
        settings: &PostgresSettings,
        purpose: Purpose,
        origin: Origin<'_>,
    ) -> Result<Self, ScratchError> {
        let server = maintenance(tools, settings, purpose.name()).await?;
        let digits = origin.run_id.get(..DIGITS).unwrap_or(origin.run_id);
        let name = format!("{}{digits}", purpose.prefix());
        let comment = comment(&purpose, origin);
        let lock = NameLock::on(&name);
        let settings = server.pinned(settings);
        let mut scratch = Self { tools: tools.clone(), settings, server, name, purpose, comment, lock, is_kept: false };
        scratch.may_create()?;
        scratch.reserve_name().await?;
        scratch.may_take_name().await?;
        scratch.take_lock().await?;
        Ok(scratch)
    }

    /// Creates the empty database with the encoding and locale of the backup. Only its owner may connect. If this fails or is cancelled,
    /// [`Self::discard`] removes what exists.
    ///
    /// # Errors
    /// The server's message.
    pub async fn create(&mut self, manifest: Option<&Manifest>) -> Result<(), ScratchError> {
        let database = quoted_name(&self.name);
        let create =
            format!("CREATE DATABASE {database} TEMPLATE template0{} ALLOW_CONNECTIONS false", self.options(manifest));
        let made = self.server.run_within(CREATE_WITHIN, &create).await;
        made.map_err(ScratchError::of(
            "create the scratch database",
            "where its locale is missing, install it on the server; the server's log has more",
        ))?;
        for statement in [
            // Revoke CONNECT before connections are allowed.
            format!("REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC"),
            format!("COMMENT ON DATABASE {database} IS {}", literal(&self.comment)),
            format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true"),
        ] {
            let done = self.server.run(&statement).await;
            done.map_err(ScratchError::of("set up the scratch database", "look at the server's log"))?;
        }
        Ok(())
    }

    /// Its name, until it is renamed.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The connection settings of the scratch database.
    #[must_use]
    pub fn settings(&self) -> PostgresSettings {
        let mut settings = self.settings.clone();
        settings.conninfo.set("dbname", self.name.clone());
        settings
    }

    /// The maintenance session, which holds the lock; reconnects if it was lost.
    ///
    /// # Errors
    /// If it cannot reconnect.
    pub async fn server(&mut self) -> Result<&mut Maintenance, ScratchError> {
        let is_there = self.server.is_idle() && self.server.run("SELECT 1").await.is_ok();
        if !is_there {
            self.reconnect().await?;
        }
        Ok(&mut self.server)
    }

    /// The scratch databases on this server that no process uses.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn abandoned(&mut self) -> Result<Vec<Abandoned>, ScratchError> {
        abandoned(self.server().await?).await
    }

    /// Drops a scratch database that another run left behind.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn drop_abandoned(&mut self, abandoned: &Abandoned) -> Result<(), ScratchError> {
        let mut settings = self.settings.clone();
        settings.conninfo.set("dbname", abandoned.name.clone());
        self.server().await?;
        ending::drop_database(&self.tools, &settings, &mut self.server, &abandoned.name).await
    }

    /// Terminates its sessions, detaches its subscriptions from their publishers, and drops it. Does nothing if it was never created or
    /// is kept.
    ///
    /// # Errors
    /// If the server refuses, or it takes longer than `within`. The server continues to drop it then.
    pub async fn discard(mut self, within: Duration) -> Result<(), ScratchError> {
        if self.is_kept {
            self.server.close().await;
            return Ok(());
        }
        let (name, statement) = (self.name.clone(), ending::drop_statement(&self.name, &[]));
        let dropped = async {
            self.server().await?;
            ending::drop_database(&self.tools, &self.settings(), &mut self.server, &name).await
        };
        let Ok(dropped) = tokio::time::timeout(within, dropped).await else {
            let reason = format!("not done within {}; the server may go on", humantime::format_duration(within));
            return Err(ScratchError::NotDropped { scratch: name, reason, statement });
        };
        self.server.close().await;
        dropped
    }

    /// Keeps it (`--keep-failed`), and warns, if it was created.
    pub async fn keep(mut self) {
        // If the query fails, warn anyway.
        if self.server().await.is_ok() && matches!(ending::exists(&mut self.server, &self.name).await, Ok(false)) {
            self.server.close().await;
            return;
        }
        // A statement of the restore may still run.
        if let Err(error) = ending::end_sessions(&mut self.server, &self.name).await {
            tracing::debug!(%error, "the sessions of the scratch database cannot be ended");
        }
        let subscriptions = ending::subscriptions(&mut self.server, &self.name).await.unwrap_or_default();
        let (database, drop) = (&self.name, ending::drop_statement(&self.name, &subscriptions));
        tracing::warn!(database, drop, "the scratch database is kept");
        self.server.close().await;
    }

    /// Opens another session to the same database, in place of one that is lost or stuck.
    pub(super) async fn reconnect(&mut self) -> Result<(), ScratchError> {
        self.server = Maintenance::replacing(&self.server, &self.tools, &self.maintenance_settings()).await?;
        self.reserve_name().await?;
        self.take_lock().await
    }

    /// Another session to the database that the first one is in.
    pub(super) async fn another(&self) -> Result<Maintenance, PostgresError> {
        Maintenance::connect(&self.tools, &self.maintenance_settings()).await
    }

    fn maintenance_settings(&self) -> PostgresSettings {
        let mut settings = self.settings.clone();
        settings.conninfo.set("dbname", self.server.standing().database.clone());
        settings
    }

    fn may_create(&self) -> Result<(), ScratchError> {
        let standing = self.server.standing();
        if standing.creates_databases {
            return Ok(());
        }
        Err(ScratchError::MayNotCreate { user: standing.user.clone() })
    }

    async fn may_take_name(&mut self) -> Result<(), ScratchError> {
        /// The database that has the name.
        #[derive(Deserialize)]
        struct Taken {
            owner: String,
            is_ours: bool,
            is_template: bool,
        }
        let Purpose::Restore { name, existing } = self.purpose.clone() else { return Ok(()) };
        let question = format!(
            "SELECT pg_catalog.json_build_object('owner', pg_catalog.pg_get_userbyid(d.datdba), \
             'is_ours', pg_catalog.pg_has_role(d.datdba, 'USAGE'), 'is_template', d.datistemplate) \
             FROM pg_catalog.pg_database d WHERE d.datname = {}",
            literal(&name)
        );
        let taken: Option<Taken> = self
            .server
            .ask(&question)
            .await
            .map_err(ScratchError::of("look for the database", "look at the server's log"))?;
        match (taken, existing) {
            (None, _) | (Some(Taken { is_template: false, is_ours: true, .. }), Existing::Replace) => Ok(()),
            (Some(_), Existing::Refuse) => Err(ScratchError::Exists { name }),
            (Some(Taken { is_template: true, .. }), Existing::Replace) => Err(ScratchError::IsTemplate { name }),
            (Some(Taken { owner, .. }), Existing::Replace) => {
                Err(ScratchError::MayNotReplace { name, owner, user: self.server.standing().user.clone() })
            }
        }
    }

    /// Excludes another restore into the database of that name. Without it, the second would fail only at its end.
    async fn reserve_name(&mut self) -> Result<(), ScratchError> {
        let Some(name) = self.purpose.name().map(str::to_owned) else { return Ok(()) };
        let reserved = busy::reserve(&mut self.server, &name).await;
        reserved.map_err(ScratchError::of("lock the database's name", "look at the server's log"))?.map_err(Into::into)
    }

    async fn take_lock(&mut self) -> Result<(), ScratchError> {
        let taken = self.server.run(&self.lock.take()).await;
        let taken = taken.map_err(ScratchError::of("lock the scratch database's name", "look at the server's log"))?;
        if taken.first().is_none_or(|line| line != "t") {
            // No other run has the same id. An earlier session of this run that the server has not ended yet may hold the lock.
            tracing::warn!(database = self.name, "another session holds the lock of the scratch database");
        }
        Ok(())
    }

    /// Encoding and locale for `CREATE DATABASE`, each after a space.
    fn options(&self, manifest: Option<&Manifest>) -> String {
        let Some(manifest) = manifest else { return String::new() };
        let mut options = manifest.database_options();
        if self.server.standing().version().major < PROVIDERS_SINCE {
            options.retain(|option| (option.name, option.value) != ("locale-provider", "libc"));
        } else if manifest.locale_provider.is_none() {
            // An older server had only libc locales. On this server the default provider may be another.
            options.push(DatabaseOption { name: "locale-provider", value: "libc" });
        }
        let given = options.iter().map(|option| format!(" {} {}", option.keyword(), literal(option.value)));
        given.collect()
    }
}

/// Connects to the database of `--to`, else to one that every server has; never to the one to be replaced.
async fn maintenance(
    tools: &Tools,
    settings: &PostgresSettings,
    wanted: Option<&str>,
) -> Result<Maintenance, ScratchError> {
    let mut refusal = None;
    for database in [None].into_iter().chain(MAINTENANCE.map(Some)) {
        let mut settings = settings.clone();
        if let Some(database) = database {
            settings.conninfo.set("dbname", database);
        }
        match Maintenance::connect(tools, &settings).await {
            Ok(session) if Some(session.standing().database.as_str()) == wanted => session.close().await,
            Ok(session) => return Ok(session),
            Err(error) if error.is_of_database() => refusal = refusal.or(Some(error)),
            Err(error) => return Err(error.into()),
        }
    }
    let name = wanted.unwrap_or_default().to_owned();
    Err(refusal.map_or(ScratchError::IsTemplate { name }, ScratchError::Postgres))
}

/// What the comment says.
fn comment(purpose: &Purpose, Origin { run_id, backup }: Origin<'_>) -> String {
    let of = match purpose {
        Purpose::Restore { name, .. } => format!("a restore of {backup} as {name}"),
        Purpose::Drill => format!("a drill with {backup}"),
    };
    format!("{COMMENT}scratch database of {of} (run {run_id}); to be dropped, should that run have ended")
}
