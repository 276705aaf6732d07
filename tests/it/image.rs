//! The container image as it ships, on a real PostgreSQL and the real S3 server: without capabilities, as another user,
//! with nothing that it could write to. Only `make image` runs these: it builds the image, and says where it is.

mod compose;
mod container;
mod pods;
mod readme;

use std::time::Duration;

use container::{Container, image, podman};

use crate::support::client::eventually;
use crate::support::port::own_port;
use crate::support::proxy::{Calls, Fault, FaultProxy, Rule, S3Verb, StallAt};
use crate::support::servers::database::Database;
use crate::support::servers::{own_postgres, own_s3, postgres, s3};
use crate::support::setup::{assert_empty, manifest, only_backup, plain, restored, restored_into};

const SOON: Duration = Duration::from_mins(1);
/// Which client programs each server gets of those in the image: the lowest that is new enough.
const CLIENT_OF_SERVER: [(&str, &str); 6] =
    [("13", "15"), ("14", "15"), ("15", "15"), ("16", "17"), ("17", "17"), ("18", "18")];

fn sample(database: &Database) {
    let rows = "CREATE TABLE sample AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, 200000) g";
    database.psql(rows).expect("rows");
}

#[test]
#[ignore = "make image"]
fn a_backup_in_a_hardened_container_is_complete() {
    let (database, bucket) = (postgres().create_database("image"), s3().create_bucket("image"));
    sample(&database);
    let container = Container::hardened().memory("128m").s3(&bucket).database(&database);
    container.run(&["backup"]).assert_code(0);
    let key = only_backup(&bucket);
    assert_eq!(restored(&bucket, &key).dump().expect("a dump"), database.dump().expect("a dump"));
    let listed = Container::hardened().s3(&bucket).run(&["list", "--quiet"]);
    assert_eq!(listed.assert_code(0).stdout_text().trim(), key);
}

#[test]
#[ignore = "make image"]
fn without_a_shell_only_the_globals_are_missing_because_pg_dumpall_wants_one() {
    let (database, bucket) = (postgres().create_database("image"), s3().create_bucket("image"));
    let outcome = Container::hardened().without_shell().s3(&bucket).database(&database).run(&["backup"]);
    assert!(outcome.assert_code(0).stderr.contains("WARN"), "{}", outcome.stderr);
    let keys = s3().keys(&bucket, "");
    let [key, sidecars @ ..] = keys.as_slice() else { panic!("a backup wanted") };
    assert!(key.ends_with(".sql.gz"), "{keys:?}");
    assert_eq!(*sidecars, [format!("{key}.index.json.gz"), format!("{key}.json")]);
}

#[test]
#[ignore = "make image"]
fn nothing_in_the_container_can_be_written_and_its_memory_is_limited() {
    let find = "find / -xdev -writable -not -type l -not -path '/proc/*' -not -path '/dev/*'; id -u";
    let found = Container::hardened().entrypoint("/bin/sh").run(&["-c", find]);
    assert_eq!(found.assert_code(0).stdout_text(), "65532\n");
    // Docker gives a new volume the owner of what the image has there; podman would give it the right one by itself.
    let spool = Container::hardened().entrypoint("/bin/sh").run(&["-c", "stat -c '%u:%g %a' /spool"]);
    assert_eq!(spool.assert_code(0).stdout_text(), "65532:65532 700\n");
    // Of cgroups 2, or of cgroups 1.
    let limit = "cd /sys/fs/cgroup; cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes";
    let limit = Container::hardened().memory("128m").entrypoint("/bin/sh").run(&["-c", limit]);
    assert_eq!(limit.assert_code(0).stdout_text(), format!("{}\n", 128 << 20));
}

#[test]
#[ignore = "make image"]
fn each_server_gets_the_lowest_client_programs_that_are_new_enough() {
    for (major, expected) in CLIENT_OF_SERVER {
        let server = own_postgres(&["--major", major]);
        let (database, bucket) = (server.create_database("image"), s3().create_bucket("image"));
        sample(&database);
        Container::hardened().s3(&bucket).database(&database).run(&["backup"]).assert_code(0);
        let key = only_backup(&bucket);
        let version = manifest(&bucket, &key)["pg_dump_version"].as_str().expect("a version").to_owned();
        assert!(version.starts_with(&format!("{expected}.")), "{major}: {version}");
        // pg_dump 17 sets what 16 does not know (README); all others restore where they came from as they are.
        let dump = String::from_utf8(plain(&bucket, &key)).expect("text");
        let dump = if major == "16" { dump.replacen("SET transaction_timeout = 0;\n", "", 1) } else { dump };
        let restored = restored_into(server.create_database("restored"), dump.as_bytes());
        assert_eq!(
            restored.psql("SELECT count(*), sum(id) FROM sample"),
            Ok("200000|20000100000".to_owned()),
            "{major}"
        );
    }
}

