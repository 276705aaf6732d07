//! Stores that differ: what they know, what they ignore, and what they refuse. A complete backup, or exit 3 with the reason.
//!
//! The real test server does some of it; the fault proxy imitates the rest. [`stores`] is the table of
//! `docs/storage.md`, a test for each store; the tests here are of single habits.

mod addresses;
mod listings;
mod stores;

use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::{PART, Stage, THREE_PARTS};
use crate::support::program::Program;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb, Seen, When};

fn stage() -> Stage {
    Stage::new(FakeDump::new().body(THREE_PARTS))
}

/// With the time that S3 has by default: requests are counted here, and one that a busy machine answers late is sent again.
fn backup(stage: &Stage) -> Program {
    stage.backup().env_remove("S3_REQUEST_TIMEOUT")
}

fn only(stage: &Stage, verb: S3Verb) -> Seen {
    stage.proxy.log().into_iter().find(|seen| seen.verb == verb).unwrap_or_else(|| panic!("no {verb:?} was sent"))
}

fn status(code: u16, s3_code: &'static str) -> Fault {
    Fault::Status { code, s3_code, when: When::Before }
}

/// The test's server encrypts, but says so at parts alone; S3 says so when the upload is started.
fn confirms_encryption(stage: &Stage) {
    let confirmed = Fault::AddAnswerHeader("x-amz-server-side-encryption".to_owned(), "AES256".to_owned());
    stage.proxy.rule(Rule::on(S3Verb::CreateMultipartUpload, Calls::All, confirmed));
}

#[test]
fn class_and_encryption_are_asked_for_where_they_are_set_and_only_for_the_backup() {
    let stage = stage();
    confirms_encryption(&stage);
    let outcome = backup(&stage).env("S3_STORAGE_CLASS", "STANDARD_IA").env("S3_SSE", "AES256").run();
    stage.assert_committed(&outcome, "class and encryption");
    let create = only(&stage, S3Verb::CreateMultipartUpload);
    assert_eq!(create.header("x-amz-storage-class"), Some("STANDARD_IA"));
    assert_eq!(create.header("x-amz-server-side-encryption"), Some("AES256"));
    let sidecars: Vec<Seen> = stage.proxy.log().into_iter().filter(|seen| seen.verb == S3Verb::PutObject).collect();
    assert_eq!(sidecars.len(), 3, "globals, index and manifest");
    for sidecar in sidecars {
        assert_eq!(sidecar.header("x-amz-storage-class"), None);
        assert_eq!(sidecar.header("x-amz-server-side-encryption"), Some("AES256"));
    }
}

#[test]
fn a_key_is_asked_for_with_kms_alone() {
    let stage = stage();
    let kms = || backup(&stage).env("S3_SSE_KMS_KEY_ID", "alias/backups");
    let refused = kms().run();
    stage.assert_failed(&refused, 3, "a key without kms").then_names(&["S3_SSE_KMS_KEY_ID"]);
}

#[test]
fn parts_carry_plain_checksum_headers_and_no_trailer() {
    for (kind, header) in [("md5", "content-md5"), ("crc64nvme", "x-amz-checksum-crc64nvme")] {
        let stage = stage();
        stage.assert_committed(&backup(&stage).env("S3_CHECKSUM", kind).run(), kind);
        let part = only(&stage, S3Verb::UploadPart);
        assert!(part.header(header).is_some(), "{kind}: {:?}", part.headers);
        assert_eq!((part.header("x-amz-trailer"), part.header("content-encoding")), (None, None), "{kind}");
    }
    let stage = stage();
    stage.assert_committed(&backup(&stage).env("S3_CHECKSUM", "none").run(), "none");
    assert_eq!(only(&stage, S3Verb::UploadPart).header("content-md5"), None);
}

#[test]
fn a_store_that_does_not_know_conditions_is_asked_without() {
    let stage = stage();
    stage.proxy.rule(Rule::on(S3Verb::CompleteMultipartUpload, Calls::Nth(1), status(501, "NotImplemented")));
    stage.assert_committed(&backup(&stage).run(), "501 to If-None-Match");
    let completes: Vec<Seen> =
        stage.proxy.log().into_iter().filter(|seen| seen.verb == S3Verb::CompleteMultipartUpload).collect();
    let conditions: Vec<Option<&str>> = completes.iter().map(|seen| seen.header("if-none-match")).collect();
    assert_eq!(conditions, [Some("*"), None]);
}

