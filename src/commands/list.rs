//! `list`: what is stored, as a table or as JSON.

use bytesize::ByteSize;
use chrono::{DateTime, TimeDelta, Utc};

use crate::cli::ListArgs;
use crate::config;
use crate::error::Error;
use crate::listing::{StoredBackup, stored_backups};
use crate::storage::Destination;

use super::Context;

/// Lists the backups, newest first.
///
/// # Errors
/// Where the settings are wrong, or the listing is not to be had.
pub async fn run(context: &Context<'_>, args: &ListArgs) -> Result<(), Error> {
    let config = config::list(context.flags, context.environment).map_err(Error::Settings)?;
    let destination = Destination::open(&config.s3).await?;
    let backups = stored_backups(&destination).await?;
    if args.json {
        let json = serde_json::to_string_pretty(&backups).map_err(|error| Error::Internal(error.into()))?;
        return context.print(&json);
    }
    if backups.is_empty() {
        tracing::info!(location = destination.location(&destination.key("")), "no backups");
        return Ok(());
    }
    context.print(&table(&backups, Utc::now()))
}

/// The table; each column as wide as it must be.
fn table(backups: &[StoredBackup], now: DateTime<Utc>) -> String {
    let heading = ["NAME", "AGE", "SIZE", "RATIO", "DATABASE", "STATE"].map(str::to_owned);
    let rows: Vec<[String; 6]> =
        std::iter::once(heading).chain(backups.iter().map(|backup| row(backup, now))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let [name, age, size, ratio, database, state] = row;
        let [w0, w1, w2, w3, w4, _] = widths;
        format!("{name:<w0$} {age:>w1$} {size:>w2$} {ratio:>w3$} {database:<w4$} {state}").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn row(backup: &StoredBackup, now: DateTime<Utc>) -> [String; 6] {
    let nothing = || "-".to_owned();
    [
        backup.file_name.clone(),
        age(now - backup.started),
        ByteSize(backup.file_size).display().iec_short().to_string(),
        backup.compression_ratio.map_or_else(nothing, |ratio| format!("{ratio:.1}")),
        backup.database.as_deref().map_or_else(nothing, printable),
        backup.state.words().to_owned(),
    ]
}

/// A name as it may stand in a table: a database's name can hold a line break.
fn printable(name: &str) -> String {
    name.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

/// An age in its largest whole unit: `12s`, `5m`, `3h`, `40d`.
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
    use crate::backup::name::BackupName;
    use crate::listing::State;

    #[test]
    fn the_table_stands_in_columns() {
        let started = DateTime::from_timestamp(1_700_000_000, 0).expect("in range");
        let backup = StoredBackup {
            file_name: BackupName::new(started).to_string(),
            s3_location: String::new(),
            started_at: String::new(),
            file_size: 13 << 20,
            compression_ratio: Some(3.456),
            database: Some("shop".to_owned()),
            state: State::Ok,
            started,
        };
        let bare = StoredBackup { compression_ratio: None, database: None, state: State::NoManifest, ..backup.clone() };
        let text = table(&[backup, bare], started + TimeDelta::hours(30));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "NAME                                       AGE  SIZE RATIO DATABASE STATE");
        assert_eq!(lines[1], "postgres-backup-2023-11-14_22-13-20.sql.gz 30h 13.0M   3.5 shop     ok");
        assert_eq!(lines[2], "postgres-backup-2023-11-14_22-13-20.sql.gz 30h 13.0M     - -        no manifest");
        assert!(lines.iter().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn ages() {
        for (seconds, text) in [(-5, "future"), (7, "7s"), (61, "1m"), (7300, "2h"), (3_500_000, "40d")] {
            assert_eq!(age(TimeDelta::seconds(seconds)), text);
        }
    }
}
