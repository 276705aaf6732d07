//! Preconditions of a restore into a database: all are checked before anything is sent.
//!
//! Called by [`super::database`]. Without a manifest most cannot be checked. The restore then fails on its first statement that the
//! target refuses, and leaves the target as it was.

use crate::archive::manifest::Manifest;
use crate::postgres::target::{Contained, Target};

use super::{LeaveOut, RestoreOptions};

/// The most names (of roles, tablespaces, extensions) that a message lists.
const NAMED: usize = 5;
/// Locks for each process in addition: functions, types and schemas need some, too.
const SPARE_LOCKS: u64 = 16;

/// Returns the reasons why a restore into the target would fail. Each ends with what to do.
pub(super) fn problems(
    target: &Target,
    contained: Option<&Contained>,
    manifest: Option<&Manifest>,
    options: &RestoreOptions,
) -> Vec<String> {
    let mut problems = Vec::new();
    if target.in_recovery {
        problems.push("the target is a standby and read-only: restore into its primary".to_owned());
    }
    problems.extend(contained.and_then(|contained| not_empty(target, contained)));
    let Some(manifest) = manifest else { return problems };
    if contained.is_some() {
        problems.extend(encoding(target, manifest));
        problems.extend(locks(target, manifest, &options.leave_out));
    }
    let LeaveOut { owner, privileges, tablespaces, .. } = &options.leave_out;
    let needs_roles = !(*owner && *privileges);
    let makes_roles = options.create_roles || options.globals;
    if needs_roles && !makes_roles {
        let missing = missing(&manifest.roles, |role| target.roles.contains(role));
        problems.extend(missing.map(|names| {
            format!("the target lacks the roles {names}: create them, or use --create-roles, --globals, or --no-owner with --no-privileges")
        }));
    }
    if !tablespaces {
        let missing = missing(&manifest.tablespaces, |name| target.tablespaces.contains(name));
        problems
            .extend(missing.map(|names| {
                format!("the target lacks the tablespaces {names}: create them, or use --no-tablespaces")
            }));
    }
    let extensions = manifest.extensions.iter().filter(|extension| !options.leave_out.has_schema(&extension.schema));
    let extensions: Vec<String> = extensions.map(|extension| extension.name.clone()).collect();
    let missing = missing(&extensions, |name| target.extensions.contains(name));
    problems
        .extend(missing.map(|names| format!("the target's server lacks the extensions {names}: install them there")));
    problems
}

fn not_empty(target: &Target, contained: &Contained) -> Option<String> {
    let Contained { count, first } = contained;
    if *count == 0 {
        return None;
    }
    let more = if *count > first.len() as u64 { ", …" } else { "" };
    let objects = if *count == 1 { "object" } else { "objects" };
    Some(format!(
        "the database {:?} is not empty ({count} {objects}: {}{more}): restore into an empty one, or create one with --create-db",
        target.database,
        first.join(", ")
    ))
}

/// The server converts every encoding to UTF8, except `SQL_ASCII`: its bytes have no known encoding.
fn encoding(target: &Target, manifest: &Manifest) -> Option<String> {
    let (has, wants) = (target.encoding.as_str(), manifest.encoding.as_str());
    let fits = has == wants || has == "UTF8" && wants != "SQL_ASCII";
    (!fits).then(|| {
        format!("the database has the encoding {has}, but the dump needs {wants}: restore into a database with the encoding {wants}, or use --create-db, which creates one")
    })
}

/// One transaction locks every relation that it creates, and every large object that gets an owner.
fn locks(target: &Target, manifest: &Manifest, leave_out: &LeaveOut) -> Option<String> {
    let is_reduced = leave_out.is_reduced();
    let tables = manifest.tables.iter().filter(|table| !leave_out.has_table(&table.table)).count() as u64;
    // It is not known how many relations belong to the tables that are left out. An earlier version counted only tables with rows.
    let relations = manifest.relations.filter(|_| !is_reduced).unwrap_or(tables);
    let large_objects = manifest.large_objects.filter(|_| !leave_out.owner).unwrap_or_default();
    let wanted = relations + large_objects;
    let (has, slots) = (target.locks(), target.lock_slots.max(1));
    (wanted > has).then(|| {
        format!(
            "one transaction that creates {relations} relations and {large_objects} large objects needs more locks than the {has} of this \
             server: set max_locks_per_transaction to {} and restart it, or use --create-db, which needs no such locks",
            wanted.div_ceil(slots) + SPARE_LOCKS
        )
    })
}

/// Lists the first of the names that are missing; `None` if none is.
fn missing(names: &[String], is_there: impl Fn(&String) -> bool) -> Option<String> {
    let missing: Vec<String> = names.iter().filter(|name| !is_there(name)).map(|name| format!("{name:?}")).collect();
    let more = if missing.len() > NAMED { ", …" } else { "" };
    (!missing.is_empty()).then(|| missing[..missing.len().min(NAMED)].join(", ") + more)
}