#[test]
#[ignore = "make image"]
fn both_connections_are_encrypted_and_their_certificates_checked() {
    let (server, store) = (own_postgres(&["--ssl"]), own_s3(&["--tls"]));
    let bucket = store.create_bucket("image");
    let database = server.create_database("image");
    let authority = server.ssl_root_cert.clone().expect("the server's authority");
    let uri = format!("{}?sslmode=verify-full&sslrootcert=/run/certificates/postgres.pem", database.uri());
    let container = || {
        let authority = store.ca_file.clone().expect("the store's authority");
        let container = Container::hardened().settings(&store, &bucket).env("POSTGRES_CONNECTION_STRING", &uri);
        let container = container.mount(&authority, "/run/certificates/s3.pem");
        container.env("S3_MAX_PARTS", "100").env("BACKUP_MAX_UPLOAD_OUTAGE", "2s")
    };
    let both = container().mount(&authority, "/run/certificates/postgres.pem");
    both.env("S3_CA_BUNDLE", "/run/certificates/s3.pem").run(&["backup"]).assert_code(0);
    let keys = store.keys(&bucket, "");
    assert!(keys.iter().any(|key| key.ends_with(".sql.gz.json")), "no backup with a manifest: {keys:?}");
    let untrusted = container().mount(&authority, "/run/certificates/postgres.pem").run(&["backup"]);
    assert!(untrusted.stderr.contains("UnknownIssuer"), "{}", untrusted.stderr);
    let wrong = container().mount(store.ca_file.as_ref().expect("its authority"), "/run/certificates/postgres.pem");
    wrong.env("S3_CA_BUNDLE", "/run/certificates/s3.pem").run(&["backup"]).assert_code(10);
}

/// Stops a container during a backup that waits for a silent S3, as an orchestrator would.
fn stop_in_the_middle(arguments: &[&str], interval: &str) {
    let (database, bucket) = (postgres().create_database("image"), s3().create_bucket("image"));
    // Hardly compressible, and more than the parts that may wait in memory.
    let rows = "CREATE TABLE sample AS SELECT sha512(g::text::bytea) AS sum FROM generate_series(1, 600000) g";
    database.psql(rows).expect("rows");
    let proxy = FaultProxy::start(s3().addr());
    proxy.rule(Rule::on(S3Verb::UploadPart, Calls::All, Fault::Stall { at: StallAt::BeforeEffect }));
    let container = Container::hardened().s3(&bucket).database(&database);
    let container = container.env("S3_URL", &proxy.url()).env("BACKUP_PART_SIZE", "5MiB");
    let container = container.env("BACKUP_INTERVAL", interval);
    let running = container.program(arguments).spawn();
    proxy.wait_for(S3Verb::UploadPart, 4, SOON);
    assert_eq!(s3().open_uploads(&bucket).len(), 1);
    podman().args(["stop", "--time=30", container.name()]).run().assert_code(0);
    // 137 would say that it had to be killed.
    running.wait().assert_code(143);
    assert_empty(&bucket);
}

#[test]
#[ignore = "make image"]
fn a_container_that_is_stopped_in_the_middle_of_a_backup_aborts_its_upload() {
    stop_in_the_middle(&["backup"], "");
}

#[test]
#[ignore = "make image"]
fn a_daemon_that_is_stopped_in_the_middle_of_a_backup_aborts_its_upload() {
    stop_in_the_middle(&["daemon", "--run-on-start", "--listen", "127.0.0.1:0"], "@yearly");
}

#[test]
#[ignore = "make image"]
fn image_health_check_distinguishes_a_live_daemon_from_a_hanging_one() {
    let (database, bucket) = (postgres().create_database("image"), s3().create_bucket("image"));
    // No shell, and nothing but the environment says where it listens.
    let container = Container::hardened().without_shell().s3(&bucket).database(&database);
    let container = container.env("BACKUP_INTERVAL", "@yearly").env("LISTEN", &format!(":{}", own_port()));
    let running = container.program(&["daemon", "--catch-up=false"]).spawn();
    eventually(|| running.stderr_so_far().contains("waiting"), || running.stderr_so_far());
    let check = || podman().args(["healthcheck", "run", container.name()]).run();
    check().assert_code(0);
    podman().args(["kill", "--signal=STOP", container.name()]).run().assert_code(0);
    check().assert_code(1);
    podman().args(["kill", "--signal=CONT", container.name()]).run().assert_code(0);
    check().assert_code(0);
    podman().args(["stop", "--time=30", container.name()]).run().assert_code(0);
    running.wait().assert_code(143);
}

#[test]
#[ignore = "make image"]
fn image_declares_user_stop_signal_and_labels() {
    let inspected = podman().args(["image", "inspect", &image()]).run().assert_code(0).stdout_text();
    let all: serde_json::Value = serde_json::from_str(&inspected).expect("JSON");
    let (config, labels) = (&all[0]["Config"], &all[0]["Config"]["Labels"]);
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(config["Entrypoint"], serde_json::json!(["pg-s3-backup"]));
    assert_eq!(config["Cmd"], serde_json::json!(["daemon"]));
    assert!(config["Env"].as_array().expect("variables").contains(&"LISTEN=:9187".into()), "{config}");
    assert!(config["ExposedPorts"]["9187/tcp"].is_object(), "{config}");
    assert_eq!(all[0]["Healthcheck"]["Test"], serde_json::json!(["CMD", "pg-s3-backup", "health"]));
    for label in ["title", "description", "source", "licenses", "revision"] {
        let value = labels[format!("org.opencontainers.image.{label}")].as_str();
        assert!(value.is_some_and(|text| !text.is_empty()), "{label}: {labels}");
    }
    let size = all[0]["Size"].as_u64().expect("a size");
    assert!(size < 200 << 20, "{size} bytes");
}
