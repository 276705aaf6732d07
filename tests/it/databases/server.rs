//! A server of its own with databases of odd names, and the backups of it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::program::Program;
use crate::support::servers::{OwnPostgres, own_postgres, s3};
use crate::support::setup::s3_program;

/// Names that a careless program would split, fold, cut, hide, or let leave their path.
pub const ODD_NAMES: [&str; 30] = [
    "app",
    "App",
    "APP",
    "app_test",
    "app test",
    " app",
    "app ",
    "app/test",
    "app.test",
    ".app",
    "..",
    ".",
    "-app",
    "--help",
    "all",
    "!app",
    "app,test",
    "app*",
    "'app'",
    "\"app\"",
    "a\\b",
    "%61pp",
    "app=1",
    "postgresql://app",
    "größe",
    "数据库",
    "$HOME",
    "`id`",
    "line\nbreak",
    "postgres-backup-2026-11-23_02-00-00.sql.gz",
];

/// A name of 63 bytes, PostgreSQL's limit.
pub fn longest_name() -> String {
    "ä".repeat(31) + "z"
}

/// An SQL identifier.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A server with a database of each name. Each has a table with its own name in it.
pub fn server_with(names: &[&str]) -> OwnPostgres {
    let server = own_postgres(&[]);
    for name in names {
        create(&server, name);
    }
    server
}

/// Creates a database with a table that holds the database's name.
pub fn create(server: &OwnPostgres, name: &str) {
    server.psql("postgres", &format!("CREATE DATABASE {} TEMPLATE template0", identifier(name))).expect("created");
    let fill = "CREATE TABLE own_name AS SELECT current_database()::text AS name";
    server.psql(name, fill).expect("filled");
}

/// `backup` of the databases that are meant, below the path `srv`.
pub fn backup_of(server: &OwnPostgres, bucket: &str, databases: &str) -> Program {
    let program = s3_program(bucket).env("POSTGRES_CONNECTION_STRING", server.uri("postgres"));
    program.env("BACKUP_DATABASES", databases).env("S3_PATH", "srv").arg("backup")
}

/// The reports of `--json` by database.
pub fn reports(stdout: &[u8]) -> BTreeMap<String, Value> {
    let report: Value = serde_json::from_slice(stdout).expect("JSON");
    let databases = report["databases"].as_array().expect("databases").iter();
    databases.map(|report| (report["database"].as_str().expect("a name").to_owned(), report.clone())).collect()
}

/// The key of an `s3://` URL.
pub fn key_of<'a>(bucket: &str, report: &'a Value) -> &'a str {
    let location = report["s3_location"].as_str().expect("a location");
    location.strip_prefix(&format!("s3://{bucket}/")).expect("in the bucket")
}

/// The keys below the path, without the server's own name.
pub fn keys(bucket: &str) -> Vec<String> {
    s3().keys(bucket, "srv/")
}
