//! Divides what follows the data into stages, in the dump's order: runs of indexes and constraints, or of foreign keys, by several
//! sessions, and all else by one.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::Catalog;
use super::class::{Class, NewIndex};
use crate::restore::subject::Name;

/// Tables with fewer bytes of rows share a job: its round trips take longer than its indexes.
const SMALL: u64 = 1 << 20;
/// The most tables, or foreign keys, of a job.
const MOST_TABLES: usize = 50;

/// Entries that one session runs in order. Numbers are those of the entries after the data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::restore) struct Statements {
    pub entries: Vec<usize>,
    pub locks: Vec<Lock>,
    /// What it needs, if it may begin before all data are loaded.
    pub needs: Option<Needs>,
    /// Bytes of rows of its tables; 0 where one session runs it alone.
    pub bytes: u64,
}

/// What must be done before statements run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::restore) struct Needs {
    /// The tables of which the data must be loaded.
    pub tables: BTreeSet<Name>,
    /// The entries that must have run.
    pub entries: Vec<usize>,
}

/// A table or a family of tables that a job locks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::restore) struct Lock {
    /// The root of the family.
    pub family: Name,
    /// The table; `None` for all of the family.
    pub table: Option<Name>,
    pub is_shared: bool,
}

impl Lock {
    /// Whether two jobs with these locks would wait for each other.
    pub fn excludes(&self, other: &Self) -> bool {
        let is_same = self.table.is_none() || other.table.is_none() || self.table == other.table;
        self.family == other.family && is_same && !(self.is_shared && other.is_shared)
    }
}

/// A run of entries.
#[derive(Debug)]
enum Run {
    Indexes(Vec<(usize, NewIndex)>),
    ForeignKeys(Vec<(usize, Name, Name)>),
    /// By one session.
    InOrder(Vec<usize>),
}

/// The stages of these entries. Each begins when the one before it is complete.
pub(in crate::restore) fn stages(
    classes: &[Class],
    catalog: &Catalog,
    sizes: &BTreeMap<Name, u64>,
) -> Vec<Vec<Statements>> {
    let runs = runs(classes);
    // Only what does not follow another statement may begin early: indexes, and foreign keys that follow nothing but these.
    let (early, indexes) = match runs.as_slice() {
        [Run::Indexes(indexes), Run::ForeignKeys(_), ..] => (2, by_tables(indexes)),
        _ => (1, BTreeMap::new()),
    };
    let stages = runs.into_iter().map(|run| match run {
        Run::Indexes(indexes) => of_indexes(indexes, catalog, sizes),
        Run::ForeignKeys(keys) => of_foreign_keys(keys, (catalog, sizes), &indexes),
        Run::InOrder(entries) => vec![Statements { entries, ..Statements::default() }],
    });
    let mut stages: Vec<_> = stages.collect();
    for job in stages.iter_mut().skip(early).flatten() {
        job.needs = None;
    }
    stages
}

/// The entries of the indexes of each table.
fn by_tables(indexes: &[(usize, NewIndex)]) -> BTreeMap<Name, Vec<usize>> {
    let mut entries = BTreeMap::<_, Vec<_>>::new();
    for (number, index) in indexes {
        entries.entry(index.table.clone()).or_default().push(*number);
    }
    entries
}

fn runs(classes: &[Class]) -> Vec<Run> {
    let (mut runs, mut held) = (Vec::new(), Vec::new());
    for (number, class) in classes.iter().enumerate() {
        match (class, runs.last_mut()) {
            (Class::Nothing, _) => {}
            (Class::Held, _) => held.push(number),
            (Class::Index(index), Some(Run::Indexes(run))) => run.push((number, index.clone())),
            (Class::Index(index), _) => runs.push(Run::Indexes(vec![(number, index.clone())])),
            (Class::ForeignKey(table, other), Some(Run::ForeignKeys(run))) => {
                run.push((number, table.clone(), other.clone()));
            }
            (Class::ForeignKey(table, other), _) => {
                runs.push(Run::ForeignKeys(vec![(number, table.clone(), other.clone())]));
            }
            (Class::EventTrigger | Class::Other, last) => {
                // An event trigger must not run at comments that came before it.
                let before = if *class == Class::EventTrigger { std::mem::take(&mut held) } else { Vec::new() };
                let entries = before.into_iter().chain([number]);
                match last {
                    Some(Run::InOrder(run)) => run.extend(entries),
                    _ => runs.push(Run::InOrder(entries.collect())),
                }
            }
        }
    }
    if !held.is_empty() {
        runs.push(Run::InOrder(held));
    }
    runs
}

