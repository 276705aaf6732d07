//! `list` shows only this tool's backups of this destination, newest first, with the facts of their manifests.

use std::path::Path;

use serde_json::Value;

use crate::support::client::eventually;
use crate::support::fake_pg_dump::FakeDump;
use crate::support::program::Outcome;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{backup_program, list_program, manifest, s3_program};
use crate::support::stored::{EMPTY_GZIP, FUTURE, put};

const NEWEST: &str = "postgres-backup-2026-03-01_00-00-00.sql.gz";
const MIDDLE: &str = "postgres-backup-2026-02-01_12-30-59.sql.gz";
const OLDEST: &str = "postgres-backup-2019-12-31_23-59-59.sql.gz";

/// The table's rows without the heading, as words; a status may have two.
#[track_caller]
fn rows(outcome: &Outcome) -> Vec<Vec<String>> {
    outcome.assert_code(0);
    let text = outcome.stdout_text();
    let mut lines = text.lines();
    if let Some(heading) = lines.next() {
        assert_eq!(
            heading.split_whitespace().collect::<Vec<_>>(),
            ["NAME", "AGE", "SIZE", "RATIO", "DATABASE", "STATUS"]
        );
    }
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

fn names(rows: &[Vec<String>]) -> Vec<&str> {
    rows.iter().map(|row| row[0].as_str()).collect()
}

#[track_caller]
fn json(outcome: &Outcome) -> Vec<Value> {
    outcome.assert_code(0);
    serde_json::from_slice(&outcome.stdout).expect("a JSON array")
}

#[test]
fn lists_backup_with_facts_of_its_manifest() {
    let database = postgres().create_database("listed");
    let bucket = s3().create_bucket("listed");
    backup_program(&database, &bucket).env("S3_PATH", "app").run().assert_code(0);
    let key = s3().keys(&bucket, "app/").swap_remove(0);
    let manifest = manifest(&bucket, &key);
    let outcome = list_program(&bucket).env("S3_PATH", "app").run();
    let rows = rows(&outcome);
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!(format!("app/{}", row[0]), key);
    assert!(row[1].ends_with('s') || row[1].ends_with('m'), "an age: {row:?}");
    assert_eq!(row[3], format!("{:.1}", manifest["compression_ratio"].as_f64().expect("a ratio")));
    assert_eq!(row[4..], [&*database.name, "valid"]);
    let listed = json(&list_program(&bucket).env("S3_PATH", "app").arg("--json").run());
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["file_size"], manifest["object_bytes"]);
    assert_eq!(listed[0]["s3_location"], format!("s3://{bucket}/{key}"));
    for field in ["file_name", "started_at", "database", "compression_ratio"] {
        assert_eq!(listed[0][field], manifest[field], "{field}");
    }
    assert_eq!(listed[0]["status"], "valid");
}

#[test]
fn lists_newest_first_and_fits_a_terminal() {
    let bucket = s3().create_bucket("order");
    for (name, bytes) in [(OLDEST, 1), (NEWEST, 2048), (MIDDLE, 5 << 20)] {
        put(&bucket, name, &vec![b'x'; bytes]);
    }
    let outcome = list_program(&bucket).run();
    let rows = rows(&outcome);
    assert_eq!(names(&rows), [NEWEST, MIDDLE, OLDEST]);
    assert_eq!(rows.iter().map(|row| row[2].as_str()).collect::<Vec<_>>(), ["2.0K", "5.0M", "1B"]);
    assert!(rows.iter().all(|row| row[1].ends_with('d') && row[3] == "-"), "{rows:?}");
    let text = outcome.stdout_text();
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
}

