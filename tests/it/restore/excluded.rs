//! `--exclude-table` and `--exclude-schema` leave out what `pg_dump -T` and `-N` would, and what would fail without it.

use super::{FAILED, assert_same, assert_untouched, backed_up, empty, restore_program};
use crate::support::servers::database::Database;
use crate::support::servers::s3;
use crate::support::setup::{backup_program, repository_file, restored_into};

/// A database with this dump of another one.
fn dumped(source: &Database, flags: &[&str]) -> Database {
    let output = source.server().client("pg_dump", &source.name).args(flags).output().expect("pg_dump");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    restored_into(empty("by_pg_dump"), &output.stdout)
}

/// Everything, and a foreign key to a table that is left out.
fn everything() -> Database {
    let source = empty("everything");
    let mut psql = source.server().client("psql", &source.name);
    let loaded = psql.args(["-v", "big=0", "-f"]).arg(repository_file("tests/fixtures/everything.sql")).output();
    assert!(loaded.expect("psql").status.success());
    let own = "CREATE TABLE keeps (shop int, no int, CONSTRAINT lost FOREIGN KEY (shop, no) REFERENCES item); \
        COMMENT ON CONSTRAINT lost ON keeps IS 'x'; CREATE SCHEMA other; CREATE TABLE other.texts (id serial)";
    source.psql(own).expect("a foreign key");
    source
}

fn left_out(report: &str) -> Vec<String> {
    let report: serde_json::Value = serde_json::from_str(report).expect("JSON");
    let phrases = report["left_out"].as_array().expect("an array").iter();
    phrases.map(|phrase| phrase.as_str().expect("a text").to_owned()).collect()
}

#[test]
fn leaves_out_what_pg_dump_would() {
    let source = everything();
    let bucket = s3().create_bucket("excluded");
    backup_program(&source, &bucket).run().assert_code(0);
    // A dump of pg_dump has the foreign key, and cannot be restored.
    source.psql("ALTER TABLE keeps DROP CONSTRAINT lost").expect("dropped");

    let flags = [
        "-T",
        "events_2026*",
        "-T",
        "\"two\nlines; DROP TABLE x; --\"",
        "-T",
        "\"-- PostgreSQL database dump complete\"",
        "-T",
        "public.texts",
    ];
    let views = ["-T", "item*", "-T", "cheap*", "-T", "*sums", "-T", "\"Seq; ž\"", "-N", "\"S\"ch*", "-T", "huge"];
    let reference = dumped(&source, &[&flags[..], &views].concat());
    let target = empty("target");
    let outcome = restore_program(&bucket, &target)
        .args(["--json", "--exclude-table", "events_2026*", "--exclude-table", "two?lines; DROP TABLE x; --"])
        .args(["--exclude-table=-- PostgreSQL*", "--exclude-table", "public.texts", "--exclude-schema", "Sch*"])
        .args(["--exclude-table", "item*", "--exclude-table", "cheap*", "--exclude-table", "*sums"])
        .args(["--exclude-table", "huge", "--exclude-table", "no such table"])
        .run();
    outcome.assert_code(0);
    assert_same(&reference, &target);
    let left_out = left_out(&outcome.stdout_text());
    let tables = left_out.iter().find(|phrase| phrase.starts_with("the tables ")).expect("tables");
    for table in ["public.texts", "public.\"two\nlines; DROP TABLE x; --\"", "public.events_2026_h0", "public.cheaper"]
    {
        assert!(tables.contains(table), "{table}: {tables}");
    }
    assert!(left_out.contains(&"the foreign key lost of public.keeps".to_owned()), "{left_out:?}");
    assert!(left_out.iter().any(|phrase| phrase == "the schema \"Schéma; \"\"odd\"\" $$ 'name'\""), "{left_out:?}");
    assert!(outcome.stderr.contains("left out: the schema "), "{}", outcome.stderr);
    for words in ["left out a foreign key", "lost of public.keeps", "nothing in the dump matches", "no such table"] {
        assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
    }

    let detached = ["public.events_2025", "public.events_2026", "public.events_old", "app.events_default"];
    for partition in detached {
        source.psql(&format!("ALTER TABLE events DETACH PARTITION {partition}")).expect("pg_dump attaches it");
    }
    let reference = dumped(&source, &["-N", "app", "-T", "events", "-T", "other.texts"]);
    reference.psql("DROP SEQUENCE other.texts_id_seq").expect("pg_dump keeps it");
    let target = empty("target");
    let flags = ["--exclude-schema", "a?p", "--exclude-table", "events", "--exclude-table", "other.*"];
    restore_program(&bucket, &target).args(flags).run().assert_code(0);
    target.psql("ALTER TABLE keeps DROP CONSTRAINT lost").expect("it is there");
    assert_same(&reference, &target);
}

#[test]
fn names_what_needs_a_table_that_is_left_out() {
    let (_source, bucket) = backed_up(
        "CREATE TABLE log (a int); CREATE TABLE t (a int); CREATE VIEW \"its view\" AS SELECT a FROM log; CREATE VIEW v AS SELECT a FROM t",
    );
    let target = empty("target");
    let outcome = restore_program(&bucket, &target).args(["--exclude-table", "log"]).run();
    outcome.assert_code(FAILED);
    let words = "CREATE VIEW public.\\\"its view\\\" AS";
    assert!(outcome.stderr.contains("needs public.log, which is left out"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(words) || outcome.stderr.contains("its view"), "{}", outcome.stderr);
    assert_untouched(&target, &outcome);
    let flags = ["--exclude-table", "log", "--exclude-table", "its*"];
    restore_program(&bucket, &target).args(flags).run().assert_code(0);
    assert_eq!(
        target
            .psql("SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 'public'::regnamespace")
            .as_deref(),
        Ok("t v")
    );
}

#[test]
fn leaves_out_rows_of_a_partition_whatever_statement_brings_them() {
    let source = empty("source");
    let sql = "CREATE TABLE root (a int, b text) PARTITION BY LIST (a); CREATE TABLE one PARTITION OF root FOR VALUES IN (1); \
        CREATE TABLE two PARTITION OF root FOR VALUES IN (2); INSERT INTO root VALUES (1, 'x'), (1, 'y'), (2, repeat('z', 300000))";
    source.psql(sql).expect("partitions");
    for arguments in
        [["--load-via-partition-root"].as_slice(), &["--load-via-partition-root", "--inserts"], &["--inserts"]]
    {
        let bucket = s3().create_bucket("partitions");
        backup_program(&source, &bucket).arg("--").args(arguments).run().assert_code(0);
        for (flag, expected) in [("--exclude-table", "1:2"), ("--exclude-table-data", "1:2")] {
            let target = empty("target");
            restore_program(&bucket, &target).args([flag, "two"]).run().assert_code(0);
            let rows = target.psql(
                "SELECT string_agg(concat(a, ':', n), ' ') FROM (SELECT a, count(*) AS n FROM root GROUP BY a) r",
            );
            assert_eq!(rows.as_deref(), Ok(expected), "{arguments:?} {flag}");
        }
        let target = empty("target");
        restore_program(&bucket, &target).args(["--exclude-table-data", "one"]).run().assert_code(0);
        assert_eq!(target.psql("SELECT count(*) FROM root").as_deref(), Ok("1"), "{arguments:?}");
    }
}
