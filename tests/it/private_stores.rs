//! Self-hosted stores: with a private CA, behind a proxy, with the bucket in the path or in the
//! host's name.
//!
//! Names below `localhost` do not resolve on every machine. Here the proxy resolves them, as a company's does.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use crate::support::connect_proxy::ConnectProxy;
use crate::support::fake_pg_dump::{FakeDump, FakePgDump};
use crate::support::program::{Outcome, Program};
use crate::support::servers::{OwnS3, own_s3, postgres};
use crate::support::setup::gunzipped;

/// An S3 server with a certificate of a private CA; it ends with the test process.
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

    /// `backup`, with the CA trusted.
    fn backup(&self) -> Program {
        self.command("backup")
            .env("POSTGRES_CONNECTION_STRING", postgres().uri("postgres"))
            .env("PG_DUMP_PATH", self.dump.path())
    }

    /// Any command, with the CA trusted.
    fn command(&self, command: &str) -> Program {
        Program::new()
            .arg(command)
            .env("S3_URL", &store().url)
            .env("S3_BUCKET", &self.bucket)
            .env("S3_ACCESS_KEY", &store().access_key)
            .env("S3_SECRET_KEY", &store().secret_key)
            .env("S3_CA_BUNDLE", store().ca_file.as_ref().expect("a CA file"))
            .env("BACKUP_MAX_UPLOAD_OUTAGE", "20s")
    }

    /// A wrong configuration, reported at once: no wait for another certificate, and nothing is dumped.
    #[track_caller]
    fn assert_distrusted(&self, program: Program, words: &[&str]) {
        let dumps = self.dump.pids().len();
        // Longer than a run may take here.
        let outcome = program.env("BACKUP_MAX_UPLOAD_OUTAGE", "1h").run();
        outcome.assert_code(3);
        let last = outcome.stderr.lines().last().unwrap_or_default();
        assert!(words.iter().all(|word| last.contains(word)), "{words:?} wanted: {}", outcome.stderr);
        assert_eq!(self.dump.pids().len(), dumps, "no dump was started");
    }

    /// One backup and its sidecars are there, and it is what `pg_dump` wrote.
    #[track_caller]
    fn assert_committed(&self, outcome: &Outcome) {
        outcome.assert_code(0);
        let keys = store().keys(&self.bucket, "");
        assert_eq!(keys.len(), 4, "{keys:?}");
        let object = store().get(&self.bucket, &keys[0]).expect("the backup");
        assert!(gunzipped(&object) == self.dump.output(), "the backup is not the dump");
    }
}

#[test]
fn a_private_ca_is_trusted_by_its_bundle_alone() {
    let stage = Stage::new();
    stage.assert_committed(&stage.backup().run());
    let (other, distrusted) = (unused_ca(), "UnknownCertificateAuthority");
    let advice = "set S3_CA_BUNDLE to the certificates of its authority";
    stage.assert_distrusted(stage.backup().env_remove("S3_CA_BUNDLE"), &[distrusted, "UnknownIssuer", advice]);
    stage.assert_distrusted(stage.backup().env("S3_CA_BUNDLE", other.path()), &[distrusted, "UnknownIssuer", advice]);
    stage.backup().env("S3_CA_BUNDLE", "/dev/null").run().assert_code(3);
    assert_eq!(store().keys(&stage.bucket, "").len(), 4, "nothing was added");
}

#[test]
fn a_certificate_of_another_name_is_refused_at_once() {
    let (stage, proxy) = (Stage::new(), ConnectProxy::start(store().addr()));
    let url = format!("https://other.localhost:{}", port());
    let program = stage.backup().env("S3_URL", url).env("HTTPS_PROXY", proxy.url());
    stage.assert_distrusted(program, &["CertificateOfAnotherName", "correct S3_URL"]);
}