#[test]
fn lists_only_own_names_directly_below_the_path() {
    let bucket = s3().create_bucket("foreign");
    let near_misses = [
        "postgres-backup-2026-01-01_00-00-00.sql",
        "postgres-backup-2026-01-01_00-00-00.sql.gz.tmp",
        "postgres-backup-2026-13-01_00-00-00.sql.gz",
        "postgres-backup-2026-01-01_00-00-00.SQL.GZ",
        "postgres-backup-2026-1-1_0-0-0.sql.gz",
        "postgres-backup-latest.sql.gz",
        "xpostgres-backup-2026-01-01_00-00-00.sql.gz",
        "postgres-backup-2026-01-01_00-00-00.sql.gz.json",
        "postgres-backup-2026-01-01_00-00-00.sql.gz.globals.sql.gz",
        "notes.txt",
    ];
    for name in near_misses {
        put(&bucket, &format!("app/{name}"), b"foreign");
    }
    for other in ["app2/", "app/x/", "app_test/", "", "other/app/"] {
        put(&bucket, &format!("{other}{MIDDLE}"), b"unrelated");
    }
    put(&bucket, &format!("app/{NEWEST}/marker"), b"");
    s3().request("PUT", &format!("/{bucket}/app/{OLDEST}/"), b"").expect("a directory marker");
    let list = |path: &str| list_program(&bucket).env("S3_PATH", path).run();
    list("app").assert_code(0);
    assert_eq!(list("app").stdout_text(), "");
    put(&bucket, &format!("app/{MIDDLE}"), b"mine");
    for path in ["app", "app/", "/app/"] {
        assert_eq!(names(&rows(&list(path))), [MIDDLE], "{path}");
    }
    assert_eq!(names(&rows(&list(""))), [MIDDLE]);
}

#[test]
fn lists_backup_without_a_valid_manifest() {
    let bucket = s3().create_bucket("manifests");
    let damaged = ["", "{", "[]", "null", "{\"object_bytes\": 3}", "\u{0}\u{1}"];
    put(&bucket, NEWEST, &[b'x'; 300]);
    for (day, body) in damaged.iter().enumerate() {
        let key = format!("postgres-backup-2026-01-{:02}_00-00-00.sql.gz", day + 1);
        put(&bucket, &key, &[b'x'; 300]);
        put(&bucket, &format!("{key}.json"), body.as_bytes());
    }
    let rows = rows(&list_program(&bucket).run());
    assert_eq!(rows.len(), 1 + damaged.len());
    for row in rows {
        assert_eq!(row[2..], ["300B", "-", "-", "unverified"]);
    }
}

#[test]
fn shows_size_mismatch() {
    let database = postgres().create_database("size");
    let bucket = s3().create_bucket("size");
    backup_program(&database, &bucket).run().assert_code(0);
    let key = s3().keys(&bucket, "").swap_remove(0);
    put(&bucket, &key, b"cut");
    // The database's name is cut, so that the status is visible.
    let rows = rows(&list_program(&bucket).run());
    assert_eq!(rows[0][5..], ["SIZE", "MISMATCH"]);
}

#[test]
fn lists_open_upload_as_uploading() {
    let database = postgres().create_database("uploading");
    let bucket = s3().create_bucket("uploading");
    // The dump continues after its upload is listed.
    let fake = FakeDump::new().held().install();
    let program = backup_program(&database, &bucket).env("PG_DUMP_PATH", fake.path()).env("S3_PATH", "app");
    let running = program.spawn();
    let list = || rows(&list_program(&bucket).env("S3_PATH", "app").run());
    eventually(|| !s3().open_uploads(&bucket).is_empty(), || running.stderr_so_far());
    let listed = list();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0][2..], ["0B", "-", "-", "uploading"]);
    fake.let_go();
    running.wait().assert_code(0);
    let after = list();
    assert_eq!((names(&after), &*after[0][5]), (names(&listed), "valid"));
    // Uploads of other paths and names are not listed.
    for key in [format!("app2/{NEWEST}"), format!("app/x/{NEWEST}"), "app/postgres-backup-x".to_owned()] {
        s3().request("POST", &format!("/{bucket}/{key}?uploads="), b"").expect("an upload begins");
    }
    assert_eq!(names(&list()), names(&after));
}

#[test]
fn limit_shows_newest_and_quiet_shows_names_only() {
    let bucket = s3().create_bucket("limited");
    for name in [OLDEST, NEWEST, MIDDLE] {
        put(&bucket, name, b"x");
    }
    assert_eq!(names(&rows(&list_program(&bucket).args(["--limit", "2"]).run())), [NEWEST, MIDDLE]);
    assert_eq!(rows(&list_program(&bucket).args(["--limit", "all"]).run()).len(), 3);
    let quiet = list_program(&bucket).arg("--quiet").run();
    assert_eq!(quiet.stdout_text(), format!("{NEWEST}\n{MIDDLE}\n{OLDEST}\n"));
    for limit in ["few", "0"] {
        list_program(&bucket).args(["--limit", limit]).run().assert_code(64);
    }
}

