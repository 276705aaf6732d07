//! The destinations that a command acts on: that of `S3_PATH`, or with `BACKUP_DATABASES` that of each database.
//!
//! One destination is the case of one: `list`, `prune`, `delete`, `restore` and the drills go through [`Destinations::each`].

use tracing::{Instrument as _, Span};

use crate::archive::Listing;
use crate::archive::name::BackupName;
use crate::at_once::at_once;
use crate::cli::BackupRef;
use crate::databases::{DatabasePatterns, LeftAlone, StoredDatabase, StoredDatabases, sub_path};
use crate::error::Error;
use crate::exit_code::ExitCode;
use crate::log_target::DATABASE_SPAN;
use crate::printable::{enumerated, printable};
use crate::retention::UploadCleanup;
use crate::storage::{Destination, StorageError};

use super::server_run::label;

/// Databases that are asked at once.
pub(super) const AT_ONCE: usize = 16;
/// The flag that chooses databases.
pub(super) const DATABASES_FLAG: &str = "--databases";

/// The backups of one database.
#[derive(Clone, Debug)]
pub(super) struct DatabaseDestination {
    /// The database of a sub-path; `None` without `BACKUP_DATABASES`.
    pub database: Option<String>,
    /// Where its backups are.
    pub destination: Destination,
}

impl DatabaseDestination {
    /// The span of the database's events.
    pub fn span(&self) -> Span {
        self.database.as_ref().map_or_else(Span::none, |database| tracing::error_span!(DATABASE_SPAN, database))
    }

    /// `s3://bucket/path/`
    pub fn location(&self) -> String {
        self.destination.url()
    }

    /// The name and the destination of a database, for its metrics.
    pub fn labels(&self) -> Option<(String, String)> {
        Some((self.database.clone()?, label(&self.location()).to_owned()))
    }

    /// What a backup is called: among several databases by its URL.
    pub fn name_of(&self, backup: BackupName) -> String {
        let name = backup.to_string();
        if self.database.is_some() { self.destination.location(&self.destination.key(&name)) } else { name }
    }
}

/// The destinations of a command.
#[derive(Debug)]
pub(super) struct Destinations {
    /// The destination of `S3_PATH`.
    root: Destination,
    /// Whether they are those of databases.
    are_databases: bool,
    each: Vec<DatabaseDestination>,
    left_alone: Vec<LeftAlone>,
}

impl Destinations {
    /// Finds the databases that have backups and are meant; without patterns, the one destination. Warns of sub-paths that are left
    /// alone.
    ///
    /// # Errors
    /// As [`Destination::list`].
    pub async fn find(root: Destination, patterns: Option<&DatabasePatterns>) -> Result<Self, StorageError> {
        let found = Self::look(root, patterns).await?;
        if let Some(patterns) = patterns {
            found.warn(patterns);
        }
        Ok(found)
    }

    /// The same without a warning.
    ///
    /// # Errors
    /// As [`Destination::list`].
    pub async fn look(root: Destination, patterns: Option<&DatabasePatterns>) -> Result<Self, StorageError> {
        let Some(patterns) = patterns else {
            let each = vec![DatabaseDestination { database: None, destination: root.clone() }];
            return Ok(Self { root, are_databases: false, each, left_alone: Vec::new() });
        };
        let StoredDatabases { databases, left_alone } = StoredDatabases::find(&root, patterns).await?;
        let of = |StoredDatabase { name, destination }| DatabaseDestination { database: Some(name), destination };
        Ok(Self { root, are_databases: true, each: databases.into_iter().map(of).collect(), left_alone })
    }

    /// Adds the databases that are meant and have an open upload, but no object: a killed run may leave only that.
    #[must_use]
    pub async fn with_uploads(mut self, patterns: Option<&DatabasePatterns>) -> Self {
        let Some(patterns) = patterns else { return self };
        for path in UploadCleanup::open_below(&self.root).await.into_keys() {
            let Some(name) = sub_path::database(&path).filter(|name| patterns.mean(name)) else { continue };
            let place = DatabaseDestination { database: Some(name), destination: self.root.below(&path) };
            let is_known = self.each.iter().any(|known| known.database == place.database)
                || self.left_alone.iter().any(|path| path.location == place.location());
            if !is_known {
                self.each.push(place);
            }
        }
        self.each.sort_by(|one, other| one.database.cmp(&other.database));
        self
    }

