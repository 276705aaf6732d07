//! The pattern of backup names.
//!
//! Every module parses and creates names here. A backup's time is in its name: the store's `LastModified` changes when an object
//! is copied.

use std::fmt;

use chrono::{DateTime, NaiveDateTime, SubsecRound as _, TimeDelta, Utc};

use crate::codec::{Codec, age};

/// The prefix of every backup's file name, and of listings.
pub const BEGINNING: &str = "postgres-backup-";
/// What follows the time, before the codec's extension.
const ENDING: &str = ".sql.";
const PATTERN: &str = "%Y-%m-%d_%H-%M-%S";
/// The suffix of the manifest's key.
pub const MANIFEST_SUFFIX: &str = ".json";
/// The suffix of the globals' key.
pub const GLOBALS_SUFFIX: &str = ".globals.sql.gz";
/// The suffix of the globals' key of an encrypted backup.
pub const ENCRYPTED_GLOBALS_SUFFIX: &str = ".globals.sql.gz.age";
/// The suffix of the index's key.
pub const INDEX_SUFFIX: &str = ".index.json.gz";
/// The suffix of the index's key of an encrypted backup.
pub const ENCRYPTED_INDEX_SUFFIX: &str = ".index.json.gz.age";
/// What the key of a drill's record has behind that of its backup.
pub const DRILL_SUFFIX: &str = ".drill.json";

/// A name further ahead than this is in the future; synchronised clocks differ by less.
pub const CLOCK_TOLERANCE: TimeDelta = TimeDelta::hours(1);

/// Whether a time is one that no clock which is right can have shown yet.
#[must_use]
pub fn is_in_future(time: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    time > now + CLOCK_TOLERANCE
}

/// The file name of a key.
#[must_use]
pub fn file_name(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(_, file_name)| file_name)
}

/// `postgres-backup-2026-11-23_02-00-00.sql.gz`, or `.sql.zst` with zstd; `.age` is appended to both with encryption. Ordered by time, then by suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackupName {
    started: DateTime<Utc>,
    codec: Codec,
    is_encrypted: bool,
}

impl BackupName {
    /// The name of a gzip backup of this time, to the second.
    #[must_use]
    pub fn new(started: DateTime<Utc>) -> Self {
        Self { started: started.trunc_subsecs(0), codec: Codec::Gzip, is_encrypted: false }
    }

    /// The name of the same second with another codec.
    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    /// The name of the same second and codec with encryption.
    #[must_use]
    pub fn encrypted(self) -> Self {
        Self { is_encrypted: true, ..self }
    }

    /// Parses a file name; `None` if this program would not write exactly that.
    #[must_use]
    pub fn parse(file_name: &str) -> Option<Self> {
        let (time, extension) = file_name.strip_prefix(BEGINNING)?.split_once(ENDING)?;
        let (extension, is_encrypted) = match extension.rsplit_once('.') {
            Some((extension, age::EXTENSION)) => (extension, true),
            _ => (extension, false),
        };
        let codec = Codec::ALL.into_iter().find(|codec| codec.extension() == extension)?;
        // chrono also accepts longer and negative years.
        if !time.split('-').next().is_some_and(|year| year.len() == 4 && year.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return None;
        }
        let started = NaiveDateTime::parse_from_str(time, PATTERN).ok()?.and_utc();
        let name = Self { started, codec, is_encrypted };
        // chrono also accepts `2026-1-2`, signs and leap seconds, which this program does not write.
        let is_leap_second = started.timestamp_subsec_nanos() > 0;
        (!is_leap_second && name.to_string() == file_name).then_some(name)
    }

    /// The start time of the backup.
    #[must_use]
    pub fn started(&self) -> DateTime<Utc> {
        self.started
    }

