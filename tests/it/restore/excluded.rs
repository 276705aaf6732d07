//! `--exclude-table` and `--exclude-schema` leave out what `pg_dump -T` and `-N` would, and what would fail without it.

use super::{FAILED, NAME, assert_same, assert_untouched, backed_up, bucket_with, dump_with, empty, restore_program};
use crate::support::proxy::FaultProxy;
use crate::support::servers::database::Database;
use crate::support::servers::s3;
use crate::support::setup::{backup_program, gzipped, repository_file, restored_into};
use crate::support::stored::put;

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
        if arguments.contains(&"--load-via-partition-root") {
            let target = empty("target");
            let outcome = restore_program(&bucket, &target).args(["--exclude-table", "root"]).run();
            outcome.assert_code(FAILED);
            assert!(outcome.stderr.contains("rows of a partition that is restored"), "{}", outcome.stderr);
            assert_untouched(&target, &outcome);
            let flags = ["--exclude-table", "root", "--exclude-table", "one", "--exclude-table", "two"];
            restore_program(&bucket, &empty("nothing")).args(flags).run().assert_code(0);
        }
        let target = empty("target");
        restore_program(&bucket, &target).args(["--exclude-table-data", "one"]).run().assert_code(0);
        assert_eq!(target.psql("SELECT count(*) FROM root").as_deref(), Ok("1"), "{arguments:?}");
    }
}

/// The tables and their rows.
fn rows(target: &Database) -> String {
    let counts = "SELECT string_agg(format('%s.%s:%s', n.nspname, left(c.relname, 9), \
        (xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM %I.%I', n.nspname, c.relname), false, true, '')))[1]), ' ' \
        ORDER BY n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.relkind = 'r' AND n.nspname IN ('public', 's2')";
    target.psql(counts).expect("counts")
}

#[test]
fn a_pattern_without_a_dot_means_names_and_one_with_a_dot_both_parts() {
    let (_source, bucket) = backed_up(
        "CREATE SCHEMA s2; CREATE TABLE orders AS SELECT 1; CREATE TABLE pets AS SELECT 1; CREATE TABLE s2.a AS SELECT 1",
    );
    for (flag, pattern, expected) in [
        ("--exclude-table", "p*", "public.orders:1 s2.a:1"),
        ("--exclude-table-data", "s*", "public.orders:1 public.pets:1 s2.a:1"),
        ("--exclude-table-data", "s2.*", "public.orders:1 public.pets:1 s2.a:0"),
        ("--exclude-table", "*.pets", "public.orders:1 s2.a:1"),
    ] {
        let target = empty("target");
        restore_program(&bucket, &target).args([flag, pattern]).run().assert_code(0);
        assert_eq!(rows(&target), expected, "{flag} {pattern}");
    }
}

#[test]
fn a_name_that_reads_like_another_entry_costs_no_rows() {
    let (_source, bucket) = backed_up(
        "CREATE TABLE secret AS SELECT 1; CREATE SCHEMA s2; \
         CREATE TABLE s2.\"secret; Type: TABLE DATA; Schema: public; Owner: x\" AS SELECT generate_series(1, 2)",
    );
    let target = empty("target");
    restore_program(&bucket, &target).args(["--exclude-table", "public.secret"]).run().assert_code(0);
    assert_eq!(rows(&target), "s2.secret; T:2");
}

#[test]
fn a_long_comment_follows_its_sequence() {
    let comment = "x".repeat(300_000);
    let bucket = bucket_with(&dump_with(&format!(
        "CREATE TABLE public.t (a int);\nCREATE SEQUENCE public.q;\nCOMMENT ON SEQUENCE public.q IS '{comment}';\n\
         ALTER SEQUENCE public.q OWNED BY public.t.a;\n"
    )));
    let target = empty("target");
    restore_program(&bucket, &target).args(["--exclude-table", "other"]).run().assert_code(0);
    assert_eq!(target.psql("SELECT length(obj_description('q'::regclass))").as_deref(), Ok("300000"));
}

#[test]
fn names_in_another_encoding_stay_different() {
    let mut dump = dump_with(
        "CREATE TABLE public.audit (a int);\nALTER TABLE public.audit ALTER COLUMN a SET NOT NULL;\n\
         CREATE INDEX \"#1\" ON public.audit (a);\nCREATE TABLE public.\"#2\" (a int);\nCOPY public.\"#2\" (a) FROM stdin;\n1\n\\.\n\
         CREATE INDEX i ON public.\"#2\" (a);\n",
    )
    .replace("'UTF8'", "'LATIN1'")
    .into_bytes();
    // Letters outside ASCII in LATIN1.
    for at in 0..dump.len() - 1 {
        match &dump[at..at + 2] {
            b"#1" => dump[at] = 0xe4,
            b"#2" => dump[at] = 0xf6,
            _ => continue,
        }
        dump[at + 1] = b'e';
    }
    let bucket = s3().create_bucket("latin1");
    put(&bucket, NAME, &gzipped(&dump));
    let target = empty("target");
    restore_program(&bucket, &target).args(["--exclude-table", "audit"]).run().assert_code(0);
    assert_eq!(rows(&target), "public.öe:1");
}

/// The preconditions are checked twice.
#[test]
fn the_index_is_downloaded_once() {
    let (_source, bucket) = backed_up("CREATE TABLE t (a int); CREATE TABLE u (a int)");
    let (proxy, target) = (FaultProxy::start(s3().addr()), empty("target"));
    let restore = restore_program(&bucket, &target).env("S3_URL", proxy.url());
    restore.args(["--exclude-table", "u"]).run().assert_code(0);
    let requests = proxy.log().into_iter().filter(|seen| seen.key().contains(".index.")).count();
    assert_eq!(requests, 1, "{:#?}", proxy.log());
}
