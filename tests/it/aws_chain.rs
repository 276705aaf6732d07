//! The sources of credentials without `S3_ACCESS_KEY`: every source of the AWS chain, imitated on loopback with the
//! real requests and answers. The test verifies every request, signature and token, and the result is a complete backup.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::fake_pg_dump::{Body, FakeDump};
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::program::{Outcome, Program};
use crate::support::proxy::{Calls, Fault, Rule, S3Verb, Seen, Session, When};
use crate::support::servers::s3;
use crate::support::web::{Asked, Reply, Web};

/// `sha1("https://example.awsapps.com/start")`: the name of the token that single sign-on keeps for this address.
const SSO_CACHE: &str = "e8be5486177c5b5392bd9aa76563515b29358e6e";
const HOUR: Duration = Duration::from_hours(1);

/// Temporary credentials, which the proxy in front of the S3 server knows.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The access key.
    pub access: &'static str,
    secret: &'static str,
    token: &'static str,
}

/// The first that a source gives.
pub const FIRST: Key =
    Key { access: "ASIAFIRST00000000001", secret: "fIrSt/sEcReT+key=", token: "first//session+token==" };
/// The next.
const SECOND: Key =
    Key { access: "ASIASECOND0000000002", secret: "sEcOnD/sEcReT+key", token: "second//session+token==" };

impl Key {
    /// As the proxy knows it.
    pub fn session(self) -> Session {
        let Self { access, secret, token } = self;
        Session { access_key: access.to_owned(), secret_key: secret.to_owned(), token: token.to_owned() }
    }

    /// As the container and instance services word it.
    fn json(self, expires_in: Duration) -> String {
        let Self { access, secret, token } = self;
        let expiration = (chrono::Utc::now() + expires_in).to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        format!(
            "{{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"LastUpdated\":\"2026-01-01T00:00:00Z\",\"AccessKeyId\":\"{access}\",\
             \"SecretAccessKey\":\"{secret}\",\"Token\":\"{token}\",\"Expiration\":\"{expiration}\"}}"
        )
    }

    /// As STS words it.
    pub fn xml(self, action: &str) -> String {
        let Self { access, secret, token } = self;
        let expiration = (chrono::Utc::now() + HOUR).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
             <AccessKeyId>{access}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>\
             <Expiration>{expiration}</Expiration></Credentials><AssumedRoleUser>\
             <Arn>arn:aws:sts::123456789012:assumed-role/backup/session</Arn><AssumedRoleId>AROAEXAMPLE:session</AssumedRoleId>\
             </AssumedRoleUser></{action}Result><ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId>\
             </ResponseMetadata></{action}Response>"
        )
    }
}

fn stage() -> Stage {
    with_sessions(FakeDump::new())
}

/// A stage with an S3 server that knows both temporary credentials.
fn with_sessions(dump: FakeDump) -> Stage {
    let stage = Stage::new(dump);
    stage.proxy.accept(&FIRST.session()).accept(&SECOND.session());
    stage
}

/// With the time that S3 has by default: a Complete that a busy machine answers late would be warned of.
fn unhurried(stage: &Stage) -> Program {
    stage.backup().env_remove("S3_REQUEST_TIMEOUT")
}

/// `backup` without credentials, on a host without a metadata service.
fn backup(stage: &Stage) -> Program {
    let program = unhurried(stage).env_remove("S3_ACCESS_KEY").env_remove("S3_SECRET_KEY");
    program.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
}

/// A file below the program's home directory.
fn home_file(program: &Program, path: &str, content: &str) -> PathBuf {
    let path = program.home().join(path);
    fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    fs::write(&path, content).expect("written");
    path
}

/// The key that signed a request.
pub fn signer(seen: &Seen) -> String {
    let authorization = seen.header("authorization").unwrap_or_default();
    let key = authorization.split_once("Credential=").and_then(|(_, rest)| rest.split_once('/'));
    key.map(|(key, _)| key.to_owned()).unwrap_or_default()
}

/// The backup is there, and every request was signed with this key.
#[track_caller]
fn assert_signed_by(stage: &Stage, outcome: &Outcome, access: &str, case: &str) {
    stage.assert_committed(outcome, case);
    for seen in stage.proxy.log() {
        assert_eq!(signer(&seen), access, "{case}: {seen:?}");
    }
    assert!(!outcome.stderr.contains(" WARN "), "{case}: {}", outcome.stderr);
    for secret in [&s3().secret_key, FIRST.secret, FIRST.token] {
        assert!(!outcome.stderr.contains(secret), "{case}: {}", outcome.stderr);
    }
}

