//! Reads what comes before and after the data of a dump, through the filter: it is kept in memory, bounded by [`MOST_BYTES`].

use std::collections::VecDeque;
use std::io::{self, Write};
use std::ops::Range;

use crate::archive::{Ranges, Span, VerifiedRanges};
use crate::index::Index;
use crate::postgres::Transactions;
use crate::restore::filter::{Filter, FilterError, FilterState};
use crate::restore::left_out::LeftOut;
use crate::restore::plan::{Catalog, Class, Setting, class, each_statement, setting, statements};
use crate::restore::rules::Rules;
use crate::restore::{Request, RestoreError};

use super::{OneSession, refused};

/// The most bytes of the dump before and after its data. Dumps with more are restored by one session.
const MOST_BYTES: u64 = 64 << 20;

/// The statements before and after the data, without those that are left out.
#[derive(Debug)]
pub(super) struct Texts {
    /// The settings that each session begins with.
    pub preamble: Vec<u8>,
    /// The statements before the data.
    pub before: Vec<u8>,
    /// The entries after the data.
    pub after: Vec<After>,
    /// The filter's state before the data.
    pub state: FilterState,
    pub left_out: LeftOut,
    pub read: VerifiedRanges,
}

/// An entry after the data.
#[derive(Debug)]
pub(super) struct After {
    pub text: Vec<u8>,
    pub class: Class,
    /// The statements that set what is in force when it begins.
    pub settings: String,
}

/// Why the texts were not read.
pub(super) enum TextError {
    OneSession(OneSession),
    Failed(RestoreError),
}

impl From<RestoreError> for TextError {
    fn from(error: RestoreError) -> Self {
        Self::Failed(error)
    }
}

impl Texts {
    /// Reads them. `data` are the entries of the data section.
    pub async fn read(
        request: &Request<'_>,
        ranges: &Ranges,
        data: Range<usize>,
        rules: &Rules,
    ) -> Result<(Self, Catalog), TextError> {
        let index = ranges.index();
        let (units, sections) = units(index, &data);
        if sections.iter().map(|section| section.end - section.start).sum::<u64>() > MOST_BYTES {
            return Err(TextError::OneSession(OneSession::LargeText));
        }
        let rules = Rules { transactions: Transactions::Each, ..rules.clone() };
        // After the preamble and the entries before the data.
        let sink = Sink {
            filter: Filter::new(Vec::new(), rules),
            units,
            data_after: data.start + 1,
            texts: Vec::new(),
            state: None,
            at: 0,
            is_torn: false,
        };
        let (read, sink) = match ranges.read(&sections, sink.begun()).await {
            Ok(read) => read,
            Err(error) => {
                let (error, mut sink) = request.sink_error(error)?;
                let failure = sink.filter.take_failure().unwrap_or(FilterError::Write(error));
                return Err(request.explained(refused(request, failure), (ranges, &sections)).await.into());
            }
        };
        sink.finish(read).map_err(TextError::OneSession)
    }
}

/// The preamble, the entries before and after the data, and the trailer; and the sections of the dump that they are in.
fn units(index: &Index, data: &Range<usize>) -> (VecDeque<Span>, Vec<Span>) {
    let entries: Vec<Span> = index.entries().map(|(entry, end)| entry.at..end).collect();
    let (before, after) = (&entries[..data.start], &entries[data.end..]);
    let trailer = index.trailer_at..index.plain_bytes;
    let units = std::iter::once(0..index.preamble_bytes).chain(before.iter().cloned());
    let units = units.chain(after.iter().cloned()).chain([trailer.clone()]);
    let data_at = entries.get(data.start).map_or(trailer.start, |first| first.start);
    let after_at = after.first().map_or(trailer.start, |first| first.start);
    (units.collect(), vec![0..data_at, after_at..index.plain_bytes])
}

