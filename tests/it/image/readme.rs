//! What docs/installation.md says of containers, as printed: `docker run`, with podman in Docker's place, and the CronJob's container.
//! Replaced are the directory of the secrets and the bucket; added is where this machine's S3 server is.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use super::container::{Container, image, podman};
use crate::kubernetes::manifests::from_yaml;
use crate::readme::blocks::block_after;
use crate::support::client::eventually;
use crate::support::port::own_port;
use crate::support::process::write_script;
use crate::support::program::Program;
use crate::support::servers::database::Database;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{only_backup, restored};

/// The container's name in docs/installation.md.
struct Named(&'static str);

impl Drop for Named {
    fn drop(&mut self) {
        podman().args(["rm", "--force", "--ignore", "--time=0", self.0]).run();
    }
}

/// Secrets in files that the image's user may read.
fn secrets(database: &Database) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let secrets = [
        ("connection-string", database.uri()),
        ("access-key", s3().access_key.clone()),
        ("secret-key", s3().secret_key.clone()),
    ];
    for (name, secret) in secrets {
        std::fs::write(directory.path().join(name), secret + "\n").expect("a secret");
    }
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("its mode");
    directory
}

/// `docker` in the way of the shell: the image is built already, of the same Dockerfile, and the network is this machine's.
fn docker(text: &str) -> Program {
    let shell = podman().executed_by(Path::new("/bin/sh")).args(["-ec", text]);
    let script = "#!/bin/sh\nset -e\ncommand=$1\nshift\ncase $command in\n\
                  build) echo \"build $*\" ;;\n\
                  run) exec /usr/bin/podman run --network host -e S3_URL -e LISTEN \"$@\" ;;\n\
                  *) exit 2 ;;\nesac\n";
    write_script(&shell.home().join("docker"), script);
    let path = format!("{}:{}", shell.home().display(), std::env::var("PATH").unwrap_or_default());
    shell.env("PATH", path).env("S3_URL", &s3().url).env("LISTEN", format!(":{}", own_port()))
}

#[test]
#[ignore = "make image"]
fn docker_run_as_printed_backs_up_and_stops_in_order() {
    let (database, bucket) = (postgres().create_database("image"), s3().create_bucket("image"));
    super::sample(&database);
    let directory = secrets(&database);
    let text = block_after("docs/installation.md", "## Container")
        .replace("S3_BUCKET=backups", &format!("S3_BUCKET={bucket}"));
    let text = text.replace("/etc/pg-s3-backup/shop", &directory.path().display().to_string());
    podman().args(["tag", &image(), "localhost/pg-s3-backup"]).run().assert_code(0);
    let container = Named("backup");
    let outcome = docker(&text).run();
    outcome.assert_code(0);
    assert!(outcome.stdout_text().starts_with("build -t pg-s3-backup .\n"), "{}", outcome.stdout_text());
    let log = || podman().args(["logs", container.0]).run().stderr;
    eventually(|| log().contains("backup completed"), log);
    podman().args(["healthcheck", "run", container.0]).run().assert_code(0);
    podman().args(["stop", container.0]).run().assert_code(0);
    let state = podman().args(["inspect", "--format={{.State.Status}} {{.State.ExitCode}}", container.0]).run();
    assert_eq!(state.assert_code(0).stdout_text(), "exited 143\n");
    let key = only_backup(&bucket);
    assert!(key.starts_with("shop/"), "{key}");
    assert_eq!(restored(&bucket, &key).dump().expect("a dump"), database.dump().expect("a dump"));
}

#[test]
#[ignore = "make image"]
fn the_container_of_the_cron_job_backs_up() {
    let (database, bucket) = (postgres().create_database("image"), s3().create_bucket("image"));
    let directory = secrets(&database);
    let pod =
        &from_yaml(&block_after("docs/installation.md", "## Kubernetes"))[0]["jobTemplate"]["spec"]["template"]["spec"];
    let spec = &pod["containers"][0];
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    // Credentials are the pod's own in docs/installation.md.
    let mut container = Container::hardened().s3(&bucket);
    for variable in list(&spec["env"]).iter().filter(|variable| variable["name"] != "S3_BUCKET") {
        container = container.env(&text(&variable["name"]), &text(&variable["value"]));
    }
    for mount in list(&spec["volumeMounts"]) {
        assert_eq!(mount["name"], pod["volumes"][0]["name"]);
        container = container.mount(directory.path(), &text(&mount["mountPath"]));
    }
    let arguments: Vec<String> = list(&spec["args"]).iter().map(text).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    container.run(&arguments).assert_code(0);
    assert!(only_backup(&bucket).starts_with("shop/"));
}
