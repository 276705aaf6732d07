//! Memory stays under its bound at any size: 2 GiB of dump in under 100 MiB (SPEC §5).

use std::time::Duration;

use crate::support::fake_pg_dump::{Body, FakeDump};
use crate::support::faulty::Stage;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb};
use crate::support::servers::s3;
use crate::support::spooled::{Spooled, WHOLE};

const BOUND: u64 = 100 << 20;

#[test]
#[expect(clippy::print_stdout, reason = "the figures are worth reading in the log of a run")]
fn two_gibibytes_of_dump_pass_through_less_than_100_mebibytes() {
    for body in [Body::Compressible(2 << 30), Body::Whole(600 << 20)] {
        let stage = Stage::new(FakeDump::new().body(body.clone()));
        // With the defaults, but straight to the server: the proxy's part in it is none of this test's business.
        let program = stage.backup().env("S3_URL", &s3().url).env_remove("BACKUP_PART_SIZE").env_remove("LOG_LEVEL");
        let program = program.env_remove("S3_REQUEST_TIMEOUT").env_remove("BACKUP_MAX_UPLOAD_OUTAGE");
        let outcome = program.timeout(Duration::from_mins(15)).run();
        outcome.assert_code(0);
        let peak = outcome.peak_rss_bytes;
        assert!(peak > 0 && peak < BOUND, "{body:?}: peak of {peak} bytes, {BOUND} allowed");
        println!("{body:?}: peak of {} MiB in {:?}: {}", peak >> 20, outcome.elapsed, outcome.stdout_text().trim());
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures are worth reading in the log of a run")]
fn a_spool_takes_what_s3_does_not_in_less_than_100_mebibytes() {
    let stage = Spooled::new(FakeDump::new().body(Body::Whole(250 << 20)));
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::All, Fault::slow_down()));
    let patient = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "10m").env_remove("BACKUP_PART_SIZE");
    let mut running = patient.env("S3_REQUEST_TIMEOUT", "30s").timeout(Duration::from_mins(15)).spawn();
    running.wait_for_stderr(WHOLE, Duration::from_mins(10));
    stage.proxy.clear_rules();
    let outcome = running.wait();
    stage.assert_delivered(&outcome, (1, 1), "S3 came back");
    let announced = outcome.stderr.split("peak_memory_bytes=").nth(1).expect("announced");
    let announced: u64 = announced.split(' ').next().and_then(|bytes| bytes.parse().ok()).expect("a number");
    let peak = outcome.peak_rss_bytes;
    println!("through the spool: peak of {} MiB, {} announced", peak >> 20, announced >> 20);
    assert!(announced <= BOUND && peak > 0 && peak < BOUND, "peak of {peak} bytes, {announced} announced");
}
