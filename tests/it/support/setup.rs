//! The usual set-up and result of a test: a `backup` of a database into a bucket, and the backup read without the product (by
//! the S3 helper, sha256, gunzip, psql).

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use pg_s3_backup::index::Index;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::program::Program;
use super::servers::database::Database;
use super::servers::{postgres, s3};
use super::stored::put;

/// The program with its destination (and timeouts for tests on a busy machine), without a subcommand.
pub fn s3_program(bucket: &str) -> Program {
    Program::new()
        .env("S3_URL", &s3().url)
        .env("S3_ACCESS_KEY", &s3().access_key)
        .env("S3_SECRET_KEY", &s3().secret_key)
        .env("S3_BUCKET", bucket)
        .env("S3_REQUEST_TIMEOUT", "20s")
        .env("BACKUP_MAX_UPLOAD_OUTAGE", "20s")
}

/// `backup` of this database into this bucket; later variables override these.
pub fn backup_program(database: &Database, bucket: &str) -> Program {
    s3_program(bucket).env("POSTGRES_CONNECTION_STRING", database.uri()).arg("backup")
}

/// `list` of this bucket.
pub fn list_program(bucket: &str) -> Program {
    s3_program(bucket).arg("list")
}

/// `prune` of this bucket.
pub fn prune_program(bucket: &str) -> Program {
    s3_program(bucket).arg("prune")
}

/// Returns the key of the only backup in a bucket.
///
/// # Panics
/// If the bucket has something else than the backup and its sidecars, or an open upload.
#[track_caller]
pub fn only_backup(bucket: &str) -> String {
    only_key(bucket, "")
}

/// As [`only_backup`], of an encrypted one.
///
/// # Panics
/// As [`only_backup`].
#[track_caller]
pub fn only_encrypted(bucket: &str) -> String {
    only_key(bucket, ".age")
}

#[track_caller]
fn only_key(bucket: &str, end: &str) -> String {
    let keys = s3().keys(bucket, "");
    assert_eq!(s3().open_uploads(bucket), [""; 0], "open uploads");
    match keys.as_slice() {
        [key, globals, index, manifest]
            if (key.ends_with(&format!(".sql.gz{end}")) || key.ends_with(&format!(".sql.zst{end}")))
                && *globals == format!("{key}.globals.sql.gz{end}")
                && *index == format!("{key}.index.json.gz{end}")
                && *manifest == format!("{key}.json") =>
        {
            key.clone()
        }
        _ => panic!("not one backup and its sidecars: {keys:?}"),
    }
}

/// The index of a backup, which is what its manifest says.
///
/// # Panics
/// If it is not.
#[track_caller]
pub fn index(bucket: &str, key: &str) -> Index {
    let packed = s3().get(bucket, &format!("{key}.index.json.gz")).expect("an index");
    let file = &manifest(bucket, key)["index"];
    assert_eq!((&file["bytes"], &file["sha256"]), (&packed.len().into(), &sha256(&packed).into()), "{file}");
    Index::unpacked(&packed).expect("readable")
}

/// Deletes everything in a bucket.
pub fn clear(bucket: &str) {
    for key in s3().keys(bucket, "") {
        s3().request("DELETE", &format!("/{bucket}/{key}"), b"").expect("deleted");
    }
}

/// Asserts that the bucket has no object and no open upload.
///
/// # Panics
/// If it is not empty.
#[track_caller]
pub fn assert_empty(bucket: &str) {
    assert_eq!(s3().keys(bucket, ""), [""; 0], "objects");
    assert_eq!(s3().open_uploads(bucket), [""; 0], "open uploads");
}

/// Returns a backup's manifest.
///
/// # Panics
/// If there is none, or it is not JSON.
#[track_caller]
pub fn manifest(bucket: &str, key: &str) -> Value {
    let body = s3().get(bucket, &format!("{key}.json")).expect("the manifest");
    serde_json::from_slice(&body).expect("the manifest is JSON")
}

/// Returns a backup's object as it is stored, and compares its size and sha256 with the manifest.
///
/// # Panics
/// If it does not exist, or differs from the manifest.
#[track_caller]
pub fn object(bucket: &str, key: &str) -> Vec<u8> {
    let manifest = manifest(bucket, key);
    let bytes = s3().get(bucket, key).expect("the backup");
    assert_eq!(manifest["object_bytes"], bytes.len(), "size");
    assert_eq!(manifest["object_sha256"], sha256(&bytes), "sha256");
    bytes
}

