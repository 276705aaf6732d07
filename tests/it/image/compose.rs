//! `compose.yaml` as it ships: Docker Compose resolves it, and podman runs what comes out, setting by setting, in place of a
//! Docker Engine. Only the network is this machine's own, and the image the one that was built.

use std::path::Path;

use serde_json::{Map, Value};

use super::container::{Container, podman};
use crate::support::client::eventually;
use crate::support::port::own_port;
use crate::support::program::{Outcome, Program};
use crate::support::servers::database::Database;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{assert_empty, clear, installed, only_backup, repository_file, restored};

/// The file in its own directory, with the secrets that it asks for, and what Docker Compose makes of it.
struct Project {
    directory: tempfile::TempDir,
    file: String,
}

impl Project {
    fn new(edit: impl FnOnce(String) -> String) -> Self {
        let file = std::fs::read_to_string(repository_file("compose.yaml")).expect("the file");
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("secrets")).expect("a directory for secrets");
        Self { directory, file: edit(file) }
    }

    /// Writes the secrets, readable as the file says.
    fn secrets(&self, secrets: &[(&str, &str)]) {
        use std::os::unix::fs::PermissionsExt as _;
        for (name, secret) in secrets {
            let path = self.directory.path().join("secrets").join(name);
            std::fs::write(&path, format!("{secret}\n")).expect("the secret");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).expect("its mode");
        }
    }

    fn compose(&self, environment: &[(&str, &str)]) -> Program {
        installed("docker-compose");
        let path = self.directory.path().join("compose.yaml");
        std::fs::write(&path, &self.file).expect("the file");
        let compose = Program::at(&repository_file("target/tools/docker-compose/bin/docker-compose"));
        let compose = environment.iter().fold(compose, |compose, (name, value)| compose.env(name, value));
        compose.arg("--file").arg(path)
    }

    /// The complete project, every default filled in.
    fn resolved(&self, environment: &[(&str, &str)]) -> Value {
        let outcome = self.compose(environment).args(["config", "--format", "json"]).run();
        assert_eq!(outcome.assert_code(0).stderr, "", "Docker Compose complains");
        serde_json::from_str(&outcome.stdout_text()).expect("JSON")
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().expect("a list").iter().map(text).collect()
}

/// A service as a container, every key of it. One that is not known here fails: the file must not outgrow this test.
fn container(project: &Value, service: &str) -> Container {
    let service = project["services"][service].as_object().expect("the service");
    service.iter().fold(Container::bare(), |container, (key, value)| match key.as_str() {
        "read_only" => container.option(format!("--read-only={value}")).option("--read-only-tmpfs=false".to_owned()),
        "user" => container.option(format!("--user={}", text(value))),
        "mem_limit" => container.memory(&text(value)),
        "cpus" => container.option(format!("--cpus={value}")),
        "pids_limit" => container.option(format!("--pids-limit={value}")),
        "stop_grace_period" => container.option(format!("--stop-timeout={}", text(value).trim_end_matches('s'))),
        "cap_drop" => texts(value).iter().fold(container, |all, name| all.option(format!("--cap-drop={name}"))),
        "security_opt" => texts(value).iter().fold(container, |all, name| {
            all.option(format!("--security-opt={}", name.strip_suffix(":true").unwrap_or(name)))
        }),
        "environment" => environment(value).into_iter().fold(container, |all, (name, value)| all.env(name, &value)),
        "secrets" => value.as_array().expect("a list").iter().fold(container, |all, secret| {
            let file = text(&project["secrets"][text(&secret["source"])]["file"]);
            all.mount(Path::new(&file), &text(&secret["target"]))
        }),
        "volumes" => value.as_array().expect("a list").iter().fold(container, |all, volume| {
            let name = format!("{}-{}", all.name(), text(&volume["source"]));
            all.option(format!("--volume={name}:{}", text(&volume["target"])))
        }),
        "healthcheck" => health_check(container, value.as_object().expect("an object")),
        // What no container has, or the test itself sees to.
        "build" | "image" | "depends_on" | "networks" | "restart" => container,
        "command" | "entrypoint" if value.is_null() => container,
        key => panic!("{key} of compose.yaml is not known here: {value}"),
    })
}

