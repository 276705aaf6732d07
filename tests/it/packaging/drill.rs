//! The units of the restore drill: a systemd of the test's own starts the drill, which has a throw-away server as long as it
//! runs.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::{PROGRAM, in_repository, tool, values, write_settings};
use crate::support::servers::{own_postgres, postgres, s3};
use crate::support::setup::{backup_program, repository_file};

fn unit(name: &str) -> String {
    std::fs::read_to_string(repository_file(&format!("systemd/{name}"))).expect("the unit")
}

/// A user's systemd in a mount namespace of its own: it starts the drill twice, the second time without a bucket, and prints
/// what is left. `/run` is shared, because systemd mounts credentials there in a namespace of its own.
const OWN_SYSTEMD: &str = r#"set -eu
cd "$1"
mount -t tmpfs none /run && mount --make-shared /run && mkdir -p /run/systemd/system /run/user/0
export HOME=$PWD XDG_CACHE_HOME=$PWD/cache XDG_RUNTIME_DIR=/run/user/0 SYSTEMD_UNIT_PATH=$PWD/units:/usr/lib/systemd/user
export SYSTEMD_LOG_TARGET=console
systemd=$(ls /usr/lib/systemd/systemd /lib/systemd/systemd 2>/dev/null | head -n 1)
"$systemd" --user --unit=basic.target 2>manager.log &
trap 'systemctl --user exit; wait' EXIT
until systemctl --user --quiet is-active basic.target; do sleep 0.1; done
systemctl --user start pg-s3-backup-drill@shop.timer
state() { systemctl --user show --property ActiveState --value pg-s3-backup-drill-server@shop.service; }
for try in first second; do
  if systemctl --user start pg-s3-backup-drill@shop.service; then echo "$try succeeded"; else echo "$try failed"; fi
  until [ "$(state)" != active ] && [ "$(state)" != deactivating ]; do sleep 0.1; done
  state
  find cache /run/user/0/pg-s3-backup-drill -type f
  sed -i s/^S3_BUCKET=.*/S3_BUCKET=absent/ etc/pg-s3-backup/shop/environment
done
"#;

/// What decides on starts, and what is run; without what only root's systemd can do.
fn without_confinement(text: &str) -> String {
    let confining = ["DynamicUser", "Protect", "Private", "Restrict", "SystemCall", "CapabilityBounding", "ProcSubset"];
    let more = ["NoNewPrivileges", "RemoveIPC", "LockPersonality", "MemoryDeny", "ExecSearchPath", "Nice"];
    let is_kept = |line: &&str| !confining.iter().chain(&more).any(|start| line.starts_with(start));
    text.lines().filter(is_kept).collect::<Vec<_>>().join("\n")
}

#[test]
fn drill_has_a_throw_away_server_as_long_as_it_runs() {
    in_repository("scripts/install systemd-analyze");
    let (database, bucket, server) =
        (postgres().create_database("unit"), s3().create_bucket("unit"), own_postgres(&[]));
    database.psql("CREATE TABLE t AS SELECT 7 AS n").expect("a table");
    backup_program(&database, &bucket).run().assert_code(0);
    let directory = tempfile::tempdir().expect("a directory");
    let top = directory.path();
    write_settings(top, &bucket, &database);
    let units = top.join("units");
    std::fs::create_dir(&units).expect("a directory");
    let (etc, bin) = (top.join("etc").display().to_string(), server.bin.display().to_string());
    // The program may be where only its owner reads.
    std::fs::copy(PROGRAM, top.join("pg-s3-backup")).expect("copied");
    let log = top.join("log");
    let here = |text: &str| {
        text.replace("/etc", &etc)
            .replace("/usr/local/bin/pg-s3-backup", &top.join("pg-s3-backup").display().to_string())
    };
    std::fs::set_permissions(top, Permissions::from_mode(0o755)).expect("its mode");
    let path = format!("Environment=PATH={bin}:/usr/bin:/bin");
    let logged = ["StandardOutput", "StandardError"].map(|key| format!("{key}=append:{}", log.display())).join("\n");
    let more = format!("[Service]\n{path}\n{logged}\n");
    // The test's PostgreSQL does not run as root, and may not report to systemd that it is ready.
    let ready = "until pg_isready --quiet --host=%t/pg-s3-backup-drill/%i; do sleep 0.1; done";
    let ready = format!("Type=exec\nUser=nobody\nExecStartPost=/bin/sh -c '{ready}'");
    for name in ["pg-s3-backup-drill@.service", "pg-s3-backup-drill-server@.service"] {
        let text = here(&without_confinement(&unit(name))).replace("Type=notify", &ready);
        let text = text.replace("ExecStart=postgres", &format!("ExecStart={bin}/postgres"));
        std::fs::write(units.join(name), format!("{text}\n{more}")).expect("written");
    }
    let weekly = unit("pg-s3-backup-drill@.timer").replace("Sun *-*-* 05:00:00 UTC", "2099-01-01 05:00:00 UTC");
    std::fs::write(units.join("pg-s3-backup-drill@.timer"), weekly).expect("written");
    let unshare = if rustix::process::geteuid().is_root() { tool("unshare") } else { tool("sudo").arg("unshare") };
    let unshare = unshare.args(["--mount", "--propagation", "private", "bash", "-c", OWN_SYSTEMD, "bash"]);
    let outcome = unshare.arg(top).timeout(Duration::from_mins(3)).run();
    let log = std::fs::read_to_string(log).unwrap_or_default();
    // The second one finds no bucket. Of neither a server is left, nor a file of it.
    let expected = "first succeeded\ninactive\nsecond failed\ninactive\n";
    assert_eq!(outcome.stdout_text(), expected, "{}\n{log}", outcome.stderr);
    assert!(log.contains("ok    drill ") && log.contains("1 table"), "{log}");
    assert!(s3().keys(&bucket, "").iter().any(|key| key.ends_with(".drill.json")), "{log}");
}

#[test]
fn server_of_the_drill_is_confined_more_than_the_drill() {
    let (drill, server) = (unit("pg-s3-backup-drill@.service"), unit("pg-s3-backup-drill-server@.service"));
    for key in ["DynamicUser", "ProtectSystem", "NoNewPrivileges", "PrivateUsers"] {
        assert_eq!(values(&server, key), values(&drill, key), "{key}");
    }
    // Code in a dump runs in it.
    assert_eq!(values(&server, "PrivateNetwork"), ["yes"]);
    assert!(values(&server, "EnvironmentFile").is_empty() && values(&server, "LoadCredential").is_empty());
    // The drill reads what the backup reads, but no connection string of the database.
    let backup = unit("pg-s3-backup@.service");
    assert_eq!(values(&drill, "EnvironmentFile"), values(&backup, "EnvironmentFile"));
    assert!(!drill.contains("POSTGRES_CONNECTION_STRING"), "{drill}");
    let started = values(&drill, "ExecStart")[0];
    assert_eq!(started, "/usr/local/bin/pg-s3-backup check --bucket-only --max-age none");
}