/// A file of profiles with static keys, a `credential_process`, and settings that a backup has no use for.
fn with_profiles(program: &Program) {
    let credentials = format!(
        "[default]\naws_access_key_id = wrong\naws_secret_access_key = wrong\n\n\
         [backups]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        s3().access_key,
        s3().secret_key
    );
    home_file(program, ".aws/credentials", &credentials);
    let Key { access, secret, token } = FIRST;
    let answer = format!(
        "{{\"Version\": 1, \"AccessKeyId\": \"{access}\", \"SecretAccessKey\": \"{secret}\", \"SessionToken\": \"{token}\"}}"
    );
    let answer = home_file(program, "answer.json", &answer);
    let config = format!(
        "[profile backups]\nregion = eu-central-1\nretry_mode = legacy\nmax_attempts = 0\n\n\
         [profile process]\ncredential_process = cat '{}'\n\n\
         [profile failing]\ncredential_process = echo no token in the vault >&2; exit 3\n\n\
         [profile role]\nrole_arn = arn:aws:iam::123456789012:role/backup\nsource_profile = backups\n\n\
         [profile single-sign-on]\nsso_start_url = https://example.awsapps.com/start\nsso_region = eu-west-1\n\
         sso_account_id = 123456789012\nsso_role_name = backup\n",
        answer.display()
    );
    home_file(program, ".aws/config", &config);
}

#[test]
fn the_environments_own_keys_are_taken() {
    let stage = stage();
    let program = backup(&stage).env("AWS_ACCESS_KEY_ID", FIRST.access).env("AWS_SECRET_ACCESS_KEY", FIRST.secret);
    assert_signed_by(&stage, &program.clone().env("AWS_SESSION_TOKEN", FIRST.token).run(), FIRST.access, "environment");
    // And it is looked at.
    let outcome = program.env("AWS_SESSION_TOKEN", "another").env("S3_PATH", "refused").run();
    outcome.assert_code(3);
}

#[test]
fn the_settings_own_keys_go_before_the_chain() {
    let stage = stage();
    let program = unhurried(&stage).env("AWS_ACCESS_KEY_ID", "wrong").env("AWS_SECRET_ACCESS_KEY", "wrong");
    assert_signed_by(&stage, &program.run(), &s3().access_key, "settings");
}

#[test]
fn a_profile_is_taken_with_its_region_and_without_its_retries() {
    let stage = stage();
    let program = backup(&stage).env("AWS_PROFILE", "backups");
    with_profiles(&program);
    assert_signed_by(&stage, &program.run(), &s3().access_key, "profile");
    let seen = stage.proxy.log();
    let scope = seen[0].header("authorization").expect("signed");
    assert!(scope.contains("/eu-central-1/s3/"), "{scope}");
}

#[test]
fn a_credential_process_is_asked() {
    let stage = stage();
    let program = backup(&stage).env("AWS_PROFILE", "process");
    with_profiles(&program);
    assert_signed_by(&stage, &program.run(), FIRST.access, "credential_process");
}

#[test]
fn a_role_is_assumed_with_the_keys_of_another_profile() {
    let stage = stage();
    let sts = Web::start(|asked, _| {
        assert!(asked.body.contains("Action=AssumeRole&"), "{asked:?}");
        Reply::ok(FIRST.xml("AssumeRole"))
    });
    let program = backup(&stage).env("AWS_PROFILE", "role").env("AWS_ENDPOINT_URL_STS", sts.url());
    with_profiles(&program);
    assert_signed_by(&stage, &program.env("S3_REGION", "us-east-1").run(), FIRST.access, "role");
    assert!(
        sts.asked()[0].header("authorization").is_some_and(|text| text.contains(&s3().access_key)),
        "{:?}",
        sts.asked()
    );
}

#[test]
fn a_web_identity_is_exchanged_for_keys() {
    let stage = stage();
    let sts = Web::start(|_, _| Reply::ok(FIRST.xml("AssumeRoleWithWebIdentity")));
    let program = backup(&stage);
    let token = home_file(&program, "token", "a.web.identity");
    let program = program
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", token)
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/backup")
        .env("AWS_ENDPOINT_URL_STS", sts.url());
    assert_signed_by(&stage, &program.run(), FIRST.access, "web identity");
    let asked = sts.asked();
    for part in ["Action=AssumeRoleWithWebIdentity", "WebIdentityToken=a.web.identity", "role%2Fbackup"] {
        assert!(asked[0].body.contains(part), "{part}: {asked:?}");
    }
    assert_eq!(asked.len(), 1, "once a run: {asked:?}");
}

