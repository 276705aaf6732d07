//! Creates the roles that a dump refers to and the server lacks.
//!
//! `--create-roles` makes those that the manifest names, without a login; `--globals` makes them as the globals have them,
//! with their memberships. Existing roles are not changed. Each is one transaction on the maintenance session, before
//! the dump is restored. The globals come from the bucket and are not run: this module parses them and generates its own statements.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;
use secrecy::ExposeSecret as _;

use crate::archive::manifest::Manifest;
use crate::archive::{Stored, sidecar};
use crate::exit_code::ExitCode;
use crate::postgres::globals::{NotOurs, Recorded, Role};
use crate::postgres::{Maintenance, PostgresError, StatementError};
use crate::printable::counted;
use crate::sql::quoted_name;
use crate::storage::StorageError;

/// The largest globals, packed or unpacked. `backup` has the same limit.
const MOST_BYTES: u64 = 128 << 20;
/// The first line of the database's own section. It is in UTF-8, whatever the encoding before it.
const DATABASE_SECTION: &str = "\n--\n-- The database that you are connected to\n--\n";
const ENCODING: &str = "SET client_encoding = '";

/// Why the globals cannot be used, or roles cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RolesError {
    /// S3 refused or failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// They are not what the manifest says.
    #[error(
        "read the globals {file_name}: {reason}: restore without them (--no-database-settings, without --globals), or restore another backup"
    )]
    Damaged {
        /// The file.
        file_name: String,
        /// What differs.
        reason: String,
    },
    /// They hold something else.
    #[error(
        "read the globals {file_name}: {reason}: find out who can write to the bucket, and restore without them (--no-database-settings, without --globals)"
    )]
    Foreign {
        /// The file.
        file_name: String,
        /// The statement's first words.
        reason: NotOurs,
    },
    /// The server refused a role. None was made.
    #[error(
        "create the role {role}: {reason}: connect as a role that may (CREATEROLE, or a superuser), or restore without owners and grants (--no-owner --no-privileges)"
    )]
    Refused {
        /// Its name.
        role: String,
        /// The server's message.
        reason: String,
    },
    /// The session is lost.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
}

impl RolesError {
    /// The exit code that follows.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Storage(error) => error.exit_code(),
            Self::Damaged { .. } | Self::Foreign { .. } | Self::Refused { .. } | Self::Postgres(_) => {
                ExitCode::RestoreFailed
            }
        }
    }
}

/// What was made of the roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolesReport {
    /// The roles that were missing.
    pub created: Vec<String>,
    /// The roles that were there, and are as they were.
    pub existing: Vec<String>,
    /// What was not restored, and why.
    pub left_out: Vec<String>,
}

/// Downloads the globals of the backup of this name, verifies them, and reads them; `None` where there are none. The server helps with an
/// encoding other than UTF-8.
///
/// # Errors
/// See [`RolesError`].
pub async fn globals(
    from: Stored<'_>,
    (backup, manifest): (&str, &Manifest),
    server: &mut Maintenance,
) -> Result<Option<Recorded>, RolesError> {
    let Some(file) = &manifest.globals else { return Ok(None) };
    let damaged = |reason: String| RolesError::Damaged { file_name: file.file_name.clone(), reason };
    let packed = sidecar::read(from, backup, file.into(), MOST_BYTES).await?;
    let packed = packed.map_err(|flaw| damaged(flaw.to_string()))?;
    let script = unpack(&packed).map_err(|error| damaged(error.to_string()))?;
    let script = decode(server, script).await?.map_err(damaged)?;
    let foreign = |reason: NotOurs| RolesError::Foreign { file_name: file.file_name.clone(), reason };
    Recorded::read(&script).map(Some).map_err(foreign)
}

/// Makes the roles of these names that are missing, without a login and a password.
///
/// # Errors
/// The server's message; nothing was made then.
pub async fn create_missing(server: &mut Maintenance, names: &[String]) -> Result<RolesReport, RolesError> {
    let report = missing(server, names.iter().map(String::as_str)).await?;
    begin(server).await?;
    let mut made = Ok(());
    for role in &report.created {
        if made.is_ok() {
            made = create(server, role, " NOLOGIN").await;
        }
    }
    end(server, made).await?;
    Ok(report)
}

/// Makes the roles of the globals that are missing, with their attributes, passwords, settings and comments, and the
/// memberships of these roles. If the server refuses anything except a role itself, it is left out and reported.
///
/// # Errors
/// The server's message; nothing was made then.
pub async fn apply(server: &mut Maintenance, recorded: &Recorded) -> Result<RolesReport, RolesError> {
    let mut report = missing(server, recorded.roles.iter().map(|role| role.name.as_str())).await?;
    report.left_out = others(server, recorded).await?;
    begin(server).await?;
    let made = make(server, recorded, &mut report).await;
    end(server, made).await?;
    Ok(report)
}

/// The warning if a backup has no globals; `None` if it has them.
#[must_use]
pub fn without_globals(manifest: Option<&Manifest>) -> Option<String> {
    let why = match manifest {
        None => "no manifest is used",
        Some(manifest) if manifest.globals.is_none() => "the backup has no globals",
        Some(_) => return None,
    };
    Some(format!("roles, memberships, and the database's own owner, grants, settings and comment are left out: {why}"))
}

