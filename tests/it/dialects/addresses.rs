//! Where a store is: a URL with a path, and one that holds the bucket already.

use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::Stage;
use crate::support::proxy::{Calls, Fault, Habit, Rule, S3Verb, When};

const BELOW: &str = "/storage/v1/s3";

#[test]
fn a_trailing_slash_does_not_change_a_url_with_a_path() {
    let stage = Stage::new(FakeDump::new());
    stage.proxy.speak(&[Habit::Below(BELOW)]);
    let url = format!("{}{BELOW}", stage.proxy.url());
    let outcome = stage.backup().env("S3_URL", format!("{url}/")).run();
    stage.assert_committed(&outcome, "with a slash");
    let listed = stage.command("list").env("S3_URL", &url).arg("--quiet").run();
    listed.assert_code(0);
    assert!(stage.backups()[0].ends_with(listed.stdout_text().trim()), "{}", listed.stdout_text());
}

#[test]
fn a_bucket_in_the_url_is_refused_before_any_request() {
    let stage = Stage::new(FakeDump::new());
    let bucket = &stage.bucket;
    let in_host = format!("http://{bucket}.fra1.spaces.test");
    let in_path = format!("{}/{bucket}/", stage.proxy.url());
    for url in [&in_host, &in_path] {
        for style in [None, Some("false")] {
            let program = stage.backup().env("HTTP_PROXY", stage.proxy.url()).env("S3_URL", url);
            let program = style.iter().fold(program, |program, style| program.env("S3_FORCE_PATH_STYLE", style));
            let outcome = program.run();
            stage.assert_failed(&outcome, 3, url).then_names(&["S3_URL", "take the bucket out"]);
        }
    }
    assert_eq!(stage.proxy.log().len(), 0);
}

#[test]
fn a_server_that_has_the_name_of_the_bucket_is_taken_when_path_style_is_asked_for() {
    let stage = Stage::new(FakeDump::new());
    let url = format!("{}/{}", stage.proxy.url(), stage.bucket);
    // The gateway's path is called as the bucket is.
    let below: &'static str = format!("/{}", stage.bucket).leak();
    stage.proxy.speak(&[Habit::Below(below)]);
    let outcome = stage.backup().env("S3_URL", url).env("S3_FORCE_PATH_STYLE", "true").run();
    stage.assert_committed(&outcome, "asked for by name");
}

#[test]
fn a_bucket_that_the_store_takes_for_an_object_is_in_the_url() {
    let stage = Stage::new(FakeDump::new());
    let fault = Fault::Status { code: 404, s3_code: "NoSuchKey", when: When::Before };
    stage.proxy.rule(Rule::on(S3Verb::ListObjects, Calls::All, fault));
    let outcome = stage.backup().run();
    stage.assert_failed(&outcome, 3, "backup").then_names(&["take the bucket out of S3_URL"]);
    for command in ["list", "prune"] {
        let outcome = stage.command(command).env("BACKUP_KEEP_LAST", "1").run();
        stage.assert_failed(&outcome, 3, command).then_names(&["take the bucket out of S3_URL"]);
    }
    let checked = stage.command("check").arg("--bucket-only").run();
    checked.assert_code(14);
    assert!(checked.stdout_text().contains("take the bucket out of S3_URL"), "{}", checked.stdout_text());
}