    fn warn(&self, patterns: &DatabasePatterns) {
        for LeftAlone { location, reason } in &self.left_alone {
            tracing::warn!(location, "{reason}: this path is left alone");
        }
        let has = |name: &str| self.each.iter().any(|place| place.database.as_deref() == Some(name));
        for name in patterns.names().filter(|name| !has(name)) {
            let location = self.root.below(&sub_path::of(name)).url();
            tracing::warn!(database = name, location, "this database has no backup");
        }
        if self.each.is_empty() && patterns.names().next().is_none() {
            let (location, patterns) = (self.root.url(), patterns.to_string());
            tracing::warn!(location, BACKUP_DATABASES = patterns, "no database that is meant has a backup");
        }
    }

    /// The destination of the database that is named, or of the backup that a key or URL names in any sub-path; else as
    /// [`Self::find`].
    ///
    /// # Errors
    /// As [`Self::find`].
    pub async fn of_restore(
        root: Destination,
        (database, wanted): (Option<&str>, Option<&BackupRef>),
        patterns: Option<&DatabasePatterns>,
    ) -> Result<Self, StorageError> {
        let below = |database: String| {
            let destination = root.below(&sub_path::of(&database));
            let each = vec![DatabaseDestination { database: Some(database), destination }];
            Self { root: root.clone(), are_databases: false, each, left_alone: Vec::new() }
        };
        match database.map(str::to_owned).or_else(|| database_in(&root, wanted?)) {
            Some(database) => Ok(below(database)),
            None => Self::find(root, patterns).await,
        }
    }

    /// Every database that has backups.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub async fn of_all(&self) -> Result<Self, StorageError> {
        Self::find(self.root.clone(), Some(&DatabasePatterns::all())).await
    }

    /// `s3://bucket/path/` of all.
    pub fn location(&self) -> String {
        self.root.url()
    }

    /// Whether they are those of databases, even if there is only one.
    pub fn are_databases(&self) -> bool {
        self.are_databases
    }

    /// Each of them, by the database's name.
    pub fn each(&self) -> &[DatabaseDestination] {
        &self.each
    }

    /// The sub-paths that are left alone.
    pub fn left_alone(&self) -> &[LeftAlone] {
        &self.left_alone
    }

    /// Lists each.
    ///
    /// # Errors
    /// As [`Listing::read`].
    pub async fn listings(&self) -> Result<Vec<Listing>, StorageError> {
        let read = |place: &DatabaseDestination| {
            let (span, DatabaseDestination { database, destination }) = (place.span(), place.clone());
            async move { Ok(Listing::read(&destination).await?.of_database(database)) }.instrument(span)
        };
        at_once(AT_ONCE, self.each.iter().map(read)).await
    }

    /// The destination of the backup that is wanted, and its name; no name for the latest. `flag` chooses a database.
    ///
    /// # Errors
    /// If the backup is elsewhere, or may be of several databases.
    pub async fn locate(
        &self,
        wanted: &BackupRef,
        flag: &'static str,
    ) -> Result<(&DatabaseDestination, Option<BackupName>), Error> {
        let holders: Vec<&DatabaseDestination> = match (wanted, self.each.as_slice()) {
            (_, [only]) if !self.are_databases => {
                return Ok((only, backup_named(&only.destination, wanted)?));
            }
            (BackupRef::Latest, each) => each.iter().collect(),
            (BackupRef::Named { name, text }, each) => {
                let is_its_own = |place: &&DatabaseDestination| names_backup_in(&place.destination, *name, text);
                if let Some(place) = each.iter().find(is_its_own) {
                    return Ok((place, Some(*name)));
                }
                if *text != name.to_string() {
                    let (name, databases, location) = (text.clone(), names_of(each), self.location());
                    return Err(Error::DatabaseNotMeant { name, databases, location });
                }
                self.holders(*name).await?
            }
        };
        let name = match wanted {
            BackupRef::Latest => None,
            BackupRef::Named { name, .. } => Some(*name),
        };
        match holders.as_slice() {
            [holder] => Ok((holder, name)),
            [] if name.is_none() => Err(Error::NoBackups { location: self.location() }),
            [] => Err(Error::NoSuchBackup { name: wanted.to_string(), location: self.location() }),
            several => Err(which(wanted.to_string(), several.iter().copied(), flag)),
        }
    }

    /// The error where one database must be chosen.
    pub fn which_database(&self, name: String, flag: &'static str) -> Error {
        if self.each.is_empty() {
            return Error::NoBackups { location: self.location() };
        }
        which(name, &self.each, flag)
    }

    /// The databases that have a backup of this name, or its sidecars.
    async fn holders(&self, name: BackupName) -> Result<Vec<&DatabaseDestination>, StorageError> {
        let look = |place: &DatabaseDestination| {
            let destination = place.destination.clone();
            async move {
                let mut is_there = false;
                destination.list(&name.to_string(), &mut |_: &str, _| is_there = true).await.map(|()| is_there)
            }
        };
        let found = at_once(AT_ONCE, self.each.iter().map(look)).await?;
        Ok(self.each.iter().zip(found).filter_map(|(place, is_there)| is_there.then_some(place)).collect())
    }
}

