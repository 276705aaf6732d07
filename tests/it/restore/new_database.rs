//! `--create-db`: a database of that name is complete, or not there.

use super::parallel::sorted;
use super::{FAILED, backed_up, bucket_with, dump_with, empty, restore_program};
use crate::restore::faults::SLOW;
use crate::restore_commands::{MANY, archive, small_server};
use crate::support::client::eventually;
use crate::support::program::Program;
use crate::support::servers::database::unique_name;
use crate::support::servers::restarted::{Restarted, Shutdown};
use crate::support::servers::{Postgres, own_postgres, postgres, s3};
use crate::support::setup::{
    assert_same_dump, backup_program, only_backup, plain, repository_file, restored_into, s3_program,
};

/// `restore --create-db` on a server.
pub fn create(bucket: &str, server: &Postgres, name: &str) -> Program {
    s3_program(bucket).env("RESTORE_CONNECTION_STRING", server.uri("postgres")).args(["restore", "--create-db", name])
}

/// Databases of this name, and scratch databases, on a server.
pub fn databases(server: &Postgres, name: &str) -> String {
    let question = format!(
        "SELECT coalesce(string_agg(regexp_replace(datname, '[0-9a-f]{{16}}$', ''), ' '), '') FROM pg_database \
         WHERE datname = '{name}' OR datname LIKE 'pg_s3_restore_%'"
    );
    server.psql("postgres", &question).expect("listed")
}

#[test]
fn makes_a_database_with_everything_and_its_own_settings() {
    let source = empty("everything");
    source.load(&repository_file("tests/fixtures/everything.sql")).expect("loaded");
    source.psql(&format!("ALTER DATABASE \"{}\" SET work_mem = '9MB'", source.name)).expect("set");
    source.psql(&format!("COMMENT ON DATABASE \"{}\" IS 'ours'", source.name)).expect("set");
    let bucket = s3().create_bucket("everything");
    backup_program(&source, &bucket).run().assert_code(0);
    let by_hand = restored_into(empty("by_hand"), &plain(&bucket, &only_backup(&bucket)));
    let name = unique_name("made");
    let outcome = create(&bucket, postgres(), &name).run();
    outcome.assert_code(0).assert_no_children_left();
    let made = postgres().adopt_database(&name);
    // Several sessions load rows in another order.
    assert_same_dump(sorted(&by_hand).as_bytes(), sorted(&made).as_bytes());
    let settings = made.psql(
        "SELECT setconfig, shobj_description(d.oid, 'pg_database') FROM pg_db_role_setting s \
         JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database()",
    );
    assert_eq!(settings.as_deref(), Ok("{work_mem=9MB}|ours"), "{}", outcome.stderr);
    let again = create(&bucket, postgres(), &name).run();
    again.assert_code(FAILED);
    assert!(again.stderr.contains("it exists: use --replace"), "{}", again.stderr);
}

#[test]
fn a_failure_or_a_signal_leaves_no_database() {
    let server = own_postgres(&[]);
    let failing = bucket_with(&dump_with("CREATE TABLE public.t (a int);\nSELECT 1/0;\n"));
    let outcome = create(&failing, &server, "made").run();
    outcome.assert_code(FAILED);
    assert!(outcome.stderr.contains("division by zero"), "{}", outcome.stderr);
    assert_eq!(databases(&server, "made"), "");
    let dry = create(&failing, &server, "made").arg("--dry-run").run();
    dry.assert_code(0);
    assert_eq!(databases(&server, "made"), "");

    let running = create(&bucket_with(&dump_with(SLOW)), &server, "made").spawn();
    let question =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND datname LIKE 'pg_s3_restore_%'";
    eventually(|| server.psql("postgres", question).as_deref() == Ok("1"), || running.stderr_so_far());
    running.signal("TERM");
    let outcome = running.wait();
    outcome.assert_code(143).assert_no_children_left();
    assert_eq!(databases(&server, "made"), "", "{}", outcome.stderr);
}

#[test]
fn a_killed_restore_leaves_no_database_of_the_name_and_the_next_one_names_what_it_left() {
    let server = own_postgres(&[]);
    let running = create(&bucket_with(&dump_with(SLOW)), &server, "made").spawn();
    let question =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND datname LIKE 'pg_s3_restore_%'";
    eventually(|| server.psql("postgres", question).as_deref() == Ok("1"), || running.stderr_so_far());
    running.signal("KILL");
    drop(running.wait());
    assert_eq!(databases(&server, "made"), "pg_s3_restore_");
    // The lock is free when the server has noticed that its session is gone.
    let next = create(&bucket_with(&dump_with("CREATE TABLE public.t (a int);")), &server, "made");
    let mut said = String::new();
    eventually(
        || {
            said = next.run().assert_code(0).stderr.clone();
            server.psql("postgres", "DROP DATABASE made").expect("dropped");
            said.contains("a scratch database of an earlier restore exists") && said.contains("DROP DATABASE")
        },
        || "it was not named".to_owned(),
    );
}

