//! `--create-db`: restores into a scratch database, and renames it when it is complete.
//!
//! Each statement is a separate transaction, so the server's lock table need not hold the locks of all tables. If the restore
//! fails, the complete scratch database is dropped. Called by [`super::database`].

use std::time::Duration;

use tokio::join;
use tokio::time::sleep;

use crate::archive::VerifiedStream;
use crate::error_chain::Chain;
use crate::postgres::globals::DatabaseSettings;
use crate::postgres::target::Target;
use crate::postgres::{PostgresError, PostgresSettings, RestoreSession, Session, Tools, Transactions};
use crate::random::random_hex;

use super::analyze::analyze;
use super::database::{recorded, roles, warn_of_superuser};
use super::filling::Filling;
use super::left_out::LeftOut;
use super::parallel::{self, Prepared};
use super::preconditions::problems;
use super::replace::Finished;
use super::rules::Rules;
use super::scratch::{Existing, Origin, Purpose, Scratch};
use super::selective::{Selective, Surroundings};
use super::verified::Verified;
use super::{DatabaseName, Report, Request, RestoreError};

/// How long the clean-up may take after a signal. The program ends within 10 s.
const DISCARD_AFTER_SIGNAL: Duration = Duration::from_secs(8);
/// How long the renames may wait for other sessions after a signal.
const RENAME_AFTER_SIGNAL: Duration = Duration::from_secs(3);
/// How long the clean-up may take after any other failure: a large database has many files.
const DISCARD_WITHIN: Duration = Duration::from_mins(10);

/// Restores into a new database on the server of `target`.
pub(super) async fn restore(
    request: &Request<'_>,
    (tools, target): (&Tools, &PostgresSettings),
    (name, selective): (&DatabaseName, Option<&Selective>),
) -> Result<Report, RestoreError> {
    let existing = if request.options.replace { Existing::Replace } else { Existing::Refuse };
    let purpose = Purpose::Restore { name: name.to_string(), existing };
    let run_id = random_hex().map_err(|error| PostgresError::SessionLost { reason: error.to_string() })?;
    let origin = Origin { run_id: &run_id, backup: &request.chosen.backup.s3_location };
    let connect = async { Ok::<_, RestoreError>(Scratch::connect(tools, target, purpose, origin).await?) };
    let mut scratch = request.interrupts.until_signal(connect).await?;
    let filled = request.interrupts.until_signal(prepare_and_fill(request, (tools, &mut scratch), selective)).await;
    let Filled { verified, left_out, own } = match filled {
        Ok(Some(filled)) => filled,
        Ok(None) => {
            discard(scratch, DISCARD_WITHIN).await;
            let selected = selective.map(Selective::selected);
            return Ok(Report { dry_run: true, selected, ..Report::new(request.chosen, name.to_string()) });
        }
        Err(error) => {
            if request.options.keep_failed {
                scratch.keep().await;
            } else {
                let is_signal = matches!(error, RestoreError::Interrupted(_));
                discard(scratch, if is_signal { DISCARD_AFTER_SIGNAL } else { DISCARD_WITHIN }).await;
            }
            return Err(error);
        }
    };
    let finished = finish(&mut scratch, own.as_ref(), (&verified, request)).await;
    discard(scratch, DISCARD_WITHIN).await;
    let finished = finished?;
    let report = Report::new(request.chosen, finished.name.clone()).with_verified(&verified).with_left_out(&left_out);
    Ok(Report { selected: selective.map(Selective::selected), ..report.with_finished(&finished) })
}

/// A scratch database with the complete, verified backup.
struct Filled {
    verified: Verified,
    left_out: LeftOut,
    /// The settings and grants of the database itself, unless they are excluded.
    own: Option<DatabaseSettings>,
}

