//! What the control session finds out about the server and the database before the dump.
//!
//! Asked once by `backup`; recorded in the manifest and the start-up line.

use serde::Deserialize;

use super::{PostgresError, Session, Version};

/// One line of JSON; `:'HOST'` and `:'PORT'` are psql's, the host really chosen among several. Columns that older servers
/// do not have are asked of the row as JSON, where they are absent.
const QUESTION: &str = "\
SELECT json_build_object('server_version', current_setting('server_version'), 'database', current_database(), \
'user', current_user, 'size_bytes', pg_database_size(oid), 'encoding', pg_encoding_to_char(encoding), \
'collation', datcollate, 'character_type', datctype, 'locale_provider', to_jsonb(d) ->> 'datlocprovider', \
'locale', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'), 'icu_rules', to_jsonb(d) ->> 'daticurules', 'in_recovery', pg_is_in_recovery(), \
'host', :'HOST', 'port', :'PORT') FROM pg_database d WHERE datname = current_database()";
/// Some hosted servers do not let everybody ask.
const SYSTEM_IDENTIFIER: &str = "SELECT system_identifier FROM pg_control_system()";

/// The server and the database.
#[derive(Clone, Debug, Deserialize)]
pub struct Facts {
    /// Such as `15.18 (Debian 15.18-0+deb12u1)`.
    pub server_version: String,
    /// The database's name.
    pub database: String,
    /// The role that was connected as.
    pub user: String,
    /// `pg_database_size`: an estimate of the dump's size, not a bound.
    pub size_bytes: u64,
    /// Such as `UTF8`.
    pub encoding: String,
    /// `datcollate`
    pub collation: Option<String>,
    /// `datctype`
    pub character_type: Option<String>,
    /// `datlocprovider`, from PostgreSQL 15 on.
    pub locale_provider: Option<String>,
    /// The locale of a provider other than libc.
    pub locale: Option<String>,
    /// `daticurules`, from PostgreSQL 16 on.
    pub icu_rules: Option<String>,
    /// Whether the server is a standby.
    pub in_recovery: bool,
    /// The host really chosen, or the socket's directory.
    pub host: String,
    /// Its port.
    pub port: String,
    /// `pg_control_system()`: the same for a server's whole life and for its standbys.
    #[serde(skip)]
    pub system_identifier: Option<String>,
}

impl Facts {
    /// Asks the server.
    ///
    /// # Errors
    /// Where the session is lost, or the answer is not what was asked for.
    pub async fn ask(session: &mut Session) -> Result<Self, PostgresError> {
        let answer = session.query(QUESTION).await?;
        let line = answer.first().map(String::as_str).unwrap_or_default();
        let mut facts: Self = serde_json::from_str(line).map_err(PostgresError::Answer)?;
        facts.system_identifier = session.query_if_allowed(SYSTEM_IDENTIFIER).await?.pop();
        Ok(facts)
    }

    /// The server's version.
    #[must_use]
    pub fn version(&self) -> Version {
        Version::parse(&self.server_version).unwrap_or(Version { major: 0, text: self.server_version.clone() })
    }
}