#[test]
fn an_expired_certificate_is_refused_at_once_by_every_command() {
    let (stage, server) = (Stage::new(), ExpiredServer::start());
    let url = format!("https://{}", server.address);
    let aimed = |program: Program| program.env("S3_URL", &url).env("S3_CA_BUNDLE", server.dir.path().join("ca.pem"));
    let words = ["ExpiredCertificate", "have the server's certificate renewed"];
    stage.assert_distrusted(aimed(stage.backup()), &words);
    for arguments in [vec!["list"], vec!["prune", "--keep-last=3"]] {
        let outcome = aimed(stage.command(arguments[0])).args(&arguments[1..]).run();
        outcome.assert_code(3);
        assert!(words.iter().all(|word| outcome.stderr.contains(word)), "{}", outcome.stderr);
    }
    let outcome = aimed(stage.command("check")).arg("--bucket-only").run();
    outcome.assert_code(14);
    assert!(outcome.stdout_text().contains(words[0]), "{}", outcome.stdout_text());
}

#[test]
fn a_dump_in_the_spool_outlives_a_certificate_that_is_not_trusted() {
    let (stage, spool) = (Stage::new(), tempfile::tempdir().expect("a directory"));
    let program = stage.backup().env("BACKUP_SPOOL_DIR", spool.path());
    let away = program.clone().env("HTTPS_PROXY", "http://127.0.0.1:9").env("BACKUP_MAX_UPLOAD_OUTAGE", "1s").run();
    away.assert_code(12);
    assert!(away.stderr.contains("the next backup to this destination delivers it"), "{}", away.stderr);
    // Not delivered, not lost, and no other is made meanwhile.
    let distrusting = program.clone().env_remove("S3_CA_BUNDLE").run();
    distrusting.assert_code(3);
    assert!(distrusting.stderr.contains("the next backup to this destination delivers it"), "{}", distrusting.stderr);
    assert_eq!(stage.dump.pids().len(), 1, "{}", distrusting.stderr);
    program.run().assert_code(0);
    let is_backup = |key: &String| key.ends_with(".sql.gz") && !key.ends_with(".globals.sql.gz");
    let backups: Vec<String> = store().keys(&stage.bucket, "").into_iter().filter(is_backup).collect();
    assert_eq!(backups.len(), 2, "the one that was kept, and a fresh one: {backups:?}");
    for key in backups {
        assert!(gunzipped(&store().get(&stage.bucket, &key).expect("it is there")) == stage.dump.output(), "{key}");
    }
}

/// A TLS server with an expired certificate. No client gets past the handshake.
struct ExpiredServer {
    address: String,
    dir: tempfile::TempDir,
    process: Child,
}

impl ExpiredServer {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let made = |arguments: &[&str]| {
            let output = Command::new("openssl").args(arguments).current_dir(dir.path()).output().expect("openssl");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        made(&[&["req", "-x509", "-subj", "/CN=CA", "-keyout", "ca.key", "-out", "ca.pem"], &key[..]].concat());
        made(&[&["req", "-new", "-subj", "/CN=S3", "-keyout", "s3.key", "-out", "s3.csr"], &key[..]].concat());
        std::fs::write(dir.path().join("extensions"), "subjectAltName=IP:127.0.0.1").expect("written");
        let signed = ["x509", "-req", "-in", "s3.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "2"];
        made(&[&signed[..], &["-days", "-1", "-extfile", "extensions", "-out", "s3.pem"]].concat());
        let mut server = Command::new("openssl");
        server.args(["s_server", "-accept", "127.0.0.1:0", "-cert", "s3.pem", "-key", "s3.key"]);
        server.current_dir(dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = server.spawn().expect("a server");
        let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.strip_prefix("ACCEPT ")?.to_owned())).expect("its address");
        // Its further output must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { address, dir, process }
    }
}

impl Drop for ExpiredServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The certificate of an unused CA.
fn unused_ca() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut openssl = Command::new("openssl");
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

    // A proxy does not change the trusted CAs.
    let seen = targets.len();
    stage.assert_distrusted(program.env_remove("S3_CA_BUNDLE"), &["UnknownIssuer"]);
    assert!(proxy.targets().len() > seen, "it went through the proxy");
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
