//! S3: wrong buckets and keys, keys that may do only some of it, clocks, silence, and signals in the middle of a probe.

use std::time::Duration;

use chrono::{TimeDelta, Utc};

use crate::storage_faults::each;
use crate::support::program::Program;
use crate::support::proxy::{Calls, Fault, FaultProxy, Rule, S3Verb, StallAt, When};
use crate::support::servers::database::Database;
use crate::support::servers::{postgres, s3};

use super::{Checked, PROBE, assert_untouched, backed_up, check_program};

const SOON: Duration = Duration::from_mins(1);
const WRITES: [S3Verb; 3] = [S3Verb::PutObject, S3Verb::CreateMultipartUpload, S3Verb::UploadPart];

/// A backed-up database behind a proxy.
struct Stage {
    database: Database,
    bucket: String,
    proxy: FaultProxy,
    keys: Vec<String>,
}

impl Stage {
    fn new() -> Self {
        let database = postgres().create_database("store");
        let (bucket, _) = backed_up(&database);
        let keys = s3().keys(&bucket, "");
        Self { database, bucket, proxy: FaultProxy::start(s3().addr()), keys }
    }

    fn with(verb: S3Verb, fault: Fault) -> Self {
        let stage = Self::new();
        // Of the probes alone: the newest backup is looked at, too.
        stage.proxy.rule(Rule::on(verb, Calls::All, fault).key_suffix(PROBE));
        stage
    }

    fn program(&self) -> Program {
        check_program(&self.database, &self.bucket)
            .env("S3_URL", self.proxy.url())
            .env("S3_REQUEST_TIMEOUT", "20s")
            .env("BACKUP_MAX_UPLOAD_OUTAGE", "30s")
    }

    /// Of all that was written nothing is left.
    #[track_caller]
    fn assert_untouched(&self) {
        assert_untouched(&self.bucket, &self.keys);
    }
}

#[test]
fn reports_a_wrong_bucket_or_key_once_and_skips_other_s3_checks() {
    let database = postgres().create_database("wrong");
    let (bucket, _) = backed_up(&database);
    for (variable, value, reason) in [
        ("S3_BUCKET", "there-is-no-such-bucket", "NoSuchBucket"),
        ("S3_SECRET_KEY", "not-the-secret", "SignatureDoesNotMatch"),
        ("S3_ACCESS_KEY", "AKwrong", "InvalidAccessKeyId"),
    ] {
        let checked = Checked::of(&check_program(&database, &bucket).env(variable, value));
        checked.assert(&["s3_list"], &[]).says("s3_list", &[reason, variable]);
        assert!(checked.with("ok").contains(&"schema_dump"), "{:#}", checked.report);
        let skipped = ["s3_delete", "s3_put", "s3_head", "s3_get", "s3_multipart", "freshness"];
        assert_eq!(checked.with("skip"), skipped, "{:#}", checked.report);
        checked.says("s3_put", &["not checked, because s3_list did not pass"]);
    }
}

#[test]
fn unavailable_s3_fails_within_the_short_budget() {
    let database = postgres().create_database("dead");
    let program = check_program(&database, "bucket").env("S3_URL", "http://127.0.0.1:9");
    let checked = Checked::of(&program.env("BACKUP_MAX_UPLOAD_OUTAGE", "1s"));
    checked.assert(&["s3_list"], &[]).says("s3_list", &["NoConnection", "start the server"]);
    assert!(checked.with("ok").contains(&"schema_dump"), "{:#}", checked.report);
}

#[test]
fn read_only_key_fails_the_write_checks() {
    let database = postgres().create_database("read_only");
    let (bucket, _) = backed_up(&database);
    let keys = s3().keys(&bucket, "");
    let program = check_program(&database, &bucket)
        .env("S3_ACCESS_KEY", &s3().readonly_access_key)
        .env("S3_SECRET_KEY", &s3().readonly_secret_key);
    let checked = Checked::of(&program);
    checked
        .assert(&["s3_multipart"], &["s3_delete"])
        .says("s3_multipart", &["AccessDenied", "allow these credentials"]);
    assert!(checked.with("ok").contains(&"freshness"), "{:#}", checked.report);
    assert_untouched(&bucket, &keys);
}

#[test]
fn write_only_key_passes_with_warnings() {
    let database = postgres().create_database("write_only");
    let (bucket, _) = backed_up(&database);
    let keys = s3().keys(&bucket, "");
    let program = check_program(&database, &bucket)
        .env("S3_ACCESS_KEY", &s3().writeonly_access_key)
        .env("S3_SECRET_KEY", &s3().writeonly_secret_key);
    let checked = Checked::of(&program);
    checked.assert(&[], &["s3_list", "s3_head", "s3_get"]).says("s3_list", &["check --bucket-only"]);
    assert_eq!(checked.with("skip"), ["freshness"], "{:#}", checked.report);
    assert_untouched(&bucket, &keys);
}

#[test]
fn writes_no_object_that_it_cannot_delete() {
    let stage = Stage::with(S3Verb::DeleteObject, Fault::access_denied());
    let checked = Checked::of(&stage.program());
    checked.assert(&[], &["s3_delete"]).says("s3_delete", &["AccessDenied", "no probe object was put"]);
    assert_eq!(checked.with("skip"), ["s3_put", "s3_head", "s3_get"], "{:#}", checked.report);
    assert_eq!(stage.proxy.count(S3Verb::PutObject), 0);
    stage.assert_untouched();
}

