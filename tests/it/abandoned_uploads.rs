//! Cleanup of abandoned uploads: `prune` and `backup` abort this tool's stale uploads, and keep recent, active and foreign ones.

use std::time::Duration;

use serde_json::Value;

use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::program::Program;
use crate::support::proxy::{Calls, Fault, FaultProxy, Rule, S3Verb, When};
use crate::support::servers::s3;
use crate::support::setup::prune_program;
use crate::support::spooled::Spooled;
use crate::support::stored::{begin_upload, name_of_day};

/// A server's times have full seconds, and what was started a second ago is stale to `--sweep-after 1s` a second later.
const UNTIL_STALE: Duration = Duration::from_millis(2_100);

fn prune(bucket: &str) -> Program {
    prune_program(bucket).env("S3_PATH", "app").arg("--keep-last=1")
}

/// The open uploads' keys, sorted.
fn open(bucket: &str) -> Vec<String> {
    let mut keys = s3().open_uploads(bucket);
    keys.sort_unstable();
    keys
}

#[test]
fn aborts_only_own_stale_uploads() {
    let bucket = s3().create_bucket("abandoned");
    let own: Vec<String> = (1..=3).map(|day| format!("app/{}", name_of_day(day))).collect();
    let old = name_of_day(1);
    let others = [
        format!("app2/{old}"),
        format!("app/x/{old}"),
        format!("x/app/{old}"),
        old.clone(),
        format!("app/{old}.json"),
        format!("app/{old}.part"),
        "app/postgres-backup-2024-02-30_00-00-00.sql.gz".to_owned(),
        "app/postgres-backup-latest.sql.gz".to_owned(),
        "app/other.bin".to_owned(),
    ];
    s3().begin_uploads(&bucket, &[own.as_slice(), others.as_slice()].concat());
    let mut spared = others.to_vec();
    spared.sort_unstable();

    // By default only what is a week old is stale.
    prune(&bucket).run().assert_code(0);
    assert_eq!(open(&bucket).len(), own.len() + others.len());
    std::thread::sleep(UNTIL_STALE);
    let program = prune(&bucket).args(["--sweep-after", "1s", "--json"]);
    let report: Value = serde_json::from_slice(&program.clone().arg("--dry-run").run().stdout).expect("JSON");
    assert_eq!(report["stale_uploads"].as_array().map(Vec::len), Some(3), "{report}");
    assert_eq!(open(&bucket).len(), own.len() + others.len(), "shown, not done");
    let outcome = program.run();
    outcome.assert_code(0);
    let report: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    assert_eq!(report["uploads_aborted"], 3);
    assert_eq!(open(&bucket), spared);
}

#[test]
fn keeps_upload_with_recent_parts() {
    let bucket = s3().create_bucket("written");
    let [slow, silent] = [1, 2].map(|day| format!("app/{}", name_of_day(day)));
    let put = |key: &str, id: &str| {
        s3().request("PUT", &format!("/{bucket}/{key}?partNumber=1&uploadId={id}"), b"x").expect("a part");
    };
    let ids = [&slow, &silent].map(|key| begin_upload(&bucket, key));
    put(&silent, &ids[1]);
    std::thread::sleep(Duration::from_secs(24));
    put(&slow, &ids[0]);
    // Both were started, and the silent one was last written to, 24 s ago; there is time to clean up before the slow one is as old.
    prune(&bucket).args(["--sweep-after", "20s"]).run().assert_code(0);
    assert_eq!(open(&bucket), [slow]);
}

#[test]
fn keeps_upload_in_spool() {
    let stage = Spooled::new(FakeDump::new().body(THREE_PARTS));
    stage.killed_from(2);
    let kept = open(&stage.bucket);
    assert_eq!(kept.len(), 1, "the upload of the complete dump on disk");
    std::thread::sleep(UNTIL_STALE);
    let program = prune(&stage.bucket).args(["--sweep-after", "1s"]);
    program.clone().env("BACKUP_SPOOL_DIR", stage.dir()).run().assert_code(0);
    assert_eq!(open(&stage.bucket), kept);
    // To a host that knows no spool it is stale; the next backup sends its parts from disk again.
    program.run().assert_code(0);
    assert_eq!(open(&stage.bucket), [""; 0]);
}

