//! What a person gets who does not build it: `make install` and `make dist`, and the units of systemd among it, which a
//! systemd of the test's own starts.

mod drill;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::program::{Outcome, Program};
use crate::support::servers::database::Database;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{only_backup, repository_file};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg-s3-backup");

/// Some install what they need, and strip, compress and trace on a busy machine.
const PATIENCE: Duration = Duration::from_mins(10);

/// A command with the tools of this machine (and those that install themselves) at hand.
fn tool(name: &str) -> Program {
    let home = std::env::var_os("HOME").unwrap_or_default();
    Program::at(Path::new("/usr/bin/env")).env("HOME", home).arg(name).timeout(PATIENCE)
}

fn in_repository(line: &str) -> Outcome {
    let directory = repository_file("").display().to_string();
    let outcome = tool("bash").args(["-c", &format!("cd '{directory}' && {line}")]).run();
    outcome.assert_code(0);
    outcome
}

fn installed(prefix: &str) -> tempfile::TempDir {
    let destination = tempfile::tempdir().expect("a directory");
    let directory = destination.path().display();
    in_repository(&format!("make install PROGRAM='{PROGRAM}' DESTDIR='{directory}' PREFIX={prefix}"));
    destination
}

fn files_below(directory: &Path) -> BTreeSet<String> {
    let list = Program::at(Path::new("/usr/bin/find")).arg(directory).args(["-type", "f", "-printf", "%P\\n"]).run();
    list.assert_code(0).stdout_text().lines().map(str::to_owned).collect()
}

#[test]
fn make_install_puts_everything_where_it_belongs() {
    let destination = installed("/usr");
    let files = files_below(destination.path());
    for file in [
        "usr/bin/pg-s3-backup",
        "usr/share/man/man1/pg-s3-backup.1",
        "usr/share/man/man1/pg-s3-backup-backup.1",
        "usr/share/bash-completion/completions/pg-s3-backup",
        "usr/share/zsh/site-functions/_pg-s3-backup",
        "usr/share/fish/vendor_completions.d/pg-s3-backup.fish",
        "usr/lib/systemd/system/pg-s3-backup@.service",
        "usr/lib/systemd/system/pg-s3-backup@.timer",
        "usr/lib/systemd/system/pg-s3-backup-retry@.timer",
        "usr/lib/systemd/system/pg-s3-backup-daemon@.service",
        "usr/lib/systemd/system/pg-s3-backup-drill@.service",
        "usr/lib/systemd/system/pg-s3-backup-drill@.timer",
        "usr/lib/systemd/system/pg-s3-backup-drill-server@.service",
        "usr/share/doc/pg-s3-backup/environment.example",
    ] {
        assert!(files.contains(file), "no {file}: {files:#?}");
    }
    let version = Program::at(&destination.path().join("usr/bin/pg-s3-backup")).arg("--version").run();
    assert_eq!(version.assert_code(0).stdout_text(), concat!("pg-s3-backup ", env!("CARGO_PKG_VERSION"), "\n"));
    let runs_the_program = |file: &&String| file.ends_with(".service") && !file.contains("drill-server");
    for unit in files.iter().filter(runs_the_program) {
        let text = std::fs::read_to_string(destination.path().join(unit)).expect("a unit");
        assert!(text.contains("\nExecStart=/usr/bin/pg-s3-backup "), "{unit} starts another program");
    }
}

/// The relative links of all pages below a directory that lead to no file.
fn broken_links(top: &Path) -> Vec<String> {
    let mut broken = Vec::new();
    let is_page = |file: &&String| Path::new(file).extension().is_some_and(|extension| extension == "md");
    for page in files_below(top).iter().filter(is_page) {
        let path = top.join(page);
        let text = std::fs::read_to_string(&path).expect("a page");
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        let files = links.filter(|link| !link.contains("://")).filter_map(|link| link.split('#').next());
        let is_broken = |link: &&str| !path.with_file_name(link).exists() && !link.is_empty();
        broken.extend(files.filter(is_broken).map(|link| format!("{page}: {link}")));
    }
    broken
}

