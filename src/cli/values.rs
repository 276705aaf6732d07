//! Values of the commands' own flags. Part of [`super`].

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::archive::name::{BackupName, file_name};

/// How long an upload has had no new part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinIdle(Duration);

impl MinIdle {
    /// The time.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }
}

impl std::str::FromStr for MinIdle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match humantime::parse_duration(text) {
            // Below a second, an upload that is running would count as abandoned.
            Ok(idle) if idle >= Duration::from_secs(1) => Ok(Self(idle)),
            _ => Err("must be a duration of at least 1s, such as `36h` or `7d`".to_owned()),
        }
    }
}

/// The backup to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupRef {
    /// The newest by name.
    Latest,
    /// This one.
    Named {
        /// Its name.
        name: BackupName,
        /// The argument: the name, the key, or the URL as `backup` prints it.
        text: String,
    },
}

impl std::str::FromStr for BackupRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("s3", text));
        let has_user = rest.split('/').next().is_some_and(|bucket| bucket.contains('@'));
        let name = BackupName::parse(file_name(rest)).filter(|_| scheme == "s3" && !has_user);
        let of = |name| Self::Named { name, text: text.to_owned() };
        name.map(of)
            .ok_or_else(|| "must be `latest`, or a name as `list` shows it, its key, or its s3:// URL".to_owned())
    }
}

impl fmt::Display for BackupRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Named { text, .. } => f.write_str(text),
        }
    }
}

/// The number of backups to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The newest so many.
    Newest(NonZeroUsize),
    /// All of them.
    All,
}

impl std::str::FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        text.parse().map(Self::Newest).map_err(|_| "must be a number of at least 1, or `all`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_name_key_or_url_of_a_backup() {
        let name = "postgres-backup-2026-11-23_02-00-00.sql.gz";
        for text in [name.to_owned(), format!("app/{name}"), format!("s3://b/app/{name}"), format!("s3://b/{name}")] {
            let wanted: BackupRef = text.parse().expect("a backup");
            assert!(matches!(&wanted, BackupRef::Named { name: known, .. } if known.to_string() == name), "{wanted:?}");
            assert_eq!(wanted.to_string(), text);
        }
        assert_eq!("latest".parse(), Ok(BackupRef::Latest));
        for text in ["", "newest", "s3://b/app/", &format!("https://h/{name}"), &format!("s3://k:secret@b/{name}")] {
            assert!(text.parse::<BackupRef>().is_err(), "{text}");
        }
    }

    #[test]
    fn parses_a_limit_or_all() {
        assert_eq!("all".parse(), Ok(Limit::All));
        assert!(matches!("7".parse(), Ok(Limit::Newest(count)) if count.get() == 7));
        for text in ["0", "-1", "few", ""] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }
}
