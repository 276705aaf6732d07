//! Whether a database can take what was chosen: asked of the server before anything is sent.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::json;

use crate::postgres::{Maintenance, PostgresError, StatementError};
use crate::printable::enumerated;
use crate::restore::subject::Name;
use crate::sql::{literal, quoted_name};

use super::needs::Need;
use super::plan::{Plan, Surroundings};

/// Objects of one question.
const AT_ONCE: usize = 500;

/// Catalogues of objects with a schema: the catalogue, the schema's column, the name's.
const CATALOGUES: [(&str, &str, &str); 14] = [
    ("pg_class", "relnamespace", "relname"),
    ("pg_type", "typnamespace", "typname"),
    ("pg_proc", "pronamespace", "proname"),
    ("pg_operator", "oprnamespace", "oprname"),
    ("pg_opclass", "opcnamespace", "opcname"),
    ("pg_opfamily", "opfnamespace", "opfname"),
    ("pg_collation", "collnamespace", "collname"),
    ("pg_conversion", "connamespace", "conname"),
    ("pg_ts_config", "cfgnamespace", "cfgname"),
    ("pg_ts_dict", "dictnamespace", "dictname"),
    ("pg_ts_parser", "prsnamespace", "prsname"),
    ("pg_ts_template", "tmplnamespace", "tmplname"),
    ("pg_statistic_ext", "stxnamespace", "stxname"),
    ("pg_constraint", "connamespace", "conname"),
];

/// A foreign key of a table that gets rows.
#[derive(Debug, Deserialize)]
struct ForeignKey {
    table: String,
    name: String,
    definition: String,
    comment: Option<String>,
}

/// Finds the schemas of the plan that exist.
pub(super) async fn existing_schemas(server: &mut Maintenance, plan: &Plan) -> Result<BTreeSet<String>, PostgresError> {
    let wanted = json!(plan.schemas()).to_string();
    let rows = server
        .run(&format!(
            "SELECT pg_catalog.to_json(n.nspname) FROM pg_catalog.pg_namespace n WHERE n.nspname = ANY (SELECT w \
             FROM pg_catalog.json_array_elements_text({}) w)",
            literal(&wanted)
        ))
        .await?;
    rows.iter().map(|line| serde_json::from_str(line).map_err(PostgresError::Answer)).collect()
}

/// The obstacles to creating what was chosen.
pub(super) async fn obstacles_to_definitions(
    server: &mut Maintenance,
    plan: &Plan,
) -> Result<Vec<String>, PostgresError> {
    let mut problems = Vec::new();
    let created: Vec<&Name> = plan.created().into_iter().collect();
    let there = those(server, &created, &CATALOGUES[..1]).await?;
    if !there.is_empty() {
        problems.push(format!(
            "the target has {}: drop or rename what is there, restore into a database without it, or use --create-db",
            enumerated(&there.iter().map(ToString::to_string).collect::<Vec<_>>())
        ));
    }
    problems.extend(missing(server, plan).await?);
    Ok(problems)
}

/// What the plan needs and the target lacks.
async fn missing(server: &mut Maintenance, plan: &Plan) -> Result<Option<String>, PostgresError> {
    let objects: Vec<&Name> = plan.needs.iter().filter_map(|(need, _)| object(need)).collect();
    let there = those(server, &objects, &CATALOGUES).await?;
    let methods = names(server, "SELECT pg_catalog.to_json(amname) FROM pg_catalog.pg_am").await?;
    let servers = names(server, "SELECT pg_catalog.to_json(srvname) FROM pg_catalog.pg_foreign_server").await?;
    let is_missing = |need: &Need| match need {
        Need::Object(name) => !there.contains(name),
        Need::AccessMethod(name) => !methods.contains(name),
        Need::Server(name) => !servers.contains(name),
    };
    let missing: Vec<&(Need, String)> = plan.needs.iter().filter(|(need, _)| is_missing(need)).collect();
    Ok(lacks("the target", &missing))
}

fn object(need: &Need) -> Option<&Name> {
    match need {
        Need::Object(name) => Some(name),
        Need::AccessMethod(_) | Need::Server(_) => None,
    }
}

/// The message for needs that are not met.
pub(super) fn lacks(whom: &str, missing: &[&(Need, String)]) -> Option<String> {
    let (_, first) = missing.first()?;
    let names: Vec<String> = missing.iter().map(|(need, _)| need.shown()).collect();
    Some(format!(
        "{whom} lacks {} (for {first:?}): create what is missing there, or choose it, too, with --table or --schema",
        enumerated(&names)
    ))
}

