//! Dumps that no `pg_dump` wrote: whoever can write to the bucket can plant one. Nothing of it is committed but by this
//! program, and psql runs no command of it.

use super::{FAILED, assert_untouched, bucket_with, dump_with, empty, restore_program};

/// Makes a table, and then tries to have it committed.
fn refused(middle: &str) -> String {
    let target = empty("target");
    let dump = dump_with(&format!("CREATE TABLE public.t (a int);\n{middle}\nSELECT 1/0;\n"));
    let outcome = restore_program(&bucket_with(&dump), &target).run();
    outcome.assert_code(FAILED).assert_no_children_left();
    assert_untouched(&target, &outcome);
    outcome.stderr
}

#[test]
fn refuses_transaction_statements_and_psql_commands() {
    let file = tempfile::tempdir().expect("a directory");
    let path = file.path().join("it");
    for middle in [
        "COMMIT ;".to_owned(),
        "commit;".to_owned(),
        "/**/ END;".to_owned(),
        "COMMIT AND CHAIN;".to_owned(),
        "PREPARE TRANSACTION 'a';".to_owned(),
        format!("\\! touch '{}'", path.display()),
        format!("SELECT 1 \\g '{}'", path.display()),
        "copy public.t from stdin;\n1\n\\.\n".to_owned(),
    ] {
        let stderr = refused(&middle);
        assert!(
            stderr.contains("which pg_dump does not write") || stderr.contains("no COPY as pg_dump writes it"),
            "{stderr}"
        );
        assert!(!path.exists(), "{middle}");
    }
}

#[test]
fn bare_transaction_statements_of_pg_dump_end_nothing() {
    let stderr = refused("BEGIN;\nCOMMIT;\nBEGIN;\nSELECT pg_catalog.lo_create('7');\nCOMMIT;\n");
    assert!(stderr.contains("division by zero"), "{stderr}");
}

#[test]
fn code_of_the_dump_cannot_have_psql_read_it_otherwise() {
    for (setting, value, hidden) in [
        ("standard_conforming_strings", "off", "SELECT ' \\' '; COMMIT; --';"),
        ("client_encoding", "SJIS", "SELECT '\u{0143}'; SELECT ' \u{0143}'; COMMIT; --';"),
    ] {
        let middle = format!("SELECT pg_catalog.set_config('{setting}', '{value}', false);\n{hidden}\n");
        let stderr = refused(&middle);
        assert!(!stderr.contains("no transaction in progress"), "{setting}: {stderr}");
    }
    let stderr = refused("SELECT E'a'\n--x\n' \\' '; COMMIT; --'\n;\n");
    assert!(stderr.contains("a string that goes on after E'…' on another line"), "{stderr}");
}

#[test]
fn rows_that_look_like_an_end_or_a_statement_are_rows() {
    let target = empty("target");
    let middle = "CREATE TABLE public.\"COMMIT; --\" (a text);\nCOPY public.\"COMMIT; --\" (a) FROM stdin;\n\
                  COMMIT;\n\\\\.\n\\\\! id\n\\.\n";
    restore_program(&bucket_with(&dump_with(middle)), &target).run().assert_code(0);
    let rows = target.psql("SELECT string_agg(a, ',') FROM \"COMMIT; --\"");
    assert_eq!(rows.as_deref(), Ok("COMMIT;,\\.,\\! id"));
}

#[test]
fn rows_that_the_server_does_not_count_are_not_restored() {
    // A trigger that drops each row: pg_dump makes triggers after the rows.
    let stderr = refused(
        "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';\n\
         CREATE TRIGGER g BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.f();\n\
         COPY public.t (a) FROM stdin;\n1\n2\n\\.\n",
    );
    assert!(stderr.contains("division by zero"), "{stderr}");
    let target = empty("target");
    let dump = dump_with(
        "CREATE TABLE public.t (a int);\nCREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';\n\
         CREATE TRIGGER g BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.f();\n\
         COPY public.t (a) FROM stdin;\n1\n2\n\\.\n",
    );
    let outcome = restore_program(&bucket_with(&dump), &target).run();
    outcome.assert_code(FAILED);
    assert!(outcome.stderr.contains("the server took 0 rows of 2 of public.t"), "{}", outcome.stderr);
    assert_untouched(&target, &outcome);
}

#[test]
fn what_a_dump_prints_is_no_answer_to_this_program() {
    let target = empty("target");
    // The server's own tag for COPY, and a word like those that end an answer.
    let middle = "SELECT '--- pg-s3-backup: end of answer 1';\nSELECT 'COPY 7';\n";
    let outcome = restore_program(&bucket_with(&dump_with(middle)), &target).run();
    outcome.assert_code(FAILED);
    assert_untouched(&target, &outcome);
}

/// What psql and the server do not read as this program does: each has a COMMIT that no reader of the dump sees.
#[test]
fn statements_that_psql_or_the_server_reads_otherwise_are_refused() {
    for hidden in [
        ":LAST_ERROR_MESSAGE COMMIT;",
        "SELECT E:LAST_ERROR_MESSAGE'\\'' ; COMMIT; --';",
        "CREATE SCHEMA begin;\nCREATE FUNCTION begin.atomic() RETURNS int LANGUAGE sql AS 'select 1'; COMMIT; SELECT 1 AS end;",
        "CREATE FUNCTION public.begin() RETURNS int LANGUAGE sql AS 'select 1';\n\
         COPY public.t (a) FROM stdin;\nCOMMIT; SELECT 1 AS end;\n1\n\\.\n",
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1 AS case; END; COMMIT; SELECT 1 AS end;",
    ] {
        let stderr = refused(hidden);
        assert!(!stderr.contains("division by zero"), "{stderr}");
    }
    refused(
        "SET standard_conforming_strings = off;\nCREATE TABLE IF NOT EXISTS public.t (a text DEFAULT B'\\'); COMMIT; --');",
    );
}

#[test]
fn a_copy_that_takes_no_rows_of_psql_is_refused() {
    let stderr = refused(
        "CREATE TABLE public.u (stdin text);\n\
         COPY public.u (stdin) FROM '/dev/null' WHERE stdin IS DISTINCT FROM stdin;\nCOMMIT;\nSELECT 1/0;\n\\.\n",
    );
    assert!(stderr.contains("no COPY as pg_dump writes it"), "{stderr}");
}

#[test]
fn an_encoding_in_which_a_character_may_hold_a_quote_is_refused_by_any_name() {
    for name in ["WIN936", "s-j_i_s", "windows950"] {
        let stderr = refused(&format!("SET client_encoding = '{name}';\n"));
        assert!(stderr.contains("the dump is in the encoding"), "{stderr}");
    }
}
