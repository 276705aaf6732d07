//! Stores of one's own: behind a certificate authority of one's own, behind a proxy, with the bucket in the path or in the
//! host's name.
//!
//! Names below `localhost` do not resolve on every machine. Here the proxy resolves them, as a company's does.

use std::sync::LazyLock;

use crate::support::connect_proxy::ConnectProxy;
use crate::support::fake_pg_dump::{FakeDump, FakePgDump};
use crate::support::program::{Outcome, Program};
use crate::support::servers::{OwnS3, own_s3, postgres};
use crate::support::setup::gunzipped;

/// An S3 server with a certificate of an authority of its own; it ends with the test process.
fn store() -> &'static OwnS3 {
    static STORE: LazyLock<OwnS3> = LazyLock::new(|| own_s3(&["--tls"]));
    &STORE
}

/// The store's port.
fn port() -> &'static str {
    store().addr().rsplit_once(':').expect("a port").1
}

/// A bucket there, and what is dumped into it.
struct Stage {
    bucket: String,
    dump: FakePgDump,
}

impl Stage {
    fn new() -> Self {
        Self { bucket: store().create_bucket("private"), dump: FakeDump::new().install() }
    }

    /// `backup`, with the authority trusted.
    fn backup(&self) -> Program {
        Program::new()
            .arg("backup")
            .env("S3_URL", &store().url)
            .env("S3_BUCKET", &self.bucket)
            .env("S3_ACCESS_KEY", &store().access_key)
            .env("S3_SECRET_KEY", &store().secret_key)
            .env("S3_CA_BUNDLE", store().ca_file.as_ref().expect("a CA file"))
            .env("BACKUP_MAX_UPLOAD_OUTAGE", "20s")
            .env("POSTGRES_CONNECTION_STRING", postgres().uri("postgres"))
            .env("PG_DUMP_PATH", self.dump.path())
    }

    /// One backup and its sidecars are there, and it is what `pg_dump` wrote.
    #[track_caller]
    fn assert_committed(&self, outcome: &Outcome) {
        outcome.assert_code(0);
        let keys = store().keys(&self.bucket, "");
        assert_eq!(keys.len(), 3, "{keys:?}");
        let object = store().get(&self.bucket, &keys[0]).expect("the backup");
        assert!(gunzipped(&object) == self.dump.output(), "the backup is not the dump");
    }
}

#[test]
fn a_private_authority_is_trusted_by_its_bundle_alone() {
    let stage = Stage::new();
    stage.assert_committed(&stage.backup().run());
    let impatient = || stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "1s");
    let other = own_authority();
    for program in [impatient().env_remove("S3_CA_BUNDLE"), impatient().env("S3_CA_BUNDLE", other.path())] {
        let outcome = program.run();
        outcome.assert_code(12);
        assert!(outcome.stderr.contains("UnknownIssuer"), "{}", outcome.stderr);
    }
    stage.backup().env("S3_CA_BUNDLE", "/dev/null").run().assert_code(3);
    assert_eq!(store().keys(&stage.bucket, "").len(), 3, "nothing was added");
}

/// The certificate of an authority that nobody here uses.
fn own_authority() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut openssl = std::process::Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=Other",
    ]);
    let output = openssl.args(["-keyout", "/dev/null", "-out"]).arg(file.path()).output().expect("openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    file
}

#[test]
fn a_bundle_and_a_proxy_hold_together() {
    let (stage, proxy) = (Stage::new(), ConnectProxy::start(store().addr()));
    // Only the proxy knows this name.
    let url = format!("https://s3.localhost:{}", port());
    let program = stage.backup().env("S3_URL", url).env("HTTPS_PROXY", proxy.url());
    stage.assert_committed(&program.run());
    let targets = proxy.targets();
    assert!(
        !targets.is_empty() && targets.iter().all(|target| *target == format!("s3.localhost:{}", port())),
        "{targets:?}"
    );

    // The proxy does not change whom to trust.
    let seen = targets.len();
    let distrusting = program.env_remove("S3_CA_BUNDLE").env("BACKUP_MAX_UPLOAD_OUTAGE", "1s").run();
    distrusting.assert_code(12);
    assert!(distrusting.stderr.contains("UnknownIssuer") && proxy.targets().len() > seen, "{}", distrusting.stderr);
}

#[test]
fn a_host_that_no_proxy_names_is_reached_past_the_proxy() {
    for (variable, value) in [("NO_PROXY", "127.0.0.1"), ("no_proxy", "10.0.0.0/8,127.0.0.0/8")] {
        let (stage, proxy) = (Stage::new(), ConnectProxy::start(store().addr()));
        let program = stage.backup().env("HTTPS_PROXY", proxy.url()).env(variable, value);
        stage.assert_committed(&program.run());
        assert_eq!(proxy.targets(), [""; 0], "{variable}={value}");
    }
}

#[test]
fn a_proxy_that_is_not_there_is_a_storage_failure_that_names_it() {
    let stage = Stage::new();
    let program = stage.backup().env("HTTPS_PROXY", "http://127.0.0.1:9").env("BACKUP_MAX_UPLOAD_OUTAGE", "1s");
    let outcome = program.run();
    outcome.assert_code(12);
    assert!(outcome.stderr.contains("refused"), "{}", outcome.stderr);
}

#[test]
fn the_bucket_stands_in_the_hosts_name_where_the_path_is_not_forced() {
    let (stage, proxy) = (Stage::new(), ConnectProxy::start(store().addr()));
    let url = format!("https://s3.localhost:{}", port());
    let program = stage.backup().env("S3_URL", url).env("S3_FORCE_PATH_STYLE", "false").env("HTTPS_PROXY", proxy.url());
    stage.assert_committed(&program.run());
    let targets = proxy.targets();
    let host = format!("{}.s3.localhost:{}", stage.bucket, port());
    assert!(!targets.is_empty() && targets.iter().all(|target| *target == host), "{targets:?}");
}