fn which<'a>(name: String, databases: impl IntoIterator<Item = &'a DatabaseDestination>, flag: &'static str) -> Error {
    Error::WhichDatabase { name, databases: names_of(databases), flag }
}

/// The names of databases for a message.
pub(super) fn names_of<'a>(each: impl IntoIterator<Item = &'a DatabaseDestination>) -> String {
    let names: Vec<&str> = each.into_iter().filter_map(|place| place.database.as_deref()).collect();
    match names.as_slice() {
        [] => "no database".to_owned(),
        [name] => format!("the database {}", printable(name)),
        names => format!("the databases {}", enumerated(names)),
    }
}

/// Whether a text is the key or the URL of a backup in this destination.
fn names_backup_in(destination: &Destination, name: BackupName, text: &str) -> bool {
    let key = destination.key(&name.to_string());
    text == key && text != name.to_string() || text == destination.location(&key)
}

/// The database that the sub-path of a key or URL names.
fn database_in(root: &Destination, wanted: &BackupRef) -> Option<String> {
    let BackupRef::Named { name, text } = wanted else { return None };
    let (key, name) = (root.key(""), name.to_string());
    let rest = text.strip_prefix(&root.location(&key)).or_else(|| text.strip_prefix(&key))?;
    sub_path::database(rest.strip_suffix(&name)?.strip_suffix('/')?)
}

/// The name of the backup that is wanted; `None` for the latest.
fn backup_named(destination: &Destination, wanted: &BackupRef) -> Result<Option<BackupName>, Error> {
    let BackupRef::Named { name, text } = wanted else { return Ok(None) };
    if *text == name.to_string() || names_backup_in(destination, *name, text) {
        return Ok(Some(*name));
    }
    Err(Error::BackupElsewhere { name: text.clone(), location: destination.url() })
}

/// The results for several databases: one that fails does not stop the others.
#[derive(Debug, Default)]
pub(super) struct Failures {
    tried: usize,
    failed: Vec<(String, Error)>,
}

impl Failures {
    /// Logs and keeps the failure of a database. Without `BACKUP_DATABASES`, and of a signal, it is the error of the command.
    ///
    /// # Errors
    /// The error of the command.
    pub fn keep(&mut self, place: &DatabaseDestination, done: Result<(), Error>) -> Result<(), Error> {
        self.tried += 1;
        match (done, &place.database) {
            (Ok(()), _) => Ok(()),
            (Err(error), Some(database)) if !matches!(error, Error::Interrupted(_)) => {
                let exit_code = error.exit_code().number();
                place
                    .span()
                    .in_scope(|| tracing::error!(exit_code, error = %crate::error_chain::Chain(&error), "failed"));
                self.failed.push((database.clone(), error));
                Ok(())
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The error of the command, if a database failed.
    ///
    /// # Errors
    /// Names the databases that failed.
    pub fn conclude(self) -> Result<(), Error> {
        let code = ExitCode::of_several(self.failed.iter().map(|(_, error)| error.exit_code()));
        let failed = self.failed.into_iter().map(|(database, _)| database).collect();
        code.map_or(Ok(()), |code| Err(Error::Databases { failed, databases: self.tried, code }))
    }
}
