//! Listings that break off, and manifests that are none: nothing is decided by a part of what there is.

use chrono::{TimeDelta, Utc};
use pg_s3_backup::archive::name::BackupName;

use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::Stage;
use crate::support::program::Outcome;
use crate::support::proxy::{Calls, Fault, Habit, Rule, S3Verb, When};
use crate::support::servers::s3;
use crate::support::stored::{name_of_day, put_backups};

const MIB: usize = 1 << 20;

fn xml(body: &str) -> Fault {
    let headers = vec![("Content-Type".to_owned(), "application/xml".to_owned())];
    let body = format!("<?xml version=\"1.0\"?>{body}").into_bytes();
    Fault::Reply { status: 200, headers, body, when: When::Before }
}

/// A truncated page of these names, without a continuation token.
fn broken_page(names: &[String]) -> Fault {
    let entry = |name: &String| format!("<Contents><Key>app/{name}</Key><Size>1</Size></Contents>");
    let entries: String = names.iter().map(entry).collect();
    xml(&format!("<ListBucketResult><IsTruncated>true</IsTruncated>{entries}</ListBucketResult>"))
}

fn prune(stage: &Stage) -> Outcome {
    stage.command("prune").args(["--keep-last=1", "--min-keep=1", "--sweep-after=1s"]).run()
}

#[test]
fn a_listing_that_breaks_off_deletes_nothing() {
    let stage = Stage::new(FakeDump::new());
    put_backups(&stage.bucket, "app", &[1, 2, 3]);
    let before = stage.keys();
    let page = broken_page(&[name_of_day(1), name_of_day(2)]);
    stage.proxy.rule(Rule::on(S3Verb::ListObjects, Calls::All, page));
    let pruned = prune(&stage);
    assert_eq!((pruned.code, stage.keys()), (Some(12), before.clone()), "{}", pruned.stderr);
    let listed = stage.command("list").run();
    assert_eq!((listed.code, listed.stdout_text().as_str()), (Some(12), ""), "{}", listed.stderr);
    for outcome in [&pruned, &listed] {
        assert!(outcome.stderr.contains("BrokenListing") && outcome.stderr.contains("fixed"), "{}", outcome.stderr);
    }
    // A backup is one whatever the listing says, and deletes nothing by it.
    let backed_up = stage.backup().env("BACKUP_KEEP_LAST", "1").env("BACKUP_MIN_KEEP", "1").run();
    assert_eq!(backed_up.code, Some(0), "{}", backed_up.stderr);
    assert!(before.iter().all(|key| stage.keys().contains(key)), "{:?}", stage.keys());
}

#[test]
fn a_listing_without_a_size_deletes_nothing() {
    let stage = Stage::new(FakeDump::new());
    put_backups(&stage.bucket, "app", &[1, 2, 3]);
    let before = stage.keys();
    let entry = |day, size| format!("<Contents><Key>app/{}</Key>{size}</Contents>", name_of_day(day));
    let entries = entry(1, "<Size>300</Size>") + &entry(2, "<Size>300</Size>") + &entry(3, "");
    let page = xml(&format!("<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"));
    stage.proxy.rule(Rule::on(S3Verb::ListObjects, Calls::All, page));
    let pruned = prune(&stage);
    assert_eq!((pruned.code, stage.keys()), (Some(12), before), "{}", pruned.stderr);
    assert!(pruned.stderr.contains(&format!("no size of app/{}", name_of_day(3))), "{}", pruned.stderr);
}

#[test]
fn the_newest_backup_is_found_in_whatever_order_a_store_lists() {
    let stage = Stage::new(FakeDump::new());
    stage.proxy.speak(&[Habit::Unordered]);
    let hours = [1, 2, 3, 24, 48, 24 * 20, 24 * 100];
    let key = |hours| format!("app/{}", BackupName::new(Utc::now() - TimeDelta::hours(hours)));
    for (nth, hours) in hours.into_iter().enumerate() {
        let database = if nth == 0 { "other" } else { "postgres" };
        let manifest = format!("{{\"database\": \"{database}\", \"object_bytes\": 1}}");
        let key = key(hours);
        s3().put_all(&stage.bucket, &[(&key, "x"), (&format!("{key}.json"), &manifest)]);
    }
    let outcome = stage.backup().run();
    assert_eq!(outcome.code, Some(4), "the newest is another database's: {}", outcome.stderr);
}