#[test]
fn a_store_that_denies_head_is_believed_by_the_checksum_that_it_returns() {
    let stage = stage();
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, status(403, "AccessDenied")));
    stage.assert_committed(&backup(&stage).run(), "HEAD denied");
}

#[test]
fn a_store_that_denies_head_and_listing_is_believed_by_its_answer_to_complete() {
    let stage = stage();
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, status(403, "AccessDenied")));
    stage.proxy.rule(Rule::on(S3Verb::CompleteMultipartUpload, Calls::All, Fault::internal_error(When::After)));
    let outcome = backup(&stage).env("BACKUP_MAX_UPLOAD_OUTAGE", "2s").run();
    assert_eq!(outcome.code, Some(12), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("does not say whether it took the object"), "{}", outcome.stderr);
}

#[test]
fn a_store_with_few_parts_gets_larger_ones_or_is_named() {
    let stage = stage();
    // Three parts of 5 MiB do not fit into two; doubled after half the limit they do.
    stage.assert_committed(&backup(&stage).env("S3_MAX_PARTS", "2").run(), "two parts");
    assert_eq!(stage.proxy.count(S3Verb::UploadPart), 2);

    let stage = self::stage();
    let outcome = backup(&stage).env("S3_MAX_PARTS", "2").env("S3_EQUAL_PARTS", "true").run();
    stage.assert_failed(&outcome, 11, "two equal parts").then_names(&["more than 2 parts", "BACKUP_PART_SIZE"]);
}

#[test]
fn credentials_that_expire_in_the_middle_are_a_storage_failure() {
    let stage = stage();
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::From(2), status(400, "ExpiredToken")));
    let outcome = backup(&stage).run();
    stage.assert_failed(&outcome, 12, "expired").then_names(&["ExpiredToken", "renew the credentials"]);
}

#[test]
fn a_part_that_the_store_damages_is_sent_again_with_any_checksum() {
    for checksum in ["md5", "crc64nvme", "none"] {
        for fault in [Fault::CorruptBody, Fault::CorruptUnchecked] {
            let (stage, case) = (stage(), format!("{checksum}, {fault:?}"));
            stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::Nth(2), fault));
            stage.assert_committed(&backup(&stage).env("S3_CHECKSUM", checksum).run(), &case);
            assert_eq!(stage.proxy.count(S3Verb::UploadPart), 4, "{case}: one more than there are parts");
        }
    }
}

#[test]
fn a_checksum_that_the_store_refuses_in_the_end_is_a_failure_at_once() {
    let stage = stage();
    stage.proxy.rule(Rule::on(S3Verb::CompleteMultipartUpload, Calls::All, status(400, "BadDigest")));
    let outcome = backup(&stage).env("BACKUP_MAX_UPLOAD_OUTAGE", "10m").run();
    stage.assert_failed(&outcome, 12, "the object's checksum").then_names(&["BadDigest"]);
    assert_eq!(stage.proxy.count(S3Verb::CompleteMultipartUpload), 1);
}

#[test]
fn a_store_that_refuses_trailers_and_streamed_signatures_gets_none() {
    let kinds = [("S3_CHECKSUM", "md5"), ("S3_CHECKSUM", "crc64nvme"), ("S3_CHECKSUM", "none"), ("S3_SSE", "AES256")];
    for (variable, value) in kinds {
        let stage = stage();
        for (header, part, code, s3_code) in [
            ("x-amz-trailer", "", 400, "XAmzContentSHA256Mismatch"),
            ("x-amz-content-sha256", "STREAMING", 400, "XAmzContentSHA256Mismatch"),
            ("content-encoding", "aws-chunked", 501, "NotImplemented"),
            ("transfer-encoding", "", 501, "NotImplemented"),
        ] {
            stage.proxy.rule(Rule::any(Calls::All, status(code, s3_code)).header(header, part));
        }
        confirms_encryption(&stage);
        stage.assert_committed(&backup(&stage).env(variable, value).run(), &format!("{variable}={value}"));
        let is_refused = |seen: &Seen| matches!(seen.fault, Some(Fault::Status { .. }));
        assert!(!stage.proxy.log().iter().any(is_refused), "{variable}={value}");
    }
}

