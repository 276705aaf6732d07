//! `--create-db`: a restore into a scratch database, which gets its name when all is in it.
//!
//! Each statement is a transaction of its own: what fails is dropped as a whole, and no lock table must hold all of a large
//! dump. Called by [`super::database`]; the drill fills its scratch database in the same way.

use std::time::Duration;

use crate::archive::VerifiedStream;
use crate::error_chain::Chain;
use crate::postgres::target::Target;
use crate::postgres::{Maintenance, PostgresSettings, RestoreSession, Session, Tools, Transactions};

use super::database::{roles, warn_of_superuser};
use super::filling::Filling;
use super::left_out::LeftOut;
use super::preconditions::problems;
use super::replace::Finished;
use super::roles::{globals, without_globals};
use super::rules::Rules;
use super::scratch::{Existing, Origin, Purpose, Scratch};
use super::sink::PsqlSink;
use super::{DatabaseName, Report, Request, RestoreError};

/// How long the clean-up after a failure may take: after a signal everything has 10 s.
const DISCARD_WITHIN: Duration = Duration::from_secs(8);
/// As long as the statistics of the largest database may take.
const ANALYZE_WITHIN: Duration = Duration::from_hours(24);

/// Restores into a database that is made for it on the server of `target`.
pub(super) async fn restore(
    request: &Request<'_>,
    (tools, target): (&Tools, &PostgresSettings),
    name: &DatabaseName,
) -> Result<Report, RestoreError> {
    let existing = if request.options.replace { Existing::Replace } else { Existing::Refuse };
    let purpose = Purpose::Restore { name: name.to_string(), existing };
    let run_id = crate::postgres::random_word()?;
    let origin = Origin { run_id: &run_id, backup: &request.chosen.backup.s3_location };
    let interrupted = || request.interrupts.received();
    let mut scratch = tokio::select! {
        scratch = Scratch::connect(tools, target, purpose, origin) => scratch?,
        interrupt = interrupted() => return Err(RestoreError::Interrupted(interrupt)),
    };
    let filled = tokio::select! {
        filled = prepare_and_fill(request, tools, &mut scratch) => filled,
        interrupt = interrupted() => Err(RestoreError::Interrupted(interrupt)),
    };
    let (verified, left_out) = match filled {
        Ok(Some(filled)) => filled,
        Ok(None) => {
            discard(scratch).await;
            return Ok(Report { dry_run: true, ..Report::new(request.chosen, name.to_string()) });
        }
        Err(error) => {
            if request.options.keep_failed {
                scratch.keep().await;
            } else {
                discard(scratch).await;
            }
            return Err(error);
        }
    };
    // Seconds, in one transaction: a signal waits for it.
    let finished = finish(request, &mut scratch, &verified).await;
    discard(scratch).await;
    let finished = finished?;
    let report = Report::new(request.chosen, finished.name.clone()).with_stream(&verified).with_left_out(&left_out);
    Ok(report.with_finished(&finished))
}

/// Everything up to the renaming; `None` after the preconditions of a dry run.
async fn prepare_and_fill(
    request: &Request<'_>,
    tools: &Tools,
    scratch: &mut Scratch,
) -> Result<Option<(VerifiedStream, LeftOut)>, RestoreError> {
    let (manifest, options) = (request.chosen.manifest.as_ref(), request.options);
    for abandoned in scratch.abandoned().await? {
        tracing::warn!(
            database = abandoned.name,
            bytes = abandoned.bytes,
            hint = abandoned.statement(),
            "an earlier restore was killed and has left its scratch database"
        );
    }
    let facts = Target::ask_outside(scratch.server().await?).await?;
    let problems = problems(&facts, None, manifest, options);
    if !problems.is_empty() {
        return Err(RestoreError::Target { problems });
    }
    if options.dry_run {
        return Ok(None);
    }
    warn_of_superuser(&facts);
    roles(request, scratch.server().await?).await?;
    scratch.create(manifest).await?;
    let filled = fill(request, (tools, scratch), &Rules::of(options, &facts, Transactions::Each)).await?;
    filled.1.announce();
    if !options.no_analyze {
        analyze(tools, &scratch.settings()).await;
    }
    Ok(Some(filled))
}

/// Fills a scratch database.
pub(super) async fn fill(
    request: &Request<'_>,
    (tools, scratch): (&Tools, &Scratch),
    rules: &Rules,
) -> Result<(VerifiedStream, LeftOut), RestoreError> {
    let settings = scratch.settings();
    let mut control = Session::connect(tools, &settings).await?;
    let (mut session, input) = RestoreSession::open(tools, &settings, rules.transactions).await?;
    let filling = Filling { request, database: scratch.name() };
    let filled = filling.run(&mut session, &mut control, PsqlSink::new(input, rules.clone())).await;
    session.kill().await;
    control.close().await;
    filled
}

/// Gives the database what is its own, and its name. The proof is what makes it get one.
async fn finish(request: &Request<'_>, scratch: &mut Scratch, _: &VerifiedStream) -> Result<Finished, RestoreError> {
    let manifest = request.chosen.manifest.as_ref().filter(|_| !request.options.no_database_settings);
    let recorded = match manifest {
        Some(manifest) => globals(request.destination, manifest, scratch.server().await?).await?,
        None => None,
    };
    if !request.options.no_database_settings
        && let Some(what) = without_globals(request.chosen.manifest.as_ref())
    {
        tracing::warn!("{what}");
    }
    let own = recorded.as_ref().and_then(|recorded| recorded.database.as_ref());
    Ok(scratch.finish(own).await?)
}

async fn discard(scratch: Scratch) {
    if let Err(error) = scratch.discard(DISCARD_WITHIN).await {
        tracing::warn!(error = %Chain(&error), "the scratch database is left behind");
    }
}

/// Gathers the statistics that a dump before PostgreSQL 18 has none of. Nothing is lost where it fails.
pub(super) async fn analyze(tools: &Tools, settings: &PostgresSettings) {
    let analyzed = async {
        let mut server = Maintenance::connect(tools, settings).await.map_err(|error| error.to_string())?;
        let analyzed = server.run_within(ANALYZE_WITHIN, "ANALYZE").await.map_err(|error| error.to_string());
        server.close().await;
        analyzed
    };
    if let Err(error) = analyzed.await {
        tracing::warn!(error, hint = "run ANALYZE", "the statistics were not gathered");
    }
}
