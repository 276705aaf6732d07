//! Databases and dumps in other encodings than UTF-8: restored by several sessions and in parts, or refused with what to do.

use std::fs;

use super::parallel::{restored_by, sorted};
use super::selective::dumped;
use super::{FAILED, assert_same, assert_untouched, empty, new_database, restore_program};
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::{postgres, s3};
use crate::support::setup::{assert_same_dump, backup_program, index, only_backup, plain, restored_into, s3_program};

const LATIN1: &str = "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'";

/// Runs SQL that is UTF-8.
#[track_caller]
fn run(database: &Database, sql: &str) {
    let mut psql = database.server().client("psql", &database.name);
    let output = psql.env("PGCLIENTENCODING", "UTF8").args(["-c", sql]).output().expect("psql");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_latin1_database_comes_back_by_several_sessions_and_in_parts() {
    let latin1 = |hint| postgres().create_database_with(hint, LATIN1);
    let source = latin1("latin1");
    run(
        &source,
        "CREATE SCHEMA grün; CREATE TABLE grün.größe (id serial PRIMARY KEY, straße text); \
         INSERT INTO grün.größe (straße) SELECT 'ä\\' || g || 'ß' FROM generate_series(1, 500) g; \
         CREATE INDEX über ON grün.größe (straße); COMMENT ON TABLE grün.größe IS 'äöü'; \
         CREATE TABLE groß AS SELECT g AS zähler, repeat('ÿþ', 40) AS wörter FROM generate_series(1, 250000) g; \
         CREATE INDEX groß_zähler ON groß (zähler)",
    );
    let bucket = s3().create_bucket("latin1");
    backup_program(&source, &bucket).run().assert_code(0);
    let key = only_backup(&bucket);
    // A restart point is inside rows of which the statement is not UTF-8.
    assert!(
        index(&bucket, &key)
            .entries
            .iter()
            .any(|entry| entry.copy.as_ref().is_some_and(|copy| copy.statement64.is_some()))
    );
    let by_hand = restored_into(latin1("by_hand"), &plain(&bucket, &key));
    let made = restored_by(&bucket, postgres(), 4);
    assert_same_dump(sorted(&by_hand).as_bytes(), sorted(&made).as_bytes());

    let flags = ["--encoding=UTF8", "-n", "gr*"];
    let expected = dumped(&source, &flags);
    for pattern in [["--table", "grün.größe"], ["--schema", "gr?n"]] {
        let target = latin1("target");
        restore_program(&bucket, &target).args(pattern).run().assert_code(0);
        assert_same_dump(&expected, &dumped(&target, &flags));
        let again = restore_program(&bucket, &target).args(pattern).run();
        assert!(again.assert_code(FAILED).stderr.contains("the target has "), "{}", again.stderr);
        let program = s3_program(&bucket).args(["restore", "--output", "part.sql"]).args(pattern);
        program.run().assert_code(0);
        let part = fs::read(program.home().join("part.sql")).expect("a file");
        assert_same_dump(&expected, &dumped(&restored_into(latin1("file"), &part), &flags));
    }
}

/// Characters of which the second byte is `\`.
const CLIENT_ONLY: [(&str, &str); 2] = [("SJIS", "ソ能表"), ("BIG5", "功許蓋")];

#[test]
fn a_dump_in_an_encoding_of_clients_alone_is_refused_and_its_file_is_right() {
    for (encoding, text) in CLIENT_ONLY {
        let source = empty("client_only");
        let sql = format!(
            "CREATE TABLE t (id int PRIMARY KEY, \"{text}\" text); INSERT INTO t SELECT g, '{text}' || g FROM generate_series(1, 99) g; \
             INSERT INTO t VALUES (100, '{text}'), (101, E'{text}\\n\\\\.'); COMMENT ON TABLE t IS '{text}'; CREATE TABLE \"{text}\" (a text DEFAULT '{text}'); \
             INSERT INTO \"{text}\" DEFAULT VALUES; CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$SELECT '{text}'::text$$"
        );
        run(&source, &sql);
        let bucket = s3().create_bucket("clientonly");
        let argument = format!("--encoding={encoding}");
        backup_program(&source, &bucket).env("PG_DUMP_ARGS", &argument).run().assert_code(0);

        let target = empty("target");
        let name = unique_name("made");
        let create = new_database::create(&bucket, postgres(), &name);
        for program in [
            restore_program(&bucket, &target),
            restore_program(&bucket, &target).args(["--table", "t"]),
            create.clone().args(["--jobs", "1"]),
            create.args(["--jobs", "4"]),
        ] {
            let outcome = program.run();
            outcome.assert_code(FAILED);
            for words in [&format!("the dump is in the encoding {encoding}"), "write it to a file with --output"] {
                assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
            }
            assert_untouched(&target, &outcome);
        }
        let count = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
        assert_eq!(postgres().psql("postgres", &count).as_deref(), Ok("0"));

        let file = |flags: &[&str]| {
            let program = s3_program(&bucket).args(["restore", "--output", "dump.sql"]).args(flags);
            program.run().assert_code(0);
            restored_into(empty("file"), &fs::read(program.home().join("dump.sql")).expect("a file"))
        };
        assert_same(&source, &file(&[]));
        let flags = ["-t", "t"];
        assert_same_dump(&dumped(&source, &flags), &dumped(&file(&["--table", "t"]), &flags));
    }
}
