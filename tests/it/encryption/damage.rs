//! No damage to an encrypted backup goes unseen, with a manifest that says that all is well, and without one.

use super::{Stage, backed_up, reader};
use crate::support::program::Program;
use crate::support::servers::s3;
use crate::support::setup::replace;

const CHECK_FAILED: i32 = 14;
const RESTORE_FAILED: i32 = 15;
/// An encrypted chunk.
const CHUNK: usize = (64 << 10) + 16;

/// Where the first chunk begins: after the last line of the header, and the nonce.
fn first_chunk(object: &[u8]) -> usize {
    let last = object.windows(5).position(|window| window == b"\n--- ").expect("the last line") + 1;
    last + object[last..].iter().position(|byte| *byte == b'\n').expect("its end") + 1 + 16
}

#[track_caller]
fn assert_refused(restore: &Program, case: &str) {
    let outcome = restore.run();
    assert_eq!(outcome.code, Some(RESTORE_FAILED), "{case}: {}", outcome.stderr);
    assert!(!restore.home().join("dump.sql").exists(), "{case}");
    let errors: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(matches!(errors[..], [line] if line.contains("age: ")), "{case}: {}", outcome.stderr);
}

#[test]
fn no_damage_goes_unseen_even_without_a_manifest() {
    let Stage { bucket, key, name, .. } = backed_up();
    let object = s3().get(&bucket, &name).expect("the backup");
    let begin = first_chunk(&object);
    let (head, chunks) = (&object[..begin], object[begin..].chunks(CHUNK).collect::<Vec<_>>());
    assert!(chunks.len() > 4, "{} chunks", chunks.len());
    let of = |chunks: &[&[u8]]| [head, &chunks.concat()].concat();
    let flipped = |at: usize| {
        let mut bytes = object.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let mut swapped = chunks.clone();
    swapped.swap(1, 2);
    let without = [&chunks[..1], &chunks[2..]].concat();
    let repeated = [&chunks[..2], &chunks[1..]].concat();
    for (case, bytes) in [
        ("a flipped bit in the header", flipped(30)),
        ("a flipped bit in the header's MAC", flipped(begin - 30)),
        ("a flipped bit in the nonce", flipped(begin - 3)),
        ("a flipped bit in the first chunk", flipped(begin + 1000)),
        ("a flipped bit in the last byte", flipped(object.len() - 1)),
        ("swapped chunks", of(&swapped)),
        ("a chunk less", of(&without)),
        ("a chunk twice", of(&repeated)),
        ("the last chunk twice", of(&[&chunks[..], &chunks[chunks.len() - 1..]].concat())),
        ("cut at a chunk's edge", of(&chunks[..chunks.len() - 1])),
        ("cut to the header", head.to_vec()),
        ("cut in the header", object[..begin - 40].to_vec()),
        ("cut by a byte", object[..object.len() - 1].to_vec()),
        ("another byte", [&object[..], b"x"].concat()),
        (
            "no file of age",
            b"\x1f\x8b\x08\0\0\0\0\0\0\x03 is gzip under the name of an encrypted backup, and much too short".to_vec(),
        ),
    ] {
        replace(&bucket, &name, &bytes);
        let checked = reader(&bucket, &key).args(["check", "--bucket-only", "--deep"]).run();
        let lines = checked.assert_code(CHECK_FAILED).stdout_text();
        assert!(lines.contains("fail  decryption"), "{case}: {lines}");
        for flags in [&[][..], &["--ignore-manifest"]] {
            assert_refused(&reader(&bucket, &key).args(["restore", &name, "--output", "dump.sql"]).args(flags), case);
        }
    }
}

/// The target is as it was, and so is a part of the dump that was already sent.
#[test]
fn nothing_of_a_damaged_backup_is_committed() {
    let Stage { database, bucket, key, name } = backed_up();
    let mut object = s3().get(&bucket, &name).expect("the backup");
    let last = object.len() - 1;
    object[last] ^= 1;
    replace(&bucket, &name, &object);
    let target = crate::restore::empty("target");
    let restore = reader(&bucket, &key).env("RESTORE_CONNECTION_STRING", target.uri()).arg("restore");
    let outcome = restore.run();
    outcome.assert_code(RESTORE_FAILED);
    crate::restore::assert_untouched(&target, &outcome);
    drop(database);
}
