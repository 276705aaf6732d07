//! `check`: prints the settings, and one line per check as it ends; or one JSON object.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::check::{Check, CheckResults, Keys, MaxAge, Monitoring, Report, Thresholds, impatient};
use crate::cli::CheckArgs;
use crate::config::table::CommandName;
use crate::config::{self, CheckConfig, Effective, Scope};
use crate::databases::DatabasePatterns;
use crate::error::Error;
use crate::interrupt::Interrupts;
use crate::log_target::{FOR_MACHINES, FOR_PEOPLE};
use crate::postgres::PostgresSettings;
use crate::printable::{counted, printable};
use crate::scheduler::Schedule;
use crate::storage::{Destination, Endpoint, S3Settings};

use super::Context;
use super::check_drill::{self, DrillAnswers};
use super::drill::DrillJob;

/// Runs the checks and prints their results.
///
/// # Errors
/// If a setting is invalid or a check failed.
pub async fn run(context: &Context<'_>, args: &CheckArgs, interrupts: Interrupts) -> Result<(), Error> {
    let mut printed = Ok(());
    let mut results = CheckResults::new(|finding| {
        // Only a result that is not ok quotes other programs.
        if finding.status != crate::check::Status::Ok {
            finding.detail = context.writer.clean(&finding.detail);
            finding.hint = finding.hint.as_ref().map(|hint| context.writer.clean(hint));
        }
        if !args.json && printed.is_ok() && !finding.is_counted_only() {
            printed = context.print(&finding.to_string());
        }
    });
    let mut found = Found::default();
    let outcome = examine(context, args, &interrupts, (&mut results, &mut found)).await;
    let report = results.report(&outcome);
    let outcome = outcome.and_then(|()| Ok(report.verdict()?));
    if args.json {
        let error = outcome.as_ref().err().map(|error| context.cause(error));
        printed = context.print_json(&Answer { found, report: &report, error });
    }
    outcome?;
    let (tried, warned) = (report.tried(), report.warned());
    tracing::info!(target: FOR_MACHINES, tried, warned, "no check failed");
    tracing::info!(target: FOR_PEOPLE, "{}, {}, none failed", counted(tried, "check"), counted(warned, "warning"));
    printed
}

async fn examine(
    context: &Context<'_>,
    args: &CheckArgs,
    interrupts: &Interrupts,
    (results, found): (&mut CheckResults<'_>, &mut Found),
) -> Result<(), Error> {
    for warning in config::warnings(CommandName::Check, context.flags, context.environment) {
        results.settings_are_doubtful(warning.what, &warning.hint);
    }
    let opening = async { open(context, args).await.inspect_err(|error| results.settings_are_bad(error)) };
    let opened = interrupts.until_signal(opening).await?;
    let Opened { s3, source, databases, spool_dir, monitoring, keys, schedule, destination, effective, drill } =
        &opened;
    let place = format!("backups are at {}", destination.url());
    if s3.endpoint.as_ref().is_some_and(Endpoint::is_exposed) {
        let detail = format!("{place}; S3_URL is plain http to another host");
        results.settings_are_doubtful(detail, "set S3_URL to https://, or backups cross the network in the clear");
    } else {
        results.settings_are_good(place);
    }
    found.settings.extend(effective.changed().map(|(variable, value)| (variable, context.writer.clean(&value))));
    if !args.json {
        let lines: Vec<String> = found.settings.iter().map(|(variable, value)| setting_line(variable, value)).collect();
        context.print(&lines.join("\n"))?;
    }
    let thresholds = Thresholds {
        max_age: args.max_age.unwrap_or_else(|| MaxAge::usual(schedule.as_ref(), chrono::Utc::now())),
        min_size: args.min_size,
        max_shrink: args.max_shrink,
        deep: args.deep,
    };
    let (source, spool_dir) = (source.as_ref(), spool_dir.as_deref());
    let databases = databases.as_ref().map(|(patterns, jobs)| (patterns, *jobs));
    let check = Check { destination, s3, source, databases, monitoring, spool_dir, keys, thresholds: &thresholds };
    check.run(interrupts, results).await?;
    if let Some(drill) = drill {
        found.drills = Box::pin(check_drill::run(context, drill, interrupts, results)).await?;
    }
    Ok(())
}

/// The settings that are not at their defaults, by variable.
type Settings = BTreeMap<&'static str, String>;

/// A setting in the column of the checks' details.
fn setting_line(variable: &str, value: &str) -> String {
    format!("{:22}{variable}={}", "", printable(value))
}

/// What `check` finds beside the results of its checks.
#[derive(Default, Serialize)]
struct Found {
    settings: Settings,
    #[serde(flatten)]
    drills: DrillAnswers,
}

/// What `check --json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    found: Found,
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The parts that the settings describe.
struct Opened {
    s3: S3Settings,
    source: Option<PostgresSettings>,
    /// With the number of those that are backed up at once.
    databases: Option<(DatabasePatterns, usize)>,
    spool_dir: Option<PathBuf>,
    monitoring: Monitoring,
    keys: Keys,
    schedule: Option<Schedule>,
    destination: Destination,
    effective: Effective,
    drill: Option<DrillJob>,
}

async fn open(context: &Context<'_>, args: &CheckArgs) -> Result<Opened, Error> {
    let scope = if args.bucket_only { Scope::Bucket } else { Scope::Everything };
    let config = config::check(context.flags, context.environment, scope).map_err(Error::Settings)?;
    let drill = check_drill::wanted(context, args, &config).map_err(Error::Settings)?;
    let CheckConfig { s3, databases, database_jobs, postgres, spool_dir, listen, schedule, effective, .. } = config;
    let keys = Keys { recipients: config.recipients, identities: config.drill.identities };
    let databases = databases.map(|patterns| (patterns, database_jobs));
    let s3 = impatient(&s3);
    let destination = Destination::open(&s3).await?.with_first_contact();
    let source = postgres.map(|source| PostgresSettings { allows_pooler: args.pooler.allow_pooler, ..source });
    let monitoring = match scope {
        Scope::Everything => {
            let notifications = config::notifications(context.flags, context.environment);
            let (metrics_file, ping) = (notifications.metrics_file, notifications.ping);
            Monitoring { metrics_file, listen, ping }
        }
        Scope::Bucket => Monitoring::default(),
    };
    Ok(Opened { s3, source, databases, spool_dir, monitoring, keys, schedule, destination, effective, drill })
}
