//! Several databases of a server (`BACKUP_DATABASES`): the commands that act on the backups of each.

mod check;
mod drill;
mod retention;
mod stored;

use pg_s3_backup::databases::sub_path;
use serde_json::Value;

use crate::support::program::{Outcome, Program};
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::{postgres, s3};
use crate::support::setup::s3_program;
use crate::support::stored::{name_of_day, put};

const USAGE: i32 = 64;
const NO_SUCH_BACKUP: i32 = 15;
/// Names that need care: two that differ in case alone, one that begins like another, and those with separators of paths, quotes,
/// spaces and letters that are no ASCII.
const NAMES: [&str; 9] = ["..", "App", "a b", "a/b", "app", "app_test", "b%2Fc", "größe", "say \"x\"'"];

/// The bytes of a backup that is large enough for a dump.
const BYTES: usize = 400;

/// The manifest of a valid backup.
fn manifest_of(database: &str) -> String {
    serde_json::json!({ "database": database, "object_bytes": BYTES, "partial": false }).to_string()
}

/// Stores valid backups of these days in a sub-path of `pg`. The manifests name a database.
fn put_backups(bucket: &str, sub_path: &str, database: &str, days: &[u32]) {
    for day in days {
        let key = format!("pg/{sub_path}/{}", name_of_day(*day));
        put(bucket, &key, &[b'x'; BYTES]);
        put(bucket, &format!("{key}.json"), manifest_of(database).as_bytes());
    }
}

/// A bucket with backups of these days of each database below `pg`.
fn bucket_with(databases: &[&str], days: &[u32]) -> String {
    let bucket = s3().create_bucket("several");
    for database in databases {
        put_backups(&bucket, &sub_path::of(database), database, days);
    }
    bucket
}

/// A command on the databases of `pg`.
fn program(bucket: &str, databases: &str, command: &str) -> Program {
    s3_program(bucket).env("S3_PATH", "pg").env("BACKUP_DATABASES", databases).arg(command)
}

fn url(bucket: &str, database: &str, name: &str) -> String {
    format!("s3://{bucket}/pg/{}/{name}", sub_path::of(database))
}

#[track_caller]
fn json(outcome: &Outcome) -> Value {
    serde_json::from_slice(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {}", outcome.stdout_text()))
}

/// It fails so, and says these words.
#[track_caller]
fn assert_refused(program: &Program, code: i32, words: &[&str]) {
    let outcome = program.run();
    outcome.assert_code(code);
    assert!(words.iter().all(|word| outcome.stderr.contains(word)), "{words:?}: {}", outcome.stderr);
}

/// Databases of a server, each with a table that has its name, and a backup of each.
struct Server {
    databases: Vec<Database>,
    bucket: String,
    /// What all names begin with.
    prefix: String,
}

impl Server {
    /// Databases with these endings, backed up in one run.
    fn backed_up(endings: &[&str]) -> Self {
        // With an end, or the pattern of the first test would mean the databases of the tenth too.
        let (prefix, bucket) = (unique_name("many") + "_", s3().create_bucket("several"));
        let mut server = Self { databases: Vec::new(), bucket, prefix };
        for ending in endings {
            server.create(ending);
        }
        server.program("backup").args(["--database-jobs", "4"]).run().assert_code(0);
        server
    }

    fn create(&mut self, ending: &str) {
        let name = format!("{}{ending}", self.prefix);
        let create = format!("CREATE DATABASE \"{}\" TEMPLATE template0", name.replace('"', "\"\""));
        postgres().psql("postgres", &create).expect("a database");
        let database = postgres().adopt_database(&name);
        let text = name.replace('\'', "''");
        database.psql(&format!("CREATE TABLE t AS SELECT '{text}' AS name")).expect("a table");
        self.databases.push(database);
    }

    /// A command on those databases of the server that have the prefix.
    fn program(&self, command: &str) -> Program {
        program(&self.bucket, &format!("{}*", self.prefix), command)
            .env("POSTGRES_CONNECTION_STRING", postgres().uri("postgres"))
    }

    fn name(&self, ending: &str) -> String {
        format!("{}{ending}", self.prefix)
    }

    /// The key of a database's only backup.
    fn key(&self, ending: &str) -> String {
        let path = format!("pg/{}/", sub_path::of(&self.name(ending)));
        let keys = s3().keys(&self.bucket, &path.replace('%', "%25"));
        keys.into_iter().find(|key| key.ends_with(".sql.gz") && !key.contains("globals")).expect("a backup")
    }
}
