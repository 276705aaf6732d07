//! The scratch database: a backup is restored into it, and only what is complete gets its name.
//!
//! [`Scratch`] makes it, says how to connect to it, and either gives it its name ([`super::replace`]) or drops it
//! ([`super::ending`]). A lock on its name is held in another database for the whole time, and a comment says what made it: so
//! one that a killed process left behind is told from one that is in use.

use std::time::Duration;

use serde::Deserialize;

use super::ScratchError;
use super::ending;
use crate::archive::DatabaseOption;
use crate::archive::manifest::Manifest;
use crate::postgres::{Maintenance, NameLock, PostgresError, PostgresSettings, Tools};
use crate::sql::{literal, quoted_name};

/// How the comment begins by which a scratch database is known.
const COMMENT: &str = "pg-s3-backup: ";
/// How the names of scratch databases begin; 16 hexadecimal digits of the run's id follow.
const PREFIXES: [&str; 2] = ["pg_s3_restore_", "pg_s3_drill_"];
const DIGITS: usize = 16;
/// A template is copied within seconds, after a checkpoint that may take minutes on a busy server.
const CREATE_WITHIN: Duration = Duration::from_mins(15);
/// The version from which a locale has a provider.
const PROVIDERS_SINCE: u32 = 15;
/// Where statements about databases are sent when the database of `--to` does not exist, or is the one to be replaced.
/// The last is every server's, but while somebody is connected to it nobody can make a database.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];

/// What becomes of a database that has the wanted name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Nothing: the restore is refused before anything is done.
    Refuse,
    /// It gets another name, once the restored one is complete.
    Replace,
}

/// What a scratch database is made for.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// To become a database of this name.
    Restore {
        /// Of at most 63 bytes.
        name: String,
        /// Where there is one.
        existing: Existing,
    },
    /// To be dropped when it was looked at.
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

/// Where a restore comes from and goes to, for the scratch database's comment.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The restore's own run id, in hexadecimal.
    pub run_id: &'a str,
    /// The backup, such as `s3://bucket/key`.
    pub backup: &'a str,
}

/// A scratch database, made or about to be.
pub struct Scratch {
    tools: Tools,
    /// Of the target; pinned to the server that the session is on.
    settings: PostgresSettings,
    pub(super) server: Maintenance,
    pub(super) name: String,
    pub(super) purpose: Purpose,
    comment: String,
    lock: NameLock,
    /// Nothing may drop it any more.
    pub(super) is_kept: bool,
}

/// A scratch database that no process uses.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Abandoned {
    /// Its name.
    pub name: String,
    /// Its size in bytes, where this role may know.
    pub bytes: Option<u64>,
    /// Whether it has the comment of this program; without, its process was ended before it had written that.
    pub is_marked: bool,
}

impl Abandoned {
    /// What drops it.
    #[must_use]
    pub fn statement(&self) -> String {
        ending::drop_statement(&self.name)
    }
}

