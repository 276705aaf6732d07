//! What a restore leaves out, by wish or because the target cannot take it, is said.

use super::{assert_untouched, bucket_with, dump_with, empty, restore_program, target_of_a_plain_role};

const DUMP: &str = "SET statement_timeout = 0;\nSET no_such_setting = 0;\nCREATE TABLE public.log (a int);\n\
    ALTER TABLE public.log OWNER TO nobody_of_that_name;\nCOMMENT ON TABLE public.log IS 'x';\n\
    COPY public.log (a) FROM stdin;\n1\n2\n\\.\nCREATE TABLE public.t (a int);\nCOPY public.t (a) FROM stdin;\n3\n\\.\n\
    GRANT ALL ON TABLE public.t TO nobody_of_that_name;\n";

#[test]
fn leaves_out_owners_privileges_comments_and_rows() {
    let target = empty("target");
    let flags = ["--no-owner", "--no-privileges", "--no-comments", "--exclude-table-data", "lo?", "--json"];
    let outcome = restore_program(&bucket_with(&dump_with(DUMP)), &target).args(flags).run();
    outcome.assert_code(0);
    assert_eq!(target.psql("SELECT (SELECT count(*) FROM log), a FROM t").as_deref(), Ok("0|3"));
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout_text()).expect("JSON");
    let expected = [
        "1 owner",
        "1 statement about privileges",
        "1 comment",
        "the setting no_such_setting",
        "the rows of public.log",
    ];
    assert_eq!(report["left_out"], serde_json::json!(expected));
    // The counts are those of what was restored.
    assert_eq!((&report["rows"], &report["tables"]), (&1.into(), &1.into()), "{report:#}");
    assert!(outcome.stderr.contains("left out: the rows of public.log"), "{}", outcome.stderr);
}

#[test]
fn a_function_finds_its_search_path() {
    let middle = "CREATE FUNCTION public.one() RETURNS int LANGUAGE sql AS 'SELECT 1';\n\
        CREATE FUNCTION public.two() RETURNS int LANGUAGE sql AS 'SELECT one() + 1';\n\
        CREATE TABLE public.t (a int CHECK (a = public.two()));\nCOPY public.t (a) FROM stdin;\n2\n\\.\n";
    let bucket = bucket_with(&dump_with(middle));
    let target = empty("target");
    let outcome = restore_program(&bucket, &target).run();
    outcome.assert_code(super::FAILED);
    assert!(outcome.stderr.contains("--search-path public"), "{}", outcome.stderr);
    assert_untouched(&target, &outcome);
    restore_program(&bucket, &target).args(["--search-path", "public"]).run().assert_code(0);
    assert_eq!(target.psql("SELECT a FROM t").as_deref(), Ok("2"));
}

#[test]
fn leaves_out_the_comment_on_an_extension_of_others() {
    let (_server, target, uri) = target_of_a_plain_role();
    let middle =
        "CREATE EXTENSION IF NOT EXISTS plpgsql WITH SCHEMA pg_catalog;\nCOMMENT ON EXTENSION plpgsql IS 'x';\n";
    let outcome =
        restore_program(&bucket_with(&dump_with(middle)), &target).env("RESTORE_CONNECTION_STRING", uri).run();
    outcome.assert_code(0);
    assert!(outcome.stderr.contains("left out the comment on an extension"), "{}", outcome.stderr);
}
