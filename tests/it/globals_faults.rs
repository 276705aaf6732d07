//! Failed globals cause a warning, never a failed backup. The manifest says why they are missing.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::storage_faults::each;
use crate::support::client::eventually;
use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::Stage;
use crate::support::program::Outcome;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb, When};
use crate::support::servers::database::unique_name;
use crate::support::servers::{installed_tools, own_postgres, postgres, s3};
use crate::support::setup::{backup_program, globals, installed_clients, manifest, only_backup};
use crate::support::spooled::Spooled;

/// Stands in what `pg_dumpall` says, and must not stand in a manifest.
const SAID: &str = "words of another program";

/// What is said of one that does not end, where it has 8 s.
const HANGS: &str = "did not end within 8s";

/// A complete backup, a warning, and a manifest that says the same; gives that.
#[track_caller]
fn assert_without_globals(stage: &Stage, outcome: &Outcome, why: &str) -> Value {
    stage.assert_committed(outcome, why);
    let warning = outcome.stderr.lines().find(|line| line.contains("without the cluster's globals"));
    assert!(warning.is_some_and(|line| line.contains(" WARN ") && line.contains(why)), "{why}: {}", outcome.stderr);
    let key = stage.backups().remove(0);
    assert_eq!(stage.keys(), [key.clone(), format!("{key}.index.json.gz"), format!("{key}.json")], "{why}");
    let manifest = manifest(&stage.bucket, &key);
    assert_eq!(manifest["globals"], Value::Null, "{why}");
    let warnings = manifest["warnings"][0].as_str().unwrap_or_default();
    assert!(warnings.starts_with("globals: ") && warnings.contains(why), "{why}: {manifest}");
    assert!(!manifest.to_string().contains(SAID), "{manifest}");
    manifest
}

#[test]
fn backup_succeeds_without_globals_if_pg_dumpall_fails() {
    let real = installed_tools().expect("PostgreSQL").join("pg_dumpall");
    let real = real.display();
    let cases = vec![
        (format!("echo 'pg_dumpall: error: {SAID}' >&2; exit 1"), "pg_dumpall failed (exit code 1)"),
        ("kill -9 $$".to_owned(), "pg_dumpall failed (SIGKILL"),
        (format!("{real} \"$@\"; exit 3"), "pg_dumpall failed (exit code 3)"),
        (":".to_owned(), "not complete: its opening lines are missing"),
        (format!("{real} \"$@\" | head -c -20"), "not complete: it ends before its closing line"),
        (format!("{real} \"$@\" | sed '/^.unrestrict/d'"), "not complete: its \\unrestrict line is missing"),
        ("exec yes 'CREATE ROLE x;'".to_owned(), "wrote more than 64 MiB"),
        ("exec sleep 600".to_owned(), HANGS),
        (format!("{real} \"$@\"; sleep 600 &"), HANGS),
    ];
    each(cases, |(script, why)| {
        let stage = Stage::new(FakeDump::new());
        stage.dump.replace("pg_dumpall", &format!("#!/bin/sh\n{script}\n"));
        // What does not hang has all the time that a busy machine makes it take; so has pg_dump while another program hangs.
        let limit = if why == HANGS { "8s" } else { "30m" };
        let outcome = stage.backup().env("BACKUP_STALL_TIMEOUT", limit).run();
        assert_without_globals(&stage, &outcome, why);
    });
    let stage = Stage::new(FakeDump::new());
    stage.dump.replace("pg_dumpall", "#!/no/such/interpreter\n");
    assert_without_globals(&stage, &stage.backup().run(), "pg_dumpall cannot be run");
}

#[test]
fn the_cause_is_in_the_log() {
    let stage = Stage::new(FakeDump::new());
    stage.dump.replace("pg_dumpall", &format!("#!/bin/sh\necho 'pg_dumpall: error: {SAID}' >&2; exit 1\n"));
    let outcome = stage.backup().run();
    let warning =
        outcome.stderr.lines().find(|line| line.contains("without the cluster's globals")).expect("a warning");
    assert!(warning.contains(SAID), "{warning}");
}