#[test]
fn make_dist_builds_a_verifiable_archive_without_broken_links() {
    let archive = in_repository(&format!("make --silent dist PROGRAM='{PROGRAM}'")).stdout_text();
    let name = archive.trim().strip_suffix(".tar.gz").expect("an archive's name");
    in_repository("cd target/dist && sha256sum --check --strict SHA256SUMS");
    let unpacked = tempfile::tempdir().expect("a directory");
    in_repository(&format!("tar -C '{}' -xzf '{name}.tar.gz'", unpacked.path().display()));
    let top = unpacked.path().join(Path::new(name).file_name().expect("a name"));
    let version = Program::at(&top.join("pg-s3-backup")).arg("--version").run();
    version.assert_code(0);
    let licences = std::fs::read_to_string(top.join("THIRD-PARTY-LICENCES.txt")).expect("the others' licences");
    for package in ["aws-sdk-s3 ", "zlib-rs ", "rustls ", "Apache License"] {
        assert!(licences.contains(package), "no {package}");
    }
    assert!(!licences.contains("proptest "), "what only tests use is not linked");
    for file in ["LICENSE", "README.md", "man/pg-s3-backup.1", "systemd/pg-s3-backup@.service", "k8s/base/cronjob.yaml"]
    {
        assert!(top.join(file).exists(), "no {file}");
    }
    assert_eq!(broken_links(&top), [""; 0], "pages in the archive link to files that it lacks");
    let pages = std::fs::read_to_string(top.join("docs/installation.md")).expect("how to install it");
    assert!(top.join("monitoring/alerts.yml").exists());
    let (_, command) = pages.split_once("`make install PROGRAM").expect("the command");
    let command = format!("make install PROGRAM{}", command.split('`').next().expect("its end"));
    let destination = tempfile::tempdir().expect("a directory");
    let (top, directory) = (top.display(), destination.path().display());
    in_repository(&format!("cd '{top}' && {command} DESTDIR='{directory}' PREFIX=/usr"));
    let version = Program::at(&destination.path().join("usr/bin/pg-s3-backup")).arg("--version").run();
    version.assert_code(0);
    let again = in_repository(&format!(
        "sum=$(<target/dist/SHA256SUMS); make --silent dist PROGRAM='{PROGRAM}' >/dev/null; \
                                        [[ $sum == $(<target/dist/SHA256SUMS) ]] && echo the same"
    ));
    assert_eq!(again.stdout_text(), "the same\n");
}

/// What systemd would do with a unit's settings: the values of one key, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// The service as systemd would run it, with `/etc` and the credentials' directory in a directory of the test's.
fn as_systemd_would(unit: &str, directory: &Path, wrapped: Program) -> Program {
    let specifiers = |text: &str| {
        let credentials = directory.join("credentials").display().to_string();
        let etc = directory.join("etc").display().to_string();
        text.replace("%i", "shop").replace("%d", &credentials).replace("/etc", &etc)
    };
    std::fs::create_dir_all(directory.join("credentials")).expect("a directory");
    for credential in values(unit, "LoadCredential") {
        let (name, source) = credential.split_once(':').expect("NAME:PATH");
        let source = PathBuf::from(specifiers(source));
        std::fs::copy(source, directory.join("credentials").join(name)).expect("the credential is there");
    }
    let file = std::fs::read_to_string(specifiers(values(unit, "EnvironmentFile")[0])).expect("the environment file");
    let lines = file.lines().map(str::to_owned);
    let lines = lines.chain(values(unit, "Environment").into_iter().map(specifiers));
    let program = lines.fold(wrapped, |program, line| {
        let (name, value) = line.split_once('=').expect("NAME=value");
        program.env(name, value)
    });
    let started = specifiers(values(unit, "ExecStart")[0]).replace("/usr/local/bin/pg-s3-backup", PROGRAM);
    program.args(started.split(' '))
}

