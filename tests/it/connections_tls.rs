//! TLS to PostgreSQL: verifies server and client certificates as libpq does. Errors have libpq's message, and no process argument
//! has a key's passphrase.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use crate::support::process::Process;
use crate::support::program::{Outcome, Program};
use crate::support::servers::{OwnPostgres, own_postgres, s3};
use crate::support::setup::{assert_empty, manifest, only_backup, s3_program};

const PASSPHRASE: &str = "zq7Kx9jR pass'phrase\\ Wv3pLtHd";

/// A server with TLS, and the role `cert_user` that logs in with its certificate alone; it ends with the test process.
fn server() -> &'static OwnPostgres {
    static SERVER: LazyLock<OwnPostgres> = LazyLock::new(|| {
        let server = own_postgres(&["--ssl"]);
        server.psql("postgres", "CREATE ROLE cert_user LOGIN SUPERUSER").expect("a role");
        server
    });
    &SERVER
}

fn authority() -> &'static Path {
    server().ssl_root_cert.as_deref().expect("an authority")
}

fn client() -> &'static (PathBuf, PathBuf) {
    server().ssl_client.as_ref().expect("a client's certificate")
}

/// `backup` with these words in addition to port and database.
fn backup(bucket: &str, words: &str) -> Program {
    let connection = format!("port={} dbname=postgres {words}", server().port);
    s3_program(bucket).arg("backup").env("POSTGRES_CONNECTION_STRING", connection)
}

/// By name and password, of this host.
fn by_password() -> String {
    format!("user=postgres password={}", server().password)
}

#[track_caller]
fn assert_refused(outcome: &Outcome, bucket: &str, word: &str) {
    outcome.assert_code(10).assert_no_children_left();
    let errors: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains(" ERROR ")).collect();
    assert!(errors.len() == 1 && errors[0].contains(word), "{word:?} wanted in one line:\n{}", outcome.stderr);
    assert_empty(bucket);
}

#[test]
fn the_servers_certificate_is_checked_as_the_connection_string_says() {
    let (authority, login) = (authority().display(), by_password());
    for words in [
        format!("host=127.0.0.1 sslmode=verify-full sslrootcert='{authority}'"),
        format!("host=localhost hostaddr=127.0.0.1 sslmode=verify-full sslrootcert='{authority}'"),
        // The address that was chosen goes to pg_dump with the name, which the certificate is checked by.
        format!("host=localhost sslmode=verify-full sslrootcert='{authority}'"),
        format!("host=other.invalid hostaddr=127.0.0.1 sslmode=verify-ca sslrootcert='{authority}'"),
        "host=127.0.0.1 sslmode=require".to_owned(),
    ] {
        let bucket = s3().create_bucket("tls");
        backup(&bucket, &format!("{words} {login}")).run().assert_code(0);
        assert_eq!(manifest(&bucket, &only_backup(&bucket))["database"], "postgres", "{words}");
    }
}

#[test]
fn a_server_that_is_not_whom_the_connection_string_trusts_is_refused() {
    let bucket = s3().create_bucket("tls");
    // A CA that has not signed the server's certificate, though it is a good one.
    let (login, client) = (by_password(), client().0.display());
    for (words, word) in [
        (format!("host=127.0.0.1 sslmode=verify-full sslrootcert='{client}'"), "certificate verify failed"),
        (
            format!(
                "host=other.invalid hostaddr=127.0.0.1 sslmode=verify-full sslrootcert='{}'",
                authority().display()
            ),
            "does not match host name",
        ),
        ("host=127.0.0.1 sslmode=verify-full sslrootcert=/does/not/exist".to_owned(), "/does/not/exist"),
    ] {
        assert_refused(&backup(&bucket, &format!("{words} {login}")).run(), &bucket, word);
    }
}

#[test]
fn a_client_may_log_in_with_its_certificate_alone() {
    let bucket = s3().create_bucket("tls");
    let (certificate, key) = client();
    let words = format!("host=127.0.0.1 user=cert_user sslmode=require sslcert='{}'", certificate.display());
    backup(&bucket, &format!("{words} sslkey='{}'", key.display())).run().assert_code(0);
    only_backup(&bucket);
    // By libpq's variables, too.
    let program = backup(&bucket, "host=127.0.0.1 user=cert_user").env("S3_PATH", "variables");
    program.env("PGSSLCERT", certificate).env("PGSSLKEY", key).env("PGSSLMODE", "require").run().assert_code(0);

    let bucket = s3().create_bucket("tls");
    let outcome = backup(&bucket, "host=127.0.0.1 user=cert_user sslmode=require").run();
    assert_refused(&outcome, &bucket, "certificate");
}

/// The client's key, encrypted with [`PASSPHRASE`].
fn encrypted_key(dir: &Path) -> PathBuf {
    let encrypted = dir.join("encrypted.key");
    let mut openssl = Command::new("openssl");
    openssl.args(["pkey", "-aes256", "-passout", "env:PASSPHRASE", "-in"]).arg(&client().1).arg("-out").arg(&encrypted);
    let output = openssl.env("PASSPHRASE", PASSPHRASE).output().expect("openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    encrypted
}

#[test]
fn the_passphrase_of_a_key_is_handed_on_without_being_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = encrypted_key(dir.path());
    let words = format!(
        "host=127.0.0.1 user=cert_user sslmode=require sslcert='{}' sslkey='{}'",
        client().0.display(),
        key.display()
    );
    let with = |passphrase: &str| format!("{words} sslpassword={}", crate::connections::quoted(passphrase));
    let bucket = s3().create_bucket("tls");
    let mut running = backup(&bucket, &with(PASSPHRASE)).env("LOG_LEVEL", "trace").spawn();
    let mut shown = Vec::new();
    while running.is_running() {
        shown.extend(running.descendants().iter().map(Process::command_line));
        std::thread::sleep(Duration::from_millis(2));
    }
    let outcome = running.wait();
    outcome.assert_code(0);
    assert!(shown.iter().any(|arguments| arguments.contains("psql -X")), "no child was seen");
    let manifest = s3().get(&bucket, &format!("{}.json", only_backup(&bucket))).expect("the manifest");
    shown.extend([outcome.stderr.clone(), outcome.stdout_text(), String::from_utf8_lossy(&manifest).into_owned()]);
    for text in &shown {
        assert!(!text.contains("zq7Kx9jR") && !text.contains("Wv3pLtHd"), "{text}");
    }

    let bucket = s3().create_bucket("tls");
    assert_refused(&backup(&bucket, &with("another")).run(), &bucket, "private key file");
    assert_refused(&backup(&bucket, &words).run(), &bucket, "private key file");
    // libpq takes one service, and there is one already.
    let outcome = backup(&bucket, &with(PASSPHRASE)).env("PGSERVICE", "own").run();
    outcome.assert_code(4);
    assert!(outcome.stderr.contains("sslpassword") && !outcome.stderr.contains("zq7Kx9jR"), "{}", outcome.stderr);
}
