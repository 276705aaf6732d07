//! Prints backups: a table that fits the terminal, or one backup in full with its restore commands.

use std::borrow::Cow;

use bytesize::ByteSize;
use chrono::{DateTime, TimeDelta, Utc};

use crate::archive::drill::{DrillRecord, DrillResult};
use crate::archive::manifest::{Manifest, Place};
use crate::archive::{BackupStatus, StoredBackup, restore_instructions};
use crate::codec::age::short_list;
use crate::printable::{counted, printable};

/// The database's name keeps at least this many characters.
const LEAST_DATABASE: usize = 5;
/// Its heading where it is too narrow for the long one.
const NARROW_DATABASE: &str = "DB";
/// Ends the status of a backup that was restored for a drill; left out if the line would be too long.
const AGO: &str = " ago";

const HEADING: [&str; COLUMNS] = ["NAME", "AGE", "SIZE", "RATIO", "DATABASE", "STATUS"];
const COLUMNS: usize = 6;
const RATIO: usize = 3;
const DATABASE: usize = 4;
const STATUS: usize = 5;
/// Age, size and ratio.
const ALIGNED_RIGHT: std::ops::RangeInclusive<usize> = 1..=3;

type Row = [String; COLUMNS];

/// Where the column of the database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseColumn {
    /// In front, for several databases.
    First,
    /// Before the status.
    BeforeStatus,
}

impl DatabaseColumn {
    fn order(self) -> Vec<usize> {
        match self {
            Self::First => vec![DATABASE, 0, 1, 2, RATIO, STATUS],
            Self::BeforeStatus => (0..COLUMNS).collect(),
        }
    }
}

/// The table. Columns have their smallest width; to fit this many columns, the ratio of several databases is left out, then the
/// database's name is cut. It reads the backups twice instead of keeping a hundred thousand rows.
pub fn of_backups<'a, I: Iterator<Item = Cow<'a, StoredBackup>>>(
    backups: impl Fn() -> I,
    now: DateTime<Utc>,
    (columns, database): (Option<usize>, DatabaseColumn),
) -> String {
    let heading = || HEADING.map(str::to_owned);
    let rows = || std::iter::once(heading()).chain(backups().map(|backup| row(&backup, now)));
    let mut layout = Layout { widths: [0; COLUMNS], shown: database.order(), columns };
    rows().for_each(|row| layout.widen(&row, database));
    layout.narrow(database);
    let mut first = heading();
    if layout.widths[DATABASE] < HEADING[DATABASE].len() {
        NARROW_DATABASE.clone_into(&mut first[DATABASE]);
    }
    let mut table = String::new();
    for row in std::iter::once(first).chain(rows().skip(1)) {
        table += &layout.line(&row);
        table.push('\n');
    }
    table.truncate(table.trim_end().len());
    table
}

/// The columns of a table.
struct Layout {
    widths: [usize; COLUMNS],
    shown: Vec<usize>,
    /// Those of the terminal.
    columns: Option<usize>,
}

impl Layout {
    fn widen(&mut self, row: &Row, database: DatabaseColumn) {
        for (width, text) in self.widths.iter_mut().zip(row) {
            let is_short = database == DatabaseColumn::First && self.columns.is_some();
            let text = text.strip_suffix(AGO).filter(|_| is_short).unwrap_or(text);
            *width = text.chars().count().max(*width);
        }
    }

    /// Fits the columns to the terminal.
    fn narrow(&mut self, database: DatabaseColumn) {
        let Some(columns) = self.columns else { return };
        let all = |layout: &Self| {
            layout.shown.iter().map(|column| layout.widths[*column]).sum::<usize>() + layout.shown.len() - 1
        };
        if database == DatabaseColumn::First && all(self) > columns {
            self.shown.retain(|column| *column != RATIO);
        }
        let others = all(self) - self.widths[DATABASE];
        self.widths[DATABASE] = self.widths[DATABASE].min(columns.saturating_sub(others).max(LEAST_DATABASE));
    }

