//! `restore` into a database: what was backed up comes back the same, or the target is as it was.

mod damage;
mod database;
mod faults;
mod hostile;
mod left_out;
mod new_database;

use std::fs;
use std::io::Write as _;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::program::{Outcome, Program};
use crate::support::servers::database::Database;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{repository_file, s3_program};

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
    put(&bucket, &gzipped(dump.as_bytes()));
    bucket
}

/// Puts a backup's stored bytes.
pub fn put(bucket: &str, object: &[u8]) {
    s3().request("PUT", &format!("/{bucket}/{NAME}"), object).expect("put");
}

/// One gzip member.
pub fn gzipped(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("to memory");
    encoder.finish().expect("to memory")
}

/// Everything that a database holds beside what each has: a dump without its comments and settings.
#[track_caller]
pub fn assert_untouched(target: &Database, outcome: &Outcome) {
    let fresh = empty("fresh");
    assert_eq!(target.dump(), fresh.dump(), "{}", outcome.stderr);
}

/// The target holds what the source does, by a dump of each; `scripts/compare-dumps` says what differs.
#[track_caller]
pub fn assert_same(source: &Database, target: &Database) {
    let dir = tempfile::tempdir().expect("a directory");
    let paths = [source, target].map(|database| {
        let path = dir.path().join(&database.name);
        fs::write(&path, database.dump().expect("a dump")).expect("written");
        path
    });
    let output = Command::new(repository_file("scripts/compare-dumps")).args(&paths).output().expect("compared");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