fn write_settings(directory: &Path, bucket: &str, database: &Database) {
    let s3 = s3();
    let etc = directory.join("etc/pg-s3-backup/shop");
    std::fs::create_dir_all(&etc).expect("a directory");
    for (file, content) in [
        ("environment", format!("S3_BUCKET={bucket}\nS3_URL={}\n", s3.url)),
        ("connection-string", format!("{}\n", database.uri())),
        ("access-key", format!("{}\n", s3.access_key)),
        ("secret-key", format!("{}\n", s3.secret_key)),
    ] {
        std::fs::write(etc.join(file), content).expect("a settings file");
    }
}

/// Names of system calls that a `SystemCallFilter=` group holds, as systemd itself lists them.
fn system_calls(group: &str) -> BTreeSet<String> {
    let listed = tool("systemd-analyze").args(["syscall-filter", group]).run();
    let text = listed.assert_code(0).stdout_text();
    let mut calls = BTreeSet::new();
    for line in text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('@') {
            calls.append(&mut system_calls(line));
        } else {
            calls.insert(line.to_owned());
        }
    }
    calls
}

#[test]
fn the_service_backs_up_with_the_settings_and_system_calls_that_its_unit_gives_it() {
    let unit = std::fs::read_to_string(repository_file("systemd/pg-s3-backup@.service")).expect("the unit");
    let directory = tempfile::tempdir().expect("a directory");
    let bucket = s3().create_bucket("unit");
    let database = postgres().create_database("unit");
    write_settings(directory.path(), &bucket, &database);
    in_repository("scripts/install strace systemd-analyze");
    let trace = directory.path().join("trace");
    let traced =
        Program::at(Path::new("/usr/bin/env")).args(["strace", "-f", "-qq", "-o"]).arg(&trace).timeout(PATIENCE);
    as_systemd_would(&unit, directory.path(), traced).run().assert_code(0).assert_no_children_left();
    only_backup(&bucket);

    let filters = values(&unit, "SystemCallFilter");
    assert_eq!(filters, ["@system-service", "~@privileged @resources"], "this test knows no other filter");
    let taken: BTreeSet<String> = &system_calls("@privileged") | &system_calls("@resources");
    let allowed = &system_calls("@system-service") - &taken;
    let trace = std::fs::read_to_string(trace).expect("the trace");
    let calls = trace.lines().filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('('));
    let is_name = |name: &&str| name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    let used: BTreeSet<String> = calls.map(|(name, _)| name).filter(is_name).map(str::to_owned).collect();
    assert!(used.contains("execve") && used.len() > 30, "strace saw little: {used:?}");
    assert_eq!(&used - &allowed, BTreeSet::new(), "system calls that the unit forbids");
}

/// A user's systemd in a mount namespace of its own, where no other is seen: it starts the service with each of several
/// ends, and prints after each how often the service has run.
const OWN_SYSTEMD: &str = r#"set -eu
cd "$1"
mount -t tmpfs none /run && mkdir -p /run/systemd/system /run/user/0
export HOME=$PWD XDG_RUNTIME_DIR=/run/user/0 SYSTEMD_UNIT_PATH=$PWD/units:/usr/lib/systemd/user SYSTEMD_LOG_TARGET=console
systemd=$(ls /usr/lib/systemd/systemd /lib/systemd/systemd 2>/dev/null | head -n 1)
"$systemd" --user --unit=basic.target 2>manager.log &
trap 'systemctl --user exit; wait' EXIT
until systemctl --user --quiet is-active basic.target; do sleep 0.1; done
systemctl --user start pg-s3-backup@shop.timer
: >runs
ends() { echo "$2" >code; for _ in $(seq "$1"); do systemctl --user start pg-s3-backup@shop.service || true; done; }
report() { echo "$1 $(wc -l <runs) $(systemctl --user is-active pg-s3-backup-retry@shop.timer || true)"; }
ends 7 0; report succeeded
ends 1 143; report stopped
ends 1 11
until systemctl --user --quiet is-failed pg-s3-backup-retry@shop.timer; do sleep 0.1; done
report failed
ends 4 11; report failed-again
ends 4 0; report succeeded-again
"#;

