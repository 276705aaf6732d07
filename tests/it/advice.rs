//! Errors that a new user meets first: each ends with what to do.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};

use crate::support::program::{Outcome, Program};
use crate::support::servers::{postgres, s3};
use crate::support::setup::s3_program;

/// A port of this host at which nothing listens.
const CLOSED: &str = "127.0.0.1:9";

#[track_caller]
fn assert_ends_with(outcome: &Outcome, code: i32, words: &[&str], end: &str) {
    let line = outcome.assert_code(code).stderr.lines().last().unwrap_or_default();
    let error = line.split(" command=").find(|part| part.ends_with(end)).unwrap_or(line);
    assert!(words.iter().all(|word| error.contains(word)), "{words:?} wanted in {error}");
    assert!(error.ends_with(end), "{end:?} wanted at the end of {error}");
}

fn to_s3(url: &str) -> Program {
    s3_program("bucket").arg("list").env("S3_URL", url).env("BACKUP_MAX_UPLOAD_OUTAGE", "1s")
}

/// The address of a server that answers everything in plain HTTP; it ends with the test process.
fn plain_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            drop(stream.read(&mut [0; 1024]));
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    address
}

#[test]
fn s3_that_cannot_be_reached_ends_with_what_to_do() {
    let raise = ", or raise BACKUP_MAX_UPLOAD_OUTAGE";
    let closed = format!("http://{CLOSED}");
    let refused = to_s3(&closed).run();
    let advice = format!("start the server, or correct host and port in S3_URL{raise}");
    assert_ends_with(&refused, 12, &["Connection refused", &closed], &advice);
    let unknown = to_s3("http://s3.invalid:9000").run();
    let advice = format!("correct the host in S3_URL, or look at the DNS of this machine{raise}");
    assert_ends_with(&unknown, 12, &["(http://s3.invalid:9000)"], &advice);
    let plain = plain_server();
    // At once: no time makes it speak TLS.
    let program = to_s3(&format!("https://{plain}")).env("BACKUP_MAX_UPLOAD_OUTAGE", "1h");
    let advice = "the server speaks no TLS at this port: set S3_URL to http://, or correct its port";
    assert_ends_with(&program.run(), 3, &["PlainHttp"], advice);
}

#[test]
fn postgresql_that_cannot_be_reached_ends_with_what_to_do() {
    let bucket = s3().create_bucket("advice");
    for (address, end) in [
        (CLOSED, "start the server, or correct its host and port"),
        ("db.invalid:5432", "correct the host, or look at the DNS of this machine"),
    ] {
        let program = s3_program(&bucket).arg("backup");
        let outcome = program.env("POSTGRES_CONNECTION_STRING", format!("postgresql://u:p@{address}/d")).run();
        assert_ends_with(&outcome, 10, &["(tried 3 times)"], end);
    }
}

#[test]
fn a_connection_string_in_another_programs_variable_is_named() {
    let program = s3_program("bucket").arg("backup").env("DATABASE_URL", postgres().uri("postgres"));
    let words =
        ["POSTGRES_CONNECTION_STRING is not set (DATABASE_URL is set: give its value as POSTGRES_CONNECTION_STRING)"];
    assert_ends_with(&program.run(), 1, &words, "a database of the server that lists the others");
}

#[test]
fn a_refused_argument_of_pg_dump_is_named_with_its_place() {
    let wrong = "`--schemas` is not accepted (did you mean `--schema`?); see ";
    let program = || s3_program("bucket").arg("backup").env("POSTGRES_CONNECTION_STRING", "postgresql://h/d");
    let end = "docs/pg-dump-arguments.md for what is";
    let by_words = program().args(["--", "--schemas=x"]).run();
    assert_ends_with(&by_words, 4, &[&format!("PG_DUMP_ARGS (-- ARGS): {wrong}")], end);
    let by_variable = program().env("PG_DUMP_ARGS", "--schemas=x").run();
    assert_ends_with(&by_variable, 4, &[&format!("PG_DUMP_ARGS: {wrong}")], end);
    let help = Program::new().args(["help", "backup"]).run();
    let help = help.assert_code(0).stdout_text().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("--no-owner (-O)") && help.contains("for a partial backup: --schema (-n)"), "{help}");
}