/// The obstacles to loading rows, and the statements that take foreign keys away and make them again.
pub(super) async fn fit_for_data(
    server: &mut Maintenance,
    plan: &Plan,
) -> Result<(Vec<String>, Surroundings), PostgresError> {
    let loaded: Vec<&Name> = plan.loaded().into_iter().collect();
    let all: Vec<&Name> = plan.loaded().union(&plan.set()).copied().collect();
    let there = those(server, &all, &CATALOGUES[..1]).await?;
    let missing: Vec<String> = all.iter().filter(|name| !there.contains(**name)).map(ToString::to_string).collect();
    if !missing.is_empty() {
        let problem = format!("the target lacks {}: restore them without --data-only", enumerated(&missing));
        return Ok((vec![problem], Surroundings::default()));
    }
    let mut filled = Vec::new();
    for name in &loaded {
        if !is_empty(server, name).await? {
            filled.push(name.to_string());
        }
    }
    let problems = (!filled.is_empty()).then(|| {
        format!(
            "the target has rows in {}: truncate what shall be restored, or restore into another database",
            enumerated(&filled)
        )
    });
    // The key of a partitioned table is that of its partitions, too.
    let tables: BTreeSet<&Name> = plan.choice().relations.iter().chain(loaded).collect();
    let keys = foreign_keys(server, &tables.into_iter().collect::<Vec<_>>()).await?;
    Ok((problems.into_iter().collect(), around(&keys)))
}

fn around(keys: &[ForeignKey]) -> Surroundings {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for ForeignKey { table, name, definition, comment } in keys {
        before.push(format!("ALTER TABLE {table} DROP CONSTRAINT {name};"));
        after.push(format!("ALTER TABLE {table} ADD CONSTRAINT {name} {definition};"));
        after.extend(
            comment.as_ref().map(|text| format!("COMMENT ON CONSTRAINT {name} ON {table} IS {};", literal(text))),
        );
    }
    Surroundings { before, after, ..Surroundings::default() }
}

async fn is_empty(server: &mut Maintenance, name: &Name) -> Result<bool, PostgresError> {
    // Children of an inheritance tree have rows of their own.
    let found = server.run(&format!("SELECT 1 FROM ONLY {} LIMIT 1", quoted(name))).await;
    match found {
        Ok(rows) => Ok(rows.is_empty()),
        // The COPY itself says what it may not do.
        Err(StatementError::Refused { .. }) => Ok(true),
        Err(StatementError::Lost(error)) => Err(error),
    }
}

/// The foreign keys of tables. One that a partition has from its parent goes and comes with the parent's.
async fn foreign_keys(server: &mut Maintenance, tables: &[&Name]) -> Result<Vec<ForeignKey>, PostgresError> {
    let mut keys = Vec::new();
    for some in tables.chunks(AT_ONCE) {
        let rows = server
            .run(&format!(
                "SELECT pg_catalog.json_build_object('table', pg_catalog.format('%I.%I', n.nspname, c.relname), 'name', \
                 pg_catalog.quote_ident(k.conname), 'definition', pg_catalog.pg_get_constraintdef(k.oid), 'comment', \
                 pg_catalog.obj_description(k.oid, 'pg_constraint')) FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c \
                 ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN {} ON w.s = n.nspname \
                 AND w.n = c.relname WHERE k.contype = 'f' AND k.conparentid = 0 ORDER BY k.oid",
                wanted(some)
            ))
            .await?;
        for line in rows {
            keys.push(serde_json::from_str(&line).map_err(PostgresError::Answer)?);
        }
    }
    Ok(keys)
}

/// Those of the names that are in one of the catalogues.
async fn those(
    server: &mut Maintenance,
    names: &[&Name],
    catalogues: &[(&str, &str, &str)],
) -> Result<BTreeSet<Name>, PostgresError> {
    let mut found = BTreeSet::new();
    for some in names.chunks(AT_ONCE) {
        let each = catalogues.iter().map(|(catalogue, schema, name)| {
            format!("SELECT 1 FROM pg_catalog.{catalogue} o WHERE o.{schema} = n.oid AND o.{name} = w.n")
        });
        let rows = server
            .run(&format!(
                "SELECT pg_catalog.json_build_array(w.s, w.n) FROM {} JOIN pg_catalog.pg_namespace n ON n.nspname = w.s WHERE EXISTS ({})",
                wanted(some),
                each.collect::<Vec<_>>().join(" UNION ALL ")
            ))
            .await?;
        for line in rows {
            let (schema, name) = serde_json::from_str(&line).map_err(PostgresError::Answer)?;
            found.insert(Name { schema, name });
        }
    }
    Ok(found)
}

/// The names as a table `w` with the columns `s` and `n`, on one line.
fn wanted(names: &[&Name]) -> String {
    let pairs: Vec<_> = names.iter().map(|name| json!({"s": name.schema, "n": name.name})).collect();
    format!("pg_catalog.json_to_recordset({}) AS w(s text, n text)", literal(&json!(pairs).to_string()))
}

async fn names(server: &mut Maintenance, question: &str) -> Result<BTreeSet<String>, PostgresError> {
    let rows = server.run(question).await?;
    rows.iter().map(|line| serde_json::from_str(line).map_err(PostgresError::Answer)).collect()
}

/// A name that is quoted always.
pub(super) fn quoted(name: &Name) -> String {
    format!("{}.{}", quoted_name(&name.schema), quoted_name(&name.name))
}
