//! The databases that have backups below a destination.
//!
//! `list`, `check`, `prune` and `delete` act on a sub-path only if its name is that of a database that is meant, and its newest
//! manifest names that database: another deployment may have a path below the same prefix.

use serde::Serialize;
use tokio::task::JoinSet;

use crate::archive::origin::{self, NewestOrigin};
use crate::storage::{Destination, StorageError};

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
        let (mut stored, mut looking) = (Self::default(), JoinSet::new());
        for path in destination.sub_paths().await? {
            let Some(name) = sub_path::database(&path) else {
                tracing::debug!(path, "this sub-path is not that of a database");
                continue;
            };
            if patterns.mean(&name) {
                let below = destination.below(&path);
                if looking.len() >= AT_ONCE {
                    stored.add(looking.join_next().await)?;
                }
                looking
                    .spawn(async move { (origin::newest(&below).await, StoredDatabase { name, destination: below }) });
            }
        }
        while let Some(looked) = looking.join_next().await {
            stored.add(Some(looked))?;
        }
        stored.databases.sort_by(|one, other| one.name.cmp(&other.name));
        stored.left_alone.sort_by(|one, other| one.location.cmp(&other.location));
        Ok(stored)
    }

    /// Logs the sub-paths that are left alone.
    pub fn log_left_alone(&self) {
        for LeftAlone { location, reason } in &self.left_alone {
            tracing::warn!(location, "{reason}: this path is left alone");
        }
    }

    fn add(&mut self, looked: Option<Result<Looked, tokio::task::JoinError>>) -> Result<(), StorageError> {
        // A task is neither aborted, nor does it panic.
        let Some(Ok((newest, database))) = looked else { return Ok(()) };
        let reason = match newest? {
            NewestOrigin::Of(_, origin) if origin.database == database.name => {
                self.databases.push(database);
                return Ok(());
            }
            NewestOrigin::Of(name, origin) => format!("{name} is of database {}", origin.database),
            NewestOrigin::None => "no manifest names the database".to_owned(),
            NewestOrigin::Unreadable(name) => format!("the manifest of {name} cannot be read"),
        };
        let location = database.destination.location(&database.destination.key(""));
        self.left_alone.push(LeftAlone { location, reason });
        Ok(())
    }
}

type Looked = (Result<NewestOrigin, StorageError>, StoredDatabase);
