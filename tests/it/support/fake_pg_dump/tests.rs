//! Tests of the fake `pg_dump` itself.

use std::time::{Duration, Instant};

use super::super::program::{Outcome, Program};
use super::super::servers::postgres;
use super::{Body, CutAt, End, FakeDump, FakePgDump, body};

fn run(fake: &FakePgDump) -> Outcome {
    Program::at(&fake.path()).args(["--dbname", "a b"]).env("PGPASSWORD", "geheim").run()
}

#[test]
fn a_complete_dump_is_framed_as_the_real_one_and_has_the_requested_size() {
    let fake = FakeDump::new().body(Body::Random(100_000)).install();
    let outcome = run(&fake);
    outcome.assert_code(0).assert_no_children_left();
    assert_eq!(outcome.stdout, fake.output());
    assert_eq!((outcome.stdout.len(), outcome.stderr.as_str()), (100_000, ""));
    let key = body::RESTRICT_KEY;
    let opening = format!("--\n-- PostgreSQL database dump\n--\n\n\\restrict {key}\n\n-- Dumped from");
    assert!(outcome.stdout.starts_with(opening.as_bytes()));
    let closing = format!("\n\\.\n\n\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict {key}\n\n");
    assert!(outcome.stdout.ends_with(closing.as_bytes()));
    assert_eq!(fake.args(), ["--dbname", "a b"]);
    assert!(fake.environ().contains(&"PGPASSWORD=geheim".to_owned()));
    assert_eq!((fake.pids().len(), fake.alive().len()), (1, 0));
}

#[test]
fn version_is_answered_and_not_counted_as_a_call() {
    let fake = FakeDump::new().version("pg_dump (PostgreSQL) 18.4").end(End::Hang).install();
    let outcome = Program::at(&fake.path()).arg("--version").run();
    assert_eq!(outcome.assert_code(0).stdout_text(), "pg_dump (PostgreSQL) 18.4\n");
    assert!(fake.pids().is_empty());
}

#[test]
fn cuts_copies_and_ends() {
    let lengths = [
        (FakeDump::new().cut_at(CutAt::Byte(10)), 10),
        (FakeDump::new().cut_at(CutAt::Fraction(0.5)), 8192),
        (FakeDump::new().cut_at(CutAt::FromEnd(1)), 16383),
        (FakeDump::new().twice(), 32768),
        (FakeDump::new().body(Body::Raw(Vec::new())), 0),
        (FakeDump::new().pause_between(Duration::from_millis(1)), 16384),
    ];
    for (fake, length) in lengths {
        let fake = fake.install();
        let outcome = run(&fake);
        assert_eq!(outcome.assert_code(0).stdout.len(), length);
        assert_eq!(outcome.stdout, fake.output());
    }
    run(&FakeDump::new().end(End::Exit(3)).install()).assert_code(3);
    assert_eq!(run(&FakeDump::new().end(End::Signal(9)).install()).signal, Some(9));
    assert_eq!(run(&FakeDump::new().end(End::Signal(15)).install()).signal, Some(15));
}

#[test]
fn stderr_has_the_bytes_asked_for_and_the_last_words() {
    let fake = FakeDump::new().stderr_bytes(300_000).stderr_line("pg_dump: error: the end").end(End::Exit(1)).install();
    let outcome = run(&fake);
    outcome.assert_code(1);
    assert_eq!(outcome.stderr.len(), 300_000 + "pg_dump: error: the end\n".len());
    assert!(outcome.stderr.ends_with("pg_dump: error: the end\n"));
    assert_eq!(outcome.stdout.len(), 16384);
}

#[test]
fn hangs_and_grandchildren_end_with_the_fake() {
    let fakes = [
        (FakeDump::new().end(End::Hang).ignore_sigterm(), 0),
        (FakeDump::new().end(End::HangAfterOutput).ignore_sigterm(), 16384),
    ];
    for (fake, length) in fakes {
        let fake = fake.install();
        let mut running = Program::at(&fake.path()).spawn();
        let started = Instant::now();
        while fake.pids().is_empty() || running.stdout_so_far().is_empty() != (length == 0) {
            assert!(started.elapsed() < Duration::from_secs(20));
        }
        running.signal("TERM");
        std::thread::sleep(Duration::from_millis(50));
        assert!(running.is_running() && fake.alive().len() == 1);
        drop(fake);
        assert_eq!(running.wait().signal, Some(9));
    }
    let fake = FakeDump::new().with_grandchild().install();
    let outcome = run(&fake);
    assert!(outcome.assert_code(0).output_held_open);
    assert_eq!(fake.alive().len(), 1);
    drop(fake);
    for process in outcome.leftover_children() {
        process.signal("KILL");
    }
    outcome.assert_no_children_left();
}

#[test]
fn eleven_mebibytes_are_made_once() {
    let first = body::bytes(&Body::Random(11 << 20));
    assert!(std::sync::Arc::ptr_eq(&first, &body::bytes(&Body::Random(11 << 20))));
    assert_eq!(first.len(), 11 << 20);
}

#[test]
fn a_real_server_restores_the_complete_dump() {
    for body in [Body::Random(3 << 20), Body::Compressible(1 << 20)] {
        let database = postgres().create_database("fake_dump");
        let fake = FakeDump::new().body(body).install();
        database.load(&fake.dir().join("body")).expect("the dump restores");
        let rows: u64 = database.psql("SELECT count(*) FROM public.t").expect("a count").parse().expect("a number");
        assert!(rows > 1000, "{rows}");
    }
}
