//! What several sessions restore is what psql makes of the dump.

use super::zoo::load;
use super::{create, large, restored_by, sorted, zoo};
use crate::restore::empty;
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::{postgres, s3};
use crate::support::setup::{assert_same_dump, backup_program, only_backup, plain, restored_into};

/// Backs a database up, restores it by several sessions, and compares each with what psql makes of the dump.
#[track_caller]
fn assert_restores_the_same(source: &Database, jobs: &[usize]) {
    let bucket = s3().create_bucket("parallel");
    backup_program(source, &bucket).run().assert_code(0);
    let by_hand = restored_into(empty("by_hand"), &plain(&bucket, &only_backup(&bucket)));
    let expected = sorted(&by_hand);
    drop(by_hand);
    for jobs in jobs {
        let made = restored_by(&bucket, postgres(), *jobs);
        assert_same_dump(expected.as_bytes(), sorted(&made).as_bytes());
    }
}

#[test]
fn restores_everything() {
    let source = empty("source");
    load(&source, "tests/fixtures/everything.sql", &["-v", "big=0"]);
    assert_restores_the_same(&source, &[1, 2, 8]);
}

#[test]
fn restores_objects_that_depend_on_each_other() {
    assert_restores_the_same(&zoo(postgres()), &[1, 2, 8]);
}

#[test]
fn restores_other_forms_of_rows() {
    let source = zoo(postgres());
    for arguments in ["--rows-per-insert=7", "--load-via-partition-root", "--verbose --quote-all-identifiers"] {
        let bucket = s3().create_bucket("forms");
        backup_program(&source, &bucket).env("PG_DUMP_ARGS", arguments).run().assert_code(0);
        let by_hand = restored_into(empty("by_hand"), &plain(&bucket, &only_backup(&bucket)));
        let made = restored_by(&bucket, postgres(), 4);
        assert_same_dump(sorted(&by_hand).as_bytes(), sorted(&made).as_bytes());
    }
}

#[test]
fn restores_rows_that_are_cut_between_ranges() {
    assert_restores_the_same(&large(), &[2]);
}

/// `RESTORE_TABLES` is their number (`make test-versions`: 5,000, and more numbers of sessions).
#[test]
fn restores_many_tables() {
    let (tables, jobs) = match std::env::var("RESTORE_TABLES") {
        Ok(tables) => (tables, &[1, 2, 8][..]),
        Err(_) => ("1000".to_owned(), &[2][..]),
    };
    let source = empty("many");
    let make = format!(
        "DO $$ BEGIN FOR i IN 1..{tables} LOOP EXECUTE format('CREATE TABLE t%s (a int PRIMARY KEY, b text)', i); \
         EXECUTE format('INSERT INTO t%s VALUES (1, %L), (2, NULL)', i, i); \
         IF i % 7 = 0 THEN EXECUTE format('CREATE INDEX ON t%s (b)', i); END IF; \
         IF i % 9 = 0 THEN EXECUTE format('ALTER TABLE t%s ADD FOREIGN KEY (a) REFERENCES t%s', i, i - 1); END IF; \
         IF i % 50 = 0 THEN COMMIT; END IF; END LOOP; END $$"
    );
    source.psql(&make).expect("tables");
    assert_restores_the_same(&source, jobs);
}

#[test]
fn restores_bytes_of_no_encoding() {
    let source = postgres().create_database_with("ascii", "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'");
    let objects = "DO $$ BEGIN EXECUTE 'CREATE TABLE ' || quote_ident(convert_from('\\xe4f6', 'SQL_ASCII')) || ' (a text)'; \
        EXECUTE 'INSERT INTO ' || quote_ident(convert_from('\\xe4f6', 'SQL_ASCII')) || ' VALUES (convert_from(''\\xff41'', ''SQL_ASCII''))'; END $$; \
        CREATE TABLE t AS SELECT g, convert_from('\\xfc', 'SQL_ASCII') AS a FROM generate_series(1, 50) g";
    source.psql(objects).expect("rows");
    let bucket = s3().create_bucket("ascii");
    backup_program(&source, &bucket).run().assert_code(0);
    let made = restored_by(&bucket, postgres(), 4);
    let rows = "SELECT count(*), min(encode(convert_to(a, 'SQL_ASCII'), 'hex')) FROM t";
    assert_eq!(made.psql(rows).as_deref(), Ok("50|fc"));
    let odd =
        "SELECT relname::bytea, pg_relation_size(oid) > 0 FROM pg_class WHERE relname !~ '^[a-z]' AND relkind = 'r'";
    assert_eq!(made.psql(odd).as_deref(), Ok("\\xe4f6|t"));
}

#[test]
fn leaves_out_what_one_session_does() {
    let source = zoo(postgres());
    let bucket = s3().create_bucket("excluded");
    backup_program(&source, &bucket).run().assert_code(0);
    let flags = [
        ["--exclude-table", "zoo.sales*"],
        ["--exclude-table", "zoo.cc_child"],
        ["--exclude-table-data", "zoo.serials"],
        ["--exclude-schema", "x;*"],
    ];
    let restored = |jobs| {
        let name = unique_name("made");
        let program = create(&bucket, postgres(), (&name, jobs)).args(flags.iter().flatten());
        let outcome = program.args(["--no-owner", "--no-comments", "--exclude-table", "nothing*", "--json"]).run();
        outcome.assert_code(0);
        let mut report: serde_json::Value = serde_json::from_str(&outcome.stdout_text()).expect("JSON");
        let database = postgres().adopt_database(&name);
        for field in ["target", "duration"] {
            report.as_object_mut().expect("an object").remove(field);
        }
        let warned = outcome.stderr.lines().filter(|line| line.contains("nothing in the dump matches")).count();
        (report, warned, sorted(&database))
    };
    let (one, several) = (restored(1), restored(4));
    assert_eq!((&one.0, one.1), (&several.0, several.1));
    assert_same_dump(one.2.as_bytes(), several.2.as_bytes());
    assert!(!several.2.contains("sales"), "{}", several.2);
}
