//! An extension with tables of which the rows are in a dump (`pg_extension_config_dump`), with foreign keys between them and to them.
//!
//! No package has one that PostgreSQL 15 and 18 both have, so the server gets one that this test writes: in a directory that stands in
//! the place of the server's own, for this server alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{restored_by, sorted};
use crate::globals::clients;
use crate::support::servers::restarted::{Restarted, Shutdown};
use crate::support::servers::{Postgres, own_postgres, s3};
use crate::support::setup::{assert_same_dump, backup_program, only_backup, plain, restored_into};

const CONTROL: &str = "comment = 'tables with rows'\ndefault_version = '1.0'\nrelocatable = false\n";
/// The table that refers to others comes first in the alphabet.
const SCRIPT: &str =
    "CREATE TABLE @extschema@.z_kind (id int PRIMARY KEY, name text, parent int REFERENCES @extschema@.z_kind);
CREATE TABLE @extschema@.a_thing (id serial PRIMARY KEY, kind int REFERENCES @extschema@.z_kind, note text);
CREATE INDEX ON @extschema@.a_thing (note);
CREATE TABLE @extschema@.setting (name text PRIMARY KEY, value text);
INSERT INTO @extschema@.setting VALUES ('built in', 'x');
CREATE TABLE @extschema@.silent (a int);
SELECT pg_catalog.pg_extension_config_dump('@extschema@.z_kind', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.a_thing', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.a_thing_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.setting', $$WHERE name <> 'built in'$$);
";
const ROWS: &str = "CREATE SCHEMA ext; CREATE EXTENSION stand_in SCHEMA ext; \
    INSERT INTO ext.z_kind SELECT g, 'k' || g, nullif(g - 1, 0) FROM generate_series(1, 300) g; \
    INSERT INTO ext.a_thing (kind, note) SELECT 1 + g % 300, md5(g::text) FROM generate_series(1, 3000) g; \
    INSERT INTO ext.setting VALUES ('mine', 'y'); INSERT INTO ext.silent VALUES (1); \
    CREATE TABLE a_mine (id int PRIMARY KEY, kind int REFERENCES ext.z_kind, thing int REFERENCES ext.a_thing); \
    INSERT INTO a_mine SELECT g, 1 + g % 300, g FROM generate_series(1, 3000) g; \
    CREATE FUNCTION known(int) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM ext.z_kind WHERE id = $1)'; \
    CREATE TABLE zz_checked (kind int CHECK (public.known(kind))); INSERT INTO zz_checked SELECT g FROM generate_series(1, 300) g; \
    CREATE TABLE other AS SELECT g AS a, md5(g::text) AS b FROM generate_series(1, 2000) g";

/// A copy of the server's directory of extensions, with one more.
fn extensions(place: &Path) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let copied = directory.path().join("extension");
    assert!(Command::new("cp").arg("-a").args([place, &copied]).status().expect("cp").success());
    std::fs::write(copied.join("stand_in.control"), CONTROL).expect("written");
    std::fs::write(copied.join("stand_in--1.0.sql"), SCRIPT).expect("written");
    directory
}

fn restores_the_same(major: &str) {
    let own = own_postgres(&["--major", major]);
    let question = "SELECT setting FROM pg_config WHERE name = 'SHAREDIR'";
    let place = PathBuf::from(own.psql("postgres", question).expect("its directory")).join("extension");
    let directory = extensions(&place);
    let restarted = Restarted(&own);
    restarted.stop(Shutdown::Fast);
    restarted.start_with_directory(&place, &directory.path().join("extension"));
    let server = Postgres { bin: clients(major), ..(*own).clone() };
    let source = server.create_database("extended");
    source.psql(ROWS).expect("objects");
    let bucket = s3().create_bucket("extended");
    let path = format!("{}:/usr/bin:/bin", server.bin.display());
    backup_program(&source, &bucket).env("PATH", path).run().assert_code(0);
    let dump = plain(&bucket, &only_backup(&bucket));
    assert!(memchr::memmem::find(&dump, b"COPY ext.a_thing ").is_some());
    let by_hand = restored_into(server.create_database("by_hand"), &dump);
    let facts = "SELECT (SELECT count(*) FROM ext.z_kind), (SELECT count(*) FROM ext.a_thing), nextval('ext.a_thing_id_seq'), \
        (SELECT string_agg(value, ' ' ORDER BY name) FROM ext.setting), (SELECT count(*) FROM ext.silent), (SELECT count(*) FROM zz_checked)";
    let expected = sorted(&by_hand);
    for jobs in [1, 2, 8] {
        let made = restored_by(&bucket, &server, jobs);
        assert_same_dump(expected.as_bytes(), sorted(&made).as_bytes());
        assert_eq!(made.psql(facts).as_deref(), Ok("300|3000|3001|x y|0|300"), "{major}, {jobs} jobs");
    }
}

#[test]
fn rows_of_an_extension_come_back_in_the_order_of_the_dump() {
    std::thread::scope(|scope| {
        for major in ["15", "18"] {
            scope.spawn(move || restores_the_same(major));
        }
    });
}
