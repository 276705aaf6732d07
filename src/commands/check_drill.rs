//! The drill of `check --restore-to`: its result among the other checks, and in `METRICS_FILE`.

use serde::Serialize;

use crate::archive::drill::DrillRecord;
use crate::check::{CheckResults, Status};
use crate::cli::CheckArgs;
use crate::config::table::DRILL_CONNECTION_STRING;
use crate::config::{self, CheckConfig, Problems};
use crate::error::Error;
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupts;
use crate::restore::{DrillReport, DrillVerdict, Finding};
use crate::telemetry::ProgressStyleChoice;

use super::drill::{DatabaseDrill, DrillJob, sample, summary};
use super::{Context, metrics_store};

const DRILL_FAILED: &str = "keep the earlier backups, make a new one, and find out why this one fails";
const NOT_WRITTEN: &str =
    "allow s3:PutObject for the backup's key with .drill.json appended; without it, `list` does not show the drill";

/// The drill in `check --json`.
#[derive(Serialize)]
pub(super) struct DrillAnswer {
    /// The database, with `BACKUP_DATABASES`.
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    /// `ok`, `fail` or `not_proven`.
    result: &'static str,
    /// The sidecar of the backup.
    record: Option<DrillRecord>,
}

/// The drill that `check` should run. In the environment of a daemon with a `DRILL_INTERVAL`, the daemon runs it, and `check` only
/// if a flag of the drill says so.
///
/// # Errors
/// Every problem of the flags.
pub(super) fn wanted(
    context: &Context<'_>,
    args: &CheckArgs,
    config: &CheckConfig,
) -> Result<Option<DrillJob>, Problems> {
    let variable = DRILL_CONNECTION_STRING.variable;
    let mut job = DrillJob::of(&args.drill, (&config.s3, config.databases.as_ref()), &config.drill)?;
    if args.backup.is_some() && job.is_none() {
        let mut problems = Problems::default();
        let text = format!("{variable} is not set: --backup belongs to a drill: set it, or give --restore-to");
        problems.push(ExitCode::MissingSetting, text);
        return Err(problems);
    }
    job = job.map(|job| job.of_backup(args.backup.clone()));
    let flag = context.flags.get(variable).filter(|value| !value.is_empty());
    let is_wanted =
        config.drill.schedule.is_none() || flag.is_some() || args.drill.given().is_some() || args.backup.is_some();
    Ok(job.filter(|_| is_wanted))
}

/// The drills in `check --json`: one, or with `BACKUP_DATABASES` those of the databases.
#[derive(Default, Serialize)]
pub(super) struct DrillAnswers {
    #[serde(skip_serializing_if = "Option::is_none")]
    drill: Option<DrillAnswer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    drills: Vec<DrillAnswer>,
}

/// Runs the drills, and adds their results to `results`.
///
/// # Errors
/// A signal.
pub(super) async fn run(
    context: &Context<'_>,
    job: &DrillJob,
    interrupts: &Interrupts,
    results: &mut CheckResults<'_>,
) -> Result<DrillAnswers, Error> {
    let mut answers = DrillAnswers::default();
    let ended = |drill: DatabaseDrill| {
        record(context, &drill);
        let answer = answer(&drill, results);
        if drill.database().is_some() {
            answers.drills.push(answer);
        } else {
            answers.drill = Some(answer);
        }
    };
    let done = job.run(context.writer, ProgressStyleChoice::Auto, interrupts, ended).await;
    done.map(|()| answers)
}

/// Writes the result to `METRICS_FILE`.
fn record(context: &Context<'_>, drill: &DatabaseDrill) {
    let notifications = config::notifications(context.flags, context.environment);
    if notifications.metrics_file.is_none() {
        return;
    }
    // Opened now, because a backup may have written the file during the drill.
    let store = metrics_store(context, &notifications);
    let store = match drill.labels() {
        Some((database, destination)) => store.of_database(&database, &destination),
        None => store,
    };
    store.drilled(&sample(&drill.report));
}

/// Adds the result of a drill.
fn answer(drill: &DatabaseDrill, results: &mut CheckResults<'_>) -> DrillAnswer {
    let DrillReport { verdict, record, not_written, .. } = drill.report.clone();
    let database = drill.database().map(str::to_owned);
    let result = verdict.word();
    let (status, detail, hint) = match verdict {
        DrillVerdict::Ok => {
            let status = if not_written.is_some() { Status::Warn } else { Status::Ok };
            let hint = not_written.as_ref().map(|_| NOT_WRITTEN.to_owned());
            (status, record.as_ref().map(summary).unwrap_or_default(), hint)
        }
        DrillVerdict::Fail(Finding { text, hint }) => {
            (Status::Fail, text, hint.or_else(|| Some(DRILL_FAILED.to_owned())))
        }
        DrillVerdict::NotProven(Finding { text, hint }) => (Status::Fail, format!("not proven: {text}"), hint),
    };
    let not_written = not_written.map(|why| format!("; its record was not written: {why}"));
    results.of_database(database.clone());
    results.drilled(status, detail + &not_written.unwrap_or_default(), hint);
    results.of_database(None);
    DrillAnswer { database, result, record }
}