#[test]
fn finds_pg_dumpall_in_another_directory() {
    let alone = |major: &str| {
        let dir = tempfile::tempdir().expect("a directory");
        for tool in ["pg_dump", "psql"] {
            let real = if major == "18" { installed_clients("18") } else { installed_tools().expect("PostgreSQL") };
            std::os::unix::fs::symlink(real.join(tool), dir.path().join(tool)).expect("a link");
        }
        dir
    };
    let database = postgres().create_database("alone");
    let bucket = s3().create_bucket("alone");
    let dir = alone("15");
    let program = backup_program(&database, &bucket).env("PG_DUMP_PATH", dir.path());
    program.run().assert_code(0);
    globals(&bucket, &only_backup(&bucket));

    let server = own_postgres(&["--major", "18"]);
    let database = server.create_database("alone");
    let bucket = s3().create_bucket("alone");
    let dir = alone("18");
    let program = backup_program(&database, &bucket).env("PG_DUMP_PATH", dir.path()).env("PATH", "/usr/bin:/bin");
    let outcome = program.run();
    outcome.assert_code(0);
    assert!(outcome.stderr.contains("no pg_dumpall is installed"), "{}", outcome.stderr);
    assert_eq!(s3().keys(&bucket, "").len(), 3, "no globals");
}

#[test]
fn warns_of_globals_that_s3_refuses() {
    let stage = Stage::new(FakeDump::new());
    let denied = Fault::Status { code: 403, s3_code: "AccessDenied", when: When::Before };
    stage.proxy.rule(Rule::on(S3Verb::PutObject, Calls::Nth(1), denied.clone()));
    assert_without_globals(&stage, &stage.backup().run(), "S3 did not take the file");
    // The manifest's own failure does not take the globals away.
    let stage = Stage::new(FakeDump::new());
    stage.proxy.rule(Rule::on(S3Verb::PutObject, Calls::Nth(3), denied));
    let outcome = stage.backup().run();
    stage.assert_committed(&outcome, "the manifest is refused");
    assert!(outcome.stderr.contains("but without its manifest"), "{}", outcome.stderr);
    let key = stage.backups().remove(0);
    assert_eq!(stage.keys(), [key.clone(), format!("{key}.globals.sql.gz"), format!("{key}.index.json.gz")]);
}

