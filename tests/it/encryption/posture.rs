//! The posture of the README: the host that backs up has public keys and a key that can only write. Another host deletes, a third
//! one restores. With Object Lock, what the writing key deletes or replaces comes back.

use super::{database, encrypted_backup, only_encrypted, reader};
use crate::support::age::AgeKey;
use crate::support::servers::{S3, s3};
use crate::support::setup::{list_program, prune_program, s3_program};

const STORAGE: i32 = 3;

#[test]
fn a_host_that_only_writes_backs_up_and_others_delete_and_restore() {
    let (database, bucket, key) = (database(), s3().create_bucket("posture"), AgeKey::new());
    let keys = |program: crate::support::program::Program, access: &str, secret: &str| {
        program.env("S3_ACCESS_KEY", access).env("S3_SECRET_KEY", secret)
    };
    let writer = |program| keys(program, &s3().writeonly_access_key, &s3().writeonly_secret_key);
    let backup = writer(encrypted_backup(&database, &bucket, &[&key]));
    backup.run().assert_code(0);
    let first = only_encrypted(&bucket);
    // A key that cannot read does not see that a name is taken: a run in the same second would end with 12.
    std::thread::sleep(std::time::Duration::from_secs(1));
    backup.run().assert_code(0);
    // Who takes the host can neither read nor delete.
    for arguments in [&["list"][..], &["restore", &first], &["delete", "--force", &first]] {
        let taken = writer(s3_program(&bucket)).args(arguments).run();
        assert!(taken.code.is_some_and(|code| code >= STORAGE), "{arguments:?}: {}", taken.stderr);
    }
    assert_eq!(s3().keys(&bucket, "").len(), 8);

    let prune = prune_program(&bucket).env("BACKUP_KEEP_LAST", "1").env("BACKUP_MIN_KEEP", "1");
    prune.run().assert_code(0);
    let last = only_encrypted(&bucket);
    assert!(last > first, "{last}");

    let restore = keys(reader(&bucket, &key), &s3().readonly_access_key, &s3().readonly_secret_key).arg("restore");
    let restored = restore.run();
    assert!(restored.assert_code(0).stdout_text().contains("CREATE TABLE public.t"));
    let seen = keys(list_program(&bucket), &s3().readonly_access_key, &s3().readonly_secret_key).run();
    assert!(seen.assert_code(0).stdout_text().contains(&last));
}

/// The ids of an object's versions.
fn versions(bucket: &str, key: &str) -> Vec<String> {
    let listing = s3().request("GET", &format!("/{bucket}?versions="), b"").expect("versions");
    let listing = String::from_utf8_lossy(&listing).into_owned();
    let of = |entry: &&str| entry.contains(&format!("<Key>{key}</Key>"));
    let entries = listing.split("<Version>").skip(1).filter(of);
    let id = |entry: &str| Some(entry.split_once("<VersionId>")?.1.split_once("</VersionId>")?.0.to_owned());
    entries.filter_map(id).collect()
}

#[test]
fn object_lock_keeps_what_the_writing_key_deletes_and_replaces() {
    let (database, bucket, key) = (database(), s3().create_locked_bucket("ransom"), AgeKey::new());
    let writer = S3 {
        access_key: s3().writeonly_access_key.clone(),
        secret_key: s3().writeonly_secret_key.clone(),
        ..s3().clone()
    };
    let backup = encrypted_backup(&database, &bucket, &[&key]);
    backup.env("S3_ACCESS_KEY", &writer.access_key).env("S3_SECRET_KEY", &writer.secret_key).run().assert_code(0);
    let name = only_encrypted(&bucket);
    let object = s3().get(&bucket, &name).expect("the backup");
    let [id] = &versions(&bucket, &name)[..] else { panic!("one version wanted") };

    // Who takes the host replaces and deletes it. The key of this server may do both; S3 itself denies the second.
    writer.request("PUT", &format!("/{bucket}/{name}"), b"ransom").expect("a newer version");
    writer.request("DELETE", &format!("/{bucket}/{name}"), b"").expect("a delete marker");
    assert!(!s3().keys(&bucket, "").contains(&name), "hidden");
    for server in [&writer, s3()] {
        let version = format!("/{bucket}/{name}?versionId={id}");
        assert!(server.request("DELETE", &version, b"").is_err(), "not even an administrator deletes a locked version");
    }
    let locked = s3().request("GET", &format!("/{bucket}/{name}?versionId={id}"), b"").expect("the version");
    assert!(locked == object, "the version is as it was");

    // Its administrator copies it to another bucket, and restores.
    let safe = s3().create_bucket("safe");
    s3().request("PUT", &format!("/{safe}/{name}"), &locked).expect("stored");
    let restored = reader(&safe, &key).args(["restore", &name]).run();
    assert!(restored.assert_code(0).stdout_text().contains("CREATE TABLE public.t"));
}
