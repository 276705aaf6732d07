//! Sends what was chosen of a backup to psql, and verifies it.

use std::fs::File;
use std::io::BufWriter;

use crate::postgres::{Applied, RestoreSession, Session};
use crate::restore::filter::{Filter, FilterError};
use crate::restore::left_out::LeftOut;
use crate::restore::rules::Rules;
use crate::restore::selective::{Assembler, Restored, Selective, Surroundings, sections};
use crate::restore::{RestoreError, off_the_runtime};

use super::{BUFFER_BYTES, Filling};

type Sink = Filter<BufWriter<File>>;

impl Filling<'_> {
    /// Sends what was chosen, and waits until the server has executed all of it.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_selected(
        &self,
        session: &mut RestoreSession,
        control: &mut Session,
        rules: Rules,
        (selective, around): (&Selective, &Surroundings),
    ) -> Result<(Restored, LeftOut), RestoreError> {
        let sink = Filter::new(BufWriter::with_capacity(BUFFER_BYTES, session.input()?), rules);
        let (restored, sink) = self.send(session, (selective, around), sink).await?;
        // What is after the last section is sent when all sections are verified.
        let (finished, left_out) = off_the_runtime(move || {
            let mut sink = sink;
            let assembled = sink.finish();
            let mut filter = sink.into_inner();
            let assembled = assembled.map_err(|error| filter.take_failure().unwrap_or(FilterError::Write(error)));
            (assembled.and_then(|()| filter.finish()), filter.left_out().clone())
        })
        .await;
        if let Err(failure) = finished {
            return Err(self.cause_of(session, failure, &left_out).await);
        }
        let settled = session.settle(control).await;
        let applied = settled.map_err(|error| self.statement(error.to_string(), &left_out))?;
        self.compare_selected(&applied, &restored, selective)?;
        Ok((restored, left_out))
    }

    async fn send(
        &self,
        session: &mut RestoreSession,
        (selective, around): (&Selective, &Surroundings),
        sink: Sink,
    ) -> Result<(Restored, Assembler<Sink>), RestoreError> {
        let pieces = selective.pieces(around);
        let sections = sections(&pieces);
        match selective.read_into(self.request, pieces, sink).await {
            Ok(read) => Ok(read),
            Err(error) => {
                let (error, sink) = self.request.sink_error(error)?;
                let mut filter = sink.into_inner();
                let failure = filter.take_failure().unwrap_or(FilterError::Write(error));
                let failed = self.cause_of(session, failure, filter.left_out()).await;
                Err(selective.explained(self.request, failed, &sections).await)
            }
        }
    }

    /// Compares the server's row counts with the index.
    fn compare_selected(
        &self,
        applied: &Applied,
        restored: &Restored,
        selective: &Selective,
    ) -> Result<(), RestoreError> {
        let sent = selective.copies();
        let wrong = sent.iter().zip(&applied.copied).find(|((_, rows), taken)| rows != *taken);
        if let Some(((table, rows), taken)) = wrong {
            return Err(self.other_rows(table, *rows, *taken));
        }
        let (rows, taken) = (restored.rows, applied.copied.iter().sum());
        let is_complete = rows == taken && sent.len() == applied.copied.len();
        if is_complete { Ok(()) } else { Err(self.other_rows("all tables", rows, taken)) }
    }
}
