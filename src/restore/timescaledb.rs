//! TimescaleDB: its documentation demands that a restore runs between these two functions. They stop the background workers of the
//! database and let rows into its catalogs.
//!
//! [`super::filter`] sends the statements: the first after the dump has created the extension, the second after the dump.

use super::statement::Head;
use super::subject::{Object, Subject};

/// Runs `timescaledb_pre_restore()`.
pub(super) const BEFORE: &str = concat!(
    "DO $restore$ BEGIN EXECUTE (SELECT pg_catalog.format('SELECT %I.timescaledb_pre_restore()', n.nspname) ",
    "FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ",
    "WHERE e.extname = 'timescaledb'); END $restore$;\n"
);
/// Runs `timescaledb_post_restore()`.
pub(super) const AFTER: &str = concat!(
    "DO $restore$ BEGIN EXECUTE (SELECT pg_catalog.format('SELECT %I.timescaledb_post_restore()', n.nspname) ",
    "FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ",
    "WHERE e.extname = 'timescaledb'); END $restore$;\n"
);

/// Whether a statement creates the extension. It may exist in the target, in another schema.
pub(super) fn is_created_by(statement: &[u8], head: &Head) -> bool {
    head.begins(&["CREATE", "EXTENSION"])
        && matches!(Subject::of(statement).makes, Some(Object::Extension(name)) if name == "timescaledb")
}