    fn line(&self, row: &Row) -> String {
        let cell = |column: &usize| {
            let (text, width) = (&row[*column], self.widths[*column]);
            match *column {
                DATABASE => format!("{:<width$}", cut(text, width)),
                column if ALIGNED_RIGHT.contains(&column) => format!("{text:>width$}"),
                STATUS => text.clone(),
                _ => format!("{text:<width$}"),
            }
        };
        let line = self.shown.iter().map(cell).collect::<Vec<_>>().join(" ");
        let is_long = self.columns.is_some_and(|columns| line.chars().count() > columns);
        let line = line.strip_suffix(AGO).filter(|_| is_long).unwrap_or(&line);
        line.trim_end().to_owned()
    }
}

/// The last line: how many backups are shown, how many there are, and their total size.
pub fn totals(shown: usize, count: usize, bytes: u64) -> String {
    let size = ByteSize(bytes).display().iec();
    if shown < count {
        format!("{shown} of {count} shown (--limit all shows the others too), {size} in all")
    } else {
        format!("{count} shown, {size} in all")
    }
}

/// One backup with its manifest and its restore commands. `endpoint` is the URL of a store other than AWS.
pub fn of_one(
    backup: &StoredBackup,
    (manifest, drill): (Option<&Manifest>, Option<&DrillRecord>),
    endpoint: Option<&str>,
) -> String {
    let mut lines = vec![
        ("name", backup.file_name.clone()),
        ("location", backup.s3_location.clone()),
        ("started", backup.started_at.clone()),
        ("size", format!("{} ({} bytes)", ByteSize(backup.file_size).display().iec(), backup.file_size)),
        ("status", backup.status.words().to_owned()),
    ];
    lines.extend(backup.encrypted.then(|| ("encryption", encryption(manifest))));
    lines.extend(drill.map(|record| ("drill", drilled(record))));
    if let Some(manifest) = manifest {
        lines.extend([
            ("finished", manifest.finished_at.clone()),
            ("database", manifest.database.clone()),
            ("dump", dump(manifest)),
            ("compression", format!("{}, ratio {}", manifest.compression_text(), manifest.compression_ratio)),
            ("rows", format!("{} in {}", manifest.rows, counted(manifest.table_count(), "table"))),
            ("server", manifest.server_version.clone()),
            ("pg_dump", format!("{} {}", manifest.pg_dump_version, manifest.pg_dump_arguments.join(" "))),
            ("encoding", manifest.encoding.clone()),
            ("sha256", manifest.object_sha256.clone()),
        ]);
        lines.extend(needs(manifest));
    }
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let facts: Vec<String> =
        lines.iter().map(|(name, value)| format!("{name:<width$}  {}", printable(value))).collect();
    let place = Place { location: &backup.s3_location, endpoint };
    let commands =
        restore_instructions::commands(&place, manifest).iter().fold(String::new(), |text, line| text + "\n  " + line);
    format!(
        "{}\n\nTo restore it without this program, in bash, as a superuser of the new server (see docs/restore.md):{commands}",
        facts.join("\n")
    )
}

/// Whom it is encrypted for.
fn encryption(manifest: Option<&Manifest>) -> String {
    match manifest.map(|manifest| manifest.recipients.as_slice()).unwrap_or_default() {
        [] => "age".to_owned(),
        recipients => format!("age, for {}", short_list(recipients)),
    }
}

/// The plain dump. Nothing of it is in the manifest of an encrypted backup but its size.
fn dump(manifest: &Manifest) -> String {
    let sum = manifest.dump_crc32.as_ref().map_or_else(String::new, |sum| format!(", CRC-32 {sum}"));
    format!("{} bytes{sum}", manifest.dump_bytes)
}

