//! Restores into a database: psql runs the dump in one transaction, which this program begins and ends.
//!
//! 1. Check the preconditions, and report all that fail. Exclude other restores into the database.
//! 2. Stream the dump through the filter into psql. Then verify its checksums, its end, and the server's row counts.
//! 3. COMMIT, which needs a `Verified`. On any failure psql is killed while its input is open, and its server
//!    session is terminated and waited for. The target is as it was.

use std::time::Duration;

use tokio::time::sleep;

use crate::archive::index;
use crate::archive::manifest::Manifest;
use crate::error_chain::Chain;
use crate::postgres::globals::Recorded;
use crate::postgres::target::{self, Target};
use crate::postgres::{
    Installed, Maintenance, NotCommitted, Outcome, PostgresSettings, RestoreSession, Session, Tools, Transactions,
};

use super::analyze::analyze;
use super::filling::Filling;
use super::left_out::LeftOut;
use super::new_database;
use super::preconditions::problems;
use super::rules::Rules;
use super::selective::{Selective, Surroundings};
use super::verified::Verified;
use super::{Report, Request, RestoreError, busy, roles};

/// How long COMMIT may take after a signal.
const COMMIT_AFTER_SIGNAL: Duration = Duration::from_secs(3);

/// Restores into the database that the settings name, or into a new one on the same server.
///
/// # Errors
/// If the restore failed. The target is as it was before, or the error says what is unknown.
pub async fn restore(request: &Request<'_>, target: &PostgresSettings) -> Result<Report, RestoreError> {
    request.verify_identity()?;
    let find = async {
        let installed = Installed::find(target.pg_dump_path.as_deref(), &target.environment).await?;
        Ok::<_, RestoreError>(installed.newest()?)
    };
    let tools = request.interrupts.until_signal(find).await?;
    let selective = request.interrupts.until_signal(Box::pin(Selective::prepare(request))).await?;
    if let Some(name) = &request.options.create_db {
        return new_database::restore(request, (&tools, target), (name, selective.as_ref())).await;
    }
    let connect = async { Ok::<_, RestoreError>(Session::connect(&tools, target).await?) };
    let mut control = request.interrupts.until_signal(connect).await?;
    let settings = control.pinned(target);
    let mut restore =
        Existing { request, tools: &tools, settings: &settings, selective: selective.as_ref(), with_tables: None };
    let restored = restore.run(&mut control).await;
    control.close().await;
    restored
}

/// Returns the globals of the backup, if an option needs them.
pub(super) async fn recorded(
    request: &Request<'_>,
    server: &mut Maintenance,
) -> Result<Option<Recorded>, RestoreError> {
    let (options, manifest) = (request.options, request.chosen.manifest.as_ref());
    let wants_settings = options.create_db.is_some() && !options.no_database_settings;
    if !options.globals && !wants_settings {
        return Ok(None);
    }
    if let Some(what) = roles::without_globals(manifest) {
        tracing::warn!("{what}");
    }
    match manifest {
        Some(manifest) => Ok(roles::globals(request.stored(), request.named(manifest), server).await?),
        None => Ok(None),
    }
}

/// Creates missing roles, if the user asks for it. They stay even if the restore fails later.
pub(super) async fn roles(
    request: &Request<'_>,
    recorded: Option<&Recorded>,
    server: &mut Maintenance,
) -> Result<(), RestoreError> {
    let (options, manifest) = (request.options, request.chosen.manifest.as_ref());
    let report = match (recorded.filter(|_| options.globals), manifest) {
        (Some(recorded), _) => roles::apply(server, recorded).await?,
        (None, Some(manifest)) if options.create_roles => roles::create_missing(server, &manifest.roles).await?,
        _ => return Ok(()),
    };
    if !report.created.is_empty() {
        tracing::info!(roles = report.created.join(", "), "created missing roles");
    }
    if !report.existing.is_empty() {
        tracing::info!(roles = report.existing.join(", "), "existing roles were not changed");
    }
    for what in &report.left_out {
        tracing::warn!("{what}");
    }
    Ok(())
}

/// A restore into an existing database.
struct Existing<'a> {
    request: &'a Request<'a>,
    tools: &'a Tools,
    /// The target of the control session.
    settings: &'a PostgresSettings,
    /// `None` if all of the backup is restored.
    selective: Option<&'a Selective>,
    /// The manifest with its tables, if it matters which of them are left out.
    with_tables: Option<Manifest>,
}

