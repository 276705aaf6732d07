//! Memory stays under its bound at any size: 2 GiB of dump in under 100 MiB (SPEC §5).

use crate::support::fake_pg_dump::{Body, FakeDump};
use crate::support::faulty::Stage;
use crate::support::servers::s3;

const BOUND: u64 = 100 << 20;

#[test]
#[expect(clippy::print_stdout, reason = "the figures are worth reading in the log of a run")]
fn two_gibibytes_of_dump_pass_through_less_than_100_mebibytes() {
    for body in [Body::Compressible(2 << 30), Body::Whole(600 << 20)] {
        let stage = Stage::new(FakeDump::new().body(body.clone()));
        // With the defaults, but straight to the server: the proxy's part in it is none of this test's business.
        let program = stage.backup().env("S3_URL", &s3().url).env_remove("BACKUP_PART_SIZE").env_remove("LOG_LEVEL");
        let outcome = program.env_remove("S3_REQUEST_TIMEOUT").run();
        outcome.assert_code(0);
        let peak = outcome.peak_rss_bytes;
        assert!(peak > 0 && peak < BOUND, "{body:?}: peak of {peak} bytes, {BOUND} allowed");
        println!("{body:?}: peak of {} MiB in {:?}: {}", peak >> 20, outcome.elapsed, outcome.stdout_text().trim());
    }
}
