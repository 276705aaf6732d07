//! The posture of the README: the host that backs up has public keys and a key that can only write. Another host deletes, a third
//! one restores.

use super::{database, encrypted_backup, only_encrypted, reader};
use crate::support::age::AgeKey;
use crate::support::servers::s3;
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
