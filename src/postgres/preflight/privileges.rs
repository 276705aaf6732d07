//! What the role that dumps may not read, or may not dump at all.

use super::{Answer, Found, PreflightIssue, Severity, Subject, ask, objects, relations};
use crate::postgres::{PostgresError, Session};
use crate::sql::quoted_name;

/// From here on a sequence is read by `pg_get_sequence_data`, which asks for no right on the schema.
const SEQUENCES_BY_FUNCTION: u32 = 18;
/// From here on `pg_read_all_data` is there to be granted.
const READ_ALL_DATA: u32 = 14;

/// Who reads the tables: the role that connects, or the one that `--role` names.
struct Reader {
    /// Its name as SQL writes it.
    name: String,
    /// The server's major version.
    major: u32,
}

/// What a role may be kept from dumping.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tables,
    Sequences,
    Rows,
    LargeObjects,
    /// The catalog of subscriptions, which some managed services close.
    SubscriptionCatalog,
    Subscriptions,
    UserMappings,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Tables,
        Self::Sequences,
        Self::Rows,
        Self::LargeObjects,
        Self::SubscriptionCatalog,
        Self::Subscriptions,
        Self::UserMappings,
    ];

    fn question(self, reader: &Reader) -> String {
        const USAGE: &str = "pg_catalog.has_schema_privilege(n.oid, 'USAGE')";
        match self {
            Self::Tables => relations(&format!(
                "c.relkind IN ('r', 'p') AND NOT (pg_catalog.has_table_privilege(c.oid, 'SELECT') AND {USAGE})"
            )),
            Self::Sequences => {
                let usage = if reader.major < SEQUENCES_BY_FUNCTION { USAGE } else { "true" };
                // Not `has_sequence_privilege`, which fails on a table that is looked at before its kind.
                relations(&format!(
                    "c.relkind = 'S' AND NOT (pg_catalog.has_table_privilege(c.oid, 'SELECT') AND {usage})"
                ))
            }
            // Of a partitioned table the partitions are read, each under its own policies.
            Self::Rows => relations("c.relkind = 'r' AND pg_catalog.row_security_active(c.oid)"),
            Self::LargeObjects => objects("m.oid::pg_catalog.text", LARGE_OBJECTS),
            Self::SubscriptionCatalog => objects("'pg_subscription'::pg_catalog.text", SUBSCRIPTION_CATALOG),
            Self::Subscriptions => objects("pg_catalog.quote_ident(s.subname)", SUBSCRIPTIONS),
            Self::UserMappings => objects("pg_catalog.format('%s at %I', m.usename, m.srvname)", USER_MAPPINGS),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Tables => "tables",
            Self::Sequences => "sequences",
            Self::Rows => "rows under row-level security",
            Self::LargeObjects => "large objects",
            Self::SubscriptionCatalog => "catalogs",
            Self::Subscriptions => "subscriptions",
            Self::UserMappings => "user mappings",
        }
    }

    fn issue(self, found: &Found, reader: &Reader) -> PreflightIssue {
        let Reader { name, .. } = reader;
        let unreadable = || format!("this role may not read {}", found.words(self.words()));
        let (severity, text, hint) = match self {
            Self::Tables => (Severity::Fatal, unreadable(), grant("TABLES", found, reader)),
            Self::Sequences => (Severity::Fatal, unreadable(), grant("SEQUENCES", found, reader)),
            Self::Rows => (
                Severity::Fatal,
                format!("row-level security would hide rows of {}: pg_dump refuses them", found.words("tables")),
                format!("ALTER ROLE {name} BYPASSRLS"),
            ),
            Self::LargeObjects => (Severity::Fatal, unreadable(), grant_large_objects(found, reader)),
            Self::SubscriptionCatalog => {
                (Severity::Fatal, unreadable(), "add --no-subscriptions to PG_DUMP_ARGS".to_owned())
            }
            // `pg_dump` says so too, and what it warns of is in the manifest.
            Self::Subscriptions => (
                Severity::Degraded,
                format!("pg_dump leaves out {}: only a superuser may dump them", found.words(self.words())),
                "back up as a superuser, or add --no-subscriptions to PG_DUMP_ARGS and make them anew after a restore"
                    .to_owned(),
            ),
            Self::UserMappings => (
                Severity::LeavesOut,
                format!(
                    "the dump has no options (passwords) of {}: this role may not see them",
                    found.words(self.words())
                ),
                "back up as a superuser, or give the options anew after a restore (ALTER USER MAPPING)".to_owned(),
            ),
        };
        PreflightIssue { severity, text, hint }
    }
}

