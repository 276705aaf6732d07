//! Manifests: any bytes are one or not, and what was read is what would be written, also of a dump delivered later.
//!
//! Input: the JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pg_s3_backup::archive::manifest::{Manifest, Place};
use pg_s3_backup::archive::restore_instructions;

fuzz_target!(|bytes: &[u8]| {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) else { return };
    let again = written_and_read(&manifest);
    assert_eq!(again, manifest);
    let (key, location) =
        ("p/postgres-backup-2026-11-23_02-00-00.sql.gz", "s3://b/p/postgres-backup-2026-11-23_02-00-00.sql.gz");
    let place = Place { location, endpoint: None };
    let delivered = manifest.clone().delivered(key, chrono::DateTime::UNIX_EPOCH).with_restore(&place);
    assert_eq!((delivered.key.as_str(), delivered.file_name.as_str()), (key, &key[2..]));
    // The verified facts do not change.
    assert_eq!(
        (delivered.object_bytes, &delivered.object_sha256, delivered.partial, &delivered.tables),
        (manifest.object_bytes, &manifest.object_sha256, manifest.partial, &manifest.tables)
    );
    let added = delivered.warnings.len() - manifest.warnings.len();
    let absent = usize::from(manifest.globals.is_none()) + usize::from(manifest.index.is_none());
    assert!(added <= absent, "only an absent sidecar is a warning");
    assert_eq!(delivered.restore, restore_instructions::commands(&place, Some(&delivered)));
    assert_eq!(written_and_read(&delivered), delivered);
});

fn written_and_read(manifest: &Manifest) -> Manifest {
    let json = serde_json::to_vec(manifest).expect("JSON");
    let again: Manifest = serde_json::from_slice(&json).expect("what was written can be read");
    // serde_json reads a float to the last digit but one.
    let ratio = manifest.compression_ratio;
    assert!((again.compression_ratio - ratio).abs() <= ratio.abs() * 1e-15);
    Manifest { compression_ratio: ratio, ..again }
}
