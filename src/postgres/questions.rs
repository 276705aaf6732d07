//! Questions that the server may refuse, each for one value of JSON. Many with one statement save time; if the server refuses that,
//! each is asked alone.

use std::collections::HashMap;

use serde_json::Value;

use super::{PostgresError, Session};

/// A session, and the answers that it has given ahead.
pub(super) struct Questions<'a> {
    session: &'a mut Session,
    answers: HashMap<String, Value>,
}

impl<'a> Questions<'a> {
    pub fn new(session: &'a mut Session) -> Self {
        Self { session, answers: HashMap::new() }
    }

    /// Asks questions with one statement, for [`Self::ask`].
    pub async fn ask_ahead(&mut self, questions: Vec<String>) -> Result<(), PostgresError> {
        let values: Vec<String> = questions.iter().map(|question| format!("({question})")).collect();
        let question = format!("SELECT pg_catalog.json_build_array({})", values.join(", "));
        // A refusal comes again.
        let answer = self.session.query_if_allowed_quietly(&question).await?;
        let answers: Option<Vec<Value>> = answer.first().and_then(|line| serde_json::from_str(line).ok());
        self.answers = questions.into_iter().zip(answers.into_iter().flatten()).collect();
        Ok(())
    }

    /// The answer to a question; `None` if the server refuses it, or has no row.
    pub async fn ask(&mut self, question: &str) -> Result<Option<Value>, PostgresError> {
        if let Some(answer) = self.answers.remove(question) {
            return Ok(Some(answer));
        }
        let answer = self.session.query_if_allowed(question).await?;
        Ok(answer.first().and_then(|line| serde_json::from_str(line).ok()))
    }
}
