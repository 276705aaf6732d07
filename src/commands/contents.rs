//! `list NAME --contents`: the entries of one backup's dump, from its index.

use bytesize::ByteSize;
use serde::Serialize;

use crate::archive::manifest::Manifest;
use crate::archive::{Stored, index};
use crate::error::Error;
use crate::index::{Entry, Index};
use crate::printable::printable;
use crate::restore::RestoreError;

use super::Context;

const HEADING: [&str; 6] = ["TYPE", "SCHEMA", "NAME", "OWNER", "ROWS", "DATA"];
/// Rows and bytes.
const ALIGNED_RIGHT: [usize; 2] = [4, 5];

/// An entry, as `--json` prints it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    schema: Option<&'a str>,
    name: &'a str,
    owner: Option<&'a str>,
    /// Rows of its COPY data.
    rows: Option<u64>,
    /// Bytes of them in the plain dump.
    data_bytes: Option<u64>,
    /// Whether the names can be read in two ways.
    ambiguous: bool,
}

impl<'a> Shown<'a> {
    fn of(entry: &'a Entry) -> Self {
        let Entry { kind, schema, name, owner, copy, ambiguous, .. } = entry;
        Self {
            kind,
            schema: Some(schema.as_str()).filter(|schema| *schema != "-"),
            name,
            owner: Some(owner.as_str()).filter(|owner| !owner.is_empty()),
            rows: copy.as_ref().map(|copy| copy.rows),
            data_bytes: copy.as_ref().map(|copy| copy.data_bytes),
            ambiguous: *ambiguous,
        }
    }

    fn row(&self) -> [String; 6] {
        let text = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), |text| printable(text).into_owned());
        let bytes = self.data_bytes.map(|bytes| ByteSize(bytes).display().iec().to_string());
        [
            text(Some(self.kind)),
            text(self.schema),
            text(Some(self.name)),
            text(self.owner),
            text(self.rows.map(|rows| rows.to_string()).as_deref()),
            text(bytes.as_deref()),
        ]
    }
}

/// Prints the entries of a backup.
///
/// # Errors
/// If it has no index that can be used, or S3 refuses it.
pub async fn print(
    context: &Context<'_>,
    from: Stored<'_>,
    (file_name, manifest): (&str, Option<&Manifest>),
    is_json: bool,
) -> Result<(), Error> {
    let index = match manifest {
        Some(manifest) => index::read(from, (file_name, manifest)).await?,
        None => None,
    };
    let Some(index) = index else { return Err(RestoreError::NoContents { file_name: file_name.to_owned() }.into()) };
    let entries: Vec<Shown<'_>> = index.entries.iter().map(Shown::of).collect();
    if is_json { context.print_json(&entries) } else { context.print(&table(&index)) }
}

/// One line for each entry, in columns.
fn table(index: &Index) -> String {
    let rows =
        || std::iter::once(HEADING.map(str::to_owned)).chain(index.entries.iter().map(|entry| Shown::of(entry).row()));
    let mut widths = [0; HEADING.len()];
    for row in rows() {
        for (width, cell) in widths.iter_mut().zip(&row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: [String; 6]| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if ALIGNED_RIGHT.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join(" ").trim_end().to_owned()
    };
    rows().map(line).collect::<Vec<_>>().join("\n")
}
