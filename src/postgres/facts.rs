//! Facts about the server and the database, for the log, the manifest and the part sizes. `backup` asks once, before the dump.

use serde::Deserialize;

use super::databases::name_bytes;
use super::{Place, PostgresError, Session, Version};

/// One line of JSON. `to_jsonb` reads columns that older servers lack.
fn question() -> String {
    let database_bytes = name_bytes("pg_catalog.current_database()");
    format!(
        "SELECT pg_catalog.json_build_object('server_version', pg_catalog.current_setting('server_version'), \
         'database', pg_catalog.current_database(), 'database_bytes', {database_bytes}, 'user', current_user, \
         'encoding', pg_catalog.pg_encoding_to_char(d.encoding), 'collation', d.datcollate, 'ctype', d.datctype, \
         'locale_provider', pg_catalog.to_jsonb(d) ->> 'datlocprovider', \
         'locale', coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale'), \
         'icu_rules', pg_catalog.to_jsonb(d) ->> 'daticurules', 'in_recovery', pg_catalog.pg_is_in_recovery()) \
         FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()"
    )
}

/// Some hosted servers deny this.
const SYSTEM_IDENTIFIER: &str = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
/// May be slow: the server looks at every file of the database.
const SIZE: &str = "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())";
/// The size in the catalog, as of the last `VACUUM` or `ANALYZE`.
const SIZE_BY_CATALOG: &str = "SELECT pg_catalog.sum(c.relpages::pg_catalog.int8) \
* pg_catalog.current_setting('block_size')::pg_catalog.int8 FROM pg_catalog.pg_class c";
/// For each of the two. Far below the session's deadline for an answer.
const SIZE_TIMEOUT: &str = "5s";

/// The server and the database.
#[derive(Clone, Debug, Deserialize)]
pub struct Facts {
    /// Such as `15.18 (Debian 15.18-0+deb12u1)`.
    pub server_version: String,
    /// The database's name.
    pub database: String,
    /// Its bytes, in hexadecimal: the server converts a name from the database's encoding, which need not be the name's.
    database_bytes: String,
    /// The current role.
    pub user: String,
    /// `pg_database_size`, or the size in the catalog if that takes too long; 0 if neither is known. Not a bound on the dump.
    #[serde(skip)]
    pub size_bytes: u64,
    /// Such as `UTF8`.
    pub encoding: String,
    /// `datcollate`
    pub collation: Option<String>,
    /// `datctype`
    pub ctype: Option<String>,
    /// `datlocprovider`, from PostgreSQL 15 on.
    pub locale_provider: Option<String>,
    /// The locale of a provider other than libc.
    pub locale: Option<String>,
    /// `daticurules`, from PostgreSQL 16 on.
    pub icu_rules: Option<String>,
    /// Whether the server is a standby.
    pub in_recovery: bool,
    /// Where the session is, and `pg_dump` connects.
    #[serde(skip)]
    pub place: Place,
    /// `pg_control_system()`: constant for a server and its standbys.
    #[serde(skip)]
    pub system_identifier: Option<String>,
}

impl Facts {
    /// Asks the server.
    ///
    /// # Errors
    /// If the session is lost, or the answer cannot be read.
    pub async fn ask(session: &mut Session) -> Result<Self, PostgresError> {
        let answer = session.query(&question()).await?;
        let line = answer.first().map(String::as_str).unwrap_or_default();
        let mut facts: Self = serde_json::from_str(line).map_err(PostgresError::Answer)?;
        let bytes = hex::decode(&facts.database_bytes).unwrap_or_default();
        facts.database = String::from_utf8(bytes).ok().filter(|name| !name.is_empty()).unwrap_or(facts.database);
        facts.system_identifier = session.query_if_allowed(SYSTEM_IDENTIFIER).await?.pop();
        facts.size_bytes = size(session).await?.unwrap_or_default();
        facts.place = session.place().clone();
        Ok(facts)
    }

    /// The server's version.
    #[must_use]
    pub fn version(&self) -> Version {
        Version::of_server(&self.server_version)
    }
}

/// Never fails a backup: it is only an estimate.
async fn size(session: &mut Session) -> Result<Option<u64>, PostgresError> {
    session.query(&format!("SET LOCAL statement_timeout = '{SIZE_TIMEOUT}'")).await?;
    let mut size = None;
    for question in [SIZE, SIZE_BY_CATALOG] {
        let answer = session.query_if_allowed(question).await?;
        size = answer.first().and_then(|line| line.parse().ok());
        if size.is_some() {
            break;
        }
        tracing::info!("the server does not report the database's size in time: it is estimated");
    }
    session.query("SET LOCAL statement_timeout = 0").await?;
    Ok(size)
}
