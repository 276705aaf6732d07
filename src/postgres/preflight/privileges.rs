//! Finds what the role may not read or dump.

use super::{Answer, Found, PreflightIssue, Severity, Subject, ask, objects, relations};
use crate::postgres::PostgresError;
use crate::postgres::questions::Questions;
use crate::sql::quoted_name;

/// Since this version, `pg_dump` reads sequences with `pg_get_sequence_data`, which needs no right on the schema.
const SEQUENCES_BY_FUNCTION: u32 = 18;
/// The first version with the role `pg_read_all_data`.
const READ_ALL_DATA: u32 = 14;

/// The role that reads: the one of `--role`, or the login role.
struct Reader {
    /// Its quoted name.
    name: String,
    /// The server's major version.
    major: u32,
}

/// A kind of object that a role may not be able to dump.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tables,
    Sequences,
    Rows,
    LargeObjects,
    /// The catalog of subscriptions, which some managed services deny.
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
                // Not `has_sequence_privilege`: it fails for a table, if evaluated before `relkind`.
                relations(&format!(
                    "c.relkind = 'S' AND NOT (pg_catalog.has_table_privilege(c.oid, 'SELECT') AND {usage})"
                ))
            }
            // The partitions of a partitioned table are read, each with its own policies.
            Self::Rows => relations("c.relkind = 'r' AND pg_catalog.row_security_active(c.oid)"),
            Self::LargeObjects => objects("m.oid::pg_catalog.text", LARGE_OBJECTS),
            Self::SubscriptionCatalog => objects("'pg_subscription'::pg_catalog.text", SUBSCRIPTION_CATALOG),
            Self::Subscriptions => objects("pg_catalog.quote_ident(s.subname)", SUBSCRIPTIONS),
            Self::UserMappings => objects("pg_catalog.format('%s at %I', m.usename, m.srvname)", USER_MAPPINGS),
        }
    }

    fn is_of_subscriptions(self) -> bool {
        matches!(self, Self::SubscriptionCatalog | Self::Subscriptions)
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
            // `pg_dump` warns of it, too, and the manifest has its warnings.
            Self::Subscriptions => (
                Severity::Degraded,
                format!("pg_dump leaves out {}: only a superuser may dump them", found.words(self.words())),
                "back up as a superuser, or add --no-subscriptions to PG_DUMP_ARGS and create them again after a restore"
                    .to_owned(),
            ),
            Self::UserMappings => (
                Severity::LeavesOut,
                format!(
                    "the dump has no options (passwords) of {}: this role may not see them",
                    found.words(self.words())
                ),
                "back up as a superuser, or set the options again after a restore (ALTER USER MAPPING)".to_owned(),
            ),
        };
        PreflightIssue { severity, text, hint }
    }
}

/// Large objects that this role may not read. `has_largeobject_privilege` needs PostgreSQL 18.
const LARGE_OBJECTS: &str = "pg_catalog.pg_largeobject_metadata m \
WHERE pg_catalog.current_setting('lo_compat_privileges') = 'off' \
AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) \
AND NOT pg_catalog.pg_has_role(m.lomowner, 'USAGE') AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(m.lomacl) a \
WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))";

/// `pg_dump` counts subscriptions as any role.
const SUBSCRIPTION_CATALOG: &str = "pg_catalog.pg_class c WHERE c.oid = 'pg_catalog.pg_subscription'::pg_catalog.regclass \
AND NOT pg_catalog.has_column_privilege(c.oid, 'subdbid', 'SELECT')";

/// `pg_dump` asks for this setting, which `SET ROLE` changes.
const SUBSCRIPTIONS: &str = "pg_catalog.pg_subscription s WHERE pg_catalog.current_setting('is_superuser') = 'off' \
AND s.subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())";

/// User mappings with options that the view may hide from this role, by the view's own condition.
const USER_MAPPINGS: &str = "pg_catalog.pg_user_mappings m JOIN pg_catalog.pg_foreign_server s ON s.oid = m.srvid \
WHERE m.umoptions IS NULL AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) \
AND NOT (pg_catalog.pg_has_role(s.srvowner, 'USAGE') AND m.umuser = 0 OR m.usename = current_user \
AND (pg_catalog.pg_has_role(s.srvowner, 'USAGE') OR pg_catalog.has_server_privilege(s.oid, 'USAGE')))";

impl Reader {
    fn of(subject: Subject<'_>) -> Self {
        let name = quoted_name(subject.arguments.role().unwrap_or(&subject.facts.user));
        Self { name, major: subject.facts.version().major }
    }
}

/// The questions of [`issues`].
pub(super) fn questions(subject: Subject<'_>) -> Vec<String> {
    let (reader, asks_subscriptions) = (Reader::of(subject), subject.arguments.has_subscriptions());
    let kinds = Kind::ALL.into_iter().filter(|kind| asks_subscriptions || !kind.is_of_subscriptions());
    kinds.map(|kind| kind.question(&reader)).collect()
}

pub(super) async fn issues(
    questions: &mut Questions<'_>,
    subject: Subject<'_>,
) -> Result<Vec<PreflightIssue>, PostgresError> {
    let reader = Reader::of(subject);
    let (mut issues, mut asks_subscriptions) = (Vec::new(), subject.arguments.has_subscriptions());
    for kind in Kind::ALL {
        if !asks_subscriptions && kind.is_of_subscriptions() {
            continue;
        }
        match ask(questions, &kind.question(&reader)).await? {
            Answer::Nothing => {}
            Answer::Found(found) => {
                asks_subscriptions &= kind != Kind::SubscriptionCatalog;
                issues.push(kind.issue(&found, &reader));
            }
            Answer::Refused => issues.push(PreflightIssue {
                severity: Severity::Unknown,
                text: format!("the server does not report whether this role may read all {}", kind.words()),
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

/// `pg_read_all_data` does not include large objects.
fn grant_large_objects(found: &Found, reader: &Reader) -> String {
    let name = &reader.name;
    if found.count <= 5 {
        let numbers = found.examples.clone().unwrap_or_default().join(", ");
        return format!("GRANT SELECT ON LARGE OBJECT {numbers} TO {name}");
    }
    // One statement per OID; `\gexec` runs them.
    let name = name.replace('\'', "''").replace('%', "%%");
    format!(
        "SELECT format('GRANT SELECT ON LARGE OBJECT %s TO {name}', oid) FROM pg_largeobject_metadata \\gexec (in psql)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_needs_no_right_on_its_schema_since_18() {
        let asks_for_schema = |major| {
            let reader = Reader { name: String::new(), major };
            Kind::Sequences.question(&reader).contains("has_schema_privilege")
        };
        assert!(asks_for_schema(17) && !asks_for_schema(18));
    }
}