/// Large objects that this role does not own, is not granted, and may not read as a superuser. `has_largeobject_privilege`
/// came with PostgreSQL 18 only.
const LARGE_OBJECTS: &str = "pg_catalog.pg_largeobject_metadata m \
WHERE pg_catalog.current_setting('lo_compat_privileges') = 'off' \
AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) \
AND NOT pg_catalog.pg_has_role(m.lomowner, 'USAGE') AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(m.lomacl) a \
WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))";

/// `pg_dump` counts subscriptions, whoever it is run by.
const SUBSCRIPTION_CATALOG: &str = "pg_catalog.pg_class c WHERE c.oid = 'pg_catalog.pg_subscription'::pg_catalog.regclass \
AND NOT pg_catalog.has_column_privilege(c.oid, 'subdbid', 'SELECT')";

/// As `pg_dump` asks: by the setting, which `SET ROLE` changes.
const SUBSCRIPTIONS: &str = "pg_catalog.pg_subscription s WHERE pg_catalog.current_setting('is_superuser') = 'off' \
AND s.subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())";

/// Those whose options the view hides from this role, by the view's own condition; there may be none to hide.
const USER_MAPPINGS: &str = "pg_catalog.pg_user_mappings m JOIN pg_catalog.pg_foreign_server s ON s.oid = m.srvid \
WHERE m.umoptions IS NULL AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) \
AND NOT (pg_catalog.pg_has_role(s.srvowner, 'USAGE') AND m.umuser = 0 OR m.usename = current_user \
AND (pg_catalog.pg_has_role(s.srvowner, 'USAGE') OR pg_catalog.has_server_privilege(s.oid, 'USAGE')))";

/// What this role may not read or dump.
pub(super) async fn issues(session: &mut Session, subject: Subject<'_>) -> Result<Vec<PreflightIssue>, PostgresError> {
    let name = quoted_name(subject.arguments.role().unwrap_or(&subject.facts.user));
    let reader = Reader { name, major: subject.facts.version().major };
    let (mut issues, mut asks_subscriptions) = (Vec::new(), subject.arguments.has_subscriptions());
    for kind in Kind::ALL {
        if !asks_subscriptions && matches!(kind, Kind::SubscriptionCatalog | Kind::Subscriptions) {
            continue;
        }
        match ask(session, &kind.question(&reader)).await? {
            Answer::Nothing => {}
            Answer::Found(found) => {
                asks_subscriptions &= kind != Kind::SubscriptionCatalog;
                issues.push(kind.issue(&found, &reader));
            }
            Answer::Refused => issues.push(PreflightIssue {
                severity: Severity::Unknown,
                text: format!("the server does not say anything about {} that this role may not read", kind.words()),
                hint: "look at the messages of psql in the log".to_owned(),
            }),
        }
    }
    Ok(issues)
}

/// The statements that let the reader read relations.
fn grant(kind: &str, found: &Found, reader: &Reader) -> String {
    let name = &reader.name;
    if reader.major >= READ_ALL_DATA {
        return format!("GRANT pg_read_all_data TO {name}");
    }
    let schemas = found.schemas.clone().unwrap_or_default().join(", ");
    format!("GRANT USAGE ON SCHEMA {schemas} TO {name}; GRANT SELECT ON ALL {kind} IN SCHEMA {schemas} TO {name}")
}

/// `pg_read_all_data` does not hold for large objects.
fn grant_large_objects(found: &Found, reader: &Reader) -> String {
    let name = &reader.name;
    if found.count <= 5 {
        let numbers = found.examples.clone().unwrap_or_default().join(", ");
        return format!("GRANT SELECT ON LARGE OBJECT {numbers} TO {name}");
    }
    // Each by its number; psql runs what the query gives.
    let name = name.replace('\'', "''").replace('%', "%%");
    format!(
        "SELECT format('GRANT SELECT ON LARGE OBJECT %s TO {name}', oid) FROM pg_largeobject_metadata \\gexec (in psql)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_postgresql_18_on_a_sequence_needs_no_right_on_its_schema() {
        let asks_for_schema = |major| {
            let reader = Reader { name: String::new(), major };
            Kind::Sequences.question(&reader).contains("has_schema_privilege")
        };
        assert!(asks_for_schema(17) && !asks_for_schema(18));
    }
}
