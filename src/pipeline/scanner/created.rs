//! Counts what the restore of a dump creates: each of these objects needs a lock until its transaction ends.
//!
//! Relations are counted by the comments of `pg_dump`, large objects by their statements: an entry may have many of them.

use serde::{Deserialize, Serialize};

const LARGE_OBJECT: &[u8] = b"SELECT pg_catalog.lo_create(";

/// How many objects a restore creates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// Tables and materialized views. Each may have a TOAST table with an index, which the dump does not show.
    pub tables: u64,
    /// These, foreign tables, indexes, sequences and views.
    pub relations: u64,
    /// Large objects.
    pub large_objects: u64,
}

impl Created {
    /// Counts an entry by its comment.
    pub(super) fn entry(&mut self, comment: &[u8]) {
        const TYPE: &[u8] = b"; Type: ";
        if !comment.starts_with(b"-- Name: ") {
            return;
        }
        // A name may hold these words, too.
        let Some(at) = memchr::memmem::rfind(comment, TYPE) else { return };
        let kind = &comment[at + TYPE.len()..];
        match kind.split(|byte| *byte == b';').next().unwrap_or_default() {
            b"TABLE" | b"MATERIALIZED VIEW" => {
                self.tables += 1;
                self.relations += 1;
            }
            // A primary key, or another constraint with an index, is a `CONSTRAINT`.
            b"CONSTRAINT" | b"FOREIGN TABLE" | b"INDEX" | b"SEQUENCE" | b"VIEW" => self.relations += 1,
            _ => {}
        }
    }

    /// Counts a statement by its beginning.
    pub(super) fn statement(&mut self, text: &[u8]) {
        self.large_objects += u64::from(text.starts_with(LARGE_OBJECT));
    }
}
