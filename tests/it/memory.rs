//! Memory stays within its bound at any size: 2 GiB of dump in less than 100 MiB. The kernel's own peak of the process
//! is below the logged estimate, whatever S3 does.

use std::time::Duration;

use crate::support::fake_pg_dump::{Body, FakeDump};
use crate::support::faulty::Stage;
use crate::support::program::{Outcome, Program};
use crate::support::proxy::{Calls, Fault, Rule, S3Verb};
use crate::support::servers::{postgres, s3};
use crate::support::spooled::{DUMP_ON_DISK, Spooled};
use crate::support::tcp_proxy::TcpProxy;

const BOUND: u64 = 100 << 20;

/// With the defaults for parts, and time enough.
pub fn by_default(program: Program) -> Program {
    let program = program.env_remove("BACKUP_PART_SIZE").env("S3_REQUEST_TIMEOUT", "30s");
    program.env("BACKUP_MAX_UPLOAD_OUTAGE", "10m").timeout(Duration::from_mins(15))
}

/// The kernel's own peak is no more than was announced, and that no more than the bound.
#[track_caller]
#[expect(clippy::print_stdout, reason = "the figures are worth reading in the log of a run")]
pub fn assert_as_announced(outcome: &Outcome, case: &str) {
    let announced = outcome.stderr.split("peak_memory_bytes=").nth(1).expect("announced");
    let announced: u64 = announced
        .split(|letter: char| !letter.is_ascii_digit())
        .next()
        .and_then(|bytes| bytes.parse().ok())
        .expect("a number");
    let peak = outcome.peak_rss_bytes;
    println!("{case}: peak of {} KiB, {} announced, in {:?}", peak >> 10, announced >> 10, outcome.elapsed);
    assert!(announced <= BOUND, "{case}: {announced} bytes announced, {BOUND} allowed");
    assert!(peak > 0 && peak <= announced, "{case}: peak of {peak} bytes, {announced} announced");
}

#[test]
fn two_gibibytes_of_dump_pass_through_less_than_100_mebibytes() {
    for body in [Body::Compressible(2 << 30), Body::Random(600 << 20)] {
        let stage = Stage::new(FakeDump::new().body(body.clone()));
        // Straight to the server: the proxy's part in it is none of this test's business.
        let outcome = by_default(stage.backup().env("S3_URL", &s3().url)).run();
        outcome.assert_code(0);
        assert_as_announced(&outcome, &format!("{body:?}"));
    }
}

#[test]
fn the_highest_level_of_zstd_takes_no_more_than_was_announced() {
    let stage = Stage::new(FakeDump::new().body(Body::Compressible(16 << 20)));
    let zstd = [("BACKUP_COMPRESSION", "zstd"), ("BACKUP_COMPRESSION_LEVEL", "19"), ("BACKUP_THREADS", "3")];
    let backup = stage.backup().env("BACKUP_PART_SIZE", "5MiB").env("S3_URL", &s3().url);
    let outcome = zstd.into_iter().fold(backup, |backup, (name, value)| backup.env(name, value)).run();
    outcome.assert_code(0);
    assert_as_announced(&outcome, "level 19");
}

#[test]
fn a_slow_link_and_503s_take_no_more_than_was_announced() {
    // More than fits between pg_dump and S3, which takes no part at first, and then takes its time.
    let stage = Stage::new(FakeDump::new().body(Body::Random(100 << 20)));
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::First(8), Fault::slow_down()));
    let link = TcpProxy::start_slow(&stage.proxy.address().to_string(), 12 << 20);
    let backup = by_default(stage.backup()).env("S3_URL", format!("http://{}", link.address()));
    let outcome = backup.run();
    stage.assert_committed(&outcome, "503s on a slow link");
    assert_as_announced(&outcome, "503s on a slow link");
}

#[test]
fn dumps_of_four_databases_go_to_disk_at_once_while_s3_takes_nothing() {
    let databases: Vec<_> = (0..4).map(|_| postgres().create_database("memory")).collect();
    let names: Vec<&str> = databases.iter().map(|database| database.name.as_str()).collect();
    let stage = Spooled::new(FakeDump::new().body(Body::Random(90 << 20)));
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::All, Fault::slow_down()));
    let backup = by_default(stage.backup()).env("BACKUP_DATABASES", names.join(",")).env("BACKUP_DATABASE_JOBS", "4");
    let mut running = backup.spawn();
    // All of them, before S3 has taken a part.
    while running.stderr_so_far().matches(DUMP_ON_DISK).count() < 4 {
        assert!(running.is_running(), "{}", running.stderr_so_far());
        std::thread::sleep(Duration::from_millis(20));
    }
    stage.proxy.clear_rules();
    let outcome = running.wait();
    outcome.assert_code(0);
    assert_as_announced(&outcome, "four through the spool");
    assert_eq!(stage.backups().len(), 4);
    stage.assert_nothing_kept("S3 came back");
}

#[test]
fn a_spool_takes_what_s3_does_not_in_less_than_100_mebibytes() {
    let stage = Spooled::new(FakeDump::new().body(Body::Random(250 << 20)));
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::All, Fault::slow_down()));
    let mut running = by_default(stage.backup()).spawn();
    running.wait_for_stderr(DUMP_ON_DISK, Duration::from_mins(10));
    stage.proxy.clear_rules();
    let outcome = running.wait();
    stage.assert_delivered(&outcome, (1, 1), "S3 came back");
    assert_as_announced(&outcome, "through the spool");
}
