//! A restored database equals the original, for any content and name; and the manifest is correct. Each restore is download,
//! sha256, gunzip, psql, without the program.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use pg_s3_backup::index::Index;
use serde_json::{Value, json};

use crate::support::servers::database::Database;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{
    assert_same_dump, backup_program, gunzipped, index, manifest, object, only_backup, plain, repository_file,
    restored, restored_into,
};

/// Without the two lines that have a new key in each dump.
fn without_keys(dump: &[u8]) -> Vec<u8> {
    let lines = dump.split_inclusive(|&byte| byte == b'\n');
    lines
        .filter(|line| !line.starts_with(b"\\restrict ") && !line.starts_with(b"\\unrestrict "))
        .flatten()
        .copied()
        .collect()
}

/// What the real `pg_dump` says of a database, byte for byte.
fn dump_of(database: &Database) -> Vec<u8> {
    let output = database.server().client("pg_dump", &database.name).output().expect("pg_dump");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Every table that COPY fills, in the order of its quoted name, with its number of rows.
fn rows_in(database: &Database) -> Value {
    let count = "(xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM ONLY %I.%I', nspname, relname), \
                 false, true, '')))[1]::text::int";
    let sql = format!(
        "SELECT coalesce(json_agg(json_build_object('table', name, 'rows', rows) ORDER BY name COLLATE \"C\"), '[]') FROM \
         (SELECT quote_ident(nspname) || '.' || quote_ident(relname) AS name, {count} AS rows \
         FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace \
         WHERE relkind = 'r' AND nspname !~ '^pg_' AND nspname <> 'information_schema') AS tables"
    );
    serde_json::from_str(&database.psql(&sql).expect("the rows")).expect("JSON")
}

/// The tables of the index, in the same order.
fn rows_in_index(index: Index) -> Value {
    let mut copies: Vec<_> = index.entries.into_iter().filter_map(|entry| entry.copy).collect();
    copies.sort_by(|a, b| a.table.cmp(&b.table));
    copies.into_iter().map(|copy| json!({"table": copy.table, "rows": copy.rows})).collect()
}

#[test]
fn a_database_with_everything_in_it_comes_back_identical() {
    let database = postgres().create_database("everything");
    database.load(&repository_file("tests/fixtures/everything.sql")).expect("loaded");
    let bucket = s3().create_bucket("everything");
    backup_program(&database, &bucket).run().assert_code(0).assert_no_children_left();
    let key = only_backup(&bucket);
    assert_eq!(rows_in_index(index(&bucket, &key)), rows_in(&database));

    let reference = dump_of(&database);
    let backup = plain(&bucket, &key);
    assert_same_dump(&backup, &reference);
    let by_hand = restored_into(postgres().create_database("by_hand"), &reference);
    drop(reference);
    let from_backup = restored_into(postgres().create_database("from_backup"), &backup);
    drop(backup);
    assert_same_dump(&dump_of(&from_backup), &dump_of(&by_hand));
}

#[test]
fn an_empty_database_comes_back_identical() {
    let database = postgres().create_database("empty");
    let bucket = s3().create_bucket("empty");
    backup_program(&database, &bucket).run().assert_code(0);
    let key = only_backup(&bucket);
    let manifest = manifest(&bucket, &key);
    assert_eq!(
        (&manifest["rows"], &manifest["table_count"], &manifest["tables"]),
        (&0.into(), &0.into(), &Value::Null)
    );
    assert_eq!(index(&bucket, &key).entries.len(), 0);
    assert_eq!(restored(&bucket, &key).dump(), database.dump());
}

#[test]
fn a_database_of_any_name_is_backed_up() {
    for hint in [
        "it's a \"quoted\" name",
        "ünï 漢字 🐘",
        r"back\slash %41 $HOME `x`",
        "host=elsewhere password=x",
        "postgres://h/d",
    ] {
        let database = postgres().create_database(hint);
        database.psql("CREATE TABLE t AS SELECT 7 AS n").expect("a table");
        let bucket = s3().create_bucket("names");
        let outcome = backup_program(&database, &bucket).run();
        outcome.assert_code(0);
        let key = only_backup(&bucket);
        assert_eq!(manifest(&bucket, &key)["database"], *database.name);
        assert_eq!(restored(&bucket, &key).psql("SELECT n FROM t").as_deref(), Ok("7"), "{hint}");
    }
}

#[test]
fn the_bytes_of_other_encodings_come_back_identical() {
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let options = format!("TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'");
        let database = postgres().create_database_with("encoding", &options);
        let sql =
            "CREATE TABLE t AS SELECT n, chr(n) AS c, repeat(chr(n), 3000) AS r FROM generate_series(1, 255) AS n";
        database.psql(sql).expect("every character");
        let bucket = s3().create_bucket("encoding");
        backup_program(&database, &bucket).run().assert_code(0);
        let key = only_backup(&bucket);
        let manifest = manifest(&bucket, &key);
        assert_eq!((&manifest["encoding"], &manifest["collation"]), (&encoding.into(), &"C".into()));
        assert_eq!((&manifest["rows"], &manifest["table_count"]), (&255.into(), &1.into()));
        let backup = plain(&bucket, &key);
        assert_eq!(without_keys(&backup), without_keys(&dump_of(&database)), "{encoding}");
        let restored = restored_into(postgres().create_database_with("restored", &options), &backup);
        assert_eq!(without_keys(&dump_of(&restored)), without_keys(&backup), "{encoding}");
    }
}

