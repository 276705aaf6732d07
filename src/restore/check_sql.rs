//! `--check-sql`: the user's own queries to a restored database. Each returns one boolean.
//!
//! `commands::drill` reads the file before the drill; [`super::drill`] runs the queries after the restore.

use std::time::Duration;

use crate::postgres::{Maintenance, PostgresSettings, StatementError, Tools};
use crate::sql::{Lexer, SpanKind};

use super::drill_error::{DrillError, Finding};

/// How long one query may take: it may count a large table.
const WITHIN: Duration = Duration::from_hours(1);
/// psql's text for true and false.
const TRUE: &str = "t";
const FALSE: &str = "f";

/// The statements of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckSql {
    /// Its name, for messages.
    file: String,
    statements: Vec<String>,
}

/// Why a file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckSqlError {
    /// A psql command, or COPY data.
    #[error("holds a psql command or a COPY from stdin: each statement must be a query that returns one boolean")]
    NotAQuery,
    /// The last statement has no end.
    #[error("does not end with `;`: a quote or a comment may be open")]
    Open,
    /// It has no statement.
    #[error("holds no statement")]
    Empty,
}

impl CheckSql {
    /// Reads the statements of a file, each up to its `;`.
    ///
    /// # Errors
    /// See [`CheckSqlError`].
    pub fn parse(file: &str, text: &str) -> Result<Self, CheckSqlError> {
        let (mut statements, mut open, mut is_wrong) = (Vec::new(), Vec::new(), false);
        let mut take = |kind, bytes: &[u8], is_end| match kind {
            SpanKind::Statement => {
                open.extend_from_slice(bytes);
                if is_end {
                    // `Maintenance` adds the `;`. After a second one, psql would report the success of an empty statement.
                    open.pop();
                    statements.push(String::from_utf8_lossy(&std::mem::take(&mut open)).into_owned());
                }
            }
            SpanKind::Space | SpanKind::Comment | SpanKind::EntryHead => {}
            SpanKind::CopyBegin | SpanKind::CopyRows | SpanKind::CopyEnd | SpanKind::PsqlCommand => is_wrong = true,
        };
        let mut lexer = Lexer::default();
        // The line break ends a comment in the last line.
        for block in [text.as_bytes(), b"\n"] {
            lexer.read(block, |piece| take(piece.kind, piece.bytes, piece.text.is_some()));
        }
        match () {
            () if is_wrong => Err(CheckSqlError::NotAQuery),
            () if !open.trim_ascii().is_empty() => Err(CheckSqlError::Open),
            () if statements.is_empty() => Err(CheckSqlError::Empty),
            () => Ok(Self { file: file.to_owned(), statements }),
        }
    }

    /// Runs each in the restored database, and returns their number.
    pub(super) async fn run(&self, tools: &Tools, settings: &PostgresSettings) -> Result<usize, DrillError> {
        if self.statements.is_empty() {
            return Ok(0);
        }
        let mut session = Maintenance::connect(tools, settings).await.map_err(DrillError::not_proven)?;
        let mut outcome = Ok(self.statements.len());
        for (index, statement) in self.statements.iter().enumerate() {
            if let Err(error) = self.run_one(&mut session, statement, index + 1).await {
                outcome = Err(error);
                break;
            }
        }
        session.close().await;
        outcome
    }

    /// A statement that the server refuses has a mistake, or needs what the server lacks. That says nothing about the backup.
    async fn run_one(&self, session: &mut Maintenance, statement: &str, number: usize) -> Result<(), DrillError> {
        let it = format!("statement {number} of {}", self.file);
        let hint = format!("look at {it}");
        let failed = |what| DrillError::failed("check_sql", format!("{it} {what}")).with_hint(hint.clone());
        match session.run_within(WITHIN, statement).await {
            Ok(rows) if rows == [TRUE] => Ok(()),
            Ok(rows) if rows == [FALSE] => Err(failed("is false")),
            Ok(_) => Err(failed("does not return one boolean")),
            Err(StatementError::Refused { message, .. }) => {
                Err(DrillError::NotProven(Finding::new(format!("{it} cannot be run: {message}")).with_hint(hint)))
            }
            Err(StatementError::Lost(error)) => Err(DrillError::not_proven(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_statements_as_psql_does() {
        let text =
            "-- ours\nSELECT count(*) > 0 FROM public.t; SELECT ';' = $$;$$ /* ; */ AND true\n;\n-- the end; of it";
        let CheckSql { statements, .. } = CheckSql::parse("file", text).expect("two");
        assert_eq!(statements.len(), 2, "{statements:?}");
        assert!(
            statements[1].starts_with("SELECT ';' = $$;$$") && !statements[1].contains("true\n;"),
            "{statements:?}"
        );
    }

    #[test]
    fn refuses_other_files() {
        for (text, why) in [
            ("SELECT 1", CheckSqlError::Open),
            ("SELECT 'a;", CheckSqlError::Open),
            ("-- nothing\n", CheckSqlError::Empty),
            ("\\! ls\nSELECT true;", CheckSqlError::NotAQuery),
            ("SELECT true\\g\n;", CheckSqlError::NotAQuery),
            ("COPY t FROM stdin;\n1\n\\.\n", CheckSqlError::NotAQuery),
        ] {
            assert_eq!(CheckSql::parse("file", text), Err(why), "{text}");
        }
    }
}
