//! The stores of `docs/storage.md`, one test each: what a store does in its own way, the settings that suit it, and what comes
//! of it: a complete backup that `list`, `check --deep` and `prune` understand, or exit 3 with the setting to change.
//!
//! They are imitated by what their documents, their source or their users say, not tried. Numbers that would cost time are
//! smaller: so a store takes 2 parts here where it takes 1,000.

use serde_json::Value;

use crate::support::fake_pg_dump::{Body, FakeDump};
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::program::Program;
use crate::support::proxy::{Etag, Habit, S3Verb, Uploads};
use crate::support::servers::s3;
use crate::support::stored::name_of_day;

const COMPLETE: Option<S3Verb> = Some(S3Verb::CompleteMultipartUpload);
/// Every form of a streamed body, as most stores but AWS refuse one or another.
const NO_STREAMED_BODY: [Habit; 2] = [
    refuses(None, "x-amz-content-sha256", "STREAMING", (400, "XAmzContentSHA256Mismatch")),
    refuses(None, "content-encoding", "aws-chunked", (501, "NotImplemented")),
];

const fn refuses(
    verb: Option<S3Verb>,
    header: &'static str,
    part: &'static str,
    (status, code): (u16, &'static str),
) -> Habit {
    Habit::Refuses { verb, header, part, status, code }
}

/// A store, and what suits it.
struct Store {
    habits: Vec<Habit>,
    /// In addition to those of every test; `{proxy}` is the proxy's URL.
    settings: Vec<(&'static str, &'static str)>,
    dump: Body,
    /// Whether an abandoned upload can be found.
    shows_uploads: bool,
}

impl Store {
    fn new(habits: &[Habit]) -> Self {
        let habits = [habits, &NO_STREAMED_BODY, &[Habit::Uploads(Uploads::Old)]].concat();
        Self { habits, settings: Vec::new(), dump: Body::Random(16 << 10), shows_uploads: true }
    }

    fn set(mut self, variable: &'static str, value: &'static str) -> Self {
        self.settings.push((variable, value));
        self
    }

    fn three_parts(self) -> Self {
        Self { dump: THREE_PARTS, ..self }
    }

    fn hiding_uploads(self) -> Self {
        Self { shows_uploads: false, ..self }
    }

    fn stage(&self) -> Stage {
        let stage = Stage::new(FakeDump::new().body(self.dump.clone()));
        stage.proxy.speak(&self.habits);
        stage
    }

    fn program(&self, stage: &Stage, command: &str) -> Program {
        let program = stage.command(command).env_remove("S3_REQUEST_TIMEOUT");
        self.settings.iter().fold(program, |program, (variable, value)| {
            program.env(variable, value.replace("{proxy}", &stage.proxy.url()))
        })
    }

    /// A complete backup, which the other commands understand. Gives what the backup said.
    fn holds_a_backup(&self) -> String {
        let stage = self.stage();
        let outcome = self.program(&stage, "backup").run();
        stage.assert_committed(&outcome, "backup");
        let [key] = stage.backups().try_into().expect("one backup");
        let old = [1, 2].map(name_of_day);
        for name in &old {
            copy(&stage.bucket, &key, &format!("app/{name}"));
        }
        // A run that was killed long ago.
        let abandoned = format!("app/{}", name_of_day(3));
        s3().request("POST", &format!("/{}/{abandoned}?uploads=", stage.bucket), b"").expect("started");

        let listed = self.program(&stage, "list").arg("--json").run();
        assert_eq!(listed.code, Some(0), "list: {}", listed.stderr);
        let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        let text = listed.to_string();
        assert!(key.ends_with(listed_names(&listed)[0]), "the newest first: {text}");
        assert_eq!(text.contains("\"uploading\""), self.shows_uploads, "{text}");

        let checked = self.program(&stage, "check").arg("--deep").run();
        assert_eq!(checked.code, Some(0), "check --deep: {}\n{}", checked.stdout_text(), checked.stderr);

        let pruned = self.program(&stage, "prune").args(["--keep-last=1", "--min-keep=1"]).run();
        assert_eq!(pruned.code, Some(0), "prune: {}", pruned.stderr);
        assert_eq!(stage.backups(), [key], "prune: {}", pruned.stderr);
        let open = if self.shows_uploads { Vec::new() } else { vec![abandoned] };
        assert_eq!(s3().open_uploads(&stage.bucket), open, "prune: {}", pruned.stderr);
        outcome.stderr
    }

    /// Exit 3 before the dump is sent, with these words.
    fn is_refused(&self, words: &[&str]) {
        let stage = self.stage();
        let outcome = self.program(&stage, "backup").run();
        stage.assert_failed(&outcome, 3, "backup");
        // The settings are in the log, too.
        let error = outcome.stderr.lines().rfind(|line| line.contains("ERROR")).unwrap_or_default();
        assert!(words.iter().all(|word| error.contains(word)), "{words:?} wanted in: {error}");
        assert_eq!(stage.proxy.count(S3Verb::UploadPart), 0, "{}", outcome.stderr);
    }
}

/// Copies a backup and its manifest to another name, as if it had been made then.
fn copy(bucket: &str, from: &str, to: &str) {
    for suffix in ["", ".json"] {
        let bytes = s3().get(bucket, &format!("{from}{suffix}")).expect("stored");
        s3().request("PUT", &format!("/{bucket}/{to}{suffix}"), &bytes).expect("stored");
    }
}

fn listed_names(listed: &Value) -> Vec<&str> {
    let backups = listed.as_array().or_else(|| listed["backups"].as_array()).expect("a list");
    backups.iter().filter_map(|backup| backup["file_name"].as_str()).collect()
}

#[test]
fn aws() {
    // All of its checksums, and white space before the answer to Complete.
    Store::new(&[Habit::Spaces]).set("S3_CHECKSUM", "crc64nvme").holds_a_backup();
}

fn google(etag: &'static str) -> Store {
    Store::new(&[
        Habit::Etag(Etag::Is(etag)),
        refuses(COMPLETE, "if-none-match", "", (400, "NotImplemented")),
        Habit::Hides(S3Verb::HeadObject, "content-length"),
        Habit::Hides(S3Verb::GetObject, "content-length"),
        // Its front end changes the header on the way.
        refuses(None, "authorization", "accept-encoding", (403, "SignatureDoesNotMatch")),
        Habit::LateComplete(3),
    ])
}

#[test]
fn google_with_an_etag_of_its_own() {
    google("-CKicn4fknbUCEAE=").holds_a_backup();
}

#[test]
fn google_with_an_etag_in_the_form_of_an_md5() {
    google("7fc8f92280ca3c975f300cb64412c16f-9").holds_a_backup();
}

fn r2() -> Store {
    // By its host S3_EQUAL_PARTS is known; the proxy has another. A limit of three parts makes the second one grow.
    Store::new(&[Habit::EqualParts, Habit::Hides(S3Verb::HeadObject, "content-length")])
        .set("S3_REGION", "auto")
        .set("S3_MAX_PARTS", "3")
        .three_parts()
}

#[test]
fn cloudflare_r2() {
    r2().set("S3_EQUAL_PARTS", "true").holds_a_backup();
}

#[test]
fn a_setting_names_cloudflare_r2_behind_another_host() {
    let stage = r2().stage();
    let outcome = r2().program(&stage, "backup").run();
    stage.assert_failed(&outcome, 12, "parts that grow").then_names(&["InvalidPart", "set S3_EQUAL_PARTS=true"]);
}

#[test]
fn backblaze_b2() {
    Store::new(&[
        refuses(None, "x-amz-checksum-mode", "", (400, "InvalidArgument")),
        refuses(None, "x-amz-checksum-algorithm", "", (400, "InvalidArgument")),
        refuses(None, "x-amz-sdk-checksum-algorithm", "", (400, "InvalidArgument")),
        refuses(None, "if-none-match", "", (501, "NotImplemented")),
    ])
    .holds_a_backup();
}

#[test]
fn azure_by_s3proxy() {
    Store::new(&[Habit::MetadataIsIdentifiers, Habit::Etag(Etag::Is("0x8DD3F4A5F0B2C1E-1")), Habit::Spaces])
        .holds_a_backup();
}

#[test]
fn scaleway() {
    Store::new(&[Habit::MostParts(2)]).set("S3_MAX_PARTS", "2").three_parts().holds_a_backup();
}

#[test]
fn hetzner() {
    // A Ceph: no conditions, and Complete of what is being completed is a 500.
    Store::new(&[Habit::Ignores(&["if-none-match"]), Habit::LateComplete(2)]).holds_a_backup();
}

#[test]
fn ceph_that_has_completed_the_upload_already() {
    Store::new(&[Habit::Ignores(&["if-none-match"]), Habit::LateComplete(1), Habit::RepeatedCompleteIsFine])
        .holds_a_backup();
}

#[test]
fn ceph_16_that_passes_over_an_encryption() {
    Store::new(&[Habit::Ignores(&["if-none-match", "x-amz-server-side-encryption"])])
        .set("S3_SSE", "AES256")
        .is_refused(&["S3_SSE"]);
}

#[test]
fn garage() {
    Store::new(&[
        Habit::Ignores(&["if-none-match", "x-amz-storage-class"]),
        refuses(None, "x-amz-server-side-encryption", "", (501, "NotImplemented")),
    ])
    .holds_a_backup();
}

#[test]
fn garage_with_an_encryption() {
    Store::new(&[refuses(None, "x-amz-server-side-encryption", "", (501, "NotImplemented"))])
        .set("S3_SSE", "AES256")
        .is_refused(&["NotImplemented", "S3_SSE"]);
}

#[test]
fn minio() {
    Store::new(&[Habit::Uploads(Uploads::OfExactKey)]).hiding_uploads().holds_a_backup();
}

#[test]
fn seaweedfs() {
    // This is the proxied server. Some versions do not say when an upload was started, so it is left alone.
    let stage = Store::new(&[Habit::Uploads(Uploads::WithoutTime)]).stage();
    let key = format!("app/{}", name_of_day(3));
    s3().request("POST", &format!("/{}/{key}?uploads=", stage.bucket), b"").expect("started");
    let pruned = stage.command("prune").arg("--keep-last=1").run();
    assert_eq!((pruned.code, s3().open_uploads(&stage.bucket)), (Some(0), vec![key]), "{}", pruned.stderr);
    Store::new(&[]).holds_a_backup();
}

#[test]
fn supabase() {
    let supabase = Store::new(&[Habit::Below("/storage/v1/s3"), Habit::Ignores(&["if-none-match"])]);
    supabase.set("S3_URL", "{proxy}/storage/v1/s3").holds_a_backup();
}

fn oss(code: &'static str) -> Store {
    let habits =
        [Habit::VirtualHosts("oss.test", code), Habit::Etag(Etag::Capitals), Habit::Ignores(&["if-none-match"])];
    // No name server knows the host: the proxy of the fault tests is also the one that HTTP has.
    Store::new(&habits).set("HTTP_PROXY", "{proxy}").set("S3_URL", "http://oss.test")
}

#[test]
fn alibaba_oss() {
    oss("SecondLevelDomainForbidden").set("S3_FORCE_PATH_STYLE", "false").holds_a_backup();
}

#[test]
fn alibaba_and_tencent_with_the_bucket_in_the_path() {
    for code in ["SecondLevelDomainForbidden", "PathStyleDomainForbidden"] {
        oss(code).is_refused(&[code, "S3_FORCE_PATH_STYLE=false"]);
    }
}

#[test]
fn storj() {
    Store::new(&[Habit::Uploads(Uploads::OfFolder), Habit::Unordered]).holds_a_backup();
}

#[test]
fn ovhcloud() {
    Store::new(&[
        refuses(None, "x-amz-checksum-crc32", "", (501, "NotImplemented")),
        refuses(None, "x-amz-sdk-checksum-algorithm", "", (501, "NotImplemented")),
        refuses(None, "x-amz-trailer", "", (400, "XAmzContentSHA256Mismatch")),
    ])
    .holds_a_backup();
}

#[test]
fn swift() {
    Store::new(&[
        refuses(None, "if-none-match", "", (501, "NotImplemented")),
        Habit::MostParts(2),
        Habit::Spaces,
        Habit::LateComplete(1),
    ])
    .set("S3_MAX_PARTS", "2")
    .three_parts()
    .holds_a_backup();
}
