//! `BACKUP_AGE_RECIPIENTS`: every command works as without encryption, Debian's `age` reads what is stored, and nothing in the
//! bucket, in the spool or in the log names what is in the database.

mod check;
mod damage;
mod databases;
mod details;
mod hidden;
mod identities;
mod index;
mod planted;
mod posture;
mod ranges;
mod spool;

use pg_s3_backup::codec::age::SMALLEST_OVERHEAD;

use crate::support::age::{AgeKey, encrypted_by_age};
use crate::support::program::Program;
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::{postgres, s3};
use crate::support::setup::{
    assert_same_dump, backup_program, gunzipped, gzipped, list_program, manifest, only_encrypted, prune_program,
    s3_program, unzstd,
};
use crate::support::stored::put;

const IDENTITY: &str = "BACKUP_AGE_IDENTITY";

/// `backup` for these recipients.
fn encrypted_backup(database: &Database, bucket: &str, keys: &[&AgeKey]) -> Program {
    let recipients: Vec<&str> = keys.iter().map(|key| key.recipient.as_str()).collect();
    backup_program(database, bucket).env("BACKUP_AGE_RECIPIENTS", recipients.join(", "))
}

/// The program with the bucket and an identity.
fn reader(bucket: &str, key: &AgeKey) -> Program {
    s3_program(bucket).env(IDENTITY, &key.identity)
}

fn database() -> Database {
    let database = postgres().create_database("encrypted");
    // About 1.6 MiB of dump: many chunks of age.
    database.psql("CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 40000) AS n").expect("a table");
    database
}

/// A database and the bucket with its backup.
struct Stage {
    database: Database,
    bucket: String,
    key: AgeKey,
    name: String,
}

fn backed_up() -> Stage {
    let database = database();
    let (bucket, key, name) = backed_up_from(&database);
    Stage { database, bucket, key, name }
}

/// A bucket with the encrypted backup of a database, its key and its name.
fn backed_up_from(database: &Database) -> (String, AgeKey, String) {
    let (bucket, key) = (s3().create_bucket("encrypted"), AgeKey::new());
    encrypted_backup(database, &bucket, &[&key]).run().assert_code(0);
    let name = only_encrypted(&bucket);
    (bucket, key, name)
}

#[track_caller]
fn dump_of(database: &Database) -> Vec<u8> {
    let output = database.server().client("pg_dump", &database.name).output().expect("pg_dump");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn age_and_every_command_read_a_backup() {
    let Stage { database, bucket, key, name } = backed_up();
    assert!(name.ends_with(".sql.gz.age"), "{name}");
    let object = s3().get(&bucket, &name).expect("the backup");
    assert!(object.starts_with(b"age-encryption.org/v1\n-> X25519 "));
    let dump = gunzipped(&key.decrypted(&object));
    assert_same_dump(&dump, &dump_of(&database));
    let headers = s3().request("HEAD", &format!("/{bucket}/{name}"), b"").expect("its headers");
    let headers = String::from_utf8_lossy(&headers).to_ascii_lowercase();
    assert!(headers.contains("content-type: application/octet-stream"), "{headers}");
    let globals = s3().get(&bucket, &format!("{name}.globals.sql.gz.age")).expect("the globals");
    let globals = String::from_utf8(gunzipped(&key.decrypted(&globals))).expect("text");
    assert!(globals.contains("CREATE ROLE"), "{globals}");
    assert_eq!(manifest(&bucket, &name)["recipients"], serde_json::json!([key.recipient]));

    let short = format!("{}…", &key.recipient[..9]);
    let listed = list_program(&bucket).run();
    let table = listed.assert_code(0).stdout_text();
    assert!(table.contains(&name) && table.contains(" encrypted"), "{table}");
    let shown = list_program(&bucket).arg("latest").run();
    let shown = shown.assert_code(0).stdout_text();
    assert!(shown.contains(&short) && !shown.contains(&key.recipient), "{shown}");
    assert!(shown.contains(&format!("age -d -i key.txt {name} | gunzip -c | ")), "{shown}");

    let restore = reader(&bucket, &key).arg("restore");
    assert!(restore.run().assert_code(0).stdout == dump);
    assert!(restore.clone().arg("--raw").run().assert_code(0).stdout == object);
    let restored = unique_name("from_age");
    restore
        .env("RESTORE_CONNECTION_STRING", database.uri())
        .args(["--create-db", &restored, "--globals"])
        .run()
        .assert_code(0);
    let question = "SELECT count(*), sum(n) FROM t";
    assert_eq!(postgres().adopt_database(&restored).psql(question), database.psql(question));

    s3_program(&bucket).args(["delete", "--force", &name]).run().assert_code(0);
    assert_eq!(s3().keys(&bucket, ""), [""; 0]);
}

#[test]
fn each_recipient_opens_a_backup_of_either_codec() {
    let (database, keys) = (database(), [AgeKey::new(), AgeKey::new()]);
    for codec in ["gzip", "zstd"] {
        let bucket = s3().create_bucket("recipients");
        encrypted_backup(&database, &bucket, &[&keys[0], &keys[1]]).args(["--compression", codec]).run().assert_code(0);
        let name = only_encrypted(&bucket);
        let object = s3().get(&bucket, &name).expect("the backup");
        for key in &keys {
            let packed = key.decrypted(&object);
            let dump = if codec == "zstd" { unzstd(&packed) } else { gunzipped(&packed) };
            assert!(reader(&bucket, key).arg("restore").run().assert_code(0).stdout == dump, "{codec}");
        }
    }
}

#[test]
fn a_file_that_age_made_is_restored() {
    let (database, keys) = (database(), [AgeKey::new(), AgeKey::new()]);
    let (dump, bucket) = (dump_of(&database), s3().create_bucket("by-age"));
    let name = "postgres-backup-2026-11-23_02-00-00.sql.gz.age";
    put(&bucket, name, &encrypted_by_age(&gzipped(&dump), &[&keys[0], &keys[1]]));
    assert_eq!(encrypted_by_age(b"", &[&keys[0]]).len() as u64, SMALLEST_OVERHEAD);
    for key in &keys {
        let restored = reader(&bucket, key).arg("restore").run();
        assert!(restored.assert_code(0).stdout == dump);
        assert!(restored.stderr.contains("there is no manifest"), "{}", restored.stderr);
    }
}

/// Retention counts both kinds, and deletes each with its sidecars.
#[test]
fn a_destination_holds_backups_with_and_without_encryption() {
    let Stage { database, bucket, key, name } = backed_up();
    backup_program(&database, &bucket).run().assert_code(0);
    encrypted_backup(&database, &bucket, &[&key]).run().assert_code(0);
    let listed = list_program(&bucket).arg("--quiet").run();
    let names: Vec<String> = listed.assert_code(0).stdout_text().lines().map(str::to_owned).collect();
    let [last, plain, first] = &names[..] else { panic!("{names:?}") };
    assert!(*first == name && plain.ends_with(".sql.gz") && last.ends_with(".sql.gz.age"), "{names:?}");
    s3_program(&bucket).args(["restore", plain, "--output", "/dev/null"]).run().assert_code(0);
    let prune = prune_program(&bucket).env("BACKUP_KEEP_LAST", "1").env("BACKUP_MIN_KEEP", "1").arg("--force");
    prune.run().assert_code(0);
    assert_eq!(only_encrypted(&bucket), *last);
}
