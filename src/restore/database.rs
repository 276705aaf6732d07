//! Restores into a database: psql runs the dump in one transaction, which this program begins and ends.
//!
//! 1. Check the preconditions, and report all that fail.
//! 2. Stream the dump through the filter into psql. Then verify its checksums, its end, and the server's row counts.
//! 3. COMMIT, which needs a [`VerifiedStream`]. On any failure psql is killed while its input is open, and its server
//!    session is terminated and waited for. The target is as it was.

use crate::archive::VerifiedStream;
use crate::error_chain::Chain;
use crate::postgres::globals::Recorded;
use crate::postgres::target::{self, Target};
use crate::postgres::{Installed, Maintenance, PostgresSettings, RestoreSession, Session, Tools, Transactions};

use super::filling::Filling;
use super::new_database::{self, analyze};
use super::preconditions::problems;
use super::rules::Rules;
use super::{Report, Request, RestoreError, roles};

/// Restores into the database that the settings name, or into a new one on the same server.
///
/// # Errors
/// If the restore failed. The target is as it was before, or the error says what is unknown.
pub async fn restore(request: &Request<'_>, target: &PostgresSettings) -> Result<Report, RestoreError> {
    let find = async {
        let installed = Installed::find(target.pg_dump_path.as_deref(), &target.environment).await?;
        Ok::<_, RestoreError>(installed.newest()?)
    };
    let tools = request.interrupts.until_signal(find).await?;
    if let Some(name) = &request.options.create_db {
        return new_database::restore(request, (&tools, target), name).await;
    }
    let connect = async { Ok::<_, RestoreError>(Session::connect(&tools, target).await?) };
    let mut control = request.interrupts.until_signal(connect).await?;
    let settings = control.pinned(target);
    let restore = Existing { request, tools: &tools, settings: &settings };
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
        Some(manifest) => Ok(roles::globals(request.destination, manifest, server).await?),
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
        let filling = filling.run(&mut session, control, (input, rules));
        let filled = interrupts.until_signal(filling).await;
        match filled {
            Ok((verified, left_out)) => {
                left_out.announce();
                let report = report.with_stream(&verified).with_left_out(&left_out);
                self.commit(session, verified, facts.database).await?;
                if !options.no_analyze {
                    tokio::select! {
                        () = analyze(self.tools, self.settings) => {}
                        _ = interrupts.received() => tracing::warn!("the backup is restored; ANALYZE was interrupted"),
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
        let made = match recorded(self.request, &mut server).await {
            Ok(recorded) => roles(self.request, recorded.as_ref(), &mut server).await,
            Err(error) => Err(error),
        };
        server.close().await;
        made
    }

    /// Terminates psql's session on the server, and waits until it is gone.
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
                "it is unknown whether the server has ended the restore's session: the transaction rolls back when it does"
            );
        }
    }

    /// Sends COMMIT. It takes a [`VerifiedStream`], so that no unverified backup is committed.
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
            hint = "if you do not trust everyone who can write to the bucket, restore as a role that owns only this database",
            "restoring as a superuser: code in the dump runs with all rights on this server"
        );
    }
}