#[test]
fn denied_writes_fail_and_denied_reads_warn() {
    for (verb, failed, warned) in [
        (S3Verb::PutObject, vec!["s3_put"], vec![]),
        (S3Verb::CreateMultipartUpload, vec!["s3_multipart"], vec![]),
        (S3Verb::UploadPart, vec!["s3_multipart"], vec![]),
        (S3Verb::HeadObject, vec![], vec!["s3_head"]),
        (S3Verb::GetObject, vec![], vec!["s3_get"]),
    ] {
        let stage = Stage::with(verb, Fault::access_denied());
        Checked::of(&stage.program()).assert(&failed, &warned);
        stage.assert_untouched();
    }
    let stage = Stage::with(S3Verb::AbortMultipartUpload, Fault::access_denied());
    Checked::of(&stage.program()).assert(&["s3_multipart"], &[]).says("s3_multipart", &["abort the upload"]);
    assert_eq!(s3().open_uploads(&stage.bucket), [PROBE], "what may not be aborted stays, and is reported");
}

#[test]
fn fails_if_the_store_returns_other_content() {
    let nothing = Fault::Reply { status: 200, headers: vec![], body: b"else".to_vec(), when: When::Before };
    let stage = Stage::with(S3Verb::GetObject, nothing);
    Checked::of(&stage.program()).assert(&["s3_get"], &[]).says("s3_get", &["does not return what was just written"]);
    stage.assert_untouched();
}

#[test]
fn reports_clock_skew_and_fails_when_s3_would_refuse() {
    for (minutes, failed, warned, word) in [
        (-20, vec!["s3_clock"], vec![], "ahead of that of S3"),
        (20, vec!["s3_clock"], vec![], "behind that of S3"),
        (5, vec![], vec!["s3_clock"], "behind that of S3"),
    ] {
        let stage = Stage::new();
        let date = Utc::now() + TimeDelta::minutes(minutes);
        let date = date.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let skewed = Fault::ReplaceAnswerHeader("Date".to_owned(), date);
        stage.proxy.rule(Rule::on(S3Verb::ListObjects, Calls::All, skewed));
        Checked::of(&stage.program()).assert(&failed, &warned).says("s3_clock", &[word]);
    }
}

#[test]
fn silent_request_times_out_without_hiding_other_checks() {
    let cases = vec![
        (S3Verb::DeleteObject, "s3_delete"),
        (S3Verb::PutObject, "s3_put"),
        (S3Verb::HeadObject, "s3_head"),
        (S3Verb::GetObject, "s3_get"),
        (S3Verb::CreateMultipartUpload, "s3_multipart"),
        (S3Verb::UploadPart, "s3_multipart"),
    ];
    each(cases, |(verb, probe)| {
        // Whatever is asked takes effect; its answer never comes. What is answered has as much time as a busy machine takes.
        let stage = Stage::with(verb, Fault::Stall { at: StallAt::BeforeAnswer });
        let program = stage.program().env("S3_REQUEST_TIMEOUT", "4s").env("BACKUP_MAX_UPLOAD_OUTAGE", "8s");
        let checked = Checked::of(&program);
        checked.assert(&[probe], &[]);
        assert!(checked.with("ok").contains(&"freshness"), "{verb:?}: {:#}", checked.report);
        stage.assert_untouched();
    });
}

#[test]
fn survives_a_short_outage() {
    let stage = Stage::new();
    stage.proxy.rule(Rule::any(Calls::EveryNth(3), Fault::slow_down()));
    Checked::of(&stage.program()).assert(&[], &[]);
    stage.assert_untouched();
}

#[test]
fn signal_during_a_write_leaves_nothing() {
    for verb in WRITES {
        let stage = Stage::with(verb, Fault::Stall { at: StallAt::BeforeAnswer });
        let running = stage.program().env("S3_REQUEST_TIMEOUT", "60s").env("BACKUP_MAX_UPLOAD_OUTAGE", "60s").spawn();
        stage.proxy.wait_for(verb, 1, SOON);
        // It has taken effect.
        while !stage.proxy.log().iter().any(|seen| seen.verb == verb && seen.upstream_status.is_some()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        running.signal("TERM");
        running.wait().assert_code(143).assert_no_children_left();
        stage.assert_untouched();
    }
}

#[test]
fn signal_ends_the_schema_dump() {
    use crate::support::fake_pg_dump::{End, FakeDump};
    let stage = Stage::new();
    let dump = FakeDump::new().end(End::Hang).install();
    let running = stage.program().env("PG_DUMP_PATH", dump.path()).arg("--json").spawn();
    while dump.alive().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    running.signal("INT");
    let checked = Checked::from(running.wait());
    checked.outcome.assert_code(130);
    assert_eq!(checked.report["success"], false, "half a check is no success");
    assert!(dump.alive().is_empty());
}

#[test]
fn shows_no_secret_in_any_failure() {
    let database = postgres().create_database("hidden");
    let (bucket, _) = backed_up(&database);
    let sentinel = "zq7Kx9jR+/Wv3pLtHd";
    let wrong = database.uri().replace(&database.server().password, "zq7Kx9jRWv3pLtHd");
    let base = check_program(&database, &bucket);
    for program in [
        base.clone(),
        base.clone().env("S3_SECRET_KEY", sentinel),
        base.clone().env("S3_ACCESS_KEY", sentinel),
        base.clone().env("POSTGRES_CONNECTION_STRING", wrong),
        base.clone().env("POSTGRES_CONNECTION_STRING", format!("host=h nonsense password={sentinel}")),
    ] {
        for format in [["--log-format", "text"].as_slice(), &["--log-format", "json", "--json"]] {
            let outcome = program.clone().env("LOG_LEVEL", "trace").args(format).run();
            let shown = outcome.stdout_text() + &outcome.stderr;
            for secret in ["zq7Kx9jR", "Wv3pLtHd", &s3().secret_key, &database.server().password] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
    }
}
