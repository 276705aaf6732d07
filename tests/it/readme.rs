//! The examples of README.md and docs/ run as they are printed: in a shell, or as cron runs them. Only names are replaced: of
//! the bucket, of directories of the system, of the host of the database, of a backup. What must not run on a test's machine
//! (`make install`, `systemctl`) is a stand-in that writes down how it was called. Every link leads somewhere.

pub mod blocks;
mod drill;
mod encryption;
mod links;
mod one_table;
mod several_databases;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use blocks::{Crontab, block_after, blocks, page};
use pg_s3_backup::scheduler::Schedule;

use crate::examples::shell;
use crate::support::client::get;
use crate::support::port::own_port;
use crate::support::process::write_script;
use crate::support::program::{Outcome, Program};
use crate::support::servers::{OwnPostgres, own_postgres, postgres, s3};
use crate::support::setup::{backup_program, installed, object, only_backup, plain, repository_file};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg-s3-backup");
/// Of the role that backs up in the README.
const PASSWORD: &str = "not so secret";
/// The database that the README restores into.
const RESTORED: &str = "postgresql://admin@db.example.com/empty?sslmode=verify-full";
const README: &str = "README.md";
const INSTALLATION: &str = "docs/installation.md";
const CHECK: &str = "docs/check-and-drill.md";
const SECURITY: &str = "docs/security.md";
/// After what each block of a page stands. A block is tested here as printed, or by its own `make` target, or only shown.
const BLOCKS: [(&str, &[&str]); 10] = [
    (
        README,
        &[
            "It streams `pg_dump`",        // a session, shown
            "Try it on temporary servers", // `.ci/run` runs both
            "**Laptop**",
            "**Docker Compose**", // shown; `image::compose` runs the file
            "**Kubernetes**",     // shown; k8s/README.md has the tested one
            "**cron**",           // part of the one in docs/installation.md
            "**systemd**",        // part of the one in docs/installation.md
            "## Restore",
            "Without this program",
        ],
    ),
    (
        INSTALLATION,
        &[
            "## From source",
            "## cron",
            "## systemd",
            "## Container",  // `image::readme`
            "## Kubernetes", // `image::readme`, and here
        ],
    ),
    (CHECK, &["# Check", "## Several databases", "### In the daemon", "cron runs the drill", "## From another host"]),
    ("docs/monitoring.md", &["## Daemon", "## Status page"]), // the second is shown; `page::daemon` has a proxy like it
    ("docs/architecture.md", &["## One backup"]),
    (
        SECURITY,
        &[
            "it cannot replace",
            "once more,\nand a path",
            "needs exactly this policy",
            "check everything",
            "`prune`, `delete`, and `backup` with a retention rule, need the permissions",
        ],
    ),
    (encryption::PAGE, encryption::BLOCKS),
    ("docs/exit-codes.md", &[]),
    (several_databases::PAGE, several_databases::BLOCKS),
    ("CONTRIBUTING.md", &["# Contributing"]), // the targets exist, and `.ci/run` runs them
];

/// A file of a program's home.
fn written(program: &Program, name: &str, content: &str) -> String {
    let path = program.home().join(name);
    std::fs::write(&path, content).expect("the file");
    path.display().to_string()
}

/// The program with stand-ins in its way, which write themselves and their arguments to the file `calls`.
fn with_stand_ins(program: Program, names: &[&str]) -> Program {
    for name in names {
        let script = "#!/bin/sh\necho \"${0##*/} $*\" >>\"$HOME/calls\"\n";
        write_script(&program.home().join(name), script);
    }
    let path = format!("{}:{}", program.home().display(), path_of_shell());
    program.env("PATH", path)
}

/// `PATH` of [`shell`].
fn path_of_shell() -> String {
    let directory = Path::new(PROGRAM).parent().expect("a directory").display().to_string();
    format!("{directory}:{}", std::env::var("PATH").unwrap_or_default())
}

