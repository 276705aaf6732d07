//! `health`, as a container's health check runs it: against a daemon that is healthy, stuck, stopped or absent, and against
//! other programs at its address.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::daemon::{YEARLY, stop, wait_for};
use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::Stage;
use crate::support::port::own_port;
use crate::support::program::{Outcome, Program};

const CHECK_FAILED: i32 = 14;

/// `health`, which has nothing of the environment but this.
fn health(listen: &str) -> Program {
    Program::new().arg("health").env("LISTEN", listen)
}

/// It ends with this code and one line, which has these words.
#[track_caller]
fn assert_one_line(outcome: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
    assert!(outcome.stderr.lines().count() == 1 && outcome.stdout_text().is_empty(), "{}", outcome.stderr);
    for word in words {
        assert!(outcome.stderr.contains(word), "{word:?} wanted in {}", outcome.stderr);
    }
}

/// Listens on a port of this host and handles each connection with `act`.
fn listener(act: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    std::thread::spawn(move || listener.incoming().filter_map(Result::ok).for_each(act));
    address
}

/// A listener that gives this answer.
fn answering(answer: &'static str) -> String {
    listener(move |mut stream| {
        // The request first: what is closed with it unread is reset.
        let _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
        let _ = stream.write_all(answer.as_bytes());
    })
}

#[test]
fn a_daemon_is_alive_until_it_stops_wherever_it_listens() {
    let stage = Stage::new(FakeDump::new());
    for host in ["", "0.0.0.0", "127.0.0.1", "localhost"] {
        let listen = format!("{host}:{}", own_port());
        assert_one_line(&health(&listen).run(), CHECK_FAILED, &["Connection refused", &listen]);
        let daemon = stage.daemon(YEARLY).arg("--catch-up=false").env("LISTEN", &listen).spawn();
        wait_for(&daemon, "listening address=", 1);
        let asked = health(&listen).run();
        assert_eq!(asked.assert_code(0).stdout_text(), "alive\n", "{listen}");
        assert_eq!(asked.stderr, "", "{listen}");
        let by_flag = Program::new().args(["health", "--listen", &listen]).env("LISTEN", ":1").run();
        by_flag.assert_code(0);
        // Still there, but doing nothing: the kernel takes the connection for it.
        daemon.signal("STOP");
        assert_one_line(&health(&listen).run(), CHECK_FAILED, &["did not answer within 3s", &listen]);
        daemon.signal("CONT");
        health(&listen).run().assert_code(0);
        stop(daemon, "TERM", 143);
        assert_one_line(&health(&listen).run(), CHECK_FAILED, &["Connection refused"]);
    }
}

#[test]
fn it_is_asked_with_the_daemons_environment_whatever_that_holds() {
    let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"alive\":true}");
    // Only the daemon reads and checks the settings of the backup.
    let wrong = [("S3_URL", "nonsense"), ("BACKUP_INTERVAL", "never"), ("S3_SECRET_KEY_FILE", "/no/such/file")];
    let program = wrong.into_iter().fold(health(&address), |program, (name, value)| program.env(name, value));
    program.run().assert_code(0);
}

#[test]
fn whoever_answers_anything_else_is_not_alive() {
    let page = "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"alive\":false,\"heartbeat_age_ms\":31000}\n";
    let stuck = ["its scheduler loop is stuck", "\"heartbeat_age_ms\":31000"];
    assert_one_line(&health(&answering(page)).run(), CHECK_FAILED, &stuck);
    for answer in ["", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 200 OK\r\n\r\nhello", "HTTP/1.1 404 Not Found\r\n\r\n{}"] {
        let outcome = health(&answering(answer)).run();
        assert_one_line(&outcome, CHECK_FAILED, &["is not a daemon of pg-s3-backup", "LISTEN"]);
    }
}

#[test]
fn silent_or_endless_answer_does_not_block_health() {
    let trickle = listener(|mut stream| {
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert_one_line(&health(&trickle).run(), CHECK_FAILED, &["did not answer within 3s"]);
    let flood = listener(|mut stream| while stream.write_all(&[b'x'; 4096]).is_ok() {});
    assert_one_line(&health(&flood).run(), CHECK_FAILED, &["is not a daemon of pg-s3-backup"]);
    let silent = listener(|stream| {
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_mins(5));
            drop(stream);
        });
    });
    let outcome = health(&silent).env("LOG_FORMAT", "json").run();
    assert_one_line(&outcome, CHECK_FAILED, &["did not answer within 3s", "\"exit_code\":14"]);
}

#[test]
fn reports_an_invalid_address_as_a_setting() {
    assert_one_line(&Program::new().arg("health").run(), 1, &["LISTEN is not set"]);
    for wrong in ["9187", "127.0.0.1", "127.0.0.1:0", "http://127.0.0.1:9187"] {
        assert_one_line(&health(wrong).run(), 4, &["LISTEN: "]);
    }
    health(":9187").arg("--s3-bucket=x").run().assert_code(64);
}
