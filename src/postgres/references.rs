//! The extensions, roles and tablespaces that a restore of the dump needs. `backup` reads them from the catalogs before the
//! dump, for the manifest. One query serves PostgreSQL 13 to 18.

use serde::{Deserialize, Serialize};

use super::{DumpArguments, PostgresError, Session};

/// Catalogs of millions of objects must not delay the backup.
const QUESTION_TIMEOUT: &str = "10s";

/// An extension that the dump creates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// The installed version; a restore installs the default version of its server.
    pub version: String,
    /// The schema of its objects.
    pub schema: String,
}

/// What the dump refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct References {
    /// Extensions, without those of every database.
    pub extensions: Vec<Extension>,
    /// Roles in owners, grants, policies, default privileges and user mappings.
    pub roles: Vec<String>,
    /// Tablespaces of tables and indexes, without the database's default.
    pub tablespaces: Vec<String>,
    /// TOAST tables of the entire database.
    #[serde(default)]
    pub toast_tables: u64,
    /// Invalid partitioned indexes of the entire database. A dump does not say that they are invalid.
    #[serde(default)]
    pub invalid_indexes: Option<u64>,
}

impl References {
    /// Asks the server; `None` if it refuses. For a *partial* dump they are those of the entire database.
    ///
    /// # Errors
    /// If the session is lost.
    pub async fn ask(session: &mut Session, arguments: &DumpArguments) -> Result<Option<Self>, PostgresError> {
        session.query(&format!("SET statement_timeout = '{QUESTION_TIMEOUT}'")).await?;
        let answer = session.query_if_allowed(&question(arguments)).await?;
        session.query("SET statement_timeout = 0").await?;
        Ok(answer.first().and_then(|line| serde_json::from_str(line).ok()))
    }
}

/// Objects with lower OIDs come with the server (`FirstNormalObjectId`), and `pg_dump` skips them.
const FIRST_OWN: &str = "16384";
/// `pg_database_owner`, which owns the schema `public` since 15. The dump omits this owner.
const DATABASE_OWNER: &str = "6171";

/// The catalogs of objects with an owner, and their columns of owner, grants and schema.
const OWNABLE: &[(&str, &str, &str, &str)] = &[
    ("pg_class", "relowner", "relacl", "relnamespace"),
    ("pg_proc", "proowner", "proacl", "pronamespace"),
    ("pg_type", "typowner", "typacl", "typnamespace"),
    ("pg_operator", "oprowner", "NULL", "oprnamespace"),
    ("pg_opclass", "opcowner", "NULL", "opcnamespace"),
    ("pg_opfamily", "opfowner", "NULL", "opfnamespace"),
    ("pg_collation", "collowner", "NULL", "collnamespace"),
    ("pg_conversion", "conowner", "NULL", "connamespace"),
    ("pg_statistic_ext", "stxowner", "NULL", "stxnamespace"),
    ("pg_ts_config", "cfgowner", "NULL", "cfgnamespace"),
    ("pg_ts_dict", "dictowner", "NULL", "dictnamespace"),
    ("pg_language", "lanowner", "lanacl", ""),
    ("pg_foreign_data_wrapper", "fdwowner", "fdwacl", ""),
    ("pg_foreign_server", "srvowner", "srvacl", ""),
    ("pg_event_trigger", "evtowner", "NULL", ""),
    ("pg_publication", "pubowner", "NULL", ""),
    ("pg_largeobject_metadata", "lomowner", "lomacl", ""),
];

/// One line of JSON. `pg_shdepend` is no alternative: it omits the bootstrap superuser and predefined roles.
fn question(arguments: &DumpArguments) -> String {
    let (owners, privileges) = (arguments.has_owners(), arguments.has_privileges());
    let objects = OWNABLE.iter().fold(String::new(), |text, catalog| text + " UNION ALL " + &objects_of(catalog));
    format!(
        "WITH own AS (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'), \
         member AS (SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e'), \
         object (class, id, owner, acl) AS (\
         SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass::pg_catalog.oid, oid, nspowner, nspacl \
         FROM pg_catalog.pg_namespace WHERE oid IN (SELECT oid FROM own) \
         {}{objects}), \
         role (id) AS ({} UNION ALL {}) \
         SELECT pg_catalog.json_build_object('extensions', {EXTENSIONS}, 'roles', \
         (SELECT coalesce(pg_catalog.json_agg(rolname ORDER BY rolname), '[]') FROM pg_catalog.pg_roles WHERE oid IN (SELECT id FROM role)), \
         'tablespaces', {}, 'toast_tables', {TOAST_TABLES}, 'invalid_indexes', {INVALID_INDEXES})",
        if arguments.has_subscriptions() { SUBSCRIPTIONS } else { "" },
        owners_and_others(owners, privileges),
        grants(privileges),
        if arguments.has_tablespaces() { TABLESPACES } else { "'[]'::pg_catalog.json" }
    )
}