#[test]
fn only_tries_after_a_failure_are_limited() {
    in_repository("scripts/install systemd-analyze");
    let directory = tempfile::tempdir().expect("a directory");
    let units = directory.path().join("units");
    std::fs::create_dir(&units).expect("a directory");
    let read = |name: &str| std::fs::read_to_string(repository_file(&format!("systemd/{name}"))).expect("the unit");
    // What decides on starts is the unit's own; what it runs is the test's, and may do as it likes.
    let service = read("pg-s3-backup@.service");
    let decides = ["[Unit]", "StartLimit", "OnFailure=", "[Service]", "Type=", "SuccessExitStatus=", "Restart"];
    let kept = service.lines().filter(|line| decides.iter().any(|word| line.starts_with(word)));
    let script = "ExecStart=/bin/sh -c 'echo run >>runs; exit $(cat code)'";
    let place = format!("WorkingDirectory={}", directory.path().display());
    let lines: Vec<&str> = kept.chain([script, &place]).collect();
    let timer = read("pg-s3-backup-retry@.timer");
    assert_eq!(values(&timer, "OnActiveSec"), ["15min"]);
    let timer = timer.replace("OnActiveSec=15min", "OnActiveSec=100ms\nAccuracySec=10ms");
    std::fs::write(units.join("pg-s3-backup@.service"), lines.join("\n")).expect("written");
    std::fs::write(units.join("pg-s3-backup-retry@.timer"), timer).expect("written");
    // While it is there systemd forgets no start of the service. It does not elapse within the test.
    let nightly = read("pg-s3-backup@.timer").replace("*-*-* 02:00:00 UTC", "2099-01-01 02:00:00 UTC");
    std::fs::write(units.join("pg-s3-backup@.timer"), nightly).expect("written");
    let unshare = if rustix::process::geteuid().is_root() { tool("unshare") } else { tool("sudo").arg("unshare") };
    let unshare = unshare.args(["--mount", "--propagation", "private", "bash", "-c", OWN_SYSTEMD, "bash"]);
    let outcome = unshare.arg(directory.path()).timeout(Duration::from_mins(2)).run();
    let output = outcome.assert_code(0).stdout_text();
    // One try and two more; then those by hand alone, none of which is refused.
    let expected = "succeeded 7 inactive\nstopped 8 inactive\nfailed 11 failed\nfailed-again 15 failed\nsucceeded-again 19 failed\n";
    assert_eq!(output, expected, "{}", outcome.stderr);
}

#[test]
fn the_units_may_write_where_the_example_spools_to_and_nowhere_else() {
    let example = std::fs::read_to_string(repository_file("systemd/environment.example")).expect("the example");
    assert!(example.contains("\n#BACKUP_SPOOL_DIR=/var/lib/pg-s3-backup/shop\n"), "{example}");
    for name in ["pg-s3-backup@.service", "pg-s3-backup-daemon@.service"] {
        let unit = std::fs::read_to_string(repository_file(&format!("systemd/{name}"))).expect("the unit");
        // Below /var/lib, with the instance's name; the rest of the file system is read-only.
        assert_eq!(values(&unit, "StateDirectory"), ["pg-s3-backup/%i"], "{name}");
        assert_eq!(values(&unit, "StateDirectoryMode"), ["0700"], "{name}");
        assert_eq!(values(&unit, "ProtectSystem"), ["strict"], "{name}");
        assert!(values(&unit, "ReadWritePaths").is_empty(), "{name}");
    }
}
