//! The sink of a restore into a database: passes the plain dump through the filter to psql.
//!
//! Made by [`super::database`]; [`crate::archive::Reader`] writes to it in a thread of its own.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};

use super::filter::{Filter, FilterError};
use super::left_out::LeftOut;
use super::rules::Rules;

/// The buffer size, so that small statements reach psql in one write.
const BUFFER_BYTES: usize = 64 << 10;

/// Passes a dump to psql.
#[derive(Debug)]
pub(super) struct PsqlSink {
    filter: Filter<BufWriter<File>>,
    failure: Option<FilterError>,
}

impl PsqlSink {
    /// Creates a sink that writes to psql's input, with these rules.
    pub fn new(input: File, rules: Rules) -> Self {
        Self { filter: Filter::new(BufWriter::with_capacity(BUFFER_BYTES, input), rules), failure: None }
    }

    /// Why no more was taken.
    pub fn failure(self) -> Option<FilterError> {
        self.failure
    }

    /// Flushes the buffer, and returns what was left out.
    ///
    /// # Errors
    /// If psql has exited.
    pub fn finish(self) -> Result<LeftOut, FilterError> {
        let (left_out, mut out) = self.filter.finish();
        out.flush().map_err(FilterError::Write)?;
        Ok(left_out)
    }
}

impl io::Write for PsqlSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.filter.take(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(failure) => {
                self.failure = Some(failure);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