/// Some managed services deny these.
const SUBSCRIPTIONS: &str = "\
UNION ALL SELECT 'pg_catalog.pg_subscription'::pg_catalog.regclass::pg_catalog.oid, 16384, subowner, NULL \
FROM pg_catalog.pg_subscription \
WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())";

const EXTENSIONS: &str = "\
(SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('name', extname, 'version', extversion, \
'schema', nspname) ORDER BY extname), '[]') FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = extnamespace WHERE e.oid >= 16384)";

const TOAST_TABLES: &str = "(SELECT pg_catalog.count(*) FROM pg_catalog.pg_class WHERE relkind = 't' AND oid >= 16384)";

const INVALID_INDEXES: &str = "(SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid \
WHERE c.relkind = 'I' AND NOT i.indisvalid)";

const TABLESPACES: &str = "\
(SELECT coalesce(pg_catalog.json_agg(spcname ORDER BY spcname), '[]') FROM pg_catalog.pg_tablespace WHERE oid IN (SELECT reltablespace \
FROM pg_catalog.pg_class WHERE reltablespace <> 0 AND relnamespace IN (SELECT oid FROM own)))";

fn objects_of((catalog, owner, acl, schema): &(&str, &str, &str, &str)) -> String {
    let placed = if schema.is_empty() { String::new() } else { format!(" AND {schema} IN (SELECT oid FROM own)") };
    // An index belongs to its table.
    let kinds = if *catalog == "pg_class" { " AND relkind NOT IN ('i', 'I')" } else { "" };
    format!(
        "SELECT 'pg_catalog.{catalog}'::pg_catalog.regclass::pg_catalog.oid, oid, {owner}, {acl} \
         FROM pg_catalog.{catalog} WHERE oid >= {FIRST_OWN}{placed}{kinds}"
    )
}

/// `OWNER TO`, policies and user mappings. Without owners, the dump still names the owner of an object with changed
/// privileges.
fn owners_and_others(owners: bool, privileges: bool) -> String {
    format!(
        "SELECT owner FROM object WHERE ({owners} OR {privileges} AND acl IS NOT NULL) \
         AND NOT (class = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND owner = {DATABASE_OWNER}) \
         AND NOT EXISTS (SELECT FROM member WHERE classid = class AND objid = object.id) \
         UNION ALL SELECT pg_catalog.unnest(polroles) FROM pg_catalog.pg_policy \
         UNION ALL SELECT umuser FROM pg_catalog.pg_user_mappings"
    )
}

/// `GRANT`, `REVOKE` and default privileges, without the initial privileges of an object or extension. Omits the owner.
fn grants(wanted: bool) -> String {
    format!(
        "SELECT id FROM (SELECT o.owner, pg_catalog.unnest(ARRAY[a.grantee, a.grantor]) AS id FROM object o \
         LEFT JOIN pg_catalog.pg_init_privs i ON i.classoid = o.class AND i.objoid = o.id AND i.objsubid = 0, pg_catalog.aclexplode(o.acl) a \
         WHERE o.acl IS DISTINCT FROM i.initprivs \
         UNION ALL SELECT relowner, pg_catalog.unnest(ARRAY[a.grantee, a.grantor]) FROM pg_catalog.pg_attribute \
         JOIN pg_catalog.pg_class c ON c.oid = attrelid AND relnamespace IN (SELECT oid FROM own), pg_catalog.aclexplode(attacl) a \
         UNION ALL SELECT 0, pg_catalog.unnest(ARRAY[defaclrole, a.grantee]) FROM pg_catalog.pg_default_acl, pg_catalog.aclexplode(defaclacl) a \
         UNION ALL SELECT 0, defaclrole FROM pg_catalog.pg_default_acl \
         UNION ALL SELECT 0, refobjid FROM pg_catalog.pg_shdepend WHERE dbid = (SELECT oid FROM pg_catalog.pg_database \
         WHERE datname = pg_catalog.current_database()) AND refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND deptype = 'a' \
         AND objid < {FIRST_OWN}) AS granted WHERE {wanted} AND id <> owner"
    )
}