/// Receives the sections, and filters one unit after the other.
struct Sink {
    filter: Filter<Vec<u8>>,
    units: VecDeque<Span>,
    /// The data follow so many units.
    data_after: usize,
    texts: Vec<Vec<u8>>,
    state: Option<FilterState>,
    /// Bytes of the first unit that came.
    at: u64,
    /// Whether a unit has ended in the middle of a statement: the index is not that of the dump.
    is_torn: bool,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(unit) = self.units.front() else { return Err(io::Error::other("more than all entries")) };
        let missing = usize::try_from(unit.end - unit.start - self.at).unwrap_or(usize::MAX);
        let own = &bytes[..bytes.len().min(missing)];
        self.filter.write_all(own)?;
        self.at += own.len() as u64;
        if own.len() == missing {
            self.end_unit();
        }
        Ok(own.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn begun(mut self) -> Self {
        if self.units.front().is_some_and(Range::is_empty) {
            self.end_unit();
        }
        self
    }

    fn end_unit(&mut self) {
        self.units.pop_front();
        self.at = 0;
        self.is_torn |= !self.filter.is_between_statements();
        if self.texts.len() + 1 == self.data_after {
            self.state = Some(self.filter.state());
        }
        self.texts.push(std::mem::take(self.filter.output()));
        // An empty unit gets no bytes.
        if self.units.front().is_some_and(Range::is_empty) {
            self.end_unit();
        }
    }

    fn finish(self, read: VerifiedRanges) -> Result<(Texts, Catalog), OneSession> {
        let Self { filter, mut texts, state, data_after, is_torn, .. } = self;
        let state = state.ok_or(OneSession::Unexpected)?;
        if filter.has_timescaledb() {
            return Err(OneSession::TimescaleDb);
        }
        if !state.is_conforming() {
            return Err(OneSession::NonConforming);
        }
        // Rows of an entry without rows would not be counted.
        if is_torn || filter.copies() > 0 {
            return Err(OneSession::Unexpected);
        }
        let after = texts.split_off(data_after.min(texts.len()));
        let (preamble, before) = (texts.remove(0), texts.concat());
        drop(texts);
        let (mut catalog, mut in_force) = (Catalog::default(), InForce::default());
        let mut is_unexpected = false;
        // Each session runs it.
        each_statement(&preamble, |statement| is_unexpected |= !is_of_preamble(statement));
        each_statement(&before, |statement| {
            catalog.add(statement);
            is_unexpected |= !in_force.follow(statement);
        });
        let after: Vec<_> = after
            .into_iter()
            .map(|text| {
                let (own, settings) = (statements(&text), in_force.statements());
                for statement in &own {
                    is_unexpected |= !in_force.follow(statement);
                }
                After { class: class(&own), text, settings }
            })
            .collect();
        if is_unexpected {
            return Err(OneSession::Setting);
        }
        let left_out = filter.into_left_out();
        Ok((Texts { preamble, before, after, state, left_out, read }, catalog.complete()))
    }
}

/// Whether a statement is one that `pg_dump` writes before the first entry.
fn is_of_preamble(statement: &[u8]) -> bool {
    statement.starts_with(b"SET ") || statement.starts_with(b"SELECT pg_catalog.set_config(")
}

/// The settings in force, as the statements that set them.
#[derive(Debug, Default)]
struct InForce {
    tablespace: Option<String>,
    access_method: Option<String>,
}

impl InForce {
    /// Follows a statement. Returns `false` if it changes a setting that this program does not follow.
    fn follow(&mut self, statement: &[u8]) -> bool {
        let text = || str::from_utf8(statement).ok().map(str::to_owned);
        match setting(statement) {
            None => true,
            Some(Setting::Tablespace) => {
                self.tablespace = text();
                self.tablespace.is_some()
            }
            Some(Setting::AccessMethod) => {
                self.access_method = text();
                self.access_method.is_some()
            }
            Some(Setting::Unexpected) => false,
        }
    }

    fn statements(&self) -> String {
        let tablespace = self.tablespace.as_deref().unwrap_or("RESET default_tablespace;");
        let access_method = self.access_method.as_deref().unwrap_or("RESET default_table_access_method;");
        format!("{tablespace}\n{access_method}\n")
    }
}
