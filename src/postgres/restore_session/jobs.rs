//! One of several psqls that restore: it runs one job after the other, each committed before the next begins.

use std::fs::File;
use std::sync::PoisonError;

use tokio::sync::Mutex;
use tokio::time::sleep;

use super::super::backend::{Backend, CHECKED_EVERY};
use super::{Applied, PostgresError, RestoreSession, Session};

/// What the server did for a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobApplied {
    /// Rows of each COPY, in order.
    pub copied: Vec<u64>,
    /// Whether a transaction is open.
    pub is_in_transaction: bool,
}

impl RestoreSession {
    /// The writing end of psql's input.
    ///
    /// # Errors
    /// If this process has no more file descriptors.
    pub fn input(&self) -> Result<File, PostgresError> {
        self.input.try_clone().map_err(|error| PostgresError::SessionLost { reason: error.to_string() })
    }

    /// Begins a transaction.
    pub async fn begin_job(&self) {
        self.send("BEGIN;\n".to_owned()).await;
    }

    /// Waits until everything that was sent has been executed, and returns what the server did since the last time. `control` may be
    /// shared with other sessions.
    ///
    /// # Errors
    /// [`PostgresError::SessionLost`] with psql's words if a statement failed.
    pub async fn settle_job(&mut self, control: &Mutex<Session>) -> Result<JobApplied, PostgresError> {
        let word = &self.word;
        let asked = "pg_catalog.now() OPERATOR(pg_catalog.<) pg_catalog.statement_timestamp()";
        self.send(format!("SELECT pg_catalog.concat('{word} ', {asked});\n")).await;
        let is_in_transaction = self.job_answer(control).await? == "t";
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(JobApplied { copied: std::mem::take(&mut applied.copied), is_in_transaction })
    }

    /// Commits the transaction that [`Self::begin_job`] began.
    ///
    /// # Errors
    /// If the server does not answer that it has committed.
    pub async fn commit_job(&mut self, control: &Mutex<Session>) -> Result<(), PostgresError> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).last_tag.clear();
        self.send(format!("COMMIT;\nSELECT '{} ';\n", self.word)).await;
        self.job_answer(control).await?;
        let Applied { last_tag, .. } = &*self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        match last_tag.as_str() {
            "COMMIT" => Ok(()),
            other => Err(PostgresError::SessionLost { reason: format!("the server answered {other:?} to COMMIT") }),
        }
    }

    async fn job_answer(&mut self, control: &Mutex<Session>) -> Result<String, PostgresError> {
        let backend = self.backend.clone().ok_or_else(Backend::unknown)?;
        let is_left_waiting = async {
            loop {
                sleep(CHECKED_EVERY).await;
                if let Some(error) = backend.left_waiting(&mut *control.lock().await).await {
                    return error;
                }
            }
        };
        tokio::select! {
            answer = self.answer() => answer,
            error = is_left_waiting => Err(error),
        }
    }
}