fn environment(value: &Value) -> Vec<(&str, String)> {
    value.as_object().expect("an object").iter().map(|(name, value)| (name.as_str(), text(value))).collect()
}

/// podman runs a list of words without a shell, as Docker does with one that begins with CMD.
fn health_check(container: Container, check: &Map<String, Value>) -> Container {
    let words = texts(&check["test"]);
    assert_eq!(words[0], "CMD", "the image's shell is not for this");
    let container = container.option(format!("--health-cmd={}", serde_json::json!(words[1..])));
    ["interval", "timeout", "retries", "start_period"]
        .into_iter()
        .fold(container, |all, key| all.option(format!("--health-{}={}", key.replace('_', "-"), text(&check[key]))))
}

/// Brings the daemon up, sees that it is healthy and backs up at once what it had none of, and takes it down again.
fn up_and_down(project: &Project, bucket: &str, database: &Database) -> Outcome {
    let (s3, postgres) = (s3(), postgres());
    project.secrets(&[
        ("connection-string", &database.uri()),
        ("access-key", &s3.access_key),
        ("secret-key", &s3.secret_key),
        ("postgres-password", &postgres.password),
    ]);
    let resolved = project.resolved(&[("S3_URL", &s3.url), ("S3_BUCKET", bucket)]);
    // This machine's own network has one port 9187 for all.
    let daemon = container(&resolved, "postgres-backup").env("LISTEN", &format!(":{}", own_port()));
    let running = daemon.program(&[]).spawn();
    eventually(|| running.stderr_so_far().contains("backup completed"), || running.stderr_so_far());
    podman().args(["healthcheck", "run", daemon.name()]).run().assert_code(0);
    podman().args(["stop", daemon.name()]).run().assert_code(0);
    let outcome = running.wait();
    outcome.assert_code(143);
    podman().args(["volume", "rm", "--force", &format!("{}-spool", daemon.name())]).run().assert_code(0);
    outcome
}

#[test]
#[ignore = "make image"]
fn the_daemon_of_compose_backs_up_with_secrets_from_files() {
    let (database, bucket) = (postgres().create_database("image"), s3().create_bucket("image"));
    super::sample(&database);
    let outcome = up_and_down(&Project::new(|file| file), &bucket, &database);
    assert!(outcome.stderr.contains("BACKUP_RETENTION_DAYS=30"), "{}", outcome.stderr);
    let key = only_backup(&bucket);
    assert!(key.starts_with("shop/"), "{key}");
    assert_eq!(restored(&bucket, &key).dump().expect("a dump"), database.dump().expect("a dump"));
}

#[test]
#[ignore = "make image"]
fn the_spool_of_compose_is_a_volume_that_the_daemon_may_write_to() {
    let (database, bucket) = (postgres().create_database("image"), s3().create_bucket("image"));
    let taken = |file: String| {
        let taken = file.replace("# BACKUP_SPOOL_DIR:", "BACKUP_SPOOL_DIR:").replace("# volumes:", "volumes:");
        assert_eq!(taken.len(), file.len() - 4, "compose.yaml has two lines to take the # from");
        taken
    };
    let outcome = up_and_down(&Project::new(taken), &bucket, &database);
    assert!(outcome.stderr.contains("complete and on disk"), "{}", outcome.stderr);
    only_backup(&bucket);
    clear(&bucket);
    assert_empty(&bucket);
}

#[test]
#[ignore = "make image"]
fn the_database_of_compose_is_waited_for_until_it_takes_connections() {
    let project = Project::new(|file| file).resolved(&[]);
    let services = &project["services"];
    assert_eq!(services["postgres-backup"]["depends_on"]["postgres"]["condition"], "service_healthy");
    // Its image has the same program; the test's server is at another port.
    let words = texts(&services["postgres"]["healthcheck"]["test"]);
    assert_eq!(words[..2], ["CMD", "pg_isready"]);
    let ready = |port: u16| {
        let program = Program::at(&postgres().bin.join(&words[1])).args(&words[2..]);
        program.env("PGPORT", port.to_string()).run().code
    };
    assert_eq!(ready(postgres().port), Some(0));
    assert_eq!(ready(own_port()), Some(2), "no listener there");
}
