//! The commit with S3 servers that answer incompletely, wrongly or not at all: no backup is deleted because of a wrong answer,
//! and no missing backup is reported as stored.

use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::program::Outcome;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb, When};
use crate::support::servers::s3;
use crate::support::spooled::Spooled;

const STORAGE_FAILED: i32 = 12;
const INVALID_S3: i32 = 3;
/// An ETag of S3's form for one part, of other bytes.
const OTHER_ETAG: &str = "\"0123456789abcdef0123456789abcdef-1\"";

fn small() -> Stage {
    Stage::new(FakeDump::new())
}

fn status(code: u16, s3_code: &'static str) -> Fault {
    Fault::Status { code, s3_code, when: When::Before }
}

fn on_complete(calls: Calls, fault: Fault) -> Rule {
    Rule::on(S3Verb::CompleteMultipartUpload, calls, fault)
}

fn with_header(name: &str, value: &str) -> Fault {
    Fault::ReplaceAnswerHeader(name.to_owned(), value.to_owned())
}

/// The number of objects read.
fn reads(stage: &Stage) -> usize {
    stage.proxy.log().iter().filter(|seen| seen.verb == S3Verb::GetObject && seen.key().ends_with(".sql.gz")).count()
}

#[track_caller]
fn assert_said(outcome: &Outcome, words: &[&str]) {
    for word in words {
        assert!(outcome.stderr.contains(word), "{word:?} wanted in:\n{}", outcome.stderr);
    }
}

#[test]
fn an_etag_that_looks_like_another_objects_is_settled_by_reading_the_backup() {
    let stage = small();
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, with_header("ETag", OTHER_ETAG)));
    let outcome = stage.backup().run();
    stage.assert_committed(&outcome, "another ETag");
    assert_eq!(reads(&stage), 1, "{}", outcome.stderr);
    assert_said(&outcome, &["its ETag is", "is what was sent"]);

    let stage = small();
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, with_header("ETag", OTHER_ETAG)));
    stage.proxy.rule(Rule::on(S3Verb::GetObject, Calls::All, Fault::access_denied()));
    let outcome = stage.backup().run();
    stage.assert_committed(&outcome, "another ETag, and reading is forbidden");
    assert_said(&outcome, &["its ETag is", "may not be read back"]);
}

#[test]
fn an_etag_of_another_form_and_a_missing_size_are_ignored() {
    for etag in ["\"-CKicn4fknbUCEAE=\"", "\"0x8DD3F4A5F0B2C1E-1\"", "\"0123456789abcdef0123456789abcdef-9\""] {
        let stage = small();
        stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, with_header("ETag", etag)));
        let outcome = stage.backup().run();
        stage.assert_committed(&outcome, etag);
        assert_eq!(reads(&stage), 0, "{etag}: {}", outcome.stderr);
    }
    let stage = small();
    let no_size = Fault::StripAnswerHeader("Content-Length".to_owned());
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, no_size));
    let outcome = stage.backup().run();
    stage.assert_committed(&outcome, "no Content-Length");
    assert_eq!(reads(&stage), 0, "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("does not confirm"), "{}", outcome.stderr);
}

#[test]
fn a_store_that_drops_metadata_and_has_etags_of_its_own_is_settled_by_reading() {
    let stage = small();
    let drops = Fault::StripAnswerHeader("x-amz-meta-runid".to_owned());
    // Size and metadata are the store's, the ETag of a single PUT.
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, drops));
    let outcome = stage.backup().env("S3_CHECKSUM", "none").run();
    stage.assert_committed(&outcome, "no metadata, and no checksum to go by");
    assert_eq!(reads(&stage), 1, "{}", outcome.stderr);
}

#[test]
fn where_head_is_denied_the_answer_to_complete_is_the_proof() {
    for fault in [None, Some(Fault::internal_error(When::Before)), Some(Fault::slow_down())] {
        let stage = small();
        stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, Fault::access_denied()));
        if let Some(fault) = fault.clone() {
            stage.proxy.rule(on_complete(Calls::Nth(1), fault));
        }
        // Without a checksum that the answer could contain.
        let outcome = stage.backup().env("S3_CHECKSUM", "none").run();
        stage.assert_committed(&outcome, &format!("HEAD denied, {fault:?}"));
        assert_said(&outcome, &["the answer to Complete is enough"]);
    }
}

