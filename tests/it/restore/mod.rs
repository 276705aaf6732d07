//! `restore` into a database: what was backed up comes back the same, or the target is as it was.

mod damage;
mod database;
mod encodings;
mod excluded;
mod faults;
mod field_cases;
mod forged;
mod hostile;
mod left_out;
pub mod new_database;
mod outcomes;
pub mod parallel;
mod replace;
mod restarts;
pub mod selective;
mod selective_size;
mod selective_zoo;
mod timescaledb;
mod together;
mod unusual;
mod versions;

use crate::support::program::{Outcome, Program};
use crate::support::servers::database::Database;
use crate::support::servers::{OwnPostgres, own_postgres, postgres, s3};
use crate::support::setup::{assert_same_dump, backup_program, gzipped, s3_program};
use crate::support::stored::put;

/// The exit code of a restore that failed.
pub const FAILED: i32 = 15;
/// The name of a backup that a test writes itself.
pub const NAME: &str = "postgres-backup-2026-11-23_02-00-00.sql.gz";

/// `restore` of the newest backup of a bucket into a database.
pub fn restore_program(bucket: &str, target: &Database) -> Program {
    s3_program(bucket).env("RESTORE_CONNECTION_STRING", target.uri()).arg("restore")
}

/// An empty database.
pub fn empty(hint: &str) -> Database {
    postgres().create_database(hint)
}

/// A plain dump with this in its middle, as `pg_dump` would begin and end it.
pub fn dump_with(middle: &str) -> String {
    format!(
        "--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n\
         SELECT pg_catalog.set_config('search_path', '', false);\n\n{middle}\n--\n-- PostgreSQL database dump complete\n--\n\n"
    )
}

/// A bucket with one backup of this plain dump, without a manifest.
pub fn bucket_with(dump: &str) -> String {
    let bucket = s3().create_bucket("restore");
    put(&bucket, NAME, &gzipped(dump.as_bytes()));
    bucket
}

/// Everything that a database holds beside what each has: a dump without its comments and settings.
#[track_caller]
pub fn assert_untouched(target: &Database, outcome: &Outcome) {
    let fresh = empty("fresh");
    assert_eq!(target.dump(), fresh.dump(), "{}", outcome.stderr);
}

/// The target holds what the source does, by a dump of each.
#[track_caller]
pub fn assert_same(source: &Database, target: &Database) {
    let [source, target] = [source, target].map(|database| database.dump().expect("a dump"));
    assert_same_dump(source.as_bytes(), target.as_bytes());
}

/// A database with this in it, and a bucket with its backup.
pub fn backed_up(sql: &str) -> (Database, String) {
    let source = empty("source");
    source.psql(sql).expect("objects");
    let bucket = s3().create_bucket("restore");
    backup_program(&source, &bucket).run().assert_code(0);
    (source, bucket)
}

/// A server with an empty database of a role without further rights, and its connection string.
pub fn target_of_a_plain_role() -> (OwnPostgres, Database, String) {
    let server = own_postgres(&[]);
    server.psql("postgres", "CREATE ROLE app LOGIN PASSWORD 'x'").expect("a role");
    let target = server.create_database("target");
    server.psql("postgres", &format!("ALTER DATABASE \"{}\" OWNER TO app", target.name)).expect("its owner");
    let uri = format!("postgresql://app:x@{}:{}/{}", server.host, server.port, target.name);
    (server, target, uri)
}
