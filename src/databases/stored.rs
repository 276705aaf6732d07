//! The databases that have backups below a destination.
//!
//! `list`, `check`, `prune` and `delete` act on a sub-path only if its name is that of a database that is meant, and its newest
//! manifest names that database: another deployment may have a path below the same prefix.

use crate::archive::origin::{self, NewestOrigin};
use crate::at_once::at_once;
use crate::storage::{Destination, StorageError};
use serde::Serialize;

use super::{DatabasePatterns, sub_path};

/// Manifests that are read at once.
const AT_ONCE: usize = 16;

/// A database with backups.
#[derive(Clone, Debug)]
pub struct StoredDatabase {
    /// Its name.
    pub name: String,
    /// The destination of its backups.
    pub destination: Destination,
}

/// A sub-path that has a meant database's name, and is not that database's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftAlone {
    /// `s3://bucket/path/`
    pub location: String,
    /// Why it is left alone.
    pub reason: String,
}

/// The databases below a destination.
#[derive(Debug, Default)]
pub struct StoredDatabases {
    /// Those that are meant, by name.
    pub databases: Vec<StoredDatabase>,
    /// The sub-paths that are left alone.
    pub left_alone: Vec<LeftAlone>,
}

impl StoredDatabases {
    /// Lists the sub-paths, and reads the newest manifest of each that is meant.
    ///
    /// # Errors
    /// As [`Destination::list`].
    pub async fn find(destination: &Destination, patterns: &DatabasePatterns) -> Result<Self, StorageError> {
        let mut stored = Self::default();
        let meant = destination.sub_paths().await?.into_iter().filter_map(|path| {
            let Some(name) = sub_path::database(&path) else {
                tracing::debug!(path, "this sub-path is not that of a database");
                return None;
            };
            let destination = destination.below(&path);
            patterns.mean(&name).then_some(StoredDatabase { name, destination })
        });
        let looking = meant
            .map(|database| async { Ok::<_, StorageError>((origin::newest(&database.destination).await?, database)) });
        for (newest, database) in at_once(AT_ONCE, looking).await? {
            stored.add(&newest, database);
        }
        stored.databases.sort_by(|one, other| one.name.cmp(&other.name));
        stored.left_alone.sort_by(|one, other| one.location.cmp(&other.location));
        Ok(stored)
    }

    fn add(&mut self, newest: &NewestOrigin, database: StoredDatabase) {
        let reason = match newest {
            NewestOrigin::Of(_, origin) if origin.database == database.name => return self.databases.push(database),
            NewestOrigin::Of(name, origin) => format!("{name} is of database {}", origin.database),
            NewestOrigin::None => "no manifest names the database".to_owned(),
            NewestOrigin::Unreadable(name) => format!("the manifest of {name} cannot be read"),
        };
        self.left_alone.push(LeftAlone { location: database.destination.url(), reason });
    }
}