#[test]
fn the_manifest_says_what_is_true() {
    let database = postgres().create_database("facts");
    database.psql("CREATE TABLE b AS SELECT n FROM generate_series(1, 1234) AS n").expect("a table");
    database.psql("CREATE SCHEMA \"a b\"; CREATE TABLE \"a b\".\"C\" (t text)").expect("a table");
    let bucket = s3().create_bucket("facts");
    backup_program(&database, &bucket).env("S3_PATH", "/some/where/").run().assert_code(0);
    let key = only_backup(&bucket);
    let (manifest, plain) = (manifest(&bucket, &key), plain(&bucket, &key));

    let file_name = key.strip_prefix("some/where/").expect("below the prefix");
    assert_eq!((&manifest["key"], &manifest["file_name"]), (&Value::from(&*key), &file_name.into()));
    assert_eq!((&manifest["database"], &manifest["encoding"]), (&Value::from(&*database.name), &"UTF8".into()));
    let mut crc = flate2::Crc::new();
    crc.update(&plain);
    assert_eq!(manifest["dump_crc32"], format!("{:08x}", crc.sum()));
    assert_eq!(manifest["dump_bytes"], plain.len());
    assert_eq!((&manifest["rows"], &manifest["parts"]), (&1234.into(), &1.into()));
    assert_eq!(rows_in_index(index(&bucket, &key)), rows_in(&database));
    assert_eq!(manifest["tool_version"], env!("CARGO_PKG_VERSION"));
    for (fact, sql) in [
        ("server_version", "SHOW server_version"),
        ("system_identifier", "SELECT system_identifier FROM pg_control_system()"),
        ("collation", "SELECT datcollate FROM pg_database WHERE datname = current_database()"),
        ("ctype", "SELECT datctype FROM pg_database WHERE datname = current_database()"),
    ] {
        assert_eq!(manifest[fact].as_str().map(str::to_owned), database.psql(sql).ok(), "{fact}");
    }
    let version = format!("-- Dumped by pg_dump version {}", manifest["pg_dump_version"].as_str().expect("a version"));
    assert!(plain.windows(version.len()).any(|window| window == version.as_bytes()), "{version}");
    let stamp = manifest["started_at"].as_str().expect("a time").replace(':', "-").replace('T', "_").replace('Z', "");
    assert_eq!(file_name, format!("postgres-backup-{stamp}.sql.gz"));
    assert!(manifest["finished_at"].as_str() >= manifest["started_at"].as_str(), "{manifest}");
}

#[test]
fn the_object_is_gzip_and_carries_the_run_id() {
    let database = postgres().create_database("object");
    let bucket = s3().create_bucket("object");
    backup_program(&database, &bucket).run().assert_code(0);
    let key = only_backup(&bucket);
    let answer = s3().request("HEAD", &format!("/{bucket}/{key}"), b"").expect("its headers");
    let headers = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let header =
        |name: &str| headers.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
    let run_id = manifest(&bucket, &key)["run_id"].as_str().expect("an id").to_owned();
    assert!(run_id.len() == 32 && run_id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{run_id}");
    assert_eq!(header("x-amz-meta-runid"), Some(run_id));
    assert_eq!(header("content-type").as_deref(), Some("application/gzip"));
    assert_eq!(header("content-encoding"), None);
    let two = [s3().create_bucket("second"), bucket].map(|bucket| {
        backup_program(&database, &bucket).env("S3_PATH", "second").run().assert_code(0);
        let keys = s3().keys(&bucket, "second/");
        manifest(&bucket, &keys[0])["run_id"].as_str().map(str::to_owned)
    });
    assert!(two[0].is_some() && two[0] != two[1], "each run has its own id: {two:?}");
}

#[test]
fn every_reader_of_gzip_reads_all_of_a_backup_of_several_parts() {
    let database = postgres().create_database("parts");
    // Random digits: about 12 MiB even when compressed, so three parts of the smallest size.
    database
        .psql("CREATE TABLE t AS SELECT sha512(n::text::bytea) AS h, sha512((-n)::text::bytea) AS i FROM generate_series(1, 90000) AS n")
        .expect("a table");
    let bucket = s3().create_bucket("parts");
    backup_program(&database, &bucket).env("BACKUP_PART_SIZE", "5MiB").env("BACKUP_THREADS", "3").run().assert_code(0);
    let key = only_backup(&bucket);
    assert!(manifest(&bucket, &key)["parts"].as_u64() >= Some(2), "{}", manifest(&bucket, &key)["parts"]);
    let bytes = object(&bucket, &key);
    let plain = gunzipped(&bytes);
    assert_eq!(without_keys(&plain), without_keys(&dump_of(&database)));

    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("backup.sql.gz");
    fs::write(&file, &bytes).expect("written");
    let script = "import gzip, sys; sys.stdout.buffer.write(gzip.open(sys.argv[1]).read())";
    for (program, args) in [("python3", vec!["-c", script]), ("gzip", vec!["-dc"]), ("gunzip", vec!["-c"])] {
        assert!(read_by(program, &args, &file) == plain, "{program} reads something else");
    }
}

fn read_by(program: &str, args: &[&str], file: &Path) -> Vec<u8> {
    let output = Command::new(program).args(args).arg(file).stdin(Stdio::null()).output().expect("a reader");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