#[test]
fn a_containers_service_is_asked_with_its_token() {
    let stage = stage();
    let service = Web::start(|_, _| Reply::ok(FIRST.json(HOUR)));
    let program = backup(&stage);
    let token = home_file(&program, "token", "an-authorization");
    let program = program
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1/credentials", service.url()))
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token);
    assert_signed_by(&stage, &program.run(), FIRST.access, "container");
    let asked = service.asked();
    assert_eq!(
        (asked[0].target.as_str(), asked[0].header("authorization")),
        ("/v1/credentials", Some("an-authorization"))
    );
    assert_eq!(asked.len(), 1, "once a run: {asked:?}");
}

/// The instance metadata service, version 2.
fn metadata(asked: &Asked) -> Reply {
    const ROLE: &str = "/latest/meta-data/iam/security-credentials";
    let path = asked.target.trim_end_matches('/');
    if asked.method == "PUT" && path == "/latest/api/token" {
        let headers = vec![("x-aws-ec2-metadata-token-ttl-seconds", "21600".to_owned())];
        return Reply { headers, ..Reply::ok("a-metadata-token") };
    }
    if asked.header("x-aws-ec2-metadata-token") != Some("a-metadata-token") {
        return Reply::status(401);
    }
    match path.strip_prefix(ROLE).map(|rest| rest.trim_start_matches("-extended")) {
        Some("") => Reply::ok("backup-role"),
        Some("/backup-role") => Reply::ok(FIRST.json(HOUR)),
        _ => Reply::status(404),
    }
}