#[test]
fn a_condition_that_the_store_refuses_is_left_out_once() {
    for (code, s3_code) in [(400, "NotImplemented"), (400, "InvalidArgument"), (501, "NotImplemented")] {
        let stage = small();
        stage.proxy.rule(on_complete(Calls::All, status(code, s3_code)).header("if-none-match", "*"));
        stage.assert_committed(&stage.backup().run(), s3_code);
        assert_eq!(stage.proxy.count(S3Verb::CompleteMultipartUpload), 2, "{code} {s3_code}");
    }
}

#[test]
fn a_conflict_at_complete_costs_no_backup_with_a_spool() {
    for (code, s3_code) in [(409, "ConditionalRequestConflict"), (404, "NoSuchUpload")] {
        let stage = Spooled::new(FakeDump::new().body(THREE_PARTS));
        stage.proxy.rule(on_complete(Calls::Nth(1), status(code, s3_code)));
        let outcome = stage.backup().run();
        stage.assert_delivered(&outcome, (1, 1), s3_code);
        let parts = stage.proxy.log().into_iter().filter(|seen| seen.verb == S3Verb::UploadPart);
        assert_eq!(parts.count(), 6, "{s3_code}: in two uploads\n{}", outcome.stderr);

        let stage = small();
        stage.proxy.rule(on_complete(Calls::All, status(code, s3_code)));
        let outcome = stage.backup().run();
        stage.assert_failed(&outcome, STORAGE_FAILED, s3_code).then_names(&[s3_code, "run the backup again"]);
        assert_eq!(stage.proxy.count(S3Verb::CompleteMultipartUpload), 1, "{s3_code}");
    }
}

#[test]
fn an_upload_that_is_gone_is_noticed_whatever_complete_answers() {
    // Ceph's two answers to Complete of an upload that is gone.
    let empty = "<CompleteMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><ETag>\"\"</ETag>\
                 </CompleteMultipartUploadResult>";
    let headers = vec![("Content-Type".to_owned(), "application/xml".to_owned())];
    let empty = Fault::Reply { status: 200, headers, body: empty.as_bytes().to_vec(), when: When::Before };
    for (fault, word) in [(status(500, "InternalError"), "InternalError"), (empty, "NoETag")] {
        let stage = small();
        stage.proxy.rule(on_complete(Calls::All, fault));
        stage.proxy.rule(Rule::on(S3Verb::ListParts, Calls::All, status(404, "NoSuchUpload")));
        // Decided at once, without the outage budget of ten minutes.
        let outcome = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "10m").run();
        stage.assert_failed(&outcome, STORAGE_FAILED, word).then_names(&[word]);
        assert_eq!(stage.proxy.count(S3Verb::CompleteMultipartUpload), 1, "{word}");
    }
}

#[test]
fn encryption_that_the_store_does_not_confirm_ends_the_run_before_the_dump() {
    for asked in ["AES256", "aws:kms"] {
        let stage = small();
        // As Ceph 16 does.
        let ignored = Fault::IgnoreRequestHeader("x-amz-server-side-encryption".to_owned());
        stage.proxy.rule(Rule::on(S3Verb::CreateMultipartUpload, Calls::All, ignored));
        let outcome = stage.backup().env("S3_SSE", asked).run();
        stage.assert_failed(&outcome, INVALID_S3, asked).then_names(&[&format!("S3_SSE={asked}")]);
        assert_eq!(stage.dump.pids(), [0; 0], "{asked}: no dump was started");
    }
}

#[test]
fn a_storage_class_that_the_store_does_not_confirm_is_a_warning() {
    let class = "x-amz-storage-class";
    for (fault, should_be_logged) in
        [(Fault::StripAnswerHeader(class.to_owned()), true), (with_header(class, "STANDARD_IA"), false)]
    {
        let stage = small();
        stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, fault.clone()));
        let outcome = stage.backup().env("S3_STORAGE_CLASS", "STANDARD_IA").run();
        stage.assert_committed(&outcome, "a storage class");
        let is_logged = outcome.stderr.contains("does not confirm S3_STORAGE_CLASS");
        assert_eq!(is_logged, should_be_logged, "{fault:?}: {}", outcome.stderr);
    }
}

