//! What was backed up comes back the same, in one transaction of this program's.

use super::{
    FAILED, assert_same, assert_untouched, backed_up, bucket_with, dump_with, empty, restore_program,
    target_of_a_plain_role,
};
use crate::support::servers::{postgres, s3};
use crate::support::setup::{backup_program, only_backup, plain, repository_file, restored_into};

#[test]
fn brings_everything_back_as_psql_does() {
    let source = empty("everything");
    source.load(&repository_file("tests/fixtures/everything.sql")).expect("loaded");
    let bucket = s3().create_bucket("everything");
    backup_program(&source, &bucket).run().assert_code(0);
    let by_hand = restored_into(empty("by_hand"), &plain(&bucket, &only_backup(&bucket)));
    let target = empty("target");
    let outcome = restore_program(&bucket, &target).run();
    outcome.assert_code(0).assert_no_children_left();
    assert_same(&by_hand, &target);
    assert!(outcome.stderr.contains("as a superuser"), "{}", outcome.stderr);
}

#[test]
fn restores_a_backup_without_a_manifest_and_says_what_was_not_checked() {
    let bucket = bucket_with(&dump_with("CREATE TABLE public.t (a int);\nCOPY public.t (a) FROM stdin;\n7\n\\.\n"));
    let target = empty("target");
    let outcome = restore_program(&bucket, &target).arg("--json").run();
    outcome.assert_code(0);
    assert_eq!(target.psql("SELECT a FROM t").as_deref(), Ok("7"));
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout_text()).expect("JSON");
    assert_eq!((&report["rows"], &report["success"]), (&1.into(), &true.into()));
    assert!(report["unchecked"].as_str().is_some_and(|text| text.contains("sha256")), "{report}");
}

#[test]
fn names_everything_that_speaks_against_a_target_before_anything_is_sent() {
    let source = empty("source");
    source.psql("CREATE TABLE t (a int)").expect("a table");
    let role = crate::support::servers::database::unique_name("gone");
    source.psql(&format!("CREATE ROLE {role}; ALTER TABLE t OWNER TO {role}")).expect("a role");
    let bucket = s3().create_bucket("against");
    backup_program(&source, &bucket).run().assert_code(0);
    source.psql(&format!("ALTER TABLE t OWNER TO CURRENT_USER; DROP ROLE {role}")).expect("dropped");
    let target = postgres().create_database_with("latin", "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
    target.psql("CREATE SCHEMA a; CREATE TABLE a.t (b int); SELECT lo_create(0)").expect("objects");
    let before = target.dump();
    let outcome = restore_program(&bucket, &target).run();
    outcome.assert_code(FAILED);
    for words in
        ["is not empty (3 objects: schema a, relation a.t", "has the encoding LATIN1", &format!("the roles \"{role}\"")]
    {
        assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
    }
    assert_eq!(target.dump(), before);
}

#[test]
fn a_dry_run_changes_nothing() {
    let bucket = bucket_with(&dump_with("CREATE TABLE public.t (a int);"));
    let target = empty("target");
    let outcome = restore_program(&bucket, &target).arg("--dry-run").run();
    outcome.assert_code(0);
    assert_untouched(&target, &outcome);
}

#[test]
fn a_failing_statement_leaves_the_target_as_it_was_and_says_why() {
    let middle = "SELECT pg_catalog.lo_create('7');\nBEGIN;\nSELECT pg_catalog.lo_create('8');\nCOMMIT;\n\
                  CREATE TABLE public.t (a int);\nCOPY public.t (a) FROM stdin;\n1\nx\n\\.\n";
    let target = empty("target");
    let outcome = restore_program(&bucket_with(&dump_with(middle)), &target).run();
    outcome.assert_code(FAILED).assert_no_children_left();
    assert!(outcome.stderr.contains("invalid input syntax for type integer: \"x\""), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("the target is unchanged"), "{}", outcome.stderr);
    assert_untouched(&target, &outcome);
}

#[test]
fn restores_whatever_role_and_database_set() {
    let (_source, bucket) = backed_up("CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 1000) g");
    let target = empty("target");
    for setting in [
        "statement_timeout = '1s'",
        "standard_conforming_strings = off",
        "search_path = pg_catalog",
        "client_min_messages = debug1",
        "default_transaction_read_only = on",
    ] {
        target.psql(&format!("ALTER DATABASE \"{}\" SET {setting}", target.name)).expect("set");
    }
    restore_program(&bucket, &target).run().assert_code(0);
    assert_eq!(target.psql("SELECT count(*) FROM public.t").as_deref(), Ok("1000"));
}

#[test]
fn a_role_without_rights_is_told_what_to_do() {
    let (_source, bucket) = backed_up("CREATE TABLE t (a int)");
    let (_server, target, uri) = target_of_a_plain_role();
    let restore = || restore_program(&bucket, &target).env("RESTORE_CONNECTION_STRING", &uri);
    let outcome = restore().run();
    outcome.assert_code(FAILED);
    assert!(outcome.stderr.contains("--no-owner"), "{}", outcome.stderr);
    let outcome = restore().args(["--no-owner", "--no-privileges"]).run();
    outcome.assert_code(0);
    assert!(!outcome.stderr.contains("superuser"), "{}", outcome.stderr);
    assert_eq!(target.psql("SELECT tableowner FROM pg_tables WHERE tablename = 't'").as_deref(), Ok("app"));
}

#[test]
fn a_refused_connection_names_the_setting_of_the_target() {
    let bucket = bucket_with(&dump_with("CREATE TABLE public.t (a int);"));
    let target = empty("target");
    let program = restore_program(&bucket, &target).env("RESTORE_CONNECTION_STRING", postgres().uri("no_such_db"));
    let outcome = program.run();
    let words = "correct the database in RESTORE_CONNECTION_STRING or PGDATABASE";
    assert!(outcome.code != Some(0) && outcome.stderr.contains(words), "{}", outcome.stderr);
}
