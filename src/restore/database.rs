//! The target that is a database: one transaction of psql's that this program begins and ends.
//!
//! 1. Ask the target, and name everything that speaks against it.
//! 2. Send the dump through the filter while it comes; judge what came by its checksums, its end, and the rows that the server
//!    counted.
//! 3. COMMIT, with the proof of it, a [`VerifiedStream`], alone. On any failure psql is killed while its input is open, and the
//!    server's session is ended and waited for: the target is as it was.

use crate::archive::VerifiedStream;
use crate::error_chain::Chain;
use crate::postgres::target::{self, Target};
use crate::postgres::{Installed, Maintenance, PostgresSettings, RestoreSession, Session, Tools, Transactions};

use super::filling::Filling;
use super::new_database::{self, analyze};
use super::preconditions::problems;
use super::rules::Rules;
use super::sink::PsqlSink;
use super::{Report, Request, RestoreError, roles};

/// Restores into the database that the settings name, or into one that is made beside it.
///
/// # Errors
/// Where it failed; the target is then as it was before, or it is said what could not be found out.
pub async fn restore(request: &Request<'_>, target: &PostgresSettings) -> Result<Report, RestoreError> {
    let find = async { Installed::find(target.pg_dump_path.as_deref(), &target.environment).await?.newest() };
    let tools = tokio::select! {
        tools = find => tools?,
        interrupt = request.interrupts.received() => return Err(RestoreError::Interrupted(interrupt)),
    };
    if let Some(name) = &request.options.create_db {
        return new_database::restore(request, (&tools, target), name).await;
    }
    let mut control = tokio::select! {
        control = Session::connect(&tools, target) => control?,
        interrupt = request.interrupts.received() => return Err(RestoreError::Interrupted(interrupt)),
    };
    let settings = control.pinned(target);
    let restore = Existing { request, tools: &tools, settings: &settings };
    let restored = restore.run(&mut control).await;
    control.close().await;
    restored
}

/// Makes the roles that are missing, where the user wants them. They stay, whatever becomes of the restore.
pub(super) async fn roles(request: &Request<'_>, server: &mut Maintenance) -> Result<(), RestoreError> {
    let (options, manifest) = (request.options, request.chosen.manifest.as_ref());
    let recorded = match manifest.filter(|_| options.globals) {
        Some(manifest) => roles::globals(request.destination, manifest, server).await?,
        None => None,
    };
    let report = match (recorded, manifest) {
        (Some(recorded), _) => roles::apply(server, &recorded).await?,
        (None, Some(manifest)) if options.create_roles => roles::create_missing(server, &manifest.roles).await?,
        _ => return Ok(()),
    };
    if !report.created.is_empty() {
        tracing::info!(roles = report.created.join(", "), "created the roles that were missing");
    }
    if !report.existing.is_empty() {
        tracing::info!(roles = report.existing.join(", "), "left the roles that exist as they are");
    }
    for what in &report.left_out {
        tracing::warn!("{what}");
    }
    Ok(())
}

/// A restore into a database that exists.
struct Existing<'a> {
    request: &'a Request<'a>,
    tools: &'a Tools,
    /// Where the control session is.
    settings: &'a PostgresSettings,
}

impl Existing<'_> {
    async fn run(&self, control: &mut Session) -> Result<Report, RestoreError> {
        let Request { chosen, options, interrupts, .. } = self.request;
        let facts = Target::ask(control).await?;
        let contained = target::contained(control).await?;
        let problems = problems(&facts, Some(&contained), chosen.manifest.as_ref(), options);
        if !problems.is_empty() {
            return Err(RestoreError::Target { problems });
        }
        let report = Report::new(chosen, facts.database.clone());
        if options.dry_run {
            return Ok(Report { dry_run: true, ..report });
        }
        warn_of_superuser(&facts);
        self.make_roles().await?;
        let rules = Rules::of(options, &facts, Transactions::One);
        let opening = RestoreSession::open(self.tools, self.settings, Transactions::One);
        let (mut session, input) = opening.await?;
        let filling = Filling { request: self.request, database: &facts.database };
        let filled = tokio::select! {
            filled = filling.run(&mut session, control, PsqlSink::new(input, rules)) => filled,
            interrupt = interrupts.received() => Err(RestoreError::Interrupted(interrupt)),
        };
        match filled {
            Ok((verified, left_out)) => {
                left_out.announce();
                let report = report.with_stream(&verified).with_left_out(&left_out);
                self.commit(session, verified, facts.database).await?;
                if !options.no_analyze {
                    tokio::select! {
                        () = analyze(self.tools, self.settings) => {}
                        _ = interrupts.received() => tracing::warn!("the backup is restored; its statistics are not gathered"),
                    }
                }
                Ok(report)
            }
            Err(error) => {
                session.kill().await;
                self.see_the_end(&session, control).await;
                Err(error)
            }
        }
    }

    async fn make_roles(&self) -> Result<(), RestoreError> {
        if !self.request.options.globals && !self.request.options.create_roles {
            return Ok(());
        }
        let mut server = Maintenance::connect(self.tools, self.settings).await?;
        let made = roles(self.request, &mut server).await;
        server.close().await;
        made
    }

    /// Waits until the server's session is gone, and what it did with it.
    async fn see_the_end(&self, session: &RestoreSession, control: &mut Session) {
        let mut ended = session.end_backend(control).await;
        if ended.is_err()
            && let Ok(mut another) = Session::connect(self.tools, self.settings).await
        {
            ended = session.end_backend(&mut another).await;
            another.close().await;
        }
        if let Err(error) = ended {
            tracing::warn!(
                error = %Chain(&error),
                "it is not known whether the server has ended the restore's session yet: it rolls back when it does"
            );
        }
    }

    /// Ends the transaction with COMMIT, which the proof is needed for.
    async fn commit(&self, session: RestoreSession, _: VerifiedStream, database: String) -> Result<(), RestoreError> {
        let committed = session.commit(self.tools, self.settings).await;
        committed.map_err(|(outcome, cause)| RestoreError::Commit { database, outcome, cause })
    }
}

/// A dump's code runs with the rights of the role that restores it.
pub(super) fn warn_of_superuser(facts: &Target) {
    if facts.is_superuser {
        tracing::warn!(
            role = facts.role,
            hint = "restore as a role that owns the database alone, where you do not trust whoever can write to the bucket",
            "restoring as a superuser: code in the dump runs with all rights on this server"
        );
    }
}
