//! The program's exit codes: the one table behind `--help`, the manual, the documents and the tests.
//!
//! A leaf: depends on no other module. [`crate::error::Error`] and [`crate::config`] choose from it.

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

/// One row of the table of exit codes.
#[derive(Clone, Copy, Debug)]
pub struct ExitCodeRow {
    /// The variant that the row describes.
    pub code: ExitCode,
    /// The number the process ends with.
    pub number: u8,
    /// A short name.
    pub name: &'static str,
    /// When it is given.
    pub when: &'static str,
}

/// The one table of exit codes: `--help`, the manual, the README and the tests come from it.
pub const EXIT_CODES: [ExitCodeRow; 17] = [
    row(
        ExitCode::Ok,
        0,
        "ok",
        "all that was asked; for backup: the object is committed and checked (failed globals, a failed manifest or failed retention after it are warnings)",
    ),
    row(ExitCode::MissingSetting, 1, "missing setting", "a required variable is absent (all are named at once)"),
    row(ExitCode::InvalidCron, 2, "invalid cron", "BACKUP_INTERVAL is no cron expression, or one that never fires"),
    row(
        ExitCode::InvalidS3,
        3,
        "invalid S3 configuration",
        "an S3 setting is malformed, or the first request is refused as such: no such bucket, bad key or signature, access denied, wrong region",
    ),
    row(
        ExitCode::InvalidSetting,
        4,
        "invalid setting",
        "any other setting has a value that cannot be used, the destination holds another database's backups, or the connection goes by a transaction pooler",
    ),
    row(
        ExitCode::PostgresUnavailable,
        10,
        "PostgreSQL unavailable",
        "cannot connect or authenticate (up to three tries in 30 s), or no installed pg_dump is new enough",
    ),
    row(ExitCode::DumpFailed, 11, "dump failed", "pg_dump ended badly, stalled, or its output is not complete"),
    row(
        ExitCode::StorageFailed,
        12,
        "storage failed",
        "S3 did not take the backup within the outage budget, or credentials expired in the middle",
    ),
    row(
        ExitCode::PruneIncomplete,
        13,
        "prune incomplete",
        "could not, or refused to, delete everything the rules say (also for delete)",
    ),
    row(
        ExitCode::CheckFailed,
        14,
        "check failed",
        "at least one of the things that check tried is not well; for health: the daemon does not say that its loop turns",
    ),
    row(
        ExitCode::RestoreFailed,
        15,
        "restore failed",
        "the target is as it was before; or no such backup at this destination (also for list and delete)",
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
        "the result could not be written to stdout, such as to a full disk; for backup a warning",
    ),
    row(
        ExitCode::HungUp,
        129,
        "hung up",
        "SIGHUP (the terminal is gone), after cleaning up; under nohup it is ignored",
    ),
    row(ExitCode::Interrupted, 130, "interrupted", "SIGINT, after cleaning up; a second one ends without"),
    row(ExitCode::Terminated, 143, "terminated", "SIGTERM, after cleaning up"),
];

const fn row(code: ExitCode, number: u8, name: &'static str, when: &'static str) -> ExitCodeRow {
    ExitCodeRow { code, number, name, when }
}

impl ExitCode {
    /// The number the process ends with, from [`EXIT_CODES`].
    #[must_use]
    pub fn number(self) -> u8 {
        EXIT_CODES.iter().find(|row| row.code == self).map_or(1, |row| row.number)
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
    fn every_code_has_one_row_and_its_own_number() {
        let mut numbers: Vec<u8> = EXIT_CODES.iter().map(|row| row.number).collect();
        let sorted = numbers.clone();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers, sorted);
        assert_eq!(ExitCode::Terminated.number(), 143);
    }
}
