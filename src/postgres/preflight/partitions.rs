//! Finds rows that a restore cannot put into their partition. A dump loads each partition separately; if a key has another hash or
//! order in the restored database, its rows belong to another partition, and the restore fails.
//!
//! The hash of an enum label or a `regclass` depends on an OID, which a restore does not keep. Since 16, `pg_dump` recognises enum
//! keys, but not enums in composite types, arrays and ranges.

use super::{Answer, PreflightIssue, Severity, Subject, ask};
use crate::postgres::questions::Questions;
use crate::postgres::{PostgresError, Session};

/// Since this version, `pg_dump` loads tables with enum keys through their root.
const RECOGNISES_ENUMS: u32 = 16;

const HINT: &str = "add --load-via-partition-root to PG_DUMP_ARGS";

/// Columns of partition keys with their type; for an expression, the type of the operator class.
const KEYS: &str = "SELECT c.oid AS relid, n.nspname, c.relname, p.partstrat, o.oid AS class, o.opcname, \
coalesce(a.atttypid, CASE WHEN o.opcintype = 'pg_catalog.anyenum'::pg_catalog.regtype THEN o.opcintype END) AS typid, \
p.partcollation[k.i] AS coll FROM pg_catalog.pg_partitioned_table p \
JOIN pg_catalog.pg_class c ON c.oid = p.partrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
CROSS JOIN LATERAL pg_catalog.generate_series(0, p.partnatts - 1) AS k (i) \
JOIN pg_catalog.pg_opclass o ON o.oid = p.partclass[k.i] \
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[k.i] AND a.attnum > 0";

/// The types in a type: a domain's base, an array's elements, a range's bounds, a composite's columns.
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

/// Tables with a hash that depends on OIDs, without those that `pg_dump` recognises.
fn by_unstable_hash(pg_dump: Option<u32>) -> String {
    let inside = format!(
        ", inside (relid, typid) AS (SELECT relid, typid FROM key WHERE partstrat = 'h' AND typid IS NOT NULL \
         UNION SELECT i.relid, part.typid FROM inside i JOIN pg_catalog.pg_type t ON t.oid = i.typid \
         CROSS JOIN LATERAL ({PARTS}) AS part)"
    );
    let unstable = "relid IN (SELECT i.relid FROM inside i JOIN pg_catalog.pg_type t ON t.oid = i.typid \
                    WHERE t.typtype = 'e' OR t.oid = 'pg_catalog.anyenum'::pg_catalog.regtype \
                    OR t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace AND t.typname LIKE 'reg%')";
    let seen = if pg_dump.is_some_and(|major| major >= RECOGNISES_ENUMS) {
        " AND relid NOT IN (SELECT relid FROM key JOIN pg_catalog.pg_opclass o ON o.oid = class \
         WHERE o.opcname = 'enum_ops' AND o.opcnamespace = 'pg_catalog'::pg_catalog.regnamespace)"
    } else {
        ""
    };
    tables(&inside, &format!("{unstable}{seen}"))
}

/// Tables with ranges of text in the C library's order, which differs between systems and versions.
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

/// Whether a table is partitioned by hash: few databases need the other question, which is expensive.
pub(super) fn by_hash() -> String {
    "SELECT pg_catalog.to_json(EXISTS (SELECT FROM pg_catalog.pg_partitioned_table WHERE partstrat = 'h'))".to_owned()
}

pub(super) async fn issues(
    questions: &mut Questions<'_>,
    subject: Subject<'_>,
) -> Result<Vec<PreflightIssue>, PostgresError> {
    if questions.ask(&by_hash()).await? == Some(false.into()) {
        return Ok(Vec::new());
    }
    let question = by_unstable_hash(subject.pg_dump);
    Ok(of(questions, subject, &question, |tables| {
        format!("a restore fails for rows of {tables}: their hash changes, so that they belong to other partitions")
    })
    .await?
    .into_iter()
    .collect())
}

/// An issue that is too common to be reported by each run.
///
/// # Errors
/// If the session is lost.
pub async fn advice(session: &mut Session, subject: Subject<'_>) -> Result<Option<PreflightIssue>, PostgresError> {
    of(&mut Questions::new(session), subject, &by_order_of_libc(), |tables| {
        format!(
            "ranges of {tables} depend on the C library's order of text: on a system with another order, rows belong to other \
             partitions, and the restore fails"
        )
    })
    .await
}

async fn of(
    questions: &mut Questions<'_>,
    subject: Subject<'_>,
    question: &str,
    text: impl Fn(&str) -> String,
) -> Result<Option<PreflightIssue>, PostgresError> {
    if subject.arguments.loads_via_partition_root() {
        return Ok(None);
    }
    Ok(match ask(questions, question).await? {
        Answer::Found(found) => {
            let text = text(&found.words("partitioned tables"));
            Some(PreflightIssue { severity: Severity::Degraded, text, hint: HINT.to_owned() })
        }
        Answer::Nothing | Answer::Refused => None,
    })
}
