//! Rows that would not find their partition in a restore. A dump loads each partition by itself; where the hash or the order
//! of a key is another in the restored database, its rows belong to another partition, and the restore fails on them.
//!
//! The hash of an enum's label is that of its number, which a restore does not keep; so is that of `regclass` and its kind.
//! From version 16 on `pg_dump` sees keys that are enums themselves, but does not look into composite types, arrays and ranges.

use super::{Answer, PreflightIssue, Severity, Subject, ask};
use crate::postgres::{PostgresError, Session};

/// From here on `pg_dump` loads tables by their root whose key is an enum.
const SEES_ENUMS: u32 = 16;

const HINT: &str = "add --load-via-partition-root to PG_DUMP_ARGS";

/// Columns of partition keys with their type, that of the operator class where the key is an expression.
const KEYS: &str = "SELECT c.oid AS relid, n.nspname, c.relname, p.partstrat, o.oid AS class, o.opcname, \
coalesce(a.atttypid, CASE WHEN o.opcintype = 'pg_catalog.anyenum'::pg_catalog.regtype THEN o.opcintype END) AS typid, \
p.partcollation[k.i] AS coll FROM pg_catalog.pg_partitioned_table p \
JOIN pg_catalog.pg_class c ON c.oid = p.partrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
CROSS JOIN LATERAL pg_catalog.generate_series(0, p.partnatts - 1) AS k (i) \
JOIN pg_catalog.pg_opclass o ON o.oid = p.partclass[k.i] \
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[k.i] AND a.attnum > 0";

/// What a type is made of: of a domain its base, of an array its elements, of a range its bounds, of a composite its columns.
const PARTS: &str = "SELECT t.typbasetype AS typid WHERE t.typtype = 'd' \
UNION ALL SELECT t.typelem WHERE t.typcategory = 'A' AND t.typelem <> 0 \
UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid, \
(pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::pg_catalog.oid) \
UNION ALL SELECT b.atttypid FROM pg_catalog.pg_attribute b WHERE t.typtype = 'c' AND b.attrelid = t.typrelid \
AND b.attnum > 0 AND NOT b.attisdropped";

fn tables(with: &str, condition: &str) -> String {
    format!(
        "WITH RECURSIVE key AS ({KEYS}){with}, \
         found AS (SELECT DISTINCT nspname, relname FROM key WHERE {condition}) \
         SELECT pg_catalog.json_build_object('count', pg_catalog.count(*), 'examples', (pg_catalog.array_agg(\
         pg_catalog.format('%I.%I', nspname, relname) ORDER BY nspname, relname))[1:5]) FROM found"
    )
}

/// Tables by the hash of what holds numbers that a restore does not keep, less those that `pg_dump` sees itself.
fn by_unstable_hash(pg_dump: Option<u32>) -> String {
    let inside = format!(
        ", inside (relid, typid) AS (SELECT relid, typid FROM key WHERE partstrat = 'h' AND typid IS NOT NULL \
         UNION SELECT i.relid, part.typid FROM inside i JOIN pg_catalog.pg_type t ON t.oid = i.typid \
         CROSS JOIN LATERAL ({PARTS}) AS part)"
    );
    let unstable = "relid IN (SELECT i.relid FROM inside i JOIN pg_catalog.pg_type t ON t.oid = i.typid \
                    WHERE t.typtype = 'e' OR t.oid = 'pg_catalog.anyenum'::pg_catalog.regtype \
                    OR t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace AND t.typname LIKE 'reg%')";
    let seen = if pg_dump.is_some_and(|major| major >= SEES_ENUMS) {
        " AND relid NOT IN (SELECT relid FROM key JOIN pg_catalog.pg_opclass o ON o.oid = class \
         WHERE o.opcname = 'enum_ops' AND o.opcnamespace = 'pg_catalog'::pg_catalog.regnamespace)"
    } else {
        ""
    };
    tables(&inside, &format!("{unstable}{seen}"))
}

/// Tables by ranges of text in the order of the C library, which differs between systems and their versions.
fn by_order_of_libc() -> String {
    const BYTEWISE: &str = "('C', 'POSIX', 'C.UTF-8', 'C.utf8')";
    let condition = format!(
        "partstrat = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_collation l WHERE l.oid = key.coll \
         AND (l.collprovider = 'c' AND l.collcollate NOT IN {BYTEWISE} OR l.collprovider = 'd' \
         AND EXISTS (SELECT FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database() \
         AND coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c') = 'c' AND d.datcollate NOT IN {BYTEWISE})))"
    );
    tables("", &condition)
}

/// Rows that no restore would put where they were.
pub(super) async fn issues(session: &mut Session, subject: Subject<'_>) -> Result<Vec<PreflightIssue>, PostgresError> {
    let question = by_unstable_hash(subject.pg_dump);
    Ok(of(session, subject, &question, |tables| {
        format!("rows of {tables} move to other partitions in a restore, which fails: they are hashed by numbers that change")
    })
    .await?
    .into_iter()
    .collect())
}

/// What is worth knowing, but too common to be told in each run.
///
/// # Errors
/// Where the session is lost.
pub async fn advice(session: &mut Session, subject: Subject<'_>) -> Result<Option<PreflightIssue>, PostgresError> {
    of(session, subject, &by_order_of_libc(), |tables| {
        format!(
            "ranges of {tables} follow the C library's order of text: where the system that restores has another, rows belong \
             to other partitions, and the restore fails"
        )
    })
    .await
}

async fn of(
    session: &mut Session,
    subject: Subject<'_>,
    question: &str,
    text: impl Fn(&str) -> String,
) -> Result<Option<PreflightIssue>, PostgresError> {
    if subject.arguments.loads_via_partition_root() {
        return Ok(None);
    }
    Ok(match ask(session, question).await? {
        Answer::Found(found) => {
            let text = text(&found.words("partitioned tables"));
            Some(PreflightIssue { severity: Severity::Degraded, text, hint: HINT.to_owned() })
        }
        // psql has logged why. No more than a suggestion is lost.
        Answer::Nothing | Answer::Refused => None,
    })
}
