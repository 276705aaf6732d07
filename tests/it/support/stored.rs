//! Old backups: objects with the program's names and manifests, stored without the program. Used by the tests of retention.

use super::servers::s3;

/// A minimal manifest of a complete object of one byte.
pub const VALID_MANIFEST: &str = r#"{"database": "postgres", "object_bytes": 1, "partial": false}"#;

/// The file name of a backup made at 2 o'clock of this day, counted from January 1st, 2026 (day 1).
pub fn name_of_day(day: u32) -> String {
    name_of_second((i64::from(day) - 1) * 86_400 + 7_200)
}

/// The file name of a backup made at the beginning of this hour, counted from January 1st, 2026 (hour 0).
pub fn name_of_hour(hour: u32) -> String {
    name_of_second(i64::from(hour) * 3_600)
}

fn name_of_second(second: i64) -> String {
    const NEW_YEAR: i64 = 1_767_225_600;
    let started = chrono::DateTime::from_timestamp(NEW_YEAR + second, 0).expect("a time");
    pg_s3_backup::archive::name::BackupName::new(started).to_string()
}

/// The file name of a backup in the far future.
pub const FUTURE: &str = "postgres-backup-2036-01-01_00-00-00.sql.gz";

/// The result of `pg_dump | gzip` if `pg_dump` fails: an empty gzip file of 20 bytes.
pub const EMPTY_GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0";

/// Stores valid backups of one byte of these days below a path, each with its manifest.
///
/// # Panics
/// If the server refuses one.
pub fn put_backups(bucket: &str, path: &str, days: &[u32]) {
    let key = |day: &u32| if path.is_empty() { name_of_day(*day) } else { format!("{path}/{}", name_of_day(*day)) };
    let keys: Vec<String> = days.iter().map(key).collect();
    let manifests: Vec<String> = keys.iter().map(|key| format!("{key}.json")).collect();
    let objects = keys.iter().map(|key| (key.as_str(), "x"));
    let objects: Vec<(&str, &str)> =
        objects.chain(manifests.iter().map(|key| (key.as_str(), VALID_MANIFEST))).collect();
    s3().put_all(bucket, &objects);
}

/// Stores an object.
///
/// # Panics
/// If the server refuses it.
#[track_caller]
pub fn put(bucket: &str, key: &str, bytes: &[u8]) {
    s3().request("PUT", &format!("/{bucket}/{key}"), bytes).expect("stored");
}

/// Begins an upload and gives its id.
pub fn begin_upload(bucket: &str, key: &str) -> String {
    let answer = s3().request("POST", &format!("/{bucket}/{key}?uploads="), b"").expect("it begins");
    let answer = String::from_utf8(answer).expect("XML");
    let (_, rest) = answer.split_once("<UploadId>").expect("an id");
    rest.split_once("</UploadId>").expect("an id").0.to_owned()
}