#[test]
fn a_store_that_refuses_to_be_asked_for_a_checksum_is_asked_without() {
    let stage = small();
    let refuses = Fault::Reply { status: 400, headers: Vec::new(), body: Vec::new(), when: When::Before };
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, refuses).header("x-amz-checksum-mode", "ENABLED"));
    stage.assert_committed(&stage.backup().env("S3_CHECKSUM", "crc64nvme").run(), "crc64nvme");
    let asked = stage.proxy.log().into_iter().filter(|seen| seen.fault.is_some()).count();
    assert!(asked > 0, "it was asked for at first");

    let stage = small();
    stage.assert_committed(&stage.backup().env("S3_CHECKSUM", "md5").run(), "md5");
    let asks = |verb| {
        move |seen: &crate::support::proxy::Seen| seen.verb == verb && seen.header("x-amz-checksum-mode").is_some()
    };
    assert!(!stage.proxy.log().iter().any(asks(S3Verb::HeadObject)), "asked for a checksum that no part carries");
}

#[test]
fn an_answer_that_is_not_from_s3_is_a_wrong_setting_at_first_and_an_outage_later() {
    let stage = small();
    stage.proxy.rule(Rule::any(Calls::All, Fault::bare_404()));
    let outcome = stage.backup().run();
    stage.assert_failed(&outcome, INVALID_S3, "no S3 at all").then_names(&["S3 did not send this answer", "S3_URL"]);

    let stage = Stage::new(FakeDump::new().body(THREE_PARTS));
    let headers = vec![("Content-Type".to_owned(), "text/html".to_owned())];
    let bare_400 =
        Fault::Reply { status: 400, headers, body: b"<html>400 Bad Request</html>".to_vec(), when: When::Before };
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::Nth(2), bare_400));
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::Nth(3), Fault::bare_404()));
    stage.assert_committed(&stage.backup().run(), "a load balancer's answers to two parts");
}

/// An answer to GET with this ETag and body.
fn answer_of(etag: Option<&str>, body: Vec<u8>) -> Fault {
    let etag = etag.map(|etag| ("ETag".to_owned(), etag.to_owned()));
    let headers = etag.into_iter().chain([("Content-Type".to_owned(), "text/html".to_owned())]).collect();
    Fault::Reply { status: 200, headers, body, when: When::Before }
}

/// A store with ETags that look like another object's, and with this answer to GET.
fn read_back(calls: Calls, fault: Fault) -> Stage {
    let stage = small();
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, with_header("ETag", OTHER_ETAG)));
    stage.proxy.rule(Rule::on(S3Verb::GetObject, calls, fault).key_suffix(".sql.gz"));
    stage
}

#[test]
fn a_wrong_answer_to_the_reading_does_not_cost_the_backup() {
    let login_page = || answer_of(None, b"<html>log in</html>".to_vec());
    for (calls, word) in [(Calls::All, "the answers to GET are not the object"), (Calls::Nth(1), "is what was sent")] {
        let stage = read_back(calls, login_page());
        let outcome = stage.backup().run();
        stage.assert_committed(&outcome, word);
        assert_said(&outcome, &[word]);
    }
    let stage = read_back(Calls::Nth(1), status(404, "NoSuchKey"));
    let outcome = stage.backup().run();
    stage.assert_committed(&outcome, "GET finds it the second time");
    assert_said(&outcome, &["is what was sent"]);
}

#[test]
fn an_object_is_deleted_only_where_it_was_read_twice_as_something_else() {
    let stage = small();
    stage.assert_committed(&stage.backup().run(), "to know its size");
    let size = s3().get(&stage.bucket, &stage.backups()[0]).expect("the backup").len();
    let other = || answer_of(Some(OTHER_ETAG), vec![0; size]);
    let stage = read_back(Calls::Nth(1), other());
    let outcome = stage.backup().run();
    stage.assert_committed(&outcome, "once");
    assert_eq!(reads(&stage), 2, "{}", outcome.stderr);
    let stage = read_back(Calls::All, other());
    let outcome = stage.backup().run();
    stage.assert_failed(&outcome, STORAGE_FAILED, "twice").then_names(&["its ETag is", "it was deleted"]);
    assert_eq!(reads(&stage), 2, "{}", outcome.stderr);
}