#[test]
fn signal_during_globals_leaves_manifest_and_no_child() {
    let stage = Stage::new(FakeDump::new());
    stage.dump.replace("pg_dumpall", "#!/bin/sh\nexec sleep 600\n");
    let running = stage.backup().spawn();
    let sleeper = loop {
        let found = running.descendants().into_iter().find(|process| process.command_line() == "sleep 600");
        match found {
            Some(process) => break process,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    // Before the commit it would end the backup.
    eventually(|| stage.backups().len() == 1, || running.stderr_so_far());
    running.signal("TERM");
    assert_without_globals(&stage, &running.wait(), "the run had to end");
    assert!(!sleeper.is_alive());
}

/// A script in the place of `pg_dumpall` that does what that does, and then makes a file.
fn noting_its_end(stage: &Stage) -> PathBuf {
    let (real, done) = (installed_tools().expect("PostgreSQL").join("pg_dumpall"), stage.dump.dir().join("done"));
    let script = format!("#!/bin/sh\n{} \"$@\" && touch '{}'\n", real.display(), done.display());
    stage.dump.replace("pg_dumpall", &script);
    done
}

/// A backup into the spool, in which a slow `pg_dumpall` is not left behind.
fn spooled_after_globals() -> Spooled {
    let stage = Spooled::new(FakeDump::new().after("done"));
    noting_its_end(&stage);
    stage
}

#[test]
fn makes_globals_while_the_dump_runs() {
    let role = unique_name("expiring");
    postgres().psql("postgres", &format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'token'")).expect("a role");
    let stage = Stage::new(FakeDump::new().held());
    let done = noting_its_end(&stage);
    let uri = format!("postgres://{role}:token@{}/postgres", postgres().addr());
    let running = stage.backup().env("POSTGRES_CONNECTION_STRING", uri).spawn();
    eventually(|| done.exists(), || running.stderr_so_far());
    postgres().psql("postgres", &format!("ALTER ROLE {role} PASSWORD 'another'")).expect("expired");
    stage.dump.let_go();
    let outcome = running.wait();
    postgres().psql("postgres", &format!("DROP ROLE {role}")).expect("dropped");
    stage.assert_committed(&outcome, "expired");
    assert!(!outcome.stderr.contains(" WARN "), "{}", outcome.stderr);
    let script = globals(&stage.bucket, &stage.backups()[0]);
    assert!(String::from_utf8_lossy(&script).contains(&role));
}

#[test]
fn a_dump_that_waits_in_the_spool_keeps_its_globals() {
    let stage = spooled_after_globals();
    stage.killed_from(1);
    assert!(stage.only_kept().join("globals.sql.gz").exists());
    // Those of the fresh backup that follows are not meant.
    let failing = "#!/bin/sh\nexit 1\n";
    stage.dump.replace("pg_dumpall", failing);
    stage.assert_delivered(&stage.backup().run(), (2, 2), "delivered");
    let script = globals(&stage.bucket, &stage.backups()[0]);
    assert!(String::from_utf8_lossy(&script).contains("CREATE ROLE"), "{script:?}");
    let manifest = manifest(&stage.bucket, &stage.backups()[0]);
    assert_eq!(manifest["warnings"], Value::Array(Vec::new()));
    let restore = manifest["restore"].to_string();
    assert!(restore.contains(manifest["globals"]["file_name"].as_str().expect("a name")), "{restore}");
}

#[test]
fn warns_of_globals_missing_in_spool() {
    let stage = spooled_after_globals();
    stage.killed_from(1);
    let path = stage.only_kept().join("globals.sql.gz");
    let mut bytes = std::fs::read(&path).expect("the globals");
    bytes[30] ^= 1;
    std::fs::write(&path, bytes).expect("harmed");
    let outcome = stage.backup().run();
    stage.assert_delivered(&outcome, (2, 2), "delivered");
    assert!(outcome.stderr.contains("without the cluster's globals"), "{}", outcome.stderr);
    let manifest = manifest(&stage.bucket, &stage.backups()[0]);
    assert_eq!(manifest["globals"], Value::Null);
    assert_eq!(manifest["warnings"][0], "globals: the spool does not have the file that it had");
}

#[test]
fn manifest_has_warnings_of_pg_dump_and_pg_dumpall() {
    let left_out = "subscriptions not dumped because current user is not a superuser";
    let stage = Stage::new(FakeDump::new().stderr_line(&format!("pg_dump: warning: {left_out}")));
    let real = installed_tools().expect("PostgreSQL").join("pg_dumpall");
    let script = format!("#!/bin/sh\necho 'pg_dumpall: warning: x' >&2\nexec {} \"$@\"\n", real.display());
    stage.dump.replace("pg_dumpall", &script);
    stage.assert_committed(&stage.backup().run(), "with warnings");
    let manifest = manifest(&stage.bucket, &stage.backups()[0]);
    let wanted = [format!("pg_dump warned: {left_out}"), "globals: pg_dumpall warned: x".to_owned()];
    assert_eq!(manifest["warnings"], serde_json::json!(wanted));
}

#[test]
fn makes_globals_without_passwords_if_the_role_may_not_read_them() {
    let database = postgres().create_database("poor");
    let role = format!("{}_role", database.name);
    database
        .psql(&format!("CREATE TABLE t (a int); CREATE ROLE {role} LOGIN PASSWORD 'poor'; GRANT SELECT ON t TO {role}"))
        .expect("a role");
    let bucket = s3().create_bucket("poor");
    let uri = format!("postgres://{role}:poor@{}/{}", postgres().addr(), database.name);
    let poor = backup_program(&database, &bucket).env("POSTGRES_CONNECTION_STRING", uri).run();
    let rich = backup_program(&database, &bucket).env("S3_PATH", "rich").run();
    database.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).expect("dropped");
    poor.assert_code(0);
    assert!(!poor.stderr.contains(" WARN ") && poor.stderr.contains("without role passwords"), "{}", poor.stderr);
    rich.assert_code(0);
    let rich_key = s3().keys(&bucket, "rich/").remove(0);
    let poor_key = s3().keys(&bucket, "postgres-backup-").remove(0);
    for (key, passwords) in [(poor_key, false), (rich_key, true)] {
        let manifest = manifest(&bucket, &key);
        assert_eq!(manifest["globals"]["role_passwords"], passwords);
        assert_eq!(manifest["warnings"], Value::Array(Vec::new()));
        let script = String::from_utf8(globals(&bucket, &key)).expect("UTF-8");
        assert!(script.contains(&format!("CREATE ROLE {role};")), "{script}");
        assert_eq!(script.contains("SCRAM-SHA-256"), passwords, "{script}");
        assert_eq!(script.contains("The roles have no passwords"), !passwords, "{script}");
    }
}
