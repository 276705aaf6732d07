//! Stores that differ: what they know, what they ignore, and what they refuse. A whole backup, or exit 3 with the reason.
//!
//! The real test server does some of it; the fault proxy imitates the rest (FACTS §2).

use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::proxy::{Calls, Fault, Rule, S3Verb, Seen, When};

fn stage() -> Stage {
    Stage::new(FakeDump::new().body(THREE_PARTS))
}

fn only(stage: &Stage, verb: S3Verb) -> Seen {
    stage.proxy.log().into_iter().find(|seen| seen.verb == verb).unwrap_or_else(|| panic!("no {verb:?} was sent"))
}

fn status(code: u16, s3_code: &'static str) -> Fault {
    Fault::Status { code, s3_code, when: When::Before }
}

#[test]
fn class_and_encryption_are_asked_for_where_they_are_set_and_only_for_the_backup() {
    let stage = stage();
    let outcome = stage.backup().env("S3_STORAGE_CLASS", "STANDARD_IA").env("S3_SSE", "AES256").run();
    stage.assert_committed(&outcome, "class and encryption");
    let create = only(&stage, S3Verb::CreateMultipartUpload);
    assert_eq!(create.header("x-amz-storage-class"), Some("STANDARD_IA"));
    assert_eq!(create.header("x-amz-server-side-encryption"), Some("AES256"));
    let sidecars: Vec<Seen> = stage.proxy.log().into_iter().filter(|seen| seen.verb == S3Verb::PutObject).collect();
    assert_eq!(sidecars.len(), 2, "globals and manifest");
    for sidecar in sidecars {
        assert_eq!(sidecar.header("x-amz-storage-class"), None);
        assert_eq!(sidecar.header("x-amz-server-side-encryption"), Some("AES256"));
    }
}

#[test]
fn a_key_is_asked_for_with_kms_alone() {
    let stage = stage();
    let kms = || stage.backup().env("S3_SSE_KMS_KEY_ID", "alias/backups");
    let refused = kms().run();
    stage.assert_failed(&refused, 3, "a key without kms").then_names(&["S3_SSE_KMS_KEY_ID"]);
}

#[test]
fn a_class_that_the_store_does_not_know_is_a_misconfiguration() {
    let stage = stage();
    stage.proxy.rule(Rule::on(S3Verb::CreateMultipartUpload, Calls::All, status(400, "InvalidStorageClass")));
    let outcome = stage.backup().env("S3_STORAGE_CLASS", "STANDARD_IA").run();
    stage.assert_failed(&outcome, 3, "unknown class").then_names(&["InvalidStorageClass", "S3_STORAGE_CLASS"]);
}

#[test]
fn parts_carry_plain_checksum_headers_and_no_trailer() {
    for (kind, header) in [("md5", "content-md5"), ("crc64nvme", "x-amz-checksum-crc64nvme")] {
        let stage = stage();
        stage.assert_committed(&stage.backup().env("S3_CHECKSUM", kind).run(), kind);
        let part = only(&stage, S3Verb::UploadPart);
        assert!(part.header(header).is_some(), "{kind}: {:?}", part.headers);
        assert_eq!((part.header("x-amz-trailer"), part.header("content-encoding")), (None, None), "{kind}");
    }
    let stage = stage();
    stage.assert_committed(&stage.backup().env("S3_CHECKSUM", "none").run(), "none");
    assert_eq!(only(&stage, S3Verb::UploadPart).header("content-md5"), None);
}

#[test]
fn a_store_that_does_not_know_conditions_is_asked_without() {
    let stage = stage();
    stage.proxy.rule(Rule::on(S3Verb::CompleteMultipartUpload, Calls::Nth(1), status(501, "NotImplemented")));
    stage.assert_committed(&stage.backup().run(), "501 to If-None-Match");
    let completes: Vec<Seen> =
        stage.proxy.log().into_iter().filter(|seen| seen.verb == S3Verb::CompleteMultipartUpload).collect();
    let conditions: Vec<Option<&str>> = completes.iter().map(|seen| seen.header("if-none-match")).collect();
    assert_eq!(conditions, [Some("*"), None]);
}

#[test]
fn a_store_that_denies_head_is_believed_by_the_checksum_that_it_returns() {
    let stage = stage();
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, status(403, "AccessDenied")));
    stage.assert_committed(&stage.backup().run(), "HEAD denied");
}

#[test]
fn a_store_that_denies_head_and_listing_has_the_answer_to_complete_as_its_only_word() {
    let stage = stage();
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, status(403, "AccessDenied")));
    stage.proxy.rule(Rule::on(S3Verb::CompleteMultipartUpload, Calls::All, Fault::internal_error(When::After)));
    let outcome = stage.backup().run();
    assert_eq!(outcome.code, Some(12), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("does not say whether it took the object"), "{}", outcome.stderr);
}

#[test]
fn a_store_with_few_parts_gets_larger_ones_or_is_named() {
    let stage = stage();
    // Three parts of 5 MiB do not fit into two; doubled after half the limit they do.
    stage.assert_committed(&stage.backup().env("S3_MAX_PARTS", "2").run(), "two parts");
    assert_eq!(stage.proxy.count(S3Verb::UploadPart), 2);

    let stage = self::stage();
    let outcome = stage.backup().env("S3_MAX_PARTS", "2").env("S3_EQUAL_PARTS", "true").run();
    stage.assert_failed(&outcome, 11, "two equal parts").then_names(&["more than 2 parts", "BACKUP_PART_SIZE"]);
}

#[test]
fn a_bucket_of_another_region_names_the_setting() {
    let stage = stage();
    stage.proxy.rule(Rule::on(S3Verb::CreateMultipartUpload, Calls::All, status(400, "AuthorizationHeaderMalformed")));
    let outcome = stage.backup().run();
    stage.assert_failed(&outcome, 3, "another region").then_names(&["S3_REGION"]);
}

#[test]
fn credentials_that_expire_in_the_middle_are_a_storage_failure() {
    let stage = stage();
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::From(2), status(400, "ExpiredToken")));
    let outcome = stage.backup().run();
    stage.assert_failed(&outcome, 12, "expired").then_names(&["ExpiredToken", "renew the credentials"]);
}