#[test]
fn uploads_of_which_only_some_are_listed_are_left_alone() {
    let broken_uploads = |key: &str, id: &str| {
        xml(&format!(
            "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><Upload><Key>{key}</Key><UploadId>{id}</UploadId>\
             <Initiated>2026-01-01T00:00:00Z</Initiated></Upload></ListMultipartUploadsResult>"
        ))
    };
    let parts = "<ListPartsResult><IsTruncated>true</IsTruncated><Part><PartNumber>1</PartNumber>\
                 <LastModified>2026-01-01T00:00:00Z</LastModified></Part></ListPartsResult>";
    for verb in [S3Verb::ListMultipartUploads, S3Verb::ListParts] {
        let stage = Stage::new(FakeDump::new());
        let key = format!("app/{}", name_of_day(1));
        let response = s3().request("POST", &format!("/{}/{key}?uploads=", stage.bucket), b"").expect("started");
        let response = String::from_utf8(response).expect("XML");
        let id = response.split_once("<UploadId>").and_then(|(_, rest)| rest.split_once('<')).expect("an id").0;
        stage.proxy.rule(Rule::on(S3Verb::ListParts, Calls::All, xml(parts)));
        if verb == S3Verb::ListMultipartUploads {
            stage.proxy.rule(Rule::on(verb, Calls::All, broken_uploads(&key, id)));
        } else {
            // Started long ago, as far as the listing says; whether it still gets parts is what breaks off.
            let reply = broken_uploads(&key, id);
            let Fault::Reply { status, headers, body, when } = reply else { unreachable!("a reply") };
            let body = String::from_utf8(body).expect("XML").replace("true", "false").into_bytes();
            stage.proxy.rule(Rule::on(
                S3Verb::ListMultipartUploads,
                Calls::All,
                Fault::Reply { status, headers, body, when },
            ));
        }
        let pruned = prune(&stage);
        assert_eq!(
            (pruned.code, s3().open_uploads(&stage.bucket)),
            (Some(0), vec![key]),
            "{verb:?}: {}",
            pruned.stderr
        );
        assert!(pruned.stderr.contains("BrokenListing"), "{verb:?}: {}", pruned.stderr);
    }
}

#[test]
fn a_manifest_without_end_is_a_damaged_one_and_fills_no_memory() {
    let stage = Stage::new(FakeDump::new());
    stage.assert_committed(&stage.backup().run(), "a backup");
    let key = stage.backups()[0].clone();
    let manifest = s3().get(&stage.bucket, &format!("{key}.json")).expect("the manifest");
    let put = |bytes: &[u8]| s3().request("PUT", &format!("/{}/{key}.json", stage.bucket), bytes).expect("stored");
    let padded = |size: usize| [manifest.clone(), vec![b' '; size - manifest.len()]].concat();
    // Larger than usual: the manifest of a hundred thousand tables.
    put(&padded(2 * MIB));
    let listed = stage.command("list").run();
    assert!(listed.stdout_text().contains("valid"), "{}", listed.stdout_text());
    put(&padded(40 * MIB));
    let listed = stage.command("list").run();
    assert!(listed.stdout_text().contains("unverified"), "{}", listed.stdout_text());
    assert!(listed.stderr.contains(&format!("{}.json", key.trim_start_matches("app/"))), "{}", listed.stderr);
    assert!(listed.peak_rss_bytes < 40 * MIB as u64, "{} bytes", listed.peak_rss_bytes);
    let checked = stage.command("check").arg("--bucket-only").run();
    assert!(checked.stdout_text().contains("more than 16 MiB"), "{}", checked.stdout_text());
}