#[test]
fn keeps_a_failed_scratch_database_where_that_is_wanted() {
    let server = own_postgres(&[]);
    let failing = bucket_with(&dump_with("CREATE TABLE public.t (a int);\nSELECT 1/0;\n"));
    let outcome = create(&failing, &server, "made").arg("--keep-failed").run();
    outcome.assert_code(FAILED);
    assert_eq!(databases(&server, "made"), "pg_s3_restore_", "{}", outcome.stderr);
}

#[test]
fn replaces_a_database_that_is_in_use_and_keeps_the_old_one() {
    let (_source, bucket) = backed_up("CREATE TABLE t AS SELECT 7 AS a");
    let old = empty("old");
    old.psql("CREATE TABLE o AS SELECT 8 AS a").expect("a table");
    let mut session = crate::support::session::Session::open(&old);
    session.run("SELECT 1");
    let outcome = create(&bucket, postgres(), &old.name).args(["--replace", "--json"]).run();
    outcome.assert_code(0);
    assert_eq!(old.psql("SELECT a FROM t").as_deref(), Ok("7"));
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout_text()).expect("JSON");
    let before = report["replaced"].as_str().expect("its new name");
    assert!(before.starts_with(&format!("{}_before_", old.name)), "{report}");
    assert!(outcome.stderr.contains(&format!("replaced=\"{before}\"")), "{}", outcome.stderr);
    postgres().psql("postgres", &format!("ALTER DATABASE \"{before}\" ALLOW_CONNECTIONS true")).expect("opened");
    assert_eq!(postgres().psql(before, "SELECT a FROM o").as_deref(), Ok("8"));
}

#[test]
fn a_server_of_few_locks_takes_a_dump_of_many_objects_into_a_database_of_its_own() {
    let role = unique_name("role");
    let source = archive(&role);
    let bucket = s3().create_bucket("many");
    backup_program(&source, &bucket).run().assert_code(0);
    let server = small_server();
    let restarted = Restarted(&server);
    restarted.stop(Shutdown::Fast);
    restarted.start();
    let options = "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'";
    let target = server.create_database_with("target", options);
    let flags = ["--no-owner", "--no-privileges"];
    let refused = restore_program(&bucket, &target).args(flags).run();
    refused.assert_code(FAILED);
    assert!(refused.stderr.contains("--create-db"), "{}", refused.stderr);
    // An owner needs a lock for each large object. The table with text has a TOAST table.
    let refused = restore_program(&bucket, &target).arg("--create-roles").run();
    let words = format!("creates {} relations and {MANY} large objects", MANY + 4);
    assert!(refused.assert_code(FAILED).stderr.contains(&words), "{words}: {}", refused.stderr);
    let wanted = refused.stderr.split("set max_locks_per_transaction to ").nth(1).expect("what to do");
    let wanted: String = wanted.chars().take_while(char::is_ascii_digit).collect();
    let outcome = create(&bucket, &server, "made").args(flags).run();
    outcome.assert_code(0);
    let count = "SELECT count(*) FROM pg_largeobject_metadata";
    assert_eq!(server.psql("made", count), Ok(MANY.to_string()));

    server.psql("postgres", &format!("ALTER SYSTEM SET max_locks_per_transaction = {wanted}")).expect("set");
    restarted.stop(Shutdown::Fast);
    restarted.start();
    restore_program(&bucket, &target).arg("--create-roles").run().assert_code(0);
    assert_eq!(target.psql(count), Ok(MANY.to_string()));
}

#[test]
fn brings_the_roles_to_an_empty_server() {
    let (role, group) = (unique_name("role"), unique_name("group"));
    let source = empty("source");
    source
        .psql(&format!(
            "CREATE ROLE {group}; CREATE ROLE {role} LOGIN PASSWORD 'x' IN ROLE {group}; CREATE TABLE t (a int)"
        ))
        .expect("roles");
    source.psql(&format!("ALTER TABLE t OWNER TO {role}")).expect("its owner");
    let bucket = s3().create_bucket("roles");
    backup_program(&source, &bucket).run().assert_code(0);
    source.psql(&format!("ALTER TABLE t OWNER TO CURRENT_USER; DROP ROLE {role}; DROP ROLE {group}")).expect("dropped");
    let logins =
        format!("SELECT rolcanlogin, pg_has_role(oid, '{role}', 'MEMBER') FROM pg_roles WHERE rolname = '{role}'");
    for (flag, expected) in [("--create-roles", "f|t"), ("--globals", "t|t")] {
        let server = own_postgres(&[]);
        let without = create(&bucket, &server, "made").run();
        without.assert_code(FAILED);
        assert!(without.stderr.contains(&role), "{}", without.stderr);
        let outcome = create(&bucket, &server, "made").arg(flag).run();
        outcome.assert_code(0);
        assert_eq!(server.psql("made", &logins).as_deref(), Ok(expected), "{}", outcome.stderr);
        let owner = server.psql("made", "SELECT tableowner FROM pg_tables WHERE tablename = 't'");
        assert_eq!(owner, Ok(role.clone()));
    }
}
