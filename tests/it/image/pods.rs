//! The pods of `k8s/` in the image, confined as their templates say: user, group, capabilities, memory, files and their modes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::time::Duration;

use super::container::{Container, podman};
use crate::kubernetes::manifests::{Manifests, items, text};
use crate::kubernetes::node::{Mount, Node};
use crate::support::servers::{postgres, s3};
use crate::support::setup::only_backup;

const SOON: Duration = Duration::from_mins(1);

/// The container of a node's pod.
fn container(node: &Node) -> Container {
    let (pod, confined) = (&node.pod()["securityContext"], &node.container()["securityContext"]);
    let id = |name: &str| pod[name].as_u64().unwrap_or_else(|| panic!("no {name}"));
    let group = id("fsGroup");
    let mut container = Container::bare()
        .option(format!("--user={}:{}", id("runAsUser"), id("runAsGroup")))
        .option(format!("--group-add={group}"))
        .memory(&text(&node.container()["resources"]["limits"]["memory"]).replace("Mi", "m"));
    if confined["readOnlyRootFilesystem"] == true {
        container = container.option("--read-only".to_owned()).option("--read-only-tmpfs=false".to_owned());
    }
    if confined["allowPrivilegeEscalation"] == false {
        container = container.option("--security-opt=no-new-privileges".to_owned());
    }
    for capability in items(&confined["capabilities"]["drop"]) {
        container = container.option(format!("--cap-drop={}", text(capability)));
    }
    for (name, value) in node.environment() {
        container = container.env(&name, &value);
    }
    for mount in node.mounts() {
        give(&mount, u32::try_from(group).expect("a group"));
        let how = if mount.writable { "rw" } else { "ro" };
        container = container.option(format!("--volume={}:{}:{how}", mount.source.display(), mount.target));
    }
    container
}

/// What `fsGroup` does: root's, and the group's.
fn give(mount: &Mount, group: u32) {
    chown(&mount.source, Some(0), Some(group)).expect("make image runs as root");
    fs::set_permissions(&mount.source, Permissions::from_mode(0o2770)).expect("permissions");
    let Some(mode) = mount.mode else { return };
    for file in fs::read_dir(&mount.source).expect("its files") {
        let path = file.expect("a file").path();
        chown(&path, Some(0), Some(group)).expect("chown");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("permissions");
    }
}

/// A node where all that an operator makes is there, the port of the test's own.
fn node(overlay: &str, bucket: &str, connection_string: &str) -> Node {
    let secret = [
        ("connection-string", connection_string),
        ("access-key", &*s3().access_key),
        ("secret-key", &*s3().secret_key),
    ];
    let list = [("1.path", "second"), ("1.connection-string", connection_string), ("1.databases", "")];
    let node = Node::new(Manifests::of(overlay)).with("secret", "pg-s3-backup", &secret);
    node.with("secret", "pg-s3-backup-databases", &list).set("S3_BUCKET", bucket).set("S3_URL", &s3().url)
}

#[test]
#[ignore = "make image"]
fn the_cronjobs_pod_backs_up() {
    let (database, bucket) = (postgres().create_database("pod"), s3().create_bucket("pod"));
    let node = node("base", &bucket, &database.uri());
    container(&node).run(&node.arguments()).assert_code(0);
    assert!(only_backup(&bucket).starts_with("shop/"));
}

#[test]
#[ignore = "make image"]
fn the_fleets_second_pod_backs_the_second_database_up() {
    let (database, bucket) = (postgres().create_database("pod"), s3().create_bucket("pod"));
    let node = node("overlays/fleet", &bucket, &database.uri()).index(1);
    container(&node).run(&node.arguments()).assert_code(0);
    assert!(only_backup(&bucket).starts_with("second/"));
}

#[test]
#[ignore = "make image"]
fn the_daemons_pod_spools_to_its_volume_and_stops() {
    let (database, bucket) = (postgres().create_database("pod"), s3().create_bucket("pod"));
    let node = node("overlays/daemon-prometheus", &bucket, &database.uri());
    // Its port may be taken on this machine.
    let container = container(&node).env("LISTEN", "127.0.0.1:0");
    let mut running = container.program(&node.arguments()).spawn();
    running.wait_for_stderr("backup completed", SOON);
    let grace = node.pod()["terminationGracePeriodSeconds"].as_u64().expect("a time");
    podman().args(["stop", &format!("--time={grace}"), container.name()]).run().assert_code(0);
    running.wait().assert_code(143);
    only_backup(&bucket);
    let mounts = node.mounts();
    let spool = mounts.iter().find(|mount| mount.writable).expect("one place to write to");
    assert!(fs::read_dir(&spool.source).expect("the spool").next().is_some(), "nothing was spooled");
}
