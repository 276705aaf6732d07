//! What the servers refuse: the S3 server a key, a secret, a bucket, a write (exit 3); PostgreSQL a connection (exit 10). One
//! line says which, why, and what to do; nothing is left.

use std::time::Duration;

use crate::support::client::eventually;
use crate::support::fake_pg_dump::{End, FakeDump};
use crate::support::program::{Outcome, Program};
use crate::support::servers::database::Database;
use crate::support::servers::{own_postgres, postgres, s3};
use crate::support::setup::{
    assert_empty, backup_program, installed_clients, list_program, manifest, only_backup, prune_program, restored,
};

/// The one ERROR line of a failed run, which holds all these words.
#[track_caller]
fn assert_said(outcome: &Outcome, code: i32, words: &[&str]) {
    outcome.assert_code(code).assert_no_children_left();
    let errors: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains(" ERROR ")).collect();
    assert_eq!(errors.len(), 1, "one line:\n{}", outcome.stderr);
    for word in words {
        assert!(errors[0].contains(word), "{word:?} is not in:\n{}", outcome.stderr);
    }
    assert_eq!(outcome.stdout_text(), "");
}

fn source() -> Database {
    let database = postgres().create_database("source");
    database.psql("CREATE TABLE t AS SELECT generate_series(1, 100) AS n").expect("a table");
    database
}

#[test]
fn wrong_credentials_and_buckets_are_an_invalid_configuration() {
    let (database, bucket) = (source(), s3().create_bucket("refused"));
    for (variable, value, reason) in [
        ("S3_ACCESS_KEY", "AKwrong", "InvalidAccessKeyId"),
        ("S3_SECRET_KEY", "not-the-secret", "SignatureDoesNotMatch"),
        ("S3_BUCKET", "there-is-no-such-bucket", "NoSuchBucket"),
    ] {
        let outcome = backup_program(&database, &bucket).env(variable, value).run();
        assert_said(&outcome, 3, &[reason, &format!("correct {variable}")]);
    }
    assert_empty(&bucket);
}

#[test]
fn a_key_that_may_only_read_is_an_invalid_configuration() {
    let (database, bucket) = (source(), s3().create_bucket("read-only"));
    let outcome = backup_program(&database, &bucket)
        .env("S3_ACCESS_KEY", &s3().readonly_access_key)
        .env("S3_SECRET_KEY", &s3().readonly_secret_key)
        .run();
    assert_said(&outcome, 3, &["AccessDenied", "allow these credentials"]);
    assert_empty(&bucket);
}

#[test]
fn a_key_that_may_only_write_suffices_for_a_backup() {
    let (database, bucket) = (source(), s3().create_bucket("write-only"));
    let program = backup_program(&database, &bucket)
        .env("S3_ACCESS_KEY", &s3().writeonly_access_key)
        .env("S3_SECRET_KEY", &s3().writeonly_secret_key);
    program.run().assert_code(0).assert_no_children_left();
    let key = only_backup(&bucket);
    assert_eq!(restored(&bucket, &key).dump(), database.dump());
    // And what fails in the middle can still be taken back.
    let fake = FakeDump::new().end(End::Exit(1)).install();
    program.env("PG_DUMP_PATH", fake.path()).run().assert_code(11);
    assert_eq!(only_backup(&bucket), key);
}

#[test]
fn an_s3_server_that_is_not_there_is_a_storage_failure() {
    let (database, bucket) = (source(), s3().create_bucket("not-there"));
    let program = backup_program(&database, &bucket).env("S3_URL", "http://127.0.0.1:9");
    let outcome = program.env("BACKUP_MAX_UPLOAD_OUTAGE", "1s").run();
    assert_said(&outcome, 12, &["BACKUP_MAX_UPLOAD_OUTAGE"]);
}

#[test]
fn an_s3_server_that_has_never_answered_is_waited_for_briefly() {
    let bucket = s3().create_bucket("never-there");
    let programs = [list_program(&bucket), prune_program(&bucket).arg("--keep-last=1")];
    let wrong =
        |program: &Program, url| program.clone().env_remove("BACKUP_MAX_UPLOAD_OUTAGE").env("S3_URL", url).spawn();
    let urls = ["http://127.0.0.1:9", "http://no-such-host.invalid"];
    let running: Vec<_> = programs.iter().flat_map(|program| urls.map(|url| wrong(program, url))).collect();
    for outcome in running.into_iter().map(crate::support::program::Running::wait) {
        assert_said(&outcome, 12, &["in S3_URL"]);
        assert!(outcome.stderr.contains("S3 request failed, retrying"), "{}", outcome.stderr);
    }
}

