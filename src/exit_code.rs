//! The program's exit codes: one table, from which `--help`, the manual and the documents are generated.
//!
//! Depends on no other module.

/// A documented exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitCode {
    /// 0
    Ok,
    /// 1
    MissingSetting,
    /// 2
    InvalidCron,
    /// 3
    InvalidS3,
    /// 4
    InvalidSetting,
    /// 10
    PostgresUnavailable,
    /// 11
    DumpFailed,
    /// 12
    StorageFailed,
    /// 13
    PruneIncomplete,
    /// 14
    CheckFailed,
    /// 15
    RestoreFailed,
    /// 16
    AlreadyRunning,
    /// 64
    Usage,
    /// 74
    OutputFailed,
    /// 129
    HungUp,
    /// 130
    Interrupted,
    /// 143
    Terminated,
}

/// A row of [`EXIT_CODES`].
#[derive(Clone, Copy, Debug)]
pub struct ExitCodeRow {
    /// The exit code.
    pub code: ExitCode,
    /// The number of the process's exit status.
    pub number: u8,
    /// A short name.
    pub name: &'static str,
    /// When the program ends with it.
    pub when: &'static str,
}

/// Every exit code.
pub const EXIT_CODES: [ExitCodeRow; 17] = [
    row(
        ExitCode::Ok,
        0,
        "ok",
        "the command succeeded; for backup: the object is committed and verified (if the globals, the manifest or retention fail after that, it is a warning)",
    ),
    row(ExitCode::MissingSetting, 1, "missing setting", "a required setting is missing (all are reported at once)"),
    row(ExitCode::InvalidCron, 2, "invalid cron", "BACKUP_INTERVAL is not a cron expression, or never occurs"),
    row(
        ExitCode::InvalidS3,
        3,
        "invalid S3 configuration",
        "an S3 setting is invalid, or S3 refuses the first request: no such bucket, wrong key or signature, access denied, wrong region",
    ),
    row(
        ExitCode::InvalidSetting,
        4,
        "invalid setting",
        "another setting is invalid, the destination holds another database's backups, with BACKUP_DATABASES also those of another server, or the connection leads to a transaction pooler",
    ),
    row(
        ExitCode::PostgresUnavailable,
        10,
        "PostgreSQL unavailable",
        "cannot connect or authenticate (up to three tries in 30 s), a database that BACKUP_DATABASES names does not exist, or no installed pg_dump is new enough",
    ),
    row(ExitCode::DumpFailed, 11, "dump failed", "pg_dump failed or stalled, or its output is incomplete"),
    row(
        ExitCode::StorageFailed,
        12,
        "storage failed",
        "S3 did not accept the backup within BACKUP_MAX_UPLOAD_OUTAGE, or the credentials expired",
    ),
    row(
        ExitCode::PruneIncomplete,
        13,
        "prune incomplete",
        "some backups that should be deleted were not: a deletion failed, or a safety check blocked all deletions",
    ),
    row(ExitCode::CheckFailed, 14, "check failed", "at least one check failed; for health: the daemon is not alive"),
    row(
        ExitCode::RestoreFailed,
        15,
        "restore failed",
        "nothing was restored, and the target is unchanged; or the destination has no such backup (also for list and delete)",
    ),
    row(
        ExitCode::AlreadyRunning,
        16,
        "already running",
        "another backup of this database to this destination is running",
    ),
    row(ExitCode::Usage, 64, "usage", "the command line is wrong"),
    row(
        ExitCode::OutputFailed,
        74,
        "output failed",
        "the result could not be written to stdout, for example to a full disk; for backup a warning",
    ),
    row(ExitCode::HungUp, 129, "hung up", "SIGHUP (the terminal closed), after cleaning up; ignored under nohup"),
    row(ExitCode::Interrupted, 130, "interrupted", "SIGINT, after cleaning up; a second one skips the clean-up"),
    row(ExitCode::Terminated, 143, "terminated", "SIGTERM, after cleaning up"),
];

/// The exit code of a run with several databases.
pub const SEVERAL_DATABASES: &str = "With BACKUP_DATABASES, the exit code is the lowest of the databases that failed. The code of a signal takes precedence.";

const fn row(code: ExitCode, number: u8, name: &'static str, when: &'static str) -> ExitCodeRow {
    ExitCodeRow { code, number, name, when }
}

impl ExitCode {
    /// The number of the process's exit status.
    #[must_use]
    pub fn number(self) -> u8 {
        self.row().map_or(1, |row| row.number)
    }

    /// Its short name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().map_or("", |row| row.name)
    }

    /// Whether a signal ended the run.
    #[must_use]
    pub fn is_of_signal(self) -> bool {
        matches!(self, Self::HungUp | Self::Interrupted | Self::Terminated)
    }

    /// The exit code of a command with several failures: that of a signal, else the lowest.
    pub fn of_several(failures: impl IntoIterator<Item = Self>) -> Option<Self> {
        failures.into_iter().min_by_key(|code| (!code.is_of_signal(), *code))
    }

    /// Every code has a row.
    fn row(self) -> Option<&'static ExitCodeRow> {
        EXIT_CODES.iter().find(|row| row.code == self)
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_numbers_are_sorted_and_unique() {
        let mut numbers: Vec<u8> = EXIT_CODES.iter().map(|row| row.number).collect();
        let sorted = numbers.clone();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers, sorted);
        assert_eq!(ExitCode::Terminated.number(), 143);
    }

    #[test]
    fn of_several_failures_a_signal_goes_first_and_then_the_lowest() {
        use ExitCode::{DumpFailed, InvalidSetting, Terminated};
        assert_eq!(ExitCode::of_several([DumpFailed, InvalidSetting]), Some(InvalidSetting));
        assert_eq!(ExitCode::of_several([InvalidSetting, Terminated, DumpFailed]), Some(Terminated));
        assert_eq!(ExitCode::of_several([]), None);
    }
}