#[test]
fn parts_are_equal_where_the_store_wants_it() {
    let stage = stage();
    stage.assert_committed(
        &backup(&stage).env("S3_EQUAL_PARTS", "true").env("S3_MAX_PARTS", "1000").run(),
        "equal parts",
    );
    let mut sizes: Vec<u64> = stage
        .proxy
        .log()
        .iter()
        .filter(|seen| seen.verb == S3Verb::UploadPart)
        .map(|seen| seen.request_body_len)
        .collect();
    sizes.sort_unstable();
    assert!(sizes.len() == 3 && sizes[0] < PART && sizes[1..] == [PART, PART], "{sizes:?}");
}

#[test]
fn a_store_that_encrypts_and_shows_no_etag_is_believed_by_size_and_owner() {
    let stage = stage();
    let encrypted = Fault::AddAnswerHeader("x-amz-server-side-encryption".to_owned(), "aws:kms".to_owned());
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::All, encrypted));
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::From(2), Fault::StripAnswerHeader("ETag".to_owned())));
    stage.assert_committed(&backup(&stage).run(), "no ETags to go by");
}

#[test]
fn a_refusal_at_first_is_an_invalid_configuration_that_names_the_setting() {
    let class = ("S3_STORAGE_CLASS", "STANDARD_IA");
    let encryption = ("S3_SSE", "AES256");
    let none = ("S3_CHECKSUM", "md5");
    for (setting, code, s3_code, hint) in [
        (class, 400, "InvalidStorageClass", "S3_STORAGE_CLASS"),
        (class, 501, "NotImplemented", "S3_STORAGE_CLASS"),
        (class, 400, "InvalidArgument", "S3_STORAGE_CLASS"),
        (encryption, 501, "NotImplemented", "S3_SSE"),
        (encryption, 400, "InvalidRequest", "S3_SSE"),
        (encryption, 400, "InvalidEncryptionAlgorithmError", "S3_SSE"),
        (("S3_SSE", "aws:kms"), 400, "KMS.NotFoundException", "S3_SSE_KMS_KEY_ID"),
        (("S3_CHECKSUM", "crc64nvme"), 400, "InvalidRequest", "S3_CHECKSUM"),
        (none, 400, "AuthorizationHeaderMalformed", "S3_REGION"),
        (none, 400, "IllegalLocationConstraintException", "S3_REGION"),
        (none, 301, "PermanentRedirect", "S3_REGION"),
        (none, 307, "TemporaryRedirect", "S3_REGION"),
        (none, 403, "InvalidAccessKeyId", "S3_ACCESS_KEY"),
        (none, 403, "NotSignedUp", "S3_ACCESS_KEY"),
        (none, 403, "SignatureDoesNotMatch", "S3_SECRET_KEY"),
        (none, 403, "AccessDenied", "S3_SECRET_KEY"),
        (none, 404, "NoSuchBucket", "S3_BUCKET"),
    ] {
        let (stage, (variable, value)) = (Stage::new(FakeDump::new()), setting);
        stage.proxy.rule(Rule::on(S3Verb::CreateMultipartUpload, Calls::All, status(code, s3_code)));
        let outcome = backup(&stage).env(variable, value).run();
        stage.assert_failed(&outcome, 3, s3_code).then_names(&[s3_code, hint]);
        assert_eq!(stage.proxy.count(S3Verb::CreateMultipartUpload), 1, "{s3_code}: asked once");
    }
}

#[test]
fn a_store_that_denies_everything_alike_is_an_invalid_configuration() {
    let stage = stage();
    stage.proxy.rule(Rule::any(Calls::All, Fault::access_denied()));
    let outcome = backup(&stage).run();
    stage.assert_failed(&outcome, 3, "a wrong key of Garage's").then_names(&["S3_ACCESS_KEY", "S3_SECRET_KEY"]);
}

#[test]
fn reports_region_named_by_a_redirection() {
    let stage = stage();
    let headers = vec![("x-amz-bucket-region".to_owned(), "eu-central-1".to_owned())];
    stage
        .proxy
        .rule(Rule::any(Calls::All, Fault::Reply { status: 301, headers, body: Vec::new(), when: When::Before }));
    stage.assert_failed(&backup(&stage).run(), 3, "301").then_names(&["the bucket is in eu-central-1", "S3_REGION"]);
}