#[test]
fn a_connection_that_postgresql_refuses_is_said_in_one_line() {
    let (database, bucket) = (source(), s3().create_bucket("no-connection"));
    let server = database.server();
    let address = server.addr();
    let wrong_password = database.uri().replace(&server.password, "not-the-password");
    for (connection, words) in [
        (wrong_password, ["password authentication failed", address.as_str()]),
        (server.uri("there is no such database"), ["there is no such database", &address]),
        (server.uri("postgres").replace("postgres:", "nobody:"), ["nobody", &address]),
        ("postgres://u@no-such-host.invalid:5432/d".to_owned(), ["translate", "no-such-host.invalid:5432"]),
        ("host=127.0.0.1 port=9 dbname=d".to_owned(), ["refused", "127.0.0.1:9"]),
        ("host=/does/not/exist port=5432".to_owned(), ["/does/not/exist", "5432"]),
    ] {
        let program = backup_program(&database, &bucket).env("POSTGRES_CONNECTION_STRING", connection);
        assert_said(&program.run(), 10, &words);
    }
    assert_empty(&bucket);
}

#[test]
fn a_stopped_server_is_tried_three_times() {
    let server = own_postgres(&[]);
    let database = server.create_database("stopped");
    let bucket = s3().create_bucket("stopped");
    server.stop();
    let outcome = backup_program(&database, &bucket).run();
    assert_said(&outcome, 10, &[&server.addr(), "refused", "tried 3 times"]);
    assert_empty(&bucket);
}

#[test]
fn a_pg_dump_older_than_the_server_is_named_with_both_versions() {
    let old = postgres().client("pg_dump", "postgres").arg("--version").output().expect("pg_dump");
    let old = String::from_utf8_lossy(&old.stdout).split_whitespace().nth(2).expect("a version").to_owned();
    for major in ["17", "18"] {
        let server = own_postgres(&["--major", major]);
        let database = server.create_database("newer");
        database.psql("CREATE TABLE t AS SELECT generate_series(1, 100) AS n").expect("a table");
        let bucket = s3().create_bucket("newer");
        let version = database.psql("SHOW server_version").expect("a version");
        let version = version.split_whitespace().next().expect("a version");
        let program = backup_program(&database, &bucket);
        let with_old = program.clone().env("PG_DUMP_PATH", postgres().bin.join("pg_dump"));
        let install = format!("postgresql-client-{major}");
        assert_said(&with_old.run(), 10, &[version, &old, &install]);
        assert_empty(&bucket);

        let clients = installed_clients(major);
        program.clone().env("PG_DUMP_PATH", clients.join("pg_dump")).run().assert_code(0);
        let key = only_backup(&bucket);
        let stored = manifest(&bucket, &key);
        for version in ["server_version", "pg_dump_version"] {
            assert!(stored[version].as_str().is_some_and(|text| text.starts_with(major)), "{stored}");
        }
        // By PATH too; and among several the lowest that is enough, whatever their order.
        let newest = installed_clients("18");
        let path = format!("{}:{}:/usr/bin:/bin", newest.display(), clients.display());
        program.env("PATH", path).env("S3_PATH", "by-path").run().assert_code(0);
        let key = s3().keys(&bucket, "by-path/").swap_remove(0);
        assert!(manifest(&bucket, &key)["pg_dump_version"].as_str().is_some_and(|text| text.starts_with(major)));
    }
}

#[test]
fn of_two_backups_of_one_database_at_once_the_second_is_refused() {
    let (database, bucket) = (source(), s3().create_bucket("twice"));
    let held = FakeDump::new().held().install();
    let program = backup_program(&database, &bucket);
    let mut first = program.clone().env("PG_DUMP_PATH", held.path()).spawn();
    first.wait_for_stderr("backup starts", Duration::from_mins(1));
    assert_said(&program.run(), 16, &[&database.name, &format!("s3://{bucket}/"), "is running"]);
    // Another database to the same place, and the same database to another place, are other backups.
    let other = source();
    let elsewhere = program.clone().env("S3_PATH", "elsewhere").spawn();
    backup_program(&other, &bucket).env("S3_PATH", "other").run().assert_code(0);
    elsewhere.wait().assert_code(0);
    assert!(first.is_running(), "{}", first.stderr_so_far());
    held.let_go();
    first.wait().assert_code(0);
    assert_eq!(s3().keys(&bucket, "postgres-backup-").len(), 4);
    // The lock went with the first one.
    program.run().assert_code(0);
    assert_eq!(s3().keys(&bucket, "postgres-backup-").len(), 8);
}

#[test]
fn a_lock_does_not_outlive_a_killed_backup() {
    let (database, bucket) = (source(), s3().create_bucket("killed"));
    let hanging = FakeDump::new().end(End::Hang).install();
    let program = backup_program(&database, &bucket);
    let mut first = program.clone().env("PG_DUMP_PATH", hanging.path()).spawn();
    first.wait_for_stderr("backup starts", Duration::from_mins(1));
    first.signal("KILL");
    assert_eq!(first.wait().signal, Some(9));
    // psql notices the end of its input within moments. Other tests hold such locks in their databases.
    let held = "SELECT count(*) FROM pg_locks JOIN pg_database d ON database = d.oid \
                WHERE locktype = 'advisory' AND datname = current_database()";
    eventually(|| database.psql(held) == Ok("0".to_owned()), || "the lock is still held".to_owned());
    program.run().assert_code(0);
}