/// What a restore needs, and the warnings of the run.
fn needs(manifest: &Manifest) -> Vec<(&'static str, String)> {
    let list = |names: &[String]| names.join(", ");
    let extensions = manifest.extensions.iter().map(|extension| format!("{} {}", extension.name, extension.version));
    let globals = manifest.globals.as_ref().map(|globals| {
        let without = if globals.role_passwords { "" } else { ", without role passwords" };
        format!("{} bytes: roles, tablespaces, settings of the database{without}", globals.bytes)
    });
    let lines = [
        ("extensions", extensions.collect::<Vec<_>>().join(", ")),
        ("roles", list(&manifest.roles)),
        ("tablespaces", list(&manifest.tablespaces)),
        ("globals", globals.unwrap_or_default()),
        ("warnings", list(&manifest.warnings)),
    ];
    lines.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

fn row(backup: &StoredBackup, now: DateTime<Utc>) -> Row {
    let nothing = || "-".to_owned();
    [
        backup.file_name.clone(),
        age(now - backup.started),
        ByteSize(backup.file_size).display().iec_short().to_string(),
        backup.compression_ratio.map_or_else(nothing, |ratio| format!("{ratio:.1}")),
        backup.database.as_deref().map_or_else(nothing, |name| printable(name).into_owned()),
        status(backup, now),
    ]
}

/// The worst that is known of a backup, or when it was last restored for a drill.
fn status(backup: &StoredBackup, now: DateTime<Utc>) -> String {
    let words = backup.status.words();
    match (backup.status, backup.drill_result) {
        (BackupStatus::Valid | BackupStatus::Unverified | BackupStatus::Partial, Some(DrillResult::Fail)) => {
            "DRILL FAILED".to_owned()
        }
        (BackupStatus::Valid, Some(DrillResult::Ok)) => {
            let drilled = backup.drilled_at.as_deref().and_then(|time| DateTime::parse_from_rfc3339(time).ok());
            drilled.map_or_else(|| words.to_owned(), |time| format!("restored {}{AGO}", age(now - time.to_utc())))
        }
        (BackupStatus::Valid, None) if backup.encrypted => "encrypted".to_owned(),
        _ => words.to_owned(),
    }
}

/// The result of the last drill.
fn drilled(record: &DrillRecord) -> String {
    let DrillRecord { drilled_at, server_version, duration, rows, tables, failed, .. } = record;
    let at = format!("at {drilled_at} on PostgreSQL {server_version}");
    match (record.result, rows.zip(*tables)) {
        (DrillResult::Ok, Some((rows, tables))) => {
            format!("restored {at} in {duration} s: {rows} rows in {}", counted(tables, "table"))
        }
        (DrillResult::Ok, None) => format!("restored {at} in {duration} s"),
        (DrillResult::Fail, _) => format!("FAILED {at}: {}", failed.as_deref().unwrap_or("restore")),
    }
}

/// Cuts a text to this many columns.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// An age in its largest unit: `12s`, `5m`, `3h`, `40d`.
fn age(age: TimeDelta) -> String {
    match age.num_seconds() {
        ..0 => "future".to_owned(),
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::name::BackupName;

    fn backup(database: &str, status: BackupStatus) -> StoredBackup {
        let started = DateTime::from_timestamp(1_700_000_000, 0).expect("in range");
        StoredBackup {
            encrypted: false,
            file_name: BackupName::new(started).to_string(),
            s3_location: format!("s3://b/app/{}", BackupName::new(started)),
            started_at: String::new(),
            file_size: 13 << 20,
            compression_ratio: Some(3.456),
            duration: None,
            database: Some(database.to_owned()),
            status,
            drilled_at: None,
            drill_result: None,
            started,
        }
    }

    fn of(backups: &[StoredBackup], now: DateTime<Utc>, columns: Option<usize>) -> String {
        of_backups(|| backups.iter().map(Cow::Borrowed), now, (columns, DatabaseColumn::BeforeStatus))
    }

    fn table(backups: &[StoredBackup]) -> Vec<String> {
        let text = of(backups, backups[0].started + TimeDelta::hours(30), Some(80));
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn aligns_columns() {
        let bare = StoredBackup { compression_ratio: None, database: None, ..backup("", BackupStatus::Unverified) };
        let lines = table(&[backup("shop", BackupStatus::Valid), bare]);
        assert_eq!(lines[0], "NAME                                       AGE  SIZE RATIO DATABASE STATUS");
        assert_eq!(lines[1], "postgres-backup-2023-11-14_22-13-20.sql.gz 30h 13.0M   3.5 shop     valid");
        assert_eq!(lines[2], "postgres-backup-2023-11-14_22-13-20.sql.gz 30h 13.0M     - -        unverified");
    }

    #[test]
    fn cuts_long_database_names_to_80_columns() {
        let long = "a_database_with_quite_a_long_name_and_a_ü_in_it";
        for status in [
            BackupStatus::Valid,
            BackupStatus::Unverified,
            BackupStatus::Partial,
            BackupStatus::SizeMismatch,
            BackupStatus::Uploading,
        ] {
            let lines = table(&[backup(long, status), backup("x\ny", status)]);
            assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
            assert!(lines[1].contains('…') && lines[2].contains(r"x\ny"), "{lines:#?}");
            let in_full = of(&[backup(long, status)], Utc::now(), None);
            assert!(in_full.contains(long) && !in_full.contains('…'), "{in_full}");
        }
    }

    #[test]
    fn the_database_is_in_front_and_stays_readable() {
        let first = |backups: &[StoredBackup], columns| {
            let now = backups[0].started + TimeDelta::hours(30);
            let text = of_backups(|| backups.iter().map(Cow::Borrowed), now, (columns, DatabaseColumn::First));
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let lines = first(&[backup("shop", BackupStatus::Valid)], Some(80));
        assert_eq!(lines[0], "DATABASE NAME                                       AGE  SIZE RATIO STATUS");
        assert_eq!(lines[1], "shop     postgres-backup-2023-11-14_22-13-20.sql.gz 30h 13.0M   3.5 valid");
        let drilled = backup("customer_0001", BackupStatus::Valid);
        let at = (drilled.started + TimeDelta::hours(27)).to_rfc3339();
        let drilled = StoredBackup { drilled_at: Some(at), drill_result: Some(DrillResult::Ok), ..drilled };
        let lines = first(std::slice::from_ref(&drilled), Some(80));
        assert!(lines[1].starts_with("customer_0001 ") && lines[1].ends_with("restored 3h"), "{lines:#?}");
        let lines = first(&[drilled, backup(&"long".repeat(9), BackupStatus::SizeMismatch)], Some(80));
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        assert!(lines[1].starts_with("customer_0001") && lines[2].contains('…'), "{lines:#?}");
    }

    #[test]
    fn status_shows_the_drill_unless_something_is_worse() {
        let drilled = |status, result, days: i64| {
            let backup = backup("a_database_with_a_long_name", status);
            let at = backup.started + TimeDelta::hours(30) - TimeDelta::days(days);
            StoredBackup { drilled_at: Some(at.to_rfc3339()), drill_result: Some(result), ..backup }
        };
        for (status, result, days, shown) in [
            (BackupStatus::Valid, DrillResult::Ok, 3, "restored 3d ago"),
            (BackupStatus::Valid, DrillResult::Ok, 300, "restored 300d"),
            (BackupStatus::Valid, DrillResult::Fail, 3, "DRILL FAILED"),
            (BackupStatus::SizeMismatch, DrillResult::Ok, 3, "SIZE MISMATCH"),
            (BackupStatus::Partial, DrillResult::Ok, 3, "partial"),
        ] {
            let lines = table(&[drilled(status, result, days)]);
            assert!(!lines[0].contains('…'), "the heading is not cut: {}", lines[0]);
            assert!(lines[1].ends_with(shown) && lines[1].chars().count() <= 80, "{lines:#?}");
        }
    }

    #[test]
    fn totals_count_hidden_backups() {
        assert_eq!(totals(50, 312, 3 << 30), "50 of 312 shown (--limit all shows the others too), 3.0 GiB in all");
        assert_eq!(totals(2, 2, 1 << 20), "2 shown, 1.0 MiB in all");
    }

    #[test]
    fn prints_restore_commands_of_one_backup() {
        let text = of_one(&backup("shop", BackupStatus::Unverified), (None, None), None);
        assert!(text.contains("gunzip -t postgres-backup-2023-11-14_22-13-20.sql.gz"), "{text}");
        assert!(!text.contains("sha256sum"), "without a manifest there is no sum: {text}");
    }

    #[test]
    fn ages() {
        for (seconds, text) in [(-5, "future"), (7, "7s"), (61, "1m"), (7300, "2h"), (3_500_000, "40d")] {
            assert_eq!(age(TimeDelta::seconds(seconds)), text);
        }
    }
}