#[test]
fn shows_all_backups_in_a_pipe_and_the_newest_at_a_terminal() {
    let bucket = s3().create_bucket("number");
    let keys: Vec<String> = (0..52).map(name_number).collect();
    s3().put_many(&bucket, &keys);
    let newest_first: Vec<&str> = keys.iter().rev().map(String::as_str).collect();
    assert_eq!(names(&rows(&list_program(&bucket).run())), newest_first);
    assert_eq!(list_program(&bucket).arg("--quiet").run().stdout_text().lines().collect::<Vec<_>>(), newest_first);
    assert_eq!(json(&list_program(&bucket).arg("--json").run()).len(), newest_first.len());
    let line = format!("{} list", env!("CARGO_BIN_EXE_pg-s3-backup"));
    // `script` runs it at a terminal.
    let script = s3_program(&bucket).executed_by(Path::new("/usr/bin/script"));
    let text = script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).run().assert_code(0).stdout_text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 50 + 1, "{text}");
    assert!(lines[51].starts_with("50 of 52 shown"), "{text}");
}

#[test]
fn shows_one_backup_with_restore_instructions() {
    let database = postgres().create_database("shown");
    database.psql("CREATE TABLE t AS SELECT generate_series(1, 7) AS n").expect("a table");
    let bucket = s3().create_bucket("shown");
    put(&bucket, OLDEST, &[b'x'; 300]);
    backup_program(&database, &bucket).run().assert_code(0);
    // Names newer than the latest backup: the empty file of a failed pipe, and a name in the future.
    let soon = chrono::Utc::now() + chrono::TimeDelta::minutes(30);
    let empty = pg_s3_backup::archive::name::BackupName::new(soon).to_string();
    put(&bucket, &empty, EMPTY_GZIP);
    put(&bucket, FUTURE, &[b'x'; 300]);
    let table = list_program(&bucket).run().stdout_text();
    assert!(table.contains(" FUTURE\n") && table.contains(" EMPTY\n"), "{table}");
    let listed = json(&list_program(&bucket).arg("--json").run());
    let states: Vec<_> = listed.iter().map(|backup| &backup["status"]).collect();
    assert_eq!(states, ["future", "empty", "valid", "unverified"]);
    let latest = list_program(&bucket).arg("latest").run();
    latest.assert_code(0);
    let text = latest.stdout_text();
    let manifest = list_program(&bucket).args(["latest", "--json"]).run();
    let manifest: Value = serde_json::from_slice(&manifest.assert_code(0).stdout).expect("the manifest");
    let checksum = manifest["object_sha256"].as_str().expect("a checksum");
    for word in [&*database.name, checksum, "7 in 1 table", "sha256sum -c", "createdb -T template0", "psql -X"] {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
    // The globals come before the dump, with their own checksum.
    let name = manifest["file_name"].as_str().expect("a name");
    let checksum = manifest["globals"]["sha256"].as_str().expect("a checksum");
    let aws = format!("aws --endpoint-url {} s3 cp", s3().url);
    let writable = "PGOPTIONS='-c default_transaction_read_only=off'";
    let in_order = [
        format!("{aws} s3://{bucket}/{name} . &&"),
        format!("{aws} s3://{bucket}/{name}.globals.sql.gz . &&"),
        format!("echo '{checksum}  {name}.globals.sql.gz' | sha256sum -c &&"),
        format!("--lc-ctype=C.UTF-8 {} &&", database.name),
        format!("gunzip -c {name}.globals.sql.gz | psql -X -d {} &&", database.name),
        format!("gunzip -c {name} | {writable} psql -X -v ON_ERROR_STOP=1 -d {})", database.name),
    ];
    let places: Vec<_> = in_order.iter().map(|line| text.find(line.as_str())).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} in:\n{text}");
    // The manifest has the same commands, for a reader who has only the bucket.
    let restore = manifest["restore"].as_array().expect("commands");
    let has = |line: &String| restore.iter().any(|command| command.as_str().is_some_and(|text| text.contains(&**line)));
    assert!(in_order.iter().all(has), "{restore:?}");
    let bare = list_program(&bucket).arg(OLDEST).run();
    assert!(bare.assert_code(0).stdout_text().contains("unverified"), "{}", bare.stdout_text());
    assert!(!bare.stdout_text().contains("globals"), "{}", bare.stdout_text());
    assert!(bare.stdout_text().contains(&format!("gunzip -t {OLDEST} &&")), "{}", bare.stdout_text());
    let missing = list_program(&bucket).arg(NEWEST).run();
    assert!(missing.assert_code(15).stderr.contains(NEWEST), "{}", missing.stderr);
    let elsewhere = list_program(&bucket).arg("latest").env("S3_PATH", "a/typo").run();
    let place = format!("there is no backup at s3://{bucket}/a/typo/: correct S3_BUCKET or S3_PATH");
    assert!(elsewhere.assert_code(15).stderr.contains(&place), "{}", elsewhere.stderr);
}

