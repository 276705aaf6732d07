//! Checks each database of `BACKUP_DATABASES`: what is on the server, what is in the bucket, and what only one of them has.
//!
//! Called by [`super::Check`]. Without the setting there is one subject: the connection string's database and the destination.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::databases::{DatabasePatterns, LeftAlone, StoredDatabases, sub_path};
use crate::log_target::{FOR_MACHINES, FOR_PEOPLE};
use crate::postgres::{Facts, ServerDatabase};
use crate::printable::counted;
use crate::storage::Destination;

use super::name::CheckName;
use super::request::answered;
use super::result::{CheckResults, Outcome, Status};
use super::source::Source;

/// Each sub-path is listed, and its newest manifest is read.
const DEADLINE: Duration = Duration::from_mins(5);

/// A database and its backups.
pub(super) struct Subject {
    /// `None` without `BACKUP_DATABASES`.
    pub database: Option<String>,
    pub destination: Destination,
    /// What the server says; `None` if it was not asked or did not answer.
    pub facts: Option<Facts>,
}

impl Subject {
    fn of(database: &str, root: &Destination, facts: Option<Facts>) -> Self {
        Self { database: Some(database.to_owned()), destination: root.below(&sub_path::of(database)), facts }
    }
}

/// The databases of a setting.
pub(super) struct Databases<'a> {
    pub patterns: &'a DatabasePatterns,
    /// The destination of `S3_PATH`.
    pub root: &'a Destination,
}

impl Databases<'_> {
    /// Checks each database of the server that is meant. `None` if the server cannot be asked for its databases.
    pub async fn examine_server(&self, source: Source<'_>, results: &mut CheckResults<'_>) -> Option<Vec<Subject>> {
        let (programs, all) = source.examine_server(results).await?;
        let missing = self.patterns.names().filter(|name| all.iter().all(|database| database.name != *name));
        for name in missing {
            let detail = "the server has no database of this name that takes connections";
            add(results, name, Outcome::fail(detail, "correct BACKUP_DATABASES, or create it"));
        }
        let meant: Vec<&ServerDatabase> = all.iter().filter(|database| self.patterns.mean(&database.name)).collect();
        tracing::info!(target: FOR_MACHINES, databases = meant.len(), "checking the databases of the server");
        tracing::info!(target: FOR_PEOPLE, "checking {} of the server", counted(meant.len(), "database"));
        let mut subjects = Vec::new();
        for ServerDatabase { name, is_utf8, may_connect } in meant {
            let refused = if !is_utf8 {
                Some(("its name is not UTF-8", "rename it, or exclude it from BACKUP_DATABASES".to_owned()))
            } else if !may_connect {
                let grant = format!("GRANT CONNECT ON DATABASE {} TO this role", crate::sql::quoted_name(name));
                Some(("this role may not connect to it", format!("{grant}, or exclude it from BACKUP_DATABASES")))
            } else {
                None
            };
            let facts = if let Some((detail, hint)) = refused {
                add(results, name, Outcome::fail(detail, hint));
                None
            } else {
                let settings = source.settings.of_database(name);
                results.of_database(Some(name.clone()));
                let facts = Source { settings: &settings, ..source }.examine_one(&programs, results).await;
                results.of_database(None);
                facts
            };
            if *is_utf8 {
                subjects.push(Subject::of(name, self.root, facts));
            }
        }
        Some(subjects)
    }

    /// The databases to check in the bucket: those of the server, else those that have backups or are named. Warns of sub-paths of
    /// databases that are gone, and of those that are left alone.
    pub async fn complete(&self, on_server: Option<Vec<Subject>>, results: &mut CheckResults<'_>) -> Vec<Subject> {
        let stored = match answered(DEADLINE, StoredDatabases::find(self.root, self.patterns)).await {
            Ok(stored) => stored,
            Err(error) => {
                results.add(CheckName::Freshness, error.verdict(Status::Fail));
                return on_server.unwrap_or_default();
            }
        };
        let with_backups: BTreeSet<&str> = stored.databases.iter().map(|database| database.name.as_str()).collect();
        let named: BTreeSet<&str> = self.patterns.names().collect();
        let subjects = on_server.inspect(|subjects| warn_of_gone(subjects, (&with_backups, &named), results));
        let subjects = subjects
            .unwrap_or_else(|| with_backups.union(&named).map(|name| Subject::of(name, self.root, None)).collect());
        let checked: BTreeSet<String> = subjects.iter().map(|subject| subject.destination.url()).collect();
        for LeftAlone { location, reason } in stored.left_alone.iter().filter(|left| !checked.contains(&left.location))
        {
            let detail = format!("{location} is left alone: {reason}");
            let hint = "give each database and server a path of its own, or exclude it from BACKUP_DATABASES";
            results.add(CheckName::Database, Outcome::warn(detail, hint));
        }
        if subjects.is_empty() {
            let detail = format!("BACKUP_DATABASES={} means no database", self.patterns);
            results.add(CheckName::Database, Outcome::fail(detail, "correct BACKUP_DATABASES, S3_BUCKET or S3_PATH"));
        }
        subjects
    }
}

/// Warns of databases that have backups and are not on the server. One that is named has failed already.
fn warn_of_gone(
    on_server: &[Subject],
    (with_backups, named): (&BTreeSet<&str>, &BTreeSet<&str>),
    results: &mut CheckResults<'_>,
) {
    let known: BTreeSet<&str> = on_server.iter().filter_map(|subject| subject.database.as_deref()).collect();
    for name in with_backups.iter().filter(|name| !known.contains(*name) && !named.contains(*name)) {
        let detail = "it has backups, but the server has no database of this name that takes connections";
        let hint =
            "its last valid backups stay: exclude it from BACKUP_DATABASES, or delete them when they are not needed";
        add(results, name, Outcome::warn(detail, hint));
    }
}

fn add(results: &mut CheckResults<'_>, database: &str, outcome: Outcome) {
    results.of_database(Some(database.to_owned()));
    results.add(CheckName::Database, outcome);
    results.of_database(None);
}
