//! Divides the data of a dump into jobs: what several sessions load at once, what one session does in order beside them, and
//! what must be loaded before all that follows.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::catalog::Catalog;
use crate::index::{Entry, Index};
use crate::restore::LeaveOut;
use crate::restore::subject::Name;
use crate::sql::parts;

/// The most entries of a job: a range may hold thousands of small tables.
const MOST_ENTRIES: usize = 100;
const TABLE_DATA: &str = "TABLE DATA";
/// Types of entries in the data section. An entry with rows is in it, too.
const KINDS: [&str; 4] = [TABLE_DATA, "SEQUENCE SET", "BLOBS", "BLOB METADATA"];

/// A section of the dump with one entry, or a part of its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::restore) struct Piece {
    /// Its number in the index.
    pub entry: usize,
    /// Offsets in the plain dump.
    pub span: Range<u64>,
    /// Whether it begins inside the entry's rows.
    pub begins_in_rows: bool,
    /// Whether it ends inside the entry's rows.
    pub ends_in_rows: bool,
}

impl Piece {
    /// Its bytes of the dump.
    pub fn bytes(&self) -> u64 {
        self.span.end - self.span.start
    }
}

/// How what a session loads is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::restore) enum Commit {
    /// With one COMMIT, which is this program's.
    Once,
    /// Each statement by itself, and large objects as the dump says.
    AsWritten,
}

/// Pieces that a session loads one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::restore) struct Load {
    pub pieces: Vec<Piece>,
    pub commit: Commit,
}

/// What may be loaded at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::restore) struct DataStage {
    /// By one session, in order.
    pub in_order: Vec<Load>,
    /// By any sessions.
    pub beside: Vec<Load>,
}

/// How an entry is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Beside,
    InOrder,
    Barrier,
}

/// The entries of the data section, from the first to the last one with data.
pub(in crate::restore) fn data_section(index: &Index) -> Range<usize> {
    let is_data = |entry: &Entry| entry.copy.is_some() || !entry.ambiguous && KINDS.contains(&entry.kind.as_str());
    let first = index.entries.iter().position(is_data);
    let last = index.entries.iter().rposition(is_data);
    first.zip(last).map_or(0..0, |(first, last)| first..last + 1)
}

/// The table of an entry with data, as far as its name can be read.
fn table_of(entry: &Entry) -> Option<Name> {
    match &entry.copy {
        // Bytes that are no UTF-8 are lost.
        Some(copy) if copy.table.contains(char::REPLACEMENT_CHARACTER) => None,
        Some(copy) => parts(&copy.table).map(|(schema, name)| Name { schema, name }),
        None => Some(Name { schema: entry.schema.clone(), name: entry.name.clone() }),
    }
}

/// The stages of the data section. Each begins when the one before it is complete.
pub(in crate::restore) fn stages(
    index: &Index,
    section: Range<usize>,
    (catalog, leave_out): (&Catalog, &LeaveOut),
) -> Vec<DataStage> {
    let points: Vec<u64> = index.points.iter().map(|point| point.plain_at).collect();
    let (mut stages, mut stage) = (Vec::new(), DataStage::default());
    let entries = index.entries().enumerate().skip(section.start).take(section.len());
    for (number, (entry, end)) in entries {
        let complete = Piece { entry: number, span: entry.at..end, begins_in_rows: false, ends_in_rows: false };
        match way(entry, catalog, leave_out) {
            // Whether rows through the root of a partitioned table are left out depends on the comment before them.
            Way::Beside if leave_out.has_patterns() => add_beside(&mut stage.beside, complete, &points),
            Way::Beside => {
                for piece in cut(entry, complete, &points) {
                    add_beside(&mut stage.beside, piece, &points);
                }
            }
            Way::InOrder => add_in_order(&mut stage.in_order, complete, entry.copy.is_some()),
            Way::Barrier => {
                stages.push(std::mem::take(&mut stage));
                let load = Load { pieces: vec![complete], commit: Commit::Once };
                stages.push(DataStage { in_order: vec![load], beside: Vec::new() });
            }
        }
    }
    stages.push(stage);
    for stage in &mut stages {
        stage.beside.sort_by_key(|load| (!holds_tables_up(load), Reverse(bytes_of_tables(load, index))));
    }
    stages.retain(|stage| *stage != DataStage::default());
    stages
}

/// Whether a load has a part of one table and something of another. It begins first: until it has ended, the indexes of both wait.
fn holds_tables_up(load: &Load) -> bool {
    load.pieces.len() > 1 && load.pieces.iter().any(|piece| piece.begins_in_rows || piece.ends_in_rows)
}

/// Bytes of rows of the largest table of a load: what takes longest begins first, and the pieces of a table stay together.
fn bytes_of_tables(load: &Load, index: &Index) -> u64 {
    let copies = load.pieces.iter().filter_map(|piece| index.entries[piece.entry].copy.as_ref());
    copies.map(|copy| copy.data_bytes).max().unwrap_or_default()
}