/// Everything up to the renames; `None` after the preconditions of a dry run.
async fn prepare_and_fill(
    request: &Request<'_>,
    (tools, scratch): (&Tools, &mut Scratch),
    selective: Option<&Selective>,
) -> Result<Option<Filled>, RestoreError> {
    let (manifest, options) = (request.chosen.manifest.as_ref(), request.options);
    for abandoned in scratch.abandoned().await? {
        tracing::warn!(
            database = abandoned.name,
            bytes = abandoned.bytes,
            hint = abandoned.statement(),
            "a scratch database of an earlier restore exists"
        );
    }
    let facts = Target::ask_outside(scratch.server().await?).await?;
    let (problems, around) = match selective {
        Some(selective) => selective.fit_new(request, &facts),
        None => (problems(&facts, None, manifest, options), Surroundings::default()),
    };
    if !problems.is_empty() {
        return Err(RestoreError::Target { problems });
    }
    if options.dry_run {
        return Ok(None);
    }
    warn_of_superuser(&facts);
    // Before the dump, which may take hours: damaged globals must not fail the restore after it.
    let recorded = recorded(request, scratch.server().await?).await?;
    roles(request, recorded.as_ref(), scratch.server().await?).await?;
    let rules = Rules::of(options, &facts, Transactions::Each);
    let (verified, left_out) = if let Some(selective) = selective {
        scratch.create(manifest).await?;
        fill_selected(request, (tools, scratch), &rules, (selective, &around)).await?
    } else {
        let (created, several) = join!(scratch.create(manifest), Prepared::of(request, &rules));
        created?;
        let (stream, left_out) = fill(request, (tools, scratch), (&rules, several?)).await?;
        (Verified::Stream(stream), left_out)
    };
    left_out.announce();
    if !options.no_analyze {
        analyze((tools, &scratch.settings()), selective, options.jobs).await;
    }
    let is_of_everything = selective.is_none_or(Selective::is_of_everything);
    let own = recorded.and_then(|recorded| recorded.database);
    let own = own.filter(|_| !options.no_database_settings && is_of_everything);
    Ok(Some(Filled { verified, left_out, own }))
}

/// Fills a scratch database, by several sessions if that is prepared.
pub(super) async fn fill(
    request: &Request<'_>,
    (tools, scratch): (&Tools, &Scratch),
    (rules, several): (&Rules, Option<Prepared<'_>>),
) -> Result<(VerifiedStream, LeftOut), RestoreError> {
    let settings = scratch.settings();
    if let Some(prepared) = several {
        let into = parallel::Into { tools, settings: &settings, database: scratch.name() };
        return Box::pin(prepared.fill(&into)).await;
    }
    let mut control = Session::connect(tools, &settings).await?;
    let mut session = RestoreSession::open(tools, &settings, rules.transactions).await?;
    let filling = Filling { request, database: scratch.name() };
    let filled = filling.run(&mut session, &mut control, rules.clone()).await;
    session.kill().await;
    control.close().await;
    filled
}

/// Fills a scratch database with what was chosen.
async fn fill_selected(
    request: &Request<'_>,
    (tools, scratch): (&Tools, &Scratch),
    rules: &Rules,
    selected: (&Selective, &Surroundings),
) -> Result<(Verified, LeftOut), RestoreError> {
    let settings = scratch.settings();
    let mut control = Session::connect(tools, &settings).await?;
    let mut session = RestoreSession::open(tools, &settings, rules.transactions).await?;
    let filling = Filling { request, database: scratch.name() };
    let filled = filling.run_selected(&mut session, &mut control, rules.clone(), selected).await;
    session.kill().await;
    control.close().await;
    filled.map(|(restored, left_out)| (Verified::Selected(restored), left_out))
}

/// Applies the database's own settings and renames it. It takes a [`Verified`], so that no unverified database is renamed.
/// This takes seconds and is one transaction, so a signal waits for it, but not longer than the program has time to end.
async fn finish(
    scratch: &mut Scratch,
    own: Option<&DatabaseSettings>,
    (_, request): (&Verified, &Request<'_>),
) -> Result<Finished, RestoreError> {
    let stop = async {
        request.interrupts.received().await;
        sleep(RENAME_AFTER_SIGNAL).await;
    };
    Ok(scratch.finish_until(own, stop).await?)
}

async fn discard(scratch: Scratch, within: Duration) {
    if let Err(error) = scratch.discard(within).await {
        tracing::warn!(error = %Chain(&error), "the scratch database could not be dropped");
    }
}
