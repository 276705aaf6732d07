//! The scanner's report: rows, and the flaw that makes a dump incomplete.
//!
//! Created by [`super::Scanner::finish`]. `verified_dump` decides on it, the manifest records the rows.

use std::fmt;

use super::Created;

/// A table and its number of rows in the dump.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TableRows {
    /// Schema and table as the dump writes them, quoted if they must be.
    pub table: String,
    /// Number of rows.
    pub rows: u64,
}

/// What the scanner knows at the end of a dump.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ScanReport {
    /// Length of the plain dump in bytes.
    pub bytes: u64,
    /// Rows of COPY data in all.
    pub rows: u64,
    /// Rows of each table, in the dump's order; the first 20,000 tables.
    pub tables: Vec<TableRows>,
    /// What a restore creates; `None` in a journal of an earlier version.
    #[serde(default)]
    pub created: Option<Created>,
    /// Why the dump is not complete; `None` for a complete one. A journal holds complete ones alone.
    #[serde(skip)]
    pub flaw: Option<Flaw>,
}

/// Why a dump is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The dump has no byte.
    Empty,
    /// The opening line never came.
    NotADump,
    /// It ends before its closing line.
    NoClosingLine,
    /// It ends within a table's rows.
    InTheMiddleOfData {
        /// The table.
        table: String,
        /// Rows that came.
        rows: u64,
    },
    /// The closing line came, but not everything after it.
    TailCut {
        /// Number of bytes that are missing.
        missing: usize,
    },
    /// Something comes after the dump's end.
    SomethingFollows,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::NotADump => f.write_str("it does not begin as a plain dump of pg_dump does"),
            Self::NoClosingLine => f.write_str("it ends before its closing line"),
            Self::InTheMiddleOfData { table, rows } => {
                write!(f, "it ends in the middle of the data of {table}, after {rows} rows")
            }
            Self::TailCut { missing } => write!(f, "its last {missing} bytes are missing"),
            Self::SomethingFollows => f.write_str("something follows its end, as with two dumps in one"),
        }
    }
}