/// Bytes of rows of each table.
pub(in crate::restore) fn sizes(index: &Index) -> BTreeMap<Name, u64> {
    let mut sizes = BTreeMap::new();
    for entry in &index.entries {
        if let Some((table, copy)) = table_of(entry).zip(entry.copy.as_ref()) {
            *sizes.entry(table).or_default() += copy.data_bytes;
        }
    }
    sizes
}

/// The entries with rows, by the table that they may be of.
#[derive(Debug, Default)]
pub(in crate::restore) struct Rows {
    tables: BTreeMap<Name, Vec<usize>>,
    /// Rows of a parent go through the root of its family, and may be of any table in it.
    families: BTreeMap<Name, Vec<usize>>,
    /// Rows of a table without a name may be of any.
    unnamed: Vec<usize>,
}

impl Rows {
    /// Finds them in the data section.
    pub fn of(index: &Index, section: Range<usize>, catalog: &Catalog) -> Self {
        let mut rows = Self::default();
        let entries = index.entries.iter().enumerate().skip(section.start).take(section.len());
        for (number, entry) in entries.filter(|(_, entry)| has_rows(entry)) {
            let Some(table) = table_of(entry) else {
                rows.unnamed.push(number);
                continue;
            };
            if catalog.is_parent(&table) {
                rows.families.entry(catalog.root(&table).clone()).or_default().push(number);
            }
            rows.tables.entry(table).or_default().push(number);
        }
        rows
    }

    /// The entries with rows of these tables, in order.
    pub fn of_tables(&self, tables: &BTreeSet<Name>, catalog: &Catalog) -> Vec<usize> {
        let own = tables.iter().filter_map(|table| self.tables.get(table));
        let of_families = tables.iter().filter_map(|table| self.families.get(catalog.root(table)));
        let all = own.chain(of_families).chain([&self.unnamed]).flatten().copied();
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Whether an entry has rows of a table.
fn has_rows(entry: &Entry) -> bool {
    entry.copy.is_some() || entry.kind == TABLE_DATA && !entry.ambiguous
}

fn way(entry: &Entry, catalog: &Catalog, leave_out: &LeaveOut) -> Way {
    if !has_rows(entry) {
        return Way::InOrder;
    }
    let Some(table) = table_of(entry) else { return Way::Barrier };
    if catalog.is_barrier(&table) {
        return Way::Barrier;
    }
    if catalog.has_table(&table) || leave_out.has(&table.schema, &table.name) {
        return Way::Beside;
    }
    // The table is an extension's or on another server. Without COPY, the name is only the comment's.
    if entry.copy.is_some() { Way::InOrder } else { Way::Barrier }
}

/// Cuts an entry at the restart points inside its rows.
fn cut(entry: &Entry, complete: Piece, points: &[u64]) -> Vec<Piece> {
    let Some(copy) = entry.copy.as_ref().filter(|copy| copy.statement.is_some() || copy.statement64.is_some()) else {
        return vec![complete];
    };
    let data_end = copy.data_at + copy.data_bytes;
    let first = points.partition_point(|point| *point <= copy.data_at);
    let inside = points[first..].iter().copied().take_while(|point| *point < data_end);
    let (mut pieces, mut rest) = (Vec::new(), complete);
    for point in inside {
        let begins_in_rows = rest.begins_in_rows;
        let (entry, before) = (rest.entry, rest.span.start..point);
        pieces.push(Piece { entry, span: before, begins_in_rows, ends_in_rows: true });
        rest = Piece { span: point..rest.span.end, begins_in_rows: true, ..rest };
    }
    pieces.push(rest);
    pieces
}

/// Adds a piece to the last job if it is in the same range.
fn add_beside(loads: &mut Vec<Load>, piece: Piece, points: &[u64]) {
    let range = |offset: u64| points.partition_point(|point| *point <= offset);
    let is_in_range = |other: &Piece| range(other.span.start) == range(piece.span.end - 1);
    match loads.last_mut() {
        Some(load) if load.pieces.len() < MOST_ENTRIES && load.pieces.first().is_some_and(is_in_range) => {
            load.pieces.push(piece);
        }
        _ => loads.push(Load { pieces: vec![piece], commit: Commit::Once }),
    }
}

fn add_in_order(loads: &mut Vec<Load>, piece: Piece, has_rows: bool) {
    let (commit, most) = if has_rows { (Commit::Once, MOST_ENTRIES) } else { (Commit::AsWritten, usize::MAX) };
    match loads.last_mut() {
        Some(load) if load.commit == commit && load.pieces.len() < most => load.pieces.push(piece),
        _ => loads.push(Load { pieces: vec![piece], commit }),
    }
}