impl Scratch {
    /// Connects to the server, finds out whether all that follows is allowed, and takes the lock. Makes nothing yet.
    ///
    /// # Errors
    /// No connection; no right to create a database; the wanted name is taken, or its database may not be renamed.
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
        scratch.may_take_name().await?;
        scratch.take_lock().await?;
        Ok(scratch)
    }

    /// Makes the database: empty, with the encoding and locale of the backup's, and closed to everybody but its owner.
    /// Where this fails or is dropped in the middle, [`Self::discard`] removes what there is.
    ///
    /// # Errors
    /// The server's words.
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
            // Closed, before it is opened.
            format!("REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC"),
            format!("COMMENT ON DATABASE {database} IS {}", literal(&self.comment)),
            format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true"),
        ] {
            let done = self.server.run(&statement).await;
            done.map_err(ScratchError::of("set up the scratch database", "look at the server's log"))?;
        }
        Ok(())
    }

    /// Its name, until it has the wanted one.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How to connect to it.
    #[must_use]
    pub fn settings(&self) -> PostgresSettings {
        let mut settings = self.settings.clone();
        settings.conninfo.set("dbname", self.name.clone());
        settings
    }

    /// The session beside it, which holds the lock; opened again where it was lost.
    ///
    /// # Errors
    /// Where it cannot be.
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
    /// Where the server does not tell.
    pub async fn abandoned(&mut self) -> Result<Vec<Abandoned>, ScratchError> {
        abandoned(self.server().await?).await
    }

    /// Drops it, after its sessions were ended and its subscriptions were cut off their publishers. Does nothing where it was
    /// never made, or is kept.
    ///
    /// # Errors
    /// What stands in the way, or that it takes longer than `within`: the server goes on dropping it then.
    pub async fn discard(mut self, within: Duration) -> Result<(), ScratchError> {
        if self.is_kept {
            self.server.close().await;
            return Ok(());
        }
        let (name, statement) = (self.name.clone(), ending::drop_statement(&self.name));
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

    /// Keeps it (`--keep-failed`), and says so.
    pub async fn keep(self) {
        let (database, drop) = (&self.name, ending::drop_statement(&self.name));
        tracing::warn!(database, drop, "the scratch database is kept");
        self.server.close().await;
    }

    /// Opens another session to the same database, in place of one that is lost or stuck.
    pub(super) async fn reconnect(&mut self) -> Result<(), ScratchError> {
        let before = self.server.standing().clone();
        let mut fresh = self.another().await?;
        let ended = fresh.end_on_server(&before).await;
        ended.map_err(ScratchError::of("end the session that was cut off", "look at the server's log"))?;
        self.server = fresh;
        self.take_lock().await
    }

    /// Another session to the database that the first one is in.
    pub(super) async fn another(&self) -> Result<Maintenance, PostgresError> {
        let mut settings = self.settings.clone();
        settings.conninfo.set("dbname", self.server.standing().database.clone());
        Maintenance::connect(&self.tools, &settings).await
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

    async fn take_lock(&mut self) -> Result<(), ScratchError> {
        let taken = self.server.run(&self.lock.take()).await;
        let taken = taken.map_err(ScratchError::of("lock the scratch database's name", "look at the server's log"))?;
        if taken.first().is_none_or(|line| line != "t") {
            // No other run has this one's id. A session that was cut off and is not gone yet may hold it.
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
            // A server before that version knew no other, and this one's own may be.
            options.push(DatabaseOption { name: "locale-provider", value: "libc" });
        }
        let given = options.iter().map(|option| format!(" {} {}", option.keyword(), literal(option.value)));
        given.collect()
    }
}

/// A session to the database of `--to`, else to one that every server has; never to the one that is to be replaced.
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

/// See [`Scratch::abandoned`].
///
/// # Errors
/// Where the server does not tell.
pub async fn abandoned(server: &mut Maintenance) -> Result<Vec<Abandoned>, ScratchError> {
    let failed = || ScratchError::of("look for abandoned scratch databases", "look at the server's log");
    let prefixes = PREFIXES.join("|");
    let question = format!(
        "SELECT pg_catalog.json_build_object('name', d.datname, 'is_marked', c.comment IS NOT NULL, \
         'bytes', CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT') THEN pg_catalog.pg_database_size(d.oid) END) \
         FROM pg_catalog.pg_database d, pg_catalog.shobj_description(d.oid, 'pg_database') AS c (comment) \
         WHERE d.datname ~ '^({prefixes})[0-9a-f]{{{DIGITS}}}$' \
         AND (c.comment IS NULL OR pg_catalog.starts_with(c.comment, {})) ORDER BY d.datname",
        literal(COMMENT)
    );
    let mut abandoned = Vec::new();
    for line in server.run(&question).await.map_err(failed())? {
        let found: Abandoned = serde_json::from_str(&line).map_err(PostgresError::Answer)?;
        let held = NameLock::on(&found.name).is_held();
        let holders = server.run(&format!("SELECT 1 FROM pg_catalog.pg_locks AS l WHERE {held}")).await;
        if holders.map_err(failed())?.is_empty() {
            abandoned.push(found);
        }
    }
    Ok(abandoned)
}
