//! Why a dump, or the end of psql, stops the filter.

use std::io;

use memchr::memchr2;

/// How much of an entry's comment, or of a refused statement, a message shows.
const SHOWN: usize = 120;

/// Why a dump is not restored.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A psql command other than `\restrict` and `\unrestrict`.
    #[error("the dump has the psql command {0}, which pg_dump does not write")]
    PsqlCommand(String),
    /// A statement that would end the restore's transaction.
    #[error("the dump has the transaction statement {0}, which pg_dump does not write")]
    Transaction(String),
    /// A COPY in another form than `pg_dump` writes: psql would read the following lines as rows.
    #[error("the dump has the statement {0}, which is no COPY as pg_dump writes it")]
    Copy(String),
    /// An encoding with multi-byte characters that contain the byte of a quote or `\`.
    #[error(
        "the dump is in the encoding {0}, which psql does not parse as this program does: write it to a file with --output, and restore it with psql"
    )]
    Encoding(String),
    /// A string that psql and the server parse differently, so they disagree where the statement ends.
    #[error("the dump has a string that goes on after E'…' on another line, which pg_dump does not write")]
    SplitString,
    /// Rows of a partition that is restored, for a table that is not.
    #[error(
        "rows of a partition that is restored go through the table {0}, which --exclude-table or --exclude-schema leaves out: leave \
         out its partitions, too, or neither"
    )]
    PartitionRows(String),
    /// psql would put a value of its own there.
    #[error("the dump has what psql may read as a variable: {0}")]
    Variable(String),
    /// What psql sends as one statement may be several.
    #[error(
        "psql and the server read the end of this function differently: {0}: write the dump to a file with --output"
    )]
    Body(String),
    /// A definition among the data: the index is not that of the dump.
    #[error("the index of the backup says that {0} is data: restore with --jobs 1, which does not need the index")]
    NoData(String),
    /// A NUL byte: psql ignores the rest of its line.
    #[error("the dump holds a NUL byte, which pg_dump does not write")]
    Nul,
}

/// Why the filter stopped.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The dump is refused.
    #[error("{refusal}{}", .entry.as_ref().map_or_else(String::new, |entry| format!(" (after {entry:?})")))]
    Refused {
        /// Why.
        refusal: Refusal,
        /// The comment of the entry (`-- Name: …`) that contains it.
        entry: Option<String>,
    },
    /// psql has ended.
    #[error("psql has closed its input")]
    Write(#[source] io::Error),
}

/// The first line of a text, shortened for a message.
pub(super) fn shown(text: &[u8]) -> String {
    let line = memchr2(b'\n', b'\r', text).map_or(text, |end| &text[..end]);
    let text = String::from_utf8_lossy(line);
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