#[test]
fn reads_all_pages_of_uploads() {
    let bucket = s3().create_bucket("pages");
    let proxy = FaultProxy::start(s3().addr());
    let own = format!("app/{}", name_of_day(2));
    begin_upload(&bucket, &own);
    std::thread::sleep(UNTIL_STALE);
    // A first page as AWS gives it, up to this key and an id that is less than any other (this server continues with the same
    // key alone), with an upload that is gone when it is looked at.
    let (first, id) = (format!("app/{}", name_of_day(1)), "0");
    let page = format!(
        "<ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>{bucket}</Bucket>\
         <IsTruncated>true</IsTruncated><NextKeyMarker>{own}</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>\
         <Upload><Key>{first}</Key><UploadId>{id}</UploadId><Initiated>2026-01-01T00:00:00.000Z</Initiated></Upload>\
         </ListMultipartUploadsResult>"
    );
    let headers = vec![("Content-Type".to_owned(), "application/xml".to_owned())];
    let reply = Fault::Reply { status: 200, headers, body: page.into_bytes(), when: When::Before };
    proxy.rule(Rule::on(S3Verb::ListMultipartUploads, Calls::Nth(1), reply));
    let outcome = prune(&bucket).env("S3_URL", proxy.url()).args(["--sweep-after", "1s"]).run();
    outcome.assert_code(0);
    assert_eq!(open(&bucket), [""; 0], "{}", outcome.stderr);
    let second =
        proxy.log().into_iter().filter(|seen| seen.verb == S3Verb::ListMultipartUploads).nth(1).expect("a second");
    assert!(second.query.contains("key-marker=app") && second.query.contains("upload-id-marker=0"), "{}", second.query);
}

#[test]
fn failed_cleanup_fails_no_run() {
    for verb in [S3Verb::ListMultipartUploads, S3Verb::ListParts, S3Verb::AbortMultipartUpload] {
        for fault in [Fault::access_denied(), Fault::slow_down()] {
            let bucket = s3().create_bucket("unswept");
            let proxy = FaultProxy::start(s3().addr());
            let own = format!("app/{}", name_of_day(1));
            begin_upload(&bucket, &own);
            std::thread::sleep(UNTIL_STALE);
            proxy.rule(Rule::on(verb, Calls::All, fault.clone()));
            let outcome = prune(&bucket).env("S3_URL", proxy.url()).args(["--sweep-after", "1s"]).run();
            outcome.assert_code(0);
            assert_eq!(open(&bucket), [own], "{verb:?} {fault:?}: {}", outcome.stderr);
        }
    }
}

#[test]
fn backup_aborts_week_old_uploads() {
    let stage = Stage::new(FakeDump::new());
    let own = format!("app/{}", name_of_day(1));
    let id = begin_upload(&stage.bucket, &own);
    // The upload's start cannot be set on the server, so the proxy changes its answer.
    let page = format!(
        "<ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><IsTruncated>false</IsTruncated>\
         <Upload><Key>{own}</Key><UploadId>{id}</UploadId><Initiated>2026-01-01T00:00:00Z</Initiated></Upload>\
         </ListMultipartUploadsResult>"
    );
    let headers = vec![("Content-Type".to_owned(), "application/xml".to_owned())];
    let reply = |body: String| Fault::Reply {
        status: 200,
        headers: headers.clone(),
        body: body.into_bytes(),
        when: When::Before,
    };
    stage.proxy.rule(Rule::on(S3Verb::ListMultipartUploads, Calls::All, reply(page)));
    let outcome = stage.backup().run();
    stage.assert_committed(&outcome, "a stale upload was there, and is no more");
    assert!(outcome.stderr.contains("stale upload aborted"), "{}", outcome.stderr);

    let stage = Stage::new(FakeDump::new());
    stage.proxy.rule(Rule::on(S3Verb::ListMultipartUploads, Calls::All, Fault::access_denied()));
    stage.assert_committed(&stage.backup().run(), "uploads may not be listed");
}
