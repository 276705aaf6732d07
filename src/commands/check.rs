//! `check`: one line for each thing that was tried, as it is tried, or one JSON object.

use std::path::PathBuf;

use serde::Serialize;

use crate::check::{Check, CheckResults, MaxAge, Monitoring, Report, Thresholds, impatient};
use crate::cli::CheckArgs;
use crate::config::table::CommandName;
use crate::config::{self, Scope};
use crate::error::Error;
use crate::interrupt::Interrupts;
use crate::postgres::PostgresSettings;
use crate::scheduler::Schedule;
use crate::storage::{Destination, Endpoint, S3Settings};

use super::Context;

/// Tries everything and prints what was found.
///
/// # Errors
/// Where the settings cannot be used, or anything failed.
pub async fn run(context: &Context<'_>, args: &CheckArgs, interrupts: Interrupts) -> Result<(), Error> {
    let mut printed = Ok(());
    let mut results = CheckResults::new(|finding| {
        // Where it went wrong, other programs' words stand in it; where it went well, only this program's own.
        if finding.status != crate::check::Status::Ok {
            finding.detail = context.writer.clean(&finding.detail);
            finding.hint = finding.hint.as_ref().map(|hint| context.writer.clean(hint));
        }
        if !args.json && printed.is_ok() {
            printed = context.print(&finding.to_string());
        }
    });
    let outcome = examine(context, args, &interrupts, &mut results).await;
    let report = results.report(&outcome);
    let outcome = outcome.and_then(|()| Ok(report.verdict()?));
    if args.json {
        let error = outcome.as_ref().err().map(|error| context.cause(error));
        printed = context.print_json(&Answer { report: &report, error });
    }
    outcome?;
    tracing::info!(tried = report.tried(), warned = report.warned(), "nothing failed");
    printed
}

async fn examine(
    context: &Context<'_>,
    args: &CheckArgs,
    interrupts: &Interrupts,
    results: &mut CheckResults<'_>,
) -> Result<(), Error> {
    for warning in config::warnings(CommandName::Check, context.flags, context.environment) {
        results.settings_are_doubtful(warning.what, &warning.hint);
    }
    let opened = tokio::select! {
        opened = open(context, args) => opened.inspect_err(|error| results.settings_are_bad(error))?,
        interrupt = interrupts.received() => return Err(Error::Interrupted(interrupt)),
    };
    let Opened { s3, source, spool_dir, monitoring, schedule, destination } = &opened;
    let place = format!("backups are at {}", destination.location(&destination.key("")));
    if s3.endpoint.as_ref().is_some_and(Endpoint::is_exposed) {
        let detail = format!("{place}; S3_URL is plain http to another host");
        results.settings_are_doubtful(detail, "set S3_URL to https://, or backups cross the network in the clear");
    } else {
        results.settings_are_good(place);
    }
    let thresholds = Thresholds {
        max_age: args.max_age.unwrap_or_else(|| MaxAge::usual(schedule.as_ref(), chrono::Utc::now())),
        min_size: args.min_size,
        max_shrink: args.max_shrink,
        deep: args.deep,
    };
    let (source, spool_dir) = (source.as_ref(), spool_dir.as_deref());
    Ok(Check { destination, s3, source, monitoring, spool_dir, thresholds: &thresholds }
        .run(interrupts, results)
        .await?)
}

/// What `check --json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What the settings come to.
struct Opened {
    s3: S3Settings,
    source: Option<PostgresSettings>,
    spool_dir: Option<PathBuf>,
    monitoring: Monitoring,
    schedule: Option<Schedule>,
    destination: Destination,
}

async fn open(context: &Context<'_>, args: &CheckArgs) -> Result<Opened, Error> {
    let scope = if args.bucket_only { Scope::Bucket } else { Scope::Everything };
    let config = config::check(context.flags, context.environment, scope).map_err(Error::Settings)?;
    let s3 = impatient(&config.s3);
    let destination = Destination::open(&s3).await?.with_first_contact();
    let source = config.postgres.map(|source| PostgresSettings { allows_pooler: args.pooler.allow_pooler, ..source });
    let monitoring = match scope {
        Scope::Everything => {
            let notifications = config::notifications(context.flags, context.environment);
            let (metrics_file, ping) = (notifications.metrics_file, notifications.ping);
            Monitoring { metrics_file, listen: config.listen, ping }
        }
        Scope::Bucket => Monitoring::default(),
    };
    Ok(Opened { s3, source, spool_dir: config.spool_dir, monitoring, schedule: config.schedule, destination })
}