fn calls(program: &Program) -> Vec<String> {
    std::fs::read_to_string(program.home().join("calls")).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The S3 server that the pages leave to AWS.
fn with_s3(program: Program) -> Program {
    let s3 = s3();
    program.env("S3_URL", &s3.url).env("S3_ACCESS_KEY", &s3.access_key).env("S3_SECRET_KEY", &s3.secret_key)
}

/// A server with the database shop and, as the README wants it, a role that may read everything.
fn shop() -> OwnPostgres {
    let server = own_postgres(&["--ssl"]);
    server.psql("postgres", "CREATE DATABASE shop").expect("the database");
    let role = format!("CREATE ROLE backup LOGIN PASSWORD '{PASSWORD}'; GRANT pg_read_all_data TO backup");
    server.psql("postgres", &role).expect("the role");
    server.psql("shop", "CREATE TABLE sample AS SELECT 1 AS id").expect("a table");
    server
}

/// What libpq needs for that server in addition to the connection string of the README.
fn with_shop(program: Program, shop: &OwnPostgres) -> Program {
    let authority = shop.ssl_root_cert.as_ref().expect("its authority");
    program.env("PGPORT", shop.port.to_string()).env("PGPASSWORD", PASSWORD).env("PGSSLROOTCERT", authority)
}

#[test]
fn every_block_of_the_documents_has_a_test() {
    for (path, markers) in BLOCKS {
        let page = page(path);
        let found = blocks(&page);
        for ((before, block), marker) in found.iter().zip(markers) {
            assert!(before.contains(marker), "{path} has a block that no test knows after {marker:?}:\n{block}");
        }
        assert_eq!(found.len(), markers.len(), "blocks of {path}");
    }
}

/// What the README shows of a longer example.
#[test]
fn short_examples_are_part_of_the_long_ones() {
    for (short, long) in [("**cron**", "## cron"), ("**systemd**", "## systemd")] {
        let (short, long) = (block_after(README, short), block_after(INSTALLATION, long));
        for line in short.lines() {
            assert!(long.lines().any(|known| known.trim_end() == line.trim_end()), "{line}");
        }
    }
}

#[test]
fn the_first_steps() {
    let (shop, bucket) = (shop(), s3().create_bucket("readme"));
    let text = block_after(README, "**Laptop**").replace("S3_BUCKET=backups", &format!("S3_BUCKET={bucket}"));
    let authority = shop.ssl_root_cert.as_ref().expect("its authority").display().to_string();
    let text = text.replace("db.example.com", "127.0.0.1").replace("/path/to/ca.pem", &authority);
    let program = with_stand_ins(with_shop(with_s3(shell(&format!("set -e\n{text}"))), &shop), &["make"]);
    let outcome = program.run();
    outcome.assert_code(0);
    let key = only_backup(&bucket);
    let name = key.strip_prefix("shop/").expect("in its path");
    let listed = outcome.stdout_text();
    assert_eq!(listed.matches(name).count(), 3, "the result, the list, and the check: {listed}");
    assert_eq!(calls(&program), ["make install"]);
}

/// A line of a crontab as cron runs it: with next to nothing in its environment, and the file's variables.
fn as_cron(crontab: &Crontab, line: usize, replaced: &[(&str, &str)], more: &[(&str, &str)]) -> Outcome {
    let replace = |text: &str| replaced.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    let (schedule, user, command) = &crontab.lines[line];
    Schedule::parse(schedule, chrono_tz::Tz::UTC).unwrap_or_else(|why| panic!("{schedule}: {why}"));
    let program = Program::at(Path::new("/bin/sh")).args(["-c", &replace(command)]);
    let program = program.env("PATH", "/usr/bin:/bin").env("SHELL", "/bin/sh").env("LOGNAME", user);
    let set = |program: Program, (name, value): (&str, &str)| program.env(name, replace(value));
    let variables = crontab.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let outcome = variables.chain(more.iter().copied()).fold(program, set).run();
    outcome.assert_no_children_left();
    outcome
}

#[test]
fn cron_backs_up_and_mails_only_failures() {
    let (database, bucket) = (postgres().create_database("readme"), s3().create_bucket("readme"));
    let crontab = Crontab::parse(&block_after(INSTALLATION, "## cron"));
    let etc = tempfile::tempdir().expect("a directory");
    let directory = etc.path().display().to_string();
    let secrets = [
        ("connection-string", database.uri()),
        ("access-key", s3().access_key.clone()),
        ("secret-key", "wrong".into()),
    ];
    for (name, secret) in &secrets {
        std::fs::write(etc.path().join(name), format!("{secret}\n")).expect("a secret");
    }
    let replaced = [("/usr/local/bin/pg-s3-backup", PROGRAM), ("/etc/pg-s3-backup", &directory), ("backups", &bucket)];
    let run = || as_cron(&crontab, 0, &replaced, &[("S3_URL", &s3().url)]);
    let refused = run();
    assert!(refused.assert_code(3).stderr.contains("ERROR"), "{}", refused.stderr);
    std::fs::write(etc.path().join("secret-key"), &s3().secret_key).expect("a secret");
    let taken = run();
    assert_eq!((taken.assert_code(0).stdout_text(), &*taken.stderr), (String::new(), ""), "cron would send this");
    assert!(only_backup(&bucket).starts_with("shop/"));
    assert_eq!(crontab.lines.len(), 1);
}

#[test]
fn cron_monitors_with_a_read_only_key() {
    let (database, bucket) = (postgres().create_database("readme"), s3().create_bucket("readme"));
    let crontab = Crontab::parse(&block_after(CHECK, "## From another host"));
    assert_eq!(crontab.lines.len(), 2);
    let replaced = [("/usr/local/bin/pg-s3-backup", PROGRAM), ("backups", &*bucket)];
    let keys = [("S3_ACCESS_KEY", &*s3().readonly_access_key), ("S3_SECRET_KEY", &*s3().readonly_secret_key)];
    let more = [("S3_URL", &*s3().url), keys[0], keys[1]];
    for line in 0..2 {
        let alarm = as_cron(&crontab, line, &replaced, &more);
        assert!(alarm.stdout_text().contains("fail  freshness"), "{}", alarm.stdout_text());
    }
    backup_program(&database, &bucket).env("S3_PATH", "shop").run().assert_code(0);
    for line in 0..2 {
        let silent = as_cron(&crontab, line, &replaced, &more);
        assert_eq!((silent.assert_code(0).stdout_text(), &*silent.stderr), (String::new(), ""), "cron would send this");
    }
}

#[test]
fn the_steps_with_systemd_make_what_the_units_read() {
    let etc = tempfile::tempdir().expect("a directory");
    let folder = etc.path().join("shop");
    let text = block_after(INSTALLATION, "## systemd").replace("/etc/pg-s3-backup", &etc.path().display().to_string());
    let documents = repository_file("systemd").display().to_string();
    let text = text.replace("/usr/local/share/doc/pg-s3-backup", &documents);
    let program = with_stand_ins(shell(&format!("set -e\n{text}")), &["editor", "systemctl", "journalctl"]);
    program.run().assert_code(0);
    assert_eq!(std::fs::metadata(&folder).expect("the folder").permissions().mode() & 0o777, 0o700);
    let example = std::fs::read(repository_file("systemd/environment.example")).expect("the example");
    assert_eq!(std::fs::read(folder.join("environment")).expect("the settings"), example);
    let unit = std::fs::read_to_string(repository_file("systemd/pg-s3-backup@.service")).expect("the unit");
    assert!(unit.contains("EnvironmentFile=/etc/pg-s3-backup/%i/environment\n"), "{unit}");
    let calls = calls(&program);
    for secret in calls[0].strip_prefix("editor ").expect("first the secrets").split(' ') {
        assert!(unit.contains(&format!("LoadCredential={secret}:/etc/pg-s3-backup/%i/{secret}\n")), "{secret}");
    }
    let units: Vec<&str> = calls.iter().filter_map(|call| call.strip_prefix("systemctl ")).collect();
    assert_eq!(units, ["start pg-s3-backup@shop", "enable --now pg-s3-backup@shop.timer"]);
    assert!(repository_file("systemd/pg-s3-backup@.timer").exists());
}

#[test]
fn the_daemon_in_a_shell() {
    let (database, bucket) = (postgres().create_database("readme"), s3().create_bucket("readme"));
    let address = format!("127.0.0.1:{}", own_port());
    let text = block_after("docs/monitoring.md", "## Daemon").replace("127.0.0.1:9187", &address);
    // In the shell's place, so that it gets the signal.
    let text = text.replace("\npg-s3-backup daemon", "\nexec pg-s3-backup daemon");
    let program = with_s3(shell(&text)).env("S3_BUCKET", &bucket).env("POSTGRES_CONNECTION_STRING", database.uri());
    let mut running = program.spawn();
    running.wait_for_stderr("backup completed", Duration::from_mins(1));
    assert!(running.stderr_so_far().contains("0 2 * * * (Europe/Berlin)"), "{}", running.stderr_so_far());
    assert_eq!(get(&address, "/livez").status, 200);
    running.signal("TERM");
    running.wait().assert_code(143).assert_no_children_left();
    only_backup(&bucket);
}

#[test]
fn the_daemon_drills_on_a_schedule() {
    let (database, bucket) = (postgres().create_database("readme"), s3().create_bucket("readme"));
    let directory = tempfile::tempdir().expect("a directory");
    let secret = directory.path().join("drill");
    std::fs::write(&secret, postgres().uri("postgres")).expect("the secret");
    let text = block_after(CHECK, "### In the daemon").replace("/run/secrets/drill", &secret.display().to_string());
    let text = text.replace("\npg-s3-backup daemon", "\nexec pg-s3-backup daemon");
    let program = with_s3(shell(&text)).env("S3_BUCKET", &bucket).env("POSTGRES_CONNECTION_STRING", database.uri());
    let mut running = program.env("BACKUP_INTERVAL", "@yearly").spawn();
    running.wait_for_stderr("drills are scheduled", Duration::from_mins(1));
    assert!(running.stderr_so_far().contains("drills=0 5 * * 0 (UTC)"), "{}", running.stderr_so_far());
    running.signal("TERM");
    running.wait().assert_code(143).assert_no_children_left();
}

#[test]
fn the_restore_without_this_program() {
    let (shop, bucket) = (shop(), s3().create_bucket("readme"));
    let rows = "CREATE ROLE keeper; CREATE TABLE orders AS SELECT g AS id, md5(g::text) FROM generate_series(1, 5000) g; \
                ALTER TABLE orders OWNER TO keeper; SELECT lo_from_bytea(0, '\\x1234')";
    shop.psql("shop", rows).expect("rows");
    let backup = with_s3(Program::new()).env("POSTGRES_CONNECTION_STRING", shop.uri("shop")).env("S3_PATH", "shop");
    backup.env("S3_BUCKET", &bucket).arg("backup").run().assert_code(0);
    let key = only_backup(&bucket);
    object(&bucket, &key);

    let other = own_postgres(&[]);
    let text = block_after(README, "Without this program").replace("s3://backups/", &format!("s3://{bucket}/"));
    let text = text.replace("postgres-backup-2026-11-23_02-00-00.sql.gz", key.trim_start_matches("shop/"));
    installed("aws");
    let program = Program::at(Path::new("/bin/bash")).args(["-c", &text]);
    write_script(&program.home().join("aws"), "#!/bin/sh\nexec python3 -B -m awscli \"$@\"\n");
    let path = format!("{}:{}:{}", program.home().display(), other.bin.display(), path_of_shell());
    let program = program.env("PATH", path).env("PYTHONPATH", repository_file("target/tools/aws"));
    let program = program.env("AWS_ENDPOINT_URL", &s3().url).env("AWS_DEFAULT_REGION", &s3().region);
    let program = program.env("AWS_ACCESS_KEY_ID", &s3().access_key).env("AWS_SECRET_ACCESS_KEY", &s3().secret_key);
    let program = program.env("PGHOST", &other.host).env("PGPORT", other.port.to_string());
    let program = program.env("PGUSER", &other.user).env("PGPASSWORD", &other.password);
    program.run().assert_code(0);
    // A second time the database exists, and nothing is written to it.
    let again = program.run();
    assert_ne!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stderr.contains("already exists") && !again.stdout_text().contains("SET"), "{}", again.stderr);
    let dumped = |server: &OwnPostgres, database: &str| {
        let output = server.client("pg_dump", database).output().expect("pg_dump");
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines().filter(|line| !line.contains("restrict ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let (before, after) = (dumped(&shop, "shop"), dumped(&other, "shop_restored"));
    assert!(before.len() > 5000, "{}", before.len());
    assert_eq!(after, before);
}

#[test]
fn restores_as_printed() {
    let (database, bucket) = (postgres().create_database("readme"), s3().create_bucket("readme"));
    database.psql("CREATE TABLE customer AS SELECT 7 AS n").expect("a table");
    backup_program(&database, &bucket).run().assert_code(0);
    let dump = plain(&bucket, &only_backup(&bucket));
    let server = own_postgres(&[]);
    let target = server.create_database("target");
    for (page, marker) in [(README, "## Restore"), ("docs/restore.md", "## To a file")] {
        let block = block_after(page, marker);
        assert!(page != README || block.contains(RESTORED), "{block}");
        let text = format!("set -e\n{}", block.replace(RESTORED, &target.uri()));
        let program = with_s3(shell(&text)).env("S3_BUCKET", &bucket);
        let program = program.env("RESTORE_CONNECTION_STRING", target.uri());
        program.run().assert_code(0);
        assert!(std::fs::read(program.home().join("shop.sql")).expect("the file") == dump, "{page}");
    }
    for made in [&*target.name, "shop", "shop_restored"] {
        assert_eq!(server.adopt_database(made).dump(), database.dump(), "{made}");
    }
}

#[test]
fn retention_is_shown_beforehand() {
    let (database, bucket) = (postgres().create_database("readme"), s3().create_bucket("readme"));
    backup_program(&database, &bucket).run().assert_code(0);
    let program = with_s3(shell(&format!("set -e\n{}", block_after("docs/retention.md", "# Retention"))))
        .env("S3_BUCKET", &bucket);
    let outcome = program.run();
    assert!(outcome.assert_code(0).stdout_text().contains("keep"), "{}", outcome.stdout_text());
    only_backup(&bucket);
}

#[test]
fn iam_policies_are_valid() {
    let policies = block_after_each_policy();
    let mut actions = Vec::new();
    for policy in &policies {
        let policy: serde_json::Value = serde_json::from_str(policy).unwrap_or_else(|why| panic!("{why}: {policy}"));
        let statements = policy["Statement"].as_array().cloned().unwrap_or_else(|| vec![policy.clone()]);
        for statement in statements {
            assert!(statement["Effect"] == "Allow" && statement["Resource"].is_string(), "{statement}");
            let action = &statement["Action"];
            let list = action.as_array().cloned().unwrap_or_else(|| vec![action.clone()]);
            actions.extend(list.iter().map(|action| action.as_str().expect("an action").to_owned()));
        }
    }
    // What IAM knows of what this program asks for; another spelling would be refused by AWS.
    let known = [
        "s3:AbortMultipartUpload",
        "s3:DeleteObject",
        "s3:GetObject",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:ListMultipartUploadParts",
        "s3:PutObject",
    ];
    actions.sort();
    actions.dedup();
    assert_eq!(actions, known);
}

fn block_after_each_policy() -> Vec<String> {
    let page = page(SECURITY);
    let of_policies = blocks(&page).into_iter().map(|(_, block)| block).filter(|block| block.starts_with('{'));
    of_policies.map(str::to_owned).collect()
}

#[test]
fn cron_job_is_valid_for_kubernetes() {
    installed("kubernetes-validate");
    let head = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: backup}\nspec:\n".to_owned();
    let text = block_after(INSTALLATION, "## Kubernetes").lines().fold(head, |text, line| text + "  " + line + "\n");
    let validate = Program::at(Path::new("/usr/bin/env"));
    let file = written(&validate, "job.yaml", &text);
    let validate = validate.env("PYTHONPATH", repository_file("target/tools/kubernetes-validate"));
    let words = ["python3", "-B", "-m", "kubernetes_validate", "--strict", "-k", "1.34", &file];
    let outcome = validate.args(words).run();
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout_text(), outcome.stderr);
}
