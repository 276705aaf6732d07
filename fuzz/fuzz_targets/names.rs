//! Names of backups: what is read is what is written, and order by name is order in time.
//!
//! Input: two file names or keys, with a line end between them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pg_s3_backup::archive::name::{BackupName, file_name};

fuzz_target!(|text: &str| {
    let (one, other) = text.split_once('\n').unwrap_or((text, text));
    assert!(!file_name(one).contains('/') && one.ends_with(file_name(one)));
    let Some(name) = BackupName::parse(one) else { return };
    assert_eq!(name.to_string(), one, "another text is read as this name");
    assert_eq!(BackupName::new(name.started()).with_codec(name.codec()), name);
    // A sidecar is no backup.
    for suffix in [".json", ".globals.sql.gz", ".drill.json"] {
        assert_eq!(BackupName::parse(&format!("{one}{suffix}")), None);
    }
    assert!(name.later(1).started() > name.started());
    if let Some(other_name) = BackupName::parse(other) {
        assert_eq!(name.cmp(&other_name), one.cmp(other), "listings come in order of names");
    }
});
