//! What the control session finds out about a database that is restored into.
//!
//! Asked once by `restore`, before anything is sent. Judged there: nothing here knows a backup.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Maintenance, PostgresError, Session};

/// Objects with a smaller number come with the server (`FirstNormalObjectId` in PostgreSQL's `transam.h`).
const FIRST_NORMAL_ID: u32 = 16_384;
/// Names of objects that a message shows.
const NAMED: usize = 3;

/// Kinds of objects: what they are called, their catalogue, their name, and which of them count.
const KINDS: &[(&str, &str, &str, &str)] = &[
    (
        "schema",
        "pg_namespace",
        "o.nspname",
        "o.nspname !~ '^pg_' AND o.nspname NOT IN ('public', 'information_schema')",
    ),
    (
        "relation",
        "pg_class",
        "o.oid::pg_catalog.regclass::pg_catalog.text",
        "o.relpersistence <> 't' AND o.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')",
    ),
    ("function", "pg_proc", "o.oid::pg_catalog.regprocedure::pg_catalog.text", "true"),
    ("type", "pg_type", "o.oid::pg_catalog.regtype::pg_catalog.text", "o.typtype IN ('d', 'e', 'r')"),
    ("operator", "pg_operator", "o.oprname", "true"),
    ("cast", "pg_cast", "o.oid::pg_catalog.text", "true"),
    ("collation", "pg_collation", "o.collname", "true"),
    ("conversion", "pg_conversion", "o.conname", "true"),
    ("text search configuration", "pg_ts_config", "o.cfgname", "true"),
    ("text search dictionary", "pg_ts_dict", "o.dictname", "true"),
    ("foreign-data wrapper", "pg_foreign_data_wrapper", "o.fdwname", "true"),
    ("foreign server", "pg_foreign_server", "o.srvname", "true"),
    ("event trigger", "pg_event_trigger", "o.evtname", "true"),
    ("publication", "pg_publication", "o.pubname", "true"),
    ("large object", "pg_largeobject_metadata", "o.oid::pg_catalog.text", "true"),
    ("default privilege", "pg_default_acl", "o.oid::pg_catalog.text", "true"),
];
/// A subscription's number is not for everybody to read before PostgreSQL 14.
const SUBSCRIPTIONS: &str = "SELECT 'subscription' AS kind, s.subname::pg_catalog.text AS name FROM pg_catalog.pg_subscription s \
JOIN pg_catalog.pg_database d ON d.oid = s.subdbid AND d.datname = pg_catalog.current_database()";

const QUESTION: &str = "\
SELECT pg_catalog.json_build_object('database', pg_catalog.current_database(), 'role', current_user, \
'is_superuser', pg_catalog.current_setting('is_superuser') = 'on', 'in_recovery', pg_catalog.pg_is_in_recovery(), \
'encoding', pg_catalog.pg_encoding_to_char((SELECT encoding FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())), \
'locks_each', pg_catalog.current_setting('max_locks_per_transaction')::pg_catalog.int8, 'lock_slots', (SELECT \
pg_catalog.sum(setting::pg_catalog.int8) FROM pg_catalog.pg_settings WHERE name IN ('max_connections', 'max_prepared_transactions', \
'autovacuum_max_workers', 'max_worker_processes', 'max_wal_senders')), \
'settings', (SELECT pg_catalog.json_agg(name) FROM pg_catalog.pg_settings), \
'roles', (SELECT pg_catalog.json_agg(rolname) FROM pg_catalog.pg_roles), \
'tablespaces', (SELECT pg_catalog.json_agg(spcname) FROM pg_catalog.pg_tablespace), \
'extensions', (SELECT coalesce(pg_catalog.json_agg(name), '[]') FROM pg_catalog.pg_available_extensions), \
'foreign_extensions', (SELECT coalesce(pg_catalog.json_agg(extname), '[]') FROM pg_catalog.pg_extension \
WHERE NOT pg_catalog.pg_has_role(extowner, 'USAGE')))";

/// The server and the database that are restored into.
#[derive(Clone, Debug, Deserialize)]
pub struct Target {
    /// The database's name.
    pub database: String,
    /// The role that restores.
    pub role: String,
    /// Whether it is a superuser: then the dump's code is one, too.
    pub is_superuser: bool,
    /// Whether the server is a standby.
    pub in_recovery: bool,
    /// The database's encoding, such as `UTF8`.
    pub encoding: String,
    /// `max_locks_per_transaction`.
    pub locks_each: u64,
    /// The table of locks has `locks_each` for each process and prepared transaction.
    pub lock_slots: u64,
    /// Every setting's name.
    pub settings: BTreeSet<String>,
    /// Every role.
    pub roles: BTreeSet<String>,
    /// Every tablespace.
    pub tablespaces: BTreeSet<String>,
    /// Extensions that can be created, or are.
    pub extensions: BTreeSet<String>,
    /// Extensions of the database that the role does not own.
    pub foreign_extensions: BTreeSet<String>,
}

/// Objects of a database other than those of the system and of extensions.
#[derive(Clone, Debug, Deserialize)]
pub struct Contained {
    /// How many there are.
    pub count: u64,
    /// The first few: `relation public.t`.
    pub first: Vec<String>,
}

impl Target {
    /// Locks that the server's table holds for sure.
    #[must_use]
    pub fn locks(&self) -> u64 {
        self.locks_each * self.lock_slots
    }

    /// Asks the server.
    ///
    /// # Errors
    /// If the session is lost, or the answer is not what was asked for.
    pub async fn ask(session: &mut Session) -> Result<Self, PostgresError> {
        one(session, QUESTION).await
    }

    /// Asks the server in a session outside a transaction.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_outside(server: &mut Maintenance) -> Result<Self, PostgresError> {
        read(&server.run(QUESTION).await?)
    }
}

/// Asks what the session's database holds.
///
/// # Errors
/// If the session is lost, or the answer is not what was asked for.
pub async fn contained(session: &mut Session) -> Result<Contained, PostgresError> {
    let kinds = KINDS.iter().map(|(kind, catalogue, name, which)| {
        format!(
            "SELECT '{kind}' AS kind, ({name})::pg_catalog.text AS name FROM pg_catalog.{catalogue} o WHERE o.oid >= {FIRST_NORMAL_ID} \
             AND {which} AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.deptype = 'e' AND d.objid = o.oid \
             AND d.classid = 'pg_catalog.{catalogue}'::pg_catalog.regclass)"
        )
    });
    let kinds: Vec<String> = kinds.chain([SUBSCRIPTIONS.to_owned()]).collect();
    let question = format!(
        "WITH found AS ({}) SELECT pg_catalog.json_build_object('count', (SELECT pg_catalog.count(*) FROM found), 'first', \
         (SELECT coalesce(pg_catalog.json_agg(pg_catalog.concat(f.kind, ' ', f.name)), '[]') FROM (SELECT * FROM found LIMIT {NAMED}) f))",
        kinds.join(" UNION ALL ")
    );
    one(session, &question).await
}

async fn one<T: DeserializeOwned>(session: &mut Session, question: &str) -> Result<T, PostgresError> {
    read(&session.query(question).await?)
}

fn read<T: DeserializeOwned>(answer: &[String]) -> Result<T, PostgresError> {
    serde_json::from_str(answer.first().map(String::as_str).unwrap_or_default()).map_err(PostgresError::Answer)
}
