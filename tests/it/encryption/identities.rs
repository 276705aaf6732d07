//! A missing, unreadable, protected or wrong identity: one line, its exit code, and nothing is restored.

use super::{IDENTITY, Stage, backed_up, encrypted_backup, reader};
use crate::support::age::AgeKey;
use crate::support::program::{Outcome, Program};
use crate::support::servers::{postgres, s3};
use crate::support::setup::{backup_program, s3_program};

const MISSING: i32 = 1;
const INVALID: i32 = 4;
const CHECK_FAILED: i32 = 14;
const RESTORE_FAILED: i32 = 15;

#[track_caller]
fn assert_one_line(outcome: &Outcome, code: i32, words: &[&str]) {
    outcome.assert_code(code);
    assert!(outcome.stdout.is_empty(), "{}", outcome.stdout_text());
    let errors: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains("ERROR")).collect();
    let [line] = errors[..] else { panic!("not one line: {}", outcome.stderr) };
    assert!(words.iter().all(|word| line.contains(word)), "{line}");
}

#[test]
fn without_its_identity_nothing_is_restored() {
    let Stage { bucket, key, name, .. } = backed_up();
    let (other, restore) = (AgeKey::new(), s3_program(&bucket).args(["restore", &name]));
    let recipient = format!("{}…", &key.recipient[..9]);
    assert_one_line(&restore.run(), MISSING, &["BACKUP_AGE_IDENTITY is not set", &name, &recipient]);
    let wrong = restore.clone().env(IDENTITY, &other.identity);
    let own = format!("{}…", &other.recipient[..9]);
    assert_one_line(&wrong.run(), RESTORE_FAILED, &[&recipient, &own, "nothing was restored"]);
    // The object's own header decides without a manifest.
    let blind = wrong.arg("--ignore-manifest").run();
    assert_one_line(&blind, RESTORE_FAILED, &["no identity in BACKUP_AGE_IDENTITY opens it"]);
    let unreadable = restore.clone().env("BACKUP_AGE_IDENTITY_FILE", "/nowhere/key.txt");
    assert_one_line(&unreadable.run(), INVALID, &["BACKUP_AGE_IDENTITY_FILE"]);
    let armored = "-----BEGIN AGE ENCRYPTED FILE-----\nYWdlLWVuY3J5cHRpb24ub3Jn\n-----END AGE ENCRYPTED FILE-----";
    for (identity, words) in [
        (armored, "passphrase"),
        ("age-encryption.org/v1\n-> scrypt", "passphrase"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----", "SSH"),
        (key.recipient.as_str(), "public key"),
        ("AGE-PLUGIN-YUBIKEY-1QQQ", "another kind"),
        ("# nothing but a comment", "holds no identity"),
        ("AGE-SECRET-KEY-1CUT", "line 1"),
    ] {
        let outcome = restore.clone().env(IDENTITY, identity).run();
        assert_one_line(&outcome, INVALID, &["BACKUP_AGE_IDENTITY", words]);
        assert!(!outcome.stderr.contains("1CUT"), "{}", outcome.stderr);
    }
    // The file as `age-keygen` wrote it, and one of several.
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{}\n{}", other.identity, key.identity)).expect("written");
    restore.env("BACKUP_AGE_IDENTITY_FILE", file.path()).run().assert_code(0);
}

#[test]
fn a_drill_needs_an_identity() {
    let Stage { bucket, key, name, .. } = backed_up();
    let drill = |program: Program| {
        let allowed = ["--allow-same-server", "--allow-shared-server"];
        let program = program.env("DRILL_CONNECTION_STRING", postgres().uri("postgres"));
        program.args(["check", "--bucket-only"]).args(allowed).run()
    };
    let missing = drill(s3_program(&bucket));
    assert!(
        missing.assert_code(CHECK_FAILED).stdout_text().contains("BACKUP_AGE_IDENTITY"),
        "{}",
        missing.stdout_text()
    );
    let wrong = drill(reader(&bucket, &AgeKey::new()));
    assert!(wrong.assert_code(CHECK_FAILED).stdout_text().contains("encrypted for"), "{}", wrong.stdout_text());
    assert!(!s3().keys(&bucket, "").iter().any(|key| key.ends_with(".drill.json")), "no result");
    drill(reader(&bucket, &key)).assert_code(0);
    let record = s3().get(&bucket, &format!("{name}.drill.json")).expect("a record");
    assert!(String::from_utf8_lossy(&record).contains("\"result\": \"ok\""));
}

#[test]
fn a_key_that_is_none_stops_a_backup_before_it_begins() {
    let database = postgres().create_database("keys");
    let (bucket, key) = (s3().create_bucket("keys"), AgeKey::new());
    let pq = "age1pq1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";
    for (recipients, words) in [
        (key.private_key(), "private key"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIx", "SSH"),
        (pq, "another kind"),
        ("age1cut", "no public key"),
        ("# none", "holds no public key"),
    ] {
        let program = backup_program(&database, &bucket).env("BACKUP_AGE_RECIPIENTS", recipients);
        let outcome = program.run();
        assert_one_line(&outcome, INVALID, &["BACKUP_AGE_RECIPIENTS", words]);
        assert!(!outcome.stderr.contains("AGE-SECRET-KEY-1"), "{}", outcome.stderr);
    }
    assert_eq!(s3().keys(&bucket, ""), [""; 0]);
    encrypted_backup(&database, &bucket, &[&key]).run().assert_code(0);
}
