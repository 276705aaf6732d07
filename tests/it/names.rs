//! Names: two runs never use the same one, with or without conditional writes, and no run changes another one's upload.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::Stage;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb, Seen};
use crate::support::servers::{postgres, s3};
use crate::support::setup::{gunzipped, manifest};

const SOON: Duration = Duration::from_mins(1);

/// The upload that a request is about.
fn upload_id(seen: &Seen) -> Option<String> {
    seen.query.split('&').find_map(|pair| pair.strip_prefix("uploadId=")).map(str::to_owned)
}

/// The name of the second that is so many seconds from now.
fn name_in(seconds: i64) -> String {
    let time = chrono::Utc::now() + chrono::TimeDelta::seconds(seconds);
    format!("postgres-backup-{}.sql.gz", time.format("%Y-%m-%d_%H-%M-%S"))
}

/// Lets the next second begin.
fn next_second() {
    let left = 1_000 - chrono::Utc::now().timestamp_subsec_millis() % 1_000;
    std::thread::sleep(Duration::from_millis(left.into()));
}

#[test]
fn two_runs_in_one_second_and_one_path_are_two_backups() {
    for ignored in [None, Some("if-none-match")] {
        let stage = Stage::new(FakeDump::new().held());
        stage.proxy.rule(Rule::on(S3Verb::ListObjects, Calls::First(2), Fault::Hold));
        if let Some(header) = ignored {
            let fault = Fault::IgnoreRequestHeader(header.to_owned());
            stage.proxy.rule(Rule::on(S3Verb::CompleteMultipartUpload, Calls::All, fault));
        }
        // The lock keeps two backups of one database apart, not those of two.
        let other = postgres().create_database("second");
        let runs = [stage.backup(), stage.backup().env("POSTGRES_CONNECTION_STRING", other.uri())];
        let runs = runs.map(|run| run.spawn());
        // Both look at the destination; the names come after that.
        stage.proxy.wait_for(S3Verb::ListObjects, 2, SOON);
        next_second();
        stage.proxy.release();
        stage.proxy.wait_for(S3Verb::CreateMultipartUpload, 2, SOON);
        crate::support::client::eventually(|| stage.dump.pids().len() == 2, || format!("{:#?}", stage.proxy.log()));
        stage.dump.let_go();
        for run in runs {
            run.wait().assert_code(0);
        }
        let keys = stage.backups();
        assert_eq!(keys.len(), 2, "{ignored:?}: {keys:?}");
        for key in &keys {
            let object = s3().get(&stage.bucket, key).expect("it is there");
            assert!(gunzipped(&object) == stage.dump.output(), "{key} is not the dump");
            let manifest = manifest(&stage.bucket, key);
            assert_eq!(manifest["key"], **key);
        }
        let ids = |verb: S3Verb| -> BTreeSet<String> {
            stage.proxy.log().iter().filter(|seen| seen.verb == verb).filter_map(upload_id).collect()
        };
        let (aborted, completed) = (ids(S3Verb::AbortMultipartUpload), ids(S3Verb::CompleteMultipartUpload));
        assert!(completed.len() == 2 && aborted.is_disjoint(&completed), "{aborted:?} {completed:?}");
        assert_eq!(s3().open_uploads(&stage.bucket), [""; 0]);
    }
}

#[test]
fn a_second_is_taken_by_any_suffix_and_by_an_open_upload_which_is_left_alone() {
    let stage = Stage::new(FakeDump::new());
    let key = |seconds: i64| format!("app/{}", name_in(seconds));
    // More than the time from here to the run's name; and the two kinds take turns.
    let (open, other): (Vec<i64>, Vec<i64>) = (0..4).partition(|second| second % 2 == 0);
    let open: Vec<String> = open.into_iter().map(key).collect();
    let other: Vec<String> = other.into_iter().map(|second| key(second).replace(".sql.gz", ".sql.zst.age")).collect();
    s3().put_many(&stage.bucket, &other);
    s3().begin_uploads(&stage.bucket, &open);
    let outcome = stage.backup().run();
    outcome.assert_code(0);
    let keys = stage.backups();
    let [backup] = keys.as_slice() else { panic!("one backup wanted: {keys:?}") };
    let stem = |key: &String| key.split(".sql").next().map(str::to_owned);
    assert!(open.iter().chain(&other).all(|taken| stem(taken) != stem(backup)), "{backup}: {open:?} {other:?}");
    let mut left = s3().open_uploads(&stage.bucket);
    left.sort_unstable();
    assert_eq!(left, open, "{}", outcome.stderr);
    // Whatever it waited for, the name is not later than the manifest's time.
    let manifest = manifest(&stage.bucket, backup);
    let time = |field: &str| manifest[field].as_str().expect("a time").to_owned();
    let started = time("started_at").replace(':', "-").replace('T', "_").replace('Z', "");
    assert!(backup.contains(&started), "{backup}: {started}");
    assert!(time("started_at") <= time("finished_at"), "{manifest}");
}