/// Returns the uncompressed globals of a backup, and compares their size and sha256 with the manifest.
///
/// # Panics
/// If they do not exist, or differ from the manifest.
#[track_caller]
pub fn globals(bucket: &str, key: &str) -> Vec<u8> {
    let globals = &manifest(bucket, key)["globals"];
    let name = globals["file_name"].as_str().expect("their name");
    let bytes =
        s3().get(bucket, &format!("{}{name}", key.rfind('/').map_or("", |slash| &key[..=slash]))).expect("the globals");
    assert_eq!((&globals["bytes"], &globals["sha256"]), (&bytes.len().into(), &sha256(&bytes).into()));
    gunzipped(&bytes)
}

/// Returns the plain dump of a backup, from one gzip member with nothing after it, or from zstd frames.
///
/// # Panics
/// If [`object`] panics, or the object is not complete.
#[track_caller]
pub fn plain(bucket: &str, key: &str) -> Vec<u8> {
    let object = object(bucket, key);
    if key.ends_with(".sql.zst") { unzstd(&object) } else { gunzipped(&object) }
}

/// Uncompresses with the `zstd` program.
///
/// # Panics
/// If it fails.
#[track_caller]
pub fn unzstd(bytes: &[u8]) -> Vec<u8> {
    installed("zstd");
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("written");
    let output = Command::new("zstd").arg("-dc").arg(file.path()).stdin(Stdio::null()).output().expect("zstd");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Compresses to one gzip member.
pub fn gzipped(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("to memory");
    encoder.finish().expect("to memory")
}

/// Uncompresses one gzip member; nothing may follow it.
///
/// # Panics
/// If it is damaged, or something follows it.
#[track_caller]
pub fn gunzipped(bytes: &[u8]) -> Vec<u8> {
    let mut member = GzDecoder::new(bytes);
    let mut plain = Vec::new();
    member.read_to_end(&mut plain).expect("a complete gzip member");
    assert_eq!(member.into_inner().len(), 0, "bytes after the first gzip member");
    plain
}

/// Restores a backup into a new database, as the documents say: download, verify, gunzip, psql.
///
/// # Panics
/// If any of these fails.
#[track_caller]
pub fn restored(bucket: &str, key: &str) -> Database {
    restored_into(postgres().create_database("restored"), &plain(bucket, key))
}

/// Feeds a plain dump to `psql -X -v ON_ERROR_STOP=1` on this database.
///
/// # Panics
/// If psql fails.
#[track_caller]
pub fn restored_into(database: Database, dump: &[u8]) -> Database {
    let mut psql = database.server().client("psql", &database.name);
    let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("psql");
    let mut stdin = child.stdin.take().expect("its input");
    let output = std::thread::scope(|scope| {
        // If psql stops early, its own message says why.
        scope.spawn(move || drop(stdin.write_all(dump)));
        child.wait_with_output().expect("psql's end")
    });
    assert!(output.status.success(), "the restore failed: {}", String::from_utf8_lossy(&output.stderr));
    database
}

/// Returns the directory of the client programs of a major version; installs them if they are missing.
///
/// # Panics
/// If they cannot be installed.
pub fn installed_clients(major: &str) -> PathBuf {
    let what = format!("clients-{major}");
    installed(&what);
    repository_file(&format!("target/tools/{what}/bin"))
}

/// A file of the repository, by its path from the top.
pub fn repository_file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Installs a tool of a test if it is missing (`scripts/install`).
///
/// # Panics
/// If it cannot be installed.
pub fn installed(what: &str) {
    let output = Command::new(repository_file("scripts/install")).arg(what).output().expect("the script");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The sha256 in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lets the manifest say what the object is now, so that only its content shows the damage.
#[track_caller]
pub fn adapt_manifest(bucket: &str, key: &str, bytes: &[u8], change: impl FnOnce(&mut Value)) {
    let mut manifest = manifest(bucket, key);
    manifest["object_bytes"] = bytes.len().into();
    manifest["object_sha256"] = sha256(bytes).into();
    change(&mut manifest);
    put(bucket, &format!("{key}.json"), manifest.to_string().as_bytes());
}

/// Puts these bytes under the backup's name; its manifest says that they are right.
#[track_caller]
pub fn replace(bucket: &str, key: &str, bytes: &[u8]) {
    put(bucket, key, bytes);
    adapt_manifest(bucket, key, bytes, |_| {});
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Asserts that two dumps are equal; `scripts/compare-dumps` prints the differences.
///
/// # Panics
/// If they differ.
#[track_caller]
pub fn assert_same_dump(one: &[u8], other: &[u8]) {
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = (dir.path().join("a.sql"), dir.path().join("b.sql"));
    std::fs::write(&a, one).and_then(|()| std::fs::write(&b, other)).expect("written");
    let output = Command::new(repository_file("scripts/compare-dumps")).args([&a, &b]).output().expect("compared");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