impl Existing<'_> {
    async fn run(&mut self, control: &mut Session) -> Result<Report, RestoreError> {
        let Request { chosen, options, interrupts, .. } = self.request;
        let facts = Target::ask(control).await?;
        self.with_tables = self.read_tables().await?;
        self.check(control, &facts).await?;
        let report = Report::new(chosen, facts.database.clone());
        if options.dry_run {
            let selected = self.selective.map(Selective::selected);
            return Ok(Report { dry_run: true, selected, ..report });
        }
        warn_of_superuser(&facts);
        let mut session = RestoreSession::open(self.tools, self.settings, Transactions::One).await?;
        let filled = interrupts.until_signal(self.fill(&mut session, control, &facts)).await;
        match filled {
            Ok((verified, left_out)) => {
                left_out.announce();
                let report = report.with_verified(&verified).with_left_out(&left_out);
                let report = Report { selected: self.selective.map(Selective::selected), ..report };
                self.commit((session, control), verified, facts.database).await?;
                if !options.no_analyze {
                    tokio::select! {
                        () = analyze((self.tools, self.settings), self.selective, 1) => {}
                        _ = interrupts.received() => tracing::warn!("the backup is restored; ANALYZE was interrupted"),
                    }
                }
                Ok(report)
            }
            Err(error) => {
                session.kill().await;
                match self.end(&session, control).await {
                    Some(Outcome::Committed) => {
                        tracing::debug!(%error, "the restore had failed before");
                        let file_name = chosen.backup.file_name.clone();
                        Err(RestoreError::CommittedByDump { file_name, database: facts.database })
                    }
                    Some(Outcome::RolledBack) | None => Err(error),
                }
            }
        }
    }

    async fn read_tables(&self) -> Result<Option<Manifest>, RestoreError> {
        let Request { chosen, options, .. } = self.request;
        let manifest =
            chosen.manifest.as_ref().filter(|_| options.leave_out.is_reduced() && self.needs_empty_database());
        let Some(manifest) = manifest else { return Ok(None) };
        let tables = index::tables(self.request.stored(), self.request.named(manifest)).await?;
        Ok(Some(Manifest { tables, ..manifest.clone() }))
    }

    fn needs_empty_database(&self) -> bool {
        self.selective.is_none_or(Selective::needs_empty_database)
    }

    /// Fails if a restore into the database would. Returns what a selective one sends around its dump.
    async fn check(&self, control: &mut Session, facts: &Target) -> Result<Surroundings, RestoreError> {
        let Request { chosen, options, .. } = self.request;
        let (mut found, mut around) = (Vec::new(), Surroundings::default());
        if self.needs_empty_database() {
            let contained = target::contained(control).await?;
            let manifest = self.with_tables.as_ref().or(chosen.manifest.as_ref());
            found.extend(problems(facts, Some(&contained), manifest, options));
        } else if let Some(selective) = self.selective {
            // Not in the transaction of the control session: it would hold locks on what is asked for.
            let mut server = Maintenance::connect(self.tools, self.settings).await?;
            let fit = selective.fit(self.request, &mut server, facts).await;
            server.close().await;
            (found, around) = fit?;
        }
        if found.is_empty() { Ok(around) } else { Err(RestoreError::Target { problems: found }) }
    }

    /// Sends the dump, as the only restore into the database.
    async fn fill(
        &self,
        session: &mut RestoreSession,
        control: &mut Session,
        facts: &Target,
    ) -> Result<(Verified, LeftOut), RestoreError> {
        busy::reserve_in_transaction(session, control, &facts.database).await?;
        // Another restore may have ended since the first check.
        let around = self.check(control, facts).await?;
        self.make_roles().await?;
        let rules = Rules::of(self.request.options, facts, Transactions::One);
        let filling = Filling { request: self.request, database: &facts.database };
        if let Some(selective) = self.selective {
            let filled = filling.run_selected(session, control, rules, (selective, &around)).await;
            return filled.map(|(restored, left_out)| (Verified::Selected(restored), left_out));
        }
        let filled = filling.run(session, control, rules).await;
        filled.map(|(stream, left_out)| (Verified::Stream(stream), left_out))
    }

    async fn make_roles(&self) -> Result<(), RestoreError> {
        if !self.request.options.globals && !self.request.options.create_roles {
            return Ok(());
        }
        let mut server = Maintenance::connect(self.tools, self.settings).await?;
        let made = match recorded(self.request, &mut server).await {
            Ok(recorded) => roles(self.request, recorded.as_ref(), &mut server).await,
            Err(error) => Err(error),
        };
        server.close().await;
        made
    }

    /// Terminates psql's session on the server, waits until it is gone, and returns the outcome of its transaction, if it is known.
    async fn end(&self, session: &RestoreSession, control: &mut Session) -> Option<Outcome> {
        let mut ended = session.end_on_server(control).await;
        if ended.is_err()
            && let Ok(mut another) = Session::connect(self.tools, self.settings).await
        {
            ended = session.end_on_server(&mut another).await;
            another.close().await;
        }
        ended
            .inspect_err(|error| {
                tracing::warn!(
                    error = %Chain(error),
                    "it is unknown whether the server has ended the restore's session: the transaction rolls back when it does"
                );
            })
            .ok()
    }

    /// Sends COMMIT. It takes a [`Verified`], so that no unverified backup is committed. A signal waits for the server's answer,
    /// but not longer than the program has time to end.
    async fn commit(
        &self,
        (session, control): (RestoreSession, &mut Session),
        _: Verified,
        database: String,
    ) -> Result<(), RestoreError> {
        let interrupts = self.request.interrupts;
        let stop = async {
            interrupts.received().await;
            sleep(COMMIT_AFTER_SIGNAL).await;
        };
        match session.commit(control, (self.tools, self.settings), stop).await {
            Ok(()) => Ok(()),
            Err(NotCommitted::RolledBack(cause)) => Err(RestoreError::RolledBack { database, cause }),
            Err(NotCommitted::Unknown(cause)) => Err(RestoreError::Unknown { database, cause }),
            Err(NotCommitted::Stopped) => Err(interrupts.received().await.into()),
        }
    }
}

/// A dump's code runs with the rights of the role that restores it.
pub(super) fn warn_of_superuser(facts: &Target) {
    if facts.is_superuser {
        tracing::warn!(
            role = facts.role,
            hint = "if you do not trust everyone who can write to the bucket, restore as a role that owns only this database",
            "restoring as a superuser: code in the dump runs with all rights on this server"
        );
    }
}
