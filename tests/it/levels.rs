//! `BACKUP_COMPRESSION_LEVEL=auto`, the default: the level rises while something else is slower than compression, and the manifest
//! and the summary name the levels that were used.

use serde_json::Value;

use crate::support::fake_pg_dump::{Body, FakeDump};
use crate::support::faulty::Stage;
use crate::support::setup::manifest;
use crate::support::tcp_proxy::TcpProxy;

/// Why the level does not rise on a machine that other tests keep busy.
const NO_PROCESSOR: &str = "compression level stays: the workers or pg_dump wait for a processor";

fn levels(manifest: &Value) -> Vec<u64> {
    let levels = manifest["compression_levels"].as_array().expect("levels").iter();
    levels.map(|level| level.as_u64().expect("a level")).collect()
}

#[test]
#[expect(clippy::print_stdout, reason = "how far it came is worth reading in the log of a run")]
fn level_rises_on_a_slow_link_and_is_reported() {
    // Five parts of a second each, one at a time.
    let stage = Stage::new(FakeDump::new().body(Body::Random(25 << 20)));
    let link = TcpProxy::start_slow(&stage.proxy.address().to_string(), 5 << 20);
    let slow = stage.backup().env("S3_URL", format!("http://{}", link.address())).env("BACKUP_UPLOAD_CONCURRENCY", "1");
    let slow = slow.env("BACKUP_THREADS", "1").env("LOG_LEVEL", "debug");
    let outcome = slow.run();
    stage.assert_committed(&outcome, "a slow link");
    let recorded = manifest(&stage.bucket, &stage.backups()[0]);
    let levels = levels(&recorded);
    println!("levels {levels:?}");
    let last = levels.last().expect("a level");
    assert_eq!(recorded["compression_level"], *last);
    let summary = outcome.stdout_text();
    if levels.len() > 1 {
        assert!(levels.is_sorted() && outcome.stderr.contains("compression level changed"), "{levels:?}");
        assert!(summary.contains(&format!(", gzip {} to {last}, ratio ", levels[0])), "{summary}");
    } else {
        assert!(outcome.stderr.contains(NO_PROCESSOR), "{levels:?}: {}", outcome.stderr);
        assert!(summary.contains(&format!(", gzip {last}, ratio ")), "{summary}");
    }
}

#[test]
fn a_set_level_stays() {
    let stage = Stage::new(FakeDump::new());
    let outcome = stage.backup().env("BACKUP_COMPRESSION_LEVEL", "6").run();
    stage.assert_committed(&outcome, "level 6");
    let recorded = manifest(&stage.bucket, &stage.backups()[0]);
    assert_eq!((levels(&recorded), &recorded["compression_level"]), (vec![6], &6.into()));
    assert!(outcome.stdout_text().contains(", gzip 6, ratio "), "{}", outcome.stdout_text());
}