#[test]
fn finds_backup_by_printed_name_only_in_its_destination() {
    let bucket = s3().create_bucket("named");
    put(&bucket, &format!("app/{OLDEST}"), b"x");
    let list = |text: &str| list_program(&bucket).env("S3_PATH", "app").args(["--json", text]).run();
    for text in [OLDEST.to_owned(), format!("app/{OLDEST}"), format!("s3://{bucket}/app/{OLDEST}")] {
        let found: Value = serde_json::from_slice(&list(&text).assert_code(0).stdout).expect("JSON");
        assert_eq!(found["file_name"], OLDEST, "{text}");
    }
    for text in [format!("other/{OLDEST}"), format!("s3://{bucket}/{OLDEST}"), format!("s3://other/app/{OLDEST}")] {
        let outcome = list(&text);
        assert!(outcome.assert_code(15).stderr.contains(&format!("this destination is s3://{bucket}/app/")), "{text}");
        let report: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
        assert!(report["success"] == false && report["error"].to_string().contains(&text), "{report}");
    }
    for text in ["newest", "app/", "https://h/app/x.sql.gz"] {
        list(text).assert_code(64);
    }
}

#[test]
fn succeeds_with_empty_destination() {
    let bucket = s3().create_bucket("empty");
    let outcome = list_program(&bucket).run();
    outcome.assert_code(0);
    assert_eq!(outcome.stdout_text(), "");
    assert!(outcome.stderr.contains("no backups"), "{}", outcome.stderr);
    assert_eq!(json(&list_program(&bucket).arg("--json").run()), Vec::<Value>::new());
}

#[test]
fn lists_more_than_a_thousand_objects() {
    let bucket = s3().create_bucket("many");
    let keys: Vec<String> = (0..1_100).map(|n| format!("many/{}", name_number(n))).collect();
    s3().put_many(&bucket, &keys);
    let rows = rows(&list_program(&bucket).env("S3_PATH", "many").args(["--limit", "all"]).run());
    assert_eq!(rows.len(), keys.len());
    let mut expected: Vec<&str> = keys.iter().filter_map(|key| key.strip_prefix("many/")).collect();
    expected.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(names(&rows), expected);
}

#[test]
fn refused_listing_is_invalid_configuration() {
    let bucket = s3().create_bucket("refused");
    for (variable, value, reason) in [
        ("S3_BUCKET", "no-such-bucket", "NoSuchBucket"),
        ("S3_SECRET_KEY", "wrong", "SignatureDoesNotMatch"),
        ("S3_ACCESS_KEY", "wrong", "InvalidAccessKeyId"),
    ] {
        let outcome = s3_program(&bucket).env(variable, value).arg("list").run();
        outcome.assert_code(3);
        assert!(outcome.stderr.contains(reason) && outcome.stderr.contains(variable), "{}", outcome.stderr);
    }
}

fn name_number(n: u32) -> String {
    format!("postgres-backup-2025-01-{:02}_{:02}-{:02}-00.sql.gz", n / 600 + 1, n / 60 % 10, n % 60)
}