#[test]
fn an_instances_role_is_found_past_every_proxy() {
    let stage = stage();
    let (service, proxy) = (Web::start(|asked, _| metadata(asked)), Web::start(|_, _| Reply::status(502)));
    let program = backup(&stage).env("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url());
    // S3 is asked past the proxy here, too: by another name of this host, which alone is in NO_PROXY.
    let url = format!("http://localhost:{}", stage.proxy.address().port());
    let program = program.env("S3_URL", url).env("HTTP_PROXY", proxy.url()).env("NO_PROXY", "localhost");
    assert_signed_by(&stage, &program.run(), FIRST.access, "instance");
    assert!(service.asked().len() >= 3, "{:?}", service.asked());
    assert!(proxy.asked().is_empty(), "{:?}", proxy.asked());
}

#[test]
fn single_sign_on_gives_keys_for_the_token_that_it_keeps() {
    let stage = stage();
    let portal = Web::start(|_, _| {
        let Key { access, secret, token } = FIRST;
        let expiration = (chrono::Utc::now() + HOUR).timestamp_millis();
        Reply::ok(format!(
            "{{\"roleCredentials\":{{\"accessKeyId\":\"{access}\",\"secretAccessKey\":\"{secret}\",\"sessionToken\":\"{token}\",\
             \"expiration\":{expiration}}}}}"
        ))
    });
    let program = backup(&stage).env("AWS_PROFILE", "single-sign-on").env("AWS_ENDPOINT_URL_SSO", portal.url());
    with_profiles(&program);
    let expires = (chrono::Utc::now() + HOUR).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let token = format!(
        "{{\"startUrl\":\"https://example.awsapps.com/start\",\"region\":\"eu-west-1\",\"accessToken\":\"an-access-token\",\
         \"expiresAt\":\"{expires}\"}}"
    );
    home_file(&program, &format!(".aws/sso/cache/{SSO_CACHE}.json"), &token);
    assert_signed_by(&stage, &program.run(), FIRST.access, "single sign-on");
    let asked = &portal.asked()[0];
    assert!(asked.target.starts_with("/federation/credentials?"), "{asked:?}");
    assert_eq!(asked.header("x-amz-sso_bearer_token"), Some("an-access-token"));
}

#[test]
fn no_credentials_anywhere_is_said_at_once_with_the_settings_that_would_help() {
    let stage = stage();
    // A listener that never answers, as a firewall that swallows packets: the chain waits a second for it, no more.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("http://{}", silent.local_addr().expect("its address"));
    for (program, words) in [
        (backup(&stage).env("AWS_EC2_METADATA_SERVICE_ENDPOINT", silent).env("S3_URL", ""), "timed out"),
        (backup(&stage).env("AWS_EC2_METADATA_DISABLED", "true"), "environment: environment variable not set"),
        (backup(&stage).env("AWS_PROFILE", "missing"), "profile `missing` was not defined"),
        (backup(&stage).env("AWS_PROFILE", "failing"), "no token in the vault"),
        (backup(&stage).env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/"), "container: "),
    ] {
        with_profiles(&program);
        let program =
            if words.contains("profile") || words.contains("vault") { program } else { program.env("HOME", "/") };
        let outcome = program.timeout(Duration::from_secs(20)).run();
        stage.assert_failed(&outcome, 1, words).then_names(&["S3_ACCESS_KEY", "S3_SECRET_KEY", words]);
        let complaints = outcome.stderr.lines().filter(|line| !line.contains(" INFO ") && !line.contains(" DEBUG "));
        assert_eq!(complaints.count(), 1, "one line: {}", outcome.stderr);
    }
}

/// A container's credential service. It answers [`FIRST`] once, then [`SECOND`].
fn rotating(first_life: Duration) -> Web {
    Web::start(move |_, before| Reply::ok(if before == 0 { FIRST.json(first_life) } else { SECOND.json(HOUR) }))
}

fn expired() -> Fault {
    Fault::Status { code: 400, s3_code: "ExpiredToken", when: When::Before }
}

#[test]
fn credentials_that_expire_in_the_middle_are_renewed_whatever_the_request() {
    for verb in [S3Verb::CreateMultipartUpload, S3Verb::UploadPart, S3Verb::CompleteMultipartUpload, S3Verb::PutObject]
    {
        let stage = with_sessions(FakeDump::new().body(THREE_PARTS));
        let service = rotating(HOUR);
        stage.proxy.rule(Rule::on(verb, Calls::All, expired()).header("authorization", FIRST.access));
        let program = backup(&stage).env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1", service.url()));
        let outcome = program.run();
        stage.assert_committed(&outcome, &format!("{verb:?}"));
        assert!(outcome.stderr.contains("they were renewed"), "{verb:?}: {}", outcome.stderr);
        assert_eq!(service.asked().len(), 2, "{verb:?}: {:?}", service.asked());
        let last = stage.proxy.log().pop().expect("a request");
        assert_eq!(signer(&last), SECOND.access, "{verb:?}");
    }
}

/// A dump that takes five seconds, in several parts.
fn slow() -> Stage {
    with_sessions(FakeDump::new().body(Body::Random(22 << 20)).pause_between(Duration::from_millis(300)))
}

#[test]
fn credentials_are_renewed_before_they_expire() {
    let (stage, service) = (slow(), rotating(Duration::from_secs(3)));
    let program = backup(&stage).env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1", service.url()));
    stage.assert_committed(&program.run(), "short-lived");
    let last = stage.proxy.log().pop().expect("a request");
    assert_eq!((signer(&last).as_str(), service.asked().len()), (SECOND.access, 2), "{:?}", service.asked());
}

#[test]
fn a_source_that_is_out_of_reach_for_a_moment_costs_no_backup() {
    let stage = slow();
    let is_back = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_back);
    let service = Web::start(move |_, before| match before {
        0 => Reply::ok(FIRST.json(Duration::from_secs(2))),
        _ if asked.load(Ordering::SeqCst) => Reply::ok(SECOND.json(HOUR)),
        _ => Reply::status(503),
    });
    let program = backup(&stage).env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1", service.url()));
    let mut running = program.spawn();
    running.wait_for_stderr("error occurred while loading credentials", Duration::from_mins(1));
    is_back.store(true, Ordering::SeqCst);
    stage.assert_committed(&running.wait(), "the source is away");
}

#[test]
fn credentials_that_cannot_be_renewed_are_a_storage_failure_that_leaves_nothing() {
    let stage = with_sessions(FakeDump::new().body(THREE_PARTS));
    let service = Web::start(|_, _| Reply::ok(FIRST.json(HOUR)));
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::From(2), expired()));
    let program = backup(&stage).env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1", service.url()));
    let outcome = program.run();
    stage.assert_failed(&outcome, 12, "the same again").then_names(&["ExpiredToken", "renew the credentials"]);
}