async fn make(server: &mut Maintenance, recorded: &Recorded, report: &mut RolesReport) -> Result<(), RolesError> {
    let is_new = |name: &String| report.created.contains(name);
    let mut left_out = Vec::new();
    for role in recorded.roles.iter().filter(|role| is_new(&role.name)) {
        create(server, &role.name, "").await?;
        left_out.extend(furnish(server, role).await?);
    }
    let memberships = recorded.memberships.iter();
    for membership in memberships.filter(|membership| is_new(&membership.group) || is_new(&membership.member)) {
        let mut refused = server.attempt(&membership.statement()).await?;
        // If this role may not grant on behalf of the recorded grantor, it grants in its own name.
        if refused.is_some() && membership.statement() != membership.by_anybody() {
            refused = server.attempt(&membership.by_anybody()).await?;
        }
        left_out.extend(refused.map(|reason| format!("{} in {}: {reason}", membership.member, membership.group)));
    }
    report.left_out.extend(left_out);
    Ok(())
}

/// Applies the recorded properties of a new role. Returns those that the server refuses.
async fn furnish(server: &mut Maintenance, role: &Role) -> Result<Vec<String>, PostgresError> {
    let mut left_out = Vec::new();
    if let Some(attributes) = role.attributes() {
        let refused = server.attempt(attributes.expose_secret()).await?;
        left_out.extend(refused.map(|reason| format!("the attributes of {}: {}", role.name, role.hide(&reason))));
    }
    for statement in role.extras() {
        let refused = server.attempt(&statement).await?;
        left_out.extend(refused.map(|reason| format!("{statement}: {reason}")));
    }
    Ok(left_out)
}

async fn create(server: &mut Maintenance, role: &str, options: &str) -> Result<(), RolesError> {
    let created = server.run(&format!("CREATE ROLE {}{options}", quoted_name(role))).await;
    created.map(drop).map_err(|error| match error {
        StatementError::Lost(error) => RolesError::Postgres(error),
        StatementError::Refused { message, .. } => RolesError::Refused { role: role.to_owned(), reason: message },
    })
}

async fn begin(server: &mut Maintenance) -> Result<(), RolesError> {
    server.run("BEGIN").await.map(drop).map_err(|error| RolesError::Postgres(error.into()))
}

/// Commits what was made, or undoes it.
async fn end(server: &mut Maintenance, made: Result<(), RolesError>) -> Result<(), RolesError> {
    let order = if made.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = server.run(order).await.map(drop).map_err(|error| RolesError::Postgres(error.into()));
    made.and(ended)
}

/// Which of these roles are missing, and which are there.
async fn missing<'a>(
    server: &mut Maintenance,
    names: impl Iterator<Item = &'a str>,
) -> Result<RolesReport, RolesError> {
    let known = names_in(server, "rolname", "pg_roles").await?;
    let (existing, created) = names.map(str::to_owned).partition(|name| known.contains(name));
    Ok(RolesReport { created, existing, left_out: Vec::new() })
}

/// What the globals contain besides roles. It is not restored, and reported.
async fn others(server: &mut Maintenance, recorded: &Recorded) -> Result<Vec<String>, RolesError> {
    let known = names_in(server, "spcname", "pg_tablespace").await?;
    let state = |name: &String| {
        let is_there = known.contains(name);
        let what =
            if is_there { "it exists and is left as it is" } else { "make it by hand, in a directory of the server" };
        format!("the tablespace {name}: {what}")
    };
    let mut others: Vec<String> = recorded.tablespaces.iter().map(state).collect();
    if recorded.parameter_grants > 0 {
        others.push(format!("{} of parameters (GRANT … ON PARAMETER)", counted(recorded.parameter_grants, "grant")));
    }
    Ok(others)
}

async fn names_in(server: &mut Maintenance, column: &str, catalog: &str) -> Result<Vec<String>, RolesError> {
    let question = format!("SELECT pg_catalog.json_agg({column}) FROM pg_catalog.{catalog}");
    Ok(server.ask(&question).await.map_err(|error| RolesError::Postgres(error.into()))?.unwrap_or_default())
}

fn unpack(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut script = Vec::new();
    MultiGzDecoder::new(packed).take(MOST_BYTES + 1).read_to_end(&mut script)?;
    if script.len() as u64 > MOST_BYTES {
        return Err(std::io::Error::other("they are larger than any cluster's"));
    }
    Ok(script)
}

/// The script as text. `pg_dumpall` writes it in the encoding of the source database.
async fn decode(server: &mut Maintenance, script: Vec<u8>) -> Result<Result<String, String>, PostgresError> {
    let at = memchr::memmem::rfind(&script, DATABASE_SECTION.as_bytes()).unwrap_or(script.len());
    let (cluster, database) = script.split_at(at);
    let encoding = memchr::memmem::find(cluster, ENCODING.as_bytes()).map(|at| &cluster[at + ENCODING.len()..]);
    let length = |name: &&[u8]| name.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let encoding = encoding.map(|name| String::from_utf8_lossy(&name[..length(&name)]).into_owned());
    let Some(encoding) = encoding.filter(|name| name != "UTF8" && name != "SQL_ASCII" && !cluster.is_ascii()) else {
        return Ok(String::from_utf8(script).map_err(|_| "they are in an encoding that they do not name".to_owned()));
    };
    let bytes = hex::encode(cluster);
    let question =
        format!("SELECT pg_catalog.to_json(pg_catalog.convert_from('\\x{bytes}'::pg_catalog.bytea, '{encoding}'))");
    let cluster: String = match server.ask(&question).await {
        Ok(text) => text.unwrap_or_default(),
        Err(StatementError::Refused { message, .. }) => return Ok(Err(message)),
        Err(StatementError::Lost(error)) => return Err(error),
    };
    let database = str::from_utf8(database).map_err(|_| "they are in an encoding that they do not name".to_owned());
    Ok(database.map(|database| cluster + database))
}