    /// The codec of the backup.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Whether the backup is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// The media type of the backup.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        if self.is_encrypted { age::CONTENT_TYPE } else { self.codec.content_type() }
    }

    /// The suffix of its globals' key.
    #[must_use]
    pub fn globals_suffix(&self) -> &'static str {
        if self.is_encrypted { ENCRYPTED_GLOBALS_SUFFIX } else { GLOBALS_SUFFIX }
    }

    /// All names of this second. Only one of them may be taken, so that a time is one backup's.
    pub fn of_same_second(self) -> impl Iterator<Item = Self> {
        Codec::ALL.into_iter().flat_map(move |codec| {
            let plain = Self { codec, is_encrypted: false, ..self };
            [plain, plain.encrypted()]
        })
    }

    /// Whether the name is more than an hour in the future, because a clock is or was wrong. Then the age of the backup is
    /// unknown.
    #[must_use]
    pub fn is_in_future(&self, now: DateTime<Utc>) -> bool {
        is_in_future(self.started, now)
    }

    /// The name this many seconds later, if this one is in use.
    #[must_use]
    pub fn later(&self, seconds: u32) -> Self {
        Self { started: self.started + TimeDelta::seconds(seconds.into()), ..*self }
    }

    /// The common prefix of all names of this second: `postgres-backup-2026-11-23_02-00-00.`
    #[must_use]
    pub fn second(&self) -> String {
        format!("{BEGINNING}{}.", self.started.format(PATTERN))
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BEGINNING}{}{ENDING}{}", self.started.format(PATTERN), self.codec.extension())?;
        if self.is_encrypted { write!(f, ".{}", age::EXTENSION) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_this_programs_names_are_names() {
        assert!(BackupName::parse("postgres-backup-2026-11-23_02-00-00.sql.gz").is_some());
        for other in [
            "postgres-backup-2026-11-23_02-00-00.sql.gz.json",
            "postgres-backup-2026-11-23_02-00-00.sql.gz.globals.sql.gz",
            "postgres-backup-2026-11-23_02-00-00.sql",
            "postgres-backup-2026-13-23_02-00-00.sql.gz",
            "postgres-backup-2026-02-30_02-00-00.sql.gz",
            "postgres-backup-2026-11-23_24-00-00.sql.gz",
            "postgres-backup-2026-11-23_23-59-60.sql.gz",
            "postgres-backup-2026-1-23_02-00-00.sql.gz",
            "postgres-backup-+2026-11-23_02-00-00.sql.gz",
            "postgres-backup-+262142-12-31_23-59-59.sql.gz",
            "postgres-backup-12026-11-23_02-00-00.sql.gz",
            "postgres-backup--0001-01-01_00-00-00.sql.gz",
            "postgres-backup--262143-01-01_00-00-00.sql.gz",
            "xpostgres-backup-2026-11-23_02-00-00.sql.gz",
            "postgres-backup-.sql.gz",
            "postgres-backup-2026-11-23_02-00-00.sql.zst.json",
            "postgres-backup-2026-11-23_02-00-00.sql.zstd",
            "postgres-backup-2026-11-23_02-00-00.sql.gz.sql.zst",
            "postgres-backup-2026-11-23_02-00-00.sql.",
            "postgres-backup-2026-11-23_02-00-00.sql.age",
            "postgres-backup-2026-11-23_02-00-00.sql.gz.age.age",
            "postgres-backup-2026-11-23_02-00-00.sql.gz.AGE",
            "postgres-backup-2026-11-23_02-00-00.sql.gz.age.globals.sql.gz.age",
            "",
        ] {
            assert_eq!(BackupName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn names_are_ordered_by_time_then_by_suffix() {
        let first = BackupName::new(DateTime::from_timestamp(1_800_000_000, 0).expect("in range"));
        let names: Vec<BackupName> = first.of_same_second().chain(first.later(1).of_same_second()).collect();
        assert!(names.is_sorted() && names.iter().map(BackupName::to_string).is_sorted(), "{names:?}");
        assert_eq!(names[1].to_string(), "postgres-backup-2027-01-15_08-00-00.sql.gz.age");
        assert_eq!(names[3].to_string(), "postgres-backup-2027-01-15_08-00-00.sql.zst.age");
        assert_eq!(names[3].later(1), names[7], "codec and encryption stay");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0i64..253_402_300_799) {
            let name = BackupName::new(DateTime::from_timestamp(seconds, 999).expect("in range"));
            for name in name.of_same_second() {
                prop_assert_eq!(BackupName::parse(&name.to_string()), Some(name));
                prop_assert_eq!(name.started().timestamp(), seconds);
            }
        }

        #[test]
        fn any_text_is_read_or_not(text in ".{0,60}") {
            if let Some(name) = BackupName::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