fn of_indexes(indexes: Vec<(usize, NewIndex)>, catalog: &Catalog, sizes: &BTreeMap<Name, u64>) -> Vec<Statements> {
    let size = |table: &Name| sizes.get(table).copied().unwrap_or_default();
    let (mut jobs, mut small) = (Vec::new(), BTreeMap::<Name, Vec<(usize, NewIndex)>>::new());
    for (number, index) in indexes {
        if size(&index.table) < SMALL {
            small.entry(index.table.clone()).or_default().push((number, index));
        } else {
            jobs.push(of_tables(&[(index.table.clone(), vec![(number, index)])], catalog, size));
        }
    }
    let small = small.into_iter().collect::<Vec<_>>();
    let (early, late): (Vec<_>, Vec<_>) = small.into_iter().partition(|(_, indexes)| may_be_early(indexes, catalog));
    for batch in early.chunks(MOST_TABLES).chain(late.chunks(MOST_TABLES)) {
        jobs.push(of_tables(batch, catalog, size));
    }
    largest_first(jobs)
}

/// One job with the indexes of some tables.
fn of_tables(tables: &[(Name, Vec<(usize, NewIndex)>)], catalog: &Catalog, size: impl Fn(&Name) -> u64) -> Statements {
    let mut entries: Vec<_> =
        tables.iter().flat_map(|(_, indexes)| indexes.iter().map(|(number, _)| *number)).collect();
    entries.sort_unstable();
    let locks = tables.iter().map(|(table, indexes)| {
        let is_shared = indexes.iter().all(|(_, index)| index.is_shared);
        // A constraint of a parent may lock its partitions.
        let is_of_family = !is_shared && catalog.is_parent(table);
        Lock { family: catalog.root(table).clone(), table: (!is_of_family).then(|| table.clone()), is_shared }
    });
    let is_early = tables.iter().all(|(_, indexes)| may_be_early(indexes, catalog));
    let needs = is_early
        .then(|| Needs { tables: tables.iter().map(|(table, _)| table.clone()).collect(), entries: Vec::new() });
    Statements { entries, locks: locks.collect(), needs, bytes: tables.iter().map(|(table, _)| size(table)).sum() }
}

/// Whether indexes of a table may be created while other tables are loaded: they depend on nothing but its rows, and lock nothing
/// that a COPY into another table needs.
fn may_be_early(indexes: &[(usize, NewIndex)], catalog: &Catalog) -> bool {
    indexes
        .iter()
        .all(|(_, index)| !index.names_others && !catalog.is_parent(&index.table) && !catalog.is_barrier(&index.table))
}

fn of_foreign_keys(
    keys: Vec<(usize, Name, Name)>,
    (catalog, sizes): (&Catalog, &BTreeMap<Name, u64>),
    indexes: &BTreeMap<Name, Vec<usize>>,
) -> Vec<Statements> {
    let mut by_families = BTreeMap::<BTreeSet<Name>, Vec<(usize, u64)>>::new();
    for (number, table, other) in keys {
        let families = [&table, &other].map(|table| catalog.root(table).clone());
        let size = sizes.get(&table).copied().unwrap_or_default();
        by_families.entry(families.into()).or_default().push((number, size));
    }
    let mut jobs = Vec::new();
    for (families, keys) in by_families {
        for batch in keys.chunks(MOST_TABLES) {
            let lock = |family: &Name| Lock { family: family.clone(), table: None, is_shared: false };
            let (entries, locks) = (batch.iter().map(|(number, _)| *number), families.iter().map(lock));
            let is_early = may_be_checked_early(&families, catalog);
            let needs = is_early.then(|| Needs {
                entries: families.iter().filter_map(|table| indexes.get(table)).flatten().copied().collect(),
                tables: families.clone(),
            });
            let bytes = batch.iter().map(|(_, size)| size).sum();
            jobs.push(Statements { entries: entries.collect(), locks: locks.collect(), needs, bytes });
        }
    }
    largest_first(jobs)
}

/// Whether foreign keys between these tables may be added while other tables are loaded, once their own indexes are there: checking them
/// reads these tables alone. Functions in the checks of a barrier may take locks in any order. `pg_restore -j` begins them so, too.
fn may_be_checked_early(families: &BTreeSet<Name>, catalog: &Catalog) -> bool {
    !catalog.has_barriers() && families.iter().all(|table| !catalog.is_of_family(table))
}

fn largest_first(mut jobs: Vec<Statements>) -> Vec<Statements> {
    jobs.sort_by_key(|job| std::cmp::Reverse(job.bytes));
    jobs
}
